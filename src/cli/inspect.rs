//! x
use crate::Result;
use clap::Args;
/// x
#[derive(Debug, Args)]
pub struct Options {}
/// x
pub fn run(_: Options) -> Result<()> {
    Ok(())
}

//! Says which of the options that were typed have no effect: a value that nothing reads is a misunderstanding.

use std::collections::BTreeSet;

use clap::{ArgMatches, parser::ValueSource};

/// An option, whether it has no effect beside the others, and why. An option that is not listed always has one.
///
/// `false` for a switch asks for nothing, and gets it: that is no option without effect.
pub type Idle = (&'static str, bool, &'static str);

/// The options that were typed, as opposed to those that have their default.
#[derive(Clone, Debug, Default)]
pub struct Given(BTreeSet<String>);

impl Given {
    /// Those of a subcommand.
    pub fn of(matches: &ArgMatches) -> Self {
        let is_typed = |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
        Self(matches.ids().filter(is_typed).map(|id| id.as_str().replace('_', "-")).collect())
    }

    /// Whether this option was typed; by its name, without the hyphens before it.
    pub fn has(&self, option: &str) -> bool {
        self.0.contains(option)
    }

    /// What to say about those that have no effect, a line each.
    pub fn in_vain(&self, table: &[Idle]) -> Vec<String> {
        let rows = table.iter().filter(|(option, is_idle, _)| *is_idle && self.has(option));
        rows.map(|(option, _, why)| format!("note: --{option} has no effect ({why})")).collect()
    }

    /// Says it.
    pub fn remark(&self, table: &[Idle]) {
        self.in_vain(table).iter().for_each(|line| note!("{line}"));
    }
}

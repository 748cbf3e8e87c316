//! Matrix instructions: fragments, products, descriptors.

/// A warpgroup product that has been issued and not waited for.
#[derive(Debug)]
pub(crate) struct PendingMatrix {}

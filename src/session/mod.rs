//! Floor under construction: see the crate documentation.

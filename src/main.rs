//! The `gyrus` binary.
fn main() {}

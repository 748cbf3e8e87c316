//! Computation as data: values of known shape, the operations that make them, and the passes over that list.
//!
//! A [`Tape`] records operations; [`differentiate`] records their derivatives on the same tape; the result is a
//! [`Graph`], which the planner places in memory and a session executes. Nothing here computes anything.

mod backward;
mod differentiate;
mod node;
mod op;
pub mod reference;
mod split;
mod tape;

pub use backward::Backward;
pub use differentiate::differentiate;
pub use node::{Graph, Node, NodeId, Role, Stage, Value, ValueId};
pub use op::Op;
pub use split::split_optimizer;
pub use tape::Tape;

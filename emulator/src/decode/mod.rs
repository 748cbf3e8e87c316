//! Turns the syntax tree of a kernel into instructions over register slots.
//!
//! Whatever the executor cannot do is found here, before anything runs: an instruction form is decoded completely
//! (opcode, every modifier, types, operands) or refused by name.

mod arithmetic;
mod asynchronous;
mod bits;
mod call;
mod compare;
mod control;
mod convert;
mod float;
mod function;
mod halves;
mod integer;
mod lanes;
mod layout;
mod memory;
mod modifiers;
mod op;
mod operands;
mod print;
mod registers;
mod scope;
mod synchronise;
mod tensor;

pub(crate) use call::{CODE_WINDOW, Functions};
pub(crate) use function::{Refused, decode_kernel};
pub(crate) use layout::{Layout, constant_bytes, parameters};
pub use op::Parameter;
pub(crate) use op::{
    Address, Atomic, Barrier, BarrierMode, Carry, CarryKind, Collective, Extend, Few, Instruction, Join, Kernel, Op,
    Order, Outcome, Pred, Rare, Reg, SetTarget, ShuffleMode, Slot, Special, Transfer, VoteMode,
};

/// Why an instruction cannot be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A form that the emulator lacks.
    Unsupported,
    /// Not valid PTX.
    Malformed(String),
}

pub(crate) type Decoded<T> = Result<T, Refusal>;

pub(crate) fn malformed<T>(message: impl Into<String>) -> Decoded<T> {
    Err(Refusal::Malformed(message.into()))
}

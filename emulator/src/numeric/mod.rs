//! Arithmetic as PTX defines it, scalar and exact: rounding modes, flushing, saturation, small float formats.

pub(crate) mod convert;
pub(crate) mod double;
pub(crate) mod half;
pub(crate) mod pairs;
pub(crate) mod round;
pub(crate) mod single;

pub(crate) use round::{Format, Rounding, narrow};

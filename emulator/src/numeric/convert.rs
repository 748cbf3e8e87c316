//! One value from one number type to another.

use super::half::{Half, HalfMath};
use super::{Format, Rounding, double, narrow, single};
use crate::syntax::Type;

/// A `cvt` of scalar types.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conversion {
    to: Type,
    from: Type,
    rounding: Rounding,
    integral: Option<Rounding>,
    ftz: bool,
    sat: bool,
    relu: bool,
    satfinite: bool,
}

impl Conversion {
    /// `None` if there is no such conversion.
    #[allow(clippy::too_many_arguments)] // The modifiers of one instruction, each its own dot.
    pub(crate) fn new(
        to: Type,
        from: Type,
        rounding: Option<Rounding>,
        integral: Option<Rounding>,
        ftz: bool,
        sat: bool,
        relu: bool,
        satfinite: bool,
    ) -> Option<Conversion> {
        let known = |ty: Type| {
            use Type::*;
            matches!(ty, U8 | S8 | U16 | S16 | U32 | S32 | U64 | S64 | F16 | Bf16 | F32 | F64)
        };
        if !(known(to) || (to == Type::Tf32 && from == Type::F32)) || !known(from) {
            return None;
        }
        if rounding == Some(Rounding::Away) && to != Type::Tf32 {
            return None;
        }
        if relu && !matches!(to, Type::F16 | Type::Bf16 | Type::Tf32) {
            return None;
        }
        let rounding = rounding.unwrap_or(Rounding::Nearest);
        Some(Conversion { to, from, rounding, integral, ftz, sat, relu, satfinite })
    }

    pub(crate) fn apply(self, raw: u64) -> u64 {
        match (self.from.is_float(), self.to.is_float()) {
            (false, false) => self.integer(self.whole(raw)),
            (false, true) => self.rounded_integer(self.whole(raw)),
            (true, false) => self.truncated(self.real(raw)),
            (true, true) => self.float(self.real(raw)),
        }
    }

    fn whole(self, raw: u64) -> i128 {
        let unused = 64 - self.from.bytes() * 8;
        if self.from.is_signed() {
            ((raw << unused) as i64 >> unused) as i128
        } else {
            (raw << unused >> unused) as i128
        }
    }

    fn real(self, raw: u64) -> f64 {
        match self.from {
            Type::F16 => HalfMath { half: Half::F16, ftz: self.ftz, sat: false, relu: false }.input(raw as u32),
            Type::Bf16 => HalfMath { half: Half::Bf16, ftz: self.ftz, sat: false, relu: false }.input(raw as u32),
            Type::F32 => {
                let x = f32::from_bits(raw as u32);
                (if self.ftz { single::flush(x) } else { x }) as f64
            }
            _ => f64::from_bits(raw),
        }
    }

    fn range(self) -> (i128, i128) {
        let bits = self.to.bytes() * 8;
        if self.to.is_signed() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
    }

    /// The low bits of the value; a signed result is extended to 64 bits, to fill whatever register it goes to.
    fn cut(self, value: i128) -> u64 {
        let unused = 64 - self.to.bytes() * 8;
        let bits = value as u64;
        if self.to.is_signed() { ((bits << unused) as i64 >> unused) as u64 } else { bits << unused >> unused }
    }

    fn integer(self, value: i128) -> u64 {
        let (low, high) = self.range();
        self.cut(if self.sat { value.clamp(low, high) } else { value })
    }

    /// Float to integer always saturates; NaN becomes 0.
    fn truncated(self, x: f64) -> u64 {
        let (low, high) = self.range();
        let whole = integral(x, self.integral.unwrap_or(Rounding::Zero));
        let value = if x.is_nan() { 0 } else { (whole as i128).clamp(low, high) };
        self.cut(value)
    }

    fn rounded_integer(self, value: i128) -> u64 {
        if self.to == Type::F64 {
            let near = value as f64;
            let error = value - near as i128;
            let x = match self.rounding {
                Rounding::Zero if error != 0 && (error < 0) == (value > 0) => {
                    if value > 0 {
                        near.next_down()
                    } else {
                        near.next_up()
                    }
                }
                Rounding::Down if error < 0 => near.next_down(),
                Rounding::Up if error > 0 => near.next_up(),
                _ => near,
            };
            return x.to_bits();
        }
        self.float(to_odd(value))
    }

    fn float(self, x: f64) -> u64 {
        let x = match self.integral {
            Some(direction) => integral(x, direction),
            None => x,
        };
        let x = if self.sat {
            if x > 0.0 { x.min(1.0) } else { 0.0 }
        } else if self.relu && x <= 0.0 {
            0.0
        } else {
            x
        };
        match self.to {
            Type::F64 => double::canonical(x).to_bits(),
            Type::F32 => {
                let bits = narrow(x, Format::F32, self.rounding);
                if self.ftz { single::canonical(single::flush(f32::from_bits(bits))) as u64 } else { bits as u64 }
            }
            Type::F16 => narrow(x, Format::F16, self.rounding) as u64,
            Type::Tf32 => {
                let bits = narrow(x, Format::TF32, self.rounding);
                if x.is_nan() { single::NAN as u64 } else { (Format::TF32.clamp(bits, self.satfinite) << 13) as u64 }
            }
            _ => narrow(x, Format::BF16, self.rounding) as u64,
        }
    }
}

fn integral(x: f64, direction: Rounding) -> f64 {
    match direction {
        Rounding::Nearest => x.round_ties_even(),
        Rounding::Away => x.round(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        Rounding::Up => x.ceil(),
    }
}

/// An integer as f64, rounded to odd.
fn to_odd(value: i128) -> f64 {
    let magnitude = value.unsigned_abs();
    let excess = (128 - magnitude.leading_zeros()).saturating_sub(53);
    let lost = magnitude & ((1u128 << excess) - 1) != 0;
    let kept = (magnitude >> excess) | lost as u128;
    let x = kept as f64 * (1u128 << excess) as f64;
    if value < 0 { -x } else { x }
}

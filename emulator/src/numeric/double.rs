//! f64 arithmetic in directed rounding modes: compute to nearest, find the sign of the error, step if needed.

use super::Rounding;

/// NaN results carry this pattern, whatever the operands' payloads.
pub(crate) const NAN: u64 = 0x7ff8_0000_0000_0000;

pub(crate) fn canonical(x: f64) -> f64 {
    if x.is_nan() { f64::from_bits(NAN) } else { x }
}

fn direct(nearest: f64, error: f64, finite: bool, rounding: Rounding) -> f64 {
    if nearest.is_nan() {
        return canonical(nearest);
    }
    if nearest.is_infinite() {
        let clamp = match rounding {
            Rounding::Zero => finite,
            Rounding::Down => finite && nearest > 0.0,
            Rounding::Up => finite && nearest < 0.0,
            _ => false,
        };
        return if clamp { f64::MAX.copysign(nearest) } else { nearest };
    }
    match rounding {
        Rounding::Zero if error != 0.0 && (error < 0.0) == (nearest > 0.0) && nearest != 0.0 => {
            if nearest > 0.0 {
                nearest.next_down()
            } else {
                nearest.next_up()
            }
        }
        Rounding::Down if error < 0.0 => nearest.next_down(),
        Rounding::Up if error > 0.0 => nearest.next_up(),
        _ => nearest,
    }
}

fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let shadow = sum - a;
    (sum, (a - (sum - shadow)) + (b - shadow))
}

pub(crate) fn add(a: f64, b: f64, rounding: Rounding) -> f64 {
    let (sum, error) = two_sum(a, b);
    // An exact zero of operands with opposite signs is -0 when rounding down.
    if sum == 0.0 && rounding == Rounding::Down && a.is_sign_negative() != b.is_sign_negative() {
        return -0.0;
    }
    direct(sum, error, a.is_finite() && b.is_finite(), rounding)
}

pub(crate) fn mul(a: f64, b: f64, rounding: Rounding) -> f64 {
    let product = a * b;
    direct(product, a.mul_add(b, -product), a.is_finite() && b.is_finite(), rounding)
}

pub(crate) fn fma(a: f64, b: f64, c: f64, rounding: Rounding) -> f64 {
    let nearest = a.mul_add(b, c);
    if rounding == Rounding::Nearest || !nearest.is_finite() {
        return direct(nearest, 0.0, a.is_finite() && b.is_finite() && c.is_finite(), rounding);
    }
    let product = a * b;
    let low = a.mul_add(b, -product);
    let (sum, middle) = two_sum(product, c);
    let (high, rest) = two_sum(middle, low);
    direct(nearest, ((sum - nearest) + high) + rest, true, rounding)
}

pub(crate) fn div(a: f64, b: f64, rounding: Rounding) -> f64 {
    let quotient = a / b;
    let remainder = if b.is_infinite() || quotient == 0.0 { 0.0 } else { (-quotient).mul_add(b, a) };
    let error = if b < 0.0 { -remainder } else { remainder };
    direct(quotient, error, a.is_finite() && b != 0.0, rounding)
}

pub(crate) fn sqrt(a: f64, rounding: Rounding) -> f64 {
    let root = a.sqrt();
    direct(root, (-root).mul_add(root, a), a.is_finite(), rounding)
}

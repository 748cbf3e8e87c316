//! Coefficients of the cubic B-spline through a line of values.

use super::pass::LANES;

/// The pole of the recursive filter that inverts the B-spline's samples 1/6, 4/6, 1/6: the root of z^2 + 4 z + 1 within
/// the unit circle, sqrt(3) - 2.
const POLE: f64 = -0.267_949_192_431_122_7;

/// Turns lines of values, one per lane, into coefficients. Beyond both ends the outermost values go on for ever, which
/// both recursions can be started for exactly: their sums over equal values are geometric series.
pub(super) fn prefilter(lines: &mut [[f64; LANES]]) {
    let (Some(&first), Some(&last)) = (lines.first(), lines.last()) else { return };
    // Forward: c[k] = 6 s[k] + z c[k-1].
    let mut before = first.map(|value| 6.0 * value / (1.0 - POLE));
    for line in &mut *lines {
        for (value, before) in line.iter_mut().zip(&mut before) {
            *value = 6.0 * *value + POLE * *before;
            *before = *value;
        }
    }
    // Backward: c[k] = z (c[k+1] - c[k]). Behind the last value, the forward sums tend to their limit by the powers of z.
    let mut behind = [0.0; LANES];
    let end = lines.last().copied().unwrap_or_default();
    for ((behind, end), last) in behind.iter_mut().zip(end).zip(last) {
        let limit = 6.0 * last / (1.0 - POLE);
        // The coefficient behind the last: the sum from the next value on.
        *behind = -POLE * (limit / (1.0 - POLE) + POLE * (end - limit) / (1.0 - POLE * POLE));
    }
    for line in lines.iter_mut().rev() {
        for (value, behind) in line.iter_mut().zip(&mut behind) {
            *value = POLE * (*behind - *value);
            *behind = *value;
        }
    }
}

/// Weights of the coefficients at floor(p) - 1 .. floor(p) + 2, by the part `t` of p behind the decimal point.
pub(super) fn weights(t: f64) -> [f64; 4] {
    let u = 1.0 - t;
    let middle = |t: f64| (t * t * (3.0 * t - 6.0) + 4.0) / 6.0;
    [u * u * u / 6.0, middle(t), middle(u), t * t * t / 6.0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spline_goes_through_the_values_and_is_constant_where_they_are() {
        let values = [3.0, 3.0, -1.0, 8.0, 0.5, 0.5, 2.0, 2.0, 2.0];
        let mut lines = values.map(|value| [value; LANES]).to_vec();
        prefilter(&mut lines);
        let [a, b, c, d] = weights(0.0);
        assert_eq!(d, 0.0);
        for k in 1..values.len() - 1 {
            let at = a * lines[k - 1][0] + b * lines[k][0] + c * lines[k + 1][0];
            assert!((at - values[k]).abs() < 1e-14, "{k}: {at}");
        }
        let mut flat = [[7.0; LANES]; 5];
        prefilter(&mut flat);
        assert!(flat.as_flattened().iter().all(|c| (c - 7.0).abs() < 1e-13), "{flat:?}");
        for t in [0.0, 0.25, 0.5, 0.9] {
            assert!((weights(t).iter().sum::<f64>() - 1.0).abs() < 1e-15);
        }
    }
}

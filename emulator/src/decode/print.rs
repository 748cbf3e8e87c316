//! `printf` and `assert` of kernels.

use super::op::{Outcome, Rare};
use crate::execute::{Context, LOCAL_WINDOW, WINDOW_MASK};
use crate::fault::{Checked, FaultKind, problem};
use crate::memory::{VALID, lanes};

/// `vprintf`: its parameters are local variables.
pub(crate) struct Print {
    pub format: u64,
    pub values: u64,
    pub result: u64,
}

/// `__assertfail`, which does not return.
pub(crate) struct AssertFail {
    pub message: u64,
    pub file: u64,
    pub line: u64,
    pub function: u64,
}

impl Context<'_, '_> {
    /// A value of four or eight bytes in the local memory of a lane.
    fn local_value(&self, lane: usize, offset: u64, bytes: u64) -> Checked<u64> {
        let word = |index: u64| self.warp.local.get(index as usize).map(|row| u64::from(row[lane]));
        let at = offset / 4;
        match (word(at), if bytes == 8 { word(at + 1) } else { Some(0) }) {
            (Some(low), Some(high)) if offset.is_multiple_of(4) => Ok(low | high << 32),
            _ => problem(FaultKind::OutOfBounds, lane, format!("{bytes} bytes at offset {offset} of local memory")),
        }
    }

    fn text(&mut self, lane: usize, address: u64) -> Checked<String> {
        match self.launch.view.text(address) {
            Some(text) => Ok(text),
            None => problem(FaultKind::OutOfBounds, lane, format!("no text at 0x{address:x}")),
        }
    }

    fn text_of(&mut self, lane: usize, offset: u64) -> Checked<String> {
        let address = self.local_value(lane, offset, 8)?;
        self.text(lane, address)
    }
}

impl Rare for Print {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        for lane in lanes(mask) {
            let format = cx.text_of(lane, self.format)?;
            let mut at = cx.local_value(lane, self.values, 8)?;
            if at != 0 && at & WINDOW_MASK != LOCAL_WINDOW {
                return problem(FaultKind::BadOperand, lane, "the values of printf are not in local memory");
            }
            at &= !WINDOW_MASK;
            let mut printed = String::new();
            let mut rest = format.as_str();
            while let Some(start) = rest.find('%') {
                printed += &rest[..start];
                let Some((form, behind)) = Form::parse(&rest[start + 1..]) else {
                    return problem(FaultKind::BadOperand, lane, format!("printf cannot read {:?}", &rest[start..]));
                };
                rest = behind;
                if form.conversion == '%' {
                    printed.push('%');
                    continue;
                }
                let bytes = form.bytes();
                at = at.next_multiple_of(bytes);
                let value = cx.local_value(lane, at, bytes)?;
                at += bytes;
                printed +=
                    &if form.conversion == 's' { form.pad(cx.text(lane, value)?, false) } else { form.show(value) };
            }
            cx.cta.printed += &(printed + rest);
            let result = self.result as usize / 4;
            if let (Some(row), Some(written)) = (cx.warp.local.get_mut(result), cx.warp.local_written.get_mut(result)) {
                (row[lane], written[lane]) = (1, VALID);
            }
        }
        Ok(Outcome::Next)
    }
}

impl Rare for AssertFail {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        let lane = mask.trailing_zeros() as usize;
        let [message, file, function] = [self.message, self.file, self.function].map(|offset| cx.text_of(lane, offset));
        let line = cx.local_value(lane, self.line, 4)?;
        problem(FaultKind::Trap, lane, format!("{}:{line}: {}: assertion `{}` failed", file?, function?, message?))
    }
}

/// A conversion of a format text, behind its `%`.
#[derive(Debug, PartialEq)]
struct Form {
    left: bool,
    zeros: bool,
    sign: Option<char>,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
    long: bool,
    conversion: char,
}

impl Form {
    /// The conversion and what stands behind it.
    fn parse(text: &str) -> Option<(Form, &str)> {
        let mut form = Form {
            left: false,
            zeros: false,
            sign: None,
            alternate: false,
            width: 0,
            precision: None,
            long: false,
            conversion: '%',
        };
        let mut rest = text;
        loop {
            match rest.chars().next()? {
                '-' => form.left = true,
                '0' => form.zeros = true,
                '+' => form.sign = Some('+'),
                ' ' => form.sign = form.sign.or(Some(' ')),
                '#' => form.alternate = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        let number = |rest: &mut &str| {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let value = rest[..digits].parse().unwrap_or(0);
            *rest = &rest[digits..];
            value
        };
        form.width = number(&mut rest);
        if let Some(behind) = rest.strip_prefix('.') {
            rest = behind;
            form.precision = Some(number(&mut rest));
        }
        let bare = rest.trim_start_matches(['l', 'h', 'j', 'z', 't']);
        form.long = rest[..rest.len() - bare.len()].contains(['l', 'j', 'z', 't']);
        form.conversion = bare.chars().next()?;
        let known = "diouxXcsfFeEgGp%".contains(form.conversion);
        known.then(|| (form, &bare[1..]))
    }

    fn bytes(&self) -> u64 {
        match self.conversion {
            'd' | 'i' | 'o' | 'u' | 'x' | 'X' if !self.long => 4,
            'c' => 4,
            _ => 8,
        }
    }

    /// Pads to the width, with zeros behind the sign where they are asked for.
    fn pad(&self, text: String, is_number: bool) -> String {
        let text = match self.precision {
            Some(most) if self.conversion == 's' => text.chars().take(most).collect(),
            _ => text,
        };
        let missing = self.width.saturating_sub(text.chars().count());
        if self.left {
            return text + &" ".repeat(missing);
        }
        if !(self.zeros && is_number) {
            return " ".repeat(missing) + &text;
        }
        let behind = text.len() - text.trim_start_matches(['+', '-', ' ']).len();
        let (sign, digits) = text.split_at(behind);
        format!("{sign}{}{digits}", "0".repeat(missing))
    }

    fn show(&self, value: u64) -> String {
        let integer = |digits: String, negative: bool, signed: bool| {
            let digits = match self.precision {
                Some(least) => "0".repeat(least.saturating_sub(digits.len())) + &digits,
                None => digits,
            };
            let sign = match (negative, signed) {
                (true, _) => "-".to_owned(),
                (false, true) => self.sign.map(String::from).unwrap_or_default(),
                (false, false) => String::new(),
            };
            let form = Form { zeros: self.zeros && self.precision.is_none(), sign: None, ..*self };
            form.pad(sign + &digits, true)
        };
        let prefix = |prefix: &str| if self.alternate && value != 0 { prefix.to_owned() } else { String::new() };
        match self.conversion {
            'd' | 'i' => {
                let number = if self.long { value as i64 } else { i64::from(value as u32 as i32) };
                integer(number.unsigned_abs().to_string(), number < 0, true)
            }
            'u' => integer(value.to_string(), false, false),
            'o' => integer(prefix("0") + &format!("{value:o}"), false, false),
            'x' => integer(prefix("0x") + &format!("{value:x}"), false, false),
            'X' => integer(prefix("0X") + &format!("{value:X}"), false, false),
            'p' => self.pad(format!("0x{value:x}"), false),
            'c' => self.pad(char::from(value as u8).to_string(), false),
            _ => {
                let x = f64::from_bits(value);
                let sign =
                    if x.is_sign_negative() { "-".to_owned() } else { self.sign.map(String::from).unwrap_or_default() };
                let text = sign + &self.digits(x.abs());
                let text = if self.conversion.is_uppercase() { text.to_uppercase() } else { text };
                self.pad(text, x.is_finite())
            }
        }
    }

    /// A number that is not negative.
    fn digits(&self, x: f64) -> String {
        if !x.is_finite() {
            return if x.is_nan() { "nan" } else { "inf" }.to_owned();
        }
        // C writes an exponent with its sign and two digits at least.
        let scientific = |precision: usize| {
            let text = format!("{x:.precision$e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i32 = exponent.parse().unwrap_or(0);
            let sign = if exponent < 0 { '-' } else { '+' };
            (digits.to_owned(), exponent, format!("e{sign}{:02}", exponent.abs()))
        };
        let precision = self.precision.unwrap_or(6);
        match self.conversion.to_ascii_lowercase() {
            'f' => format!("{x:.precision$}"),
            'e' => {
                let (digits, _, tail) = scientific(precision);
                digits + &tail
            }
            _ => {
                let precision = precision.max(1);
                let (digits, exponent, tail) = scientific(precision - 1);
                let is_short = (-4..precision as i32).contains(&exponent);
                let (digits, tail) = match is_short {
                    true => (format!("{x:.*}", (precision as i32 - 1 - exponent) as usize), String::new()),
                    false => (digits, tail),
                };
                let is_trimmed = digits.contains('.') && !self.alternate;
                let digits = if is_trimmed { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
                digits.to_owned() + &tail
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(form: &str, value: u64) -> String {
        let (parsed, rest) = Form::parse(&form[1..]).unwrap();
        assert_eq!(rest, "", "{form}");
        parsed.show(value)
    }

    #[test]
    fn numbers_are_printed_as_c_prints_them() {
        for (form, value, expected) in [
            ("%d", (-5i32) as u32 as u64, "-5"),
            ("%+4d", 7, "  +7"),
            ("%-4d", 7, "7   "),
            ("%05d", (-42i32) as u32 as u64, "-0042"),
            ("%.3d", 7, "007"),
            ("%lld", (-1i64) as u64, "-1"),
            ("%llu", u64::MAX, "18446744073709551615"),
            ("%#x", 255, "0xff"),
            ("%08X", 0xbeef, "0000BEEF"),
            ("%o", 8, "10"),
            ("%c", 65, "A"),
        ] {
            assert_eq!(show(form, value), expected, "{form}");
        }
        for (form, value, expected) in [
            ("%f", 1.5, "1.500000"),
            ("%.2f", -0.125, "-0.12"),
            ("%8.3f", 2.0 / 3.0, "   0.667"),
            ("%e", 12345.678, "1.234568e+04"),
            ("%.1E", 1e-10, "1.0E-10"),
            ("%g", 0.0001, "0.0001"),
            ("%g", 1e6, "1e+06"),
            ("%g", 100000.0, "100000"),
            ("%g", 0.1, "0.1"),
            ("%.3g", 1234.0, "1.23e+03"),
            ("%g", 0.0, "0"),
            ("%+f", f64::INFINITY, "+inf"),
            ("%5.1f", f64::NAN, "  nan"),
        ] {
            assert_eq!(show(form, value.to_bits()), expected, "{form} of {value}");
        }
        assert!(Form::parse("n").is_none() && Form::parse("").is_none());
    }
}

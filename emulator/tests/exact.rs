//! Random operands against exact arithmetic: every rounding mode of f32 and f64, and every chain of the carry flag.

mod common;

use std::cmp::Ordering;

use common::{Bench, Random};

/// Cases per form.
const CASES: usize = 4096;

/// Runs a line on `CASES` triples: it has A, B, C (64 bits) and leaves its result in D.
fn run(line: &str, inputs: &[[u64; 3]]) -> Vec<u64> {
    let ptx = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 pin, .param .u64 pout) {{
        .reg .b32 t, s, a, b, c, d, e; .reg .b64 A, B, C, D, E, in, out, o; .reg .pred p;
        ld.param.u64 in, [pin]; ld.param.u64 out, [pout];
        mov.u32 t, %tid.x; mov.u32 s, %ctaid.x; mad.lo.u32 t, s, 128, t;
        mul.wide.u32 o, t, 24; add.s64 in, in, o; mul.wide.u32 o, t, 8; add.s64 out, out, o;
        ld.global.b64 A, [in]; ld.global.b64 B, [in+8]; ld.global.b64 C, [in+16];
        cvt.u32.u64 a, A; cvt.u32.u64 b, B; cvt.u32.u64 c, C; mov.b32 d, 0; mov.b64 D, 0;
        {line}
        cvt.u64.u32 E, d; or.b64 D, D, E; st.global.b64 [out], D; ret; }}"
    );
    let mut bench = Bench::new(&ptx);
    let flat: Vec<u64> = inputs.iter().flatten().copied().collect();
    let (input, output) = (bench.array(&flat), bench.empty::<u64>(inputs.len()));
    let blocks = (inputs.len() / 128) as u32;
    bench
        .launch("k", [blocks, 1, 1], [128, 1, 1], &[&input, &output])
        .unwrap_or_else(|fault| panic!("{line}: {fault}"));
    bench.read(output, inputs.len())
}

/// A whole number of units of 2^-2200, in two's complement.
struct Fixed([u64; 72]);

impl Fixed {
    fn zero() -> Fixed {
        Fixed([0; 72])
    }

    fn add(&mut self, negative: bool, significand: u128, exponent: i32) {
        let at = (exponent + 2200) as usize;
        let (limb, shift) = (at / 64, at % 64);
        let wide = [significand << shift, if shift == 0 { 0 } else { significand >> (128 - shift) }];
        let parts = [wide[0] as u64, (wide[0] >> 64) as u64, wide[1] as u64];
        let mut carry = u64::from(negative);
        for (i, limb) in self.0.iter_mut().enumerate().skip(limb) {
            let part = parts.get(i - at / 64).copied().unwrap_or(0);
            let (sum, first) = limb.overflowing_add(if negative { !part } else { part });
            let (sum, second) = sum.overflowing_add(carry);
            (*limb, carry) = (sum, u64::from(first || second));
        }
    }

    fn sign(&self) -> Ordering {
        match (self.0[71] >> 63, self.0.iter().all(|&limb| limb == 0)) {
            (1, _) => Ordering::Less,
            (_, true) => Ordering::Equal,
            _ => Ordering::Greater,
        }
    }
}

fn parts(x: f64) -> (bool, u128, i32) {
    let (bits, field) = (x.to_bits(), (x.to_bits() >> 52 & 0x7ff) as i32);
    let fraction = u128::from(bits & ((1 << 52) - 1));
    (x.is_sign_negative(), fraction | if field == 0 { 0 } else { 1 << 52 }, field.max(1) - 1075)
}

/// What a form computes, exactly.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Operation {
    Add,
    Sub,
    Mul,
    Fma,
    Div,
    Rcp,
    Sqrt,
}

impl Operation {
    /// The exact result against x/2 + y/2.
    fn against(self, [a, b, c]: [f64; 3], x: f64, y: f64) -> Ordering {
        let mut sum = Fixed::zero();
        let mut product = |x: f64, y: f64, twice: i32| {
            let ((s, m, e), (t, n, f)) = (parts(x), parts(y));
            sum.add(s != t, m * n, e + f + twice);
        };
        // Everything is doubled, so that middles are whole.
        match self {
            Operation::Add | Operation::Sub | Operation::Mul | Operation::Fma => {
                match self {
                    Operation::Mul => product(a, b, 1),
                    Operation::Fma => {
                        product(a, b, 1);
                        product(c, 1.0, 1);
                    }
                    _ => {
                        product(a, 1.0, 1);
                        product(if self == Operation::Add { b } else { -b }, 1.0, 1);
                    }
                }
                product(-x, 1.0, 0);
                product(-y, 1.0, 0);
                sum.sign()
            }
            Operation::Div | Operation::Rcp => {
                let (a, b) = if self == Operation::Rcp { (1.0, a) } else { (a, b) };
                product(a, 1.0, 1);
                product(-x, b, 0);
                product(-y, b, 0);
                if b < 0.0 { sum.sign().reverse() } else { sum.sign() }
            }
            // Four times the radicand against the square of x + y.
            Operation::Sqrt => {
                product(a, 1.0, 2);
                product(-x, x, 0);
                product(-x, y, 1);
                product(-y, y, 0);
                if x + y < 0.0 { Ordering::Greater } else { sum.sign() }
            }
        }
    }
}

/// A float format, by its neighbours.
#[derive(Clone, Copy)]
struct Format {
    name: &'static str,
    widen: fn(u64) -> f64,
    /// Bits of the exponent and of the fraction.
    exponent: u32,
    fraction: u32,
}

const F64: Format = Format { name: "f64", widen: f64::from_bits, exponent: 11, fraction: 52 };
const F32: Format = Format { name: "f32", widen: |x| f64::from(f32::from_bits(x as u32)), exponent: 8, fraction: 23 };

impl Format {
    /// The next number in a direction; the largest has the infinity behind it.
    fn neighbour(self, bits: u64, up: bool) -> u64 {
        let sign = 1u64 << (self.exponent + self.fraction);
        let (magnitude, negative) = (bits & (sign - 1), bits & sign != 0);
        match (magnitude, negative == up) {
            (0, _) => 1 | if up { 0 } else { sign },
            (_, true) => bits - 1,
            (_, false) => bits + 1,
        }
    }

    /// Numbers whose sums cancel, whose products and quotients straddle the smallest numbers, and any others.
    fn draw(self, random: &mut Random) -> [u64; 3] {
        let (most, bias) = ((1i64 << self.exponent) - 2, (1i64 << (self.exponent - 1)) - 1);
        let near = |at: i64, spread: u64, random: &mut Random| {
            let width = 2 * spread + 1;
            (at + (random.long() % width) as i64 - spread as i64).clamp(0, most)
        };
        let first = match random.long() % 4 {
            0 => near(0, 3, random),
            1 => near(bias, 70, random),
            2 => near(most, 3, random),
            _ => near(bias, bias as u64, random),
        };
        let second = match random.long() % 6 {
            0 => near(first, 60, random),
            // The product is about the smallest normal number, or that of rounding.
            1 => near(bias + 1 - first, u64::from(self.fraction) + 4, random),
            // The quotient is.
            2 => near(first + bias, u64::from(self.fraction) + 4, random),
            3 => near(bias, 3, random),
            _ => near(bias, bias as u64, random),
        };
        let third = match random.long() % 3 {
            0 => near(first + second - bias, 60, random),
            1 => near(bias, 3, random),
            _ => near(0, 3, random),
        };
        [first, second, third].map(|field| {
            let fraction = match random.long() % 4 {
                0 => random.long() & 3,
                1 => u64::MAX - (random.long() & 3),
                _ => random.long(),
            } & ((1 << self.fraction) - 1);
            (random.long() & 1) << (self.exponent + self.fraction) | (field as u64) << self.fraction | fraction
        })
    }

    /// Whether a result is what the mode says.
    fn accepts(self, operation: Operation, inputs: [f64; 3], found: u64, mode: &str) -> Result<(), String> {
        let value = |bits: u64| (self.widen)(bits);
        // The exact result against a number of the format, or an infinity.
        let against = |x: f64| match x.is_infinite() {
            true if x > 0.0 => Ordering::Less,
            true => Ordering::Greater,
            false => operation.against(inputs, x, x),
        };
        let (x, sign) = (value(found), operation.against(inputs, 0.0, 0.0));
        let (above, below) = (value(self.neighbour(found, true)), value(self.neighbour(found, false)));
        let exact = against(x);
        if x.is_nan() || (sign != Ordering::Equal && x.is_sign_negative() != (sign == Ordering::Less)) {
            return Err("the sign is wrong".to_owned());
        }
        if exact == Ordering::Equal {
            return Ok(());
        }
        let is_next = match (mode, sign) {
            ("rm", _) | ("rz", Ordering::Greater) => exact == Ordering::Greater && against(above) == Ordering::Less,
            ("rp", _) | ("rz", _) => exact == Ordering::Less && against(below) == Ordering::Greater,
            _ if x.is_infinite() || above.is_infinite() || below.is_infinite() => true,
            _ => {
                let is_even = found & 1 == 0;
                let upper = operation.against(inputs, x, above);
                let lower = operation.against(inputs, x, below);
                (upper == Ordering::Less || (is_even && upper == Ordering::Equal))
                    && (lower == Ordering::Greater || (is_even && lower == Ordering::Equal))
            }
        };
        if is_next { Ok(()) } else { Err(format!("{x:e} is not next to the exact result")) }
    }
}

#[test]
fn every_rounding_mode_gives_the_number_next_to_the_exact_result() {
    let operations = [
        (Operation::Add, "add", 2),
        (Operation::Sub, "sub", 2),
        (Operation::Mul, "mul", 2),
        (Operation::Fma, "fma", 3),
        (Operation::Div, "div", 2),
        (Operation::Rcp, "rcp", 1),
        (Operation::Sqrt, "sqrt", 1),
    ];
    for format in [F64, F32] {
        for (operation, name, operands) in operations {
            for mode in ["rn", "rz", "rm", "rp"] {
                let mut random = Random(17 + operands);
                let positive =
                    if operation == Operation::Sqrt { 1u64 << (format.exponent + format.fraction) } else { 0 };
                // Zeros are another test's.
                let nonzero = |bits: u64| if (format.widen)(bits) == 0.0 { bits | 1 } else { bits };
                let inputs: Vec<[u64; 3]> =
                    (0..CASES).map(|_| format.draw(&mut random).map(|bits| nonzero(bits & !positive))).collect();
                let list = if format.name == "f64" { ["D", "A", "B", "C"] } else { ["d", "a", "b", "c"] };
                let line = format!("{name}.{mode}.{} {};", format.name, list[..=operands as usize].join(", "));
                for (input, found) in inputs.iter().zip(run(&line, &inputs)) {
                    let values = input.map(format.widen);
                    if let Err(what) = format.accepts(operation, values, found, mode) {
                        panic!("{line} of {values:?}: {what}");
                    }
                }
            }
        }
    }
}

#[test]
fn an_exact_zero_is_negative_only_where_the_mode_says_so() {
    for format in [F64, F32] {
        let sign = 1u64 << (format.exponent + format.fraction);
        let one = ((1u64 << (format.exponent - 1)) - 1) << format.fraction;
        let inputs: Vec<[u64; 3]> = [[one, one | sign, 0], [one | sign, one, 0], [0, sign, 0], [sign, 0, 0]].repeat(32);
        let list = if format.name == "f64" { "D, A, B" } else { "d, a, b" };
        for (mode, zero) in [("rn", 0), ("rz", 0), ("rp", 0), ("rm", sign)] {
            let found = run(&format!("add.{mode}.{} {list};", format.name), &inputs);
            assert!(found.iter().all(|&bits| bits == zero), "{mode}: {found:x?}");
        }
    }
}

/// Instructions that read or leave the carry flag, with what they compute from a, b, c and the flag as an exact sum.
type Step = (&'static str, fn(u128, u128, u128, u128, u32) -> u128);

/// The complement of a number of so many bits.
fn not(x: u128, bits: u32) -> u128 {
    x ^ ((1 << bits) - 1)
}

fn high(a: u128, b: u128, bits: u32) -> u128 {
    (a * b) >> bits
}

fn low(a: u128, b: u128, bits: u32) -> u128 {
    a.wrapping_mul(b) & ((1 << bits) - 1)
}

#[test]
fn the_carry_flag_passes_between_all_instructions_that_have_it() {
    let first: [Step; 4] = [
        ("add.cc.@ E, A, B;", |a, b, _, _, _| a + b),
        ("sub.cc.@ E, A, B;", |a, b, _, _, n| a + not(b, n) + 1),
        ("mad.lo.cc.@ E, A, B, C;", |a, b, c, _, n| low(a, b, n) + c),
        ("mad.hi.cc.@ E, A, B, C;", |a, b, c, _, n| high(a, b, n) + c),
    ];
    let then: [Step; 4] = [
        ("addc.cc.@ E, B, C;", |_, b, c, f, _| b + c + f),
        ("subc.cc.@ E, C, A;", |a, _, c, f, n| c + not(a, n) + f),
        ("madc.lo.cc.@ E, C, A, B;", |a, b, c, f, n| low(a, c, n) + b + f),
        ("madc.hi.cc.@ E, C, A, B;", |a, b, c, f, n| high(a, c, n) + b + f),
    ];
    let last: [Step; 4] = [
        ("addc.@ D, A, A;", |a, _, _, f, _| a + a + f),
        ("subc.@ D, B, C;", |_, b, c, f, n| b + not(c, n) + f),
        ("madc.lo.@ D, B, C, A;", |a, b, c, f, n| low(b, c, n) + a + f),
        ("madc.hi.@ D, B, C, A;", |a, b, c, f, n| high(b, c, n) + a + f),
    ];
    let mut random = Random(3);
    let mut draw = || match random.long() % 4 {
        0 => random.long() & 1,
        1 => u64::MAX - (random.long() & 1),
        2 => random.long() >> 32,
        _ => random.long(),
    };
    let inputs: Vec<[u64; 3]> = (0..640).map(|_| [draw(), draw(), draw()]).collect();
    for bits in [32, 64] {
        let cover = (1u128 << bits) - 1;
        for one in first {
            for two in then {
                for three in last {
                    let line = format!("{} {} {}", one.0, two.0, three.0).replace('@', &format!("u{bits}"));
                    // Registers of 32 bits have small letters.
                    let line = if bits == 32 { line.to_lowercase() } else { line };
                    for (input, found) in inputs.iter().zip(run(&line, &inputs)) {
                        let [a, b, c] = input.map(|x| u128::from(x) & cover);
                        let flag = |exact: u128| exact >> bits & 1;
                        let carried = flag(one.1(a, b, c, 0, bits));
                        let carried = flag(two.1(a, b, c, carried, bits));
                        let expected = three.1(a, b, c, carried, bits) & cover;
                        assert_eq!(u128::from(found), expected, "{line} of {a:x} {b:x} {c:x}");
                    }
                }
            }
        }
    }
}

#[test]
fn testp_takes_zero_for_a_normal_number() {
    let inputs: Vec<[u64; 3]> = [
        (0.0f64, 0.0f32),
        (-0.0, -0.0),
        (1.0, 1.0),
        (5e-324, 1e-45),
        (-5e-324, -1e-45),
        (f64::INFINITY, f32::INFINITY),
        (f64::NAN, f32::NAN),
        (f64::MIN_POSITIVE, f32::MIN_POSITIVE),
    ]
    .map(|(wide, narrow)| [wide.to_bits(), u64::from(narrow.to_bits()), 0])
    .repeat(16);
    for (test, expected) in [
        ("normal", [1, 1, 1, 0, 0, 0, 0, 1]),
        ("subnormal", [0, 0, 0, 1, 1, 0, 0, 0]),
        ("finite", [1, 1, 1, 1, 1, 0, 0, 1]),
        ("infinite", [0, 0, 0, 0, 0, 1, 0, 0]),
        ("number", [1, 1, 1, 1, 1, 1, 0, 1]),
        ("notanumber", [0, 0, 0, 0, 0, 0, 1, 0]),
    ] {
        for of in ["f64 p, A", "f32 p, b"] {
            let found = run(&format!("testp.{test}.{of}; selp.b32 d, 1, 0, p;"), &inputs);
            assert_eq!(found[..8], expected, "{test} {of}");
        }
    }
}

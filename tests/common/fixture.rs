//! Golden numbers: reads a fixture, repeats the closed formula of its inputs, and compares by the rule.
//!
//! tests/fixtures/README.md documents the files, the formula and the names. Everything here panics on a defect of
//! a fixture: these files are part of the repository.

#![allow(dead_code)] // each test binary uses its own part of this module

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

/// Sign vectors per tensor.
pub const PROJECTIONS: usize = 8;

/// One file of golden numbers.
pub struct Fixture {
    path: String,
    bytes: Vec<u8>,
}

impl Fixture {
    /// Reads `tests/fixtures/{name}.safetensors`.
    pub fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { path: path.display().to_string(), bytes }
    }

    /// A tensor's elements in double, whichever type it is stored in.
    pub fn f64(&self, name: &str) -> Vec<f64> {
        let tensors = self.tensors();
        let view = tensors.tensor(name).unwrap_or_else(|e| panic!("{}: {name}: {e}", self.path));
        match view.dtype() {
            Dtype::F64 => view.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            Dtype::F32 => view.data().as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
            other => panic!("{}: {name}: unexpected type {other:?}", self.path),
        }
    }

    /// An input's elements: stored in single precision, or refused.
    pub fn f32(&self, name: &str) -> Vec<f32> {
        let wide = self.f64(name);
        let narrow: Vec<f32> = wide.iter().map(|&v| v as f32).collect();
        let exact = narrow.iter().zip(&wide).all(|(&n, &w)| f64::from(n) == w);
        assert!(exact, "{}: {name} is not exact in single precision: compare it in double", self.path);
        narrow
    }

    /// A tensor's extents, outermost first.
    pub fn shape(&self, name: &str) -> Vec<usize> {
        let tensors = self.tensors();
        tensors.tensor(name).unwrap_or_else(|e| panic!("{}: {name}: {e}", self.path)).shape().to_vec()
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors().tensor(name).is_ok()
    }

    /// A metadata entry that holds JSON.
    pub fn json(&self, key: &str) -> serde_json::Value {
        let (_, metadata) = SafeTensors::read_metadata(&self.bytes).unwrap_or_else(|e| panic!("{}: {e}", self.path));
        let text = metadata.metadata().as_ref().and_then(|m| m.get(key));
        let text = text.unwrap_or_else(|| panic!("{}: no metadata {key}", self.path));
        serde_json::from_str(text).unwrap_or_else(|e| panic!("{}: metadata {key}: {e}", self.path))
    }

    /// Metadata that is a JSON list of names: `parameters`, `tensors`.
    pub fn names(&self, key: &str) -> Vec<String> {
        serde_json::from_value(self.json(key)).unwrap_or_else(|e| panic!("{}: metadata {key}: {e}", self.path))
    }

    /// The cases of an operation's file, or the recipes of an optimizer's: name and description.
    pub fn entries(&self, key: &str) -> Vec<(String, serde_json::Value)> {
        let serde_json::Value::Object(entries) = self.json(key) else { panic!("{}: {key} is no object", self.path) };
        entries.into_iter().collect()
    }

    /// What the straightforward computation in single precision errs by: per tensor, or per row of a table.
    pub fn f32_error(&self, name: &str) -> Vec<f64> {
        self.f64(&format!("{name}.f32_error"))
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap_or_else(|e| panic!("{}: {e}", self.path))
    }
}

/// FNV-1a, 64 bits.
pub fn key(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |state: u64, byte| (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Word `i` of the splitmix64 sequence that starts from a key.
pub fn word(key: u64, i: usize) -> u64 {
    let mut z = key.wrapping_add((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// An odd multiple of 2^-24 in (-1, 1).
pub fn unit(word: u64) -> f64 {
    (2 * (word >> 40) as i64 + 1 - (1 << 24)) as f64 / 16_777_216.0
}

/// The first elements of a tensor of this name: offset + amplitude * unit, rounded to single precision.
pub fn values(name: &str, count: usize, amplitude: f64, offset: f64) -> Vec<f32> {
    let key = key(name);
    (0..count).map(|i| (offset + amplitude * unit(word(key, i))) as f32).collect()
}

/// Class indices; class c of K has a share proportional to K - c.
pub fn labels(name: &str, count: usize, classes: usize) -> Vec<u8> {
    let key = key(name);
    let slots: Vec<u8> = (0..classes).flat_map(|c| std::iter::repeat_n(c as u8, classes - c)).collect();
    (0..count).map(|i| slots[(((word(key, i) >> 40) * slots.len() as u64) >> 24) as usize]).collect()
}

/// Amplitude and offset of a network's tensor, from its name and its shape (filters `[kD, kH, kW, in, out]`).
pub fn scale(name: &str, shape: &[usize], transposed_up: bool) -> (f64, f64) {
    let (layer, what) = name.rsplit_once('.').unwrap_or_else(|| panic!("{name}: no layer"));
    let is_norm = layer.rsplit('.').next().is_some_and(|part| part.contains("norm"));
    match (what, shape) {
        ("weight", &[_]) if is_norm => (0.25, 1.0),
        ("bias", _) => (0.1, 0.0),
        ("running_mean", _) => (0.25, 0.0),
        ("running_var", _) => (0.5, 1.0),
        ("weight", &[_, _, _, c_in, c_out]) if layer == "head.output" => ((6.0 / (c_in + c_out) as f64).sqrt(), 0.0),
        ("weight", &[d, h, w, _, c_out]) if transposed_up && layer.ends_with(".up") => {
            ((6.0 / (d * h * w * c_out) as f64).sqrt(), 0.0)
        }
        ("weight", &[d, h, w, c_in, _]) => ((6.0 / (d * h * w * c_in) as f64).sqrt(), 0.0),
        _ => panic!("{name}: no rule for shape {shape:?}"),
    }
}

/// The Euclidean norm, then the projections on the sign vectors that belong to a parameter's name.
pub fn summary(parameter: &str, elements: impl ExactSizeIterator<Item = f64> + Clone) -> [f64; 1 + PROJECTIONS] {
    let mut out = [0.0; 1 + PROJECTIONS];
    out[0] = elements.clone().map(|v| v * v).sum::<f64>().sqrt();
    for (j, slot) in out[1..].iter_mut().enumerate() {
        let key = key(&format!("projection/{j}/{parameter}"));
        *slot = elements.clone().enumerate().map(|(i, v)| if word(key, i) >> 63 == 1 { -v } else { v }).sum();
    }
    out
}

/// The largest difference, and where. Panics on unequal lengths and on anything that is not finite.
pub fn largest_difference(what: &str, found: &[f64], expected: &[f64]) -> (f64, usize) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    assert!(found.iter().all(|v| v.is_finite()), "{what}: not finite");
    let differences = found.iter().zip(expected).map(|(f, e)| (f - e).abs()).enumerate();
    differences.fold((0.0, 0), |worst, (i, d)| if d > worst.0 { (d, i) } else { worst })
}

/// Double against double: relative to the larger of 1 and the greatest magnitude expected.
pub fn assert_same_f64(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    let (difference, at) = largest_difference(what, found, expected);
    let size = magnitude(expected).max(1.0);
    assert!(
        difference <= tolerance * size,
        "{what}[{at}]: {} instead of {}, off by {difference:.2e}",
        found[at],
        expected[at]
    );
}

/// Single precision against double, by the rule: at most twice the error of the straightforward computation.
/// That error is a sample, and small by luck in a scalar; the spacing of single precision at the greatest magnitude is its floor.
pub fn assert_within_rule(what: &str, found: &[f64], expected: &[f64], f32_error: f64) {
    let (difference, at) = largest_difference(what, found, expected);
    let allowed = 2.0 * f32_error.max(magnitude(expected) * f64::from(f32::EPSILON));
    assert!(
        difference <= allowed,
        "{what}[{at}]: {} instead of {}, off by {difference:.2e}, allowed {allowed:.2e}",
        found[at],
        expected[at]
    );
}

fn magnitude(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m, v| m.max(v.abs()))
}

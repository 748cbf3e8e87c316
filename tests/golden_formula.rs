//! The inputs of the golden numbers: Rust's copy of the closed formula against values printed by the Python one.

mod common;

use common::fixture::{Fixture, key, labels, scale, summary, unit, values, word};

#[test]
fn names_hash_as_in_the_generator() {
    assert_eq!(key(""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(key("7/encoder.1.conv_a.weight"), 0x82d2_dd43_0146_3a6a);
}

#[test]
fn words_and_units_are_those_of_the_generator() {
    let filter = key("7/encoder.1.conv_a.weight");
    assert_eq!(
        [0, 1, 2].map(|i| word(filter, i)),
        [0x7464_c997_9a55_f768, 0x2ea9_f778_4441_56a3, 0xaf53_137a_a81e_d35e]
    );
    let input = key("7/input");
    let units = [0, 1, 2, 3].map(|i| unit(word(input, i)));
    assert_eq!(units.map(|u| u * 16_777_216.0), [-4_687_323.0, 4_154_129.0, 1_054_787.0, 16_724_895.0]);
}

#[test]
fn values_are_equal_to_the_last_bit() {
    let (amplitude, offset) = scale("encoder.1.conv_a.weight", &[3, 3, 3, 1, 2], true);
    let filter = values("7/encoder.1.conv_a.weight", 5, amplitude, offset);
    let bits: Vec<u32> = filter.iter().map(|v| v.to_bits()).collect();
    assert_eq!(bits, [0xbd2f_1495, 0xbe99_5e67, 0x3e32_78d0, 0xbeb6_abd5, 0x3e75_66b0]);

    let (amplitude, offset) = scale("encoder.1.norm_a.weight", &[3], true);
    let gamma = values("7/encoder.1.norm_a.weight", 3, amplitude, offset);
    let bits: Vec<u32> = gamma.iter().map(|v| v.to_bits()).collect();
    assert_eq!(bits, [0x3f5a_3371, 0x3f97_5aaa, 0x3f76_a076]);
}

#[test]
fn labels_are_those_of_the_generator() {
    assert_eq!(labels("7/labels", 24, 3), [0, 1, 0, 0, 0, 1, 2, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(labels("7/labels", 12, 2), [0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0]);
    let shares = labels("7/labels", 6000, 3).iter().fold([0; 3], |mut n, &l| {
        n[usize::from(l)] += 1;
        n
    });
    assert_eq!(shares, [2965, 2038, 997]);
}

#[test]
fn projections_use_the_signs_of_the_generator() {
    let expected = [55f64.sqrt(), 3.0, 13.0, 15.0, -9.0, 9.0, 13.0, -1.0, -3.0];
    assert_eq!(summary("x", (1..=5u8).map(f64::from).collect::<Vec<_>>().into_iter()), expected);
}

#[test]
fn stored_inputs_follow_the_formula() {
    let fixture = Fixture::open("ops/conv3d_3x3x3");
    let cases = fixture.entries("cases");
    assert_eq!(cases.len(), 7);
    for (case, _) in cases {
        for what in ["x", "w", "b", "dy"] {
            let stored = fixture.f32(&format!("{case}.{what}"));
            assert_eq!(stored, values(&format!("conv3d_3x3x3/{case}/{what}"), stored.len(), 1.0, 0.0), "{case}.{what}");
        }
    }
}

#[test]
fn gradients_stored_whole_have_the_norms_and_projections_of_the_table() {
    let fixture = Fixture::open("unet/transpose_norm_3");
    let table = fixture.f64("gradients");
    let parameters = fixture.names("parameters");
    assert_eq!(fixture.shape("gradients"), [parameters.len(), 9]);
    for (name, row) in parameters.iter().zip(table.chunks(9)) {
        let whole = fixture.f64(&format!("gradient/{name}"));
        let found = summary(name, whole.into_iter());
        // The whole gradient is stored rounded to single precision.
        let rounding =
            f64::from(f32::EPSILON) * row[0] * (fixture.f64(&format!("gradient/{name}")).len() as f64).sqrt();
        for (found, expected) in found.iter().zip(row) {
            assert!((found - expected).abs() <= rounding, "{name}: {found} is not {expected}");
        }
    }
}

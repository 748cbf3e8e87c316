//! Initial weights, as Keras draws them.
//!
//! Convolutions: He normal, a normal distribution cut off at two standard deviations whose variance after the cut is
//! 2 / fan_in; fan_in is `kernel volume * channels in`, but `8 * channels out` for a transposed convolution, because
//! Keras reads the fan from the wrong axis there. The last 1x1x1 layer: Glorot uniform. Biases zero, gamma one, beta
//! zero, moving mean zero, moving variance one.

use std::collections::HashMap;

use crate::{
    graph::{Graph, Role},
    random::Stream,
};

/// Standard deviation of a standard normal distribution cut off at two: what the cut must be made up for.
const TRUNCATED_DEVIATION: f64 = 0.879_625_661_034_239_8;

/// Values for all parameters and moving averages of a graph, by name: a pure function of seed and name.
pub fn initial_parameters(graph: &Graph, seed: u64) -> HashMap<String, Vec<f32>> {
    let sources = [Role::Parameter, Role::Running].into_iter().flat_map(|role| graph.with_role(role));
    sources
        .map(|id| {
            let value = graph.value(id);
            (value.name.clone(), draw(&value.name, value.spec.shape.extents(), graph.first_use(id), seed))
        })
        .collect()
}

/// `reader` is the kind of the operation that computes with the value first.
fn draw(name: &str, extents: &[usize], reader: &str, seed: u64) -> Vec<f32> {
    let &[d, h, w, channels_in, channels_out] = extents else {
        let is_gamma = reader.starts_with("batch_norm") && name.ends_with(".weight");
        let one = is_gamma || name.ends_with(".running_var");
        return vec![if one { 1.0 } else { 0.0 }; extents.iter().product()];
    };
    let count = d * h * w * channels_in * channels_out;
    let mut stream = Stream::new(seed, &format!("initial weights of {name}"));
    if name == "head.output.weight" {
        let limit = (6.0 / (channels_in + channels_out) as f64).sqrt();
        return (0..count).map(|_| stream.between(-limit, limit) as f32).collect();
    }
    let fan_in = if reader.starts_with("conv_transpose3d") { 8 * channels_out } else { d * h * w * channels_in };
    let deviation = (2.0 / fan_in as f64).sqrt() / TRUNCATED_DEVIATION;
    (0..count)
        .map(|_| {
            loop {
                let x = stream.normal();
                if x.abs() < 2.0 {
                    break (x * deviation) as f32;
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Architecture, Precision, UNetConfig, record_prediction};

    fn network(architecture: Architecture, precision: Precision) -> Graph {
        let config =
            UNetConfig { architecture, resize_factor: 8, channels: 1, classes: 3, precision, ..UNetConfig::default() };
        record_prediction(config, 1, [16; 3]).unwrap()
    }

    #[test]
    fn weights_have_the_variance_that_keras_gives_them() {
        let drawn = initial_parameters(&network(Architecture::default(), Precision::Fp32), 5);
        let variance =
            |name: &str| drawn[name].iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / drawn[name].len() as f64;
        // 27 * 64 * 128 draws: the standard error of the variance is 0.3 %; a transposed layer has 8 * 128 * 64.
        let he = variance("encoder.5.conv_a.weight") / (2.0 / (27.0 * 64.0));
        assert!((he - 1.0).abs() < 0.015, "{he}");
        let transposed = variance("decoder.4.up.weight") / (2.0 / (8.0 * 64.0));
        assert!((transposed - 1.0).abs() < 0.03, "{transposed}");
    }

    #[test]
    fn every_precision_starts_with_the_same_weights() {
        for architecture in Architecture::ALL {
            let drawn = |precision| initial_parameters(&network(architecture, precision), 5);
            assert_eq!(drawn(Precision::Bf16), drawn(Precision::Fp32), "{architecture}");
            assert_eq!(drawn(Precision::Fp16), drawn(Precision::Fp32), "{architecture}");
        }
    }

    #[test]
    fn vectors_start_neutral() {
        let drawn = initial_parameters(&network(Architecture::default(), Precision::Fp32), 5);
        assert!(drawn["encoder.1.norm_a.weight"].iter().all(|&x| x == 1.0));
        assert!(drawn["encoder.1.norm_a.running_var"].iter().all(|&x| x == 1.0));
        assert!(drawn["encoder.1.norm_a.bias"].iter().all(|&x| x == 0.0));
        assert!(drawn["encoder.1.conv_a.bias"].iter().all(|&x| x == 0.0));
        assert_eq!(drawn, initial_parameters(&network(Architecture::default(), Precision::Fp32), 5));
    }
}

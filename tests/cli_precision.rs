//! `--precision` as a user meets it.

mod cli;

use cli::{Sandbox, TINY};
use gyrus::formats::read_image;

#[test]
fn a_network_is_used_in_the_precision_that_it_was_trained_in_unless_told() {
    let sandbox = Sandbox::new(5);
    for precision in ["bf16", "fp16"] {
        let train = format!("train --dataset data {TINY} --training-epochs 2 --model-path {precision}");
        sandbox.succeed(&format!("{train} --precision {precision}"));
        let checkpoint = sandbox.checkpoint(&format!("{precision}/best.safetensors"));
        assert_eq!(checkpoint.meta.network.unwrap().precision.to_string(), precision);
        assert!(checkpoint.meta.configuration["run"]["network"].is_null(), "the network is described twice");

        // A run goes on in its own precision alone.
        let message = sandbox.refuse(&format!("{train} --resume-train true"));
        let cause = format!("--precision: the run to resume computes in {precision}, this one would in fp32");
        assert!(message.contains(&cause) && message.contains(&format!("--precision {precision}")), "{message}");
        sandbox.succeed(&format!("{train} --precision {precision} --resume-train true"));

        let probabilities = |name: &str, options: &str| {
            let output = format!("{precision}.{name}");
            sandbox.succeed(&format!(
                "predict --model-path {precision} data/imagesTr --output {output} --probabilities {options}"
            ));
            let image = read_image(&sandbox.path(&format!("{output}/probabilities/blob_0001.nii.gz"))).unwrap();
            image.voxels
        };
        let (own, named) = (probabilities("own", ""), probabilities("named", &format!("--precision {precision}")));
        let wide = probabilities("wide", "--precision fp32");
        assert!(own == named, "{precision}: the checkpoint's precision is not the default");
        assert!(own != wide, "{precision}: --precision fp32 changes nothing");
        let furthest = own.iter().zip(&wide).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(furthest < 0.1, "{precision}: probabilities differ by {furthest} from those in fp32");
    }
}

#[test]
fn activations_in_16_bits_take_half_the_memory_and_the_weights_none_less() {
    let sandbox = Sandbox::new(1);
    let plan = |precision: &str| {
        let size = "--mri-height 32 --mri-width 32 --mri-depth 32 --unet-resize-factor 8 --rematerialise none";
        sandbox.json(&format!("plan {size} --device cpu --threads 1 --precision {precision} --json"))
    };
    let (wide, narrow) = (plan("fp32"), plan("bf16"));
    assert_eq!(wide["parameters"], narrow["parameters"]);
    let outputs = |plan: &serde_json::Value| -> u64 {
        let layers = plan["layers"].as_array().unwrap().iter();
        let is_cast = |layer: &serde_json::Value| layer["layer"].as_str().unwrap().ends_with(".cast");
        layers.filter(|layer| !is_cast(layer)).map(|layer| layer["activation_bytes"].as_u64().unwrap()).sum()
    };
    // Batch statistics stay as they are.
    assert!(outputs(&narrow) * 199 < outputs(&wide) * 100, "{} and {}", outputs(&narrow), outputs(&wide));
}

#[test]
fn a_step_in_16_bits_can_be_timed() {
    let sandbox = Sandbox::new(1);
    for precision in ["bf16", "fp16"] {
        let report = sandbox.json(&format!(
            "bench --mri-height 16 --mri-width 16 --mri-depth 16 --unet-resize-factor 32 --warmup 0 --steps 1 \
             --device cpu --precision {precision} --json"
        ));
        let kinds: Vec<&str> =
            report["operations"].as_array().unwrap().iter().map(|line| line["kind"].as_str().unwrap()).collect();
        assert!(kinds.contains(&"cast"), "{kinds:?}");
        assert_eq!(kinds.contains(&"non_finite"), precision == "fp16");
    }
}

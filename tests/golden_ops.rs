//! Single operations against the numbers of PyTorch and Keras: the definition to eleven digits, the CPU by the rule.

mod common;

use common::{
    fixture::{Fixture, assert_same_f64},
    record::{Operand, Recorded},
};
use gyrus::ops::{
    activation::{Sigmoid, Softmax},
    batch_norm::{BatchNorm, BatchNormInference, BatchNormRunning},
    conv_transpose3d::ConvTranspose3d,
    conv3d::Conv3d,
    dice::{DiceLoss, LossKind, Sums},
    max_pool::MaxPool,
    relu::Relu,
    upsample::Upsample,
};

/// One case of an operation's file.
struct Case<'a> {
    fixture: &'a Fixture,
    name: &'a str,
}

impl Case<'_> {
    fn data(&self, what: &str) -> Vec<f64> {
        self.fixture.f64(&format!("{}.{what}", self.name))
    }

    fn extents(&self, what: &str) -> Vec<usize> {
        self.fixture.shape(&format!("{}.{what}", self.name))
    }

    fn trained(&self, what: &str) -> Operand {
        Operand::trained(what, &self.extents(what), self.data(what))
    }

    fn given(&self, what: &str) -> Operand {
        Operand::given(what, &self.extents(what), self.data(what))
    }

    fn check(&self, recorded: &Recorded, pairs: &[(&str, &str)]) {
        recorded.check(self.fixture, self.name, pairs);
    }
}

/// Calls `check` with every case of a file, of which there are `count`.
fn each(file: &str, count: usize, check: impl Fn(&Case<'_>)) {
    let fixture = Fixture::open(file);
    let cases = fixture.entries("cases");
    assert_eq!(cases.len(), count, "{file}");
    for (name, _) in &cases {
        check(&Case { fixture: &fixture, name });
    }
}

const FORWARD_AND_BACKWARD: [(&str, &str); 4] = [("y", "y"), ("dx", "dx"), ("dw", "dw"), ("db", "db")];

#[test]
fn convolutions_are_those_of_pytorch_and_keras() {
    for (file, size) in [("ops/conv3d_1x1x1", 1), ("ops/conv3d_2x2x2", 2), ("ops/conv3d_3x3x3", 3)] {
        each(file, 7, |case| {
            let operands = ["x", "w", "b"].map(|what| case.trained(what)).into();
            let op = Conv3d { kernel: [size; 3], relu: false };
            case.check(&Recorded::new(op, operands, &["y"], Some(case.data("dy"))), &FORWARD_AND_BACKWARD);
        });
    }
}

#[test]
fn transposed_convolutions_are_those_of_pytorch_and_keras() {
    each("ops/conv_transpose3d_2x2x2", 7, |case| {
        let operands = ["x", "w", "b"].map(|what| case.trained(what)).into();
        case.check(&Recorded::new(ConvTranspose3d, operands, &["y"], Some(case.data("dy"))), &FORWARD_AND_BACKWARD);
    });
}

#[test]
fn upsampling_pooling_and_relu_are_those_of_pytorch() {
    let pairs = [("y", "y"), ("dx", "dx")];
    each("ops/upsample_nearest", 7, |case| {
        case.check(&Recorded::new(Upsample, vec![case.trained("x")], &["y"], Some(case.data("dy"))), &pairs);
    });
    each("ops/max_pool", 6, |case| {
        case.check(&Recorded::new(MaxPool, vec![case.trained("x")], &["y"], Some(case.data("dy"))), &pairs);
    });
    each("ops/relu", 7, |case| {
        case.check(&Recorded::new(Relu, vec![case.trained("x")], &["y"], Some(case.data("dy"))), &pairs);
    });
}

#[test]
fn batch_normalisation_trains_and_predicts_as_keras_does() {
    each("ops/batch_norm", 7, |case| {
        let operands = ["x", "gamma", "beta"].map(|what| case.trained(what)).into();
        let outputs = ["y", "mean", "variance"];
        let training = Recorded::new(BatchNorm { epsilon: 1e-3 }, operands, &outputs, Some(case.data("dy")));
        case.check(&training, &["y", "mean", "variance", "dx", "dgamma", "dbeta"].map(|name| (name, name)));

        let mut operands: Vec<_> = ["running_mean", "running_var"].map(|what| case.given(what)).into();
        operands.extend(["mean", "variance"].map(|what| {
            // Single precision begins from what single precision can hold.
            let rounded = case.data(what).into_iter().map(|x| f64::from(x as f32)).collect();
            Operand::given(what, &case.extents(what), rounded)
        }));
        let op = BatchNormRunning { momentum: 0.99 };
        let running = Recorded::new(op, operands, &["new_running_mean", "new_running_var"], None);
        let (plain, fast) = (running.reference::<f64>(), running.cpu());
        for name in ["new_running_mean", "new_running_var"] {
            let what = format!("{}.{name}", case.name);
            let expected = case.data(name);
            // A hundredth of a number that was rounded to single precision.
            assert_same_f64(&what, &plain[name], &expected, 1e-8);
            assert_same_f64(&what, &fast[name], &expected, 2.0 * f64::from(f32::EPSILON));
        }

        let operands = ["x", "gamma", "beta", "running_mean", "running_var"].map(|what| case.given(what)).into();
        let inference = Recorded::new(BatchNormInference { epsilon: 1e-3 }, operands, &["y"], None);
        case.check(&inference, &[("y", "inference_y")]);
    });
}

#[test]
fn softmax_and_its_losses_are_those_of_keras() {
    each("ops/softmax_dice", 12, |case| {
        case.check(&Recorded::new(Softmax, vec![case.given("logits")], &["p"], None), &[("p", "probabilities")]);
        losses(case, &["plain", "weighted"]);
    });
}

#[test]
fn sigmoid_and_its_losses_are_those_of_keras() {
    each("ops/sigmoid_dice", 4, |case| {
        case.check(&Recorded::new(Sigmoid, vec![case.given("logits")], &["p"], None), &[("p", "probabilities")]);
        losses(case, &["plain"]);
    });
}

fn losses(case: &Case<'_>, weightings: &[&str]) {
    let extents = case.extents("logits");
    let channels = extents[4];
    for (prefix, kind) in [("dice", LossKind::Dice), ("log_dice", LossKind::LogDice)] {
        for &weighting in weightings {
            let weights = if weighting == "weighted" { case.data("class_weights") } else { vec![1.0; channels] };
            let labels = Operand::labels("labels", &[&extents[..4], &[1]].concat(), case.data("labels"));
            let operands = vec![case.trained("logits"), labels, Operand::given("weights", &[channels], weights)];
            let recorded = Recorded::new(DiceLoss { kind }, operands, &["loss", "sums"], Some(vec![1.0]));
            let (loss, slope) = (format!("{prefix}_{weighting}.loss"), format!("{prefix}_{weighting}.dlogits"));
            case.check(&recorded, &[("loss", &loss), ("dlogits", &slope)]);
            metrics(case, &recorded, &extents);
        }
    }
}

/// The sums of the device, from which the host makes the metrics in double precision.
fn metrics(case: &Case<'_>, recorded: &Recorded, extents: &[usize]) {
    let (channels, voxels) = (extents[4], extents[1..4].iter().product());
    let sums: Vec<f32> = recorded.cpu()["sums"].iter().map(|&x| x as f32).collect();
    let mut samples = Sums::of_samples(&sums, channels, voxels);
    let mut total = samples.next().unwrap();
    samples.for_each(|sample| total.add(&sample));
    let per_class: Vec<f64> = (0..channels)
        .map(|class| {
            let only: Vec<f32> = (0..channels).map(|other| f32::from(u8::from(other == class))).collect();
            total.dice(&only)
        })
        .collect();
    // Up to 210 voxels were added up in single precision, each sum off by some units in its last place.
    let tolerance = 8.0 * f64::from(f32::EPSILON);
    assert_same_f64(&format!("{}.dice", case.name), &per_class, &case.data("dice"), tolerance);
    assert_same_f64(&format!("{}.iou", case.name), &[total.iou()], &case.data("iou"), tolerance);
    assert_same_f64(&format!("{}.accuracy", case.name), &[total.accuracy()], &case.data("accuracy"), 1e-12);
}

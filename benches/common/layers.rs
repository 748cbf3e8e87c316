//! The distinct operations of a training step, each in a graph of its own. Nothing is listed by hand: what is timed is what a
//! step runs on that device, merged as it is there.

use std::collections::{HashMap, HashSet};

use gyrus::{
    fuse::Fuse,
    graph::{Graph, Node, Role, Stage, Tape},
    lowering::Processor,
    nn::{Architecture, StepConfig, record_training},
    session::{self, Program, Target},
    tensor::{DType, Spec, Volume},
};
use half::{bf16, f16};

use super::{Network, PRECISIONS};

/// An operation of a training step, to be run alone.
#[derive(Debug)]
pub struct Layer {
    /// `FAMILY DIRECTION TYPE CHANNELS EXTENTS NODE`, such as `conv3d fprop bf16 32->32 240x240x160 encoder.1.conv_b`: extents
    /// H x W x D of the largest activation, and the first node of the step that does just this.
    pub name: String,
    /// The node between operands from the host and results that are kept.
    pub graph: Graph,
    /// The type of its activations.
    pub dtype: DType,
    /// Multiplications and additions.
    pub flops: u64,
    /// Bytes that must be moved.
    pub bytes: u64,
}

impl Layer {
    /// Ready to run, on operands that no arithmetic makes infinite.
    pub fn bind(&self, target: Target) -> Box<dyn Program> {
        let mut program = session::bind(std::slice::from_ref(&self.graph), target).expect("the memory is there");
        let is_signed = self.graph.nodes[0].stage != Stage::Optimizer;
        for value in self.graph.values.iter().filter(|value| value.producer.is_none()) {
            let slot = program.bytes(&value.name).expect("the operand is there");
            program.write(slot, &elements(value.spec, is_signed)).expect("the device works");
        }
        program
    }
}

/// Every distinct operation of the default architecture's step in every precision, and those kinds of operations that only
/// the other architectures have: dropout, upsampling.
pub fn list(network: &Network, processor: Processor) -> Vec<Layer> {
    let mut found = Found::default();
    for precision in PRECISIONS {
        let default = Architecture::default();
        found.add(&network.step(default, precision), processor, |_| true);
        let mut kinds = found.kinds.clone();
        for architecture in Architecture::ALL.into_iter().filter(|&other| other != default) {
            found.add(&network.step(architecture, precision), processor, |kind| !kinds.contains(kind));
            kinds.clone_from(&found.kinds);
        }
        // Another precision's kinds are as new as this one's were.
        found.kinds.clear();
    }
    found.layers
}

#[derive(Default)]
struct Found {
    layers: Vec<Layer>,
    /// Operations with operands: what was found already.
    keys: HashSet<String>,
    /// The kind that has each name.
    names: HashMap<String, &'static str>,
    kinds: HashSet<&'static str>,
}

impl Found {
    fn add(&mut self, step: &StepConfig, processor: Processor, is_wanted: impl Fn(&str) -> bool) {
        let recorded = record_training(step).expect("the networks of the benches are right");
        let graph = Fuse::Auto.apply(recorded, processor);
        for node in graph.nodes.iter().filter(|node| is_wanted(node.op.kind())) {
            let (inputs, outputs) = (graph.specs(&node.inputs), graph.specs(&node.outputs));
            self.kinds.insert(node.op.kind());
            if !self.keys.insert(format!("{:?} {inputs:?}", node.op)) {
                continue;
            }
            let specs: Vec<Spec> = inputs.iter().chain(&outputs).copied().collect();
            let is_narrow = |spec: &&Spec| matches!(spec.dtype, DType::Bf16 | DType::F16);
            let dtype = specs.iter().find(is_narrow).map_or(DType::F32, |spec| spec.dtype);
            let (kind, mut name) = (node.op.kind(), name(step, &graph, node, dtype));
            // The same layer merged and as it is; the optimizer with and without a flag that skips it.
            if let Some(&other) = self.names.get(&name) {
                name += &match (other == kind, kind.contains("fused")) {
                    (true, _) => format!(" in {}", step.network.precision),
                    (false, true) => " fused".to_owned(),
                    (false, false) => " bare".to_owned(),
                };
            }
            assert!(self.names.insert(name.clone(), kind).is_none(), "{name} is the name of two layers");
            let (flops, bytes) = (node.op.flops(&inputs, &outputs), node.op.traffic(&inputs, &outputs));
            self.layers.push(Layer { name, graph: alone(&graph, node), dtype, flops, bytes });
        }
    }
}

/// See [`Layer::name`].
fn name(step: &StepConfig, graph: &Graph, node: &Node, dtype: DType) -> String {
    let half = |extent: &[usize; 3]| extent.iter().all(|axis| axis % 2 == 0).then(|| extent.map(|axis| axis / 2));
    let levels: Vec<[usize; 3]> = std::iter::successors(Some(step.extent), half).collect();
    let as_activation = |spec: &Spec| {
        let volume = spec.shape.volume()?;
        (volume.n == step.batch && levels.contains(&volume.extent)).then_some(volume)
    };
    let specs: Vec<Spec> = node.inputs.iter().chain(&node.outputs).map(|&id| graph.value(id).spec).collect();
    let largest = specs.iter().filter_map(as_activation).max_by_key(|volume| (volume.voxels(), volume.c));
    // What has five axes and is no activation is a filter, [kD, kH, kW, in, out].
    let filter = specs.iter().find(|spec| as_activation(spec).is_none() && spec.shape.extents().len() == 5);
    let channels = |volume: Volume| match filter.map(|filter| filter.shape.extents()) {
        Some(&[.., channels_in, channels_out]) => format!("{channels_in}->{channels_out}"),
        _ => volume.c.to_string(),
    };
    let size = match largest {
        Some(volume) => {
            let [depth, width, height] = volume.extent;
            format!("{} {height}x{width}x{depth}", channels(volume))
        }
        None if node.stage == Stage::Optimizer => {
            let is_parameter = |id: &&_| graph.value(**id).role == Role::Parameter;
            let parameters = node.inputs.iter().filter(is_parameter).map(|&id| graph.value(id).spec.shape.elements());
            format!("{:.1}M", parameters.sum::<usize>() as f64 / 1e6)
        }
        None => specs[node.inputs.len()].shape.elements().to_string(),
    };
    let kind = node.op.kind().replace("dice_loss", "softmax_dice");
    let words: Vec<&str> = kind.split('.').filter(|&word| word != "fused").collect();
    // A gradient's node is called after its layer and itself: the direction is said already.
    let place = match node.name.rsplit_once('.') {
        Some((layer, direction)) if words[words.len() - 1].ends_with(direction) => layer,
        _ => &node.name,
    };
    format!("{} {dtype} {size} {place}", words.join(" "))
}

/// The node with its operands as `operand.N`, in order, and its results as `result.N`.
fn alone(graph: &Graph, node: &Node) -> Graph {
    let mut tape = Tape::new();
    tape.set_stage(node.stage);
    let mut operands = Vec::new();
    for (index, &id) in node.inputs.iter().enumerate() {
        let again = node.inputs[..index].iter().position(|&earlier| earlier == id);
        let spec = graph.value(id).spec;
        operands
            .push(again.map_or_else(|| tape.source(format!("operand.{index}"), spec, Role::Input), |at| operands[at]));
    }
    let results = tape.record_dyn("node", node.op.clone(), &operands).expect("it was recorded once");
    let updates = node.op.updates(operands.len());
    for (index, id) in results.into_iter().enumerate() {
        if !updates.iter().any(|&(_, output)| output == index) {
            tape.keep_output(id, format!("result.{index}"));
        }
    }
    tape.finish()
}

/// Activations and filters in [-1, 1); what belongs to channels (variances among it) and the optimizer's moments are positive.
fn elements(spec: Spec, is_signed: bool) -> Vec<u8> {
    // A prime number: neighbours along every axis differ.
    const DIFFERENT: usize = 1021;
    let low = if is_signed && spec.shape.extents().len() == 5 { -1.0 } else { 0.25 };
    let numbers = (0..DIFFERENT).map(|i| low + i as f32 * (2.0 / DIFFERENT as f32));
    let tile: Vec<u8> = match spec.dtype {
        DType::F32 => numbers.flat_map(f32::to_ne_bytes).collect(),
        DType::Bf16 => numbers.flat_map(|x| bf16::from_f32(x).to_ne_bytes()).collect(),
        DType::F16 => numbers.flat_map(|x| f16::from_f32(x).to_ne_bytes()).collect(),
        // Labels: every network has more than two classes.
        DType::U8 => (0..DIFFERENT).map(|i| (i % 3) as u8).collect(),
        // The state of random numbers may be anything; a flag that skips the optimizer must not be set.
        DType::U32 => vec![0; 4 * DIFFERENT],
    };
    let mut bytes = tile.repeat(spec.shape.elements().div_ceil(DIFFERENT));
    bytes.truncate(spec.bytes());
    bytes
}

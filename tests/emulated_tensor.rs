//! Tensor-core kernels, operation by operation and without a graph around them.

use gyrus::{
    graph::{Op, reference::Dense},
    machine::{Emulated, Machine, images, lower},
    ops::{
        conv_transpose3d::{self, ConvTranspose3d, ConvTranspose3dDgrad, ConvTranspose3dWgrad},
        conv3d::{self, Conv3d, Conv3dDgrad, Conv3dWgrad},
    },
    random::Stream,
    selftest::{decode, distance, encode, ulp},
    tensor::{DType, Shape, Spec, Volume},
};

fn check(op: &dyn Op, inputs: &[Spec], outputs: &[Spec]) {
    let name = format!("{op:?} {inputs:?}");
    let data: Vec<Vec<f64>> = inputs
        .iter()
        .enumerate()
        .map(|(i, &spec)| {
            let mut stream = Stream::new(7, &format!("{name} {i}"));
            let values: Vec<f64> = (0..spec.shape.elements()).map(|_| stream.between(-1.0, 1.0)).collect();
            decode(spec, &encode(spec, &values))
        })
        .collect();
    let dense64: Vec<Dense<f64>> =
        inputs.iter().zip(&data).map(|(s, d)| Dense { shape: s.shape, data: d.clone() }).collect();
    let dense32: Vec<Dense<f32>> = inputs
        .iter()
        .zip(&data)
        .map(|(s, d)| Dense { shape: s.shape, data: d.iter().map(|&x| x as f32).collect() })
        .collect();
    let truth = op.reference64(&dense64, outputs);
    let plain = op.reference32(&dense32, outputs);
    let mut machine = Emulated::default();
    let mut place = |spec: &Spec, bytes: Option<Vec<u8>>| {
        let address = machine.allocate(spec.bytes()).unwrap();
        if let Some(bytes) = bytes {
            machine.upload(address, &bytes).unwrap();
        }
        lower::Operand { spec: *spec, address }
    };
    let ins: Vec<_> = inputs.iter().zip(&data).map(|(spec, d)| place(spec, Some(encode(*spec, d)))).collect();
    let outs: Vec<_> = outputs.iter().map(|spec| place(spec, None)).collect();
    let workspace = machine.allocate(lower::workspace_bytes(op, inputs, outputs).max(1)).unwrap();
    for launch in lower::launches(op, &name, &ins, &outs, workspace).unwrap() {
        if !machine.is_loaded(launch.family) {
            machine.load(launch.family, &images::find(launch.family, 90).unwrap().ptx()).unwrap();
        }
        machine.launch(&launch).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for (i, out) in outs.iter().enumerate() {
        let mut bytes = vec![0; out.spec.bytes()];
        machine.download(out.address, &mut bytes).unwrap();
        let got = decode(out.spec, &bytes);
        let plain: Vec<f64> = plain[i].data.iter().map(|&x| f64::from(x)).collect();
        let plain = decode(out.spec, &encode(out.spec, &plain));
        let allowed = 2.0 * distance(&truth[i].data, &plain) + ulp(&truth[i].data);
        let error = distance(&truth[i].data, &got);
        println!("{name} output {i}: error {error:e}, allowed {allowed:e}");
        assert!(error <= allowed, "{name} output {i}: error {error:e}, allowed {allowed:e}");
    }
}

const SHAPES: [(usize, usize, [usize; 3], usize, usize); 16] = [
    (3, 1, [1, 1, 1], 1, 1),
    (3, 2, [3, 5, 7], 3, 2),
    (3, 1, [2, 1, 17], 5, 17),
    (3, 1, [4, 4, 15], 16, 16),
    (3, 1, [3, 4, 6], 31, 33),
    (3, 1, [5, 9, 9], 24, 40),
    (3, 1, [2, 3, 4], 4, 65),
    (2, 1, [1, 1, 1], 2, 3),
    (2, 2, [3, 5, 4], 7, 5),
    (2, 1, [4, 6, 9], 16, 8),
    (2, 1, [4, 6, 9], 40, 72),
    (1, 2, [3, 2, 5], 2, 4),
    (1, 1, [1, 7, 11], 19, 3),
    (1, 1, [2, 3, 4], 12, 20),
    (1, 1, [5, 3, 4], 72, 80),
    (3, 1, [8, 16, 16], 32, 32),
];

fn convolutions(dtype: DType) {
    for (extent, n, volume, c, k) in SHAPES {
        let kernel = [extent; 3];
        let narrow = |shape: Shape| Spec::new(shape, dtype);
        let x = narrow(Volume { n, extent: volume, c }.shape());
        let y = narrow(Volume { n, extent: volume, c: k }.shape());
        let filter = narrow(conv3d::filter_shape(kernel, c, k));
        let bias = Spec::f32_vector(k);
        for relu in [false, true] {
            check(&Conv3d { kernel, relu }, &[x, filter, bias], &[y]);
        }
        check(&Conv3dDgrad { kernel }, &[y, filter], &[x]);
        check(&Conv3dWgrad { kernel }, &[x, y], &[Spec::f32(filter.shape), bias]);
    }
    let (x, y) = ([1, 3, 4, 5, 3], [1, 3, 4, 5, 4]);
    let (x, y, kernel) = (Spec::new(Shape::new(&x), dtype), Spec::new(Shape::new(&y), dtype), [1, 3, 2]);
    let filter = Spec::new(conv3d::filter_shape(kernel, 3, 4), dtype);
    check(&Conv3d { kernel, relu: true }, &[x, filter, Spec::f32_vector(4)], &[y]);
    check(&Conv3dDgrad { kernel }, &[y, filter], &[x]);
    check(&Conv3dWgrad { kernel }, &[x, y], &[Spec::f32(filter.shape), Spec::f32_vector(4)]);
}

fn transposed(dtype: DType) {
    for (n, [d, h, w], c, k) in [
        (1, [1, 1, 1], 1, 1),
        (2, [3, 2, 5], 3, 2),
        (1, [2, 9, 1], 17, 5),
        (1, [4, 3, 9], 32, 16),
        (1, [5, 3, 3], 72, 33),
    ] {
        let narrow = |shape: Shape| Spec::new(shape, dtype);
        let x = narrow(Volume { n, extent: [d, h, w], c }.shape());
        let y = narrow(Volume { n, extent: [2 * d, 2 * h, 2 * w], c: k }.shape());
        let filter = narrow(conv_transpose3d::filter_shape(c, k));
        check(&ConvTranspose3d, &[x, filter, Spec::f32_vector(k)], &[y]);
        check(&ConvTranspose3dDgrad, &[y, filter], &[x]);
        check(&ConvTranspose3dWgrad, &[x, y], &[Spec::f32(filter.shape), Spec::f32_vector(k)]);
    }
}

#[test]
fn convolutions_in_bf16() {
    convolutions(DType::Bf16);
}

#[test]
fn convolutions_in_fp16() {
    convolutions(DType::F16);
}

#[test]
fn transposed_convolutions_in_bf16() {
    transposed(DType::Bf16);
}

#[test]
fn transposed_convolutions_in_fp16() {
    transposed(DType::F16);
}

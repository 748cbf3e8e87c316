//! Arrays as the file holds them, and the exact way there from the order that Gyrus computes in.

use ndarray::ArrayViewD;

use crate::{Error, Result};

/// An fp32 array in a checkpoint: dense, row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensor {
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Elements, as many as the extents' product.
    pub data: Vec<f32>,
}

/// How a parameter lies in the file. In memory both kinds of filter are `[kD, kH, kW, in, out]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Filters of a convolution: `[out, in, kD, kH, kW]` in the file, as `torch.nn.Conv3d` has them.
    Convolution,
    /// Filters of a transposed convolution: `[in, out, kD, kH, kW]`, as `torch.nn.ConvTranspose3d` has them.
    Transposed,
    /// Anything else: as it is.
    Plain,
}

impl Layout {
    /// For each axis of the file, the axis in memory that it is. Both libraries correlate rather than convolve, and a
    /// transposed convolution scatters by the same index in both, so that no tap is mirrored.
    const fn axes(self) -> Option<[usize; 5]> {
        match self {
            Self::Convolution => Some([4, 3, 0, 1, 2]),
            Self::Transposed => Some([3, 4, 0, 1, 2]),
            Self::Plain => None,
        }
    }

    /// From memory order to the file's. A pure permutation: every bit pattern, NaNs included, arrives.
    ///
    /// # Panics
    /// When the elements do not fill the extents, or filters do not have five axes: both come from this crate.
    pub fn to_file(self, extents: &[usize], data: &[f32]) -> Tensor {
        assert_eq!(extents.iter().product::<usize>(), data.len(), "{extents:?} elements");
        let Some(axes) = self.axes() else { return Tensor { shape: extents.to_vec(), data: data.to_vec() } };
        assert_eq!(extents.len(), 5, "filters have five axes, not {extents:?}");
        let (shape, data) = permute(extents, data, axes);
        Tensor { shape, data }
    }

    /// From the file's order to memory order, for a parameter whose extents in memory are known.
    ///
    /// # Errors
    /// [`Error::Shape`] that names the parameter when the file's extents are not those of the parameter.
    pub fn to_memory(self, name: &str, extents: &[usize], tensor: &Tensor) -> Result<Vec<f32>> {
        let expected: Vec<usize> = match self.axes() {
            Some(axes) => axes.iter().map(|&axis| extents[axis]).collect(),
            None => extents.to_vec(),
        };
        if tensor.shape != expected {
            let cause = format!("the checkpoint holds extents {:?}, this network expects {expected:?}", tensor.shape);
            return Err(Error::shape(name, cause));
        }
        let Some(axes) = self.axes() else { return Ok(tensor.data.clone()) };
        let mut back = [0; 5];
        for (file, &memory) in axes.iter().enumerate() {
            back[memory] = file;
        }
        Ok(permute(&tensor.shape, &tensor.data, back).1)
    }
}

/// Axis `a` of the output is axis `axes[a]` of the input.
fn permute(extents: &[usize], input: &[f32], axes: [usize; 5]) -> (Vec<usize>, Vec<f32>) {
    let view = ArrayViewD::from_shape(extents, input).expect("the elements fill the extents");
    let view = view.permuted_axes(&axes[..]);
    (view.shape().to_vec(), view.iter().copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENTS: [usize; 5] = [2, 3, 1, 4, 5];

    fn filters() -> Vec<f32> {
        let elements: usize = EXTENTS.iter().product();
        (0..elements).map(|i| f32::from_bits(0x7fc0_0001 + i as u32)).collect()
    }

    fn bits(data: &[f32]) -> Vec<u32> {
        data.iter().map(|x| x.to_bits()).collect()
    }

    #[test]
    fn every_filter_tap_is_found_where_pytorch_looks_for_it() {
        let [kd, kh, kw, inputs, outputs] = EXTENTS;
        let data = filters();
        let conv = Layout::Convolution.to_file(&EXTENTS, &data);
        let transposed = Layout::Transposed.to_file(&EXTENTS, &data);
        assert_eq!(conv.shape, [outputs, inputs, kd, kh, kw]);
        assert_eq!(transposed.shape, [inputs, outputs, kd, kh, kw]);
        for (index, x) in data.iter().enumerate() {
            let (o, i) = (index % outputs, index / outputs % inputs);
            let tap = index / (outputs * inputs);
            let taps = kd * kh * kw;
            assert_eq!(conv.data[(o * inputs + i) * taps + tap].to_bits(), x.to_bits());
            assert_eq!(transposed.data[(i * outputs + o) * taps + tap].to_bits(), x.to_bits());
        }
    }

    #[test]
    fn the_way_to_the_file_and_back_keeps_every_bit() {
        let data = filters();
        for layout in [Layout::Convolution, Layout::Transposed, Layout::Plain] {
            let there = layout.to_file(&EXTENTS, &data);
            assert_eq!(bits(&layout.to_memory("w", &EXTENTS, &there).unwrap()), bits(&data), "{layout:?}");
        }
    }

    #[test]
    fn other_extents_are_refused_by_the_parameters_name() {
        let there = Layout::Convolution.to_file(&EXTENTS, &filters());
        let refused = Layout::Transposed.to_memory("head.filter", &EXTENTS, &there).unwrap_err();
        let cause = "head.filter: the checkpoint holds extents [5, 4, 2, 3, 1], this network expects [4, 5, 2, 3, 1]";
        assert_eq!(refused.to_string(), cause);
    }
}

//! What an operation sees while it turns itself into launches.
//!
//! Lowering is a pure function of specs and addresses. This context knows nothing of operations: whoever lowers one makes it,
//! hands it over, and takes the launches out.

use std::sync::Arc;

use super::{Access, Arguments, Kernel, Launch};
use crate::{Error, Result, tensor::Spec};

/// The most CTAs of a kernel whose threads stride over all elements: enough to fill any GPU several times over, few enough
/// that starting them costs nothing.
const MOST_CTAS: u64 = 1 << 14;

/// Scratch ranges begin at multiples of this.
const ALIGNMENT: usize = 256;

/// An operand with its address.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// Extents and element type.
    pub spec: Spec,
    /// First byte on the device.
    pub address: u64,
}

/// Collects the launches of one node.
#[derive(Debug)]
pub struct Lower<'a> {
    name: &'a str,
    inputs: &'a [Operand],
    outputs: &'a [Operand],
    workspace: u64,
    workspace_bytes: usize,
    launches: Vec<Launch>,
    padding: Vec<Access>,
}

impl<'a> Lower<'a> {
    /// A context for one node; the workspace begins at this address.
    pub fn new(name: &'a str, inputs: &'a [Operand], outputs: &'a [Operand], workspace: u64) -> Self {
        Self { name, inputs, outputs, workspace, workspace_bytes: 0, launches: Vec::new(), padding: Vec::new() }
    }

    /// The launches, with everything they may touch.
    pub fn finish(self) -> Vec<Launch> {
        let access: Arc<[Access]> = self.access().into();
        self.launches.into_iter().map(|launch| Launch { access: access.clone(), ..launch }).collect()
    }

    /// The launches so far. What they may touch is filled in by [`Self::finish`].
    pub fn launched(&self) -> &[Launch] {
        &self.launches
    }

    /// Scratch bytes that were asked for so far.
    pub fn workspace_bytes(&self) -> usize {
        self.workspace_bytes
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// Specs and addresses of an input.
    pub fn input(&self, index: usize) -> Operand {
        self.inputs[index]
    }

    /// Specs and addresses of an output.
    pub fn output(&self, index: usize) -> Operand {
        self.outputs[index]
    }

    /// The address of so many scratch bytes. Each call gives other ones.
    pub fn workspace(&mut self, bytes: usize) -> u64 {
        let address = self.workspace + self.workspace_bytes as u64;
        self.workspace_bytes += bytes.next_multiple_of(ALIGNMENT);
        address
    }

    /// Starts a kernel on this grid.
    pub fn launch<A: Arguments>(&mut self, kernel: &Kernel<A>, grid: [u64; 3], arguments: &A) -> Result<()> {
        let limits = [i32::MAX as u64, 65_535, 65_535];
        if grid.iter().zip(limits).any(|(&extent, limit)| extent == 0 || extent > limit) {
            let cause = format!("{} cannot run on a grid of {grid:?} blocks: the volume is too large", kernel.name());
            return Err(Error::shape(self.name, cause));
        }
        self.launches.push(Launch {
            family: kernel.family(),
            kernel: kernel.name(),
            compute: kernel.compute(),
            grid: grid.map(|extent| extent as u32),
            block: [kernel.threads(), 1, 1],
            shared: 0,
            arguments: bytemuck::bytes_of(arguments).to_vec(),
            access: Arc::default(),
        });
        Ok(())
    }

    /// Starts a kernel whose threads stride over this many items.
    pub fn launch_over<A: Arguments>(&mut self, kernel: &Kernel<A>, items: usize, arguments: &A) -> Result<()> {
        let ctas = (items as u64).div_ceil(u64::from(kernel.threads())).clamp(1, MOST_CTAS);
        self.launch(kernel, [ctas, 1, 1], arguments)
    }

    /// Lets the launches run over bytes between operands, too: a flat launch over neighbours crosses their padding.
    pub fn cross_padding(&mut self, address: u64, bytes: u64) {
        self.padding.push(Access { address, bytes, is_written: true });
    }

    fn access(&self) -> Vec<Access> {
        let range = |operand: &Operand, is_written| {
            let bytes = operand.spec.bytes() as u64;
            Access { address: operand.address, bytes, is_written }
        };
        let written: Vec<Access> = self.outputs.iter().map(|operand| range(operand, true)).collect();
        // An input whose bytes an output takes over is covered by the output.
        let is_taken = |input: &Access| written.iter().any(|output| output.address == input.address);
        let read = self.inputs.iter().map(|operand| range(operand, false)).filter(|input| !is_taken(input));
        let mut list: Vec<Access> = read.chain(written.iter().copied()).chain(self.padding.iter().copied()).collect();
        if self.workspace_bytes > 0 {
            list.push(Access { address: self.workspace, bytes: self.workspace_bytes as u64, is_written: true });
        }
        list.retain(|access| access.bytes > 0);
        list.sort_by_key(|access| (access.address, access.bytes));
        list.dedup();
        list
    }
}

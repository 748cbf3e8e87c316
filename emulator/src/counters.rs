//! What a launch did, counted. The numbers depend on the kernel and its data only, so they can guard performance in
//! tests where a clock cannot.

use std::fmt::{self, Display, Write};

macro_rules! classes {
    ($($variant:ident $name:literal),* $(,)?) => {
        /// Kinds of instruction.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum Class { $($variant),* }

        impl Class {
            /// All kinds, in table order.
            pub const ALL: [Class; [$($name),*].len()] = [$(Class::$variant),*];

            /// The name used in tables.
            pub fn name(self) -> &'static str {
                match self { $(Class::$variant => $name),* }
            }
        }
    };
}

classes! {
    Integer "integer",
    Float32 "float32",
    Float64 "float64",
    Half "half",
    Special "special_function",
    Convert "convert",
    Predicate "predicate",
    Move "move",
    Control "control",
    LoadGlobal "load_global",
    StoreGlobal "store_global",
    LoadShared "load_shared",
    StoreShared "store_shared",
    LoadOther "load_other",
    StoreOther "store_other",
    Atomic "atomic",
    AsyncCopy "async_copy",
    Warp "warp_collective",
    Barrier "barrier",
    Tensor "tensor",
}

/// Counters of one launch, or of several added together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Warp instructions by [`Class`].
    pub instructions: [u64; Class::ALL.len()],
    /// Active lanes summed over these instructions.
    pub lanes: [u64; Class::ALL.len()],
    /// Floating-point operations of tensor instructions (a multiply-add is two).
    pub tensor_flops: u64,
    /// Floating-point operations of scalar and packed arithmetic (a multiply-add is two).
    pub scalar_flops: u64,
    /// Bytes that lanes asked to load from global memory.
    pub global_load_bytes: u64,
    /// Bytes that lanes asked to store to global memory.
    pub global_store_bytes: u64,
    /// Warp-wide requests to global memory.
    pub global_requests: u64,
    /// Distinct 32-byte sectors over these requests.
    pub global_sectors: u64,
    /// Warp-wide requests to shared memory.
    pub shared_requests: u64,
    /// Extra passes that shared-memory bank conflicts cost.
    pub bank_conflicts: u64,
    /// Branches on which a warp split.
    pub divergent_branches: u64,
    /// Barriers that a warp met.
    pub barriers: u64,
    /// CTAs that ran.
    pub ctas: u64,
    /// Warps that ran.
    pub warps: u64,
}

impl Counters {
    /// Warp instructions of all classes.
    pub fn total_instructions(&self) -> u64 {
        self.instructions.iter().sum()
    }

    /// Lane instructions of all classes.
    pub fn total_lanes(&self) -> u64 {
        self.lanes.iter().sum()
    }

    /// Instructions of one class.
    pub fn of(&self, class: Class) -> u64 {
        self.instructions[class as usize]
    }

    /// Name and value of every counter in a fixed order.
    pub fn rows(&self) -> Vec<(String, u64)> {
        let mut rows = vec![
            ("instructions".to_owned(), self.total_instructions()),
            ("lane_instructions".to_owned(), self.total_lanes()),
        ];
        for class in Class::ALL {
            rows.push((format!("instructions.{}", class.name()), self.instructions[class as usize]));
            rows.push((format!("lanes.{}", class.name()), self.lanes[class as usize]));
        }
        let rest = [
            ("tensor_flops", self.tensor_flops),
            ("scalar_flops", self.scalar_flops),
            ("global_load_bytes", self.global_load_bytes),
            ("global_store_bytes", self.global_store_bytes),
            ("global_requests", self.global_requests),
            ("global_sectors", self.global_sectors),
            ("shared_requests", self.shared_requests),
            ("bank_conflicts", self.bank_conflicts),
            ("divergent_branches", self.divergent_branches),
            ("barriers", self.barriers),
            ("ctas", self.ctas),
            ("warps", self.warps),
        ];
        rows.extend(rest.map(|(name, value)| (name.to_owned(), value)));
        rows
    }

    /// One JSON object with the rows in order.
    pub fn to_json(&self) -> String {
        let mut text = String::from("{");
        for (i, (name, value)) in self.rows().iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            let _ = write!(text, "{comma}\"{name}\": {value}");
        }
        text.push('}');
        text
    }

    /// Adds another launch's counters.
    pub fn add(&mut self, other: &Counters) {
        for i in 0..self.instructions.len() {
            self.instructions[i] += other.instructions[i];
            self.lanes[i] += other.lanes[i];
        }
        self.tensor_flops += other.tensor_flops;
        self.scalar_flops += other.scalar_flops;
        self.global_load_bytes += other.global_load_bytes;
        self.global_store_bytes += other.global_store_bytes;
        self.global_requests += other.global_requests;
        self.global_sectors += other.global_sectors;
        self.shared_requests += other.shared_requests;
        self.bank_conflicts += other.bank_conflicts;
        self.divergent_branches += other.divergent_branches;
        self.barriers += other.barriers;
        self.ctas += other.ctas;
        self.warps += other.warps;
    }
}

impl Display for Counters {
    /// A table of the counters that are not zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.rows() {
            if value != 0 {
                writeln!(f, "{name:<32} {value:>16}")?;
            }
        }
        Ok(())
    }
}

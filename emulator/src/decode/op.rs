//! Decoded instructions: names resolved to register slots, types and modifiers resolved to functions over 32 lanes.

use crate::counters::Class;
use crate::execute::Registers;
use crate::memory::{AtomicOp, D, W};
use crate::syntax::{Location, Space};

/// A slot of the 32-bit, the 64-bit or the predicate file.
pub(crate) type Slot = u32;

/// Functions over the rows of whole registers.
pub(crate) type Fn1<A, R> = Box<dyn Fn(&A) -> R + Send + Sync>;
pub(crate) type Fn2<A, B, R> = Box<dyn Fn(&A, &B) -> R + Send + Sync>;
pub(crate) type Fn3<A, B, C, R> = Box<dyn Fn(&A, &B, &C) -> R + Send + Sync>;
pub(crate) type Fn4<A, B, C, E, R> = Box<dyn Fn(&A, &B, &C, &E) -> R + Send + Sync>;

/// Works on the register file itself, for the lanes of a mask.
pub(crate) type Direct = Box<dyn Fn(&mut Registers, u32) + Send + Sync>;

/// A predicate operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pred {
    pub slot: Slot,
    pub negated: bool,
}

/// A destination of either width; 16-bit values live in 32-bit slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reg {
    W(Slot),
    D(Slot),
}

/// Register plus offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub base: Option<Reg>,
    pub offset: i64,
}

/// How a loaded value fills its register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extend {
    Zero,
    /// From so many bits, as far as the declared width of the register.
    Sign {
        bits: u32,
        cover: u64,
    },
}

/// How an access orders others: weak ones do not, and race with whatever happens at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Order {
    /// Volatile, relaxed, or one of the following.
    pub strong: bool,
    pub acquires: bool,
    pub releases: bool,
    /// Whether it is for other CTAs as well.
    pub device: bool,
}

pub(crate) struct Transfer {
    pub space: Space,
    pub order: Order,
    /// Whether it goes by a cache that sees no writes of the launch.
    pub read_only: bool,
    /// Bytes per element.
    pub bytes: u32,
    /// Elements; `None` is a sink, or on stores never.
    pub registers: Vec<Option<Reg>>,
    pub extend: Extend,
    pub address: Address,
}

impl Transfer {
    pub(crate) fn total(&self) -> u32 {
        self.bytes * self.registers.len() as u32
    }
}

pub(crate) struct Atomic {
    pub space: Space,
    pub order: Order,
    pub op: AtomicOp,
    pub address: Address,
    pub result: Option<Reg>,
    pub b: Reg,
    pub c: Option<Reg>,
}

/// How `setp` joins its comparison with another predicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    And,
    Or,
    Xor,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct SetTarget {
    pub result: Slot,
    pub complement: Option<Slot>,
    pub join: Option<(Join, Pred)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShuffleMode {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VoteMode {
    All,
    Any,
    Uniform,
    Ballot,
}

/// Warp-wide operations with a member mask.
pub(crate) enum Collective {
    Sync,
    Shuffle { mode: ShuffleMode, d: Slot, in_range: Option<Slot>, a: Slot, b: Slot, c: Slot },
    Vote { mode: VoteMode, d: Slot, a: Pred },
    MatchAnyW { d: Slot, a: Slot },
    MatchAnyD { d: Slot, a: Slot },
    MatchAllW { d: Slot, same: Option<Slot>, a: Slot },
    MatchAllD { d: Slot, same: Option<Slot>, a: Slot },
    Redux { d: Slot, a: Slot, f: Box<dyn Fn(u32, u32) -> u32 + Send + Sync> },
    Elect { d: Option<Slot>, p: Slot },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BarrierMode {
    Sync,
    Arrive,
    Popc(Slot, Pred),
    And(Slot, Pred),
    Or(Slot, Pred),
}

#[derive(Debug)]
pub(crate) struct Barrier {
    pub mode: BarrierMode,
    pub id: Slot,
    pub count: Option<Slot>,
    pub aligned: bool,
}

/// What carries do in extended-precision arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CarryKind {
    Add,
    Sub,
    /// `mad.lo.cc`, `madc.lo`, ...
    MadLow,
    MadHigh,
}

#[derive(Debug)]
pub(crate) struct Carry {
    pub kind: CarryKind,
    pub wide: bool,
    pub signed: bool,
    pub carry_in: bool,
    pub carry_out: bool,
    pub d: Slot,
    pub a: Slot,
    pub b: Slot,
    pub c: Slot,
}

/// An operation that few kernels use often: kept behind one pointer with its own executor.
pub(crate) trait Rare: Send + Sync {
    fn execute(&self, cx: &mut crate::execute::Context<'_, '_>, mask: u32) -> crate::fault::Checked<Outcome>;
}

/// What a rare operation asks of the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Next,
    /// A wait that failed: let other warps run before the next instruction.
    Yield,
}

pub(crate) enum Op {
    MovW(Slot, Slot),
    MovD(Slot, Slot),
    W1(Fn1<W, W>, Slot, Slot),
    W2(Fn2<W, W, W>, Slot, Slot, Slot),
    W3(Fn3<W, W, W, W>, Slot, Slot, Slot, Slot),
    W4(Fn4<W, W, W, W, W>, Slot, [Slot; 4]),
    D1(Fn1<D, D>, Slot, Slot),
    D2(Fn2<D, D, D>, Slot, Slot, Slot),
    D3(Fn3<D, D, D, D>, Slot, Slot, Slot, Slot),
    /// 64-bit result of one, two 32-bit operands.
    WtoD(Fn1<W, D>, Slot, Slot),
    WWtoD(Fn2<W, W, D>, Slot, Slot, Slot),
    WWDtoD(Fn3<W, W, D, D>, Slot, Slot, Slot, Slot),
    DWtoD(Fn2<D, W, D>, Slot, Slot, Slot),
    DtoW(Fn1<D, W>, Slot, Slot),
    DDtoW(Fn2<D, D, W>, Slot, Slot, Slot),
    /// Anything register to register with mixed widths: reads and writes the file itself.
    Mixed(Direct),
    SetW(Fn2<W, W, u32>, SetTarget, Slot, Slot),
    SetD(Fn2<D, D, u32>, SetTarget, Slot, Slot),
    SelectW(Slot, Slot, Slot, Pred),
    SelectD(Slot, Slot, Slot, Pred),
    Predicate(Box<dyn Fn(u32, u32) -> u32 + Send + Sync>, Slot, Pred, Pred),
    Carry(Carry),
    Clock(Reg),
    ActiveMask(Slot),
    Branch(u32),
    BranchIndexed(Slot, Vec<u32>),
    Exit,
    Trap(String),
    Nop,
    Load(Box<Transfer>),
    Store(Box<Transfer>),
    Atomic(Box<Atomic>),
    Barrier(Barrier),
    Collective(Slot, Collective),
    Fence {
        device: bool,
    },
    /// `fence.proxy.async` for shared memory.
    ProxyFence,
    Rare(Box<dyn Rare>),
}

/// A few registers, at most four, without a way through another pointer: loops over matrices name so many that following
/// pointers to them would cost more than the work. The places left over repeat the last one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Few {
    count: u8,
    slots: [Slot; 4],
}

impl Few {
    /// The list, or `None` if it has no element or more than four.
    pub(crate) fn new(list: &[Slot]) -> Option<Few> {
        let last = *list.last()?;
        (list.len() <= 4).then(|| Few {
            count: list.len() as u8,
            slots: std::array::from_fn(|i| list.get(i).copied().unwrap_or(last)),
        })
    }

    /// All four places.
    #[inline(always)]
    pub(crate) fn places(&self) -> [Slot; 4] {
        self.slots
    }
}

impl std::ops::Deref for Few {
    type Target = [Slot];

    #[inline(always)]
    fn deref(&self) -> &[Slot] {
        &self.slots[..self.count as usize]
    }
}

/// A decoded instruction: what every execution reads.
pub(crate) struct Instruction {
    pub op: Op,
    pub guard: Option<Pred>,
    pub class: Class,
    /// Floating-point operations per lane.
    pub flops: u32,
    pub about: Box<About>,
}

/// What diagnostics read of an instruction.
pub(crate) struct About {
    pub line: u32,
    pub location: Option<Location>,
    pub opcode: String,
    /// The 32-bit registers it names; kept for kernels with products that take effect later. Those name the fragments
    /// of A alone: their sums may follow one another.
    pub named: Box<[Slot]>,
}

/// Registers that hold facts about the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Tid(usize),
    Ntid(usize),
    Ctaid(usize),
    Nctaid(usize),
    LaneId,
    WarpId,
    Nwarpid,
    Smid,
    Nsmid,
    LanemaskEq,
    LanemaskLe,
    LanemaskLt,
    LanemaskGe,
    LanemaskGt,
    DynamicShared,
    TotalShared,
    /// Where dynamic shared memory begins; known when the kernel is decoded to its end.
    DynamicBase,
}

/// A kernel parameter's place in the argument block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in the PTX.
    pub name: String,
    /// Byte offset in the argument block.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// Required alignment.
    pub alignment: u32,
}

/// A kernel, ready to run.
pub(crate) struct Kernel {
    pub name: String,
    pub instructions: Vec<Instruction>,
    /// Slots of each file.
    pub words: u32,
    pub doubles: u32,
    pub predicates: u32,
    pub word_constants: Vec<(Slot, u32)>,
    pub double_constants: Vec<(Slot, u64)>,
    pub predicate_constants: Vec<(Slot, u32)>,
    pub specials: Vec<(Slot, Special)>,
    pub parameters: Vec<Parameter>,
    pub parameter_bytes: u32,
    pub static_shared: u32,
    pub local_bytes: u32,
    pub max_threads: Option<[u32; 3]>,
    pub required_threads: Option<[u32; 3]>,
    pub registers_declared: u32,
    pub files: std::sync::Arc<std::collections::BTreeMap<u32, String>>,
    /// Whether the result depends on the order in which CTAs run: then they run one after the other.
    pub ordered: bool,
    pub has_fences: bool,
    /// Whether anything reads shared memory through the asynchronous proxy.
    pub has_proxies: bool,
}

//! What can be wrong with a launch, and where it went wrong.

use std::fmt;

/// The rule that a launch broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// An access outside every allocation, or outside shared, local or parameter memory.
    OutOfBounds,
    /// An access to an allocation that was freed.
    UseAfterFree,
    /// An access outside the ranges that [`LaunchConfig::access`](crate::LaunchConfig::access) declares.
    AccessDenied,
    /// A write to constant memory.
    ReadOnly,
    /// An address that is not a multiple of what the access needs.
    Misaligned,
    /// A read of bytes that nothing has written.
    Uninitialised,
    /// Two threads of a CTA touch the same shared byte, one writing, with no barrier between.
    SharedRace,
    /// Two CTAs of one launch touch the same global byte, one writing, with no synchronisation.
    GlobalRace,
    /// A read through the read-only cache (`ld.global.nc`, `__ldg`) of bytes that the same launch has written.
    StaleRead,
    /// An access to bytes that an unfinished asynchronous copy reads or writes, or the end of a CTA before a bulk store has read
    /// its shared memory.
    AsyncInFlight,
    /// A read through the asynchronous proxy (`wgmma`, bulk copies) of shared memory that plain stores wrote, without
    /// `fence.proxy.async` between.
    ProxyFence,
    /// Threads of one warp at different barriers, or a barrier that cannot complete.
    BarrierDivergence,
    /// A `.sync` instruction whose member mask does not match the lanes that execute it.
    SyncMask,
    /// A block, grid or shared-memory request beyond what the kernel declares or the device has.
    LaunchTooLarge,
    /// Arguments that do not match the kernel's parameters.
    BadArguments,
    /// Bytes that the launch was to write and did not.
    NotWritten,
    /// No thread can make progress.
    Deadlock,
    /// The step limit was reached.
    StepLimit,
    /// The time limit was reached.
    TimeLimit,
    /// `trap` or a failed device assertion.
    Trap,
    /// An operand value that PTX leaves undefined, for example a malformed descriptor.
    BadOperand,
}

impl FaultKind {
    /// A short name, as printed.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::OutOfBounds => "out of bounds",
            FaultKind::UseAfterFree => "use after free",
            FaultKind::AccessDenied => "access outside the declared ranges",
            FaultKind::ReadOnly => "write to constant memory",
            FaultKind::Misaligned => "misaligned access",
            FaultKind::Uninitialised => "read of uninitialised memory",
            FaultKind::SharedRace => "shared-memory race",
            FaultKind::GlobalRace => "global-memory race",
            FaultKind::StaleRead => "read-only read of written memory",
            FaultKind::AsyncInFlight => "access to an unfinished asynchronous copy",
            FaultKind::ProxyFence => "missing proxy fence",
            FaultKind::BarrierDivergence => "barrier divergence",
            FaultKind::SyncMask => "member mask mismatch",
            FaultKind::LaunchTooLarge => "launch too large",
            FaultKind::BadArguments => "bad arguments",
            FaultKind::NotWritten => "output not written",
            FaultKind::Deadlock => "deadlock",
            FaultKind::StepLimit => "step limit reached",
            FaultKind::TimeLimit => "time limit reached",
            FaultKind::Trap => "trap",
            FaultKind::BadOperand => "bad operand",
        }
    }
}

/// Where in the grid and in the texts a fault happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Block index.
    pub cta: [u32; 3],
    /// Thread index within the block.
    pub thread: [u32; 3],
    /// Line of the PTX text.
    pub ptx_line: u32,
    /// The instruction's opcode with modifiers.
    pub instruction: String,
    /// File and line of the source, from the line table.
    pub source: Option<(String, u32)>,
}

/// A launch that broke a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which rule.
    pub kind: FaultKind,
    /// The kernel.
    pub kernel: String,
    /// The place, unless the launch as a whole is at fault.
    pub site: Option<Site>,
    /// The particulars.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.kernel, self.kind.name(), self.message)?;
        if let Some(site) = &self.site {
            write!(
                f,
                "; CTA {:?}, thread {:?}, `{}`, PTX line {}",
                site.cta, site.thread, site.instruction, site.ptx_line
            )?;
            if let Some((file, line)) = &site.source {
                write!(f, ", {file}:{line}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// A fault before its place is known: memories know lanes, the executor knows the rest.
#[derive(Debug)]
pub(crate) struct Problem {
    pub kind: FaultKind,
    pub lane: u32,
    pub message: String,
}

/// A plain read of what atomics of other threads write. It is harmless where the thread goes on to exchange the word, and
/// so learns whether it has read the latest value; otherwise it is a race.
#[derive(Debug)]
pub(crate) struct Suspect {
    pub lane: usize,
    pub address: u64,
    /// The instruction that reads; filled in by whoever knows.
    pub at: u32,
    pub problem: Box<Problem>,
}

pub(crate) type Checked<T = ()> = Result<T, Box<Problem>>;

pub(crate) fn problem<T>(kind: FaultKind, lane: usize, message: impl Into<String>) -> Checked<T> {
    Err(Box::new(Problem { kind, lane: lane as u32, message: message.into() }))
}

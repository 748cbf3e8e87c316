//! Lets drivers load PTX that are older than the compiler that wrote it.
//!
//! A driver refuses a text whose `.version` is newer than itself, and nvcc writes its own version, the newest, on everything:
//! 9.0 of nvcc 13 shuts out whoever has no driver of release 580. The text itself needs far less. So the version is lowered to
//! the one that its target and its instructions need, by this rule:
//!
//! - 8.0 (CUDA 12.0, release 525): the first with `wgmma`, `cp.async.bulk` and `mbarrier.expect_tx`, which the kernels use;
//! - higher where a line holds a word of [`NEWER`];
//! - lines that hold a hint and no instruction, and are newer than 8.0, go.
//!
//! A word that [`NEWER`] lacks cannot pass: `scripts/check-ptx` assembles every text with the compiler of CUDA 12.0.

/// A version of the PTX language: major, minor.
pub type Version = (u32, u32);

/// What every text is at the least.
pub const OLDEST: Version = (8, 0);

/// Words that need more than [`OLDEST`], and the version that brought them. Not complete: what nvcc may write of its own
/// accord, and what a kernel for a newer generation is likely to use.
const NEWER: [(&str, Version); 16] = [
    ("st.async", (8, 1)),
    ("red.async", (8, 1)),
    ("multimem.", (8, 1)),
    ("wgmma.mma_async.sp", (8, 2)),
    ("tensormap.", (8, 3)),
    (".b128", (8, 3)),
    (".target sm_10", (8, 6)),
    ("tcgen05.", (8, 6)),
    ("clusterlaunchcontrol.", (8, 6)),
    ("st.bulk", (8, 6)),
    (".f32x2", (8, 6)),
    (".e2m1", (8, 6)),
    (".target sm_12", (8, 7)),
    (".kind::", (8, 7)),
    (".v8.", (8, 8)),
    (".blocksareclusters", (9, 0)),
];

/// Tells loads which bytes of a vector are used. Came with 8.3; without it they are all taken to be.
const HINT: &str = ".pragma \"used_bytes_mask ";

/// The text with the version that it needs.
pub fn lower(text: &str) -> String {
    let is_hint = |line: &&str| line.trim_start().starts_with(HINT);
    let version = needed(text);
    let mut lowered = String::with_capacity(text.len());
    for line in text.lines().filter(|line| !is_hint(line)) {
        if line.starts_with(".version ") {
            lowered += &format!(".version {}.{}", version.0, version.1);
        } else {
            lowered += line;
        }
        lowered.push('\n');
    }
    lowered
}

fn needed(text: &str) -> Version {
    let of_line = |line: &str| NEWER.iter().filter(|(word, _)| line.contains(word)).map(|&(_, version)| version).max();
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.filter_map(of_line).fold(OLDEST, Version::max)
}

//! The compiled kernels that the crate carries; `build.rs` says where they come from.

use std::io::Read;

use crate::{Error, Result};

/// PTX of one family of kernels for one target.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// The `.cu` file without extension.
    pub family: &'static str,
    /// Such as `compute_80`, or `compute_90a` for code that runs on that very device only.
    pub target: &'static str,
    compressed: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// All compiled kernels.
pub fn all() -> &'static [Image] {
    IMAGES
}

/// The newest version of a family that a device of this compute capability (times ten) can run.
///
/// # Errors
/// If the crate was built without it.
pub fn find(family: &str, compute: u32) -> Result<&'static Image> {
    let fitting = IMAGES.iter().filter(|image| image.family == family && runs_on(image.target, compute));
    fitting.max_by_key(|image| image.number()).ok_or_else(|| {
        let cause = if MISSING.iter().any(|name| name.split('.').next() == Some(family)) {
            format!(
                "the kernels of {family} are not in this build: their sources changed and no CUDA compiler was there"
            )
        } else {
            format!("no kernels of {family} for compute capability {}.{}", compute / 10, compute % 10)
        };
        Error::usage("device", cause, "run scripts/setup-cuda and build again, or use `device = cpu`")
    })
}

/// Whether this build has every kernel that is made for a device of this compute capability (times ten). Some families
/// begin with a newer one.
///
/// # Errors
/// The first that is not.
pub fn check(compute: u32) -> Result<()> {
    let missing = MISSING.iter().filter_map(|name| name.split_once('.'));
    missing.filter(|(_, target)| runs_on(target, compute)).try_for_each(|(family, _)| find(family, compute).map(|_| ()))
}

impl Image {
    /// The PTX text.
    pub fn ptx(&self) -> String {
        let mut text = String::new();
        flate2::read::GzDecoder::new(self.compressed)
            .read_to_string(&mut text)
            .expect("the build script compressed this text itself or compared its hash");
        text
    }

    /// The number in `compute_90a`.
    pub fn number(&self) -> u32 {
        number(self.target)
    }
}

fn number(target: &str) -> u32 {
    target.trim_start_matches("compute_").trim_end_matches('a').parse().unwrap_or(u32::MAX)
}

fn runs_on(target: &str, compute: u32) -> bool {
    if target.ends_with('a') { number(target) == compute } else { number(target) <= compute }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_devices_get_the_newest_code_that_they_can_run() {
        for (compute, at_most) in [(75, 75), (86, 86), (90, 90), (120, 120)] {
            let image = find("relu", compute).unwrap();
            assert!(image.number() <= at_most, "{compute} got {}", image.target);
            assert!(image.ptx().contains(".visible .entry relu("));
        }
        for (compute, target) in [(80, "compute_80"), (89, "compute_80"), (90, "compute_90a"), (100, "compute_80")] {
            assert_eq!(find("conv3d_bf16", compute).unwrap().target, target, "{compute}");
        }
        assert!(find("relu", 70).unwrap_err().to_string().contains("compute capability 7.0"));
    }
}

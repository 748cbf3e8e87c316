//! What the driver's compiler says about PTX that it refuses.

use std::{ffi::c_void, ptr};

use cudarc::driver::sys::CUjit_option;

/// Bytes of each log. The compiler writes no more than it is told that there are.
const BYTES: usize = 8 << 10;

/// Lines of the log that an error quotes: the first says what is wrong, the rest mostly follows from it.
const QUOTED: usize = 3;

/// Buffers that the compiler writes into while a module is loaded.
#[derive(Debug)]
pub(super) struct JitLog {
    error: Vec<u8>,
    info: Vec<u8>,
}

impl JitLog {
    /// How many options there are.
    pub(super) const OPTIONS: usize = 4;

    /// Empty ones.
    pub(super) fn new() -> Self {
        Self { error: vec![0; BYTES], info: vec![0; BYTES] }
    }

    /// Options for `cuModuleLoadDataEx` and their values, which the driver takes as pointers whatever they are. The pointers
    /// stay good while the log is borrowed, and the driver may write through them during the call.
    pub(super) fn options(&mut self) -> ([CUjit_option; Self::OPTIONS], [*mut c_void; Self::OPTIONS]) {
        let options = [
            CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
            CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
            CUjit_option::CU_JIT_INFO_LOG_BUFFER,
            CUjit_option::CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES,
        ];
        let number = ptr::without_provenance_mut::<c_void>;
        let (error_bytes, info_bytes) = (self.error.len(), self.info.len());
        let values =
            [self.error.as_mut_ptr().cast(), number(error_bytes), self.info.as_mut_ptr().cast(), number(info_bytes)];
        (options, values)
    }

    /// The first lines that say something, in one; of the errors, or else of the rest. Empty if there are none.
    pub(super) fn quote(&self) -> String {
        [&self.error, &self.info]
            .into_iter()
            .map(|log| first_lines(log))
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    }
}

fn first_lines(log: &[u8]) -> String {
    let written = log.split(|&byte| byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(written);
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty()).take(QUOTED).collect::<Vec<_>>().join("; ")
}

/// What a PTX text says that it needs: `PTX 8.0 for sm_80`.
pub(super) fn needs(ptx: &str) -> String {
    let of = |directive: &str| {
        let rest = ptx.lines().find_map(|line| line.strip_prefix(directive))?;
        rest.split([' ', ',', '/']).find(|word| !word.is_empty())
    };
    format!("PTX {} for {}", of(".version ").unwrap_or("of no version"), of(".target ").unwrap_or("no target"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::images;

    fn holding(error: &str, info: &str) -> JitLog {
        let mut log = JitLog::new();
        log.error[..error.len()].copy_from_slice(error.as_bytes());
        log.info[..info.len()].copy_from_slice(info.as_bytes());
        log
    }

    #[test]
    fn a_refusal_quotes_the_first_lines_of_the_compilers_log_in_one_line() {
        let said = "ptxas application ptx input, line 9; fatal   : Unsupported .version 9.0; current version is '8.0'\n\n\
                    ptxas fatal   : Ptx assembly aborted due to errors\n";
        assert_eq!(
            holding(said, "info").quote(),
            "ptxas application ptx input, line 9; fatal : Unsupported .version 9.0; current version is '8.0'; \
             ptxas fatal : Ptx assembly aborted due to errors"
        );
        assert_eq!(holding("1\n2\n3\n4\n", "").quote(), "1; 2; 3");
        assert_eq!(holding(" \n", "said elsewhere").quote(), "said elsewhere");
        assert_eq!(holding("", "").quote(), "");
    }

    #[test]
    fn a_log_that_was_filled_to_its_end_or_cut_within_a_letter_is_still_text() {
        let mut log = JitLog::new();
        log.error.fill(b'x');
        *log.error.last_mut().unwrap() = 0xc3;
        assert!(log.quote().starts_with("xxx") && log.quote().ends_with('\u{fffd}'));
    }

    #[test]
    fn each_buffer_is_passed_with_its_own_length() {
        let mut log = JitLog::new();
        let (error, info) = (log.error.as_ptr().addr(), log.info.as_ptr().addr());
        let (options, values) = log.options();
        let pairs: Vec<(u32, usize)> =
            options.iter().zip(values).map(|(&option, value)| (option as u32, value.addr())).collect();
        // The numbers are those of the driver's interface.
        assert_eq!(pairs, [(5, error), (6, BYTES), (3, info), (4, BYTES)]);
    }

    #[test]
    fn every_compiled_kernel_says_what_it_needs() {
        for image in images::all() {
            let target = image.target.replace("compute", "sm");
            assert_eq!(needs(&image.ptx()), format!("PTX 8.0 for {target}"), "{}", image.family);
        }
        assert_eq!(needs(""), "PTX of no version for no target");
    }
}

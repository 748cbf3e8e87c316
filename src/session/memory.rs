//! Whether the machine has the memory that a plan asks for.

use std::{fs, path::Path};

use crate::{Error, Result};

/// Bytes that this process may still take without anything being killed: the machine's, or its control group's if that
/// is tighter. None where the system does not say.
pub(super) fn available() -> Option<usize> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| of_machine(&text));
    let number = |name: &str| {
        let text = fs::read_to_string(Path::new("/sys/fs/cgroup").join(name)).ok()?;
        text.trim().parse::<usize>().ok() // "max" where there is no limit
    };
    let group = number("memory.max").zip(number("memory.current")).map(|(most, used)| most.saturating_sub(used));
    machine.into_iter().chain(group).min()
}

/// Refuses more bytes than there are.
///
/// # Errors
/// [`Error::Memory`] with both numbers.
pub(super) fn require(bytes: usize, available: Option<usize>) -> Result<()> {
    if available.is_some_and(|available| bytes > available) {
        return Err(refused(bytes, available));
    }
    Ok(())
}

/// The error for bytes that cannot be had.
pub(super) fn refused(bytes: usize, available: Option<usize>) -> Error {
    let gib = |bytes: usize| bytes as f64 / f64::from(1 << 30);
    let available =
        available.map_or("the system refuses them".into(), |available| format!("{:.2} GiB are free", gib(available)));
    Error::Memory {
        cause: format!("memory: {:.2} GiB are planned, {available}", gib(bytes)),
        advice: "choose smaller extents or batches, or a larger resize factor; `gyrus plan` shows what each needs"
            .into(),
    }
}

/// `MemAvailable` of Linux's /proc/meminfo, which counts what caches would give back.
fn of_machine(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_there_is_is_refused_with_both_numbers() {
        let message = require(3 << 30, Some(1 << 30)).unwrap_err().to_string();
        assert!(message.starts_with("memory: 3.00 GiB are planned, 1.00 GiB are free ("), "{message}");
        require(1 << 30, Some(1 << 30)).unwrap();
        require(usize::MAX, None).unwrap();
    }

    #[test]
    fn the_systems_own_words_are_understood() {
        assert_eq!(of_machine("MemTotal: 9 kB\nMemAvailable:    1234 kB\n"), Some(1234 * 1024));
        assert_eq!(of_machine("MemAvailable: 99999999999999999999 kB"), None);
        assert_eq!(of_machine(""), None);
    }
}

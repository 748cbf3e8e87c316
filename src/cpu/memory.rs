//! How much memory this process may still take.

use std::{fs, path::Path};

/// Bytes that can be taken without anything being killed or swapped: the machine's, or those of the tightest control group
/// above this process. None where the system does not say.
pub fn available() -> Option<usize> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| of_machine(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").map(|text| of_groups(&text, Path::new("/sys/fs/cgroup")));
    machine.into_iter().chain(groups.ok().flatten()).min()
}

/// The most bytes that this process had in memory at any time so far. None where the system does not say.
pub fn peak() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// `MemAvailable` of /proc/meminfo, which counts what caches would give back.
fn of_machine(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// The least that any group from the process's own up to the root leaves; versions 1 and 2 of control groups.
fn of_groups(membership: &str, root: &Path) -> Option<usize> {
    let mut least = None;
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (base, most, used) = match controllers {
            "" => (root.to_owned(), "memory.max", "memory.current"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes")
            }
            _ => continue,
        };
        // Inside a container the group's own folder may be mounted as the root.
        for group in Path::new(group.trim_start_matches('/')).ancestors() {
            let number = |name| fs::read_to_string(base.join(group).join(name)).ok()?.trim().parse::<usize>().ok();
            let free = number(most).zip(number(used)).map(|(most, used)| most.saturating_sub(used));
            least = least.into_iter().chain(free).min();
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_line_is_read_and_nonsense_is_not() {
        assert_eq!(of_machine("MemTotal: 9 kB\nMemAvailable:    1234 kB\n"), Some(1234 * 1024));
        for nonsense in
            ["", "MemAvailable: 5 MB", "MemAvailable: 99999999999999999999 kB", "MemAvailable: 18446744073709551615 kB"]
        {
            assert_eq!(of_machine(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn the_tightest_group_above_the_process_counts_and_no_limit_is_none() {
        let root = tempfile::tempdir().unwrap();
        let group = |path: &str, most: &str, used: &str| {
            let folder = root.path().join(path);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("memory.max"), most).unwrap();
            fs::write(folder.join("memory.current"), used).unwrap();
        };
        group("a/b", "max\n", "10\n");
        assert_eq!(of_groups("0::/a/b\n", root.path()), None);
        group("a", "1000\n", "300\n");
        assert_eq!(of_groups("0::/a/b\n", root.path()), Some(700));
        group("a/b", "100\n", "130\n");
        assert_eq!(of_groups("0::/a/b\n", root.path()), Some(0));
        assert_eq!(of_groups("1:cpu:/a\n", root.path()), None);
    }
}

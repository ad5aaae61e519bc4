//! How much of the host's memory a machine takes.

use std::fs;
use std::path::Path;

/// Resident bytes of the process that runs in `folder`, which is an instance's QEMU.
pub(super) fn resident(folder: &Path) -> Option<u64> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut of_folder = processes
        .map(|entry| entry.path())
        .filter(|path| fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd == folder));
    let status = fs::read_to_string(of_folder.next()?.join("status")).ok()?;
    kilobytes(&status).map(|kilobytes| kilobytes * 1024)
}

fn kilobytes(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_resident_size_in_a_status() {
        assert_eq!(
            kilobytes("Name:\tx\nVmRSS:\t   1234 kB\nThreads:\t1\n"),
            Some(1234)
        );
        assert_eq!(kilobytes("Name:\tx\n"), None);
    }
}

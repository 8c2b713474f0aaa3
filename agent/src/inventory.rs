//! What sort of machine this is, read when it is asked for. Nothing here is used for decisions.

use std::path::Path;

use houston_common::id::{HostId, Platform, quoted};
use houston_common::report::Facts;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// The facts, with the disk that holds `state`. What cannot be found out is empty or 0.
/// Takes well under a millisecond: only memory is refreshed, processes and disks are not.
pub fn facts(state: &Path) -> Facts {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(memory);
    let (disk_bytes, disk_free_bytes) = rustix::fs::statvfs(state).map_or((0, 0), |disk| {
        (disk.f_blocks.saturating_mul(disk.f_frsize), disk.f_bavail.saturating_mul(disk.f_frsize))
    });
    Facts {
        hostname: text(System::host_name().ok()),
        os: text(System::long_os_version().ok()),
        kernel: text(System::kernel_version().ok()),
        cpus: std::thread::available_parallelism().map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes: system.map_or(0, |system| system.total_memory()),
        disk_bytes,
        disk_free_bytes,
    }
}

/// The machine's own name, as far as a host can have it.
pub fn suggested_host() -> Option<HostId> {
    System::host_name().ok()?.split('.').next()?.to_ascii_lowercase().parse().ok()
}

/// Host names and the like come from files that anybody may have written.
fn text(found: Option<String>) -> String {
    quoted(&found.unwrap_or_default())
}

/// What this host can run, best first; the last is `any`. Known by what the agent was built for,
/// which runs here.
pub fn platforms() -> Vec<Platform> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let name = format!("{}-{}", std::env::consts::OS, architecture.replace('_', "-"));
    name.parse().into_iter().chain([Platform::any()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_disk_and_a_name() {
        let facts = facts(Path::new("/"));
        assert!(facts.memory_bytes > 1 << 20 && facts.cpus > 0, "{facts:?}");
        assert!(facts.disk_bytes >= facts.disk_free_bytes && facts.disk_bytes > 0, "{facts:?}");
        assert!(!facts.hostname.is_empty() && !facts.kernel.is_empty(), "{facts:?}");
    }

    #[test]
    fn the_last_platform_is_any() {
        let platforms = platforms();
        assert_eq!(platforms.last(), Some(&Platform::any()));
        assert!(platforms[0].as_str().starts_with("linux-"), "{platforms:?}");
    }
}

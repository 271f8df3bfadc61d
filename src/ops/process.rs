//! What this process uses of the machine, as Prometheus' own client libraries tell it (`process_…`). Source: proc(5); where
//! there is no /proc, only what getrusage tells.

use super::bench::usage::Usage;

/// What it uses now; what the system does not tell is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// User and system time so far, of all threads.
    pub cpu_seconds: Option<f64>,
    pub resident_bytes: Option<u64>,
    pub handles: Option<u64>,
    /// The most handles it may have.
    pub handles_max: Option<u64>,
}

impl Process {
    /// Looks.
    pub fn now() -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        // The folder that is being read is one of them.
        let handles = std::fs::read_dir("/proc/self/fd").ok().map(|handles| (handles.count() as u64).saturating_sub(1));
        Self {
            cpu_seconds: Usage::now().cpu_seconds,
            resident_bytes: number_behind(&read("status"), "VmRSS:").map(|kibibytes| kibibytes << 10),
            handles,
            handles_max: number_behind(&read("limits"), "Max open files"),
        }
    }
}

/// The first number of the line that begins so.
fn number_behind(text: &str, beginning: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(beginning))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_names() {
        let status = "Name:\tkonekt\nVmRSS:\t   12345 kB\nThreads:\t9\n";
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024      524288   files\n";
        let unlimited = "Max open files            unlimited      unlimited   files\n";
        for (text, beginning, expected) in [
            (status, "VmRSS:", Some(12_345)),
            (status, "VmHWM:", None),
            (limits, "Max open files", Some(1024)),
            (unlimited, "Max open files", None),
        ] {
            assert_eq!(number_behind(text, beginning), expected, "{beginning}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_something() {
        let before = Process::now();
        let held = std::fs::File::open("/proc/self/status").unwrap();
        let after = Process::now();
        drop(held);
        assert!(after.handles > before.handles && after.handles <= after.handles_max, "{before:?} {after:?}");
        assert!(after.resident_bytes > Some(1 << 20) && after.cpu_seconds >= before.cpu_seconds, "{after:?}");
    }
}

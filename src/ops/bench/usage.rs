//! What this process has used of the machine, as the operating system counts it (getrusage).

/// Processor time and memory of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// User and system time so far, of all threads.
    pub cpu_seconds: Option<f64>,
    /// The most memory that was resident at once, so far.
    pub memory_bytes_max: Option<u64>,
}

impl Usage {
    /// So far; nothing where the system does not tell.
    #[cfg(unix)]
    pub fn now() -> Self {
        use nix::sys::resource::{UsageWho, getrusage};
        use nix::sys::time::TimeVal;

        // macOS counts in bytes, others in KiB.
        let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
        let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        match getrusage(UsageWho::RUSAGE_SELF) {
            Ok(usage) => Self {
                cpu_seconds: Some(seconds(usage.user_time()) + seconds(usage.system_time())),
                memory_bytes_max: u64::try_from(usage.max_rss()).ok().map(|rss| rss * unit),
            },
            Err(_) => Self::default(),
        }
    }

    /// So far; nothing where the system does not tell.
    #[cfg(not(unix))]
    pub fn now() -> Self {
        Self::default()
    }

    /// Processor time since `before`.
    pub fn cpu_seconds_since(self, before: Usage) -> Option<f64> {
        Some(self.cpu_seconds? - before.cpu_seconds?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn work_and_memory_are_seen() {
        let before = Usage::now();
        let mut bytes = vec![1u8; 64 << 20];
        for round in 0..20u8 {
            bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(3).wrapping_add(round));
        }
        let after = Usage::now();
        assert!(after.cpu_seconds_since(before).unwrap() > 0.0, "{before:?} {after:?} {}", bytes[17]);
        assert!(after.memory_bytes_max.unwrap() >= 64 << 20, "{after:?}");
    }
}

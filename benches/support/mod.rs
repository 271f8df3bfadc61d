//! What the benchmarks share: times of one run and ratios of runs that took turns, since machines drift.
#![allow(dead_code, clippy::disallowed_methods, reason = "each benchmark uses a part; measuring is reading the clock")]

use std::time::{Duration, Instant};

/// How long `work` takes.
pub fn time<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let started = Instant::now();
    let result = work();
    (started.elapsed(), result)
}

/// Runs both in turn, once unmeasured and then `rounds` times, and returns the median seconds of each and the median of
/// the rounds' ratios `a / b`.
pub fn paired(rounds: usize, mut a: impl FnMut(), mut b: impl FnMut()) -> (f64, f64, f64) {
    let mut pairs = Vec::with_capacity(rounds);
    for round in 0..=rounds {
        let pair = (time(&mut a).0.as_secs_f64(), time(&mut b).0.as_secs_f64());
        if round > 0 {
            pairs.push(pair);
        }
    }
    let of = |figure: fn(&(f64, f64)) -> f64| median(pairs.iter().map(figure).collect());
    (of(|pair| pair.0), of(|pair| pair.1), of(|pair| pair.0 / pair.1))
}

/// The middle value.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU seconds of this process so far, user and system (Linux: `/proc/self/stat`, in hundredths).
pub fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let field = |index: usize| after_name.split_whitespace().nth(index).and_then(|text| text.parse::<f64>().ok());
    (field(11).unwrap_or(0.0) + field(12).unwrap_or(0.0)) / 100.0
}

/// The largest resident size so far, in MiB (Linux).
pub fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or(0.0) / 1024.0
}

/// A JSON order of about 200 bytes; the same number gives the same text.
pub fn order(number: u64) -> String {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!(
        r#"{{"order_id":"ord-{number:010}","customer":"customer-{:06}","sku":"sku-{:05}","quantity":{},"price_cents":{},"currency":"EUR","status":"paid","note":"left at the door, ring twice, thank you {:08x}"}}"#,
        mixed >> 44,
        mixed >> 40 & 0xffff,
        1 + (mixed >> 20) % 9,
        100 + (mixed >> 30) % 90_000,
        mixed as u32
    )
}

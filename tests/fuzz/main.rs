//! Bytes from outside are hostile: seeded mutation of good inputs, on stable Rust, in the gate. The targets are those of
//! cargo-fuzz too (`targets.rs`). Nothing may panic, and nothing may take memory that the input only claims to need.
//!
//! ```text
//! KONEKT_SEED=17 cargo test --features testkit --test fuzz soak -- --nocapture     other inputs
//! ./check --soak 600                                                               ten minutes of them
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz answers                            guided by coverage
//! ```
#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

#[path = "../support/random.rs"]
#[allow(dead_code, reason = "this suite has its seed from elsewhere")]
mod random;
mod targets;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use konekt::door;

use self::random::Random;
use self::targets::{TARGETS, Target};

/// How long one target is fuzzed in the gate: so many inputs.
const INPUTS: u64 = 4_000;
/// Files are written for these, so they get fewer.
const SLOW: [&str; 1] = ["settings"];

#[test]
fn no_input_of_the_gate_breaks_anything() {
    for (number, target) in TARGETS.iter().enumerate() {
        let inputs = if SLOW.contains(&target.name) { INPUTS / 10 } else { INPUTS };
        let mut left = inputs;
        fuzz(target, number as u64, &mut || {
            left -= 1;
            left > 0
        });
    }
}

/// New inputs for as long as `KONEKT_SOAK_SECONDS` says, drawn with `KONEKT_SEED`; a few, always the same, without.
#[test]
fn soak() {
    let number = |name| door::env(name).map(|text: String| text.parse::<u64>().expect("a number"));
    let (seconds, seed) = (number("KONEKT_SOAK_SECONDS"), number("KONEKT_SEED").unwrap_or(1 << 32));
    println!("KONEKT_SEED={seed}");
    for target in TARGETS {
        let share = Duration::from_secs(seconds.unwrap_or(0)) / TARGETS.len() as u32;
        let (until, mut inputs) = (door::now() + share, 0_u64);
        fuzz(target, seed, &mut || {
            inputs += 1;
            if seconds.is_some() { door::now() < until } else { inputs < 200 }
        });
        println!("{}: {inputs} inputs", target.name);
    }
}

/// cargo-fuzz has a file for each target; there is one list.
#[test]
fn every_target_is_one_of_cargo_fuzz() {
    let manifest = include_str!("Cargo.toml");
    let named: Vec<&str> =
        manifest.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    let targets: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(named[1..], targets, "the first name is the package's");
}

/// Runs a target on its corpus and on mutations of it for as long as there is to go on.
fn fuzz(target: &Target, seed: u64, go_on: &mut dyn FnMut() -> bool) {
    let corpus = (target.corpus)();
    corpus.iter().for_each(|input| expect_well(target, input));
    let mut random = Random::seeded(seed);
    while go_on() {
        let mut input = corpus[random.between(0, corpus.len() as u64) as usize].clone();
        for _ in 0..random.between(1, 6) {
            mutate(&mut input, &corpus, &mut random);
        }
        expect_well(target, &input);
    }
}

fn expect_well(target: &Target, input: &[u8]) {
    LARGEST.set(0);
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let largest = LARGEST.get();
    assert!(result.is_ok(), "{} panics at {input:02x?}\n{:?}", target.name, String::from_utf8_lossy(input));
    let allowed = target.allocation_bytes_max.max(64 * input.len());
    assert!(largest <= allowed, "{} takes {largest} bytes at once for {input:02x?}", target.name);
}

/// Numbers that lengths and counts go wrong at.
const EDGES: [i64; 9] = [-1, 0, 1, 127, 128, 0x7fff, 0xffff, 0x7fff_ffff, i64::MAX];

/// Changes an input in one of the ways that find most.
fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let length = input.len() as u64;
    let at = random.between(0, length + 1) as usize;
    let to = at + random.between(0, (length - at as u64).min(64) + 1) as usize;
    match random.between(0, 8) {
        0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.between(0, 8)),
        1 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.next() as u8),
        2 => {
            let edge = EDGES[random.between(0, EDGES.len() as u64) as usize].to_be_bytes();
            let width = [1, 2, 4, 8][random.between(0, 4) as usize];
            let bytes = edge[8 - width..].iter();
            input.iter_mut().skip(at).zip(bytes).for_each(|(byte, edge)| *byte = *edge);
        }
        3 => drop(input.drain(at..to)),
        4 => drop(input.splice(at..at, random.bytes(4))),
        5 => {
            let repeated = input[at..to].to_vec();
            drop(input.splice(at..at, repeated));
        }
        6 => input.truncate(at),
        _ => {
            let other = &corpus[random.between(0, corpus.len() as u64) as usize];
            input.truncate(at);
            input.extend(other.iter().skip(at));
        }
    }
}

// ---- memory

thread_local! {
    /// The most bytes this thread asked for at once.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

struct Watched;

#[global_allocator]
static ALLOCATOR: Watched = Watched;

// SAFETY: everything is handed to the system's allocator as it came; the cell needs no allocation itself.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.set(LARGEST.get().max(layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.set(LARGEST.get().max(size));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(block, layout, size) }
    }
}

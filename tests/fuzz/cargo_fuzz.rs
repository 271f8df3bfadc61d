//! One target under cargo-fuzz: the one that the binary is named after.

#![no_main]

#[allow(dead_code, reason = "where inputs begin and what they may take is the seeded suite's")]
mod targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let target = targets::TARGETS.iter().find(|target| target.name == env!("CARGO_BIN_NAME"));
    (target.expect("each binary is named after a target").run)(input);
});

//! Parse, run, exit code; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(konekt::cli::main(std::env::args_os()) as u8)
}

//! The command line: parse, resolve the settings, run the command, answer with an exit code.
//!
//! Data goes to stdout, everything for people to stderr. `parser` reads the arguments, `crate::config` checks what they
//! and the other sources say, [`run`] moves records, [`exit`] holds the codes.

mod admin;
mod allocator;
mod bench;
mod broker;
mod check;
mod check_drivers;
mod data;
mod database;
mod demo;
mod dlq;
mod dry_run;
mod errors;
pub mod exit;
mod init;
mod load;
mod logging;
mod man;
mod messages;
mod mongo;
mod mongo_health;
mod mongo_source;
mod odbc;
mod page;
mod parser;
mod plan;
mod positions;
mod produce;
pub mod reference;
mod report;
pub mod run;
mod signals;
mod table;

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;

use self::exit::{Exit, Failure};
use self::parser::Parsed;
use crate::config::field::Command;
use crate::config::layers::Surroundings;
use crate::config::{Resolved, resolve};
use crate::door;

/// Runs `konekt` with these arguments, the first of which is the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    allocator::give_large_blocks_back();
    let result = match parser::parse(arguments) {
        Ok(parsed) => dispatch(parsed),
        Err(error) => shape(&error),
    };
    match result {
        Ok(()) => Exit::Done,
        Err(failure) => {
            exit::complain(&failure);
            failure.exit
        }
    }
}

/// Help and version are answers; everything else that clap says is a mistake of usage.
fn shape(error: &clap::Error) -> Result<(), Failure> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => exit::put(&error.to_string()),
        ErrorKind::UnknownArgument if error.to_string().contains("Usage: konekt <COMMAND>") => {
            let hint = "Flags stand behind the command: konekt COMMAND --config FILE -v";
            Err(Failure::new(Exit::Usage, format!("{}\n\n{hint}", error.to_string().trim_end())))
        }
        _ => Err(Failure::new(Exit::Usage, error.to_string().trim_end())),
    }
}

fn dispatch(parsed: Parsed) -> Result<(), Failure> {
    if let Some(shell) = parsed.shell {
        return completions(shell);
    }
    match parsed.command {
        Command::Init => return init::run(&parsed),
        Command::Man => return man::run(&parsed),
        _ => {}
    }
    let resolved = resolve(
        parsed.command,
        &Surroundings {
            directory: Path::new("."),
            environment: &door::env,
            variables: door::env_names(),
            file: parsed.file,
            flags: parsed.flags,
            properties: parsed.properties,
        },
    );
    if parsed.command == Command::Config {
        return show(&resolved);
    }
    // These are for a person who watches a progress bar or waits for an answer.
    let is_brief = matches!(parsed.command, Command::Demo | Command::Produce | Command::Check | Command::Load)
        || parsed.command.is_admin()
        || parsed.command.is_bench();
    let calm = i8::from(is_brief && parsed.verbosity == 0 && !resolved.said("log"));
    let settings = resolved.settings().map_err(|faults| Failure::new(Exit::Usage, all(faults, &resolved.remarks)))?;
    logging::start(&logging::filter(&settings.log, parsed.verbosity - calm), settings.log_json);
    resolved.remarks.iter().for_each(|remark| log::warn!("{remark}"));
    match parsed.command {
        Command::Broker => broker::run(&resolved),
        Command::Check => check::run(&resolved, settings),
        Command::Plan => plan::run(&resolved, settings),
        Command::CheckDrivers => check_drivers::run(&resolved, settings),
        Command::Errors => errors::run(&resolved),
        Command::Demo => demo::run(&resolved, settings),
        Command::Load => load::run(&resolved, settings),
        Command::Produce => produce::run(&resolved, settings),
        Command::MongoHealth => mongo_health::run(&resolved),
        Command::MongoSource => mongo_source::run(&resolved, settings),
        command if command.is_bench() => bench::run(command, &resolved, settings),
        command if command.is_admin() => admin::run(command, &resolved, settings),
        command @ (Command::PositionsShow
        | Command::PositionsRewind
        | Command::PositionsForward
        | Command::PositionsForget) => positions::run(command, &resolved, settings),
        command @ (Command::DlqList | Command::DlqShow | Command::DlqStats | Command::DlqReplay) => {
            dlq::run(command, &resolved, settings)
        }
        command @ (Command::DataGenerate
        | Command::DataInspect
        | Command::DataSample
        | Command::DataSplit
        | Command::DataValidate) => data::run(command, &resolved),
        Command::MessagesStats => messages::stats(&resolved, settings),
        Command::MessagesShow => messages::show(&resolved, settings),
        Command::MessagesPrune => messages::prune(&resolved, settings),
        _ => run::run(settings),
    }
}

/// The faults, and what is legal but may be their cause.
fn all(faults: &[crate::config::Fault], remarks: &[String]) -> String {
    let faulty = faults.iter().map(|fault| format!("  {fault}"));
    let lines: Vec<String> = faulty.chain(remarks.iter().map(|remark| format!("  {remark}"))).collect();
    format!(
        "{}; nothing was begun\n{}",
        count(faults.len(), "setting is wrong", "settings are wrong"),
        lines.join("\n")
    )
}

fn count(number: usize, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

fn show(resolved: &Resolved) -> Result<(), Failure> {
    exit::put(&resolved.effective())?;
    resolved.remarks.iter().for_each(|remark| exit::say(format_args!("konekt: {remark}")));
    resolved.settings().map(drop).map_err(|faults| Failure::new(Exit::Usage, all(faults, &[])))
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut parser::clap(), "konekt", &mut script);
    exit::put(&String::from_utf8_lossy(&script))
}

//! `konekt check-drivers`: what ODBC is on this machine, and whether it works.
//!
//! With `--json` one object, a documented contract: `system` (`name`, `os`, `architecture`), `manager` (`kind`,
//! `version`), `configuration` (`path`, `exists`, `read_by_manager`), `drivers` (`name`, `description`, `version`,
//! `registered`, `file`, `registered_in`, `loads`, `fault`, `cure`), `sql_server_driver`, `usable`, `cures`,
//! `connection_string` (secrets as `***`), `connection` (with `--connect`: `dialect`, `server`, `connect_us`,
//! `round_trip_us`, `steps` of `what` and `fault`) and `connection_fault`. What is not known is null.

use serde::Serialize;

use super::exit::{self, Exit, Failure};
use super::odbc::{connection_string, trial};
use super::page::Page;
use super::report::grouped;
use crate::config::{OdbcSettings, Resolved, Settings, SinkSettings};
use crate::door;
use crate::ops::drivers::{self, DriverReport, Loaded, Report};
use crate::sink::odbc::connection_string as strings;
use crate::sink::odbc::drivers::installed;
use crate::sink::odbc::trial::Trial;

/// Looks, and tells.
pub fn run(resolved: &Resolved, settings: &Settings) -> Result<(), Failure> {
    let file = resolved.text("load");
    if !file.is_empty() {
        return load(&file);
    }
    let SinkSettings::Odbc(odbc) = &settings.sink else {
        return Err(Failure::new(Exit::Failed, "check-drivers got the settings of another command"));
    };
    let report = Report::gather(&door::env, &drivers::load);
    let connect = resolved.switch("connect");
    let findings = Findings { connection: Connection::of(odbc, settings, connect), report };
    match resolved.switch("json") {
        true => exit::put_json(&findings)?,
        false => exit::put(&findings.as_text())?,
    }
    // What nobody asked about need not work.
    let asked = connect || resolved.said("connection_string") || resolved.said("sqlserver_driver");
    findings.verdict(asked)
}

/// What the process does that loads a driver for the other.
fn load(file: &str) -> Result<(), Failure> {
    let file = std::path::absolute(file).map_err(|error| Failure::new(Exit::Usage, format!("--load: {error}")))?;
    match drivers::load_here(&file) {
        Loaded::Yes => exit::put(&format!("{} loads\n", file.display())),
        Loaded::No { fault, cure } => {
            exit::put(&drivers::printed(&fault, &cure))?;
            Err(Failure::new(Exit::Unavailable, format!("{} does not load", file.display())))
        }
    }
}

#[derive(Serialize)]
struct Findings {
    #[serde(flatten)]
    report: Report,
    #[serde(flatten)]
    connection: Connection,
}

/// The connection that the settings mean.
#[derive(Serialize)]
struct Connection {
    /// As it may be shown.
    connection_string: Option<String>,
    #[serde(rename = "connection")]
    trial: Option<Trial>,
    #[serde(rename = "connection_fault")]
    fault: Option<String>,
    /// What that means for the exit code.
    #[serde(skip)]
    exit: Exit,
}

impl Connection {
    fn of(odbc: &OdbcSettings, settings: &Settings, connect: bool) -> Connection {
        let string = connection_string(&odbc.login).and_then(|text| {
            strings::resolved(&text, &installed(&door::env)).map_err(|words| Failure::new(Exit::Unavailable, words))
        });
        let (trial, failure) = match &string {
            Err(failure) => (None, Some(failure.clone())),
            Ok(_) if !connect => (None, None),
            Ok(_) => match trial(odbc, &settings.consumer) {
                Ok(trial) => (Some(trial), None),
                Err(failure) => (None, Some(failure)),
            },
        };
        Connection {
            connection_string: string.ok().map(|text| strings::redacted(&text)),
            trial,
            exit: failure.as_ref().map_or(Exit::Done, |failure| failure.exit),
            fault: failure.map(|failure| failure.message),
        }
    }
}

impl Findings {
    fn verdict(&self, asked: bool) -> Result<(), Failure> {
        if !self.report.usable {
            return Err(Failure::new(Exit::Unavailable, "no ODBC driver can be used; see the lines with →"));
        }
        match &self.connection.fault {
            Some(_) if asked => {
                return Err(Failure::new(self.connection.exit, "no connection; its line with ✗ says why"));
            }
            _ => {}
        }
        match self.connection.faults() {
            0 => Ok(()),
            _ => Err(Failure::new(Exit::Usage, "the database does not give what the sink needs; see the lines with ✗")),
        }
    }

    fn as_text(&self) -> String {
        let report = &self.report;
        let mut page = Page::default();
        let system = &report.system;
        page.line("system", format_args!("{}, {} {}", system.name, system.os, system.architecture));
        let version = report.manager.version.as_deref().unwrap_or("version not known");
        page.line("driver manager", format_args!("{version}, {}", report.manager.kind));
        for file in &report.configuration {
            let remark = match (file.exists, file.read_by_manager) {
                (true, true) => "",
                (true, false) => " (read by Konekt alone)",
                (false, _) => " is not there",
            };
            let mark = if file.exists { '✓' } else { '·' };
            page.line("configuration", format_args!("{mark} {}{remark}", file.path.display()));
        }
        report.drivers.iter().for_each(|driver| put_driver(&mut page, driver));
        if report.drivers.is_empty() {
            page.line("drivers", "✗ none is installed");
        }
        match &report.sql_server_driver {
            Some(name) => page.line("SQL Server", format_args!("✓ {name}")),
            None => page.line("SQL Server", "✗ no driver that loads"),
        }
        self.connection.put(&mut page);
        report.cures.iter().for_each(|cure| page.line("what to do", format_args!("→ {cure}")));
        page.finish()
    }
}

impl Connection {
    fn faults(&self) -> usize {
        let steps = self.trial.iter().flat_map(|trial| &trial.steps);
        steps.filter(|step| step.fault.is_some()).count()
    }

    fn put(&self, page: &mut Page) {
        if let Some(text) = &self.connection_string {
            page.line("connection", text);
        }
        if let Some(fault) = &self.fault {
            page.line("connection", format_args!("✗ {fault}"));
        }
        let Some(trial) = &self.trial else { return };
        let server = trial.server.as_deref().unwrap_or("the server does not say what it is");
        page.line("", format_args!("✓ {server}; logged in within {} ms", trial.connect_us.div_ceil(1000)));
        if let Some(us) = trial.round_trip_us {
            page.line("", format_args!("✓ a round trip takes {} µs", grouped(us)));
        }
        trial.steps.iter().for_each(|step| page.finding("", step));
    }
}

fn put_driver(page: &mut Page, driver: &DriverReport) {
    let version = driver.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let file = driver.file.as_ref().map(|file| format!(", {}", file.display())).unwrap_or_default();
    match (&driver.fault, &driver.cure) {
        (None, _) => page.line("drivers", format_args!("✓ {}{version}{file}", driver.name)),
        (Some(fault), cure) => {
            page.line("drivers", format_args!("✗ {}{version}{file}: {fault}", driver.name));
            cure.iter().for_each(|cure| page.line("drivers", format_args!("  → {cure}")));
        }
    }
}

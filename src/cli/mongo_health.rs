//! `konekt mongo-health`: a line per check, what cures it below, and the members; or, with `--json`, one object per look.
//!
//! The object is a documented contract: `address`, `reachable`, `healthy`, `set`, `members` (`host`, `state`, `votes`,
//! `hidden`, `lag_seconds`, `sync_source`, `uptime_seconds`, `version`) and `checks` (`name`, `level`, which is `good`,
//! `warning` or `critical`, `says`, `cure`).

use super::exit::Failure;
use crate::config::Resolved;

/// Looks once, or again and again until a signal.
#[cfg(feature = "mongodb")]
pub fn run(resolved: &Resolved) -> Result<(), Failure> {
    with_mongodb::run(resolved)
}

/// Without MongoDB there is only an explanation.
#[cfg(not(feature = "mongodb"))]
pub fn run(_resolved: &Resolved) -> Result<(), Failure> {
    Err(super::mongo::built_without())
}

#[cfg(feature = "mongodb")]
mod with_mongodb {
    use std::time::Duration;

    use crossbeam::channel::never;

    use crate::cli::exit::{self, Exit, Failure};
    use crate::cli::table::{Column, Table, or_dash, span};
    use crate::cli::{mongo, signals};
    use crate::config::Resolved;
    use crate::core::secret::Secret;
    use crate::ops::mongo_health::{Answers, Check, Level, Limits, MemberLine, Report, judge};

    pub fn run(resolved: &Resolved) -> Result<(), Failure> {
        let deployment = mongo::deployment(&Secret::new(resolved.text("mongodb_uri")))?;
        let wait = Duration::from_secs(resolved.number("health_timeout"));
        let limits =
            Limits { lag_seconds: resolved.number("lag_max") as i64, oplog_hours: resolved.number("oplog_min") as i64 };
        let watches = resolved.switch("watch");
        // Without it a signal ends the process at once, which is what is wanted.
        let stopped = if watches { signals::listen()? } else { never() };
        loop {
            let report = judge(&Answers::gather(&deployment, wait), &limits);
            match resolved.switch("json") {
                true => exit::put_json(&report)?,
                false => exit::put(&as_text(&report))?,
            }
            let pause = Duration::from_secs(resolved.number("watch_every"));
            if !watches || stopped.recv_timeout(pause).is_ok() {
                return conclude(&report);
            }
        }
    }

    fn conclude(report: &Report) -> Result<(), Failure> {
        let critical = report.checks.iter().filter(|check| check.level == Level::Critical).map(|check| check.name);
        let critical: Vec<&str> = critical.collect();
        match (report.reachable, report.healthy) {
            (false, _) => Err(Failure::new(Exit::Unavailable, "MongoDB is not reachable")),
            (true, false) => Err(Failure::new(Exit::Failed, format!("MongoDB is degraded: {}", critical.join(", ")))),
            (true, true) => Ok(()),
        }
    }

    fn as_text(report: &Report) -> String {
        let mut text = format!("{}\n", report.address);
        report.checks.iter().for_each(|check| text.push_str(&line(check)));
        if !report.members.is_empty() {
            text.push('\n');
            text.push_str(&members(&report.members));
        }
        text
    }

    fn line(check: &Check) -> String {
        let mark = match check.level {
            Level::Good => '✓',
            Level::Warning => '!',
            Level::Critical => '✗',
        };
        let cure = if check.cure.is_empty() { String::new() } else { format!("{:18}→ {}\n", "", check.cure) };
        format!("{mark} {:15} {}\n{cure}", check.name, check.says)
    }

    fn members(members: &[MemberLine]) -> String {
        let mut table = Table::new(&[
            Column::Left("MEMBER"),
            Column::Left("STATE"),
            Column::Left("VOTES"),
            Column::Right("LAG"),
            Column::Left("FOLLOWS"),
            Column::Right("UP FOR"),
            Column::Left("VERSION"),
        ]);
        for member in members {
            let hidden = if member.hidden { " (hidden)" } else { "" };
            table.row([
                member.host.clone(),
                format!("{}{hidden}", member.state),
                if member.votes { "yes" } else { "no" }.to_owned(),
                or_dash(member.lag_seconds, |seconds| format!("{seconds} s")),
                or_dash(member.sync_source.clone(), |host| host),
                or_dash(member.uptime_seconds, |seconds| span(seconds as f64)),
                or_dash(member.version.clone(), |version| version),
            ]);
        }
        table.render()
    }
}

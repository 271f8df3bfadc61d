//! `konekt positions show|rewind|forward|forget`: shows what would change, asks, and does that.

use std::io::{self, BufRead, IsTerminal};

use super::database::{self, failure};
use super::exit::{self, Exit, Failure};
use crate::config::field::Command;
use crate::config::{Resolved, Settings};
use crate::ops::positions::{Change, Direction, Selection, Target, apply, offsets, plan};
use crate::sink::position::{PositionLine, PositionStore};

/// Runs one of the commands.
pub fn run(command: Command, resolved: &Resolved, settings: &Settings) -> Result<(), Failure> {
    let mut store = database::positions(settings)?;
    let selection = Selection {
        group: settings.consumer.group_id.clone(),
        topic: resolved.said("only_topic").then(|| resolved.text("only_topic")),
        partition: resolved.said("only_partition").then(|| resolved.number("only_partition") as i32),
    };
    let all = store.list().map_err(failure)?;
    let lines = selection.of(&all);
    if lines.is_empty() {
        return Err(Failure::new(Exit::Failed, selection.nothing(&all)));
    }
    let direction = match command {
        Command::PositionsRewind => Some(Direction::Rewind),
        Command::PositionsForward => Some(Direction::Forward),
        Command::PositionsForget => None,
        _ => {
            return match resolved.text("format").as_str() {
                "json" => lines.iter().try_for_each(exit::put_json),
                _ => exit::put(&shown(&lines)),
            };
        }
    };
    let changes = match direction {
        Some(direction) => moves(lines, direction, resolved, settings)?,
        None => lines.into_iter().map(|line| Change { line, to: None }).collect(),
    };
    carry_out(&mut *store, &changes, resolved.switch("yes"))
}

fn moves(
    lines: Vec<PositionLine>,
    direction: Direction,
    resolved: &Resolved,
    settings: &Settings,
) -> Result<Vec<Change>, Failure> {
    let text = resolved.text("to");
    let Some(target) = Target::parse(&text) else {
        let message = format!("--to {text}: give an offset, start, end, or a time in UTC like 2026-01-31T12:00:00Z");
        return Err(Failure::new(Exit::Usage, message));
    };
    let unreachable = |error: crate::kafka::error::Error| {
        let exit = if error.is_unavailable() { Exit::Unavailable } else { Exit::Failed };
        Failure::new(exit, error)
    };
    let cluster = target.needs_kafka().then(|| settings.consumer.cluster()).transpose().map_err(unreachable)?;
    let found = offsets(cluster.as_ref(), &lines, target).map_err(unreachable)?;
    Ok(plan(lines, &found, direction))
}

fn carry_out(store: &mut dyn PositionStore, changes: &[Change], yes: bool) -> Result<(), Failure> {
    if changes.is_empty() {
        exit::say("nothing to do: no position would move that way");
        return Ok(());
    }
    let lines: String = changes.iter().map(|change| format!("{}\n", described(change))).collect();
    exit::put(&lines)?;
    if !yes && !agreed(changes.len())? {
        return Err(Failure::new(Exit::Failed, "nothing was changed"));
    }
    let missed = apply(store, changes).map_err(failure)?;
    exit::say(format_args!(
        "{} of {} changed; whoever writes to these partitions now is fenced and goes on from the new position",
        changes.len() - missed.len(),
        changes.len()
    ));
    match missed.is_empty() {
        true => Ok(()),
        false => {
            let names: Vec<String> = missed.iter().map(described).collect();
            let message = format!("these moved meanwhile and were left alone, try again:\n{}", names.join("\n"));
            Err(Failure::new(Exit::Failed, message))
        }
    }
}

fn described(Change { line, to }: &Change) -> String {
    let PositionLine { topic, partition, next_offset, .. } = line;
    match to {
        Some(to) if to < next_offset => {
            format!("{topic}/{partition}: {next_offset} -> {to} ({} offsets are read again)", next_offset - to)
        }
        Some(to) => format!("{topic}/{partition}: {next_offset} -> {to} ({} offsets are left out)", to - next_offset),
        None => {
            format!("{topic}/{partition}: {next_offset} -> forgotten (the next start asks Kafka, or auto_offset_reset)")
        }
    }
}

/// Asks a person. Without one there is nobody to agree.
fn agreed(count: usize) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::new(Exit::Usage, "this changes positions: add --yes to do it without being asked"));
    }
    exit::say(format_args!("Change {count} positions? [y/N]"));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::new(Exit::Failed, format!("no answer: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn shown(lines: &[PositionLine]) -> String {
    let mut page = String::from(
        "partition                        next offset       written  dead letters       skipped  epoch  updated\n",
    );
    for line in lines {
        let name = format!("{}/{}", line.topic, line.partition);
        let paused = if line.paused { "  paused" } else { "" };
        page += &format!(
            "{name:30} {:>13} {:>13} {:>13} {:>13} {:>6}  {}{paused}\n",
            line.next_offset, line.written, line.dead_lettered, line.skipped, line.epoch, line.updated_at
        );
    }
    page
}

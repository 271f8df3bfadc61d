//! `konekt admin lag`.

use std::collections::BTreeMap;
use std::time::Duration;

use crossbeam::channel::{Receiver, never};
use serde::Serialize;

use super::{failure, groups, names, selects, show, topic_selection};
use crate::cli::exit::Failure;
use crate::cli::signals;
use crate::cli::table::{Column, Table, number, or_dash, span};
use crate::config::Resolved;
use crate::door;
use crate::kafka::admin::groups::list_groups;
use crate::kafka::cluster::Cluster;
use crate::ops::lag::{PartitionLag, Sample, partitions, sample};

/// A group's lag as it is printed.
#[derive(Serialize)]
struct GroupLag {
    group: String,
    state: String,
    members: usize,
    /// Over all partitions that have a committed offset.
    lag_records: i64,
    partitions: Vec<PartitionLag>,
}

/// Samples by group.
type Samples = BTreeMap<String, Sample>;

/// Looks twice and prints, or goes on with it.
pub fn lag(cluster: &Cluster, resolved: &Resolved) -> Result<(), Failure> {
    let watches = resolved.switch("watch");
    // Without it a signal ends the process at once, which is what is wanted.
    let stopped = if watches { signals::listen()? } else { never() };
    let interval = Duration::from_millis(resolved.number("interval_ms"));
    let mut earlier = None;
    loop {
        let now = look(cluster, resolved)?;
        if earlier.is_some() || interval.is_zero() {
            print(resolved, &now, earlier.as_ref())?;
            if !watches {
                return Ok(());
            }
        }
        earlier = Some(now);
        if waits_in_vain(&stopped, interval.max(SHORTEST_INTERVAL)) {
            return Ok(());
        }
    }
}

/// `--watch --interval-ms 0` must not occupy the brokers.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Whether a signal came first.
fn waits_in_vain(stopped: &Receiver<()>, interval: Duration) -> bool {
    stopped.recv_timeout(interval).is_ok()
}

fn look(cluster: &Cluster, resolved: &Resolved) -> Result<Samples, Failure> {
    let names = match names(resolved, "admin_groups") {
        Some(names) => {
            names.iter().try_for_each(|name| groups::existing(cluster, name).map(drop))?;
            names
        }
        None => list_groups(cluster).map_err(failure)?.into_iter().map(|listed| listed.group).collect(),
    };
    let mut samples = Samples::new();
    for name in names {
        samples.insert(name.clone(), sample(cluster, &name, door::unix_ms()).map_err(failure)?);
    }
    Ok(samples)
}

fn print(resolved: &Resolved, now: &Samples, earlier: Option<&Samples>) -> Result<(), Failure> {
    let selection = topic_selection(resolved, "admin_topics");
    let lag_of = |(name, sample): (&String, &Sample)| {
        let mut partitions = partitions(sample, earlier.and_then(|earlier| earlier.get(name)));
        partitions.retain(|of| selects(selection.as_ref(), &of.topic));
        GroupLag {
            group: name.clone(),
            state: sample.group.state.clone(),
            members: sample.group.members.len(),
            lag_records: partitions.iter().filter_map(|of| of.lag_records).sum(),
            partitions,
        }
    };
    let lags: Vec<GroupLag> = now.iter().map(lag_of).collect();
    show(resolved, &lags, || lags.iter().map(group_table).collect::<Vec<String>>().join("\n"))
}

fn group_table(lag: &GroupLag) -> String {
    let mut table = Table::new(&[
        Column::Left("TOPIC"),
        Column::Right("PARTITION"),
        Column::Right("COMMITTED"),
        Column::Right("LOG END"),
        Column::Right("LAG"),
        Column::Right("LAG TIME"),
        Column::Right("BEHIND NEWEST"),
        Column::Right("READ/S"),
        Column::Right("WRITTEN/S"),
        Column::Right("CAUGHT UP IN"),
        Column::Right("TO RETENTION"),
        Column::Right("IN TIME"),
        Column::Left("MEMBER"),
    ]);
    let rate = |rate: f64| number(rate.round() as i64);
    for of in &lag.partitions {
        let member = of.client_id.as_ref().zip(of.host.as_ref()).map(|(client, host)| format!("{client}@{host}"));
        table.row([
            of.topic.clone(),
            of.partition.to_string(),
            or_dash(of.committed, number),
            or_dash(of.log_end, number),
            or_dash(of.lag_records, number),
            or_dash(of.lag_seconds, span),
            or_dash(of.behind_newest_seconds, span),
            or_dash(of.consumed_per_second, rate),
            or_dash(of.produced_per_second, rate),
            or_dash(of.catch_up_seconds, span),
            or_dash(of.to_retention_records, number),
            or_dash(of.to_retention_seconds, span),
            or_dash(member, |member| member),
        ]);
    }
    let GroupLag { group, state, members, lag_records, .. } = lag;
    format!("group {group}: {state}, {members} members, lag {}\n{}", number(*lag_records), table.render())
}

//! `konekt admin groups` and `admin group reset-offsets`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{failure, names, optional_number, selects, show, topic_selection, topics};
use crate::cli::exit::{self, Exit, Failure};
use crate::cli::table::{Column, Table, number, or_dash, ranges};
use crate::config::Resolved;
use crate::config::value::Value;
use crate::core::record::TopicPartition;
use crate::kafka::admin::groups::{GroupDescription, GroupMember, ListedGroup, describe_group, list_groups};
use crate::kafka::admin::offsets::{committed_offsets, set_offsets};
use crate::kafka::cluster::Cluster;
use crate::kafka::error::Code;
use crate::ops::reset::{Move, Target, plan};

/// All groups, or the named ones with their members.
pub fn groups(cluster: &Cluster, resolved: &Resolved) -> Result<(), Failure> {
    let Some(names) = names(resolved, "admin_groups") else {
        let groups = list_groups(cluster).map_err(failure)?;
        return show(resolved, &groups, || groups_table(&groups));
    };
    let described: Result<Vec<_>, _> = names.iter().map(|name| existing(cluster, name)).collect();
    let described = described?;
    show(resolved, &described, || described.iter().map(members_table).collect::<Vec<String>>().join("\n"))
}

/// A group that is there.
pub(super) fn existing(cluster: &Cluster, name: &str) -> Result<GroupDescription, Failure> {
    let group = describe_group(cluster, name).map_err(failure)?;
    match group.state.as_str() {
        "Dead" => Err(Failure::new(Exit::Failed, format!("there is no group {name}; konekt admin groups lists them"))),
        _ => Ok(group),
    }
}

fn groups_table(groups: &[ListedGroup]) -> String {
    let mut table = Table::new(&[
        Column::Left("GROUP"),
        Column::Left("STATE"),
        Column::Left("TYPE"),
        Column::Left("PROTOCOL"),
        Column::Right("COORDINATOR"),
    ]);
    for ListedGroup { group, group_type, state, protocol_type, coordinator } in groups {
        let cells = [group, state, group_type, protocol_type].map(String::clone);
        table.row(cells.into_iter().chain([coordinator.to_string()]));
    }
    table.render()
}

fn members_table(group: &GroupDescription) -> String {
    let mut table = Table::new(&[
        Column::Left("MEMBER"),
        Column::Left("CLIENT"),
        Column::Left("HOST"),
        Column::Right("PARTITIONS"),
        Column::Left("ASSIGNMENT"),
    ]);
    for member in &group.members {
        let count: usize = member.assignment.values().map(Vec::len).sum();
        let name = member.instance_id.as_deref().unwrap_or(&member.member_id);
        let cells = [name, &member.client_id, &member.host].map(str::to_owned);
        table.row(cells.into_iter().chain([number(count as i64), assignment(member)]));
    }
    let GroupDescription { group: name, group_type, state, assignor, coordinator, members } = group;
    let assignor = if assignor.is_empty() { "-" } else { assignor };
    let count = members.len();
    format!(
        "group {name}: {state}, {group_type} protocol, assignor {assignor}, coordinator {coordinator}, {count} members\n{}",
        if members.is_empty() { String::new() } else { table.render() }
    )
}

/// `orders:0-3,7 users:1`
fn assignment(member: &GroupMember) -> String {
    let topics = member.assignment.iter().map(|(topic, partitions)| format!("{topic}:{}", ranges(partitions)));
    topics.collect::<Vec<String>>().join(" ")
}

/// What was, or would be, moved.
#[derive(Serialize)]
struct Reset {
    group: String,
    executed: bool,
    moves: Vec<Move>,
}

/// Moves a group's offsets, or says where they would move.
pub fn reset_offsets(cluster: &Cluster, resolved: &Resolved) -> Result<(), Failure> {
    let name = resolved.text("reset_group");
    let target = match resolved.value("reset_to") {
        Some(Value::Target(target)) => target,
        _ => Target::Earliest,
    };
    let group = describe_group(cluster, &name).map_err(failure)?;
    if !group.members.is_empty() {
        return Err(has_members(&group));
    }
    let committed = committed_offsets(cluster, &name).map_err(failure)?;
    let partitions = partitions(cluster, resolved)?;
    let moves = plan(cluster, &partitions, &committed, target).map_err(failure)?;
    let executed = resolved.switch("execute");
    if executed {
        let offsets: BTreeMap<TopicPartition, i64> =
            moves.iter().map(|of| (TopicPartition::new(of.topic.as_str(), of.partition), of.to)).collect();
        set_offsets(cluster, &name, &offsets).map_err(|error| match error.code() {
            // Somebody joined since we looked.
            Some(Code::UNKNOWN_MEMBER_ID) => has_members(&group),
            _ => failure(error),
        })?;
    }
    let reset = Reset { group: name, executed, moves };
    show(resolved, &reset, || moves_table(&reset.moves))?;
    exit::say(match executed {
        true => {
            "konekt: the offsets are moved; a database that keeps positions of its own (konekt sink) does not follow them"
        }
        false => "konekt: nothing was done: --execute does it",
    });
    Ok(())
}

fn has_members(group: &GroupDescription) -> Failure {
    let hosts: Vec<String> =
        group.members.iter().map(|member| format!("{} on {}", member.client_id, member.host)).collect();
    let who = if hosts.is_empty() { String::new() } else { format!(" ({})", hosts.join(", ")) };
    let name = &group.group;
    Failure::new(
        Exit::Failed,
        format!("group {name} has members{who}: stop them first, they would overwrite the offsets"),
    )
}

fn partitions(cluster: &Cluster, resolved: &Resolved) -> Result<Vec<TopicPartition>, Failure> {
    let selection = topic_selection(resolved, "reset_topics");
    let only = optional_number(resolved, "reset_partition");
    let topics = topics::selected(cluster, selection.as_ref())?;
    let partitions: Vec<TopicPartition> = topics
        .iter()
        .filter(|topic| selects(selection.as_ref(), &topic.name))
        .flat_map(|topic| topic.partitions.iter().map(|of| TopicPartition::new(topic.name.as_str(), of.partition)))
        .filter(|of| only.is_none_or(|only| i64::from(of.partition) == only))
        .collect();
    match partitions.is_empty() {
        true => Err(Failure::new(Exit::Failed, "no such partition; konekt admin topics lists what there is")),
        false => Ok(partitions),
    }
}

fn moves_table(moves: &[Move]) -> String {
    let mut table = Table::new(&[
        Column::Left("TOPIC"),
        Column::Right("PARTITION"),
        Column::Right("FROM"),
        Column::Right("TO"),
        Column::Right("LOG START"),
        Column::Right("LOG END"),
        Column::Right("LAG THEN"),
    ]);
    for of in moves {
        table.row([
            of.topic.clone(),
            of.partition.to_string(),
            or_dash(of.from, number),
            number(of.to),
            number(of.log_start),
            number(of.log_end),
            number(of.log_end - of.to),
        ]);
    }
    table.render()
}

//! Settings of the commands that look after positions and dead letters; each belongs to one call.

use super::*;

const fn field(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
    Field::new(Section::Run, name, kind, default, doc)
}

const CHANGING: Commands =
    Commands::of(&[Command::PositionsRewind, Command::PositionsForward, Command::PositionsForget]);

pub(super) const FIELDS: &[Field] = &[
    field("only_topic", Kind::Text, Default::Nothing, "Only what comes from this topic.")
        .commands(OPERATING)
        .flagged("topic"),
    field("only_partition", count(0, i32::MAX as u64), Default::Nothing, "Only what comes from this partition.")
        .commands(OPERATING)
        .flagged("partition"),
    field("only_offset", count(0, i64::MAX as u64), Default::Nothing, "Only the record at this offset.")
        .commands(DLQ)
        .flagged("offset"),
    field("to", Kind::Text, Default::Required, "An offset, start, end, or a time in UTC like 2026-01-31T12:00:00Z.")
        .only(&[Command::PositionsRewind, Command::PositionsForward]),
    field("yes", Kind::Switch, Default::Is("false"), "Do it without asking.").commands(CHANGING),
    field("reason", Kind::Text, Default::Nothing, "Only letters with this class, or this in their message.")
        .commands(DLQ),
    field("since", Kind::Text, Default::Nothing, "Only letters from this time on, in UTC.").commands(DLQ),
    field("until", Kind::Text, Default::Nothing, "Only letters before this time, in UTC.").commands(DLQ),
    field("resend", Kind::Switch, Default::Is("false"), "Send records back to their topics, not into a database.")
        .only(&[Command::DlqReplay]),
    field("replays_max", count(1, 1_000_000), Default::Is("3"), "How often a record may be sent back to its topic.")
        .only(&[Command::DlqReplay]),
    field(
        "progress",
        Kind::Text,
        Default::Is("konekt-replay.progress"),
        "The file that notes which letters were sent back, so that none is sent twice.",
    )
    .only(&[Command::DlqReplay]),
];

//! Settings: what is asked of the ODBC drivers and of the table of errors.

use super::*;

const fn field(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
    Field::new(Section::Run, name, kind, default, doc)
}

pub(super) const FIELDS: &[Field] = &[
    field(
        "connect",
        Kind::Switch,
        Default::Is("false"),
        "Log in, and try what the sink needs; nothing is left behind.",
    )
    .only(&[Command::CheckDrivers]),
    field("load", Kind::Text, Default::Nothing, "Load the driver with this file, say what came of it, and do no more.")
        .only(&[Command::CheckDrivers]),
    field("code", Kind::Text, Default::Nothing, "A SQLSTATE such as 40P01, or a number such as 1205; none: all.")
        .only(&[Command::Errors])
        .positional(),
    field(
        "system",
        Kind::Choice(&["sqlserver", "postgres", "mysql", "sqlite", "mongodb", "any"]),
        Default::Nothing,
        "Whose codes; any is ODBC itself.",
    )
    .only(&[Command::Errors]),
];

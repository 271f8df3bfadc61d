//! SQL Server without a server.

#[path = "../support/mod.rs"]
mod support;

#[test]
fn the_drivers_are_where_they_are_said_to_be() {
    use support::odbc;
    for name in [odbc::MICROSOFT, odbc::FREETDS, odbc::POSTGRESQL, odbc::MARIADB, odbc::SQLITE] {
        support::or_skip(odbc::driver(name));
    }
}

//! SQL Server without a server: Microsoft's driver and FreeTDS against the TDS double. What the tests of the sink build on
//! is seen here without it: that the double means what it says, and that real drivers believe it.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tds/mod.rs"]
mod tds;

mod client;
#[path = "../contract/mod.rs"]
mod contract;
mod faults;
mod login;
mod sink;
mod statements;
mod trial;
mod wire;

use client::Client;
use support::{odbc, or_skip};

/// One test per scenario and driver.
macro_rules! with_both_drivers {
    ($($scenario:path as $name:ident),* $(,)?) => {
        mod microsoft {
            $(#[test] fn $name() { super::run($crate::odbc::MICROSOFT, $scenario); })*
        }
        mod freetds {
            $(#[test] fn $name() { super::run($crate::odbc::FREETDS, $scenario); })*
        }
    };
}

with_both_drivers! {
    crate::login::welcomes as logs_in_and_is_told_what_it_talks_to,
    crate::login::refusals as what_is_refused_says_why,
    crate::wire::array as an_array_is_prepared_once_and_sent_in_one_message,
    crate::wire::values as every_value_arrives_as_it_was,
    crate::wire::long_value as a_megabyte_arrives_as_it_was,
    crate::wire::declared_size as a_parameter_takes_what_it_was_declared_for,
    crate::statements::guards as tables_and_indexes_are_made_once,
    crate::statements::catalogue as the_catalogue_tells_types_and_sizes,
    crate::statements::compare_and_set as an_update_counts_what_it_changed,
    crate::statements::savepoints as savepoints_undo_what_came_after_them,
    crate::statements::isolation as a_transaction_is_seen_when_it_is_committed,
    crate::statements::constraints as constraints_are_the_servers_errors,
    crate::statements::collation as text_is_compared_as_a_server_does_by_default,
    crate::statements::row_limits as rows_are_limited,
    crate::faults::errors_at_a_row as an_error_hits_the_row_it_was_meant_for,
    crate::faults::deadlock as a_deadlock_takes_the_transaction_with_it,
    crate::faults::hanging_up as a_severe_error_ends_the_connection,
    crate::faults::lost_links as a_cut_link_keeps_what_was_committed,
    crate::faults::late_answers as late_answers_and_none,
    crate::sink::contract as the_sink_keeps_the_contract,
    crate::sink::bad_records as the_sink_puts_bad_records_aside,
    crate::sink::tables as the_sinks_tables_are_looked_after,
    crate::sink::dry_run as nothing_is_kept_of_a_dry_run,
    crate::sink::refusals as each_refusal_has_its_class_and_passes,
    crate::sink::bad_record as a_record_that_does_not_fit_is_named,
    crate::sink::lost_links as a_lost_link_repeats_and_loses_nothing,
    crate::sink::silence as a_server_that_does_not_answer_is_left_behind,
    crate::trial::connect as check_drivers_tries_a_database,
    crate::sink::logins as a_login_that_is_refused_says_why,
}

fn run(driver: &'static str, scenario: fn(&Client)) {
    if let Some(file) = or_skip(odbc::driver(driver)) {
        scenario(&Client::new(driver, file));
    }
}

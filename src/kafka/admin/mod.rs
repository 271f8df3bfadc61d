//! What an operator asks a cluster: topics, brokers, groups, committed offsets, settings, and how old a record is.
//!
//! Every function takes the [`Cluster`] and asks whom it must: any broker ([`topics`], [`configs`] of topics), every
//! broker ([`groups`], to list them), a group's coordinator ([`groups`], [`offsets`]), the partitions' leaders
//! ([`timestamps`]). Nothing is kept between calls. What is returned can be serialized: it is what `konekt admin --json`
//! prints.

pub mod configs;
pub mod groups;
pub mod offsets;
pub mod timestamps;
pub mod topics;

pub use self::topics::create_topic;
use super::cluster::Cluster;
use super::connection::Connection;
use super::error::{Code, Error};
use crate::core::backoff::Backoff;
use crate::door;
use std::time::Duration;

const RETRY_BASE: Duration = Duration::from_millis(100);
const RETRY_CAP: Duration = Duration::from_secs(1);

/// Asks a group's coordinator, and again while it is moving or loading, until `request_timeout` is over.
fn ask_coordinator<T>(
    cluster: &Cluster,
    group: &str,
    ask: impl Fn(&mut Connection) -> Result<T, Error>,
) -> Result<T, Error> {
    let deadline = door::now() + cluster.options().request_timeout;
    let mut backoff = Backoff::new(RETRY_BASE, RETRY_CAP);
    loop {
        let answer = cluster.find_group_coordinator(group).and_then(|(_, address)| {
            let mut connection = Connection::open(&address, cluster.options())?;
            ask(&mut connection)
        });
        match answer {
            Err(error) if error.code().is_some_and(Code::is_retriable) && door::now() < deadline => {
                log::debug!("asking the coordinator again: {error}");
                door::sleep(backoff.fail(door::random()));
            }
            answer => return answer,
        }
    }
}

/// The error of an answer, if its code is one.
fn check(
    connection: &Connection,
    api: &'static str,
    subject: impl FnOnce() -> String,
    code: i16,
    message: Option<impl ToString>,
) -> Result<(), Error> {
    match Code(code) {
        Code::NONE => Ok(()),
        code => Err(Error::Broker {
            address: connection.address().into(),
            api,
            subject: subject(),
            code,
            message: message.map(|text| text.to_string()),
        }),
    }
}

//! What Konekt does with real databases behind ODBC: the contract of every sink, everything that can fail between a
//! client and a server, what people get wrong, and the main job from a real Kafka.

#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

mod bench;
#[path = "../contract/mod.rs"]
mod contract;
mod faults;
mod harness;
mod live;
mod load;
mod messages;
mod operate;
mod refusals;
mod rights;
mod subject;
#[path = "../support/mod.rs"]
mod support;

/// One test per scenario and server. A scenario is a function of a running server.
macro_rules! with_every_server {
    ($($scenario:ident),* $(,)?) => {
        mod postgres {
            $(#[test] fn $scenario() { crate::with($crate::support::databases::postgres(), super::$scenario); })*
        }
        mod mariadb {
            $(#[test] fn $scenario() { crate::with($crate::support::databases::mariadb(), super::$scenario); })*
        }
    };
}
pub(crate) use with_every_server;

fn with(
    server: Result<&'static support::databases::Server, String>,
    scenario: fn(&'static support::databases::Server),
) {
    if let Some(server) = support::or_skip(server) {
        scenario(server);
    }
}

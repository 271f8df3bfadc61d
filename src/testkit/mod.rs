//! Fakes of what stands around the engine: a cluster with a consumer group, a database, dead letters, a clock, bad luck.
//!
//! Behind the cargo feature `testkit`, for simulations ([`engine::turns`](crate::engine::turns)) and for tests of what is
//! built on the library. All of it is in memory and driven by a seed; nothing waits. Whatever happens that an invariant
//! speaks of is written to the [`Journal`], so a test need not believe what the engine says of itself.
//!
//! - `clock` — time that moves when it is told to
//! - `faults` — what goes wrong, and defects to plant ([`Bug`])
//! - `log` — a partition's log with holes, control and aborted records
//! - `cluster`, `source` — the group and its offsets, and one member's way to them
//! - `database`, `letters` — where rows, positions and letters go

mod clock;
mod cluster;
mod database;
mod faults;
mod journal;
mod letters;
mod log;
mod source;

pub use self::clock::VirtualClock;
pub use self::cluster::Cluster;
pub use self::database::{Database, DatabaseSink, Manner};
pub use self::faults::{Bug, Fault, Faults};
pub use self::journal::{Entry, Journal};
pub use self::letters::LetterBox;
pub use self::log::{Content, PartitionLog};
pub use self::source::MemberSource;

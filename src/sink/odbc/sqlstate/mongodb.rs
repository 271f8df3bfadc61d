//! MongoDB, which has numbers and no SQLSTATEs. Source: `src/mongo/base/error_codes.yml` of the server.

use super::{Entry, System};
use crate::core::verdict::ErrorClass::{self, *};

const fn row(native: i32, class: ErrorClass, meaning: &'static str, cure: &'static str) -> Entry {
    Entry::new(System::MongoDb, class, meaning, cure).native(native)
}

const AGAIN: &str = "nothing: it is tried again";
const ELECTION: &str = "nothing: it is tried again on the new primary";
const RIGHTS: &str = "grant the user readWrite on the database, and on the one of the positions";
const RULE: &str = "see the record that is named and the collection's validator and indexes";
const SIZE: &str = "MongoDB's limit is 16 MiB: keep such values elsewhere, or split them before";
const SET: &str = "it needs a replica set: initiate one (a single member will do); a sink also works with \
                   --delivery at-least-once";

pub(super) const ENTRIES: &[Entry] = &[
    row(2, Data, "a value is not what the operation takes", RULE),
    row(6, Transient, "a server is not reached", AGAIN),
    row(7, Transient, "a server is not found", AGAIN),
    row(9, Schema, "the command is not understood", "use a MongoDB from 4.2 on"),
    row(11, Auth, "there is no such user", "check the user and authSource in the address"),
    row(13, Auth, "the user may not do that", RIGHTS),
    row(14, Data, "a value's type does not fit", RULE),
    row(15, Data, "the document is nested too deeply", "MongoDB's limit is 100 levels"),
    row(17, Data, "the document is larger than the protocol takes", SIZE),
    row(18, Auth, "the login failed", "check user, password, authSource and authMechanism in the address"),
    row(20, Schema, "the server has no transactions, or refuses the operation in one", SET),
    row(24, Contention, "somebody else holds the lock", AGAIN),
    row(26, Schema, "there is no such collection", "make it, or let the user make it: grant createCollection"),
    row(27, Schema, "there is no such index", "see the collection's indexes"),
    row(43, Transient, "the cursor is gone", AGAIN),
    row(46, Contention, "somebody else holds the lock", AGAIN),
    row(50, Transient, "the operation took longer than its limit", "raise --mongodb-timeout where that is usual"),
    row(52, Data, "a field's name begins with $, which this server does not store", "use MongoDB 5.0 or later"),
    row(57, Data, "a field's name has a dot in it, which this server does not store", "use MongoDB 3.6 or later"),
    row(59, Schema, "the server does not know the command", "use a MongoDB from 4.2 on"),
    row(61, Schema, "the document has no shard key", "the collection's shard key must be part of each document"),
    row(64, Transient, "too few members confirmed the write in time", "see konekt mongo-health"),
    row(66, Data, "the field may not be changed", RULE),
    row(73, Schema, "the collection's name is not legal", "name another with --mongodb-collection"),
    row(76, Schema, "the server is no member of a replica set", SET),
    row(79, Schema, "the write concern is not known", "see w= in the address"),
    row(86, Schema, "there is another index of that name", "see the collection's indexes"),
    row(89, Transient, "the network was too slow", AGAIN),
    row(91, Transient, "the server is shutting down", ELECTION),
    row(94, Transient, "the replica set is not initiated yet", "run rs.initiate() on one member"),
    row(100, Schema, "fewer members hold data than the write concern asks for", "see w= in the address"),
    row(112, Contention, "another transaction changed the same document", AGAIN),
    row(121, Data, "the collection's validator refuses the document", RULE),
    row(133, Transient, "no member is primary", ELECTION),
    row(134, Transient, "the member cannot read at that time", AGAIN),
    row(146, Overload, "memory is short for the operation", "lower batch_size"),
    row(166, Schema, "this is a view or a capped collection", "name a collection with --mongodb-collection"),
    row(189, Transient, "the primary stepped down", ELECTION),
    row(202, Transient, "another member did not answer in time", AGAIN),
    row(225, Transient, "the transaction is too old", AGAIN),
    row(244, Transient, "the transaction was aborted", AGAIN),
    row(246, Transient, "no snapshot is there yet", AGAIN),
    row(251, Transient, "the transaction is gone: it took longer than a minute, or the primary changed", AGAIN),
    row(256, Transient, "the transaction was committed already", AGAIN),
    row(260, Schema, "the change stream cannot go on from its token", "see --on-lost of konekt source mongodb"),
    row(262, Transient, "the operation took longer than its limit", AGAIN),
    row(263, Schema, "the operation is not allowed in a transaction", "make the collection before"),
    row(280, Schema, "the change stream cannot go on", "see --on-lost of konekt source mongodb"),
    row(286, Schema, "the oplog no longer reaches back to the token", "see --on-lost of konekt source mongodb"),
    row(290, Overload, "the transaction took longer than a minute", "lower batch_size"),
    row(388, Overload, "the transaction is too large for the server's cache", "lower batch_bytes_max"),
    row(391, Transient, "the login has to be renewed", AGAIN),
    row(9001, Transient, "the connection broke", AGAIN),
    row(10107, Transient, "the server is not primary any more", ELECTION),
    row(10334, Data, "the document is larger than MongoDB stores", SIZE),
    row(11000, Data, "a unique index has that value already", RULE),
    row(11600, Transient, "the server is shutting down", ELECTION),
    row(11602, Transient, "the operation was broken off by an election", ELECTION),
    row(13435, Transient, "the server is not primary", ELECTION),
    row(13436, Transient, "the member is recovering or not primary", ELECTION),
    row(14031, Overload, "the disk is full", "free disk space; it is tried again"),
    row(17280, Data, "an index's key is longer than this server stores", RULE),
    row(17419, Data, "the document grows beyond 16 MiB", SIZE),
    row(17420, Data, "the document grows beyond 16 MiB", SIZE),
    row(40573, Schema, "a server that is no member of a replica set has no change streams", SET),
];

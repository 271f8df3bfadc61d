//! The servers themselves: a test of Konekt proves nothing when its server is not what it seems.

use mongodb::bson::{Document, doc};

use crate::support::mongo::{self, Mongo};
use crate::support::or_skip;

/// What `hello` says of a member.
fn hello(mongo: &Mongo, index: usize) -> Document {
    mongo.admin(index, doc! { "hello": 1 })
}

#[test]
fn a_set_of_three_elects_another_primary_and_keeps_its_documents() {
    let Some(mongo) = or_skip(mongo::own(3)) else { return };
    let first = mongo.primary();
    let documents = mongo.database().collection::<Document>("kept");
    documents.insert_one(doc! { "_id": 1 }).run().expect("it is written");
    mongo.kill(first);
    let second = mongo.primary();
    assert_ne!(first, second);
    documents.insert_one(doc! { "_id": 2 }).run().expect("it is written to the new primary");
    mongo.start_again(first);
    assert_eq!(documents.count_documents(doc! {}).run().expect("an answer"), 2);
    assert_eq!(hello(&mongo, first).get_str("setName").ok(), Some(mongo::SET));
}

#[test]
fn a_standalone_is_no_replica_set() {
    let Some(mongo) = or_skip(mongo::own(0)) else { return };
    let hello = hello(&mongo, 0);
    assert_eq!((hello.get_bool("isWritablePrimary").ok(), hello.get("setName")), (Some(true), None));
}

#[test]
fn a_secured_set_lets_in_nobody_without_the_password() {
    let Some(mongo) = or_skip(mongo::secured()) else { return };
    let documents = mongo.database().collection::<Document>("kept");
    documents.insert_one(doc! { "_id": 1 }).run().expect("it is written");
    let wrong = mongo.uri().replace(mongo::PASSWORD[1], "wrong");
    let stranger = mongodb::sync::Client::with_uri_str(wrong).expect("the address is well-formed");
    let error = stranger.list_database_names().run().expect_err("the password is wrong").to_string();
    assert!(error.contains("Authentication failed"), "{error}");
}

#[test]
fn stopped_servers_leave_no_folder() {
    let Some(mongo) = or_skip(mongo::own(1)) else { return };
    let folder = mongo.folder(0).to_path_buf();
    assert!(folder.exists());
    mongo.stop(0);
    mongo.start_again(0);
    drop(mongo);
    assert!(!folder.exists(), "{} is left", folder.display());
}

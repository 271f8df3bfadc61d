//! What each place on the way holds: a sum over each page, by its identifier.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use konekt::mongo::json::Formatter;
use mongodb::bson::{Document, doc};
use mongodb::sync::Collection;
use rusqlite::Connection;
use serde_json::Value;

use crate::support::databases::Database;

/// The pages of one place.
pub type Sums = BTreeMap<String, u64>;

/// Of lines as `konekt data sample` prints them.
pub fn of_lines(lines: &str) -> Sums {
    let page = |line| {
        let page: Value = serde_json::from_str(line).expect("JSON");
        (page["identifier"].to_string(), sum(page))
    };
    lines.lines().map(page).collect()
}

pub fn of_mongodb(pages: &Collection<Document>) -> Sums {
    let found = pages.find(doc! {}).run().expect("an answer");
    let page = |document: Document| {
        let id = document.get_str("_id").expect("a text").to_owned();
        let text = Formatter::SimplifiedJson.owned(&document).expect("a document");
        (id, sum(serde_json::from_str(&text).expect("JSON")))
    };
    found.map(|document| page(document.expect("a document"))).collect()
}

/// The newest row of each key: those of one key are in one partition.
const ROWS: &str = "processed_messages ORDER BY \"partition\", \"offset\"";

pub fn of_sqlite(database: &Connection) -> Sums {
    let mut statement = database.prepare(&format!("SELECT message_key, message_value FROM {ROWS}")).expect("the table");
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
    let rows = statement.query_map([], row).expect("rows");
    rows.map(|row| row.expect("a row")).map(|(key, value)| row_sum(&key, &value)).collect()
}

pub fn of_postgres(database: &Database<'_>) -> Sums {
    let mut sums = Sums::new();
    database.each(&["message_key", "message_value"], ROWS, &mut |cells| {
        let text = |index: usize| cells[index].as_str().expect("text");
        sums.extend([row_sum(text(0), text(1))]);
    });
    sums
}

fn row_sum(key: &str, value: &str) -> (String, u64) {
    let key: Value = serde_json::from_str(key).expect("a key is JSON");
    (key["_id"].as_str().expect("a text").to_owned(), sum(serde_json::from_str(value).expect("a page is JSON")))
}

/// Of a page without the id that MongoDB gave it.
fn sum(mut page: Value) -> u64 {
    page.as_object_mut().expect("an object").shift_remove("_id");
    let mut hasher = DefaultHasher::new();
    page.to_string().hash(&mut hasher);
    hasher.finish()
}

//! The initial copy: every document that is there, as an insert event that says `copyingData`.

use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::error::Error;
use mongodb::options::ReadConcern;
use mongodb::sync::Client;

use super::SourceOptions;

/// Databases of MongoDB's own.
const INTERNAL: [&str; 3] = ["admin", "config", "local"];

/// The collections that are watched, by database.
pub fn namespaces(client: &Client, options: &SourceOptions) -> Result<Vec<(String, String)>, Error> {
    let databases = match &options.database {
        Some(database) => vec![database.clone()],
        None => {
            let names = client.list_database_names().run()?;
            names.into_iter().filter(|name| !INTERNAL.contains(&name.as_str())).collect()
        }
    };
    let mut found = Vec::new();
    for database in databases {
        let mut collections = match &options.collection {
            Some(collection) => vec![collection.clone()],
            None => client.database(&database).list_collection_names().filter(doc! { "type": "collection" }).run()?,
        };
        collections.retain(|name| !name.starts_with("system."));
        collections.sort();
        found.extend(collections.into_iter().map(|collection| (database.clone(), collection)));
    }
    Ok(found)
}

/// The documents of a collection as events, made by the server so that the pipeline sees them as it sees others.
pub fn events(
    client: &Client,
    options: &SourceOptions,
    (database, collection): &(String, String),
) -> Result<impl Iterator<Item = Result<RawDocumentBuf, Error>> + use<>, Error> {
    let event = doc! {
        "_id": { "_id": "$_id", "copyingData": true },
        "operationType": "insert",
        "documentKey": { "_id": "$_id" },
        "fullDocument": "$$ROOT",
        "ns": { "db": { "$literal": database }, "coll": { "$literal": collection } },
    };
    let first: Document = doc! { "$replaceRoot": { "newRoot": event } };
    let stages = std::iter::once(first).chain(options.pipeline.iter().cloned());
    let collection = client.database(database).collection::<Document>(collection);
    // Nothing is published that an election could undo.
    collection.aggregate(stages).read_concern(ReadConcern::majority()).with_type::<RawDocumentBuf>().run()
}

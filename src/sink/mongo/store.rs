//! Writes changes into a collection: inserts through the driver, which cuts them to the server's limits, and replacements
//! and removals by commands of our own, since the driver's bulk write needs MongoDB 8.

use std::collections::HashSet;

use mongodb::bson::{Bson, Document, RawDocumentBuf, doc, rawdoc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::WriteConcern;
use mongodb::sync::{ClientSession, Database};

use super::document::Change;
use crate::mongo::error::Said;

/// Bytes and items of one command. A command as a whole may have 16 MiB; one larger document still passes, alone.
const COMMAND_BYTES: usize = 12 << 20;
const COMMAND_ITEMS: usize = 10_000;

/// A change that the server refused: the record's index, and what was said.
pub type Refusal = (usize, Said);

/// Where to write, and how: in a transaction, or alone with this write concern.
pub struct Place<'a> {
    pub database: &'a Database,
    pub collection: &'a str,
    pub session: Option<&'a mut ClientSession>,
    pub concern: WriteConcern,
}

/// Adds documents. In a transaction the first refusal ends it; otherwise all refusals are answered.
///
/// # Errors
/// When not even refusals are known.
pub fn insert(place: &mut Place<'_>, changes: &[&Change]) -> Result<Vec<Refusal>, Error> {
    let documents: Vec<&RawDocumentBuf> = changes.iter().filter_map(|change| change.document.as_ref()).collect();
    if documents.is_empty() {
        return Ok(Vec::new());
    }
    let collection = place.database.collection::<RawDocumentBuf>(place.collection);
    let insert = collection.insert_many(documents);
    let result = match &mut place.session {
        Some(session) => insert.session(&mut **session).run(),
        None => insert.ordered(false).write_concern(place.concern.clone()).run(),
    };
    let Err(error) = result else { return Ok(Vec::new()) };
    match &*error.kind {
        ErrorKind::InsertMany(many) if many.write_concern_error.is_none() => {
            let refused = many.write_errors.iter().flatten().filter_map(|refused| {
                let said = Said { code: Some(refused.code), words: refused.message.clone(), unreachable: false };
                Some((changes.get(refused.index)?.index, said))
            });
            Ok(refused.collect())
        }
        _ => Err(error),
    }
}

/// Replaces and removes documents. Of several changes of one document only the last is made.
///
/// # Errors
/// When not even refusals are known.
pub fn replace(place: &mut Place<'_>, changes: &[&Change]) -> Result<Vec<Refusal>, Error> {
    let (mut seen, mut last) = (HashSet::new(), Vec::new());
    last.extend(changes.iter().rev().filter(|change| seen.insert(&change.id)).copied());
    last.reverse();
    let (replaced, removed): (Vec<&Change>, Vec<&Change>) = last.into_iter().partition(|it| it.document.is_some());
    let mut refused = commands(place, "update", "updates", &replaced)?;
    refused.extend(commands(place, "delete", "deletes", &removed)?);
    Ok(refused)
}

/// One command after the other, until all changes are made or, in a transaction, one is refused.
fn commands(
    place: &mut Place<'_>,
    command: &str,
    items_name: &str,
    changes: &[&Change],
) -> Result<Vec<Refusal>, Error> {
    let (mut refused, mut rest) = (Vec::new(), changes);
    while !rest.is_empty() && (refused.is_empty() || place.session.is_none()) {
        let (now, later) = rest.split_at(fitting(rest));
        refused.extend(run(place, command, items_name, now)?);
        rest = later;
    }
    Ok(refused)
}

/// How many of the first changes go into one command.
fn fitting(changes: &[&Change]) -> usize {
    let mut bytes = 0;
    let fit = changes.iter().take(COMMAND_ITEMS).take_while(|change| {
        bytes += change.document.as_ref().map_or(0, |document| document.as_bytes().len()) + 256;
        bytes <= COMMAND_BYTES
    });
    fit.count().max(1)
}

fn run(place: &mut Place<'_>, command: &str, items_name: &str, changes: &[&Change]) -> Result<Vec<Refusal>, Error> {
    let mut items = mongodb::bson::RawArrayBuf::new();
    for change in changes {
        let query = RawDocumentBuf::try_from(&doc! { "_id": change.id.clone() })?;
        items.push(match &change.document {
            Some(document) => rawdoc! { "q": query, "u": document.clone(), "upsert": true },
            None => rawdoc! { "q": query, "limit": 1 },
        });
    }
    let mut whole = RawDocumentBuf::new();
    whole.append(name(command)?, place.collection);
    whole.append(name("ordered")?, place.session.is_some());
    if place.session.is_none() {
        let concern = mongodb::bson::serialize_to_document(&place.concern)?;
        whole.append(name("writeConcern")?, RawDocumentBuf::try_from(&concern)?);
    }
    whole.append(name(items_name)?, items);
    let run = place.database.run_raw_command(whole);
    let answer = match &mut place.session {
        Some(session) => run.session(&mut **session).run()?,
        None => run.run()?,
    };
    refusals(&answer, changes)
}

fn name(text: &str) -> Result<mongodb::bson::raw::CString, Error> {
    Ok(text.to_owned().try_into()?)
}

/// What an answer says of single changes.
fn refusals(answer: &Document, changes: &[&Change]) -> Result<Vec<Refusal>, Error> {
    if let Ok(concern) = answer.get_document("writeConcernError") {
        // Too few members have it yet: as if it had not been answered.
        return Err(Error::custom(concern.get_str("errmsg").unwrap_or("too few members confirmed it").to_owned()));
    }
    let errors = answer.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default();
    let refused = errors.iter().filter_map(Bson::as_document).filter_map(|error| {
        let said = Said {
            code: error.get_i32("code").ok(),
            words: error.get_str("errmsg").unwrap_or("refused").to_owned(),
            unreachable: false,
        };
        let index = usize::try_from(error.get_i32("index").ok()?).ok()?;
        Some((changes.get(index)?.index, said))
    });
    Ok(refused.collect())
}

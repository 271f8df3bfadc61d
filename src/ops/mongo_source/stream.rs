//! Opens a change stream, and says what its failures mean.

use std::time::Duration;

use mongodb::bson::{Document, RawDocumentBuf, Timestamp, doc};
use mongodb::change_stream::event::ResumeToken;
use mongodb::error::{Error, RESUMABLE_CHANGE_STREAM_ERROR};
use mongodb::options::{FullDocumentBeforeChangeType, FullDocumentType};
use mongodb::sync::{ChangeStream, Client};

use super::{BeforeChange, FaultKind, FullDocument, SourceFault, SourceOptions};
use crate::core::verdict::ErrorClass;
use crate::mongo::error::Said;
use crate::sink::odbc::sqlstate::{System, classify};

/// How long the server holds an answer back when nothing happens: also how soon a stop is noticed.
pub const AWAIT: Duration = Duration::from_millis(500);

/// MongoDB's codes for a place that is not in the oplog any more.
const LOST: [i32; 3] = [260, 280, 286];
/// And for an event that is larger than a document may be.
pub const TOO_LARGE: i32 = 10334;
/// And for a server that is no member of a replica set.
const NOT_REPLICATED: i32 = 40573;

/// Where a stream begins.
#[derive(Clone, Debug)]
pub enum From {
    Now,
    Token(String),
    Time(Timestamp),
}

/// Whether events come with the documents before them, where the settings want these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreImages {
    With,
    /// One event at a time: of the next ones one is too large, and the server gives none of its company.
    OneByOne,
    /// The next event is too large with them.
    Without,
}

/// Opens the stream.
pub fn open(
    client: &Client,
    options: &SourceOptions,
    from: &From,
    pre_images: PreImages,
) -> Result<ChangeStream<RawDocumentBuf>, Error> {
    let (database, collection);
    let watch = match (&options.database, &options.collection) {
        (Some(named), Some(of)) => {
            collection = client.database(named).collection::<Document>(of);
            collection.watch()
        }
        (Some(named), None) => {
            database = client.database(named);
            database.watch()
        }
        _ => client.watch(),
    };
    let mut watch = watch.pipeline(options.pipeline.clone()).max_await_time(AWAIT);
    if let Some(full) = full_document(options.full_document) {
        watch = watch.full_document(full);
    }
    let before = before_change(options.full_document_before_change);
    if let Some(before) = before.filter(|_| pre_images != PreImages::Without) {
        watch = watch.full_document_before_change(before);
    }
    let batch_size = if pre_images == PreImages::With { options.batch_size } else { 1 };
    if batch_size > 0 {
        watch = watch.batch_size(batch_size);
    }
    let watch = match from {
        From::Now => watch,
        // Unlike resumeAfter, this also goes on behind an invalidate event.
        From::Token(text) => watch.start_after(token(text)?),
        From::Time(at) => watch.start_at_operation_time(*at),
    };
    Ok(watch.run()?.with_type::<RawDocumentBuf>())
}

fn full_document(wanted: FullDocument) -> Option<FullDocumentType> {
    match wanted {
        FullDocument::Default => None,
        FullDocument::UpdateLookup => Some(FullDocumentType::UpdateLookup),
        FullDocument::WhenAvailable => Some(FullDocumentType::WhenAvailable),
        FullDocument::Required => Some(FullDocumentType::Required),
    }
}

fn before_change(wanted: BeforeChange) -> Option<FullDocumentBeforeChangeType> {
    match wanted {
        BeforeChange::Off => None,
        BeforeChange::WhenAvailable => Some(FullDocumentBeforeChangeType::WhenAvailable),
        BeforeChange::Required => Some(FullDocumentBeforeChangeType::Required),
    }
}

fn token(text: &str) -> Result<ResumeToken, Error> {
    mongodb::bson::deserialize_from_document(doc! { "_data": text }).map_err(Error::from)
}

/// The text of a token, which is all there is in it.
pub fn token_text(token: &ResumeToken) -> Option<String> {
    let document = mongodb::bson::serialize_to_document(token).ok()?;
    document.get_str("_data").ok().map(str::to_owned)
}

/// What a failure of the stream means.
pub fn fault(options: &SourceOptions, what: &str, error: &Error) -> SourceFault {
    let said = Said::of(error);
    let misfits = if said.unreachable { options.deployment.misfits() } else { Vec::new() };
    let entry = said.code.map(|code| classify(System::MongoDb, "", code, &said.words));
    let kind = match (said.code, entry.map(|entry| entry.class)) {
        _ if !misfits.is_empty() => FaultKind::Settings,
        (Some(code), _) if LOST.contains(&code) => FaultKind::Lost,
        (Some(NOT_REPLICATED), _) | (_, Some(ErrorClass::Auth)) => FaultKind::Settings,
        (None, _) if said.unreachable => FaultKind::Passing,
        (_, Some(ErrorClass::Transient | ErrorClass::Contention | ErrorClass::Overload)) => FaultKind::Passing,
        _ if error.contains_label(RESUMABLE_CHANGE_STREAM_ERROR) => FaultKind::Passing,
        _ => FaultKind::Failed,
    };
    let cure = match (misfits.first(), entry.filter(|_| kind != FaultKind::Passing)) {
        (Some(misfit), _) => format!("; {misfit}"),
        (None, Some(entry)) => format!("; {}", entry.cure),
        (None, None) => String::new(),
    };
    SourceFault::new(
        kind,
        format!("mongodb {}: cannot {what}: {}{cure}", options.deployment.hosts().join(","), said.text()),
    )
}

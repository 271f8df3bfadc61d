//! Makes MongoDB's sink of the settings, and says what a person must mend before it can work.

use std::sync::Arc;

use super::exit::{Exit, Failure};
use crate::config::MongoSettings;
use crate::consumer::ConsumerConfig;
use crate::port::Sink;
#[cfg(feature = "mongodb")]
use crate::sink::mongo::{MongoSink, operate::MongoTables};

/// Its positions and FAILED documents, for people.
#[cfg(feature = "mongodb")]
pub fn tables(settings: &MongoSettings, consumer: &ConsumerConfig) -> Result<MongoTables, Failure> {
    unopened(settings, consumer).map(|sink| MongoTables::of(&sink))
}

/// The sink, after it was tried once. What only a person can mend ends the run here (a wrong address, password or right;
/// a server that cannot do what is asked); what may pass, as a server that is down, is left to the engine's patience.
#[cfg(feature = "mongodb")]
pub fn sink(settings: &MongoSettings, consumer: &ConsumerConfig) -> Result<Arc<dyn Sink>, Failure> {
    let sink = unopened(settings, consumer)?;
    match sink.check() {
        Err(error) if error.class.needs_person() => Err(Failure::new(Exit::Usage, error)),
        Err(error) => {
            log::warn!("{error}");
            Ok(Arc::new(sink))
        }
        Ok(()) => Ok(Arc::new(sink)),
    }
}

#[cfg(feature = "mongodb")]
fn unopened(settings: &MongoSettings, consumer: &ConsumerConfig) -> Result<MongoSink, Failure> {
    use std::time::Duration;

    use crate::door::SystemClock;
    use crate::engine::Delivery;
    use crate::sink::mongo::{MongoSinkOptions, WriteMode};

    let deployment = deployment(&settings.uri)?;
    let database = settings.database.clone().or_else(|| deployment.default_database().map(str::to_owned));
    let database = database.ok_or_else(|| {
        let words = "mongodb_database is missing: give --mongodb-database, set MONGODB_DATABASE, or name it in the \
                     address: mongodb://host/database";
        Failure::new(Exit::Usage, words)
    })?;
    let sink = MongoSink::new(MongoSinkOptions {
        deployment,
        database,
        collection: settings.collection.clone(),
        mode: match settings.mode.as_str() {
            "upsert" => WriteMode::Upsert,
            "document" => WriteMode::Document,
            _ => WriteMode::Insert,
        },
        consumer_group: consumer.group_id.as_str().into(),
        exactly_once: consumer.delivery == Delivery::ExactlyOnce,
        dry_run: consumer.dry_run,
        timeout: Duration::from_secs(settings.timeout),
        clock: Arc::new(SystemClock::start()),
    });
    sink.map_err(|error| Failure::new(Exit::Usage, error))
}

/// The deployment of an address.
///
/// # Errors
/// What is wrong with it.
#[cfg(feature = "mongodb")]
pub fn deployment(uri: &crate::core::secret::Secret) -> Result<crate::mongo::Deployment, Failure> {
    crate::mongo::Deployment::parse(uri).map_err(|words| Failure::new(Exit::Usage, format!("mongodb_uri: {words}")))
}

/// Without MongoDB there is only an explanation.
#[cfg(not(feature = "mongodb"))]
pub fn sink(_settings: &MongoSettings, _consumer: &ConsumerConfig) -> Result<Arc<dyn Sink>, Failure> {
    Err(built_without())
}

#[cfg(not(feature = "mongodb"))]
pub fn built_without() -> Failure {
    Failure::new(Exit::Unavailable, "this konekt was built without MongoDB: build it with the feature `mongodb`")
}

//! Makes the ODBC sink of the settings, and says what a person must mend before it can work.

use std::sync::Arc;

use super::exit::{Exit, Failure};
use crate::config::{OdbcLogin, OdbcSettings, SqlServerLogin};
use crate::consumer::ConsumerConfig;
use crate::door;
use crate::ops::bench::{Job, Measurement};
use crate::port::Sink;
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
use crate::sink::odbc::OdbcOptions;
use crate::sink::odbc::connection_string::{Encryption, SqlServer};
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
use crate::sink::odbc::connection_string::{redacted, resolved};
use crate::sink::odbc::drivers::{Driver, installed, preferred_for_sql_server};
use crate::sink::odbc::trial::Trial;
use crate::sink::query::MessageDatabase;
use crate::sink::script::Statement;

/// The sink, after it was tried once. What only a person can mend ends the run here: a driver that is absent (exit 3), a
/// wrong password, database or table (exit 2). What may pass, as a server that is down, is left to the engine's patience.
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
pub fn sink(settings: &OdbcSettings, consumer: &ConsumerConfig) -> Result<Arc<dyn Sink>, Failure> {
    use crate::sink::odbc::OdbcSink;

    let sink = OdbcSink::new(options(settings, consumer)?).map_err(|unusable| failure(&unusable))?;
    match sink.check() {
        Err(unusable) if failure(&unusable).exit == Exit::Failed => {
            let follows = if unusable.to_string().ends_with("tried again") { "" } else { "; it is tried again" };
            log::warn!("{unusable}{follows}");
            Ok(Arc::new(sink))
        }
        Err(unusable) => Err(failure(&unusable)),
        Ok(()) => Ok(Arc::new(sink)),
    }
}

/// The database, for one who looks at its messages.
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
pub fn messages(settings: &OdbcSettings, consumer: &ConsumerConfig) -> Result<Box<dyn MessageDatabase>, Failure> {
    use crate::sink::odbc::OdbcMessages;

    match OdbcMessages::connect(options(settings, consumer)?) {
        Ok(database) => Ok(Box::new(database)),
        Err(unusable) => Err(failure(&unusable)),
    }
}

/// A bench's bare loop into a table that the sink has made.
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
pub fn ceiling(job: &Job, settings: &OdbcSettings, consumer: &ConsumerConfig) -> Result<Measurement, Failure> {
    let connection_string = resolved(&connection_string(&settings.login)?, &installed(&door::env))
        .map_err(|words| Failure::new(Exit::Unavailable, words))?;
    let dialect = *messages(settings, consumer)?.dialect();
    // The driver's words may repeat the connection string.
    crate::ops::bench::ceiling::odbc::run(job, &connection_string, &dialect)
        .map_err(|error| Failure::new(Exit::Failed, format!("the bare loop: {}", redacted(&error.to_string()))))
}

/// What the database gives of what the sink needs; nothing is left behind there.
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
pub fn trial(settings: &OdbcSettings, consumer: &ConsumerConfig) -> Result<Trial, Failure> {
    use crate::sink::odbc::OdbcSink;

    OdbcSink::new(options(settings, consumer)?).and_then(|sink| sink.trial()).map_err(|unusable| {
        let mine = unusable.error.class.needs_person() && !unusable.driver_missing;
        Failure::new(if mine { Exit::Usage } else { Exit::Unavailable }, unusable)
    })
}

/// The database's name and the sink's statements.
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
pub fn script(settings: &OdbcSettings, consumer: &ConsumerConfig) -> Result<(&'static str, Vec<Statement>), Failure> {
    use crate::sink::odbc::OdbcSink;
    use crate::sink::odbc::sqlstate::System;

    let mut options = options(settings, consumer)?;
    if matches!(settings.login, OdbcLogin::SqlServer(_)) {
        options.system = Some(System::SqlServer);
    }
    let script = OdbcSink::new(options).and_then(|sink| sink.script());
    script.map(|(system, statements)| (system.name(), statements)).map_err(|unusable| failure(&unusable))
}

/// How a command ends that cannot use the database.
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
fn failure(unusable: &crate::sink::odbc::Unusable) -> Failure {
    let exit = match unusable.error.class {
        _ if unusable.driver_missing => Exit::Unavailable,
        class if class.needs_person() => Exit::Usage,
        _ => Exit::Failed,
    };
    Failure::new(exit, unusable)
}

/// The sink's options.
///
/// # Errors
/// When there is no driver for SQL Server.
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
pub fn options(settings: &OdbcSettings, consumer: &ConsumerConfig) -> Result<OdbcOptions, Failure> {
    use std::time::Duration;

    use crate::engine::Delivery;
    use crate::sink::odbc::sqlstate::System;

    let clock = Arc::new(door::SystemClock::start());
    let mut options = OdbcOptions::new(connection_string(&settings.login)?, consumer.group_id.as_str(), clock);
    options.name = name_of(&settings.login);
    options.system = System::named(&settings.dialect);
    options.table.clone_from(&settings.table);
    options.exactly_once = consumer.delivery == Delivery::ExactlyOnce;
    options.dry_run = consumer.dry_run;
    options.pool_size = settings.pool_size;
    options.connection_timeout = Duration::from_secs(settings.connection_timeout);
    options.query_timeout = Duration::from_secs(settings.query_timeout);
    options.abandoned_max = settings.abandoned_connections_max;
    Ok(options)
}

/// How the database is called in messages: `sqlserver db:1433`.
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
fn name_of(login: &OdbcLogin) -> String {
    let OdbcLogin::SqlServer(login) = login else { return "odbc".to_owned() };
    let port = login.port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("sqlserver {}{port}", login.server)
}

/// The connection string of a login.
///
/// # Errors
/// When there is no driver for SQL Server.
pub fn connection_string(login: &OdbcLogin) -> Result<String, Failure> {
    match login {
        OdbcLogin::ConnectionString(text) => Ok(text.reveal().to_owned()),
        OdbcLogin::SqlServer(login) => sql_server(login),
    }
}

/// The connection string, with the driver that is asked for or the best there is.
fn sql_server(login: &SqlServerLogin) -> Result<String, Failure> {
    let installed = installed(&door::env);
    let wanted = &login.driver;
    let driver = if wanted.eq_ignore_ascii_case("auto") {
        preferred_for_sql_server(&installed).cloned().ok_or_else(|| {
            let words = "no ODBC driver for SQL Server is installed: run ./setup_sqlserver_driver.sh; `konekt \
                         check-drivers` lists what there is";
            Failure::new(Exit::Unavailable, words)
        })?
    } else {
        let known = installed.into_iter().find(|driver| driver.name.eq_ignore_ascii_case(wanted));
        known.unwrap_or_else(|| Driver::unregistered(wanted))
    };
    let server = SqlServer {
        server: &login.server,
        port: login.port,
        database: &login.database,
        username: login.username.as_deref(),
        password: login.password.reveal(),
        encryption: match login.encrypt.as_str() {
            "no" => Encryption::No,
            "strict" => Encryption::Strict,
            _ => Encryption::Yes,
        },
        trust_server_certificate: login.trust_server_certificate,
    };
    Ok(server.connection_string(&driver))
}

/// Without ODBC there is only an explanation.
#[cfg(not(any(feature = "odbc", feature = "odbc-system")))]
pub fn sink(_settings: &OdbcSettings, _consumer: &ConsumerConfig) -> Result<Arc<dyn Sink>, Failure> {
    Err(built_without())
}

/// The same for one who looks at messages.
#[cfg(not(any(feature = "odbc", feature = "odbc-system")))]
pub fn messages(_settings: &OdbcSettings, _consumer: &ConsumerConfig) -> Result<Box<dyn MessageDatabase>, Failure> {
    Err(built_without())
}

/// The same for a bench.
#[cfg(not(any(feature = "odbc", feature = "odbc-system")))]
pub fn ceiling(_job: &Job, _settings: &OdbcSettings, _consumer: &ConsumerConfig) -> Result<Measurement, Failure> {
    Err(built_without())
}

/// The same for one who tries it out.
#[cfg(not(any(feature = "odbc", feature = "odbc-system")))]
pub fn trial(_settings: &OdbcSettings, _consumer: &ConsumerConfig) -> Result<Trial, Failure> {
    Err(built_without())
}

/// The same for one who reads the statements.
#[cfg(not(any(feature = "odbc", feature = "odbc-system")))]
pub fn script(_settings: &OdbcSettings, _consumer: &ConsumerConfig) -> Result<(&'static str, Vec<Statement>), Failure> {
    Err(built_without())
}

#[cfg(not(any(feature = "odbc", feature = "odbc-system")))]
fn built_without() -> Failure {
    let words = "this konekt was built without ODBC: build it with the feature `odbc` (the driver manager is built in) or \
                 `odbc-system` (the system's is linked)";
    Failure::new(Exit::Unavailable, words)
}

//! Why a server hung up, or answers in a strange tongue: brokers close connections of the wrong protocol without a word.
//! Before an error of that kind is shown to a person, the server is asked what it speaks.

use std::io::ErrorKind;
use std::time::Duration;

use super::authentication;
use super::connection::{Connection, ConnectionOptions};
use super::error::Error;
use super::security::{Security, SecurityOptions, TlsOptions, Verification};
use super::tls::NO_TLS;

/// A question is not worth waiting longer for.
const PATIENCE: Duration = Duration::from_secs(3);

/// The error, or the reason behind it where one can be found. Takes a connection or two, but only when the server at
/// `address` has closed one or is no Kafka so far.
pub(super) fn reason_of(error: Error, address: &str, options: &ConnectionOptions) -> Error {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let is_unclear = match &error {
        Error::Io { kind, .. } => matches!(kind, UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe),
        Error::NotKafka { .. } => true,
        _ => false,
    };
    if !is_unclear {
        return error;
    }
    let found = wrong_protocol(address, options).or_else(|| missing_sasl(address, options));
    found.map_or(error, |what| Error::Security { address: address.into(), what })
}

fn wrong_protocol(address: &str, options: &ConnectionOptions) -> Option<String> {
    let is_plain = options.security.tls().is_none();
    let other = SecurityOptions {
        tls: is_plain.then(|| TlsOptions { verification: Verification::Nothing, ..TlsOptions::default() }),
        sasl: None,
    };
    let other = Security::new(&other).ok()?;
    match Connection::open(address, &asking(options, other)) {
        Ok(_) | Err(Error::Security { .. }) if is_plain => {
            let protocol = if options.security.sasl().is_some() { "sasl_ssl" } else { "ssl" };
            Some(format!("the broker speaks TLS on this port; set security_protocol={protocol}"))
        }
        Ok(_) => Some(NO_TLS.into()),
        Err(_) => None,
    }
}

fn missing_sasl(address: &str, options: &ConnectionOptions) -> Option<String> {
    if options.security.sasl().is_some() {
        return None;
    }
    let mut connection = Connection::open(address, &asking(options, options.security.clone())).ok()?;
    let mechanisms = authentication::offered(&mut connection).ok()??;
    Some(format!(
        "the broker wants clients to authenticate; set security_protocol=sasl_{} and sasl_mechanism to one of {mechanisms}",
        options.security.protocol()
    ))
}

fn asking(options: &ConnectionOptions, security: Security) -> ConnectionOptions {
    ConnectionOptions {
        security,
        connect_timeout: options.connect_timeout.min(PATIENCE),
        request_timeout: options.request_timeout.min(PATIENCE),
        ..options.clone()
    }
}

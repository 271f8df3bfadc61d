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
    let speaks_it = match Connection::open(address, &asking(options, other)) {
        Ok(_) => true,
        // Such as that it wants a certificate of ours. What is no TLS at all is a refusal too.
        Err(Error::Security { what, .. }) => what != NO_TLS,
        Err(_) => false,
    };
    let protocol = if options.security.sasl().is_some() { "sasl_ssl" } else { "ssl" };
    speaks_it.then(|| match is_plain {
        true => format!("the broker speaks TLS on this port; set security_protocol={protocol}"),
        false => NO_TLS.into(),
    })
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

#[cfg(test)]
mod tests {
    use super::super::cluster::Cluster;
    use super::super::scripted::{Answer, ScriptedBroker};
    use super::*;
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::sasl_handshake_response::SaslHandshakeResponse;
    use kafka_protocol::protocol::StrBytes;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn error_of(address: &str) -> Error {
        let limit = Duration::from_secs(5);
        let options =
            ConnectionOptions { connect_timeout: limit, request_timeout: limit, ..ConnectionOptions::default() };
        Cluster::connect(&[address.to_owned()], options).err().expect("it must be refused")
    }

    /// A broker that hangs up at whatever is no SaslHandshake, and answers that with a code.
    fn broker(code: i16) -> ScriptedBroker {
        let offered = [(ApiKey::Metadata, 13), (ApiKey::SaslHandshake, 1)];
        ScriptedBroker::start(&offered, move |call, _| match call.key {
            ApiKey::SaslHandshake => {
                let mechanisms = ["PLAIN", "OAUTHBEARER"].map(StrBytes::from_static_str).to_vec();
                call.answer(SaslHandshakeResponse::default().with_error_code(code).with_mechanisms(mechanisms))
            }
            _ => Answer::HangUp,
        })
    }

    #[test]
    fn a_broker_that_wants_sasl_names_its_mechanisms() {
        let error = error_of(&broker(33).address).to_string();
        let expected = "set security_protocol=sasl_plaintext and sasl_mechanism to one of PLAIN, OAUTHBEARER";
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn what_cannot_be_explained_stays_as_it_was() {
        let error = error_of(&broker(34).address);
        assert!(matches!(&error, Error::Io { .. }), "{error:?}");
    }

    #[test]
    fn a_server_that_is_neither_kafka_nor_tls_is_not_taken_for_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // The thread ends after the last connection of the question: two for TLS and SASL, and the first.
        let server = crate::door::spawn("http", move || {
            for stream in listener.incoming().take(3) {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1000]);
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            }
        });
        let error = error_of(&address);
        assert!(matches!(&error, Error::NotKafka { .. }), "{error:?}");
        server.join().unwrap();
    }
}

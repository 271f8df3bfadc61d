//! Authentication on a connection by SASL: SaslHandshake (API key 17) names the mechanism, SaslAuthenticate (36) carries
//! what [`sasl`](super::sasl) says (KIP-43, KIP-152). The same again, on the same connection, is re-authentication
//! (KIP-368): a broker closes connections whose session has ended.

use std::time::Duration;

use kafka_protocol::messages::sasl_authenticate_response::SaslAuthenticateResponse;
use kafka_protocol::messages::sasl_handshake_response::SaslHandshakeResponse;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;

use super::connection::Connection;
use super::error::{Code, Error};
use super::sasl::Next;
use super::security::Sasl;

/// Authenticates, and says how long the session lasts; `None` is for ever.
///
/// A refusal is not asked for again until [`Sasl::refusal`] has forgotten it.
///
/// # Errors
/// [`Error::Security`] with the reason; those of [`Connection::call`].
pub(super) fn authenticate(connection: &mut Connection, sasl: &Sasl) -> Result<Option<Duration>, Error> {
    if let Some(refusal) = sasl.refusal() {
        return Err(refusal);
    }
    let result = choose(connection, sasl).and_then(|()| exchange(connection, sasl));
    match &result {
        Ok(_) => sasl.remember(None),
        Err(error @ Error::Security { .. }) => sasl.remember(Some(error.clone())),
        Err(_) => {}
    }
    result
}

/// The mechanisms that a broker offers on this connection; `None` where it wants no SASL.
pub(super) fn offered(connection: &mut Connection) -> Result<Option<String>, Error> {
    // No such mechanism exists, so nothing is begun.
    let answer = handshake(connection, "KONEKT-ASKS")?;
    Ok((Code(answer.error_code) != Code::ILLEGAL_SASL_STATE).then(|| listed(&answer)))
}

fn handshake(connection: &mut Connection, mechanism: &'static str) -> Result<SaslHandshakeResponse, Error> {
    connection.call(&SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism)))
}

fn listed(answer: &SaslHandshakeResponse) -> String {
    answer.mechanisms.iter().map(StrBytes::as_str).collect::<Vec<_>>().join(", ")
}

fn choose(connection: &mut Connection, sasl: &Sasl) -> Result<(), Error> {
    let mechanism = sasl.mechanism();
    let answer = handshake(connection, mechanism)?;
    let what = match Code(answer.error_code) {
        Code::NONE => return Ok(()),
        Code::UNSUPPORTED_SASL_MECHANISM => {
            format!("the broker does not offer SASL {mechanism} here; set sasl_mechanism to one of {}", listed(&answer))
        }
        Code::ILLEGAL_SASL_STATE => {
            let without = connection.security().protocol().trim_start_matches("sasl_").to_owned();
            format!("the broker wants no SASL on this port; set security_protocol={without}")
        }
        code => format!("SASL {mechanism}: {code}"),
    };
    Err(refused(connection, what))
}

fn exchange(connection: &mut Connection, sasl: &Sasl) -> Result<Option<Duration>, Error> {
    let failed =
        |connection: &Connection, what: String| refused(connection, format!("SASL {}: {what}", sasl.mechanism()));
    let mut exchange = sasl.begin().map_err(|what| failed(connection, what))?;
    let mut message = exchange.first().to_vec();
    loop {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
        let answer: SaslAuthenticateResponse = connection.call(&request)?;
        let code = Code(answer.error_code);
        if !code.is_ok() {
            let said = answer.error_message.as_deref().unwrap_or("no reason");
            let what = match code {
                Code::SASL_AUTHENTICATION_FAILED => format!("the broker refuses us ({said}); {}", sasl.remedy()),
                code => format!("{code} ({said})"),
            };
            return Err(failed(connection, what));
        }
        match exchange.answer(&answer.auth_bytes).map_err(|what| failed(connection, what))? {
            Next::Send(reply) => message = reply,
            Next::Done => {
                let lifetime_ms = u64::try_from(answer.session_lifetime_ms).unwrap_or(0);
                return Ok((lifetime_ms > 0).then(|| Duration::from_millis(lifetime_ms)));
            }
        }
    }
}

fn refused(connection: &Connection, what: String) -> Error {
    Error::Security { address: connection.address().into(), what }
}

//! Tokens for SASL OAUTHBEARER: asked of an issuer by OAuth's client credentials (RFC 6749, section 4.4), or read from a
//! file that somebody else keeps fresh, as Kubernetes does.
//!
//! A token is kept for half of its life, so that a session begun with it lasts, then renewed by whoever needs one next. A
//! broker tells us to authenticate again before a token ends (KIP-368), so there is no thread for it. When the issuer does
//! not answer, the old token serves until its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use log::{debug, warn};
use parking_lot::Mutex;
use serde::Deserialize;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::security::SecurityFault;
use super::tls::certificates;
use crate::core::secret::Secret;
use crate::door;

/// How long the issuer may take, from connecting to the last byte.
const ISSUER_TIMEOUT: Duration = Duration::from_secs(10);
/// Tokens are a few KiB at most.
const ANSWER_BYTES_MAX: u64 = 256 << 10;

/// Where tokens come from.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// An issuer's token endpoint.
    ClientCredentials(ClientCredentials),
    /// A file that holds a token and nothing else. It is read at each authentication.
    File(PathBuf),
}

/// Who we are to the issuer.
#[derive(Clone, Debug)]
pub struct ClientCredentials {
    /// `https://…`; `http://…` works too and shows everybody the secret.
    pub token_endpoint_url: String,
    pub client_id: String,
    pub client_secret: Secret,
    pub scope: Option<String>,
    /// The CAs of the issuer, as for brokers.
    pub ca_location: Option<PathBuf>,
}

/// A source of tokens and the last of them.
pub(super) enum Tokens {
    Issued(Box<Issued>),
    File(PathBuf),
}

pub(super) struct Issued {
    credentials: ClientCredentials,
    agent: Agent,
    /// Held while asking, so that threads that need a token at the same time share one.
    current: Mutex<Option<Token>>,
}

struct Token {
    text: Secret,
    renew_at: Instant,
    ends_at: Instant,
}

impl Tokens {
    pub(super) fn new(source: TokenSource) -> Result<Self, SecurityFault> {
        Ok(match source {
            TokenSource::File(path) => Tokens::File(path),
            TokenSource::ClientCredentials(credentials) => {
                Tokens::Issued(Box::new(Issued { agent: agent(&credentials)?, credentials, current: Mutex::default() }))
            }
        })
    }

    /// A token that is good for now.
    pub(super) fn current(&self) -> Result<Secret, String> {
        match self {
            Tokens::File(path) => {
                let text = std::fs::read_to_string(path);
                let text =
                    text.map_err(|error| format!("the token file {} cannot be read: {error}", path.display()))?;
                checked(text.trim()).map_err(|what| format!("the token file {}: {what}", path.display()))
            }
            Tokens::Issued(issued) => issued.current(),
        }
    }
}

impl Issued {
    fn current(&self) -> Result<Secret, String> {
        let mut current = self.current.lock();
        let now = door::now();
        if let Some(token) = current.as_ref().filter(|token| now < token.renew_at) {
            return Ok(token.text.clone());
        }
        match (self.ask(), current.as_ref()) {
            (Ok(token), _) => Ok(current.insert(token).text.clone()),
            (Err(error), Some(token)) if now < token.ends_at => {
                warn!("{error}; the last token serves for {} s more", (token.ends_at - now).as_secs());
                Ok(token.text.clone())
            }
            (Err(error), _) => Err(error),
        }
    }

    fn ask(&self) -> Result<Token, String> {
        let ClientCredentials { token_endpoint_url: url, client_id, client_secret, scope, .. } = &self.credentials;
        let fault = |what: String| format!("no token from {url}: {what}");
        let basic = BASE64.encode(format!("{client_id}:{}", client_secret.reveal()));
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(scope.as_deref().map(|scope| ("scope", scope)));
        let asked_at = door::now();
        let request = self.agent.post(url).header("Authorization", format!("Basic {basic}"));
        let mut response = request.send_form(form).map_err(|error| fault(error.to_string()))?;
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| fault(error.to_string()))?;
        let issued = read_answer(response.status().as_u16(), &body).map_err(fault)?;
        debug!("{url}: a token for {} s", issued.life.as_secs());
        Ok(Token { text: issued.text, renew_at: asked_at + issued.life / 2, ends_at: asked_at + issued.life })
    }
}

fn agent(credentials: &ClientCredentials) -> Result<Agent, SecurityFault> {
    let roots = certificates("https_ca_location", credentials.ca_location.as_deref())?;
    let roots: Vec<Certificate<'static>> = roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = Agent::config_builder()
        .tls_config(tls.build())
        .timeout_global(Some(ISSUER_TIMEOUT))
        // A redirect would carry the secret to another host.
        .max_redirects(0)
        .http_status_as_error(false);
    Ok(config.build().new_agent())
}

struct NewToken {
    text: Secret,
    life: Duration,
}

/// RFC 6749, sections 5.1 and 5.2.
#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    expires_in: Option<u64>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Never quotes the answer as a whole: it may hold a token.
fn read_answer(status: u16, body: &[u8]) -> Result<NewToken, String> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| format!("HTTP status {status} without the JSON object of OAuth"))?;
    if status != 200 {
        let error = answer.error.unwrap_or_else(|| "no reason given".into());
        let description = answer.error_description.map_or(String::new(), |text| format!(" ({text})"));
        return Err(format!(
            "the issuer refuses with status {status}: {}; check sasl_oauthbearer_client_id and \
             sasl_oauthbearer_client_secret",
            (error + &description).replace(char::is_control, " ")
        ));
    }
    let text = checked(&answer.access_token.ok_or("the answer has no access_token")?)?;
    // Without a life it serves once.
    Ok(NewToken { text, life: Duration::from_secs(answer.expires_in.unwrap_or(0).min(LIFE_MAX_SECONDS)) })
}

/// So that a wrong number cannot lie beyond what an `Instant` holds.
const LIFE_MAX_SECONDS: u64 = 365 * 24 * 3600;

/// What could end the token's field in the SASL message early is no token.
fn checked(text: &str) -> Result<Secret, String> {
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(Secret::new(text)),
        false => Err("it holds no token".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuers_answer_is_a_token_or_a_reason_that_shows_none() {
        for (status, body, expected) in [
            (200, r#"{"access_token":"abc","expires_in":60,"token_type":"Bearer"}"#, Ok(("abc", 60))),
            (200, r#"{"access_token":"abc"}"#, Ok(("abc", 0))),
            (200, r#"{"access_token":"abc","expires_in":18446744073709551615}"#, Ok(("abc", LIFE_MAX_SECONDS))),
            (200, r#"{"access_token":"a\u0001c"}"#, Err("holds no token")),
            (200, r#"{"access_token":""}"#, Err("holds no token")),
            (200, r#"{"token":"abc"}"#, Err("no access_token")),
            (200, "<html>abc</html>", Err("HTTP status 200 without the JSON object")),
            (
                401,
                r#"{"error":"invalid_client","error_description":"no\nsuch"}"#,
                Err("status 401: invalid_client (no such)"),
            ),
            (500, r#"{"access_token":"abc"}"#, Err("status 500: no reason given")),
        ] {
            let read = read_answer(status, body.as_bytes());
            let read = read.map(|token| (token.text.reveal().to_owned(), token.life.as_secs()));
            match (read, expected) {
                (Ok((text, life)), Ok(expected)) => assert_eq!((text.as_str(), life), expected, "{body}"),
                (Err(error), Err(part)) => assert!(error.contains(part) && !error.contains("abc"), "{body}: {error}"),
                (read, _) => panic!("{body}: {read:?}"),
            }
        }
    }

    #[test]
    fn a_token_file_is_read_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let tokens = Tokens::new(TokenSource::File(path.clone())).unwrap();
        assert!(tokens.current().unwrap_err().contains("cannot be read"));
        for text in ["one\n", "two"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(tokens.current().unwrap().reveal(), text.trim());
        }
        std::fs::write(&path, "not one").unwrap();
        assert!(tokens.current().unwrap_err().contains("holds no token"));
    }
}

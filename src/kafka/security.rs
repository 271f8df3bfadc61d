//! How connections to brokers are protected: what may be asked for ([`SecurityOptions`]), and the same made ready for
//! use ([`Security`]), with certificates read and keys checked. Every [`Connection`](super::connection::Connection) gets
//! its TLS and its SASL from here.
//!
//! The settings in messages are those of `konekt`, which are librdkafka's with underscores.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::warn;
use parking_lot::Mutex;

use super::error::Error;
use super::oauth::{TokenSource, Tokens};
use super::sasl::{self, Exchange, Hash};
use super::tls::Tls;
use crate::core::secret::Secret;
use crate::door;

/// A refusal is believed for this long: many threads that try again at once would lock the account.
const REFUSAL_HOLDS: Duration = Duration::from_secs(10);

/// What to protect connections with. Neither is `security.protocol=PLAINTEXT`, both are `SASL_SSL`.
#[derive(Clone, Debug, Default)]
pub struct SecurityOptions {
    pub tls: Option<TlsOptions>,
    pub sasl: Option<Credentials>,
}

/// How to encrypt, whom to trust, and how to identify ourselves by a certificate.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// PEM file or folder of the CAs to trust; the system's are trusted when there is none.
    pub ca_location: Option<PathBuf>,
    /// PEM file with our certificate, followed by those between it and its CA.
    pub certificate_location: Option<PathBuf>,
    /// PEM file with the certificate's key: PKCS#8, PKCS#1 or SEC 1.
    pub key_location: Option<PathBuf>,
    /// What opens the key, where it is encrypted (PKCS#8 alone; feature `encrypted-keys`).
    pub key_password: Option<Secret>,
    pub verification: Verification,
}

/// What of a broker's certificate is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    /// Everything.
    #[default]
    Full,
    /// All but whether it is made out for the name that we connect to.
    ExceptName,
    /// Nothing: whoever sits in between can read and change everything.
    Nothing,
}

/// Who we are, by a SASL mechanism.
#[derive(Clone, Debug)]
pub enum Credentials {
    Plain { username: String, password: Secret },
    Scram { hash: Hash, username: String, password: Secret },
    OAuthBearer { tokens: TokenSource, extensions: Vec<(String, String)> },
}

impl Credentials {
    /// The mechanism's name as in SASL's registry.
    pub fn mechanism(&self) -> &'static str {
        match self {
            Credentials::Plain { .. } => "PLAIN",
            Credentials::Scram { hash, .. } => hash.mechanism(),
            Credentials::OAuthBearer { .. } => "OAUTHBEARER",
        }
    }
}

/// What is wrong with [`SecurityOptions`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {message}")]
pub struct SecurityFault {
    /// The setting that has to change.
    pub setting: &'static str,
    /// To be read behind its name.
    pub message: String,
}

impl SecurityFault {
    pub(super) fn new(setting: &'static str, message: impl fmt::Display) -> Self {
        Self { setting, message: message.to_string() }
    }
}

/// [`SecurityOptions`] ready for use. Clones share tokens and refusals. The default protects nothing.
#[derive(Clone, Default)]
pub struct Security {
    tls: Option<Arc<Tls>>,
    sasl: Option<Arc<Sasl>>,
}

impl Security {
    /// Reads certificates and keys, and nothing over the network.
    ///
    /// ```
    /// use konekt::core::secret::Secret;
    /// use konekt::kafka::security::{Credentials, Security, SecurityOptions};
    ///
    /// let credentials = Credentials::Plain { username: "billing".into(), password: Secret::new("…") };
    /// let security = Security::new(&SecurityOptions { tls: None, sasl: Some(credentials) })?;
    /// assert_eq!(security.protocol(), "sasl_plaintext");
    /// # Ok::<(), konekt::kafka::security::SecurityFault>(())
    /// ```
    ///
    /// # Errors
    /// When a file cannot be read or is not what it should be.
    pub fn new(options: &SecurityOptions) -> Result<Self, SecurityFault> {
        let tls = options.tls.as_ref().map(Tls::new).transpose()?;
        let sasl = options.sasl.clone().map(Sasl::new).transpose()?;
        Ok(Self { tls: tls.map(Arc::new), sasl: sasl.map(Arc::new) })
    }

    pub(super) fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    pub(super) fn sasl(&self) -> Option<&Arc<Sasl>> {
        self.sasl.as_ref()
    }

    /// The value of `security_protocol` that this is.
    pub fn protocol(&self) -> &'static str {
        match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        }
    }

    /// Says aloud what is legal and weak.
    pub(super) fn warn_of_weakness(&self) {
        match self.tls.as_ref().map(|tls| tls.verification()) {
            Some(Verification::Nothing) => warn!(
                "enable_ssl_certificate_verification is false: brokers are NOT verified, anybody in between can read and \
                 change everything"
            ),
            Some(Verification::ExceptName) => warn!(
                "ssl_endpoint_identification_algorithm is none: any host with a certificate of a trusted CA passes for a \
                 broker"
            ),
            _ => {}
        }
        let sends_secret = |sasl: &Arc<Sasl>| !matches!(sasl.credentials, Credentials::Scram { .. });
        if self.tls.is_none() && self.sasl.as_ref().is_some_and(sends_secret) {
            warn!("security_protocol is sasl_plaintext: the password or token goes over the network in the clear");
        }
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Security").field(&self.protocol()).finish()
    }
}

/// Our side of SASL: credentials, the token in use, and the last refusal.
pub(super) struct Sasl {
    credentials: Credentials,
    tokens: Option<Tokens>,
    refused: Mutex<Option<(Instant, Error)>>,
}

impl Sasl {
    fn new(credentials: Credentials) -> Result<Self, SecurityFault> {
        let tokens = match &credentials {
            Credentials::OAuthBearer { tokens, .. } => Some(Tokens::new(tokens.clone())?),
            _ => None,
        };
        Ok(Self { credentials, tokens, refused: Mutex::default() })
    }

    pub(super) fn mechanism(&self) -> &'static str {
        self.credentials.mechanism()
    }

    /// What a person can do about a refusal.
    pub(super) fn remedy(&self) -> &'static str {
        match self.credentials {
            Credentials::OAuthBearer { .. } => "check the token's audience, scope and life, and the broker's log",
            _ => "check sasl_username and sasl_password",
        }
    }

    /// Begins an exchange; a token that ends soon is renewed first, which may take a request to its issuer.
    pub(super) fn begin(&self) -> Result<Exchange, String> {
        Ok(match (&self.credentials, &self.tokens) {
            (Credentials::OAuthBearer { extensions, .. }, Some(tokens)) => {
                Exchange::oauth_bearer(tokens.current()?.reveal(), extensions)
            }
            (Credentials::Scram { hash, username, password }, _) => {
                Exchange::scram(*hash, username, password.reveal(), &sasl::nonce(door::secret_bytes()))
            }
            (Credentials::Plain { username, password }, _) => Exchange::plain(username, password.reveal()),
            (Credentials::OAuthBearer { .. }, None) => return Err("there is no source of tokens".into()),
        })
    }

    /// The refusal that still holds.
    pub(super) fn refusal(&self) -> Option<Error> {
        let refused = self.refused.lock();
        let (at, error) = refused.as_ref()?;
        (door::now().saturating_duration_since(*at) < REFUSAL_HOLDS).then(|| error.clone())
    }

    /// Keeps a refusal, or forgets the last one.
    pub(super) fn remember(&self, refusal: Option<Error>) {
        *self.refused.lock() = refusal.map(|error| (door::now(), error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let password = || Secret::new("hunter2");
        let options = SecurityOptions {
            tls: None,
            sasl: Some(Credentials::Plain { username: "alice".into(), password: password() }),
        };
        let shown = format!("{options:?} {:?} {:?}", Security::new(&options).unwrap(), password());
        assert!(shown.contains("alice") && shown.contains("sasl_plaintext") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_refusal_holds_until_something_worked() {
        let sasl = Sasl::new(Credentials::Plain { username: "a".into(), password: Secret::new("b") }).unwrap();
        assert_eq!(sasl.refusal(), None);
        sasl.remember(Some(Error::Closed));
        assert_eq!(sasl.refusal(), Some(Error::Closed));
        sasl.remember(None);
        assert_eq!(sasl.refusal(), None);
    }
}

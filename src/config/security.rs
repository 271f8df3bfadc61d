//! From the settings of the section "Security" to [`Security`]: which of them belong together, which are missing, and
//! which would be of no use. What is said and would not be used is a fault, since whoever names a CA and gets an
//! unencrypted connection has been let down.

use std::path::PathBuf;

use super::field::{Section, fields};
use super::layers::Origin;
use super::{Fault, Reader, Value};
use crate::core::secret::Secret;
use crate::kafka::oauth::{ClientCredentials, TokenSource};
use crate::kafka::sasl::Hash;
use crate::kafka::security::{Credentials, Security, SecurityOptions, TlsOptions, Verification};

const USER: [&str; 2] = ["sasl_username", "sasl_password"];
const ISSUER: [&str; 3] =
    ["sasl_oauthbearer_token_endpoint_url", "sasl_oauthbearer_client_id", "sasl_oauthbearer_client_secret"];
const TOKEN_FILE: &str = "sasl_oauthbearer_token_file";

impl Reader<'_> {
    /// Certificates and keys are read here, so that what is wrong with them is known before anything connects.
    pub(super) fn security(&mut self) -> Security {
        let faults_before = self.faults.len();
        let protocol = self.text("security_protocol");
        if protocol.is_empty() {
            return Security::default(); // it does not fit, and has its fault
        }
        let tls = protocol.ends_with("ssl").then(|| self.tls());
        let sasl = match protocol.starts_with("sasl_") {
            true => self.credentials(&protocol),
            false => None,
        };
        self.refuse_the_useless(&protocol);
        if self.faults.len() > faults_before {
            return Security::default();
        }
        Security::new(&SecurityOptions { tls, sasl }).unwrap_or_else(|fault| {
            self.faults.push(Fault::of(self.said_by(&[fault.setting]), fault.to_string()));
            Security::default()
        })
    }

    fn tls(&mut self) -> TlsOptions {
        let verified = !matches!(self.value("enable_ssl_certificate_verification"), Some(Value::Switch(false)));
        let by_name = self.text("ssl_endpoint_identification_algorithm") != "none";
        TlsOptions {
            ca_location: self.path("ssl_ca_location"),
            certificate_location: self.path("ssl_certificate_location"),
            key_location: self.path("ssl_key_location"),
            key_password: self.optional_text("ssl_key_password").map(Secret::new),
            verification: match (verified, by_name) {
                (false, _) => Verification::Nothing,
                (true, false) => Verification::ExceptName,
                (true, true) => Verification::Full,
            },
        }
    }

    fn credentials(&mut self, protocol: &str) -> Option<Credentials> {
        let mechanism = self.needed("sasl_mechanism", &format!("security_protocol {protocol}"))?;
        if mechanism == "OAUTHBEARER" {
            let tokens = self.token_source()?;
            return Some(Credentials::OAuthBearer { tokens, extensions: self.extensions() });
        }
        let because = format!("sasl_mechanism {mechanism}");
        let [username, password] = USER.map(|name| self.needed(name, &because));
        let (username, password) = (username?, Secret::new(password?));
        Some(match mechanism.as_str() {
            "SCRAM-SHA-256" => Credentials::Scram { hash: Hash::Sha256, username, password },
            "SCRAM-SHA-512" => Credentials::Scram { hash: Hash::Sha512, username, password },
            _ => Credentials::Plain { username, password },
        })
    }

    fn token_source(&mut self) -> Option<TokenSource> {
        if let Some(path) = self.path(TOKEN_FILE) {
            self.refuse(&ISSUER, &format!("{TOKEN_FILE} is given"));
            return Some(TokenSource::File(path));
        }
        let because = "sasl_mechanism OAUTHBEARER";
        let [url, client_id, client_secret] = ISSUER.map(|name| self.needed(name, because));
        Some(TokenSource::ClientCredentials(ClientCredentials {
            token_endpoint_url: url?,
            client_id: client_id?,
            client_secret: Secret::new(client_secret?),
            scope: self.optional_text("sasl_oauthbearer_scope"),
            ca_location: self.path("https_ca_location"),
        }))
    }

    /// Names and values as KIP-342 allows them.
    fn extensions(&mut self) -> Vec<(String, String)> {
        const NAME: &str = "sasl_oauthbearer_extensions";
        let text = self.optional_text(NAME).unwrap_or_default();
        let mut extensions = Vec::new();
        for piece in text.split(',').filter(|piece| !piece.trim().is_empty()) {
            let pair = piece.trim().split_once('=').filter(|(name, value)| {
                let letters = |c: char| c.is_ascii_alphabetic();
                !name.is_empty() && name.chars().all(letters) && *name != "auth" && !value.contains(char::is_control)
            });
            match pair {
                Some((name, value)) => extensions.push((name.to_owned(), value.to_owned())),
                None => {
                    let message = format!("{NAME} is not name=value,… with names of letters");
                    self.faults.push(Fault::of(self.said_by(&[NAME]), message));
                }
            }
        }
        extensions
    }

    fn needed(&mut self, name: &'static str, because: &str) -> Option<String> {
        // A value that is there and does not fit has its fault already.
        let missing = !self.raw.contains_key(name);
        if missing {
            self.faults.push(Fault::of(name, format!("is missing: {because} needs it")));
        }
        self.optional_text(name)
    }

    fn refuse_the_useless(&mut self, protocol: &str) {
        let section = fields().filter(|field| field.section == Section::Security).map(|field| field.name);
        let of = |prefix: &'static str| section.clone().filter(move |name| name.starts_with(prefix));
        let because = format!("security_protocol is {protocol}");
        if !protocol.ends_with("ssl") {
            let names: Vec<&str> = of("ssl_").chain(["enable_ssl_certificate_verification"]).collect();
            self.refuse(&names, &because);
        }
        if !protocol.starts_with("sasl_") {
            return self.refuse(&of("sasl_").chain(["https_ca_location"]).collect::<Vec<_>>(), &because);
        }
        let Some(mechanism) = self.raw.get("sasl_mechanism").map(|raw| raw.text.to_uppercase()) else { return };
        let useless: Vec<&str> = match mechanism.as_str() {
            "OAUTHBEARER" => USER.to_vec(),
            _ => of("sasl_oauthbearer_").chain(["https_ca_location"]).collect(),
        };
        self.refuse(&useless, &format!("sasl_mechanism is {mechanism}"));
    }

    fn refuse(&mut self, names: &[&str], because: &str) {
        for name in names {
            if let Some(raw) = self.raw.get(name).filter(|raw| raw.origin != Origin::Default) {
                self.faults.push(Fault::of(&raw.origin, format!("{name} is of no use: {because}")));
            }
        }
    }

    fn path(&mut self, name: &str) -> Option<PathBuf> {
        self.optional_text(name).map(PathBuf::from)
    }
}

//! MongoDB: what its sink, its source and its health check share.
//!
//! [`Deployment`] is where it is and how to reach it; [`json`] is BSON as text and back; [`error`] is what it says when
//! something fails. The driver is MongoDB's own, through its synchronous API.
//!
//! The driver has no time-out for an operation, so whoever asks gives each question a `maxTimeMS`, and each write a
//! `wtimeout`; a server that is frozen or cut off is noticed by the driver's own monitoring, which closes its connections.

pub mod error;
pub mod json;

use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, ServerAddress, Tls};
use mongodb::sync::Client;

use self::error::Said;
use crate::core::secret::Secret;

/// A MongoDB deployment, and how to reach it.
#[derive(Clone, Debug)]
pub struct Deployment {
    uri: Secret,
    options: ClientOptions,
}

/// How long to look for a server where the address does not say (`serverSelectionTimeoutMS`). Longer than an election.
const SELECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may take to open where the address does not say (`connectTimeoutMS`).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one member is asked for its set's name, and how long a first glance looks for a server.
const GREETING_TIMEOUT: Duration = Duration::from_secs(2);

impl Deployment {
    /// Reads a connection string. Only `mongodb+srv://` asks the network for anything.
    ///
    /// # Errors
    /// What is wrong with the text; never the text itself, which may hold a password.
    pub fn parse(uri: &Secret) -> Result<Self, String> {
        let text = uri.reveal();
        if text.starts_with("mongodb+srv://") && !cfg!(feature = "mongodb-srv") {
            return Err("mongodb+srv:// needs a build with the feature mongodb-srv: name the servers in a mongodb:// \
                        address, or build with it"
                .to_owned());
        }
        if !text.starts_with("mongodb://") && !text.starts_with("mongodb+srv://") {
            return Err("the address must begin with mongodb:// as in mongodb://localhost:27017".to_owned());
        }
        let options = ClientOptions::parse(text).run().map_err(|error| hidden(Said::of(&error).words, text))?;
        Ok(Self { uri: uri.clone(), options })
    }

    /// The database that the address names behind its hosts.
    pub fn default_database(&self) -> Option<&str> {
        self.options.default_database.as_deref()
    }

    /// The replica set that the address names.
    pub fn wanted_set(&self) -> Option<&str> {
        self.options.repl_set_name.as_deref()
    }

    /// Whether connections are encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.options.tls, Some(Tls::Enabled(_)))
    }

    /// The servers that the address names.
    pub fn hosts(&self) -> Vec<String> {
        self.options.hosts.iter().map(ServerAddress::to_string).collect()
    }

    /// A client of the whole deployment. Connections are opened when they are needed.
    ///
    /// # Errors
    /// When options contradict each other, or a file of TLS cannot be read.
    pub fn client(&self) -> Result<Client, Said> {
        self.client_with(|_| {})
    }

    /// A client of one member alone, which answers whatever its state is. `wait` bounds looking for it.
    ///
    /// # Errors
    /// As [`client`](Self::client), or when `host` is no address.
    pub fn member(&self, host: &str, wait: Duration) -> Result<Client, Said> {
        let address = ServerAddress::parse(host).map_err(|error| Said::of(&error))?;
        self.client_with(|options| alone(options, address, wait))
    }

    /// Whether a server can be used without waiting long for it; if none can, why, and how long it will be waited for.
    pub fn glance(&self) -> Option<(Said, Duration)> {
        let wait = self.options.server_selection_timeout.unwrap_or(SELECTION_TIMEOUT);
        if wait <= GREETING_TIMEOUT {
            return None;
        }
        let client = self.client_with(|options| options.server_selection_timeout = Some(GREETING_TIMEOUT)).ok()?;
        let greeted = client.database("admin").run_command(doc! { "hello": 1 }).run();
        let said = Said::of(&greeted.err()?);
        said.unreachable.then_some((said, wait))
    }

    fn client_with(&self, change: impl FnOnce(&mut ClientOptions)) -> Result<Client, Said> {
        let mut options = self.options.clone();
        options.app_name.get_or_insert_with(|| "konekt".to_owned());
        options.server_selection_timeout.get_or_insert(SELECTION_TIMEOUT);
        options.connect_timeout.get_or_insert(CONNECT_TIMEOUT);
        change(&mut options);
        Client::with_options(options).map_err(|error| Said::of(&error))
    }

    /// Why no server can be used, where asking each of them alone says more than the driver does: one that belongs to
    /// another replica set, or to none, is passed over in silence.
    pub fn misfits(&self) -> Vec<String> {
        let Some(wanted) = self.wanted_set() else { return Vec::new() };
        let misfit = |host: &String| {
            let said = self.hello(host).ok()?;
            match said.get_str("setName") {
                Ok(name) if name == wanted => None,
                Ok(name) => {
                    Some(format!("{host} is a member of the set {name}, not {wanted}: write replicaSet={name}"))
                }
                Err(_) if said.get_bool("isreplicaset").is_ok_and(|is_one| is_one) => {
                    Some(format!("{host} waits for its replica set to be initiated: run rs.initiate() on it"))
                }
                Err(_) => Some(format!(
                    "{host} is no member of a replica set: take replicaSet={wanted} out of the address, or start it \
                     with --replSet"
                )),
            }
        };
        self.hosts().iter().filter_map(misfit).collect()
    }

    /// What one member says of itself; it says so to anybody.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn hello(&self, host: &str) -> Result<Document, Said> {
        let address = ServerAddress::parse(host).map_err(|error| Said::of(&error))?;
        let client = self.client_with(|options| {
            alone(options, address, GREETING_TIMEOUT);
            options.credential = None;
        })?;
        client.database("admin").run_command(doc! { "hello": 1 }).run().map_err(|error| Said::of(&error))
    }

    /// The address with its password hidden.
    pub fn shown(&self) -> String {
        hidden(self.uri.reveal().to_owned(), self.uri.reveal())
    }
}

/// Narrows options to one member, whatever set it is of.
fn alone(options: &mut ClientOptions, address: ServerAddress, wait: Duration) {
    options.hosts = vec![address];
    options.direct_connection = Some(true);
    options.repl_set_name = None;
    options.server_selection_timeout = Some(wait);
    options.connect_timeout = Some(wait);
}

/// `text` without the password of `uri`.
fn hidden(text: String, uri: &str) -> String {
    let login = uri.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map(|(login, _)| login);
    match login.and_then(|login| login.split_once(':')).filter(|(_, password)| !password.is_empty()) {
        Some((_, password)) => text.replace(password, "***"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(uri: &str) -> Result<Deployment, String> {
        Deployment::parse(&Secret::new(uri))
    }

    #[test]
    fn an_address_is_read_and_its_password_hidden() {
        let deployment = parsed("mongodb://root:s3cret@a:1,b/shop?replicaSet=rs0&authSource=admin").unwrap();
        assert_eq!(deployment.hosts(), ["a:1", "b:27017"]);
        assert_eq!((deployment.default_database(), deployment.wanted_set()), (Some("shop"), Some("rs0")));
        assert_eq!(deployment.shown(), "mongodb://root:***@a:1,b/shop?replicaSet=rs0&authSource=admin");
        assert!(!format!("{deployment:?}").contains("s3cret"), "{deployment:?}");
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said_without_its_password() {
        for (uri, part) in [
            ("localhost:27017", "mongodb://"),
            ("mongodb://u:s3cret@a:b:c", "invalid server address"),
            ("mongodb://u:s3cret@a/?directConnection=s3cret", "directConnection"),
            ("mongodb://a/?w=majority&replicaSet", "replicaSet"),
        ] {
            let error = parsed(uri).unwrap_err();
            assert!(error.to_lowercase().contains(&part.to_lowercase()), "{uri}: {error}");
            assert!(!error.contains("s3cret") && !error.contains('\n'), "{error}");
        }
    }
}

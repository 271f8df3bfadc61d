//! What MongoDB says when something fails, in one line.

use mongodb::error::{Error, ErrorKind, WriteFailure};

/// MongoDB's number for a login that was refused; the driver does not hand it on.
const AUTHENTICATION_FAILED: i32 = 18;

/// A failure as it is told to people and looked up in the table of errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// MongoDB's number; none when it was the driver that failed.
    pub code: Option<i32>,
    /// What was said, in one line.
    pub words: String,
    /// Whether no server answered: all are away, or none is what the address asks for.
    pub unreachable: bool,
}

impl Said {
    /// Reads an error of the driver.
    pub fn of(error: &Error) -> Self {
        let coded = |code: i32, words: &str| Self { code: Some(code), words: one_line(words), unreachable: false };
        let plain = |words: &str, unreachable| Self { code: None, words: one_line(words), unreachable };
        match &*error.kind {
            ErrorKind::Command(said) => coded(said.code, &said.message),
            ErrorKind::Write(WriteFailure::WriteError(said)) => coded(said.code, &said.message),
            ErrorKind::Write(WriteFailure::WriteConcernError(said)) => coded(said.code, &said.message),
            ErrorKind::InsertMany(many) => {
                let write = many.write_errors.iter().flatten().next().map(|said| (said.code, &said.message));
                let concern = many.write_concern_error.as_ref().map(|said| (said.code, &said.message));
                write.or(concern).map_or_else(|| plain("the insert failed", false), |(code, words)| coded(code, words))
            }
            ErrorKind::Authentication { message, .. } => coded(AUTHENTICATION_FAILED, message),
            // The driver's own text repeats itself for each server, with every field of the error.
            ErrorKind::ServerSelection { message, .. } => selection_failed(message),
            ErrorKind::Io(error) => plain(&error.to_string(), true),
            ErrorKind::ConnectionPoolCleared { message, .. } => plain(message, true),
            ErrorKind::InvalidTlsConfig { message, .. } => plain(&format!("TLS: {message}"), false),
            kind => plain(&kind.to_string(), false),
        }
    }

    /// The code, where there is one, behind the words.
    pub fn text(&self) -> String {
        match self.code {
            Some(code) => format!("{} (MongoDB code {code})", self.words),
            None => self.words.clone(),
        }
    }
}

/// `Server selection timeout: No available servers. Topology: { Type: …, Servers: [ { Address: a:1, Type: Unknown, Error:
/// Kind: I/O error: Connection refused (os error 111), labels: … }, … ] }`, each server with its reason alone.
fn selection_failed(message: &str) -> Said {
    let servers = message.split("Address: ").skip(1).map(|server| {
        let address = server.split([',', ' ']).next().unwrap_or_default();
        let kind = server.split("Kind: ").nth(1).map(|kind| kind.split(", labels:").next().unwrap_or(kind));
        let role = server.split("Type: ").nth(1).map(|role| role.split([',', ' ']).next().unwrap_or(role));
        match (kind, role) {
            (Some(kind), _) => format!("{address}: {}", kind.trim()),
            (None, Some(role)) => format!("{address} is {role}"),
            (None, None) => address.to_owned(),
        }
    });
    let servers: Vec<String> = servers.collect();
    let refused = message.contains("Authentication failed") || message.contains("SCRAM failure");
    let words = match servers.as_slice() {
        [] => one_line(message),
        servers => format!("no server can be used: {}", one_line(&servers.join("; "))),
    };
    Said { code: refused.then_some(AUTHENTICATION_FAILED), words, unreachable: !refused }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Bytes or a document that are no BSON.
#[derive(Clone, Debug, thiserror::Error)]
#[error("malformed BSON: {0}")]
pub struct Malformed(#[from] mongodb::bson::error::Error);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_selection_names_each_server_with_its_reason() {
        let driver = "Server selection timeout: No available servers. Topology: { Type: ReplicaSetNoPrimary, Set Name: \
                      rs0, Servers: [ { Address: a:1, Type: Unknown, Error: Kind: I/O error: Connection refused (os error \
                      111), labels: {}, source: None, server response: None }, { Address: b:2, Type: RsSecondary } ] }";
        let said = selection_failed(driver);
        let words = "no server can be used: a:1: I/O error: Connection refused (os error 111); b:2 is RsSecondary";
        assert_eq!(said, Said { code: None, words: words.to_owned(), unreachable: true });
        assert_eq!(selection_failed("Server selection timeout: No available servers.").words.lines().count(), 1);
    }
}

//! The client's side of a SASL exchange, without I/O: bytes of the server in, bytes for the server out.
//!
//! | mechanism | source |
//! |---|---|
//! | PLAIN | RFC 4616 |
//! | SCRAM-SHA-256, SCRAM-SHA-512 | RFC 5802, RFC 7677; as Kafka does it: without SASLprep and without channel binding |
//! | OAUTHBEARER | RFC 7628, with the extensions of KIP-342 |
//!
//! `authentication` carries the bytes. Whatever a server sends is hostile until its signature
//! is checked: a server that does not know the password cannot finish a SCRAM exchange.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};

/// Fewer rounds make a stolen exchange cheap to guess from; RFC 7677 asks for these, and Kafka's own client too.
const ITERATIONS_MIN: u32 = 4096;
/// More would let a server burn our processor; Kafka itself allows 16,384.
const ITERATIONS_MAX: u32 = 1_000_000;

/// The hash of SCRAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    /// The mechanism's name.
    pub fn mechanism(self) -> &'static str {
        match self {
            Hash::Sha256 => "SCRAM-SHA-256",
            Hash::Sha512 => "SCRAM-SHA-512",
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha512 => &digest::SHA512,
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Hash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Hash::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

/// Random bytes as SCRAM wants its nonce: printable, without commas.
pub(super) fn nonce(random: [u8; 24]) -> String {
    BASE64.encode(random)
}

/// What follows a message of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Send(Vec<u8>),
    Done,
}

/// One exchange, begun.
pub(super) struct Exchange {
    first: Vec<u8>,
    state: State,
}

enum State {
    /// Nothing but the broker's verdict is to come.
    Sent,
    /// The server's nonce and salt are to come.
    ScramFirst(Scram),
    /// The server's signature is to come, which only who knows the password can make.
    ScramFinal {
        key: hmac::Key,
        auth_message: String,
    },
    Bearer,
    /// The server has said why it refuses the token, and waits for our word before it says no.
    BearerRefused {
        reason: String,
    },
}

struct Scram {
    hash: Hash,
    password: String,
    nonce: String,
    first_bare: String,
}

/// Without channel binding: there is none in Kafka.
const GS2_HEADER: &str = "n,,";

impl Exchange {
    pub(super) fn plain(username: &str, password: &str) -> Self {
        Self { first: format!("\0{username}\0{password}").into_bytes(), state: State::Sent }
    }

    pub(super) fn scram(hash: Hash, username: &str, password: &str, nonce: &str) -> Self {
        let name = username.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={name},r={nonce}");
        let first = format!("{GS2_HEADER}{first_bare}").into_bytes();
        let scram = Scram { hash, password: password.into(), nonce: nonce.into(), first_bare };
        Self { first, state: State::ScramFirst(scram) }
    }

    pub(super) fn oauth_bearer(token: &str, extensions: &[(String, String)]) -> Self {
        let extensions: String = extensions.iter().map(|(name, value)| format!("\x01{name}={value}")).collect();
        let first = format!("{GS2_HEADER}\x01auth=Bearer {token}{extensions}\x01\x01");
        Self { first: first.into_bytes(), state: State::Bearer }
    }

    /// The bytes to begin with.
    pub(super) fn first(&self) -> &[u8] {
        &self.first
    }

    /// Takes a message of the server.
    ///
    /// # Errors
    /// Why the server is not to be believed, or why it refuses.
    pub(super) fn answer(&mut self, challenge: &[u8]) -> Result<Next, String> {
        match std::mem::replace(&mut self.state, State::Sent) {
            State::Sent => Ok(Next::Done),
            State::ScramFirst(scram) => {
                let (reply, state) = scram.proof(text(challenge)?)?;
                self.state = state;
                Ok(Next::Send(reply.into_bytes()))
            }
            State::ScramFinal { key, auth_message } => {
                check_signature(&key, &auth_message, text(challenge)?).map(|()| Next::Done)
            }
            State::Bearer if challenge.is_empty() => Ok(Next::Done),
            State::Bearer => {
                self.state = State::BearerRefused { reason: one_line(challenge) };
                Ok(Next::Send(vec![1]))
            }
            State::BearerRefused { reason } => Err(format!("the broker refuses the token: {reason}")),
        }
    }
}

impl Scram {
    /// The client's final message, and what the server has to prove then.
    fn proof(self, server_first: &str) -> Result<(String, State), String> {
        let (nonce, salt, iterations) = read_server_first(server_first)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the server's nonce does not continue ours".into());
        }
        let salted = self.salted_password(&salt, iterations);
        let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(self.hash.hmac(), key), text);
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(self.hash.digest(), client_key.as_ref());
        let server_key = sign(&salted, b"Server Key");

        let without_proof = format!("c={},r={nonce}", BASE64.encode(GS2_HEADER));
        let auth_message = format!("{},{server_first},{without_proof}", self.first_bare);
        let signature = sign(stored_key.as_ref(), auth_message.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let reply = format!("{without_proof},p={}", BASE64.encode(proof));
        let key = hmac::Key::new(self.hash.hmac(), server_key.as_ref());
        Ok((reply, State::ScramFinal { key, auth_message }))
    }

    fn salted_password(&self, salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
        let mut salted = vec![0; self.hash.digest().output_len()];
        pbkdf2::derive(self.hash.pbkdf2(), iterations, salt, self.password.as_bytes(), &mut salted);
        salted
    }
}

/// `r=nonce,s=salt,i=iterations`, possibly with extensions behind, which mean nothing to us.
fn read_server_first(message: &str) -> Result<(&str, Vec<u8>, NonZeroU32), String> {
    let mut attributes = message.split(',');
    let mut attribute = |name: &str| {
        let found = attributes.next().unwrap_or_default();
        found
            .strip_prefix(name)
            .ok_or_else(|| format!("the server's first message is malformed: no {name} in its place"))
    };
    let (nonce, salt, iterations) = (attribute("r=")?, attribute("s=")?, attribute("i=")?);
    let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty());
    let salt = salt.ok_or("the server's salt is not base64")?;
    let count: u32 = iterations.parse().map_err(|_| "the server's number of iterations is no number")?;
    if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&count) {
        return Err(format!("the server wants {count} iterations, {ITERATIONS_MIN} to {ITERATIONS_MAX} are accepted"));
    }
    let count = NonZeroU32::new(count).ok_or("the server wants no iterations")?;
    Ok((nonce, salt, count))
}

fn check_signature(key: &hmac::Key, auth_message: &str, server_final: &str) -> Result<(), String> {
    if let Some(reason) = server_final.strip_prefix("e=") {
        return Err(format!("the server refuses: {}", one_line(reason.as_bytes())));
    }
    let signature = server_final.split(',').next().and_then(|first| first.strip_prefix("v="));
    let signature = signature.and_then(|text| BASE64.decode(text).ok());
    let signature = signature.ok_or("the server's final message is malformed: no signature in it")?;
    hmac::verify(key, auth_message.as_bytes(), &signature).map_err(|_| {
        "the server could not prove that it knows the password: it is not the broker it claims to be".into()
    })
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "the server's message is not UTF-8".into())
}

/// What a server says, fit for a log.
fn one_line(bytes: &[u8]) -> String {
    const LONGEST: usize = 300;
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An exchange and its three messages after the first.
    struct Vector {
        hash: Hash,
        nonce: &'static str,
        server_first: &'static str,
        client_final: &'static str,
        server_final: &'static str,
    }

    /// The first is that of RFC 7677; for SHA-512 there is none, it was computed with Python's hashlib.
    const VECTORS: [Vector; 2] = [
        Vector {
            hash: Hash::Sha256,
            nonce: "rOprNGfwEbeRWgbNEkqO",
            server_first: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            client_final: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                           p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            server_final: "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        },
        Vector {
            hash: Hash::Sha512,
            nonce: "rOprNGfwEbeRWgbNEkqO",
            server_first: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            client_final: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                           p=gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==",
            server_final: "v=ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==",
        },
    ];

    fn begun(vector: &Vector) -> Exchange {
        Exchange::scram(vector.hash, "user", "pencil", vector.nonce)
    }

    #[test]
    fn the_vectors_of_the_rfc_hold() {
        for vector in &VECTORS {
            let mut exchange = begun(vector);
            assert_eq!(exchange.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
            let reply = exchange.answer(vector.server_first.as_bytes()).unwrap();
            assert_eq!(reply, Next::Send(vector.client_final.as_bytes().to_vec()), "{:?}", vector.hash);
            assert_eq!(exchange.answer(vector.server_final.as_bytes()), Ok(Next::Done), "{:?}", vector.hash);
        }
    }

    #[test]
    fn a_hostile_first_message_is_refused() {
        for (message, expected) in [
            ("", "no r= in its place"),
            ("r=rOprNGfwEbeRWgbNEkqOx", "no s= in its place"),
            ("r=rOprNGfwEbeRWgbNEkqOx,i=4096,s=W22Z", "no s= in its place"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22Z", "no i= in its place"),
            ("r=rOprNGfwEbeRWgbNEkqO,s=W22Z,i=4096", "does not continue ours"),
            ("r=another,s=W22Z,i=4096", "does not continue ours"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=!!,i=4096", "not base64"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096", "not base64"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=many", "no number"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=-1", "no number"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=4095", "4096 to 1000000"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=4294967295", "4096 to 1000000"),
            ("m=must,r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=4096", "no r= in its place"),
        ] {
            let error = begun(&VECTORS[0]).answer(message.as_bytes()).expect_err(message);
            assert!(error.contains(expected), "{message}: {error}");
        }
        assert!(begun(&VECTORS[0]).answer(b"r=\xff").unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn a_message_cut_anywhere_is_refused() {
        let vector = &VECTORS[0];
        for cut in 0..vector.server_first.len() {
            assert!(begun(vector).answer(&vector.server_first.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
        for cut in 0..vector.server_final.len() {
            let mut exchange = begun(vector);
            exchange.answer(vector.server_first.as_bytes()).unwrap();
            assert!(exchange.answer(&vector.server_final.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_found_out() {
        for (message, expected) in [
            ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=", "malformed"),
            ("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "could not prove"),
            ("v=", "could not prove"),
            ("", "malformed"),
            ("e=invalid-proof\nsecond line", "the server refuses: invalid-proof second line"),
        ] {
            let mut exchange = begun(&VECTORS[0]);
            exchange.answer(VECTORS[0].server_first.as_bytes()).unwrap();
            let error = exchange.answer(message.as_bytes()).expect_err(message);
            assert!(error.contains(expected), "{message}: {error}");
        }
    }

    #[test]
    fn names_with_commas_and_equal_signs_are_escaped() {
        let exchange = Exchange::scram(Hash::Sha256, "a=b,c", "p", "N");
        assert_eq!(exchange.first(), b"n,,n=a=3Db=2Cc,r=N");
    }

    #[test]
    fn plain_is_one_message() {
        let mut exchange = Exchange::plain("alice", "secret");
        assert_eq!(exchange.first(), b"\0alice\0secret");
        assert_eq!(exchange.answer(b""), Ok(Next::Done));
    }

    #[test]
    fn a_refused_token_is_acknowledged_and_then_an_error() {
        let mut exchange = Exchange::oauth_bearer("abc", &[("logicalCluster".into(), "lkc-1".into())]);
        assert_eq!(exchange.first(), b"n,,\x01auth=Bearer abc\x01logicalCluster=lkc-1\x01\x01");
        assert_eq!(exchange.answer(br#"{"status":"invalid_token"}"#), Ok(Next::Send(vec![1])));
        assert!(exchange.answer(b"").unwrap_err().contains("invalid_token"));
        let mut exchange = Exchange::oauth_bearer("abc", &[]);
        assert_eq!(exchange.first(), b"n,,\x01auth=Bearer abc\x01\x01");
        assert_eq!(exchange.answer(b""), Ok(Next::Done));
    }
}

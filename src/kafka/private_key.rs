//! The private key of our own certificate, from a PEM file: PKCS#8 (RFC 5958, also encrypted by PBES2 of RFC 8018), PKCS#1
//! and SEC 1.

use std::path::Path;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject};

use super::security::SecurityFault;
use crate::core::secret::Secret;

const WRITE_ANEW: &str = "write it anew with `openssl pkcs8 -topk8 -in KEY -out NEW_KEY`";

/// The parsers' own messages quote lines of the file, so they are not passed on.
pub(super) fn read(path: &Path, password: Option<&Secret>) -> Result<PrivateKeyDer<'static>, SecurityFault> {
    let fault = |what: &str| SecurityFault::new("ssl_key_location", format!("{}: {what}", path.display()));
    let text = std::fs::read(path).map_err(|error| fault(&format!("cannot be read: {error}")))?;
    let text = String::from_utf8_lossy(&text);
    if let Some(block) = encrypted_block(&text) {
        return open(block, path, password);
    }
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(fault(&format!("the key is encrypted in OpenSSL's old form; {WRITE_ANEW}")));
    }
    if password.is_some() {
        return Err(SecurityFault::new(
            "ssl_key_password",
            format!("is given, but {} is not encrypted", path.display()),
        ));
    }
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| match error {
        pem::Error::NoItemsFound => fault("there is no private key in it (PEM: PKCS#8, PKCS#1 or SEC 1)"),
        _ => fault("it is not PEM"),
    })
}

/// The encrypted key in a file that may have certificates beside it.
fn encrypted_block(text: &str) -> Option<&str> {
    const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    let from = &text[text.find("-----BEGIN ENCRYPTED PRIVATE KEY-----")?..];
    Some(from.find(END).map_or(from, |at| &from[..at + END.len()]))
}

#[cfg(feature = "encrypted-keys")]
fn open(block: &str, path: &Path, password: Option<&Secret>) -> Result<PrivateKeyDer<'static>, SecurityFault> {
    use pkcs8::pkcs5::Error::{NoPbes1CryptSupport, UnsupportedAlgorithm};
    use pkcs8::{EncryptedPrivateKeyInfoRef, Error, SecretDocument};
    let path = path.display();
    let of_password = |what: &str| SecurityFault::new("ssl_key_password", format!("{what} the key in {path}"));
    let of_key = |what: &str| SecurityFault::new("ssl_key_location", format!("{path}: {what}"));
    let password = password.ok_or_else(|| of_password("is missing, which opens"))?;
    let unknown = || of_key(&format!("the key is encrypted in an old and weak way, or damaged; {WRITE_ANEW}"));
    let (_, document) = SecretDocument::from_pem(block).map_err(|_| of_key("its encrypted key is damaged"))?;
    let key = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| unknown())?;
    let opened = key.decrypt(password.reveal()).map_err(|error| match error {
        Error::EncryptedPrivateKey(NoPbes1CryptSupport | UnsupportedAlgorithm { .. }) => unknown(),
        _ => of_password("does not open"),
    })?;
    Ok(PrivateKeyDer::Pkcs8(opened.as_bytes().to_vec().into()))
}

#[cfg(not(feature = "encrypted-keys"))]
fn open(_block: &str, path: &Path, _password: Option<&Secret>) -> Result<PrivateKeyDer<'static>, SecurityFault> {
    let what = "the key is encrypted, which this build cannot read (it is without the feature encrypted-keys); decrypt it \
                with `openssl pkey -in KEY -out NEW_KEY` into a file that only this user may read";
    Err(SecurityFault::new("ssl_key_location", format!("{}: {what}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | openssl pkcs8 -topk8 -passout pass:hunter2`.
    #[cfg(feature = "encrypted-keys")]
    const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
        MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAij3T1FBKEuzAICCAAw\n\
        DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEE6C1KlrBLzs2LOTRlc5wmUEgZBf\n\
        tiyJ1vqV7sLgJY8BFsNWSR0+rdRRA8CO6HI5ULvwEgYSGH2Qi0pfdcUH5JXE5Qx9\n\
        Hj3i5EkgCnMcMZ+wrX9VyZ4qbeMTDkzlcKAi+bIDmYwBeO5ZdWCxQr/wL9fcZMRU\n\
        JgRz61YJmixbSECEz2xJnOm3CUAxVkIqehcu5+F0Bq2EdLGHRUZD7oYXMIbL1z8=\n\
        -----END ENCRYPTED PRIVATE KEY-----\n";
    /// The same with `-v1 PBE-SHA1-3DES`.
    #[cfg(feature = "encrypted-keys")]
    const ENCRYPTED_BADLY: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
        MIGxMBwGCiqGSIb3DQEMAQMwDgQIv174DtfNu+8CAggABIGQqFckhEKLldiMA5xQ\n\
        Btanya9e0SUd7opd0/4TzJQ71G9d+YMkNY8GfFKuruuVrC8rfwSMeGomYJaSY2ko\n\
        bH8mE6ThwBy3vAes62TZw/MhfsveADOFHj1Ojy3B8RZBL++vshsUTv8vxsBAkcJB\n\
        /mUI8t5yl/XHnnljIXCDTcqQv8RINLuKYIF5PgXvSSfa3ro6\n\
        -----END ENCRYPTED PRIVATE KEY-----\n";

    fn block(name: &str, head: &str) -> String {
        format!("-----BEGIN {name}-----\n{head}AAAA\n-----END {name}-----\n")
    }

    fn expect_key(text: &str, password: Option<&str>, expected: Result<(), &str>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        std::fs::write(&path, text).unwrap();
        match (read(&path, password.map(Secret::new).as_ref()), expected) {
            (Ok(_), Ok(())) => {}
            (Err(fault), Err(part)) => {
                let fault = fault.to_string();
                assert!(fault.contains(part) && fault.contains("key.pem") && !fault.contains("hunter2"), "{fault}");
            }
            (Err(fault), Ok(())) => panic!("{text}: {fault}"),
            (Ok(_), Err(part)) => panic!("{text}: it was read, which is not {part}"),
        }
    }

    #[test]
    fn a_key_is_read_in_every_form() {
        for (text, expected) in [
            (block("PRIVATE KEY", ""), Ok(())),
            (block("RSA PRIVATE KEY", ""), Ok(())),
            (block("EC PRIVATE KEY", ""), Ok(())),
            (block("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\n\n"), Err("the key is encrypted in OpenSSL's old form")),
            (block("CERTIFICATE", ""), Err("there is no private key in it")),
            ("-----BEGIN PRIVATE KEY-----\nhunter2".into(), Err("it is not PEM")),
            (String::new(), Err("there is no private key in it")),
        ] {
            expect_key(&text, None, expected);
        }
        expect_key(&block("PRIVATE KEY", ""), Some("hunter2"), Err("ssl_key_password is given, but"));
    }

    #[test]
    #[cfg(feature = "encrypted-keys")]
    fn an_encrypted_key_is_opened_by_its_password_alone() {
        let empty = block("ENCRYPTED PRIVATE KEY", "");
        let beside = format!("{}Bag Attributes\n{ENCRYPTED}", block("CERTIFICATE", ""));
        for (text, password, expected) in [
            (ENCRYPTED, Some("hunter2"), Ok(())),
            (beside.as_str(), Some("hunter2"), Ok(())),
            (ENCRYPTED, Some("hunter3"), Err("ssl_key_password does not open the key in")),
            (ENCRYPTED, None, Err("ssl_key_password is missing, which opens the key in")),
            (ENCRYPTED_BADLY, Some("hunter2"), Err("in an old and weak way")),
            (&ENCRYPTED[..200], Some("hunter2"), Err("its encrypted key is damaged")),
            (empty.as_str(), Some("hunter2"), Err("damaged")),
        ] {
            expect_key(text, password, expected);
        }
    }

    #[test]
    #[cfg(not(feature = "encrypted-keys"))]
    fn an_encrypted_key_is_refused_with_a_way_out() {
        expect_key(&block("ENCRYPTED PRIVATE KEY", ""), Some("hunter2"), Err("decrypt it with `openssl pkey"));
    }
}

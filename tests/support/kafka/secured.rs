//! A real Kafka with a listener for every way to be protected, users, and certificates made for the occasion: good ones,
//! and one of each kind that must be refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::json;

use super::{RealKafka, free_port, fresh_folder, own};

/// How long a session lasts on the listener `brief`, in milliseconds.
pub const BRIEF_SESSION_MS: u64 = 3_000;
/// The users, each with its password: `alice` by PLAIN, `bob` by both kinds of SCRAM.
pub const ALICE: [&str; 2] = ["alice", "alice-secret"];
pub const BOB: [&str; 2] = ["bob", "bob, with = and comma"];

/// Name, protocol and further settings of each listener, where `CERTIFICATES` stands for a folder.
const LISTENERS: &[(&str, &str, &[&str])] = &[
    ("ssl", "SSL", &[]),
    ("mtls", "SSL", &["ssl.client.auth=required"]),
    ("expired", "SSL", &["ssl.keystore.location=CERTIFICATES/expired.pem"]),
    ("elsewhere", "SSL", &["ssl.keystore.location=CERTIFICATES/elsewhere.pem"]),
    ("sasl_plaintext", "SASL_PLAINTEXT", &[]),
    ("sasl_ssl", "SASL_SSL", &[]),
    ("sasl_mtls", "SASL_SSL", &["ssl.client.auth=required"]),
    ("brief", "SASL_PLAINTEXT", &["sasl.enabled.mechanisms=SCRAM-SHA-512,OAUTHBEARER"]),
];

/// The login modules of the mechanisms. OAUTHBEARER takes tokens without a signature, which is for tests.
const LOGINS: &[(&str, &str)] = &[
    ("plain", "plain.PlainLoginModule required user_alice=\"alice-secret\""),
    ("scram-sha-256", "scram.ScramLoginModule required"),
    ("scram-sha-512", "scram.ScramLoginModule required"),
    ("oauthbearer", "oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\""),
];

/// One for all tests of this binary.
pub fn secured() -> Result<&'static SecuredKafka, String> {
    static SHARED: OnceLock<Result<SecuredKafka, String>> = OnceLock::new();
    SHARED.get_or_init(SecuredKafka::start).as_ref().map_err(Clone::clone)
}

/// The broker and what its clients need.
pub struct SecuredKafka {
    /// Its plaintext listener, by which topics are made and filled.
    pub kafka: RealKafka,
    ports: Vec<(&'static str, u16)>,
    certificates: PathBuf,
}

impl SecuredKafka {
    fn start() -> Result<Self, String> {
        let certificates = fresh_folder("certificates");
        fs::create_dir_all(&certificates).map_err(|error| format!("{}: {error}", certificates.display()))?;
        make_certificates(&certificates);
        let ports: Vec<_> = LISTENERS.iter().map(|(name, ..)| (*name, free_port())).collect();
        let settings = settings(&ports, &certificates);
        let kafka = own(&settings.iter().map(String::as_str).collect::<Vec<_>>())?;
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let [user, password] = BOB;
            set_password(&kafka, mechanism, user, password);
        }
        Ok(Self { kafka, ports, certificates })
    }

    /// Where a listener is.
    pub fn listener(&self, name: &str) -> String {
        let port = self.ports.iter().find(|(known, _)| *known == name).map(|(_, port)| *port);
        format!("127.0.0.1:{}", port.unwrap_or_else(|| panic!("there is no listener {name}")))
    }

    /// A file among `ca.pem`, `other-ca.pem`, `client.pem`, `client.key`, `stranger.pem`, `stranger.key`.
    pub fn certificate(&self, name: &str) -> String {
        self.certificates.join(name).display().to_string()
    }
}

/// Makes a SCRAM user, or gives it another password.
pub fn set_password(kafka: &RealKafka, mechanism: &str, user: &str, password: &str) {
    kafka.java(&json!({"do": "set-password", "mechanism": mechanism, "user": user, "password": password}));
}

fn settings(ports: &[(&str, u16)], certificates: &Path) -> Vec<String> {
    let listeners: String = ports.iter().map(|(name, port)| format!(",{name}://127.0.0.1:{port}")).collect();
    let protocols: String = LISTENERS.iter().map(|(name, protocol, _)| format!(",{name}:{protocol}")).collect();
    let folder = certificates.display().to_string();
    let mut settings = vec![
        format!("listeners=PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller_port}}{listeners}"),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{{port}}{listeners}"),
        format!("listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}"),
        "ssl.keystore.type=PEM".into(),
        format!("ssl.keystore.location={folder}/broker.pem"),
        "ssl.truststore.type=PEM".into(),
        format!("ssl.truststore.location={folder}/ca.pem"),
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER".into(),
    ];
    for (name, protocol, own) in LISTENERS {
        let prefix = format!("listener.name.{name}");
        settings.extend(own.iter().map(|own| format!("{prefix}.{}", own.replace("CERTIFICATES", &folder))));
        if protocol.starts_with("SASL") {
            let login = |(mechanism, module): &(&str, &str)| {
                format!("{prefix}.{mechanism}.sasl.jaas.config=org.apache.kafka.common.security.{module};")
            };
            settings.extend(LOGINS.iter().map(login));
        }
    }
    for mechanism in ["scram-sha-512", "oauthbearer"] {
        settings.push(format!("listener.name.brief.{mechanism}.connections.max.reauth.ms={BRIEF_SESSION_MS}"));
    }
    settings
}

fn make_certificates(folder: &Path) {
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("a file in our folder");
    let authority = |name: &str| {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        (certificate.pem(), Issuer::new(params, key))
    };
    let signed = |names: &[&str], years: [i32; 2], issuer: &Issuer<'_, KeyPair>| {
        let key = KeyPair::generate().expect("a key");
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).expect("names");
        [params.not_before, params.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
        let certificate = params.signed_by(&key, issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    };
    const LONG: [i32; 2] = [2020, 2120];
    let here = ["localhost", "127.0.0.1"];
    let (ca_certificate, ca) = authority("konekt test CA");
    let (other_certificate, other) = authority("another CA");
    write("ca.pem", &ca_certificate);
    write("other-ca.pem", &other_certificate);
    for (name, names, years) in [
        ("broker.pem", &here[..], LONG),
        ("expired.pem", &here, [2020, 2021]),
        ("elsewhere.pem", &["kafka.elsewhere.example"], LONG),
    ] {
        let (certificate, key) = signed(names, years, &ca);
        write(name, &(key + &certificate));
    }
    for (name, issuer) in [("client", &ca), ("stranger", &other)] {
        let (certificate, key) = signed(&[name], LONG, issuer);
        write(&format!("{name}.pem"), &certificate);
        write(&format!("{name}.key"), &key);
    }
}

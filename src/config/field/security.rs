//! Settings: how connections to brokers are protected. The names are librdkafka's, with underscores.

use super::*;

const fn field(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
    Field::new(Section::Security, name, kind, default, doc).commands(TO_BROKERS)
}

pub(super) const FIELDS: &[Field] = &[
    field(
        "security_protocol",
        Kind::Choice(&["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]),
        Default::Is("plaintext"),
        "Whether connections are encrypted (ssl), authenticated (sasl_plaintext) or both (sasl_ssl).",
    )
    .variables(&["KAFKA_SECURITY_PROTOCOL"]),
    field(
        "ssl_ca_location",
        Kind::Text,
        Default::Nothing,
        "PEM file or folder of the CAs that brokers' certificates are signed by; else the system's CAs.",
    )
    .variables(&["KAFKA_SSL_CA_LOCATION"]),
    field(
        "ssl_certificate_location",
        Kind::Text,
        Default::Nothing,
        "PEM file with our certificate, for brokers that demand one, and those up to its CA.",
    )
    .variables(&["KAFKA_SSL_CERTIFICATE_LOCATION"]),
    field("ssl_key_location", Kind::Text, Default::Nothing, "PEM file with that certificate's key.")
        .variables(&["KAFKA_SSL_KEY_LOCATION"]),
    field("ssl_key_password", Kind::Text, Default::Nothing, "What opens that key, where it is encrypted (PKCS#8).")
        .variables(&["KAFKA_SSL_KEY_PASSWORD"])
        .secret(),
    field(
        "ssl_endpoint_identification_algorithm",
        Kind::Choice(&["https", "none"]),
        Default::Is("https"),
        "Whether a broker's certificate must be made out for the name we connect to (https); none is unsafe.",
    )
    .variables(&["KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM"]),
    field(
        "enable_ssl_certificate_verification",
        Kind::Switch,
        Default::Is("true"),
        "Whether brokers' certificates are verified at all; false is for tests.",
    )
    .variables(&["KAFKA_ENABLE_SSL_CERTIFICATE_VERIFICATION"]),
    field(
        "sasl_mechanism",
        Kind::Choice(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]),
        Default::Nothing,
        "How to authenticate under sasl_plaintext and sasl_ssl.",
    )
    .variables(&["KAFKA_SASL_MECHANISM"]),
    field("sasl_username", Kind::Text, Default::Nothing, "The user of PLAIN and SCRAM.")
        .variables(&["KAFKA_SASL_USERNAME"]),
    field("sasl_password", Kind::Text, Default::Nothing, "That user's password; other users of the host see flags.")
        .variables(&["KAFKA_SASL_PASSWORD"])
        .secret(),
    field(
        "sasl_oauthbearer_token_endpoint_url",
        Kind::Text,
        Default::Nothing,
        "Where the issuer gives out tokens for client credentials (OAuth, OIDC).",
    )
    .variables(&["KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL"]),
    field("sasl_oauthbearer_client_id", Kind::Text, Default::Nothing, "Who we are to the issuer.")
        .variables(&["KAFKA_SASL_OAUTHBEARER_CLIENT_ID"]),
    field("sasl_oauthbearer_client_secret", Kind::Text, Default::Nothing, "That client's secret.")
        .variables(&["KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET"])
        .secret(),
    field("sasl_oauthbearer_scope", Kind::Text, Default::Nothing, "The scope of the tokens to ask for.")
        .variables(&["KAFKA_SASL_OAUTHBEARER_SCOPE"]),
    field(
        "sasl_oauthbearer_extensions",
        Kind::Text,
        Default::Nothing,
        "What the broker wants to hear beside the token: name=value,name=value.",
    )
    .variables(&["KAFKA_SASL_OAUTHBEARER_EXTENSIONS"]),
    field(
        "sasl_oauthbearer_token_file",
        Kind::Text,
        Default::Nothing,
        "A file with a token that somebody else keeps fresh, instead of an issuer.",
    )
    .variables(&["KAFKA_SASL_OAUTHBEARER_TOKEN_FILE"]),
    field(
        "https_ca_location",
        Kind::Text,
        Default::Nothing,
        "PEM file or folder of the CAs that the issuer's certificate is signed by; else the system's CAs.",
    )
    .variables(&["KAFKA_HTTPS_CA_LOCATION"]),
];

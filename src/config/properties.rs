//! librdkafka's settings under its own names, from `-X name=value` and `[kafka.properties]` in konekt.toml: what each
//! of them is here, so that a configuration that works elsewhere works with the native client, or says why not.
//!
//! The one table is [`PROPERTIES`]; [`layers`](super::layers) translates with it before anything is checked. The names
//! are those of librdkafka's CONFIGURATION.md, and a few of the Java client's that are often brought along.

use super::field::Field;
use super::suggest;

/// What a property is to us.
#[derive(Clone, Copy, Debug)]
enum Meaning {
    /// This setting.
    Is(&'static str),
    /// Something that holds always, and can only be said, not changed.
    Always(&'static str),
    /// Something that is said in another way.
    Instead(&'static str),
}

use Meaning::{Always, Instead, Is};

const PROPERTIES: &[(&str, Meaning)] = &[
    ("bootstrap.servers", Is("bootstrap_servers")),
    ("metadata.broker.list", Is("bootstrap_servers")),
    ("client.id", Is("client_id")),
    ("client.rack", Is("client_rack")),
    ("isolation.level", Is("isolation_level")),
    ("fetch.min.bytes", Is("fetch_min_bytes")),
    ("fetch.wait.max.ms", Is("fetch_max_wait_ms")),
    ("fetch.max.wait.ms", Is("fetch_max_wait_ms")),
    ("fetch.max.bytes", Is("fetch_max_bytes")),
    ("max.partition.fetch.bytes", Is("max_partition_fetch_bytes")),
    ("fetch.message.max.bytes", Is("max_partition_fetch_bytes")),
    ("socket.connection.setup.timeout.ms", Is("connect_timeout_ms")),
    ("socket.timeout.ms", Is("request_timeout_ms")),
    ("request.timeout.ms", Is("request_timeout_ms")),
    ("metadata.max.age.ms", Is("metadata_max_age_ms")),
    ("topic.metadata.refresh.interval.ms", Is("metadata_max_age_ms")),
    ("group.id", Is("group_id")),
    ("group.instance.id", Is("group_instance_id")),
    ("group.protocol", Is("group_protocol")),
    ("group.remote.assignor", Is("group_remote_assignor")),
    ("auto.offset.reset", Is("auto_offset_reset")),
    ("partition.assignment.strategy", Is("partition_assignment_strategy")),
    ("session.timeout.ms", Is("session_timeout_ms")),
    ("heartbeat.interval.ms", Is("heartbeat_interval_ms")),
    ("max.poll.interval.ms", Is("max_poll_interval_ms")),
    ("auto.commit.interval.ms", Is("commit_interval_ms")),
    ("statistics.interval.ms", Is("stats_interval_ms")),
    ("security.protocol", Is("security_protocol")),
    ("ssl.ca.location", Is("ssl_ca_location")),
    ("ssl.certificate.location", Is("ssl_certificate_location")),
    ("ssl.key.location", Is("ssl_key_location")),
    ("ssl.key.password", Is("ssl_key_password")),
    ("ssl.endpoint.identification.algorithm", Is("ssl_endpoint_identification_algorithm")),
    ("enable.ssl.certificate.verification", Is("enable_ssl_certificate_verification")),
    ("sasl.mechanism", Is("sasl_mechanism")),
    ("sasl.mechanisms", Is("sasl_mechanism")),
    ("sasl.username", Is("sasl_username")),
    ("sasl.password", Is("sasl_password")),
    ("sasl.oauthbearer.token.endpoint.url", Is("sasl_oauthbearer_token_endpoint_url")),
    ("sasl.oauthbearer.client.id", Is("sasl_oauthbearer_client_id")),
    ("sasl.oauthbearer.client.credentials.client.id", Is("sasl_oauthbearer_client_id")),
    ("sasl.oauthbearer.client.secret", Is("sasl_oauthbearer_client_secret")),
    ("sasl.oauthbearer.client.credentials.client.secret", Is("sasl_oauthbearer_client_secret")),
    ("sasl.oauthbearer.scope", Is("sasl_oauthbearer_scope")),
    ("sasl.oauthbearer.extensions", Is("sasl_oauthbearer_extensions")),
    ("https.ca.location", Is("https_ca_location")),
    ("sasl.oauthbearer.method", Always("oidc")),
    ("sasl.oauthbearer.grant.type", Always("client_credentials")),
    ("enable.auto.commit", Always("false")),
    ("enable.auto.offset.store", Always("false")),
    ("allow.auto.create.topics", Always("false")),
    ("enable.partition.eof", Always("false")),
    ("check.crcs", Always("true")),
    ("api.version.request", Always("true")),
    ("socket.nagle.disable", Always("true")),
    ("client.dns.lookup", Always("use_all_dns_ips")),
    ("log_level", Instead("give --log, -v or -q")),
    ("debug", Instead("give --log konekt::kafka=debug")),
    ("sasl.jaas.config", Instead("set sasl.username and sasl.password")),
    ("ssl.truststore.location", Instead("set ssl.ca.location to the CAs as PEM")),
    ("ssl.truststore.password", Instead("set ssl.ca.location to the CAs as PEM, which need no password")),
];

/// What librdkafka has beyond that.
const ONLY_LIBRDKAFKA: &str = "
    acks api.version.fallback.ms api.version.request.timeout.ms auto.commit.enable batch.num.messages batch.size
    broker.address.family broker.address.ttl broker.version.fallback builtin.features compression.codec
    compression.level compression.type connections.max.idle.ms consume.callback.max.messages coordinator.query.interval.ms
    delivery.report.only.error delivery.timeout.ms enable.gapless.guarantee enable.idempotence enable.metrics.push
    enable.random.seed enable.sasl.oauthbearer.unsecure.jwt enabled_events fetch.error.backoff.ms fetch.queue.backoff.ms
    group.protocol.type https.ca.pem internal.termination.signal linger.ms
    log.connection.close log.queue log.thread.name max.in.flight max.in.flight.requests.per.connection
    message.copy.max.bytes message.max.bytes message.send.max.retries message.timeout.ms
    metadata.recovery.rebootstrap.trigger.ms metadata.recovery.strategy offset.store.method offset.store.path
    offset.store.sync.interval.ms partitioner plugin.library.paths produce.offset.report
    queue.buffering.backpressure.threshold queue.buffering.max.kbytes queue.buffering.max.messages queue.buffering.max.ms
    queued.max.messages.kbytes queued.min.messages queuing.strategy receive.message.max.bytes reconnect.backoff.jitter.ms
    reconnect.backoff.max.ms reconnect.backoff.ms request.required.acks retries retry.backoff.max.ms retry.backoff.ms
    sasl.kerberos.keytab sasl.kerberos.kinit.cmd sasl.kerberos.min.time.before.relogin sasl.kerberos.principal
    sasl.kerberos.service.name sasl.oauthbearer.assertion.algorithm sasl.oauthbearer.assertion.claim.aud
    sasl.oauthbearer.assertion.claim.exp.seconds sasl.oauthbearer.assertion.claim.iss
    sasl.oauthbearer.assertion.claim.jti.include sasl.oauthbearer.assertion.claim.nbf.seconds
    sasl.oauthbearer.assertion.claim.sub sasl.oauthbearer.assertion.file sasl.oauthbearer.assertion.jwt.template.file
    sasl.oauthbearer.assertion.private.key.file sasl.oauthbearer.assertion.private.key.passphrase
    sasl.oauthbearer.assertion.private.key.pem sasl.oauthbearer.config sasl.oauthbearer.metadata.authentication.type
    socket.blocking.max.ms socket.keepalive.enable socket.max.fails socket.receive.buffer.bytes socket.send.buffer.bytes
    ssl.ca.certificate.stores ssl.ca.pem ssl.certificate.pem ssl.cipher.suites ssl.crl.location ssl.curves.list
    ssl.engine.id ssl.engine.location ssl.key.pem ssl.keystore.location ssl.keystore.password ssl.providers
    ssl.sigalgs.list sticky.partitioning.linger.ms topic.blacklist topic.metadata.propagation.max.ms
    topic.metadata.refresh.fast.cnt topic.metadata.refresh.fast.interval.ms topic.metadata.refresh.sparse
    transaction.timeout.ms transactional.id";

/// Words of librdkafka and Java for ours, by setting.
const WORDS: &[(&str, &str, &str)] = &[
    ("auto_offset_reset", "smallest", "earliest"),
    ("auto_offset_reset", "beginning", "earliest"),
    ("auto_offset_reset", "largest", "latest"),
    ("auto_offset_reset", "end", "latest"),
    // How Java's client spells it.
    ("ssl_endpoint_identification_algorithm", "", "none"),
    ("enable_ssl_certificate_verification", "1", "true"),
    ("enable_ssl_certificate_verification", "0", "false"),
];

/// A property as our own setting and the value that it has there; `None` for one that holds always.
///
/// # Errors
/// Why the property means nothing here, and what to do. The value is not quoted: it may be a secret.
pub(super) fn translate(name: &str, value: &str) -> Result<Option<(&'static str, String)>, String> {
    let value = value.trim();
    match PROPERTIES.iter().find(|(known, _)| *known == name).map(|(_, meaning)| *meaning) {
        Some(Is(setting)) => {
            let ours = WORDS.iter().find(|(of, theirs, _)| *of == setting && theirs.eq_ignore_ascii_case(value));
            Ok(Some((setting, ours.map_or(value, |(_, _, ours)| ours).to_owned())))
        }
        Some(Always(always)) if value.eq_ignore_ascii_case(always) => Ok(None),
        Some(Always(always)) => Err(format!("{name} is always {always} with the native client")),
        Some(Instead(way)) => Err(format!("{name} is not known to the native client: {way}")),
        None if only_librdkafka().any(|known| known == name) => Err(format!(
            "{name} is librdkafka's own: the native client has nothing like it, only --client confluent has"
        )),
        None if Field::named(name).is_some_and(Field::persistent) => {
            Err(format!("{name} is no name of librdkafka's: write it above [kafka.properties], or give its flag"))
        }
        None => {
            let known = PROPERTIES.iter().map(|(known, _)| *known).chain(only_librdkafka());
            Err(format!("unknown property {name}{}", suggest(name, known)))
        }
    }
}

/// The property that is this setting.
pub(super) fn name_of(setting: &str) -> Option<&'static str> {
    PROPERTIES.iter().find_map(|(name, meaning)| matches!(meaning, Is(ours) if *ours == setting).then_some(*name))
}

fn only_librdkafka() -> impl Iterator<Item = &'static str> {
    ONLY_LIBRDKAFKA.split_whitespace()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::field::Field;
    use super::*;

    #[test]
    fn every_property_stands_once_and_names_a_setting() {
        let mut seen = HashSet::new();
        for (name, meaning) in PROPERTIES {
            assert!(seen.insert(*name), "{name} twice");
            if let Is(setting) = meaning {
                assert!(Field::named(setting).is_some_and(Field::persistent), "{name} is no setting: {setting}");
            }
        }
        for name in only_librdkafka() {
            assert!(seen.insert(name), "{name} twice");
        }
        for (setting, _, ours) in WORDS {
            Field::named(setting).unwrap().kind.parse(ours).unwrap();
        }
    }

    #[test]
    fn a_property_is_translated_or_says_why_not() {
        for (name, value, expected) in [
            ("session.timeout.ms", " 9000", "session_timeout_ms=9000"),
            ("security.protocol", "SASL_SSL", "security_protocol=SASL_SSL"),
            ("auto.offset.reset", "Smallest", "auto_offset_reset=earliest"),
            ("ssl.endpoint.identification.algorithm", "", "ssl_endpoint_identification_algorithm=none"),
            ("enable.auto.commit", "FALSE", "-"),
            ("enable.auto.commit", "true", "! enable.auto.commit is always false with the native client"),
            ("ssl.truststore.password", "hunter2", "! ssl.truststore.password is not known to the native client: set"),
            ("queued.min.messages", "1", "! queued.min.messages is librdkafka's own: the native client"),
            ("batch_size", "5", "! batch_size is no name of librdkafka's: write it above [kafka.properties], or"),
            ("sasl.pasword", "hunter2", "! unknown property sasl.pasword; did you mean sasl.password?"),
        ] {
            let said = match translate(name, value) {
                Ok(Some((setting, value))) => format!("{setting}={value}"),
                Ok(None) => "-".to_owned(),
                Err(message) => format!("! {message}"),
            };
            assert!(said.starts_with(expected) && !said.contains("hunter2"), "{name}: {said}");
        }
    }
}

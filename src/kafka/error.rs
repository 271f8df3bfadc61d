//! What can go wrong between us and a broker: [`Error`], and the one table of the broker's error codes, [`Code`].
//!
//! Each message says where (address, API, topic, partition or group), what was said, and what to do about it. The
//! class of an error ([`Error::is_retriable`], [`Error::needs_metadata`], [`Error::is_unavailable`]) decides what
//! follows. Errors are `Clone`: the first failure of a connection is given to everyone who waits on it.
//!
//! Source of the codes: `org.apache.kafka.common.protocol.Errors`, and which of its exceptions are
//! `RetriableException` or `InvalidMetadataException`.

use std::fmt;
use std::io;
use std::time::Duration;

/// Why a call to Kafka failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The network failed: the name did not resolve, the connection was refused, reset or closed.
    #[error("{address}: {during}: {text}; check that the broker is up and can be reached under this address")]
    Io { address: String, during: &'static str, kind: io::ErrorKind, text: String },

    /// No answer in time.
    #[error("{address}: no answer to {api} within {}; the broker is overloaded, frozen, cut off, or no Kafka broker", seconds(.after))]
    Timeout { address: String, api: &'static str, after: Duration },

    /// Something answers there, but it is no Kafka broker, or not on an unencrypted port.
    #[error("{address} is not a Kafka broker's plaintext port: {found}; check host and port")]
    NotKafka { address: String, found: String },

    /// TLS or SASL failed: says which, and which setting or certificate has to change.
    #[error("{address}: {what}")]
    Security { address: String, what: String },

    /// The broker understood and refused.
    #[error("{address}: {api} of {subject}: {code}{}", detail(.message))]
    Broker { address: String, api: &'static str, subject: String, code: Code, message: Option<String> },

    /// Broker and client have no version of this API in common.
    #[error("{address}: the broker offers {api} in {}, this client speaks {}..={}; \
             Kafka 3.9 and 4.x are supported", range(.offered), .wanted.0, .wanted.1)]
    Unsupported { address: String, api: &'static str, wanted: (i16, i16), offered: Option<(i16, i16)> },

    /// The answer is not what the protocol says it should be.
    #[error("{address}: malformed answer to {api}: {what}; the connection is given up")]
    Malformed { address: String, api: &'static str, what: String },

    /// A request that the protocol cannot express.
    #[error("{address}: {api} cannot be sent: {what}")]
    Unsendable { address: String, api: &'static str, what: String },

    /// None of the known addresses gave a usable connection: address and reason of each.
    #[error("no Kafka broker can be reached: {}; check the bootstrap addresses and that the brokers are up", tried_list(.tried))]
    NoBroker { tried: Vec<(String, String)> },

    /// The partition has no leader at the moment, or does not exist.
    #[error("{subject} has no leader known to the cluster; it may be electing one, or the topic was deleted")]
    NoLeader { subject: String },

    /// The connection was closed from our side.
    #[error("the connection was closed by this client")]
    Closed,

    /// The caller asked for something that makes no sense; says what to change.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// The broker's error code, when it is the broker that refused.
    pub fn code(&self) -> Option<Code> {
        match self {
            Error::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// The reason alone, for a list in which the address stands already.
    pub fn reason(&self) -> String {
        match self {
            Error::Io { during, text, .. } => format!("{during}: {text}"),
            Error::Timeout { after, .. } => format!("no answer within {}", seconds(after)),
            Error::NotKafka { found, .. } => format!("no Kafka broker: {found}"),
            Error::Security { what, .. } => what.clone(),
            other => other.to_string(),
        }
    }

    /// Whether the same call may succeed later, on a new connection or with newer metadata.
    pub fn is_retriable(&self) -> bool {
        use Error::*;
        match self {
            // A password or a certificate can be mended while we run.
            Io { .. } | Timeout { .. } | Security { .. } | NoBroker { .. } | NoLeader { .. } => true,
            Broker { code, .. } => code.is_retriable(),
            NotKafka { .. } | Unsupported { .. } | Malformed { .. } | Unsendable { .. } | Closed | Invalid(_) => false,
        }
    }

    /// Whether a retry wants metadata refreshed first: the leader may be elsewhere by now.
    pub fn needs_metadata(&self) -> bool {
        match self {
            Error::Broker { code, .. } => code.needs_metadata(),
            other => other.is_retriable(),
        }
    }

    /// Whether the cause is that there is nothing, or no Kafka, where we were told to look (exit code 3).
    pub fn is_unavailable(&self) -> bool {
        use Error::*;
        matches!(
            self,
            Io { .. } | Timeout { .. } | NotKafka { .. } | Security { .. } | NoBroker { .. } | Unsupported { .. }
        )
    }
}

fn seconds(duration: &Duration) -> String {
    format!("{} s", duration.as_millis() as f64 / 1000.0)
}

fn detail(message: &Option<String>) -> String {
    let said = message.as_deref().filter(|text| !text.is_empty());
    said.map_or(String::new(), |text| format!(" (the broker says: {text})"))
}

fn range(offered: &Option<(i16, i16)>) -> String {
    offered.map_or("no version".into(), |(low, high)| format!("versions {low}..={high}"))
}

fn tried_list(tried: &[(String, String)]) -> String {
    let list: Vec<String> = tried.iter().map(|(address, reason)| format!("{address} ({reason})")).collect();
    list.join(", ")
}

/// An error code of the Kafka protocol; 0 is success.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub i16);

impl Code {
    /// The code's name in Kafka's documentation; `UNKNOWN_CODE` for one that is not in our table.
    pub fn name(self) -> &'static str {
        self.entry().map_or("UNKNOWN_CODE", |entry| entry.name)
    }

    /// Whether this is success.
    pub fn is_ok(self) -> bool {
        self == Code::NONE
    }

    /// Whether the same request may succeed later. Codes that we do not know are not retried.
    pub fn is_retriable(self) -> bool {
        self.entry().is_some_and(|entry| entry.retry != Retry::Never)
    }

    /// Whether the code says that our view of topics and leaders is out of date.
    pub fn needs_metadata(self) -> bool {
        self.entry().is_some_and(|entry| entry.retry == Retry::Refresh)
    }

    /// The code in words for a person: what it means and what to do.
    pub fn words(self) -> &'static str {
        self.entry().map_or("a code this client does not know; see the broker's log", |entry| entry.words)
    }

    fn entry(self) -> Option<&'static Entry> {
        CODES.iter().find(|entry| entry.code == self.0)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name(), self.0, self.words())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

/// What a code asks of whoever gets it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// Trying again changes nothing.
    Never,
    /// Try again after a pause.
    Again,
    /// Refresh metadata, then try again.
    Refresh,
}

struct Entry {
    code: i16,
    name: &'static str,
    retry: Retry,
    words: &'static str,
}

/// Makes the constants and the table from one list.
macro_rules! codes {
    ($($code:literal $name:ident $retry:ident $words:literal;)*) => {
        #[allow(missing_docs)]
        impl Code {
            $(pub const $name: Code = Code($code);)*
        }
        const CODES: &[Entry] =
            &[$(Entry { code: $code, name: stringify!($name), retry: Retry::$retry, words: $words }),*];
    };
}

codes! {
    -1 UNKNOWN_SERVER_ERROR Never "the broker failed without saying why; see its log";
    0 NONE Never "success";
    1 OFFSET_OUT_OF_RANGE Never "the offset is not in the log: it expired, or the topic was made anew";
    2 CORRUPT_MESSAGE Again "the batch's checksum does not match its bytes";
    3 UNKNOWN_TOPIC_OR_PARTITION Refresh "no such topic or partition here; check its name, or create it";
    4 INVALID_FETCH_SIZE Never "the fetch size is negative";
    5 LEADER_NOT_AVAILABLE Refresh "the partition is electing a leader";
    6 NOT_LEADER_OR_FOLLOWER Refresh "the partition's leader is another broker";
    7 REQUEST_TIMED_OUT Again "the broker could not finish in time";
    8 BROKER_NOT_AVAILABLE Again "the broker is not available";
    9 REPLICA_NOT_AVAILABLE Refresh "the replica is not available";
    10 MESSAGE_TOO_LARGE Never "the batch is larger than the topic's max.message.bytes";
    11 STALE_CONTROLLER_EPOCH Never "the controller has moved";
    12 OFFSET_METADATA_TOO_LARGE Never "the commit's metadata is too long";
    13 NETWORK_EXCEPTION Refresh "the broker lost its connection to another";
    14 COORDINATOR_LOAD_IN_PROGRESS Again "the group's coordinator is still loading";
    15 COORDINATOR_NOT_AVAILABLE Again "the group has no coordinator at the moment";
    16 NOT_COORDINATOR Again "the group's coordinator is another broker";
    17 INVALID_TOPIC_EXCEPTION Never "the topic's name is not allowed";
    18 RECORD_LIST_TOO_LARGE Never "the batch is larger than the broker's segment size";
    19 NOT_ENOUGH_REPLICAS Again "fewer replicas are in sync than min.insync.replicas asks for";
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND Again "written, but to fewer in-sync replicas than min.insync.replicas asks for";
    21 INVALID_REQUIRED_ACKS Never "acks must be -1, 0 or 1";
    22 ILLEGAL_GENERATION Never "the group has moved on to another generation";
    23 INCONSISTENT_GROUP_PROTOCOL Never "the group's other members use other assignors; give all members one in common";
    24 INVALID_GROUP_ID Never "the group id is empty or not allowed";
    25 UNKNOWN_MEMBER_ID Never "the group does not know this member any more: its session ran out, or it was removed";
    26 INVALID_SESSION_TIMEOUT Never "the session timeout is outside group.min.session.timeout.ms and group.max.session.timeout.ms of the broker";
    27 REBALANCE_IN_PROGRESS Never "the group is rebalancing; join again";
    28 INVALID_COMMIT_OFFSET_SIZE Never "the commit is too large";
    29 TOPIC_AUTHORIZATION_FAILED Never "not authorized for this topic; ask for READ (or WRITE) on it";
    30 GROUP_AUTHORIZATION_FAILED Never "not authorized for this group; ask for READ on it";
    31 CLUSTER_AUTHORIZATION_FAILED Never "not authorized for the cluster";
    32 INVALID_TIMESTAMP Never "the record's timestamp is outside what the topic accepts";
    33 UNSUPPORTED_SASL_MECHANISM Never "the broker does not offer this SASL mechanism";
    34 ILLEGAL_SASL_STATE Never "the broker expected another SASL message";
    35 UNSUPPORTED_VERSION Never "the broker does not speak this version of the API";
    36 TOPIC_ALREADY_EXISTS Never "the topic exists already";
    37 INVALID_PARTITIONS Never "the number of partitions must be at least 1";
    38 INVALID_REPLICATION_FACTOR Never "the replication factor is below 1 or above the number of brokers";
    39 INVALID_REPLICA_ASSIGNMENT Never "the replica assignment is not valid";
    40 INVALID_CONFIG Never "a topic setting is not valid";
    41 NOT_CONTROLLER Refresh "the controller is another broker";
    42 INVALID_REQUEST Never "the broker finds the request malformed";
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT Never "the topic's message format is too old for this";
    44 POLICY_VIOLATION Never "the broker's policy does not allow this";
    45 OUT_OF_ORDER_SEQUENCE_NUMBER Never "the producer's batches came out of order";
    46 DUPLICATE_SEQUENCE_NUMBER Never "the batch was written before";
    47 INVALID_PRODUCER_EPOCH Never "a newer producer with the same id has taken over";
    48 INVALID_TXN_STATE Never "the transaction is not in a state that allows this";
    49 INVALID_PRODUCER_ID_MAPPING Never "the producer id does not belong to this transactional id";
    50 INVALID_TRANSACTION_TIMEOUT Never "the transaction timeout is above the broker's transaction.max.timeout.ms";
    51 CONCURRENT_TRANSACTIONS Again "another operation of this transaction is still running";
    52 TRANSACTION_COORDINATOR_FENCED Never "the transaction coordinator has moved";
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED Never "not authorized for this transactional id";
    54 SECURITY_DISABLED Never "the broker has no security enabled";
    55 OPERATION_NOT_ATTEMPTED Never "the broker did not get to this part of the request";
    56 KAFKA_STORAGE_ERROR Refresh "the broker cannot read or write its disk; see its log";
    57 LOG_DIR_NOT_FOUND Never "the log directory does not exist on the broker";
    58 SASL_AUTHENTICATION_FAILED Never "user name or password are wrong";
    59 UNKNOWN_PRODUCER_ID Never "the broker has forgotten this producer";
    60 REASSIGNMENT_IN_PROGRESS Never "the partition is being reassigned";
    68 NON_EMPTY_GROUP Never "the group still has members";
    69 GROUP_ID_NOT_FOUND Never "no such group";
    70 FETCH_SESSION_ID_NOT_FOUND Again "the broker has dropped the fetch session; start a new one";
    71 INVALID_FETCH_SESSION_EPOCH Again "the fetch session is out of step; start a new one";
    72 LISTENER_NOT_FOUND Refresh "the leader has no listener of the kind we are connected to";
    73 TOPIC_DELETION_DISABLED Never "the broker does not allow topics to be deleted";
    74 FENCED_LEADER_EPOCH Refresh "the partition has a newer leader";
    75 UNKNOWN_LEADER_EPOCH Refresh "the broker has not heard of this leader epoch yet";
    76 UNSUPPORTED_COMPRESSION_TYPE Never "the broker does not allow this compression for this request version";
    77 STALE_BROKER_EPOCH Never "the broker was restarted meanwhile";
    78 OFFSET_NOT_AVAILABLE Again "the new leader does not know its high watermark yet";
    79 MEMBER_ID_REQUIRED Never "join again with the member id that the coordinator gave";
    80 PREFERRED_LEADER_NOT_AVAILABLE Refresh "the preferred leader is not available";
    81 GROUP_MAX_SIZE_REACHED Never "the group has as many members as group.max.size allows";
    82 FENCED_INSTANCE_ID Never "another member uses the same group.instance.id; give each process its own";
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE Refresh "no replica may become leader";
    84 ELECTION_NOT_NEEDED Refresh "the partition has a leader";
    86 GROUP_SUBSCRIBED_TO_TOPIC Never "the group is subscribed to the topic";
    87 INVALID_RECORD Never "the broker refuses a record; a compacted topic wants a key";
    88 UNSTABLE_OFFSET_COMMIT Again "an open transaction holds offsets of this group back";
    89 THROTTLING_QUOTA_EXCEEDED Again "the quota is used up for the moment";
    90 PRODUCER_FENCED Never "a newer producer with the same transactional id has taken over";
    100 UNKNOWN_TOPIC_ID Refresh "the broker does not know this topic id: the topic is new here, or was deleted";
    103 INCONSISTENT_TOPIC_ID Refresh "the topic was deleted and made anew";
    105 TRANSACTIONAL_ID_NOT_FOUND Never "no such transactional id";
    106 FETCH_SESSION_TOPIC_ID_ERROR Again "the fetch session mixes topics with and without ids; start a new one";
    107 INELIGIBLE_REPLICA Never "the replica may not join the in-sync set";
    109 OFFSET_MOVED_TO_TIERED_STORAGE Never "the offset is in tiered storage";
    110 FENCED_MEMBER_EPOCH Never "the coordinator has fenced this member; join again";
    111 UNRELEASED_INSTANCE_ID Never "another member has this group.instance.id, or had it and its session has not ended yet; give each process its own";
    112 UNSUPPORTED_ASSIGNOR Never "the coordinator does not offer this assignor; choose one of group.consumer.assignors of the broker";
    113 STALE_MEMBER_EPOCH Never "the member's epoch is out of date; wait for the next heartbeat";
    117 UNKNOWN_SUBSCRIPTION_ID Never "the broker does not know this telemetry subscription";
    129 REBOOTSTRAP_REQUIRED Refresh "the cluster asks its clients to start from the bootstrap list again";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_ascending() {
        for pair in CODES.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} and {}", pair[0].name, pair[1].name);
        }
    }

    #[test]
    fn a_code_names_its_class_and_what_to_do() {
        for (code, name, retriable, metadata) in [
            (Code::NONE, "NONE", false, false),
            (Code(6), "NOT_LEADER_OR_FOLLOWER", true, true),
            (Code(16), "NOT_COORDINATOR", true, false),
            (Code(29), "TOPIC_AUTHORIZATION_FAILED", false, false),
            (Code(12345), "UNKNOWN_CODE", false, false),
        ] {
            assert_eq!((code.name(), code.is_retriable(), code.needs_metadata()), (name, retriable, metadata));
        }
        assert!(Code(12345).to_string().contains("12345"));
    }

    #[test]
    fn our_names_agree_with_the_protocol_crates() {
        for entry in CODES.iter().filter(|entry| entry.code != 0) {
            let theirs = kafka_protocol::ResponseError::try_from_code(entry.code);
            let Some(theirs) = theirs else { continue };
            if let kafka_protocol::ResponseError::Unknown(_) = theirs {
                continue;
            }
            let ours: String = entry.name.split('_').map(str::to_lowercase).collect();
            let theirs = format!("{theirs:?}").to_lowercase();
            assert!(theirs.starts_with(&ours) || ours.starts_with(&theirs), "{}: {ours} / {theirs}", entry.code);
        }
    }

    #[test]
    fn messages_are_one_line_with_the_place() {
        let address = || "kafka:9092".to_string();
        let errors = [
            Error::Io {
                address: address(),
                during: "connect",
                kind: io::ErrorKind::ConnectionRefused,
                text: "Connection refused".into(),
            },
            Error::Timeout { address: address(), api: "Fetch", after: Duration::from_millis(1500) },
            Error::NotKafka { address: address(), found: "an HTTP server".into() },
            Error::Security { address: address(), what: "the broker speaks TLS on this port".into() },
            Error::Broker {
                address: address(),
                api: "Produce",
                subject: "orders/1".into(),
                code: Code(10),
                message: Some("too big".into()),
            },
            Error::Unsupported { address: address(), api: "Fetch", wanted: (4, 17), offered: None },
            Error::Malformed { address: address(), api: "Fetch", what: "cut off".into() },
            Error::NoBroker { tried: vec![(address(), "refused".into())] },
        ];
        for error in errors {
            let text = error.to_string();
            assert!(text.contains("kafka:9092") && !text.contains('\n') && !text.contains("  "), "{text}");
        }
    }
}

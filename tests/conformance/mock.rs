//! librdkafka's own mock cluster: a third opinion on the protocol, beside Kafka's and ours.

use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::types::RDKafkaApiKey::{self, JoinGroup, SyncGroup};

use crate::bulk;
use crate::support::konekt::Place;
use crate::support::wait;

/// The mock offers versions of these that it reads and answers like older ones; librdkafka itself never asks for them.
const OFFERED_IN_VAIN: [(RDKafkaApiKey, i16); 2] = [(JoinGroup, 5), (SyncGroup, 3)];

#[test]
fn the_mock_cluster_gives_back_what_it_got() {
    let cluster = MockCluster::new(3).expect("a mock cluster");
    for (api, highest) in OFFERED_IN_VAIN {
        cluster.apiversion(api, Some(0), Some(highest)).expect("a version that it has");
    }
    cluster.create_topic("bulk", 4, 3).expect("a topic");
    // It speaks the old protocol, but its records are in the new format: the refusal comes late.
    bulk::check(&cluster.bootstrap_servers(), "4 at heart", 1);
}

/// It hangs up at each JoinGroup, and the client says so for as long as it tries.
#[test]
fn a_broker_that_hangs_up_at_a_request_is_complained_of() {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic("refused", 1, 1).expect("a topic");
    let place = Place::new();
    let consume = ["consume", "--topics", "refused", "--group-id", "refused", "--bootstrap-servers"];
    let run = place.konekt(&consume).arguments(&[&cluster.bootstrap_servers()]).start();
    let says = || run.stderr().contains("the broker closed the connection at JoinGroup").then_some(());
    wait::until("the client says what the broker does", Duration::from_secs(30), says);
    run.stop("TERM", Duration::from_secs(30)).expect_code(0);
}

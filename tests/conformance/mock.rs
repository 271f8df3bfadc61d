//! librdkafka's own mock cluster: a third opinion on the protocol, beside Kafka's and ours.

use rdkafka::mocking::MockCluster;

use crate::bulk;

#[test]
fn the_mock_cluster_gives_back_what_it_got() {
    let cluster = MockCluster::new(3).expect("a mock cluster");
    cluster.create_topic("bulk", 4, 3).expect("a topic");
    bulk::check(&cluster.bootstrap_servers(), "4 at heart");
}

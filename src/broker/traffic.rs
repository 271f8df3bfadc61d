//! How much was asked and answered, by API: what tests and benchmarks compare clients by.

use std::collections::BTreeMap;

use kafka_protocol::messages::ApiKey;
use parking_lot::Mutex;

/// What went over the wire for one API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub requests: u64,
    pub request_bytes: u64,
    pub answer_bytes: u64,
}

/// The traffic of all APIs.
#[derive(Default)]
pub(super) struct TrafficByApi(Mutex<BTreeMap<i16, Traffic>>);

impl TrafficByApi {
    pub(super) fn of(&self, api: ApiKey) -> Traffic {
        self.0.lock().get(&(api as i16)).copied().unwrap_or_default()
    }

    pub(super) fn count_request(&self, api: ApiKey, bytes: usize) {
        let mut by_api = self.0.lock();
        let traffic = by_api.entry(api as i16).or_default();
        traffic.requests += 1;
        traffic.request_bytes += bytes as u64;
    }

    pub(super) fn count_answer(&self, api: ApiKey, bytes: usize) {
        self.0.lock().entry(api as i16).or_default().answer_bytes += bytes as u64;
    }
}

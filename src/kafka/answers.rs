//! Every answer of a broker that this client reads, for fuzzing: as bytes that make one, and read as a connection does.

use std::ops::RangeInclusive;

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, ResponseKind};

use super::shape::example::Example;
pub use super::shape::recorded::{Recorded, entries};
use super::versions::{APIS, Api, decode_api_versions};

/// How many kinds there are.
pub const KINDS: usize = APIS.len();

/// The versions of each API that this client speaks.
pub fn apis() -> impl Iterator<Item = (ApiKey, RangeInclusive<i16>)> {
    APIS.iter().map(|api| (api.key, api.lowest..=api.highest))
}

/// What real brokers have answered: kind and version as [`read`] takes them, and the answer.
pub fn recorded() -> impl Iterator<Item = (usize, u8, &'static [u8])> {
    super::shape::recorded::recorded().filter_map(|Recorded { key, version, body }| {
        let kind = APIS.iter().position(|api| api.key as i16 == key)?;
        Some((kind, u8::try_from(version - APIS[kind].lowest).ok()?, body))
    })
}

/// A version of one kind that this client speaks, for any number.
fn spoken(kind: usize, version: u8) -> (&'static Api, i16) {
    let api = &APIS[kind % KINDS];
    (api, api.lowest + i16::from(version) % (api.highest - api.lowest + 1))
}

/// An answer of a kind, with two elements in each array. Any number is a version.
pub fn example(kind: usize, version: u8) -> Vec<u8> {
    let (api, version) = spoken(kind, version);
    Example::of(api.answer, version)
}

/// Reads an answer as a connection does.
///
/// # Errors
/// What is wrong with it.
pub fn read(kind: usize, version: u8, body: &[u8]) -> Result<(), String> {
    let (api, version) = spoken(kind, version);
    if api.name == "ApiVersions" {
        return decode_api_versions(body, version).map(|_| ()).ok_or_else(|| "no ApiVersions answer".to_owned());
    }
    api.answer.check(version, body)?;
    let mut body = Bytes::copy_from_slice(body);
    ResponseKind::decode(api.key, &mut body, version).map(|_| ()).map_err(|error| error.to_string())
}

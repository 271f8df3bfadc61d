//! Answers of real brokers to this client, as tests/conformance/wire.rs has recorded them, for tests and fuzzing.

/// What Kafka 3.9 and the newest Kafka answered.
const FIXTURES: [&[u8]; 2] = [
    include_bytes!("../../../tests/fixtures/wire/oldest.bin"),
    include_bytes!("../../../tests/fixtures/wire/newest.bin"),
];

/// One answer without its header.
pub struct Recorded<'a> {
    /// The API key.
    pub key: i16,
    pub version: i16,
    pub body: &'a [u8],
}

/// All there are.
pub(in crate::kafka) fn recorded() -> impl Iterator<Item = Recorded<'static>> {
    FIXTURES.into_iter().flat_map(entries)
}

/// The entries of a fixture: API key and version (2 bytes each), a length (4 bytes), the answer's body.
pub fn entries(mut fixture: &[u8]) -> Vec<Recorded<'_>> {
    let mut found = Vec::new();
    while let Some((head, rest)) = fixture.split_first_chunk::<8>() {
        let [k1, k2, v1, v2, length @ ..] = *head;
        let (body, others) = rest.split_at(u32::from_be_bytes(length) as usize);
        found.push(Recorded { key: i16::from_be_bytes([k1, k2]), version: i16::from_be_bytes([v1, v2]), body });
        fixture = others;
    }
    found
}

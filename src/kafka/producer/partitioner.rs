//! Which partition a record goes to, as the Java client decides: by the key's murmur2 hash; without a key, one partition
//! takes a batch's worth of bytes, then another one, so that batches are large and the partitions even (KIP-794).

/// The partition that the Java client's default partitioner gives a key.
///
/// ```
/// assert_eq!(konekt::kafka::producer::partition_for_key(b"abc", 4), 479_470_107 % 4);
/// ```
pub fn partition_for_key(key: &[u8], partition_count: usize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % partition_count
}

/// As `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

/// The partition of records without a key.
#[derive(Debug, Default)]
pub(super) struct Sticky {
    index: usize,
    bytes: usize,
}

impl Sticky {
    /// Begins with a partition that `random` chooses.
    pub(super) fn new(random: u64, partition_count: usize) -> Self {
        Self { index: (random % partition_count.max(1) as u64) as usize, bytes: 0 }
    }

    /// The partition for a record of so many bytes. After `batch_bytes` the next one that `has_leader` takes over; where
    /// none has, the next one.
    pub(super) fn choose(
        &mut self,
        record_bytes: usize,
        batch_bytes: usize,
        partition_count: usize,
        has_leader: impl Fn(usize) -> bool,
    ) -> usize {
        if self.bytes >= batch_bytes || !has_leader(self.index) {
            let following = (1..=partition_count).map(|step| (self.index + step) % partition_count);
            self.index = following.clone().find(|index| has_leader(*index)).or(following.min()).unwrap_or(0);
            self.bytes = 0;
        }
        self.bytes += record_bytes;
        self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn keys_hash_as_in_java() {
        for (key, expected) in [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
        }
    }

    #[test]
    fn without_a_key_partitions_take_turns_by_bytes_and_leaderless_ones_are_passed_over() {
        let mut sticky = Sticky::new(6, 4);
        let mut chosen = |bytes| sticky.choose(bytes, 100, 4, |index| index != 3);
        assert_eq!([60, 60, 60, 60, 60, 60, 60].map(&mut chosen), [2, 2, 0, 0, 1, 1, 2]);
        assert_eq!(Sticky::new(1, 2).choose(1, 100, 2, |_| false), 0, "somewhere, even so");
    }
}

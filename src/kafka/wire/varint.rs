//! Varints, and a cursor over hostile bytes.

/// Reads forward; every method answers `None` instead of reading past the end.
pub(in crate::kafka) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(in crate::kafka) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(in crate::kafka) fn position(&self) -> usize {
        self.at
    }

    pub(in crate::kafka) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// What is not read yet.
    pub(in crate::kafka) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    #[inline(always)]
    pub(in crate::kafka) fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    #[inline(always)]
    pub(in crate::kafka) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// The next `N` bytes, for `from_be_bytes`.
    #[inline(always)]
    pub(in crate::kafka) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    /// A zigzag varint of at most 64 bits.
    #[inline(always)]
    pub(in crate::kafka) fn varint(&mut self) -> Option<i64> {
        let first = self.byte()?;
        let zigzag = if first < 0x80 { u64::from(first) } else { self.long_varint(first)? };
        Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    #[inline(always)]
    fn long_varint(&mut self, first: u8) -> Option<u64> {
        let mut value = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
            shift += 7;
            if shift > 63 {
                return None;
            }
        }
    }

    /// An unsigned varint of at most 32 bits.
    pub(in crate::kafka) fn unsigned_varint(&mut self) -> Option<u32> {
        let mut value = 0;
        for shift in (0..=28).step_by(7) {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// A length and as many bytes; the inner `None` is Kafka's null (a negative length).
    #[inline(always)]
    pub(in crate::kafka) fn nullable_bytes(&mut self) -> Option<Option<&'a [u8]>> {
        match usize::try_from(self.varint()?) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Some(None),
        }
    }
}

/// Appends a zigzag varint.
pub(super) fn put_varint(into: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        into.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    into.push(zigzag as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_survive_a_round_trip_and_no_cut() {
        for value in [0, -1, 1, 63, 64, -64, -65, 8191, 8192, i64::from(i32::MAX), i64::MIN, i64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(Cursor::new(&bytes).varint(), Some(value));
            for cut in 0..bytes.len() {
                assert_eq!(Cursor::new(&bytes[..cut]).varint(), None, "{value} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_varint_that_never_ends_is_refused() {
        assert_eq!(Cursor::new(&[0xff; 20]).varint(), None);
    }

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        for length in [1, 1000, i64::from(i32::MAX), i64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, length);
            assert_eq!(Cursor::new(&bytes).nullable_bytes(), None, "length {length}");
        }
        assert_eq!(Cursor::new(&[1]).nullable_bytes(), Some(None));
        assert_eq!(Cursor::new(&[0]).nullable_bytes(), Some(Some(&[][..])));
    }
}

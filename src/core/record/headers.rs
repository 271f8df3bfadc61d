//! Headers as they lie in record batch v2: read without a copy, and written.

use std::fmt;

/// A record's headers, still encoded as in record batch v2: per header a varint length and the name's bytes, then a
/// varint length (−1 for null) and the value's bytes.
///
/// They are checked when the batch is decoded, so iterating cannot fail.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    count: u32,
    encoded: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Headers over their encoded form. A malformed tail ends the iteration early; it never panics.
    pub fn from_encoded(count: u32, encoded: &'a [u8]) -> Self {
        Self { count, encoded }
    }

    /// How many headers there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Name and value of each header. Names are bytes: Kafka does not promise text.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut rest = self.encoded;
        (0..self.count).map_while(move |_| {
            let name = take_bytes(&mut rest)??;
            let value = take_bytes(&mut rest)?;
            Some((name, value))
        })
    }

    /// The encoded form, for whoever passes headers on unchanged.
    pub fn encoded(&self) -> &'a [u8] {
        self.encoded
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        f.debug_list().entries(self.iter().map(|(name, value)| (text(name), value.map(text)))).finish()
    }
}

/// Appends one header in the encoded form that [`Headers`] reads.
pub fn encode_header(into: &mut Vec<u8>, name: &[u8], value: Option<&[u8]>) {
    put_varint(into, name.len() as i64);
    into.extend_from_slice(name);
    match value {
        Some(bytes) => {
            put_varint(into, bytes.len() as i64);
            into.extend_from_slice(bytes);
        }
        None => put_varint(into, -1),
    }
}

fn put_varint(into: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        into.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    into.push(zigzag as u8);
}

/// One length-prefixed run of bytes: outer `None` when malformed, inner `None` for null.
fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (mut zigzag, mut shift, mut used) = (0u64, 0u32, 0usize);
    loop {
        let byte = *rest.get(used)?;
        used += 1;
        zigzag |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            break;
        }
        shift += 7;
    }
    let length = ((zigzag >> 1) as i64) ^ -((zigzag & 1) as i64);
    if length < 0 {
        *rest = &rest[used..];
        return Some(None);
    }
    let end = used.checked_add(usize::try_from(length).ok()?)?;
    let bytes = rest.get(used..end)?;
    *rest = &rest[end..];
    Some(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_order_repeats_nulls_and_bytes_that_are_no_text() {
        let mut encoded = Vec::new();
        let headers: [(&[u8], Option<&[u8]>); 4] =
            [(b"a", Some(b"1")), (b"a", None), (b"\xff\xfe", Some(b"")), (b"", Some(&[0; 200]))];
        for (name, value) in headers {
            encode_header(&mut encoded, name, value);
        }
        assert_eq!(Headers::from_encoded(4, &encoded).iter().collect::<Vec<_>>(), headers);
        for cut in 0..encoded.len() {
            assert!(Headers::from_encoded(4, &encoded[..cut]).iter().count() < 4, "cut at {cut}");
        }
    }
}

//! The four codecs of record batches.
//!
//! What is decompressed came over the network: output grows as data comes, never from a size that the data claims, and
//! stops at [`INFLATED_BYTES_MAX`]. Compressed output is what the Java client's decoders accept: snappy in xerial
//! framing, lz4 as a frame of independent 64 KiB blocks.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use zstd::stream::raw::{Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

/// The most bytes that one batch may inflate to. Real batches stay below the broker's `message.max.bytes` times the
/// ratio of their data; a batch that passes this is a bomb or corrupt.
pub const INFLATED_BYTES_MAX: usize = 512 << 20;

/// How a batch's records are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    /// All codecs, in the order of their numbers in a batch's attributes.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The codec in a batch's attributes; `None` for a number that means nothing.
    pub fn from_attributes(attributes: i16) -> Option<Codec> {
        Codec::ALL.get(usize::from(attributes as u16 & 0b111)).copied()
    }

    /// Its bits in a batch's attributes.
    pub fn attributes(self) -> i16 {
        self as i16
    }

    /// Its name in Kafka's `compression.type`.
    pub fn name(self) -> &'static str {
        ["none", "gzip", "snappy", "lz4", "zstd"][self as usize]
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Codec {
    type Err = String;

    fn from_str(text: &str) -> Result<Codec, String> {
        let found = Codec::ALL.into_iter().find(|codec| codec.name() == text);
        found.ok_or_else(|| format!("{text:?} is no compression; use none, gzip, snappy, lz4 or zstd"))
    }
}

/// Compresses `plain`.
///
/// # Errors
/// None in practice: the encoders write to memory. They can still say no, and that is passed on.
pub fn compress(codec: Codec, plain: &[u8]) -> io::Result<Vec<u8>> {
    match codec {
        Codec::None => Ok(plain.to_vec()),
        Codec::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(plain)?;
            encoder.finish()
        }
        Codec::Snappy => compress_xerial(plain),
        Codec::Lz4 => {
            let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(plain)?;
            encoder.finish().map_err(io::Error::other)
        }
        Codec::Zstd => zstd::bulk::compress(plain, ZSTD_LEVEL),
    }
}

/// As the Java client's default.
const ZSTD_LEVEL: i32 = 3;

/// Decompresses a batch's records to at most `bytes_max` bytes.
///
/// # Errors
/// What is wrong with the data, in words.
pub fn decompress(codec: Codec, packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, String> {
    let result = match codec {
        Codec::None => Ok(packed.to_vec()),
        Codec::Gzip => read_limited(MultiGzDecoder::new(packed), packed.len(), bytes_max),
        Codec::Snappy => decompress_snappy(packed, bytes_max),
        Codec::Lz4 => read_limited(FrameDecoder::new(packed), packed.len(), bytes_max),
        Codec::Zstd => ZSTD.with_borrow_mut(|decoder| decompress_zstd(decoder, packed, bytes_max)),
    };
    result.map_err(|error| format!("{codec} data: {error}"))
}

thread_local! {
    /// A context costs 150 KiB and more to set up than a small batch takes to decompress; each thread keeps one.
    static ZSTD: RefCell<Option<ZstdDecoder<'static>>> = const { RefCell::new(None) };
}

/// Room to begin with: what text of JSON records usually inflates to.
fn first_capacity(packed_bytes: usize, bytes_max: usize) -> usize {
    packed_bytes.saturating_mul(4).clamp(1024, 16 << 20).min(bytes_max)
}

fn read_limited(decoder: impl Read, packed_bytes: usize, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(first_capacity(packed_bytes, bytes_max));
    // One byte more than allowed tells a full buffer from one that is too small.
    decoder.take(bytes_max as u64 + 1).read_to_end(&mut plain)?;
    if plain.len() > bytes_max { Err(too_large(bytes_max)) } else { Ok(plain) }
}

fn decompress_zstd(decoder: &mut Option<ZstdDecoder<'static>>, packed: &[u8], bytes_max: usize) -> io::Result<Vec<u8>> {
    let decoder = match decoder {
        Some(decoder) => {
            decoder.reinit()?;
            decoder
        }
        None => decoder.insert(ZstdDecoder::new()?),
    };
    let mut input = InBuffer::around(packed);
    let mut plain = Vec::with_capacity(first_capacity(packed.len(), bytes_max));
    loop {
        let written = plain.len();
        let mut output = OutBuffer::around_pos(&mut plain, written);
        // 0 when a frame is complete; another frame may follow it.
        let frame_bytes_missing = decoder.run(&mut input, &mut output)?;
        let output_is_full = output.pos() == output.capacity();
        let input_is_empty = input.pos() == packed.len();
        if frame_bytes_missing == 0 && input_is_empty {
            return Ok(plain);
        }
        if output_is_full {
            grow(&mut plain, bytes_max)?;
        } else if input_is_empty {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends within a frame"));
        } else if frame_bytes_missing == 0 {
            decoder.reinit()?;
        }
    }
}

fn grow(plain: &mut Vec<u8>, bytes_max: usize) -> io::Result<()> {
    if plain.len() >= bytes_max {
        return Err(too_large(bytes_max));
    }
    let capacity = plain.capacity().saturating_mul(2).min(bytes_max);
    plain.reserve_exact(capacity - plain.len());
    Ok(())
}

/// What `SnappyOutputStream` of xerial's snappy-java writes first: its magic, its version, the oldest compatible one.
const XERIAL_HEADER: &[u8; 16] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const XERIAL_MAGIC_BYTES: usize = 8;
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

fn compress_xerial(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut packed = XERIAL_HEADER.to_vec();
    let mut encoder = snap::raw::Encoder::new();
    for block in plain.chunks(XERIAL_BLOCK_BYTES) {
        let block = encoder.compress_vec(block).map_err(io::Error::other)?;
        // A block of 32 KiB stays below 64 KiB, however badly it compresses.
        packed.extend_from_slice(&(block.len() as u32).to_be_bytes());
        packed.extend_from_slice(&block);
    }
    Ok(packed)
}

/// Snappy occurs in two framings: raw (librdkafka and others) and xerial's blocks (Java).
fn decompress_snappy(packed: &[u8], bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    if !packed.starts_with(&XERIAL_HEADER[..XERIAL_MAGIC_BYTES]) {
        append_snappy_block(packed, &mut plain, bytes_max)?;
        return Ok(plain);
    }
    let mut rest = packed.get(XERIAL_HEADER.len()..).ok_or_else(|| cut_off("header"))?;
    plain.reserve(first_capacity(packed.len(), bytes_max));
    while !rest.is_empty() {
        let (length, blocks) = rest.split_first_chunk::<4>().ok_or_else(|| cut_off("block length"))?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, next) = blocks.split_at_checked(length).ok_or_else(|| cut_off("block"))?;
        append_snappy_block(block, &mut plain, bytes_max)?;
        rest = next;
    }
    Ok(plain)
}

/// No element of the format makes more than 64 bytes out of three, so a claim beyond this ratio is a lie.
const SNAPPY_RATIO_MAX: usize = 22;

fn append_snappy_block(block: &[u8], plain: &mut Vec<u8>, bytes_max: usize) -> io::Result<()> {
    let claimed = snap::raw::decompress_len(block).map_err(io::Error::other)?;
    if claimed > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        let lie = format!("a block of {} bytes claims to hold {claimed}", block.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, lie));
    }
    let start = plain.len();
    if claimed > bytes_max - start {
        return Err(too_large(bytes_max));
    }
    plain.resize(start + claimed, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut plain[start..]).map_err(io::Error::other)?;
    plain.truncate(start + written);
    Ok(())
}

fn cut_off(part: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("it ends within a {part}"))
}

fn too_large(bytes_max: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it inflates to more than {bytes_max} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 1 << 20;

    fn text(bytes: usize) -> Vec<u8> {
        let sentence = br#"{"order":4711,"customer":"ACME","lines":[1,2,3]} "#;
        sentence.iter().copied().cycle().take(bytes).collect()
    }

    #[test]
    fn every_codec_gives_back_what_it_got() {
        for codec in Codec::ALL {
            for bytes in [0, 1, 100, XERIAL_BLOCK_BYTES, XERIAL_BLOCK_BYTES + 1, 300_000] {
                let plain = text(bytes);
                let packed = compress(codec, &plain).unwrap();
                assert!(decompress(codec, &packed, LIMIT).unwrap() == plain, "{codec}, {bytes} bytes");
            }
        }
    }

    #[test]
    fn raw_snappy_is_read_too() {
        let plain = text(70_000);
        let packed = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        assert!(decompress(Codec::Snappy, &packed, LIMIT).unwrap() == plain);
    }

    #[test]
    fn frames_and_members_that_follow_each_other_are_one() {
        for codec in [Codec::Gzip, Codec::Zstd, Codec::Snappy] {
            let mut packed = compress(codec, b"first ").unwrap();
            let second = compress(codec, b"second").unwrap();
            packed.extend_from_slice(if codec == Codec::Snappy { &second[XERIAL_HEADER.len()..] } else { &second });
            assert_eq!(decompress(codec, &packed, LIMIT).unwrap(), b"first second", "{codec}");
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit_and_the_limit_itself_is_allowed() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let packed = compress(codec, &vec![0; 100_000]).unwrap();
            assert_eq!(decompress(codec, &packed, 100_000).map(|plain| plain.len()), Ok(100_000), "{codec}");
            let error = decompress(codec, &packed, 99_999).unwrap_err();
            assert!(error.contains("more than 99999 bytes"), "{codec}: {error}");
        }
    }

    /// In lz4 and xerial frames a cut between two blocks looks like the end; whoever reads the records notices it.
    #[test]
    fn truncation_is_an_error_or_gives_a_beginning() {
        let framed = [Codec::Lz4, Codec::Snappy];
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let plain = text(500);
            let packed = compress(codec, &plain).unwrap();
            for cut in 1..packed.len() {
                let result = decompress(codec, &packed[..cut], LIMIT);
                let noticed = result.as_ref().map_or(true, |part| framed.contains(&codec) && plain.starts_with(part));
                assert!(noticed, "{codec} cut at {cut} of {}", packed.len());
            }
        }
    }

    #[test]
    fn hostile_snappy_lengths_are_refused_before_memory_is_taken() {
        let block = |length: u32| [&XERIAL_HEADER[..], &length.to_be_bytes(), b"\x01\0a"].concat();
        for length in [2, 4, i32::MAX as u32, u32::MAX] {
            assert!(decompress(Codec::Snappy, &block(length), LIMIT).is_err(), "length {length}");
        }
        assert_eq!(decompress(Codec::Snappy, &block(3), LIMIT).unwrap(), b"a");
        let claims_4_gib = b"\xff\xff\xff\xff\x0f\x00";
        assert!(decompress(Codec::Snappy, claims_4_gib, usize::MAX).unwrap_err().contains("claims"));
        assert!(decompress(Codec::Snappy, &XERIAL_HEADER[..12], LIMIT).is_err());
    }

    #[test]
    fn a_failed_zstd_batch_does_not_spoil_the_next() {
        let packed = compress(Codec::Zstd, &text(5000)).unwrap();
        for _ in 0..3 {
            assert!(decompress(Codec::Zstd, &packed[..packed.len() / 2], LIMIT).is_err());
            assert!(decompress(Codec::Zstd, &packed, LIMIT).unwrap() == text(5000));
        }
    }

    #[test]
    fn names_are_kafkas() {
        for codec in Codec::ALL {
            assert_eq!(codec.name().parse(), Ok(codec));
            assert_eq!(Codec::from_attributes(codec.attributes() | 0x38), Some(codec));
        }
        assert_eq!(Codec::from_attributes(5), None);
        assert!("brotli".parse::<Codec>().unwrap_err().contains("zstd"));
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
            for codec in Codec::ALL {
                let _ = decompress(codec, &noise, LIMIT);
            }
        }
    }
}

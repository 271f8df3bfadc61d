//! Pages as Wikimedia Enterprise's structured contents have them: name, abstract, infobox, and sections of paragraphs.

use super::put;
use crate::core::backoff::Chance;
use crate::ops::orders::{below, chance_of, one_of};

/// Sizes in bytes up to which so many of 100,000 pages go; within a step all sizes are equally likely. The shape is that
/// of encyclopaedias: many stubs, a long tail of lists.
const SIZES: &[(u64, u64)] = &[
    (0, 1_150),
    (10_000, 1_700),
    (25_000, 3_200),
    (50_000, 7 << 10),
    (75_000, 18 << 10),
    (90_000, 45 << 10),
    (99_000, 260 << 10),
    (99_900, 1 << 20),
    (99_990, 8 << 20),
    (100_000, 30 << 20),
];

/// The first quarter comes more often, as some words do in any language.
const WORDS: &[&str] = &[
    "the",
    "of",
    "and",
    "in",
    "to",
    "a",
    "was",
    "is",
    "for",
    "as",
    "on",
    "with",
    "by",
    "he",
    "that",
    "at",
    "from",
    "his",
    "it",
    "an",
    "were",
    "are",
    "which",
    "this",
    "also",
    "be",
    "had",
    "has",
    "or",
    "first",
    "their",
    "its",
    "after",
    "new",
    "who",
    "they",
    "two",
    "her",
    "she",
    "been",
    "other",
    "when",
    "time",
    "during",
    "there",
    "into",
    "all",
    "school",
    "may",
    "world",
    "years",
    "more",
    "between",
    "most",
    "year",
    "city",
    "over",
    "only",
    "war",
    "under",
    "later",
    "known",
    "where",
    "state",
    "river",
    "café",
    "naïve",
    "Zürich",
    "São Paulo",
    "Dvořák",
    "Ωmega",
    "東京",
    "Кремль",
    "ﬁeld",
    "½",
    "résumé",
    "Ångström",
    "€100",
    "—",
    "1789",
    "1848",
    "1914",
    "1969",
    "2001",
    "42",
    "north",
    "south",
    "east",
    "west",
    "century",
    "family",
    "species",
    "music",
    "album",
    "station",
    "district",
    "county",
    "village",
    "population",
    "church",
    "bridge",
    "railway",
    "company",
    "university",
    "king",
    "queen",
    "empire",
    "army",
    "battle",
    "island",
    "mountain",
    "lake",
    "forest",
    "house",
    "museum",
    "theory",
    "number",
    "energy",
    "engine",
    "language",
    "letter",
    "poem",
    "novel",
    "film",
    "actor",
    "season",
    "league",
    "player",
    "match",
    "record",
];
const HEADINGS: &[&str] = &[
    "History",
    "Geography",
    "Etymology",
    "Reception",
    "Biography",
    "Economy",
    "See also",
    "References",
    "Notes",
    "Culture",
];
const PARAGRAPH_BYTES: u64 = 700;
/// What a page needs besides its sections, and a paragraph besides its words, at most.
const FRAME_BYTES: usize = 120;

/// Appends page number `number`, of at most `bytes_max` bytes.
pub(super) fn put_page(seed: u64, number: u64, bytes_max: usize, into: &mut String) {
    let chance = &mut chance_of(seed ^ 0x7769_6b69, number);
    let target = into.len() + size(chance).min(bytes_max as u64) as usize;
    let (first, second) = (*one_of(chance, WORDS), *one_of(chance, WORDS));
    let modified = 1_600_000_000 + below(chance, 200_000_000);
    put(
        into,
        format_args!(
            r#"{{"identifier":{number},"name":"{first} {second} ({number})","url":"https://en.wikipedia.org/wiki/Page_{number}","#
        ),
    );
    put(
        into,
        format_args!(
            r#""version":{{"identifier":{},"is_minor_edit":{}}},"date_modified":{modified},"in_language":"en","license":["CC-BY-SA-4.0"],"abstract":""#,
            chance.draw() >> 20,
            below(chance, 4) == 0
        ),
    );
    words(chance, 200, into);
    into.push_str("\",\"infobox\":");
    match below(chance, 3) {
        0 => into.push_str("null"),
        _ => {
            let (people, area) = (below(chance, 9_000_000), below(chance, 90_000));
            put(into, format_args!(r#"{{"population":{people},"area_km2":{}.{}}}"#, area / 10, area % 10));
        }
    }
    into.push_str(",\"sections\":[");
    sections(chance, target, into);
    into.push_str("]}");
}

fn size(chance: &mut Chance) -> u64 {
    let place = below(chance, 100_000);
    let above = SIZES.iter().position(|(places, _)| *places > place).unwrap_or(SIZES.len() - 1);
    let ((_, low), (_, high)) = (SIZES[above - 1], SIZES[above]);
    low + below(chance, high - low)
}

fn sections(chance: &mut Chance, target: usize, into: &mut String) {
    let mut is_first = true;
    while into.len() + FRAME_BYTES < target {
        into.push_str(if is_first { "" } else { "," });
        is_first = false;
        put(into, format_args!(r#"{{"type":"section","name":"{}","has_parts":["#, one_of(chance, HEADINGS)));
        for part in 0..1 + below(chance, 8) {
            let left = target.saturating_sub(into.len() + FRAME_BYTES);
            if part > 0 && left < FRAME_BYTES {
                break;
            }
            into.push_str(if part > 0 { "," } else { "" });
            into.push_str(r#"{"type":"paragraph","value":""#);
            let wanted = PARAGRAPH_BYTES / 4 + below(chance, PARAGRAPH_BYTES * 3 / 2);
            words(chance, (wanted as usize).min(left), into);
            into.push_str("\"}");
        }
        into.push_str("]}");
    }
}

/// Sentences of about so many bytes, as they stand within a JSON string.
fn words(chance: &mut Chance, bytes: usize, into: &mut String) {
    let end = into.len() + bytes;
    let mut left_in_sentence = 0;
    while into.len() + 16 < end {
        // A draw is eight words.
        for byte in chance.draw().to_le_bytes() {
            if into.len() + 16 >= end {
                break;
            }
            if left_in_sentence == 0 {
                into.push_str("It ");
                left_in_sentence = 6 + usize::from(byte) % 20;
            }
            // Half of the bytes draw from the first quarter.
            let index =
                if byte < 128 { usize::from(byte) % (WORDS.len() / 4) } else { usize::from(byte) % WORDS.len() };
            let is_quoted = byte == 255;
            into.push_str(if is_quoted { "\\\"" } else { "" });
            into.push_str(WORDS[index]);
            into.push_str(if is_quoted { "\\\"" } else { "" });
            left_in_sentence -= 1;
            into.push_str(if left_in_sentence == 0 { ". " } else { " " });
        }
    }
}

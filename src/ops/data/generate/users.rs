//! Users of some service.

use super::put;
use crate::ops::orders::{CITIES, below, chance_of, one_of};

const GIVEN: &[&str] = &[
    "Ana",
    "Bo",
    "Chloé",
    "Dušan",
    "Emre",
    "Freya",
    "Giulia",
    "Håkon",
    "Ines",
    "Jürgen",
    "Κώστας",
    "Li",
    "Маша",
    "Noor",
    "Óscar",
    "Priya",
    "芳",
    "Søren",
    "Thu",
    "Zoë",
];
const FAMILY: &[&str] = &[
    "Almeida",
    "Berg",
    "Çelik",
    "Dvořák",
    "Eriksen",
    "Fernández",
    "Groß",
    "Horvat",
    "Иванова",
    "Jansen",
    "Kowalska",
    "Łuczak",
    "Müller",
    "Nguyễn",
    "O'Neill",
    "Papadopoulou",
    "Quist",
    "Rossi",
    "佐藤",
    "Young",
];
const TAGS: &[&str] = &["beta", "newsletter", "premium", "referred", "staff", "trial"];
const FIRST_SIGN_UP_MS: u64 = 1_500_000_000_000;
const SIGN_UPS_MS: u64 = 9 * 365 * 24 * 3_600_000;

/// Appends user number `number`.
pub(super) fn put_user(seed: u64, number: u64, into: &mut String) {
    let chance = &mut chance_of(seed ^ 0x7573_6572, number);
    let (given, family) = (*one_of(chance, GIVEN), *one_of(chance, FAMILY));
    put(into, format_args!(r#"{{"id":{number},"name":"{given} {family}","email":"user{number}@example.org","#));
    match below(chance, 10) {
        0 => put(into, format_args!(r#""born":null,"#)),
        _ => {
            let (year, month, day) = (1940 + below(chance, 68), 1 + below(chance, 12), 1 + below(chance, 28));
            put(into, format_args!(r#""born":"{year}-{month:02}-{day:02}","#));
        }
    }
    let (city, house, code) = (*one_of(chance, CITIES), 1 + below(chance, 200), 1000 + below(chance, 90_000));
    put(
        into,
        format_args!(r#""address":{{"street":"{family} street {house}","city":"{city}","postal_code":"{code:05}"}},"#),
    );
    // A third has no telephone at all: the member is missing, not null.
    if below(chance, 3) > 0 {
        let (area, line) = (100 + below(chance, 900), below(chance, 10_000_000));
        put(into, format_args!(r#""telephone":"+{area}-{line:07}","#));
    }
    put(into, format_args!(r#""tags":["#));
    let tags = TAGS.iter().filter(|_| below(chance, 4) == 0).map(|tag| format!("\"{tag}\""));
    let tags = tags.collect::<Vec<_>>().join(",");
    let (cents, signed_up) = (below(chance, 500_000), FIRST_SIGN_UP_MS + below(chance, SIGN_UPS_MS));
    let is_active = below(chance, 8) > 0;
    put(
        into,
        format_args!(
            r#"{tags}],"balance":{}.{:02},"active":{is_active},"signed_up_at":{signed_up},"session":"{:016x}"}}"#,
            cents / 100,
            cents % 100,
            chance.draw()
        ),
    );
}

//! What values a setting takes: reading them from text, and saying what was expected when that fails.

use std::fmt;

use super::suggest;
use crate::ops::reset::Target;
use crate::source::native::TopicSelection;

/// The set of values of a setting.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any text but the empty one.
    Text,
    /// `host:port`.
    Address,
    /// `host:port,host:port`.
    Addresses,
    /// One topic's name.
    Topic,
    /// Topic names, or one `/pattern/`.
    Topics,
    /// Names of groups.
    Names,
    /// Files and folders.
    Paths,
    /// `name=value`, one of each time the flag is given.
    Pairs,
    /// Any text, blanks included; `\t` and `\0` are the characters they stand for.
    Separator,
    /// Where offsets move to.
    Target,
    /// `name:partitions,name:partitions`.
    NewTopics,
    /// Names of assignment strategies, best first.
    Strategies,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number.
    Integer { min: u64, max: u64, unit: &'static str },
    /// Whole numbers with commas between, each once.
    Counts { min: u64, max: u64 },
    /// A size such as `256MiB`.
    Bytes { min: u64, max: u64 },
    /// A time that has passed, such as `30d`; its value is in milliseconds.
    Age,
    /// `true` or `false`; as a flag it needs no value.
    Switch,
    /// A file, or `-` for stderr; as a flag it needs no value.
    Output,
    /// `level`, or `module=level,…`.
    LogFilter,
}

/// What `partition_assignment_strategy` may name.
const STRATEGIES: &[&str] = &["range", "roundrobin", "cooperative-sticky"];
const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// Sizes' units; the decimal ones are what disks and bills mean, the binary ones what memory means.
const UNITS: &[(&str, u64)] = &[
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("b", 1),
    ("", 1),
];

/// Ages' units, in milliseconds.
const AGE_UNITS: &[(char, u64)] = &[('s', 1000), ('m', 60_000), ('h', 3_600_000), ('d', 24 * 3_600_000)];
/// A thousand years, in milliseconds: before that there are no records.
const AGE_MAX_MS: u64 = 1000 * 365 * 24 * 3_600_000;

/// A checked value.
#[derive(Clone, Debug)]
pub enum Value {
    Text(String),
    Words(Vec<String>),
    Topics(TopicSelection),
    NewTopics(Vec<(String, i32)>),
    Pairs(Vec<(String, String)>),
    Target(Target),
    Number(u64),
    Numbers(Vec<u64>),
    Switch(bool),
}

impl Kind {
    /// What stands between the values of a repeated flag or of a list in the file; `None`: there is one value.
    pub fn separator(self) -> Option<&'static str> {
        match self {
            Kind::Addresses | Kind::Topics | Kind::NewTopics | Kind::Strategies | Kind::Names => Some(","),
            Kind::Counts { .. } => Some(","),
            // Values may have commas in them.
            Kind::Pairs | Kind::Paths => Some("\n"),
            _ => None,
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    /// What is wrong with it and what was expected, to be put behind the setting's name and its value.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        let text = if let Kind::Separator = self { text } else { text.trim() };
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        match self {
            Kind::Text | Kind::Output => Ok(Value::Text(text.to_owned())),
            Kind::Address => address(text).map(Value::Text),
            Kind::Addresses => pieces(text, address).map(Value::Words),
            Kind::Separator => Ok(Value::Text(text.replace("\\t", "\t").replace("\\0", "\0"))),
            Kind::Topic => topic_name(text).map(Value::Text),
            Kind::Topics => topics(text).map(Value::Topics),
            Kind::Names => pieces(text, name).map(Value::Words),
            Kind::Pairs => text.split('\n').map(pair).collect::<Result<_, _>>().map(Value::Pairs),
            Kind::Paths => Ok(Value::Words(text.split('\n').map(str::to_owned).collect())),
            Kind::Target => text.parse().map(Value::Target),
            Kind::NewTopics => pieces(text, new_topic).map(Value::NewTopics),
            Kind::Strategies => pieces(text, |piece| choice(piece, STRATEGIES)).map(Value::Words),
            Kind::Choice(words) => choice(text, words).map(Value::Text),
            Kind::Integer { min, max, unit } => integer(text, min, max, unit).map(Value::Number),
            Kind::Counts { min, max } => counts(text, min, max).map(Value::Numbers),
            Kind::Bytes { min, max } => bytes(text, min, max).map(Value::Number),
            Kind::Age => age(text).map(Value::Number),
            Kind::Switch => switch(text).map(Value::Switch),
            Kind::LogFilter => log_filter(text).map(Value::Text),
        }
    }

    /// The words it may be, for help and completions.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Kind::Choice(words) => words,
            Kind::Switch => &["true", "false"],
            _ => &[],
        }
    }

    /// The placeholder in help.
    pub fn placeholder(self) -> &'static str {
        match self {
            Kind::Text => "TEXT",
            Kind::Address => "HOST:PORT",
            Kind::Addresses => "HOST:PORT,…",
            Kind::Topic => "TOPIC",
            Kind::Topics => "TOPIC,…|/PATTERN/",
            Kind::Names => "NAME,…",
            Kind::Paths => "PATH",
            Kind::Pairs => "NAME=VALUE",
            Kind::Separator => "TEXT",
            Kind::Target => "TARGET",
            Kind::NewTopics => "TOPIC:PARTITIONS,…",
            Kind::Strategies => "STRATEGY,…",
            Kind::Choice(_) => "CHOICE",
            Kind::Integer { unit: "ms", .. } => "MILLISECONDS",
            Kind::Integer { unit: "s", .. } => "SECONDS",
            Kind::Integer { .. } => "N",
            Kind::Counts { .. } => "N,N",
            Kind::Bytes { .. } => "BYTES",
            Kind::Age => "AGE",
            Kind::Switch => "BOOL",
            Kind::Output => "FILE",
            Kind::LogFilter => "FILTER",
        }
    }
}

/// The range or the choices, for the documentation's tables.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Kind::Text => f.write_str("text"),
            Kind::Address => f.write_str("host:port"),
            Kind::Addresses => f.write_str("list of host:port"),
            Kind::Topic => f.write_str("topic"),
            Kind::Topics => f.write_str("list, or /pattern/"),
            Kind::Names => f.write_str("list"),
            Kind::Paths => f.write_str("files and folders"),
            Kind::Pairs => f.write_str("name=value"),
            Kind::Separator => f.write_str("text"),
            Kind::Target => f.write_str("earliest, latest, offset, shift or time"),
            Kind::NewTopics => f.write_str("list of name:partitions"),
            Kind::Strategies => write!(f, "list of {}", STRATEGIES.join(", ")),
            Kind::Choice(words) => f.write_str(&words.join(", ")),
            Kind::Integer { min, max: u64::MAX, unit } => write!(f, "at least {min} {unit}"),
            Kind::Integer { min, max, unit } => write!(f, "{min} to {max} {unit}"),
            Kind::Counts { min, max } => write!(f, "list of {min} to {max}"),
            Kind::Bytes { min, max } => write!(f, "{} to {}", human_bytes(min), human_bytes(max)),
            Kind::Age => f.write_str("like 90s, 30m, 12h or 30d"),
            Kind::Switch => f.write_str("true, false"),
            Kind::Output => f.write_str("file, or -"),
            Kind::LogFilter => f.write_str("level, or module=level list"),
        }
    }
}

/// A size with the largest binary unit that divides it: `256MiB`.
pub fn human_bytes(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        _ if bytes.is_multiple_of(1 << 30) => format!("{}GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        _ => bytes.to_string(),
    }
}

fn pieces<T>(text: &str, one: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',').map(|piece| one(piece.trim())).collect()
}

fn name(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("has an empty name".to_owned()) } else { Ok(text.to_owned()) }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not name=value")),
    }
}

fn choice(text: &str, words: &[&str]) -> Result<String, String> {
    if let Some(word) = words.iter().find(|word| word.eq_ignore_ascii_case(text)) {
        return Ok((*word).to_owned());
    }
    Err(format!("{text:?} is not one of {}{}", words.join(", "), suggest(text, words.iter().copied())))
}

/// Also in the words of ODBC's connection strings (`TrustServerCertificate=yes`) and of shells.
fn switch(text: &str) -> Result<bool, String> {
    let is = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    match () {
        () if is(&["yes", "on", "1"]) => Ok(true),
        () if is(&["no", "off", "0"]) => Ok(false),
        () => choice(text, &["true", "false"]).map(|word| word == "true"),
    }
}

fn integer(text: &str, min: u64, max: u64, unit: &str) -> Result<u64, String> {
    let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
    let expected = match max {
        u64::MAX => format!("a whole number of at least {min}{unit}"),
        _ => format!("a whole number from {min} to {max}{unit}"),
    };
    match text.replace('_', "").parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("{text:?} is not {expected}")),
    }
}

/// In the order given; what is said twice counts once.
fn counts(text: &str, min: u64, max: u64) -> Result<Vec<u64>, String> {
    let mut numbers = pieces(text, |piece| integer(piece, min, max, ""))?;
    let mut seen = std::collections::HashSet::new();
    numbers.retain(|number| seen.insert(*number));
    Ok(numbers)
}

fn bytes(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let number = number.replace('_', "").parse::<u64>().ok();
    match number.zip(factor).and_then(|(number, factor)| number.checked_mul(factor)) {
        Some(size) if (min..=max).contains(&size) => Ok(size),
        Some(_) => Err(format!("{text:?} is not from {} to {}", human_bytes(min), human_bytes(max))),
        None => Err(format!("{text:?} is not a size such as 1048576, 512KiB or 256MiB")),
    }
}

fn age(text: &str) -> Result<u64, String> {
    let unit = AGE_UNITS.iter().find_map(|(unit, ms)| Some((text.strip_suffix(*unit)?, ms)));
    let age_ms = unit.and_then(|(number, unit_ms)| number.parse::<u64>().ok()?.checked_mul(*unit_ms));
    match age_ms {
        Some(ms) if (1..=AGE_MAX_MS).contains(&ms) => Ok(ms),
        _ => Err(format!("{text:?} is not an age such as 90s, 30m, 12h or 30d")),
    }
}

fn address(text: &str) -> Result<String, String> {
    let well_formed = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        !host.is_empty() && !bare_v6 && !host.contains(['/', ' ']) && port.parse::<u16>().is_ok()
    });
    match well_formed {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is not an address such as localhost:9092")),
    }
}

fn topics(text: &str) -> Result<TopicSelection, String> {
    if let Some(pattern) = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
        return TopicSelection::pattern(pattern)
            .map_err(|fault| format!("/{pattern}/ is no regular expression: {}", last_line(&fault.to_string())));
    }
    let mut names = pieces(text, topic_name)?;
    names.sort();
    names.dedup();
    Ok(TopicSelection::Names(names))
}

/// Kafka's rule for names (`org.apache.kafka.common.internals.Topic`).
fn topic_name(name: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.starts_with('/') {
        return Err(format!("{name:?}: a pattern stands alone, between slashes"));
    }
    if name.is_empty() || name.len() > 249 || name == "." || name == ".." || !name.chars().all(legal) {
        return Err(format!("{name:?} is no topic name: 1 to 249 of letters, digits, '.', '_' and '-'"));
    }
    Ok(name.to_owned())
}

fn new_topic(text: &str) -> Result<(String, i32), String> {
    let (name, partitions) = text.split_once(':').unwrap_or((text, "1"));
    let partitions = integer(partitions, 1, 10_000, "partitions").map_err(|fault| format!("topic {name}: {fault}"))?;
    Ok((topic_name(name)?, partitions as i32))
}

fn log_filter(text: &str) -> Result<String, String> {
    for piece in text.split(',') {
        let level = piece.rsplit_once('=').map_or(piece, |(_, level)| level).trim();
        choice(&level.to_ascii_lowercase(), LEVELS)?;
    }
    Ok(text.to_owned())
}

/// The regex crate draws the pattern with a marker; its last line says what is wrong.
fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or(text).trim_start_matches("error: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Kind = Kind::Bytes { min: 1024, max: 1 << 30 };
    const PORTS: Kind = Kind::Integer { min: 1, max: 10, unit: "ms" };

    fn shown(kind: Kind, text: &str) -> String {
        match kind.parse(text) {
            Ok(Value::Text(text)) => text,
            Ok(Value::Words(words)) => words.join("|"),
            Ok(Value::Topics(TopicSelection::Names(names))) => names.join("|"),
            Ok(Value::Topics(TopicSelection::Pattern(regex))) => regex.to_string(),
            Ok(Value::Topics(TopicSelection::Partitions(partitions))) => format!("{partitions:?}"),
            Ok(Value::NewTopics(topics)) => format!("{topics:?}"),
            Ok(Value::Pairs(pairs)) => format!("{pairs:?}"),
            Ok(Value::Target(target)) => target.to_string(),
            Ok(Value::Number(number)) => number.to_string(),
            Ok(Value::Numbers(numbers)) => format!("{numbers:?}"),
            Ok(Value::Switch(on)) => on.to_string(),
            Err(fault) => format!("! {fault}"),
        }
    }

    #[test]
    fn values_are_read_or_refused_with_what_was_expected() {
        let cases = [
            (SIZE, "256MiB", "268435456"),
            (SIZE, "1 mb", "1000000"),
            (SIZE, "65_536", "65536"),
            (SIZE, "5GiB", "! \"5GiB\" is not from 1KiB to 1GiB"),
            (SIZE, "20000000000GiB", "! \"20000000000GiB\" is not a size such as 1048576, 512KiB or 256MiB"),
            (SIZE, "MiB", "! \"MiB\" is not a size such as 1048576, 512KiB or 256MiB"),
            (PORTS, "10", "10"),
            (PORTS, "11", "! \"11\" is not a whole number from 1 to 10 ms"),
            (PORTS, "-1", "! \"-1\" is not a whole number from 1 to 10 ms"),
            (Kind::Counts { min: 1, max: 9 }, "3, 1,3", "[3, 1]"),
            (Kind::Counts { min: 1, max: 9 }, "3,10", "! \"10\" is not a whole number from 1 to 9"),
            (Kind::Addresses, "a:1, [::1]:9092", "a:1|[::1]:9092"),
            (Kind::Addresses, "a:1,b", "! \"b\" is not an address such as localhost:9092"),
            (Kind::Address, "http://a:80", "! \"http://a:80\" is not an address such as localhost:9092"),
            (Kind::Address, "a:70000", "! \"a:70000\" is not an address such as localhost:9092"),
            (Kind::Topics, "b, a,b", "a|b"),
            (Kind::Topics, "/orders-.{1,2}/", "^(?:orders-.{1,2})$"),
            (Kind::Topics, "a,/b/", "! \"/b/\": a pattern stands alone, between slashes"),
            (Kind::Topics, "a b", "! \"a b\" is no topic name: 1 to 249 of letters, digits, '.', '_' and '-'"),
            (Kind::Topics, "  ", "! is empty"),
            (Kind::Topic, "a,b", "! \"a,b\" is no topic name: 1 to 249 of letters, digits, '.', '_' and '-'"),
            (Kind::Names, "a, b c", "a|b c"),
            (Kind::Pairs, "a=1,b=2\nc=", "[(\"a\", \"1,b=2\"), (\"c\", \"\")]"),
            (Kind::Pairs, "a", "! \"a\" is not name=value"),
            (Kind::Separator, " \\t", " \t"),
            (Kind::Separator, "", "! is empty"),
            (Kind::Target, "-100", "-100"),
            (Kind::NewTopics, "orders:8,users", "[(\"orders\", 8), (\"users\", 1)]"),
            (Kind::NewTopics, "orders:0", "! topic orders: \"0\" is not a whole number from 1 to 10000 partitions"),
            (Kind::Choice(&["json", "text"]), "JSON", "json"),
            (Kind::Choice(&["json", "text"]), "jsn", "! \"jsn\" is not one of json, text; did you mean json?"),
            (Kind::Switch, "True", "true"),
            (Kind::Switch, "yes", "true"),
            (Kind::Switch, "1", "true"),
            (Kind::Switch, "No", "false"),
            (Kind::Switch, "off", "false"),
            (Kind::Switch, "treu", "! \"treu\" is not one of true, false; did you mean true?"),
            (Kind::Age, "30d", "2592000000"),
            (Kind::Age, "-1d", "! \"-1d\" is not an age such as 90s, 30m, 12h or 30d"),
            (Kind::Age, "90s", "90000"),
            (Kind::Age, "30", "! \"30\" is not an age such as 90s, 30m, 12h or 30d"),
            (Kind::Age, "0d", "! \"0d\" is not an age such as 90s, 30m, 12h or 30d"),
            (Kind::Age, "99999999999d", "! \"99999999999d\" is not an age such as 90s, 30m, 12h or 30d"),
            (Kind::LogFilter, "info,konekt::kafka=debug", "info,konekt::kafka=debug"),
            (Kind::LogFilter, "loud", "! \"loud\" is not one of off, error, warn, info, debug, trace"),
        ];
        for (kind, text, expected) in cases {
            assert_eq!(shown(kind, text), expected, "{kind:?} from {text:?}");
        }
    }

    #[test]
    fn a_broken_pattern_says_why_in_one_line() {
        let fault = Kind::Topics.parse("/orders-(/").unwrap_err();
        assert!(fault.contains("unclosed group") && !fault.contains('\n'), "{fault}");
    }
}

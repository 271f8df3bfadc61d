//! SQL Server's dates and times, from and to their bytes (MS-TDS 2.2.5.5.1.8, 2.2.5.5.1.9).

/// Days from 0001-01-01, where SQL Server starts to count, to 1970-01-01.
const DAYS_TO_1970: i64 = 719_162;
/// Days from 1900-01-01, where the old `datetime` starts, to 1970-01-01.
const OLD_DAYS_TO_1970: i64 = 25_567;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn number(bytes: &[u8]) -> i64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | i64::from(*byte))
}

/// `2024-02-29` from three bytes of days.
pub fn date(bytes: &[u8]) -> String {
    date_text(number(bytes) - DAYS_TO_1970)
}

/// `12:34:56.789`, without zeros at the end: whatever their scales, such texts sort as the times do.
pub fn time(bytes: &[u8], scale: u8) -> String {
    let ticks = number(bytes);
    let per_second = 10i64.pow(scale.into());
    let (seconds, fraction) = (ticks / per_second, ticks % per_second);
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = format!("{fraction:0width$}", width = scale.into());
    match fraction.trim_end_matches('0') {
        "" => clock,
        digits => format!("{clock}.{digits}"),
    }
}

pub fn datetime2(bytes: &[u8], scale: u8) -> String {
    let (clock, days) = bytes.split_at(bytes.len().saturating_sub(3));
    format!("{} {}", date(days), time(clock, scale))
}

/// In UTC; the offset that it was written with is left out.
pub fn datetimeoffset(bytes: &[u8], scale: u8) -> String {
    datetime2(&bytes[..bytes.len().saturating_sub(2)], scale)
}

/// Days since 1900 and 300ths of a second.
pub fn datetime(bytes: &[u8]) -> String {
    let (days, ticks) = bytes.split_at(bytes.len() / 2);
    let days = (number(days) << 32 >> 32) - OLD_DAYS_TO_1970;
    konekt::core::civil::utc_text(days * DAY_MS + number(ticks) * 10 / 3)
}

/// The same moment with as many digits of its second as the scale says.
pub fn with_scale(text: &str, scale: u16) -> String {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let scale = usize::from(scale);
    if scale == 0 { seconds.to_owned() } else { format!("{seconds}.{:.scale$}", format!("{fraction:0<scale$}")) }
}

/// The bytes of `2024-02-29 12:34:56.789`; all of a fraction beyond the scale is cut off.
///
/// # Panics
/// When the text is no date and time: the double gives back only what it took.
pub fn datetime2_bytes(text: &str, scale: u8) -> Vec<u8> {
    let numbers: Vec<i64> =
        text.split(['-', ' ', 'T', ':', '.']).map(|part| part.parse().expect("a number in a date and time")).collect();
    let at = |index: usize| numbers.get(index).copied().unwrap_or_default();
    let fraction = text.split_once('.').map_or("", |(_, digits)| digits);
    let fraction: i64 = format!("{fraction:0<9}")[..scale.into()].parse().unwrap_or_default();
    let seconds = at(3) * 3600 + at(4) * 60 + at(5);
    let ticks = seconds * 10i64.pow(scale.into()) + fraction;
    let width = match scale {
        0..=2 => 3,
        3..=4 => 4,
        _ => 5,
    };
    let days = days_from_civil(at(0), at(1), at(2)) + DAYS_TO_1970;
    [&ticks.to_le_bytes()[..width], &days.to_le_bytes()[..3]].concat()
}

fn date_text(days_from_1970: i64) -> String {
    konekt::core::civil::utc_text(days_from_1970 * DAY_MS)[..10].to_owned()
}

/// Howard Hinnant's `days_from_civil`: years start in March.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

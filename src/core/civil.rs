//! Milliseconds since the epoch as a date that a person and a database read.
//!
//! The calendar arithmetic is Howard Hinnant's `civil_from_days`: years start in March, so that the leap day is the
//! last of its year and needs no special case.

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// `YYYY-MM-DD HH:MM:SS.mmm` in UTC. Such texts sort as the times do.
///
/// Times outside the years 0 to 9999 become the first or last moment of these: the text keeps its width.
///
/// ```
/// assert_eq!(konekt::core::civil::utc_text(1_709_210_096_789), "2024-02-29 12:34:56.789");
/// ```
pub fn utc_text(unix_ms: i64) -> String {
    let Utc { year, month, day, hour, minute, second, millisecond } = utc(unix_ms);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millisecond:03}")
}

/// The same moment as Java's `Instant` says it: `2024-02-29T12:34:56.789Z`, without a fraction that is zero, and with
/// as many digits as the year has.
///
/// ```
/// assert_eq!(konekt::core::civil::iso_instant(253_402_300_800_000), "+10000-01-01T00:00:00Z");
/// ```
pub fn iso_instant(unix_ms: i64) -> String {
    let (year, month, day) = civil_from_days(unix_ms.div_euclid(DAY_MS));
    let year = match year {
        ..0 => format!("-{:04}", -year),
        0..10_000 => format!("{year:04}"),
        _ => format!("+{year}"),
    };
    let ms = unix_ms.rem_euclid(DAY_MS);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    let fraction = if ms % 1000 == 0 { String::new() } else { format!(".{:03}", ms % 1000) };
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// A moment's fields in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    pub year: i16,
    pub month: u16,
    pub day: u16,
    pub hour: u16,
    pub minute: u16,
    pub second: u16,
    pub millisecond: u32,
}

/// The fields of a moment within the years 0 to 9999, or of the first or last of these.
pub fn utc(unix_ms: i64) -> Utc {
    let unix_ms = unix_ms.clamp(YEAR_0_MS, YEAR_9999_END_MS);
    let (year, month, day) = civil_from_days(unix_ms.div_euclid(DAY_MS));
    let ms = unix_ms.rem_euclid(DAY_MS);
    Utc {
        year: year as i16,
        month: month as u16,
        day: day as u16,
        hour: (ms / 3_600_000) as u16,
        minute: (ms / 60_000 % 60) as u16,
        second: (ms / 1000 % 60) as u16,
        millisecond: (ms % 1000) as u32,
    }
}

const YEAR_0_MS: i64 = -62_167_219_200_000;
const YEAR_9999_END_MS: i64 = 253_402_300_799_999;

/// Year, month and day of a day counted from 1970-01-01.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097; // 400 years
    const DAYS_FROM_0000_03_01_TO_1970: i64 = 719_468;
    let days = days + DAYS_FROM_0000_03_01_TO_1970;
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// The milliseconds since the epoch of a UTC time as people and [`utc_text`] write it: `2026-11-24`,
/// `2026-11-24T04:05`, `2026-11-24 04:05:26.007Z`. `None` when it is no such time.
///
/// ```
/// assert_eq!(konekt::core::civil::unix_ms_of("2024-02-29T12:34:56.789Z"), Some(1_709_210_096_789));
/// ```
pub fn unix_ms_of(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let [year, month, day] = numbers(date, '-')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':').or_else(|| {
        let [hour, minute] = numbers(time, ':')?;
        Some([hour, minute, 0])
    })?;
    let is_digits = (1..=9).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let ms: i64 = format!("{fraction:0<3}").get(..3).filter(|_| is_digits)?.parse().ok()?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_from_civil(year, month, day);
    // A day that does not exist comes back as another one.
    let exists = civil_from_days(days) == (year, month, day);
    exists.then_some(days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + ms)
}

/// `N` unsigned numbers of at most four digits.
fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let number = |digits: &str| match digits.len() {
        1..=4 if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    };
    let found: Option<Vec<i64>> = text.split(separator).map(number).collect();
    found?.try_into().ok()
}

/// Hinnant's `days_from_civil`, the other way round.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for unix_ms in [0, -1, 951_782_400_000, 4_107_542_399_999, 1_795_493_126_007, YEAR_0_MS, YEAR_9999_END_MS] {
            assert_eq!(unix_ms_of(&utc_text(unix_ms)), Some(unix_ms), "{}", utc_text(unix_ms));
        }
        for (text, expected) in [
            ("2026-11-24", Some(1_795_478_400_000)),
            ("2026-11-24T04:05", Some(1_795_493_100_000)),
            ("2026-11-24T04:05:26.7Z", Some(1_795_493_126_700)),
            ("2026-02-29", None),
            ("2026-13-01", None),
            ("2026-11-24T24:00", None),
            ("2026-11-24T04:05:26.", None),
            ("2026-11", None),
            ("-2026-11-24", None),
            ("now", None),
        ] {
            assert_eq!(unix_ms_of(text), expected, "{text}");
        }
    }

    #[test]
    fn instants_are_said_as_java_does() {
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (1_700_000_000_120, "2023-11-14T22:13:20.120Z"),
            (-62_135_596_800_000, "0001-01-01T00:00:00Z"),
            (YEAR_0_MS - 1, "-0001-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(iso_instant(unix_ms), expected, "{unix_ms}");
        }
    }

    #[test]
    fn known_moments() {
        for (unix_ms, expected) in [
            (0, "1970-01-01 00:00:00.000"),
            (-1, "1969-12-31 23:59:59.999"),
            (951_782_400_000, "2000-02-29 00:00:00.000"),
            (4_107_542_399_999, "2100-02-28 23:59:59.999"),
            (4_107_542_400_000, "2100-03-01 00:00:00.000"),
            (1_795_493_126_007, "2026-11-24 04:05:26.007"),
            (YEAR_0_MS, "0000-01-01 00:00:00.000"),
            (YEAR_9999_END_MS, "9999-12-31 23:59:59.999"),
            (i64::MIN, "0000-01-01 00:00:00.000"),
            (i64::MAX, "9999-12-31 23:59:59.999"),
        ] {
            assert_eq!(utc_text(unix_ms), expected, "{unix_ms}");
        }
    }

    #[test]
    fn every_day_of_eight_centuries_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1600, 1, 1);
        for days in -135_140..157_059 {
            assert_eq!(civil_from_days(days), (year, month, day), "day {days}");
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 => 28 + i64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (year, month, day) = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, day) if day == last => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }
}

//! Tables for people: aligned columns under headings, and numbers as people read them.

use super::report::grouped;

/// A table that grows row by row.
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

/// A heading, and where cells stand below it.
#[derive(Clone, Copy)]
pub enum Column {
    Left(&'static str),
    Right(&'static str),
}

impl Column {
    fn heading(self) -> &'static str {
        match self {
            Column::Left(heading) | Column::Right(heading) => heading,
        }
    }
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row: a cell for each column. What could steer a terminal is written as an escape.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// The whole table, each line ended.
    pub fn render(&self) -> String {
        let heading: Vec<String> = self.columns.iter().map(|column| column.heading().to_owned()).collect();
        let lines: Vec<&Vec<String>> = std::iter::once(&heading).chain(&self.rows).collect();
        let width = |at: usize| lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..self.columns.len()).map(|at| width(at).unwrap_or(0)).collect();
        let mut text = String::new();
        for line in lines {
            let cells = line.iter().zip(&self.columns).zip(&widths).map(|((cell, column), width)| match column {
                Column::Left(_) => format!("{cell:width$}"),
                Column::Right(_) => format!("{cell:>width$}"),
            });
            text.push_str(cells.collect::<Vec<String>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

fn printable(cell: &str) -> String {
    cell.chars()
        .flat_map(|character| if character.is_control() { escaped(character) } else { vec![character] })
        .collect()
}

fn escaped(character: char) -> Vec<char> {
    character.escape_default().collect()
}

/// `-` for what is not known.
pub fn or_dash<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

/// `-1234` as `-1,234`.
pub fn number(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", grouped(number.unsigned_abs()))
}

/// A time in its two largest units: `850 ms`, `12 s`, `3 min 20 s`, `5 h 2 min`, `9 d 1 h`.
pub fn span(seconds: f64) -> String {
    if seconds < 0.0 {
        return format!("-{}", span(-seconds));
    }
    if seconds < 1.0 {
        return if seconds == 0.0 { "0 s".to_owned() } else { format!("{:.0} ms", seconds * 1000.0) };
    }
    let whole = seconds.round() as u64;
    let pair = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{} {large_unit}", grouped(large)),
        _ => format!("{} {large_unit} {small} {small_unit}", grouped(large)),
    };
    match whole {
        ..60 => format!("{whole} s"),
        60..3_600 => pair(whole / 60, "min", whole % 60, "s"),
        3_600..86_400 => pair(whole / 3_600, "h", whole / 60 % 60, "min"),
        _ => pair(whole / 86_400, "d", whole / 3_600 % 24, "h"),
    }
}

/// Numbers as ranges: `0-3,7`.
pub fn ranges(numbers: &[i32]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    let runs = sorted.chunk_by(|before, after| *after == before.wrapping_add(1));
    let run = |run: &[i32]| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    };
    runs.map(run).collect::<Vec<String>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_steers_the_terminal() {
        let mut table = Table::new(&[Column::Left("NAME"), Column::Right("LAG"), Column::Left("HOST")]);
        table.row(["a".to_owned(), "1,234".to_owned(), "/127.0.0.1".to_owned()]);
        table.row(["wörld\x1b".to_owned(), "-".to_owned(), String::new()]);
        assert_eq!(table.render(), "NAME           LAG  HOST\na            1,234  /127.0.0.1\nwörld\\u{1b}      -\n");
    }

    #[test]
    fn numbers_are_shown_as_people_read_them() {
        for (seconds, expected) in [
            (0.0, "0 s"),
            (0.0314, "31 ms"),
            (12.4, "12 s"),
            (59.9, "1 min"),
            (200.0, "3 min 20 s"),
            (18_120.0, "5 h 2 min"),
            (781_200.0, "9 d 1 h"),
            (-3.0, "-3 s"),
        ] {
            assert_eq!(span(seconds), expected, "{seconds}");
        }
        assert_eq!((number(-1234), number(0)), ("-1,234".to_owned(), "0".to_owned()));
        assert_eq!(ranges(&[7, 0, 2, 1, 3]), "0-3,7");
        assert_eq!(ranges(&[]), "");
    }
}

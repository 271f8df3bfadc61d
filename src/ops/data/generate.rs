//! Data sets made of a seed: the same seed gives the same bytes, on every machine, for nothing here depends on
//! floating-point functions, hash orders or the number of threads.

mod users;
mod wiki;

use std::fmt::Write as _;

use rayon::prelude::*;

use super::DataError;
use super::output::Output;
use crate::ops::orders::Order;

/// What the documents are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Orders of a web shop, about 200 bytes each, as `konekt demo` moves them.
    Orders,
    /// Users, about 400 bytes each, with nulls, optional members and names in several scripts.
    Users,
    /// Pages as Wikimedia's structured contents have them: 1 KiB to 30 MiB, half of them below 7 KiB, 1 in 1,000 above a MiB.
    Wiki,
}

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub kind: Kind,
    pub seed: u64,
    pub documents: u64,
    /// No document is larger; for pages.
    pub bytes_max: u64,
}

/// Documents that are made at a time: some megabytes at most times, however large single ones are.
const TOGETHER: u64 = 256;

impl Plan {
    /// Document number `number`, counted from 0, without a line end.
    pub fn document(&self, number: u64, into: &mut String) {
        match self.kind {
            Kind::Orders => {
                let mut order = Order::default();
                order.fill_seeded(self.seed, number);
                into.push_str(&order.value);
            }
            Kind::Users => users::put_user(self.seed, number, into),
            Kind::Wiki => wiki::put_page(self.seed, number, self.bytes_max as usize, into),
        }
    }

    /// Writes all documents, a line each, and tells after each piece how many there are.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, output: &mut Output, mut progress: impl FnMut(u64)) -> Result<(), DataError> {
        let line = |number: u64| {
            let mut line = String::new();
            self.document(number, &mut line);
            line.push('\n');
            line
        };
        for first in (0..self.documents).step_by(TOGETHER as usize) {
            let behind = self.documents.min(first + TOGETHER);
            let lines: Vec<String> = (first..behind).into_par_iter().map(line).collect();
            lines.iter().try_for_each(|line| output.put(line.as_bytes()))?;
            progress(behind);
        }
        Ok(())
    }
}

/// Appends what cannot fail.
fn put(into: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _ = into.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn made(kind: Kind, seed: u64, number: u64) -> String {
        let mut text = String::new();
        Plan { kind, seed, documents: 0, bytes_max: 30 * MIB }.document(number, &mut text);
        text
    }

    #[test]
    fn a_seed_gives_the_same_documents_and_another_gives_others() {
        for kind in [Kind::Orders, Kind::Users, Kind::Wiki] {
            for number in [0, 1, 77] {
                let document = made(kind, 7, number);
                assert_eq!(document, made(kind, 7, number));
                assert_ne!(document, made(kind, 8, number), "{kind:?} {number}");
                let value: serde_json::Value = serde_json::from_str(&document).expect(&document);
                assert!(value.is_object() && !document.contains('\n'), "{document}");
            }
        }
        let mut order = Order::default();
        order.fill(3);
        assert_eq!(made(Kind::Orders, 0, 3), order.value, "seed 0 is the demo's shop");
    }

    /// The bytes are a contract: data sets of different versions of the program must agree.
    #[test]
    fn the_bytes_never_change() {
        let checksums = [Kind::Orders, Kind::Users, Kind::Wiki].map(|kind| {
            let all: String = (0..50).map(|number| made(kind, 1, number)).collect();
            crc32c::crc32c(all.as_bytes())
        });
        assert_eq!(checksums, [2_394_804_831, 1_688_382_356, 1_718_300_965]);
    }

    #[test]
    fn pages_have_the_sizes_of_pages() {
        let mut sizes: Vec<usize> = (0..3000).map(|number| made(Kind::Wiki, 3, number).len()).collect();
        sizes.sort_unstable();
        assert!(sizes[0] >= 1000, "{}", sizes[0]);
        assert!((5_000..9_000).contains(&sizes[1500]), "half are below 7 KiB: {}", sizes[1500]);
        assert!((30_000..60_000).contains(&sizes[2700]), "a tenth is above 45 KiB: {}", sizes[2700]);
        assert!(sizes[2999] > 300_000, "{}", sizes[2999]);
        let mut small = String::new();
        for number in 0..300 {
            small.clear();
            Plan { kind: Kind::Wiki, seed: 3, documents: 0, bytes_max: 4096 }.document(number, &mut small);
            assert!((1000..=4096).contains(&small.len()), "{}", small.len());
        }
    }
}

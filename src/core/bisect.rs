//! Finding the bad records of a batch by halving: the good ones are kept, in order, and each bad one is known for
//! certain, since it was tried alone or is all that is left of a piece that failed.
//!
//! [`Halving`] decides and does nothing: it says what to try next. Whoever asks tries the first records of what is
//! left: in a transaction with savepoints a sink does ([`bisect`] drives it), in transactions of their own the engine
//! does, for sinks without savepoints. Pieces are tried from left to right, so what was accepted is never behind what
//! is open, and a piece whose first half is good needs no second look to know that its second half is not.
//!
//! That takes it for granted that a record is bad on its own account: what only the size of a batch provokes (a statement
//! or packet that is too large) must not be classed as bad data, or the last record of a piece would be blamed for it.
//!
//! With `n` records and `k` bad ones among them this takes at most `k * (⌈log2 n⌉ + 1)` tries beyond the first: 14 for
//! one in 5,000. A refusal that names its record ([`Refusal::Bad::at`]) makes it 3 per bad record; one that names the
//! wrong record costs one try, since after that nobody is believed any more.

use std::ops::Range;

/// What to do next with the records that are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Try this many of the first, together.
    Try(usize),
    /// The first one is bad: put it aside.
    PutAside,
    /// Nothing is left.
    Done,
}

/// The state of a search. See the module.
#[derive(Clone, Copy, Debug)]
pub struct Halving {
    left: usize,
    /// The most that is tried together.
    piece_max: usize,
    /// Of the first so many, at least one is bad; 0 when nothing is known.
    suspects: usize,
    /// Which of these is said to be bad: a hint, no proof.
    hint: Option<usize>,
    /// Whether no hint was wrong so far. Where each blames the last record of its piece, as constraints do that are
    /// checked at the end of a statement, following them would be a try per record.
    trusting: bool,
}

impl Halving {
    /// A search among `count` records of which nothing is known.
    pub fn new(count: usize) -> Self {
        Self { left: count, piece_max: usize::MAX, suspects: 0, hint: None, trusting: true }
    }

    /// The same, trying at most so many together.
    pub fn in_pieces(self, piece_max: usize) -> Self {
        Self { piece_max: piece_max.max(1), ..self }
    }

    /// What to do next.
    pub fn next(&self) -> Step {
        match (self.left, self.suspects) {
            (0, _) => Step::Done,
            (left, 0) => Step::Try(left.min(self.piece_max)),
            (_, 1) => Step::PutAside,
            (_, suspects) => Step::Try(match self.hint {
                Some(0) => 1,
                Some(at) if at < suspects => at,
                _ => suspects / 2,
            }),
        }
    }

    /// The first `count` were accepted.
    pub fn accepted(&mut self, count: usize) {
        self.trusting &= self.hint.is_none_or(|hint| hint >= count);
        self.left -= count;
        self.suspects = self.suspects.saturating_sub(count);
        self.hint = self.hint.and_then(|at| at.checked_sub(count));
    }

    /// The first `count` were refused together; `at` is the one among them that is said to be bad.
    pub fn refused(&mut self, count: usize, at: Option<usize>) {
        // Refused were those before the one that was said to be bad.
        self.trusting &= self.hint.is_none_or(|hint| hint != count);
        self.suspects = count;
        self.hint = at.filter(|_| self.trusting);
    }

    /// The first one, known to be bad, was put aside.
    pub fn put_aside(&mut self) {
        self.left -= 1;
        (self.suspects, self.hint) = (0, None);
    }

    /// How many records are left.
    pub fn left(&self) -> usize {
        self.left
    }
}

/// Why a piece was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal<E> {
    /// A record in it is bad. `at` says which, counted from the first record of all, when that is known; it need not
    /// be right.
    Bad { error: E, at: Option<usize> },
    /// Something else failed, and the search with it.
    Fatal(E),
}

/// Makes a search among records in pieces and answers the bad ones with their errors, in order; what `attempt` accepted
/// stays accepted. It must undo whatever a refused piece did (a savepoint).
///
/// # Errors
/// A [`Refusal::Fatal`]; and the error of a bad record when there are more than `bad_max`, which `too_many` words: it gets
/// how many were found and the index of the last.
///
/// ```
/// use konekt::core::bisect::{Halving, Refusal, bisect};
///
/// let mut stored = Vec::new();
/// let bad = bisect(Halving::new(10), 3, |piece| {
///     if piece.contains(&4) {
///         return Err(Refusal::Bad { error: "no fours", at: None });
///     }
///     stored.extend(piece);
///     Ok(())
/// }, |error, _, _| error);
/// assert_eq!(bad, Ok(vec![(4, "no fours")]));
/// assert_eq!(stored, [0, 1, 2, 3, 5, 6, 7, 8, 9]);
/// ```
pub fn bisect<E>(
    mut search: Halving,
    bad_max: usize,
    mut attempt: impl FnMut(Range<usize>) -> Result<(), Refusal<E>>,
    too_many: impl FnOnce(E, usize, usize) -> E,
) -> Result<Vec<(usize, E)>, E> {
    let count = search.left();
    let (mut bad, mut last) = (Vec::new(), None);
    loop {
        let first = count - search.left();
        match search.next() {
            Step::Done => return Ok(bad),
            Step::Try(some) => match attempt(first..first + some) {
                Ok(()) => search.accepted(some),
                Err(Refusal::Bad { error, at }) => {
                    search.refused(some, at.and_then(|at| at.checked_sub(first)));
                    last = Some(error);
                }
                Err(Refusal::Fatal(error)) => return Err(error),
            },
            Step::PutAside => {
                // The last refusal was of a piece in which this is the only one left.
                let Some(error) = last.take() else { return Ok(bad) };
                if bad.len() >= bad_max {
                    return Err(too_many(error, bad.len() + 1, first));
                }
                bad.push((first, error));
                search.put_aside();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    /// What a search finds and keeps, and in how many tries.
    /// `hint` is told the refused piece and its first bad record.
    fn search(
        search: Halving,
        bad: &BTreeSet<usize>,
        hint: impl Fn(&Range<usize>, usize) -> Option<usize>,
    ) -> (Vec<usize>, usize) {
        let (count, mut kept, mut tries) = (search.left(), Vec::new(), 0);
        let attempt = |piece: Range<usize>| {
            tries += 1;
            match bad.range(piece.clone()).next() {
                Some(&first_bad) => Err(Refusal::Bad { error: first_bad, at: hint(&piece, first_bad) }),
                None => {
                    kept.extend(piece);
                    Ok(())
                }
            }
        };
        let found = bisect(search, usize::MAX, attempt, |error, _, _| error).expect("nothing fatal");
        assert!(found.iter().all(|(at, error)| at == error), "each with its own error: {found:?}");
        assert_eq!(kept, (0..count).filter(|at| !bad.contains(at)).collect::<Vec<_>>());
        (found.into_iter().map(|(at, _)| at).collect(), tries)
    }

    #[test]
    fn few_tries_find_exactly_the_bad_ones_in_five_thousand() {
        let cases: [(&[usize], usize); 6] = [
            (&[], 1),
            (&[0], 1 + 14),
            (&[2500], 1 + 14),
            (&[4999], 1 + 13),
            (&[0, 2500, 4999], 1 + 40),
            (&[2499, 2500, 2501], 1 + 40),
        ];
        for (bad, tries_max) in cases {
            let bad: BTreeSet<usize> = bad.iter().copied().collect();
            let (found, tries) = search(Halving::new(5000), &bad, |_, _| None);
            assert!(found.iter().eq(&bad), "{bad:?}: {found:?}");
            assert!(tries <= tries_max, "{bad:?}: {tries} tries");
            let (_, tries) = search(Halving::new(5000), &bad, |_, first_bad| Some(first_bad));
            assert!(tries <= 1 + 3 * bad.len(), "{bad:?} with a hint: {tries} tries");
        }
    }

    #[test]
    fn too_many_bad_ones_and_what_is_not_their_fault_end_the_search() {
        let all_bad = |piece: Range<usize>| Err(Refusal::Bad { error: piece.start, at: None });
        assert_eq!(bisect(Halving::new(100), 3, all_bad, |_, found, _| found), Err(4));
        assert_eq!(bisect(Halving::new(100), 3, |_| Err(Refusal::Fatal("away")), |error, _, _| error), Err("away"));
    }

    #[test]
    fn pieces_are_no_larger_than_asked_for() {
        let mut pieces = Vec::new();
        let attempt = |piece: Range<usize>| {
            pieces.push(piece.clone());
            if piece.contains(&5) { Err(Refusal::Bad { error: (), at: Some(5) }) } else { Ok(()) }
        };
        let bad = bisect(Halving::new(10).in_pieces(4), 9, attempt, |error, _, _| error);
        assert_eq!(bad, Ok(vec![(5, ())]));
        assert_eq!(pieces, [0..4, 4..8, 4..5, 5..6, 6..10]);
    }

    /// Where the database says that the first bad record of a piece is.
    type Hint<'a> = &'a dyn Fn(&Range<usize>, usize) -> Option<usize>;

    proptest! {
        #[test]
        fn every_bad_record_is_found_whatever_the_hints_say(
            count in 0usize..400,
            bad in prop::collection::btree_set(0usize..400, 0..8),
            piece_max in 1usize..500,
            lie in prop::option::of(0usize..500),
        ) {
            let bad: BTreeSet<usize> = bad.into_iter().filter(|at| *at < count).collect();
            let hints: [Hint<'_>; 4] =
                [&|_, _| None, &|_, _| lie, &|piece, _| Some(piece.end - 1), &|piece, _| Some(piece.start)];
            for hint in hints {
                let (found, tries) = search(Halving::new(count).in_pieces(piece_max), &bad, hint);
                prop_assert!(found.iter().eq(&bad));
                let depth = piece_max.min(count).next_power_of_two().trailing_zeros() as usize;
                let pieces = count.div_ceil(piece_max).max(1);
                let tries_max = pieces + bad.len() * (depth + 2) + 1;
                prop_assert!(tries <= tries_max, "{} tries", tries);
            }
        }
    }
}

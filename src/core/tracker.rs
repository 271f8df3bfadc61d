//! Which offset of a partition may be committed.
//!
//! The tracker knows the spans it was given, not ranges it assumes: compaction, transaction markers and aborted records
//! leave holes, and a span says where the log goes on behind it. With several sub-lanes a span is done when each of
//! them is through it; the position is the lowest offset that is not done.

use std::collections::VecDeque;

/// Progress of one partition since it was started.
#[derive(Clone, Debug)]
pub struct Tracker {
    position: i64,
    end: i64,
    /// Spans entered and not done: where each begins and where the log goes on behind it.
    spans: VecDeque<(i64, i64)>,
    /// Per sub-lane: everything below is done.
    through: Vec<i64>,
}

/// A progress report that cannot be true. The tracker has not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lane {lane} reports offset {through} done, but it is at {at} and only offsets below {end} were handed out")]
pub struct Impossible {
    pub lane: usize,
    pub through: i64,
    pub at: i64,
    pub end: i64,
}

impl Tracker {
    /// A partition that starts at `position`, worked on by `lanes` sub-lanes (at least 1).
    pub fn new(position: i64, lanes: usize) -> Self {
        Self { position, end: position, spans: VecDeque::new(), through: vec![position; lanes.max(1)] }
    }

    /// Enters a span that is handed to every sub-lane. Returns false, and enters nothing, when it overlaps what was
    /// handed out before: then it is a repetition.
    pub fn enter(&mut self, first: i64, next: i64) -> bool {
        if first < self.end || next <= first {
            return false;
        }
        self.spans.push_back((first, next));
        self.end = next;
        true
    }

    /// A sub-lane is through with everything below `through`. Returns whether the position moved.
    ///
    /// # Errors
    /// When the lane goes back, or beyond what was handed out.
    pub fn done(&mut self, lane: usize, through: i64) -> Result<bool, Impossible> {
        let at = self.through.get(lane).copied().unwrap_or(i64::MAX);
        if through < at || through > self.end {
            return Err(Impossible { lane, through, at, end: self.end });
        }
        self.through[lane] = through;
        let lowest = self.through.iter().copied().min().unwrap_or(self.position);
        while self.spans.front().is_some_and(|&(_, next)| next <= lowest) {
            self.spans.pop_front();
        }
        // Within the first open span the position is what was done of it; before it there may be a hole.
        let moved = lowest.max(self.position);
        let before = std::mem::replace(&mut self.position, moved);
        Ok(self.position != before)
    }

    /// The lowest offset that is not done: what may be committed.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// The offset behind everything handed out.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Whether everything handed out is done.
    pub fn idle(&self) -> bool {
        self.spans.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_position_never_passes_an_open_span_and_lands_behind_holes() {
        let mut tracker = Tracker::new(10, 1);
        assert!(tracker.enter(10, 15));
        assert!(tracker.enter(20, 25), "offsets 15..20 were compacted away");
        assert_eq!(tracker.done(0, 12), Ok(true));
        assert_eq!((tracker.position(), tracker.idle()), (12, false));
        assert_eq!(tracker.done(0, 15), Ok(true));
        assert_eq!(tracker.position(), 15, "the hole is not ours to pass before its far side is done");
        assert_eq!(tracker.done(0, 25), Ok(true));
        assert_eq!((tracker.position(), tracker.idle()), (25, true));
    }

    #[test]
    fn impossible_reports_and_repeated_spans_change_nothing() {
        let mut tracker = Tracker::new(0, 2);
        assert!(tracker.enter(0, 10));
        assert!(!tracker.enter(5, 12), "overlap");
        assert!(!tracker.enter(10, 10), "empty");
        for (lane, through) in [(0, 11), (0, -1), (2, 5)] {
            assert!(tracker.done(lane, through).is_err(), "lane {lane} through {through}");
        }
        assert_eq!((tracker.position(), tracker.end()), (0, 10));
    }

    /// The plain model: a set of offsets per lane; the position is the first handed-out offset not done by all.
    fn model(spans: &[(i64, i64)], through: &[i64], start: i64) -> i64 {
        let lowest = through.iter().copied().min().unwrap();
        let open = spans.iter().flat_map(|&(first, next)| first..next).find(|&offset| offset >= lowest);
        open.map_or(lowest, |_| lowest).max(start)
    }

    proptest! {
        #[test]
        fn the_position_is_the_models(
            lengths in prop::collection::vec((1i64..6, 0i64..4), 1..6),
            steps in prop::collection::vec((0usize..3, 0i64..40), 0..60),
        ) {
            let mut tracker = Tracker::new(100, 3);
            let (mut spans, mut at, mut through) = (Vec::new(), 100, [100; 3]);
            for (length, hole) in lengths {
                spans.push((at + hole, at + hole + length));
                prop_assert!(tracker.enter(at + hole, at + hole + length));
                at += hole + length;
            }
            let mut last = tracker.position();
            for (lane, ahead) in steps {
                let target = through[lane] + ahead;
                let accepted = tracker.done(lane, target).is_ok();
                prop_assert_eq!(accepted, target <= at);
                if accepted {
                    through[lane] = target;
                }
                prop_assert_eq!(tracker.position(), model(&spans, &through, 100));
                prop_assert!(tracker.position() >= last, "a position never goes back");
                prop_assert!(through.iter().all(|&done| tracker.position() <= done), "passes nothing that is not done");
                last = tracker.position();
            }
        }
    }

    #[test]
    fn every_order_in_which_five_lanes_finish_gives_the_lowest() {
        // Offsets 0,1,2 | hole | 5,6, one span each, finished by five lanes in all 120 orders.
        let spans = [(0, 1), (1, 2), (2, 3), (5, 6), (6, 7)];
        let mut order = [0usize, 1, 2, 3, 4];
        let mut count = 0;
        permute(&mut order, 0, &mut |order| {
            let mut tracker = Tracker::new(0, 5);
            assert!(spans.iter().all(|&(first, next)| tracker.enter(first, next)));
            for (finished, &lane) in order.iter().enumerate() {
                let moved = tracker.done(lane, 7).unwrap();
                assert_eq!(moved, finished == 4, "{order:?}: only the last lane moves the position");
            }
            assert_eq!(tracker.position(), 7);
            count += 1;
        });
        assert_eq!(count, 120);
    }

    fn permute(order: &mut [usize; 5], from: usize, visit: &mut impl FnMut(&[usize; 5])) {
        if from == order.len() {
            return visit(order);
        }
        for at in from..order.len() {
            order.swap(from, at);
            permute(order, from + 1, visit);
            order.swap(from, at);
        }
    }
}

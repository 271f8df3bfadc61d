//! The audit, audited: whatever is wrong with a database, it says so. An audit that cannot fail proves nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::audit::{AuditRow, Expected, Witness, audit, numbered};

const RECORDS: u64 = 40;
const PARTITIONS: u64 = 4;
const POISON: [u64; 2] = [7, 30];

/// What a database would hold.
struct Held {
    rows: Vec<AuditRow>,
    positions: BTreeMap<i32, i64>,
    written: u64,
    dead_lettered: u64,
}

impl Held {
    fn sound(letters_are_rows: bool) -> Self {
        let row = |number: u64| AuditRow {
            partition: (number % PARTITIONS) as i32,
            offset: (number / PARTITIONS) as i64,
            id: format!("{}-{:05}", number % PARTITIONS, number / PARTITIONS),
            time: format!("12:00:{:02}", number / PARTITIONS),
            value: numbered(number, "contents", POISON.contains(&number)),
            status: if POISON.contains(&number) { "FAILED" } else { "SUCCESS" }.to_owned(),
        };
        let mut rows: Vec<AuditRow> =
            (0..RECORDS).filter(|number| letters_are_rows || !POISON.contains(number)).map(row).collect();
        rows.sort_by_key(|row| (row.partition, row.offset));
        Self {
            rows,
            positions: (0..PARTITIONS as i32).map(|partition| (partition, (RECORDS / PARTITIONS) as i64)).collect(),
            written: RECORDS - POISON.len() as u64,
            dead_lettered: POISON.len() as u64,
        }
    }

    fn faults(&self, letters: Option<Vec<u64>>) -> Vec<String> {
        let expected = Expected { records: RECORDS, poison: BTreeSet::from(POISON), letters };
        let ends = [(RECORDS / PARTITIONS) as i64; PARTITIONS as usize];
        audit(self, &ends, "t", "g", &expected).faults
    }
}

impl Witness for Held {
    fn name(&self) -> String {
        "a made-up database".to_owned()
    }

    fn each_row(&self, _topic: &str, row: &mut dyn FnMut(AuditRow)) {
        self.rows.iter().cloned().for_each(row);
    }

    fn positions(&self, _topic: &str, _group: &str) -> BTreeMap<i32, i64> {
        self.positions.clone()
    }

    fn written(&self, _topic: &str) -> u64 {
        self.written
    }

    fn dead_lettered(&self, _topic: &str) -> u64 {
        self.dead_lettered
    }
}

/// What is done to a sound database, and a word of what the audit must say.
type Damage = (fn(&mut Held), &'static str);

const DAMAGES: &[Damage] = &[
    (|held| drop(held.rows.remove(3)), "lost"),
    (|held| held.rows.insert(3, AuditRow { id: "0-99999".to_owned(), ..held.rows[3].clone() }), "repeated"),
    (|held| held.rows.insert(3, held.rows[3].clone()), "ids are there twice"),
    (|held| held.rows[5].value = held.rows[5].value.replace("contents\"}", "Contents\"}"), "damaged"),
    (|held| held.rows[5].value = numbered(RECORDS, "contents", false), "never written"),
    (|held| held.rows.swap(4, 5), "after"),
    (|held| held.rows[4].time = "11:59:59".to_owned(), "after"),
    (|held| set_status(held, POISON[0], "SUCCESS"), "poisoned and yet rows"),
    (|held| set_status(held, 8, "FAILED"), "were good records"),
    (|held| held.rows.retain(|row| row.status != "FAILED"), "are no dead letters"),
    (|held| *held.positions.get_mut(&2).expect("a partition") = 9, "the log ends at"),
    (|held| held.written += 1, "count"),
    (|held| held.dead_lettered -= 1, "count"),
];

fn set_status(held: &mut Held, number: u64, status: &str) {
    let value = format!("{{\"seq\":{number},");
    let row = held.rows.iter_mut().find(|row| row.value.starts_with(&value)).expect("the record is there");
    row.status = status.to_owned();
}

#[test]
fn a_sound_database_passes_and_every_damage_is_named() {
    assert_eq!(Held::sound(true).faults(None), [""; 0]);
    for (nth, (damage, word)) in DAMAGES.iter().enumerate() {
        let mut held = Held::sound(true);
        damage(&mut held);
        let faults = held.faults(None);
        assert!(faults.iter().any(|fault| fault.contains(word)), "damage {nth} is not {word:?}: {faults:?}");
    }
}

#[test]
fn letters_in_a_topic_may_be_repeated_but_must_be_the_poison() {
    let held = Held::sound(false);
    assert_eq!(held.faults(Some(vec![7, 30, 7])), [""; 0]);
    for (letters, word) in [(vec![7], "are no dead letters"), (vec![7, 30, 8], "were good records")] {
        let faults = held.faults(Some(letters));
        assert!(faults.iter().any(|fault| fault.contains(word)), "{faults:?}");
    }
}

//! Orders of a web shop, as realistic as a seed makes them: order `n` is always the same order.

use std::fmt::Write;

use crate::core::backoff::Chance;

/// Milliseconds since the epoch of order 0; the following come some 40 ms apart.
const FIRST_ORDER_MS: i64 = 1_790_000_000_000;
const STEP_MS: i64 = 40;
const CUSTOMERS: u64 = 20_000;

const PRODUCTS: &[(&str, u64)] = &[
    ("espresso machine", 34_900),
    ("grinder", 12_950),
    ("kettle", 5_990),
    ("filter papers", 420),
    ("beans 1 kg", 2_350),
    ("milk jug", 1_890),
    ("scale", 4_500),
    ("café crème cups", 2_790),
];
pub(super) const CITIES: &[&str] =
    &["Lisboa", "København", "Kraków", "Graz", "Gent", "Torino", "Málaga", "Brno", "Tartu", "Cork"];
const STATUSES: &[&str] = &["placed", "paid", "packed", "shipped", "delivered", "returned"];

/// One order as a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The customer: orders of one customer keep their order.
    pub key: String,
    /// JSON of about 200 bytes.
    pub value: String,
    pub timestamp_ms: i64,
}

impl Order {
    /// Order number `number`, written over what was in here.
    pub fn fill(&mut self, number: u64) {
        self.fill_seeded(0, number);
    }

    /// The same of another shop for each seed; 0 is that of [`fill`](Self::fill).
    pub fn fill_seeded(&mut self, seed: u64, number: u64) {
        let mut chance = chance_of(seed, number);
        let customer = below(&mut chance, CUSTOMERS);
        let (product, price_cents) = *one_of(&mut chance, PRODUCTS);
        let city = *one_of(&mut chance, CITIES);
        let status = *one_of(&mut chance, STATUSES);
        let quantity = 1 + below(&mut chance, 4);
        let total_cents = quantity * price_cents;
        self.timestamp_ms = FIRST_ORDER_MS + number as i64 * STEP_MS + below(&mut chance, STEP_MS as u64) as i64;
        self.key.clear();
        self.value.clear();
        // Writing into a string cannot fail.
        let _ = write!(self.key, "customer-{customer:05}");
        let _ = write!(
            self.value,
            r#"{{"order":{number},"customer":{customer},"product":"{product}","quantity":{quantity},"#,
        );
        let _ = write!(
            self.value,
            r#""total":{}.{:02},"currency":"EUR","city":"{city}","status":"{status}","placed_at":{},"reference":"{:016x}"}}"#,
            total_cents / 100,
            total_cents % 100,
            self.timestamp_ms,
            chance.draw(),
        );
    }
}

/// The numbers that document `number` is made of.
pub(super) fn chance_of(seed: u64, number: u64) -> Chance {
    Chance::seeded(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed.wrapping_mul(0xd134_2543_de82_ef95))
}

pub(super) fn below(chance: &mut Chance, bound: u64) -> u64 {
    chance.draw() % bound
}

pub(super) fn one_of<'a, T>(chance: &mut Chance, all: &'a [T]) -> &'a T {
    &all[below(chance, all.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_always_the_same_and_is_json_of_its_size() {
        let (mut first, mut again) = (Order::default(), Order::default());
        for number in [0, 1, 99_999, u64::from(u32::MAX)] {
            first.fill(number);
            again.fill(7);
            again.fill(number);
            assert_eq!(first, again);
            let value: serde_json::Value = serde_json::from_str(&first.value).expect(&first.value);
            assert_eq!(value["order"], number);
            assert!((150..=260).contains(&first.value.len()), "{} bytes: {}", first.value.len(), first.value);
        }
    }
}

//! Orders of a web shop, as realistic as a seed makes them: order `n` is always the same order.

use std::fmt::Write;

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
const CITIES: &[&str] = &["Lisboa", "København", "Kraków", "Graz", "Gent", "Torino", "Málaga", "Brno", "Tartu", "Cork"];
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
        let mut chance = Chance(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let customer = chance.below(CUSTOMERS);
        let (product, price_cents) = PRODUCTS[chance.below(PRODUCTS.len() as u64) as usize];
        let city = CITIES[chance.below(CITIES.len() as u64) as usize];
        let status = STATUSES[chance.below(STATUSES.len() as u64) as usize];
        let quantity = 1 + chance.below(4);
        let total_cents = quantity * price_cents;
        self.timestamp_ms = FIRST_ORDER_MS + number as i64 * STEP_MS + chance.below(STEP_MS as u64) as i64;
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

/// SplitMix64: small, even, and the same everywhere.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }
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

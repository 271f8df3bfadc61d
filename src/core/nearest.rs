//! What somebody may have meant who wrote something else.

/// `; did you mean x?` for the nearest of `known`, or nothing when none is near.
///
/// ```
/// use konekt::core::nearest::suggest;
///
/// assert_eq!(suggest("oders", ["orders", "payments"]), "; did you mean orders?");
/// assert_eq!(suggest("x", ["orders"]), "");
/// ```
pub fn suggest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let rated = known.into_iter().map(|name| (strsim::jaro_winkler(unknown, name), name));
    match rated.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((nearness, name)) if nearness > 0.8 => format!("; did you mean {name}?"),
        _ => String::new(),
    }
}

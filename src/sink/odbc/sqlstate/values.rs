//! Takes out of a server's words what they repeat of a row: no value of a record is ever logged.
//!
//! What was refused, by which constraint, column or type, stays. Looked for are the phrases of the servers themselves, in
//! English, as PostgreSQL, MySQL, MariaDB, SQL Server and MongoDB have them in their lists of errors.

/// From here on nothing but values follows, and nothing else that is needed.
const TAILS: [&str; 5] =
    [" DETAIL: ", " CONTEXT: ", " The duplicate key value is (", " Truncated value: '", " dup key: {"];
/// What stands between these is a value.
const PLACES: [(&str, &str); 3] =
    [("Duplicate entry '", "' for key"), (" value: '", "' for column"), (" value '", "' to data type")];
/// Behind these, PostgreSQL quotes a value; behind others, names.
const CONVERSIONS: [&str; 2] = ["invalid input syntax for", "malformed array literal"];

/// The words without values.
pub fn without_values(words: &str) -> String {
    let ends = TAILS.iter().filter_map(|tail| words.find(tail));
    let mut words = words[..ends.min().unwrap_or(words.len())].to_owned();
    let quoted = CONVERSIONS.iter().any(|conversion| words.contains(conversion)).then_some((": \"", "\""));
    for (before, behind) in PLACES.into_iter().chain(quoted) {
        let place = words.find(before).map(|at| at + before.len());
        if let Some(start) = place
            && let Some(length) = words[start..].rfind(behind)
        {
            words.replace_range(start..start + length, "…");
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_repeats_of_a_row_is_left_out_and_the_rest_stays() {
        for (said, told) in [
            (
                "ERROR: new row violates check constraint \"refuse\" DETAIL: Failing row contains (1, secret).",
                "ERROR: new row violates check constraint \"refuse\"",
            ),
            (
                "ERROR: invalid input syntax for type json DETAIL: Token \"secret\" is invalid. CONTEXT: JSON data, line 1: secret",
                "ERROR: invalid input syntax for type json",
            ),
            (
                "ERROR: invalid input syntax for type integer: \"my \"secret\"\"",
                "ERROR: invalid input syntax for type integer: \"…\"",
            ),
            (
                "ERROR: duplicate key value violates unique constraint \"orders: \"by name\"\"",
                "ERROR: duplicate key value violates unique constraint \"orders: \"by name\"\"",
            ),
            (
                "[ma-3.1.15][10.11.6-MariaDB]Duplicate entry 'it's secret' for key 'by_customer'",
                "[ma-3.1.15][10.11.6-MariaDB]Duplicate entry '…' for key 'by_customer'",
            ),
            (
                "Incorrect integer value: 'secret' for column `shop`.`t`.`message_value` at row 3",
                "Incorrect integer value: '…' for column `shop`.`t`.`message_value` at row 3",
            ),
            (
                "Violation of UNIQUE KEY constraint 'u'. Cannot insert duplicate key in object 'dbo.t'. The duplicate key value is (secret).",
                "Violation of UNIQUE KEY constraint 'u'. Cannot insert duplicate key in object 'dbo.t'.",
            ),
            (
                "String or binary data would be truncated in table 'db.dbo.t', column 'message_key'. Truncated value: 'secret'.",
                "String or binary data would be truncated in table 'db.dbo.t', column 'message_key'.",
            ),
            (
                "Conversion failed when converting the nvarchar value 'secret' to data type int.",
                "Conversion failed when converting the nvarchar value '…' to data type int.",
            ),
            (
                "E11000 duplicate key error collection: shop.orders index: email_1 dup key: { email: \"secret\" }",
                "E11000 duplicate key error collection: shop.orders index: email_1",
            ),
            ("relation \"processed_messages\" does not exist", "relation \"processed_messages\" does not exist"),
        ] {
            assert_eq!(without_values(said), told);
        }
    }
}

//! What was found when something was looked at before it is used: by `konekt check-drivers` and `konekt check`.

use serde::Serialize;

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was tried, or what was found.
    pub what: String,
    /// Why it failed and what to do.
    pub fault: Option<String>,
}

impl Finding {
    /// It is as it should be.
    pub fn good(what: impl Into<String>) -> Finding {
        Finding { what: what.into(), fault: None }
    }

    /// It is not; `fault` says why and what to do.
    pub fn bad(what: impl Into<String>, fault: impl ToString) -> Finding {
        Finding { what: what.into(), fault: Some(fault.to_string()) }
    }
}

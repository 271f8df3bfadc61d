//! A page of what was found, for people: lines under headings.

use std::fmt::{Display, Write};

use crate::core::finding::Finding;

/// How wide a heading's column is.
const HEADING: usize = 16;

/// Lines under headings; a heading stands only at its first line.
#[derive(Default)]
pub struct Page {
    text: String,
    heading: &'static str,
}

impl Page {
    /// One line; an empty heading goes on under the last.
    pub fn line(&mut self, heading: &'static str, text: impl Display) {
        let shown = if heading == self.heading { "" } else { heading };
        // Writing into a string cannot fail.
        let _ = writeln!(self.text, "{shown:<HEADING$}{text}");
        self.heading = heading;
    }

    /// What was found, with ✓ or ✗.
    pub fn finding(&mut self, heading: &'static str, finding: &Finding) {
        match &finding.fault {
            None => self.line(heading, format_args!("✓ {}", finding.what)),
            Some(fault) => self.line(heading, format_args!("✗ {}: {fault}", finding.what)),
        }
    }

    /// The whole page.
    pub fn finish(self) -> String {
        self.text
    }
}

//! The coordinator on its own: events in, actions out.

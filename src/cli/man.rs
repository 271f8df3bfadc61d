//! `konekt man`: the manual for `man`, made like the command line of the tables of commands and settings.

use std::path::Path;

use super::exit::{self, Exit, Failure};
use super::parser::{self, Parsed};

/// Prints the first page, or writes one for each command into a folder.
pub fn run(parsed: &Parsed) -> Result<(), Failure> {
    match parsed.flags.get("man_folder") {
        Some(folder) => write(Path::new(folder)),
        None => exit::put(&first_page().map_err(|error| Failure::new(Exit::Failed, error))?),
    }
}

fn first_page() -> std::io::Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(parser::clap()).render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn write(folder: &Path) -> Result<(), Failure> {
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(parser::clap(), folder));
    written.map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", folder.display())))
}

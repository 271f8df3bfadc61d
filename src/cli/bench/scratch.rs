//! What a bench writes into: files or tables of its own, removed after each run and however the bench ends.

use std::path::{Path, PathBuf};

use crate::cli::exit::Failure;
use crate::cli::odbc;
use crate::config::{Settings, SinkSettings};
use crate::ops::bench::Job;
use crate::sink::position;
use crate::sink::query::{MessageDatabase, Parameter};

/// Where runs write. Dropping it removes what is left.
pub struct Scratch {
    /// Of files and tables.
    id: String,
    place: Place,
}

enum Place {
    Nowhere,
    /// A file, with SQLite's own beside it.
    Folder(PathBuf),
    Database {
        database: Box<dyn MessageDatabase>,
        /// Whether the table of positions was there before; then only our rows go.
        had_positions: bool,
    },
}

impl Scratch {
    /// For the sink of the settings; SQLite's files lie in `folder`, since disks differ.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub fn new(id: &str, settings: &Settings, folder: &Path) -> Result<Self, Failure> {
        let place = match &settings.sink {
            SinkSettings::Sqlite { .. } => Place::Folder(folder.to_owned()),
            SinkSettings::Odbc(login) => {
                let mut database = odbc::messages(login, &settings.consumer)?;
                let positions = database.dialect().quoted(position::TABLE);
                let had_positions = database.query(&format!("SELECT * FROM {positions} WHERE 1 = 0"), &[]).is_ok();
                Place::Database { database, had_positions }
            }
            _ => Place::Nowhere,
        };
        Ok(Self { id: id.replace('-', "_"), place })
    }

    /// The file or the table of the next run.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Nowhere => String::new(),
            Place::Folder(folder) => folder.join(format!("{}.db", self.id)).display().to_string(),
            Place::Database { .. } => self.id.clone(),
        }
    }

    /// Removes what a run wrote.
    pub fn clear(&mut self, job: &Job) {
        match &mut self.place {
            Place::Nowhere => {}
            Place::Folder(_) => remove_files(Path::new(&job.place)),
            Place::Database { database, .. } => {
                let (table, positions) = (database.dialect().quoted(&self.id), position::TABLE);
                let dialect = database.dialect();
                let of_group =
                    format!("DELETE FROM {} WHERE {} = ?", dialect.quoted(positions), dialect.quoted("consumer_group"));
                let dropped = database.execute(&format!("DROP TABLE {table}"), &[]);
                let deleted = database.execute(&of_group, &[Parameter::Text(&job.group)]);
                for error in [dropped.err(), deleted.err()].into_iter().flatten() {
                    log::warn!("this bench's table {table} or its rows in {positions} are left behind: {error}");
                }
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Place::Database { database, had_positions: false } = &mut self.place {
            let positions = database.dialect().quoted(position::TABLE);
            if let Err(error) = database.execute(&format!("DROP TABLE {positions}"), &[]) {
                log::warn!("the table {positions} that this bench made is left behind: {error}");
            }
        }
    }
}

fn remove_files(file: &Path) {
    for ending in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(ending);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                log::warn!("{} of this bench is left behind: {error}", Path::new(&name).display());
            }
            _ => {}
        }
    }
}

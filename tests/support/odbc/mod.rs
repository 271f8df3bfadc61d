//! The ODBC drivers that `prepare.sh` fetched and registered.
//!
//! A test names a driver by its file: `Driver=/full/path.so;…` in a connection string is taken by every driver manager
//! and needs no registration. Only what looks drivers up by name needs `ODBCSYSINI`, set to [`ini_folder`].

use std::path::PathBuf;

use super::cache;

/// Microsoft's driver, by the name that it is registered with.
pub const MICROSOFT: &str = "ODBC Driver 18 for SQL Server";
/// FreeTDS, the free driver for SQL Server.
pub const FREETDS: &str = "FreeTDS";
pub const POSTGRESQL: &str = "PostgreSQL Unicode";
pub const MARIADB: &str = "MariaDB Unicode";
pub const SQLITE: &str = "SQLite3";

/// The folder of an `odbcinst.ini` that names every driver with its absolute path.
pub fn ini_folder() -> Result<PathBuf, String> {
    let folder = cache().join("odbc");
    match folder.join("odbcinst.ini").exists() {
        true => Ok(folder),
        false => Err(format!("no drivers in {}: run tests/support/odbc/prepare.sh", folder.display())),
    }
}

/// The file of a driver, from its registration.
pub fn driver(name: &str) -> Result<PathBuf, String> {
    let ini = ini_folder()?.join("odbcinst.ini");
    let text = std::fs::read_to_string(&ini).map_err(|error| format!("{}: {error}", ini.display()))?;
    let mut lines = text.lines().skip_while(|line| *line != format!("[{name}]")).skip(1);
    let file = lines.find_map(|line| line.strip_prefix("Driver=")).map(PathBuf::from);
    match file {
        Some(file) if file.exists() => Ok(file),
        _ => Err(format!("{} names no driver {name}: run tests/support/odbc/prepare.sh", ini.display())),
    }
}

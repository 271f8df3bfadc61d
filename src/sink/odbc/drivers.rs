//! The ODBC drivers that are installed, as unixODBC's configuration files tell.
//!
//! `odbcinst.ini` holds a section per driver: its name, and under `Driver64` or `Driver` its file. Distributions often
//! register a bare file name (`psqlodbcw.so`). The system's driver manager looks for those in a folder that it was
//! built with; the one built into Konekt cannot, so [`installed`] searches for them, and connections name the file
//! instead of the driver ([`connection_string::resolved`](super::connection_string::resolved)).
//!
//! On Windows the registry has this list; it is not read: name the driver in the connection string there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Looks up an environment variable.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The drivers that speak to SQL Server, best first: what `--driver auto` means. FreeTDS is found by its file as well.
pub const SQL_SERVER_DRIVERS: &[&str] = &[
    "ODBC Driver 18 for SQL Server",
    "ODBC Driver 17 for SQL Server",
    "ODBC Driver 13 for SQL Server",
    "ODBC Driver 11 for SQL Server",
    "SQL Server Native Client 11.0",
    "SQL Server Native Client 10.0",
    "SQL Server",
    FREETDS,
];

const FREETDS: &str = "FreeTDS";

/// Where a bare file name is looked for, beside what the loader's own configuration and `LD_LIBRARY_PATH` name.
const LIBRARY_FOLDERS: &[&str] = &[
    "/usr/local/lib",
    "/usr/local/lib/odbc",
    "/usr/lib64",
    "/usr/lib64/odbc",
    "/usr/lib",
    "/usr/lib/odbc",
    "/lib64",
    "/lib",
    "/opt/homebrew/lib",
];

/// Where unixODBC's configuration may lie besides the folder that ours reads: installed from source, or by Homebrew.
const OTHER_SYSTEM_FOLDERS: &[&str] = &["/usr/local/etc", "/opt/homebrew/etc"];

/// A driver's entry in `odbcinst.ini`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// As connection strings name it.
    pub name: String,
    /// Its file as the entry has it; may be a bare name, may be missing.
    pub registered: String,
    pub description: String,
    /// Its file where there is one.
    pub file: Option<PathBuf>,
    /// Its version, where the file's name tells it.
    pub version: Option<String>,
    /// The configuration file that has the entry.
    pub origin: PathBuf,
    /// Whether the driver manager finds the file by the driver's name.
    pub found_by_name: bool,
}

impl Driver {
    /// A driver that is in no configuration file: its own file, or a name that the driver manager may know.
    pub fn unregistered(name: &str) -> Driver {
        Driver {
            name: name.to_owned(),
            registered: name.to_owned(),
            description: String::new(),
            file: Some(PathBuf::from(name)).filter(|file| file.is_absolute()),
            version: None,
            origin: PathBuf::new(),
            found_by_name: false,
        }
    }

    /// Whether it is FreeTDS, which takes other connection attributes than Microsoft's drivers.
    pub fn is_freetds(&self) -> bool {
        self.name.eq_ignore_ascii_case(FREETDS) || is_freetds_file(Path::new(&self.registered))
    }
}

/// Whether a file is FreeTDS by its name.
pub fn is_freetds_file(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libtdsodbc"))
}

/// A configuration file of the driver manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationFile {
    pub path: PathBuf,
    /// Whether the driver manager reads it; if not, only we do.
    pub read_by_manager: bool,
}

/// The configuration files in the order of their weight, whether they exist or not.
///
/// As unixODBC has it: `$ODBCSYSINI/$ODBCINSTINI`, which are by default `/etc` and `odbcinst.ini`, then
/// `~/.odbcinst.ini`. Without `ODBCSYSINI`, other folders of the system are looked into as well.
pub fn configuration_files(environment: Environment) -> Vec<ConfigurationFile> {
    let name = environment("ODBCINSTINI").unwrap_or_else(|| "odbcinst.ini".to_owned());
    let chosen = environment("ODBCSYSINI");
    let folder = chosen.clone().unwrap_or_else(|| "/etc".to_owned());
    let file = |path: PathBuf, read_by_manager| ConfigurationFile { path, read_by_manager };
    // not Path::join: the manager puts a slash between the two even before an absolute name
    let mut files = vec![file(PathBuf::from(format!("{folder}/{name}")), true)];
    if let Some(home) = environment("HOME") {
        files.push(file(Path::new(&home).join(".odbcinst.ini"), true));
    }
    if chosen.is_none() {
        files.extend(OTHER_SYSTEM_FOLDERS.iter().map(|folder| file(Path::new(folder).join(&name), false)));
    }
    files
}

/// The installed drivers, each name once: the first file that has it wins.
pub fn installed(environment: Environment) -> Vec<Driver> {
    let folders = library_folders(environment);
    let mut drivers: Vec<Driver> = Vec::new();
    for file in configuration_files(environment) {
        let text = fs::read(&file.path).unwrap_or_default();
        for mut driver in entries(&String::from_utf8_lossy(&text), &file.path) {
            if drivers.iter().any(|earlier| earlier.name.eq_ignore_ascii_case(&driver.name)) {
                continue;
            }
            driver.file = find(&driver.registered, &folders, &|path| path.is_file());
            driver.version = driver.file.as_deref().and_then(|file| version(&fs::canonicalize(file).ok()?));
            driver.found_by_name = file.read_by_manager && Path::new(&driver.registered).is_absolute();
            drivers.push(driver);
        }
    }
    drivers
}

/// The driver that `--driver auto` takes for SQL Server: the first of [`SQL_SERVER_DRIVERS`] whose file is there.
pub fn preferred_for_sql_server(drivers: &[Driver]) -> Option<&Driver> {
    let mut present = drivers.iter().filter(|driver| driver.file.is_some());
    let named = |name: &&str| present.clone().find(|driver| driver.name.eq_ignore_ascii_case(name));
    SQL_SERVER_DRIVERS.iter().find_map(named).or_else(|| present.find(|driver| driver.is_freetds()))
}

/// The entries of an `odbcinst.ini`, as unixODBC reads it: `[name]`, `key = value`, comments after `#` or `;` at a
/// line's start. The section `[ODBC]` is about the manager itself.
fn entries(text: &str, origin: &Path) -> Vec<Driver> {
    let mut found: Vec<Driver> = Vec::new();
    let mut driver: Option<Driver> = None;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            found.extend(driver.take());
            driver = (!name.eq_ignore_ascii_case("ODBC")).then(|| Driver {
                name: name.trim().to_owned(),
                registered: String::new(),
                description: String::new(),
                file: None,
                version: None,
                origin: origin.to_owned(),
                found_by_name: false,
            });
        } else if let (Some(driver), Some((key, value))) = (&mut driver, line.split_once('=')) {
            let value = value.trim();
            match key.trim().to_ascii_lowercase().as_str() {
                // on a 64-bit machine it wins, in whatever order they stand
                "driver64" if cfg!(target_pointer_width = "64") => driver.registered = value.to_owned(),
                "driver" if driver.registered.is_empty() => driver.registered = value.to_owned(),
                "description" => driver.description = value.to_owned(),
                _ => {}
            }
        }
    }
    found.extend(driver);
    found
}

/// The file that an entry means. A bare name is searched for, in the order of the folders.
fn find(registered: &str, folders: &[PathBuf], exists: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let named = Path::new(registered);
    match registered {
        "" => None,
        _ if named.is_absolute() => Some(named.to_owned()).filter(|path| exists(path)),
        _ => folders.iter().map(|folder| folder.join(named)).find(|path| exists(path)),
    }
}

/// The folders for bare file names: the loader's, each followed by its `odbc` where Debian keeps drivers.
fn library_folders(environment: Environment) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for variable in ["LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
        folders.extend(environment(variable).iter().flat_map(std::env::split_paths).filter(|path| path.is_absolute()));
    }
    let triplet = match std::env::consts::ARCH {
        "x86" => "i386-linux-gnu".to_owned(),
        "arm" => "arm-linux-gnueabihf".to_owned(),
        other => format!("{other}-linux-gnu"),
    };
    let mut system = vec![PathBuf::from(format!("/usr/lib/{triplet}"))];
    system.extend(loader_folders(Path::new("/etc/ld.so.conf.d")));
    system.extend(LIBRARY_FOLDERS.iter().map(PathBuf::from));
    folders.extend(system.into_iter().flat_map(|folder| [folder.join("odbc"), folder]));
    let mut seen = BTreeSet::new();
    folders.retain(|folder| seen.insert(folder.clone()));
    folders
}

/// What the files of `/etc/ld.so.conf.d` name.
fn loader_folders(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|ending| ending == "conf")).collect();
    files.sort();
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    texts
        .flat_map(|text| {
            text.lines().map(str::trim).filter(|line| line.starts_with('/')).map(PathBuf::from).collect::<Vec<_>>()
        })
        .collect()
}

/// The version in a file's name: 18.6.2.1 in `libmsodbcsql-18.6.so.2.1`, 17 in `libmsodbcsql.17.dylib`.
fn version(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_string_lossy().into_owned();
    let numbers = |part: &str| -> Vec<String> {
        let pieces = part.split(['.', '-']).filter(|piece| !piece.is_empty());
        pieces.filter(|piece| piece.bytes().all(|byte| byte.is_ascii_digit())).map(str::to_owned).collect()
    };
    let (stem, ending) = name.split_once(".so").or_else(|| name.split_once(".dylib"))?;
    let all = [numbers(stem), numbers(ending)].concat();
    (!all.is_empty()).then(|| all.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_environment(_: &str) -> Option<String> {
        None
    }

    fn driver(name: &str, file: Option<&str>) -> Driver {
        Driver {
            name: name.to_owned(),
            registered: file.unwrap_or("absent.so").to_owned(),
            description: String::new(),
            file: file.map(PathBuf::from),
            version: None,
            origin: PathBuf::from("/etc/odbcinst.ini"),
            found_by_name: true,
        }
    }

    #[test]
    fn entries_are_read_as_unixodbc_reads_them() {
        let text = "# a comment\n[ODBC]\nTrace=no\n\n[PostgreSQL Unicode]\nDescription = for UTF-8\nDriver=psqlodbcw.so\n\
                    Setup=libodbcpsqlS.so\n; another\n[ Both ]\ndriver = /old.so\nDRIVER64 = /new.so\n[Empty]\nDriver=\n\
                    [Same]\nDriver64=/new.so\nDriver=/old.so\nno pair\n[open";
        let found = entries(text, Path::new("/o.ini"));
        let shown: Vec<_> =
            found.iter().map(|one| (one.name.as_str(), one.registered.as_str(), one.description.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("PostgreSQL Unicode", "psqlodbcw.so", "for UTF-8"),
                ("Both", "/new.so", ""),
                ("Empty", "", ""),
                ("Same", "/new.so", ""),
                ("open", "", ""),
            ]
        );
        assert_eq!(found[0].origin, Path::new("/o.ini"));
        assert_eq!(entries("Driver=/x.so\n", Path::new("/o.ini")), []);
    }

    #[test]
    fn files_follow_the_environment() {
        let files = |pairs: &[(&str, &str)]| -> Vec<String> {
            let environment =
                |name: &str| pairs.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned());
            let shown = |file: ConfigurationFile| {
                format!("{}{}", file.path.display(), if file.read_by_manager { "" } else { " (not by the manager)" })
            };
            configuration_files(&environment).into_iter().map(shown).collect()
        };
        assert_eq!(
            files(&[("HOME", "/home/a")]),
            [
                "/etc/odbcinst.ini",
                "/home/a/.odbcinst.ini",
                "/usr/local/etc/odbcinst.ini (not by the manager)",
                "/opt/homebrew/etc/odbcinst.ini (not by the manager)",
            ]
        );
        assert_eq!(files(&[("ODBCSYSINI", "/o")]), ["/o/odbcinst.ini"]);
        assert_eq!(files(&[("ODBCSYSINI", "/o"), ("ODBCINSTINI", "mine.ini")]), ["/o/mine.ini"]);
    }

    #[test]
    fn bare_names_are_searched_for_in_order_and_full_paths_are_taken_as_they_are() {
        let folders = ["/a", "/b"].map(PathBuf::from);
        let exists = |path: &Path| ["/b/x.so", "/c/y.so"].iter().any(|one| Path::new(one) == path);
        for (registered, expected) in
            [("x.so", Some("/b/x.so")), ("/c/y.so", Some("/c/y.so")), ("y.so", None), ("/c/x.so", None), ("", None)]
        {
            assert_eq!(find(registered, &folders, &exists).as_deref(), expected.map(Path::new), "{registered}");
        }
    }

    #[test]
    fn library_folders_have_debians_and_no_folder_twice() {
        let environment = |name: &str| (name == "LD_LIBRARY_PATH").then(|| "/mine::relative:/usr/lib".to_owned());
        let folders = library_folders(&environment);
        assert_eq!(folders[0], Path::new("/mine"));
        assert!(folders.iter().any(|folder| folder.ends_with("odbc")));
        assert!(folders.iter().all(|folder| folder.is_absolute()), "{folders:?}");
        assert_eq!(folders.iter().collect::<BTreeSet<_>>().len(), folders.len());
        assert!(!library_folders(&no_environment).contains(&PathBuf::from("/mine")));
    }

    #[test]
    fn versions_are_read_from_file_names() {
        for (file, expected) in [
            ("/opt/microsoft/msodbcsql18/lib64/libmsodbcsql-18.6.so.2.1", Some("18.6.2.1")),
            ("/usr/local/lib/libmsodbcsql.17.dylib", Some("17")),
            ("/usr/lib/libmyodbc8w.so", None),
            ("/usr/lib/libsqlite3odbc-0.9998.so", Some("0.9998")),
            ("/usr/lib/psqlodbcw.so", None),
            ("/usr/lib/driver", None),
        ] {
            assert_eq!(version(Path::new(file)).as_deref(), expected, "{file}");
        }
    }

    #[test]
    fn the_newest_of_microsofts_drivers_is_preferred_and_freetds_comes_last() {
        let (d18, d17) = (SQL_SERVER_DRIVERS[0], SQL_SERVER_DRIVERS[1]);
        let tds = Some("/usr/lib/libtdsodbc.so");
        let some = Some("/x.so");
        for (drivers, expected) in [
            (vec![driver(d17, some), driver(d18, some)], Some(d18)),
            (vec![driver(d18, None), driver(d17, some)], Some(d17)),
            (vec![driver("freetds", tds), driver("SQL Server", some)], Some("SQL Server")),
            (vec![driver("PostgreSQL Unicode", some), driver("tds of mine", tds)], Some("tds of mine")),
            (
                vec![driver("FreeTDS", tds), driver("odbc driver 13 for sql server", some)],
                Some("odbc driver 13 for sql server"),
            ),
            (vec![driver("PostgreSQL Unicode", some), driver(d18, None)], None),
            (vec![], None),
        ] {
            assert_eq!(preferred_for_sql_server(&drivers).map(|one| one.name.as_str()), expected, "{drivers:?}");
        }
    }
}

//! What stands between this machine and a database: the driver manager, its configuration, the drivers, whether they
//! load. Everything is gathered into a [`Report`], which `konekt check-drivers` shows; each fault comes with its cure.

mod load;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use self::load::{Loaded, load, load_here, printed};
use crate::sink::odbc::drivers::{Driver, Environment, configuration_files, installed, preferred_for_sql_server};

/// The driver manager that the feature `odbc` builds in: the crate's version, and unixODBC's within it.
const VENDORED_MANAGER: (&str, &str) = ("0.1.4", "2.3.14");

/// The state of ODBC on this machine. Its JSON is a contract: fields may be added.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub system: System,
    pub manager: Manager,
    pub configuration: Vec<Configuration>,
    pub drivers: Vec<DriverReport>,
    /// The driver that `--driver auto` takes for SQL Server.
    pub sql_server_driver: Option<String>,
    /// Whether any driver can be used.
    pub usable: bool,
    /// What to do when none can, or none for SQL Server.
    pub cures: Vec<String>,
}

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub struct System {
    /// As the system calls itself: `Debian GNU/Linux 12 (bookworm)`.
    pub name: String,
    /// `linux`, `macos`, `windows`.
    pub os: &'static str,
    pub architecture: &'static str,
}

/// The driver manager.
#[derive(Clone, Debug, Serialize)]
pub struct Manager {
    /// `built in`, `of the system`, or `none`: ODBC was left out of this build.
    pub kind: &'static str,
    pub version: Option<String>,
}

/// One of its configuration files.
#[derive(Clone, Debug, Serialize)]
pub struct Configuration {
    pub path: PathBuf,
    pub exists: bool,
    /// Whether the manager reads it; if not, Konekt reads it and gives the manager the driver's file.
    pub read_by_manager: bool,
}

/// One driver.
#[derive(Clone, Debug, Serialize)]
pub struct DriverReport {
    pub name: String,
    pub description: String,
    pub version: Option<String>,
    /// As registered.
    pub registered: String,
    /// None: it is not there.
    pub file: Option<PathBuf>,
    pub registered_in: PathBuf,
    pub loads: bool,
    /// Why it does not load.
    pub fault: Option<String>,
    pub cure: Option<String>,
}

impl Report {
    /// Looks at everything. Each driver is loaded by a process of its own, which `loader` runs.
    pub fn gather(environment: Environment, loader: &dyn Fn(&Path) -> Loaded) -> Report {
        let drivers = installed(environment);
        let reports: Vec<DriverReport> = drivers.iter().map(|driver| DriverReport::of(driver, loader)).collect();
        let loads = |driver: &&Driver| reports.iter().any(|report| report.loads && report.name == driver.name);
        let usable: Vec<Driver> = drivers.iter().filter(loads).cloned().collect();
        let sql_server = preferred_for_sql_server(&usable).map(|driver| driver.name.clone());
        let release = os_release();
        let cures = cures(!usable.is_empty(), sql_server.is_some(), &release);
        Report {
            system: System { name: release.name, os: std::env::consts::OS, architecture: std::env::consts::ARCH },
            manager: manager(),
            configuration: configuration_files(environment)
                .into_iter()
                .map(|file| Configuration {
                    exists: file.path.is_file(),
                    path: file.path,
                    read_by_manager: file.read_by_manager,
                })
                .collect(),
            sql_server_driver: sql_server,
            usable: !usable.is_empty(),
            drivers: reports,
            cures,
        }
    }
}

impl DriverReport {
    fn of(driver: &Driver, loader: &dyn Fn(&Path) -> Loaded) -> DriverReport {
        let (fault, cure) = match &driver.file {
            None => (
                Some(format!("its file {:?} is not there", driver.registered)),
                Some(format!("install the driver again, or correct its Driver= in {}", driver.origin.display())),
            ),
            Some(file) => match loader(file) {
                Loaded::Yes => (None, None),
                Loaded::No { fault, cure } => (Some(fault), Some(cure)),
            },
        };
        DriverReport {
            name: driver.name.clone(),
            description: driver.description.clone(),
            version: driver.version.clone(),
            registered: driver.registered.clone(),
            file: driver.file.clone(),
            registered_in: driver.origin.clone(),
            loads: fault.is_none(),
            fault,
            cure,
        }
    }
}

fn manager() -> Manager {
    if cfg!(feature = "odbc") && !cfg!(windows) {
        return Manager { kind: "built in", version: Some(format!("unixODBC {}", VENDORED_MANAGER.1)) };
    }
    if cfg!(any(feature = "odbc", feature = "odbc-system")) {
        return Manager { kind: "of the system", version: system_manager_version() };
    }
    Manager { kind: "none", version: None }
}

/// unixODBC's tool tells its version; without the tool it is not known.
fn system_manager_version() -> Option<String> {
    let output = std::process::Command::new("odbcinst").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Some(text).filter(|text| !text.is_empty())
}

/// What a Linux system says of itself.
struct Release {
    name: String,
    /// `ID` and what it is like: `ubuntu debian`.
    families: String,
}

fn os_release() -> Release {
    parse_os_release(&std::fs::read_to_string("/etc/os-release").unwrap_or_default())
}

fn parse_os_release(text: &str) -> Release {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches(['"', '\'']).to_owned())
    };
    let families = [value("ID"), value("ID_LIKE")].into_iter().flatten().collect::<Vec<_>>().join(" ");
    Release { name: value("PRETTY_NAME").unwrap_or_else(|| std::env::consts::OS.to_owned()), families }
}

fn cures(any: bool, sql_server: bool, release: &Release) -> Vec<String> {
    let mut cures = Vec::new();
    if manager().kind == "none" {
        cures.push("this konekt was built without ODBC: build it with the feature odbc".to_owned());
    }
    if !sql_server {
        cures.push("for SQL Server: ./setup_sqlserver_driver.sh installs Microsoft's driver".to_owned());
    }
    if !any {
        cures.extend(packages(release).map(|command| format!("for PostgreSQL, MySQL or MariaDB: {command}")));
    }
    cures
}

/// How other databases' drivers are installed here.
fn packages(release: &Release) -> Option<&'static str> {
    let is = |family: &str| release.families.split_whitespace().any(|one| one == family);
    match std::env::consts::OS {
        "macos" => Some("brew install psqlodbc mariadb-connector-odbc"),
        _ if is("debian") || is("ubuntu") => Some("apt-get install odbc-postgresql odbc-mariadb"),
        _ if is("rhel") || is("fedora") || is("centos") => Some("dnf install postgresql-odbc mariadb-connector-odbc"),
        _ if is("alpine") => Some("apk add psqlodbc mariadb-connector-odbc"),
        _ if is("suse") || is("opensuse") => Some("zypper install psqlODBC mariadb-connector-odbc"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendored_managers_version_is_that_of_the_crate() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
        let (krate, _) = VENDORED_MANAGER;
        let entry = format!("name = \"unix-odbc\"\nversion = \"{krate}\"");
        assert!(lock.contains(&entry), "unix-odbc has another version: see its configure.ac for unixODBC's");
    }

    #[test]
    fn systems_have_their_packages() {
        for (text, name, part) in [
            ("ID=ubuntu\nID_LIKE=debian\nPRETTY_NAME=\"Ubuntu 24.04\"\n", "Ubuntu 24.04", Some("apt-get")),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nPRETTY_NAME='Rocky'\n", "Rocky", Some("dnf")),
            ("ID=alpine\nPRETTY_NAME=\"Alpine\"\n", "Alpine", Some("apk")),
            ("ID=plan9\n", std::env::consts::OS, None),
        ] {
            let release = parse_os_release(text);
            assert_eq!(release.name, name);
            let command = packages(&release);
            assert_eq!(command.is_some(), part.is_some(), "{text}");
            assert!(command.unwrap_or_default().contains(part.unwrap_or_default()), "{text}: {command:?}");
        }
    }

    #[test]
    fn a_driver_that_does_not_load_is_not_preferred_and_each_fault_has_its_cure() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(file("d.so"), "").unwrap();
        std::fs::write(file("good.so"), "").unwrap();
        let text = format!(
            "[ODBC Driver 18 for SQL Server]\nDriver={}\n[Gone]\nDriver={}\n[FreeTDS]\nDriver={}\n",
            file("d.so"),
            file("gone.so"),
            file("good.so")
        );
        std::fs::write(file("odbcinst.ini"), text).unwrap();
        let environment = |name: &str| (name == "ODBCSYSINI").then(|| folder.path().display().to_string());
        let loader = |path: &Path| match path.ends_with("good.so") {
            true => Loaded::Yes,
            false => Loaded::No { fault: "does not".to_owned(), cure: "do this".to_owned() },
        };
        let report = Report::gather(&environment, &loader);
        assert_eq!(report.sql_server_driver.as_deref(), Some("FreeTDS"));
        assert!(report.usable && report.cures.is_empty(), "{:?}", report.cures);
        let states: Vec<_> = report.drivers.iter().map(|driver| (driver.loads, driver.cure.is_some())).collect();
        assert_eq!(states, [(false, true), (false, true), (true, false)]);
        assert!(report.configuration[0].exists && report.configuration[0].read_by_manager);

        let none = Report::gather(&|_| Some("/nowhere".to_owned()), &loader);
        assert!(!none.usable && none.cures.iter().any(|cure| cure.contains("setup_sqlserver_driver.sh")));
    }
}

//! `setup_sqlserver_driver.sh`: what it would do on each system. Nothing is ever installed here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use super::support::konekt::Place;
use super::support::or_skip;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/setup_sqlserver_driver.sh");

/// The script, with everything that could install something replaced by commands that fail.
fn script(place: &Place) -> Command {
    let stubs = place.file("stubs");
    fs::create_dir_all(&stubs).expect("the folder is ours");
    for tool in ["apk", "apt-get", "brew", "curl", "dnf", "dpkg", "gpg", "sudo", "yum"] {
        let stub = stubs.join(tool);
        fs::write(&stub, "#!/bin/sh\necho a test ran an installer\nexit 99\n").expect("the folder is ours");
        fs::set_permissions(&stub, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command
        .arg(SCRIPT)
        .env_remove("ACCEPT_EULA")
        .env("PATH", format!("{}:{}", stubs.display(), path.display()))
        .env("ODBCSYSINI", place.file(""))
        .stdin(Stdio::null());
    command
}

/// Runs the script as on a system with this os-release, kernel and machine, and without a driver.
fn run(os_release: &str, kernel: &str, machine: &str, arguments: &[&str]) -> (i32, String) {
    let place = Place::new();
    let release = place.file("os-release");
    fs::write(&release, os_release).expect("the folder is ours");
    let output = script(&place)
        .args(arguments)
        .env("KONEKT_OS_RELEASE", &release)
        .env("KONEKT_KERNEL", kernel)
        .env("KONEKT_MACHINE", machine)
        .env("KONEKT_APT_SOURCES", place.file(""))
        .output()
        .expect("sh runs");
    let said = both(&output);
    assert!(!said.contains("a test ran an installer"), "{said}");
    (output.status.code().unwrap_or(-1), said)
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_dry_run_prints_what_each_system_needs_and_ends_well() {
    for (os_release, kernel, machine, parts) in [
        (
            "ID=debian\nVERSION_ID=\"12\"\n",
            "Linux",
            "x86_64",
            &[
                "packages.microsoft.com/config/debian/12/packages-microsoft-prod.deb",
                "apt-get update",
                "apt-get install -y msodbcsql18",
            ][..],
        ),
        ("ID=ubuntu\nVERSION_ID=\"24.04\"\nID_LIKE=debian\n", "Linux", "aarch64", &["/config/ubuntu/24.04/"]),
        (
            "ID=linuxmint\nVERSION_ID=22\nID_LIKE=\"ubuntu debian\"\nUBUNTU_CODENAME=noble\n",
            "Linux",
            "x86_64",
            &["/config/ubuntu/24.04/"],
        ),
        ("ID=rhel\nVERSION_ID=\"9.4\"\n", "Linux", "x86_64", &["/rhel/9/prod.repo", "dnf install -y msodbcsql18"]),
        (
            "ID=\"rocky\"\nVERSION_ID=\"8.10\"\nID_LIKE=\"rhel centos fedora\"\n",
            "Linux",
            "x86_64",
            &["/rhel/8/prod.repo"],
        ),
        ("ID=fedora\nVERSION_ID=41\n", "Linux", "x86_64", &["/rhel/9/prod.repo", "dnf install"]),
        ("ID=alpine\nVERSION_ID=3.20.1\n", "Linux", "x86_64", &["msodbcsql18_18", "_amd64.apk", "apk add"]),
        ("ID=alpine\nVERSION_ID=3.20.1\n", "Linux", "aarch64", &["_arm64.apk"]),
        ("", "Darwin", "arm64", &["brew tap microsoft/mssql-release", "brew install msodbcsql18"]),
    ] {
        let (code, said) = run(os_release, kernel, machine, &["--dry-run"]);
        assert_eq!(code, 0, "{os_release}: {said}");
        for part in parts.iter().chain(&["would run:", "licence"]) {
            assert!(said.contains(part), "{os_release} {machine}: {part:?} is missing in\n{said}");
        }
    }
}

#[test]
fn a_system_it_does_not_know_is_told_so() {
    for (os_release, kernel) in [("ID=arch\n", "Linux"), ("", "Linux"), ("", "SunOS")] {
        let (code, said) = run(os_release, kernel, "x86_64", &["--dry-run"]);
        assert!(code == 2 && said.contains("does not know"), "{os_release}: {code} {said}");
    }
    let (code, said) = run("ID=debian\nVERSION_ID=12\n", "Linux", "riscv64", &["--dry-run"]);
    assert!(code == 2 && said.contains("riscv64"), "{code} {said}");
}

#[test]
fn check_changes_nothing_and_tells_whether_the_driver_is_there() {
    let (code, said) = run("ID=debian\nVERSION_ID=\"12\"\n", "Linux", "x86_64", &["--check"]);
    assert!(code == 3 && said.contains("no Microsoft ODBC driver"), "{code} {said}");

    let place = Place::new();
    let driver = place.file("libmsodbcsql-18.6.so.2.1");
    let section = format!("[ODBC Driver 18 for SQL Server]\nDriver={}\n", driver.display());
    fs::write(place.file("odbcinst.ini"), section).expect("the folder is ours");
    let said = |arguments: &[&str], expected: i32| {
        let output = script(&place).args(arguments).output().expect("sh runs");
        assert_eq!(output.status.code(), Some(expected), "{arguments:?}: {}", both(&output));
        both(&output)
    };
    assert!(said(&["--check"], 3).contains("no Microsoft ODBC driver"), "its file is missing");
    fs::write(&driver, "").expect("the folder is ours");
    assert!(said(&["--check"], 0).contains("ODBC Driver 18 for SQL Server: "));
    assert!(said(&["--accept-eula"], 0).contains("nothing to do"));
}

#[test]
fn without_a_word_about_the_licence_nothing_is_installed() {
    let (code, said) = run("ID=debian\nVERSION_ID=\"12\"\n", "Linux", "x86_64", &[]);
    assert!(code == 2 && said.contains("--accept-eula") && !said.contains("running:"), "{code} {said}");
    let (code, said) = run("ID=debian\nVERSION_ID=\"12\"\n", "Linux", "x86_64", &["--bogus"]);
    assert!(code == 2 && said.contains("--dry-run"), "{code} {said}");
    let (code, said) = run("", "Linux", "x86_64", &["--help"]);
    assert!(code == 0 && said.contains("--check"), "{code} {said}");
}

#[test]
fn the_shell_finds_no_mistake() {
    let parsed = Command::new("bash").args(["-n", SCRIPT]).output().expect("bash runs");
    assert!(parsed.status.success(), "{}", both(&parsed));
    let version = Command::new("shellcheck").arg("--version").output();
    let checked = version.map_err(|error| format!("there is no shellcheck: {error}"));
    if or_skip(checked).is_some() {
        let checked = Command::new("shellcheck").arg(SCRIPT).output().expect("shellcheck runs");
        assert!(checked.status.success(), "{}", both(&checked));
    }
}

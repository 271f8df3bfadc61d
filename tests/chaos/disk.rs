//! A small disk that can be filled: a tmpfs, mounted for the test.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::kafka::fresh_folder;

/// See the module. Unmounted when dropped; and when the test process dies, since what mounted it watches its stdin.
pub struct SmallDisk {
    folder: PathBuf,
    mounted: Child,
}

impl SmallDisk {
    /// Mounts one of so many MiB. Only root may, or who becomes root without a password.
    pub fn mount(mebibytes: u64) -> Result<Self, String> {
        const SCRIPT: &str = r#"
            [ "$(id -u)" = 0 ] || as_root="sudo -n"
            $as_root mount -t tmpfs -o "size=$2m" konekt-test "$1" && echo mounted && read -r end
            $as_root umount -l "$1""#;
        let folder = fresh_folder("disk");
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "small-disk"]).arg(&folder).arg(mebibytes.to_string()).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut mounted = command.spawn().map_err(|error| format!("sh: {error}"))?;
        let mut answer = String::new();
        BufReader::new(mounted.stdout.take().expect("stdout is piped")).read_line(&mut answer).ok();
        let disk = Self { folder, mounted };
        if answer == "mounted\n" { Ok(disk) } else { Err("a tmpfs cannot be mounted without being root".to_owned()) }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes all the space that is left.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("a file on our disk");
        let zeros = vec![0; 64 * 1024];
        while ballast.write(&zeros).is_ok_and(|written| written > 0) {}
    }

    /// Gives it back.
    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("the ballast");
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.mounted.stdin.take());
        self.mounted.wait().ok();
        std::fs::remove_dir(&self.folder).ok();
    }
}

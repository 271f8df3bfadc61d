//! What SQLite says, as a class and as a sentence with the cure. Source: <https://sqlite.org/rescode.html>.

use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::core::verdict::{self, ErrorClass};
use crate::port::SinkError;

/// The class, and what to do about it; `FILE` stands for the path.
type Meaning = (ErrorClass, &'static str);

/// The one table of result codes: by extended code where that makes a difference, else by primary code.
fn meaning(error: &ffi::Error) -> Meaning {
    use ErrorClass::{Auth, Contention, Data, Overload, Schema, Transient, Unclassified};
    match error.extended_code {
        ffi::SQLITE_READONLY_DBMOVED => {
            return (
                Schema,
                "the file was moved or removed while it was open: put it back; nothing is written meanwhile",
            );
        }
        ffi::SQLITE_READONLY_DIRECTORY | ffi::SQLITE_READONLY_CANTINIT => {
            return (Auth, "the directory must be writable too, for the -wal and -shm files");
        }
        ffi::SQLITE_IOERR_NOMEM => return (Overload, "memory is short"),
        _ => {}
    }
    match error.code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            (Contention, "another program holds the lock (`fuser FILE` names it); it is tried again")
        }
        ErrorCode::DiskFull => {
            (Overload, "free space on the disk or raise its quota; nothing is lost, it is tried again")
        }
        ErrorCode::OutOfMemory => (Overload, "memory is short"),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => {
            (Auth, "make the file and its directory writable for this user")
        }
        ErrorCode::CannotOpen => (Auth, "check that the path exists and that this user may open and write it"),
        ErrorCode::NotADatabase => (Schema, "the file is no SQLite database: name another one, or move it away"),
        ErrorCode::DatabaseCorrupt => (
            Schema,
            "the file is damaged: stop, run `sqlite3 FILE .recover` or restore a backup together with its -wal",
        ),
        ErrorCode::SchemaChanged => (Schema, "the table was changed; it is tried again"),
        ErrorCode::ConstraintViolation => (Data, "the table's own constraint refuses this record"),
        ErrorCode::TooBig => (Data, "the record is larger than SQLite's limit for one value"),
        ErrorCode::TypeMismatch => (Data, "a column's type refuses this record's value"),
        ErrorCode::SystemIoFailure => (Transient, "the disk failed: see the system's log; it is tried again"),
        ErrorCode::OperationInterrupted | ErrorCode::OperationAborted => (Transient, "it is tried again"),
        ErrorCode::Unknown if error.extended_code & 0xff == ffi::SQLITE_ERROR => {
            (Schema, "the tables are not what the statement needs: compare them with the documentation")
        }
        _ => (Unclassified, "this should not happen: please report it"),
    }
}

/// The class of a result code, to hold the ODBC driver's table against.
#[cfg(test)]
pub(crate) fn class_of_code(code: i32) -> ErrorClass {
    meaning(&ffi::Error::new(code)).0
}

/// A failure of SQLite while doing `what` with the file at `path`.
pub fn sink_error(path: &Path, what: &str, error: &rusqlite::Error) -> SinkError {
    let (class, cure) = match error {
        rusqlite::Error::SqliteFailure(code, _) => meaning(code),
        rusqlite::Error::SqlInputError { .. } => (ErrorClass::Schema, "the tables are not what the statement needs"),
        _ => (ErrorClass::Schema, "the tables hold something that Konekt did not write"),
    };
    let code = match error {
        rusqlite::Error::SqliteFailure(code, _) => format!(" (SQLite code {})", code.extended_code),
        _ => String::new(),
    };
    let shown = path.display();
    let cure = cure.replace("FILE", &shown.to_string());
    let native = error.sqlite_extended_error_code();
    SinkError {
        code: native.map(|native| verdict::ErrorCode { sqlstate: String::new(), native }),
        ..SinkError::new(class, format!("sqlite {shown}: cannot {what}: {error}{code}; {cure}"))
    }
}

/// Whether the connection is of no use after this.
pub fn needs_reopening(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::ApiMisuse
        )
    )
}

/// Why a file cannot be opened, where looking at the path says more than SQLite's "unable to open database file".
pub fn open_error(path: &Path, error: &rusqlite::Error, existed_before: bool) -> SinkError {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = path.display();
    let (class, message) = if path.is_dir() {
        (
            ErrorClass::Auth,
            format!("sqlite {shown}: this is a directory; name a file in it: {}", path.join("konekt.db").display()),
        )
    } else if !directory.is_dir() {
        let directory = directory.display();
        (
            ErrorClass::Auth,
            format!("sqlite {shown}: the directory {directory} does not exist; make it: mkdir -p '{directory}'"),
        )
    } else if existed_before && !path.exists() {
        (
            ErrorClass::Schema,
            format!(
                "sqlite {shown}: the file was there and is gone; put it back, or restart to begin a new one. \
                 Nothing is written meanwhile"
            ),
        )
    } else {
        return sink_error(path, "open it", error);
    };
    SinkError::new(class, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_codes_have_their_class() {
        use ErrorClass::*;
        for (code, class) in [
            (ffi::SQLITE_BUSY, Contention),
            (ffi::SQLITE_BUSY_SNAPSHOT, Contention),
            (ffi::SQLITE_LOCKED, Contention),
            (ffi::SQLITE_FULL, Overload),
            (ffi::SQLITE_NOMEM, Overload),
            (ffi::SQLITE_READONLY, Auth),
            (ffi::SQLITE_READONLY_DBMOVED, Schema),
            (ffi::SQLITE_READONLY_DIRECTORY, Auth),
            (ffi::SQLITE_CANTOPEN, Auth),
            (ffi::SQLITE_PERM, Auth),
            (ffi::SQLITE_CORRUPT, Schema),
            (ffi::SQLITE_NOTADB, Schema),
            (ffi::SQLITE_ERROR, Schema),
            (ffi::SQLITE_CONSTRAINT_CHECK, Data),
            (ffi::SQLITE_TOOBIG, Data),
            (ffi::SQLITE_IOERR_WRITE, Transient),
            (ffi::SQLITE_MISUSE, Unclassified),
        ] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("its words".to_owned()));
            let error = sink_error(Path::new("/data/k.db"), "write", &error);
            assert_eq!(error.class, class, "{code}: {error}");
            for part in ["/data/k.db", "its words", &code.to_string()] {
                assert!(error.message.contains(part), "{part} is missing: {error}");
            }
        }
    }
}

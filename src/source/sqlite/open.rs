//! Opens a database without changing it, and says in words what SQLite says in codes.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::model::Failure;

/// The first bytes of every database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Opens a database that is there. One that is locked is asked again for so long.
///
/// # Errors
/// `NotFound`, `Invalid` for what is no database, `Precondition` for what cannot be opened or is locked.
pub fn open(path: &Path, busy: Duration) -> Result<Connection, Failure> {
    let mut first = Vec::new();
    let file = File::open(path).map_err(|error| of_io(path, &error))?;
    if file.metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err(invalid(path, "is a folder; hint: source.path names the database's file"));
    }
    file.take(16).read_to_end(&mut first).map_err(|error| of_io(path, &error))?;
    // An empty file is a database without tables.
    if !first.is_empty() && first != MAGIC {
        let message = "is no SQLite database, or is encrypted: it does not begin as one; hint: decrypt it first, or back it up as files";
        return Err(invalid(path, message));
    }
    // A log can only be read by who may write beside the database; who may not, reads what is in the file.
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_WRITE)
        .or_else(|_| Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_ONLY))
        .map_err(|error| failed(path, &error))?;
    let has_log = super::place::aside(path, "-wal").exists();
    let settled = connection
        .busy_timeout(busy)
        .and_then(|()| match has_log {
            // The log stays as it is: it is not ours to fold it into the database.
            true => connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop),
            false => Ok(()),
        })
        .and_then(|()| connection.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;"));
    settled.map_err(|error| failed(path, &error))?;
    Ok(connection)
}

/// A failure of SQLite's in words, with a way out.
pub fn failed(path: &Path, error: &rusqlite::Error) -> Failure {
    let object = path.display().to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            let message = "is locked by another process; hint: raise source.busy_timeout, or stop what writes".into();
            Failure::Precondition { object, message }
        }
        Some(ErrorCode::NotADatabase) => {
            let message =
                "is no SQLite database, or is encrypted; hint: decrypt it first, or back it up as files".into();
            Failure::Invalid { object, message }
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            let message = format!(
                "is damaged: {error}; hint: restore it from a backup, or save what is left: sqlite3 FILE .recover"
            );
            Failure::Invalid { object, message }
        }
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            let message = format!(
                "cannot be opened: {error}; hint: run as a user who may read and write the file and its folder"
            );
            Failure::Precondition { object, message }
        }
        Some(ErrorCode::DiskFull) => {
            let message = "there is no space left for a copy; hint: TMPDIR names a folder with more".into();
            Failure::Precondition { object, message }
        }
        _ => Failure::Invalid { object, message: error.to_string() },
    }
}

pub fn of_io(path: &Path, error: &std::io::Error) -> Failure {
    let object = path.display().to_string();
    match error.kind() {
        std::io::ErrorKind::NotFound => Failure::NotFound { object, message: "there is no such file".into() },
        std::io::ErrorKind::PermissionDenied => {
            let message = format!("{error}; hint: run as a user who may read it");
            Failure::Precondition { object, message }
        }
        _ => Failure::Invalid { object, message: error.to_string() },
    }
}

pub fn local(error: std::io::Error) -> Failure {
    Failure::Transient { object: "temporary file".into(), message: error.to_string() }
}

fn invalid(path: &Path, message: &str) -> Failure {
    Failure::Invalid { object: path.display().to_string(), message: message.into() }
}

/// A name in SQL.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

//! Puts a restored database in its place. A log of the old one must never meet the new one: SQLite would play it back into it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::open::of_io;
use crate::model::Failure;
use crate::plan::Refusal;

/// What SQLite puts beside a database.
pub const LOGS: [&str; 3] = ["-wal", "-journal", "-shm"];

/// Where a run restores to: beside the target, on the same file system.
pub fn scratch(target: &Path, run: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    target.with_file_name(format!(".{name}.strongroom-{run}"))
}

/// A file that belongs to a database: its name with an ending.
pub fn aside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_os_string();
    name.push(ending);
    name.into()
}

/// What stands against replacing this database: somebody uses it.
///
/// # Errors
/// When it cannot be looked at.
pub fn look(target: &Path) -> Result<Option<Refusal>, Failure> {
    let meta = target.symlink_metadata().map_err(|error| of_io(target, &error))?;
    let shown = target.display().to_string();
    if !meta.is_file() {
        return Ok(Some(Refusal::new(shown, "is no file", "restore to another path: --to PATH")));
    }
    let hint = "stop what has it open, or restore beside it: --to PATH";
    Ok(is_used(target).then(|| Refusal::new(shown, "is in use", hint)))
}

/// Whether another process has it open as a database. One that is damaged, or none, tells nobody.
fn is_used(target: &Path) -> bool {
    let try_alone = || {
        let connection = Connection::open_with_flags(target, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(Duration::from_millis(500))?;
        // What lies in the log stays there: nothing is changed by looking.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // In this mode SQLite takes the locks of all users, also of those who have it open with a log and do nothing.
        connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; ROLLBACK;")
    };
    let code = try_alone().err().and_then(|error| error.sqlite_error_code());
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Puts the restored database in its place.
///
/// The old database's logs step aside first: until the new one is in place they can come back, after it they are removed.
///
/// # Errors
/// `Precondition` when somebody uses the target, or it came to be there meanwhile.
pub fn put(scratch: &Path, target: &Path, replace: bool) -> Result<(), Failure> {
    let object = target.display().to_string();
    if target.symlink_metadata().is_ok() {
        if !replace {
            let message = "is there by now; hint: --to PATH, or --replace".to_string();
            return Err(Failure::Precondition { object, message });
        }
        if is_used(target) {
            let message = "is in use; hint: stop what has it open, or restore beside it: --to PATH".to_string();
            return Err(Failure::Precondition { object, message });
        }
    }
    for ending in LOGS {
        rename(&aside(target, ending), &aside(scratch, ending))?;
    }
    std::fs::rename(scratch, target).map_err(|error| of_io(target, &error))?;
    sync(target)?;
    for ending in LOGS {
        remove(&aside(scratch, ending))?;
    }
    Ok(())
}

/// Either the restored database is in place, or the old one with its logs.
///
/// # Errors
/// When files cannot be moved or removed.
pub fn take_back(target: &Path, run: &str) -> Result<(), Failure> {
    let scratch = scratch(target, run);
    if scratch.symlink_metadata().is_ok() && target.symlink_metadata().is_ok() {
        // Not put in place. Logs that have stepped aside go back, unless there is one again: then somebody used it since.
        for ending in LOGS {
            let log = aside(target, ending);
            if log.symlink_metadata().is_err() {
                rename(&aside(&scratch, ending), &log)?;
            }
        }
        sync(target)?;
    }
    for ending in LOGS {
        remove(&aside(&scratch, ending))?;
    }
    remove(&scratch)
}

/// Removes a file; none is as good.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(file: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(of_io(file, &error)),
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(of_io(from, &error)),
        _ => Ok(()),
    }
}

fn sync(file: &Path) -> Result<(), Failure> {
    let folder = file.parent().unwrap_or(file);
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(of_io(folder, &error)),
        _ => Ok(()),
    }
}

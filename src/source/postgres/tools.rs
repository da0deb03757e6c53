//! PostgreSQL's own programs: found, of the right version, and run without a secret among their arguments.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::model::{DatabaseUrl, Failure};

/// Where Debian puts the programs of every version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// The end of what a program complains is kept.
const COMPLAINT_BYTES: usize = 8 << 10;

/// A program that was found.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    pub path: PathBuf,
    /// As it says itself: `pg_dump (PostgreSQL) 15.18`.
    pub version: String,
    pub major: u32,
}

/// Finds a program of at least the version of what it is to work with (`than`: the server, the backup): in `folder`, or else in
/// PATH, or else Debian's.
///
/// # Errors
/// `Invalid` with the package that has it.
pub(super) fn find(name: &str, folder: Option<&str>, (than, needed): (&str, u32)) -> Result<Tool, Failure> {
    let hint = format!("install Debian's package postgresql-client (version {needed} or newer)");
    let mut found: Vec<Tool> = vec![];
    match folder {
        Some(folder) => found.extend(ask(&Path::new(folder).join(name))),
        None => {
            found.extend(ask(Path::new(name)));
            if found.first().is_none_or(|tool| tool.major < needed) {
                let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
                let mut numbers: Vec<u32> =
                    versions.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
                numbers.sort_unstable();
                found.extend(
                    numbers
                        .into_iter()
                        .filter(|major| *major >= needed)
                        .filter_map(|major| ask(&Path::new(DEBIAN).join(format!("{major}/bin")).join(name))),
                );
            }
        }
    }
    if let Some(at) = found.iter().position(|tool| tool.major >= needed) {
        return Ok(found.swap_remove(at));
    }
    let message = match (found.first(), folder) {
        (Some(tool), _) => format!(
            "{} is older than {than}, which is of version {needed}; hint: {hint}, or name where it is: tools = \"/usr/lib/postgresql/{needed}/bin\"",
            tool.version
        ),
        (None, Some(folder)) => format!("is not in {folder}; hint: correct tools in the configuration, or {hint}"),
        (None, None) => format!("is not installed; hint: {hint}"),
    };
    Err(Failure::Invalid { object: name.into(), message })
}

/// The program's version, if it is there and says one.
fn ask(path: &Path) -> Option<Tool> {
    let output = Command::new(path).arg("--version").stdin(Stdio::null()).output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_string();
    // `pg_dump (PostgreSQL) 17beta1 (Debian ...)`
    let number = version.split(") ").nth(1)?;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    let version = version.split(" (Debian").next().unwrap_or_default().to_string();
    Some(Tool { path: path.into(), major: digits.parse().ok()?, version })
}

impl Tool {
    /// The program on its way to a database: what it must know stands in its environment, which others cannot read.
    pub fn command(&self, url: &DatabaseUrl) -> Command {
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("PG")) {
                command.env_remove(name);
            }
        }
        command
            .env("PGHOST", &url.host)
            .env("PGPORT", url.port.to_string())
            .env("PGUSER", &url.user)
            .env("PGDATABASE", &url.database)
            .env("PGSSLMODE", url.ssl_mode.name())
            .env("PGCONNECT_TIMEOUT", url.connect_timeout_secs.to_string())
            .env("PGAPPNAME", "strongroom")
            .env("PGCLIENTENCODING", "UTF8")
            .env("PGTZ", "UTC")
            // Messages are read by this program too.
            .env("LC_ALL", "C")
            // Nobody is there to be asked.
            .env("PGPASSFILE", "/dev/null");
        if let Some(password) = &url.password {
            command.env("PGPASSWORD", password.expose());
        }
        if let Some(file) = &url.ssl_root_cert {
            command.env("PGSSLROOTCERT", file);
        }
        command.arg("--no-password").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Why it ended badly.
    pub fn failure(&self, url: &DatabaseUrl, status: &std::process::ExitStatus, complaint: &str) -> Failure {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let object = format!("{name} of {url}");
        let said = complaint.lines().filter(|line| !line.trim().is_empty()).take(8).collect::<Vec<_>>().join("; ");
        let hint = if complaint.contains("lock") && complaint.contains("timeout")
            || complaint.contains("could not obtain lock")
        {
            "; hint: somebody changes a table's definition; look into pg_stat_activity and try again"
        } else if complaint.contains("permission denied") {
            "; hint: a backup reads everything: GRANT pg_read_all_data TO the user; a restore needs the roles that own things"
        } else if complaint.contains("No space left") {
            "; hint: the file system is full"
        } else if complaint.contains("unsupported version") {
            "; hint: install the postgresql-client that the backup was taken with, or a newer one"
        } else {
            ""
        };
        let message = match said.is_empty() {
            true => format!("ended with {status}"),
            false => format!("{said}{hint}"),
        };
        Failure::Invalid { object, message }
    }
}

/// Reads what a program complains, to its end; keeps the first part, where the cause stands.
pub(super) fn complaint(mut stderr: impl Read) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length) = stderr.read(&mut buffer) {
        if length == 0 {
            break;
        }
        let room = COMPLAINT_BYTES - kept.len();
        kept.extend_from_slice(&buffer[..length.min(room)]);
    }
    String::from_utf8_lossy(&kept).trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_older_program_names_the_package() {
        let empty = tempfile::tempdir().unwrap();
        let folder = empty.path().to_str().unwrap();
        let error = find("pg_dump", Some(folder), ("the server", 15)).unwrap_err().to_string();
        assert!(error.contains("is not in") && error.contains("postgresql-client"), "{error}");
        let fake = empty.path().join("pg_dump");
        std::fs::write(&fake, "#!/bin/sh\necho 'pg_dump (PostgreSQL) 13.4 (Debian 13.4-1)'\n").unwrap();
        std::fs::set_permissions(&fake, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let error = find("pg_dump", Some(folder), ("the server", 15)).unwrap_err().to_string();
        assert!(error.starts_with("pg_dump: pg_dump (PostgreSQL) 13.4 is older than the server"), "{error}");
        assert_eq!(find("pg_dump", Some(folder), ("the server", 13)).unwrap().major, 13);
    }

    #[test]
    fn the_password_is_no_argument() {
        let tool = Tool { path: "pg_dump".into(), version: String::new(), major: 15 };
        let command = tool.command(&"postgresql://u:hunter2@h/d".parse().unwrap());
        assert!(!command.get_args().any(|argument| argument.to_string_lossy().contains("hunter2")));
        assert!(command.get_envs().any(|(name, value)| name == "PGPASSWORD" && value.is_some()));
    }
}

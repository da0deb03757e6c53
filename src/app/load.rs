//! The configuration, put together out of its file, the environment and the command line.

use std::path::{Path, PathBuf};

use super::wire::Problem;
use crate::config::{self, Config, Effective, Layers};

/// The file that is read when none is named.
const FILE: &str = "strongroom.toml";

/// What the caller says of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// `None`: `strongroom.toml`, or the environment alone where there is no such file.
    pub file: Option<PathBuf>,
    /// `KEY=VALUE`, over everything else.
    pub set: Vec<String>,
    /// The text of a configuration that stands in where there is neither a file nor anything in the environment.
    pub instead: Option<&'static str>,
}

impl Asked {
    /// The file: what it names is beside it.
    pub fn path(&self) -> PathBuf {
        self.file.clone().unwrap_or_else(|| FILE.into())
    }
}

/// Reads all there is, and tells what is wrong as a part of the answer. Gives also what was read: a file's path, or words.
///
/// # Errors
/// `Unreadable`: there is nothing to read.
pub fn effective(asked: &Asked) -> Result<(Effective, String), Problem> {
    let environment = |name: &str| std::env::var(name).ok();
    let path = asked.path();
    let (text, origin) = match std::fs::read_to_string(&path) {
        Ok(text) => (Some(text), path.display().to_string()),
        Err(error) if asked.file.is_none() && error.kind() == std::io::ErrorKind::NotFound => match asked.instead {
            Some(text) => (Some(text.to_string()), "built in".to_string()),
            None if config::speaks(&environment) => (None, "environment".to_string()),
            None => return Err(unreadable(&path, &error)),
        },
        Err(error) => return Err(unreadable(&path, &error)),
    };
    let layers = Layers { file: text.as_deref(), environment: &environment, flags: &asked.set };
    Ok((config::read(&layers), origin))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    Problem::Unreadable { path: path.display().to_string(), message: error.to_string() }
}

/// Reads the configuration.
///
/// # Errors
/// `Unreadable`, or `Config` with every problem.
pub fn load(asked: &Asked) -> Result<Config, Problem> {
    let (effective, path) = effective(asked)?;
    effective.config.ok_or(Problem::Config { path, problems: effective.problems })
}

/// What is logged: as `STRONGROOM_LOG` says, else more than errors where it is asked for, also by `BACKUP_DEBUG`.
pub fn log_filter(verbose: bool) -> String {
    let named = std::env::var("STRONGROOM_LOG").ok().filter(|filter| !filter.is_empty());
    let debug = std::env::var("BACKUP_DEBUG").ok().and_then(|text| config::switch(&text)).unwrap_or(false);
    named.unwrap_or_else(|| if verbose || debug { "warn,strongroom=debug".into() } else { "error".into() })
}

//! Settings of a tree of files.

use std::path::PathBuf;

use super::reader::Reader;
use crate::model::{PathPattern, Period};

/// A tree of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesSource {
    pub root: PathBuf,
    /// Only these and what is in them; empty: everything.
    pub include: Vec<PathPattern>,
    pub exclude: Vec<PathPattern>,
    /// Which groups of files that need no backup are left out.
    pub exclude_usual: Vec<Usual>,
    /// Every file is read again, whatever its times say, after so long.
    pub reread_after: Period,
    /// Folders on other file systems are left out.
    pub one_file_system: bool,
}

/// Files that need no backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Usual {
    Temporary,
    Cache,
    Logs,
    Generated,
}

impl Usual {
    pub const ALL: [Self; 4] = [Self::Temporary, Self::Cache, Self::Logs, Self::Generated];

    pub fn name(self) -> &'static str {
        match self {
            Self::Temporary => "temporary",
            Self::Cache => "cache",
            Self::Logs => "logs",
            Self::Generated => "generated",
        }
    }

    /// Their patterns. Folders of a name that people also give to their own (`build`, `dist`, `target`) are not among them.
    pub fn patterns(self) -> &'static [&'static str] {
        match self {
            Self::Temporary => &[
                "*.tmp",
                "*.temp",
                "*~",
                "*.swp",
                "*.swo",
                ".#*",
                "#*#",
                "*.part",
                "*.crdownload",
                ".DS_Store",
                "Thumbs.db",
                "desktop.ini",
                "tmp/",
                "temp/",
                ".tmp/",
            ],
            // Also every folder with a CACHEDIR.TAG (<https://bford.info/cachedir/>).
            Self::Cache => &[
                "cache/",
                ".cache/",
                "caches/",
                "__pycache__/",
                ".pytest_cache/",
                ".mypy_cache/",
                ".ruff_cache/",
                ".sass-cache/",
                ".parcel-cache/",
                ".eslintcache",
            ],
            Self::Logs => &["*.log", "*.log.*", "*.log-*", "logs/"],
            Self::Generated => &[
                "node_modules/",
                ".venv/",
                "venv/",
                ".tox/",
                ".nox/",
                ".terraform/",
                ".gradle/",
                ".next/",
                ".nuxt/",
                "*.pyc",
                "*.pyo",
                "*.o",
                "*.obj",
                "*.class",
            ],
        }
    }
}

pub(super) fn read_files(reader: &mut Reader<'_>) -> Option<FilesSource> {
    let root = reader.needed_text("root", "the folder that is backed up");
    let mut patterns = |key: &'static str| {
        let texts = reader.texts(key).unwrap_or_default();
        let mut read = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            match PathPattern::new(text) {
                Ok(pattern) => read.push(pattern),
                Err(message) => {
                    let path = format!("{}[{i}]", reader.path_of(key));
                    reader.problems().add(&path, message);
                }
            }
        }
        read
    };
    let include = patterns("include");
    let exclude = patterns("exclude");
    let exclude_usual = match reader.texts("exclude_usual") {
        None => Usual::ALL.to_vec(),
        Some(names) => {
            let mut groups = Vec::new();
            for (i, name) in names.iter().enumerate() {
                match Usual::ALL.into_iter().find(|group| group.name() == name) {
                    Some(group) => groups.push(group),
                    None => {
                        let path = format!("{}[{i}]", reader.path_of("exclude_usual"));
                        let known: Vec<&str> = Usual::ALL.into_iter().map(Usual::name).collect();
                        let message = format!("'{name}' is no group of files; hint: {}", known.join(", "));
                        reader.problems().add(&path, message);
                    }
                }
            }
            groups
        }
    };
    let reread_after = reader.parsed("reread_after").unwrap_or(Period::days(30));
    let one_file_system = reader.flag("one_file_system").unwrap_or(false);
    Some(FilesSource { root: root?.into(), include, exclude, exclude_usual, reread_after, one_file_system })
}

//! A tree as it is: its entries in order, and what is left out and why.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::codec::archive::{Moment, RelPath};
use crate::config::{FilesSource, Usual};
use crate::model::{Failure, PathPattern};

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Folder,
    File,
    Symlink,
}

/// An entry of the tree, not read yet.
#[derive(Debug, Clone)]
pub struct Found {
    pub path: RelPath,
    pub full: PathBuf,
    pub kind: Kind,
    pub stat: Stat,
}

/// What the file system says of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub size_bytes: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub modified: Moment,
    pub changed: Moment,
    pub inode: u64,
    pub device: u64,
    pub links: u64,
    /// What it takes on the disk.
    pub disk_bytes: u64,
}

impl Stat {
    pub fn of(meta: &std::fs::Metadata) -> Self {
        let moment =
            |seconds, nanoseconds: i64| Moment { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or(0) };
        Self {
            size_bytes: meta.len(),
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            modified: moment(meta.mtime(), meta.mtime_nsec()),
            changed: moment(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
            device: meta.dev(),
            links: meta.nlink(),
            disk_bytes: meta.blocks().saturating_mul(512),
        }
    }

    pub fn is_sparse(&self) -> bool {
        self.disk_bytes < self.size_bytes
    }
}

/// Left out because the configuration says so: files that somebody may need.
const EXCLUDED: &str = "excluded by the configuration";
const NOT_INCLUDED: &str = "not included by the configuration";

/// Why entries were left out, how many, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    reasons: BTreeMap<String, (u64, Vec<String>)>,
}

impl LeftOut {
    pub fn add(&mut self, reason: &str, path: &[u8]) {
        const NAMED: usize = 3;
        let (count, named) = self.reasons.entry(reason.into()).or_default();
        *count += 1;
        if named.len() < NAMED {
            named.push(String::from_utf8_lossy(path).chars().map(|c| if c.is_control() { '?' } else { c }).collect());
        }
    }

    /// Some of what the configuration leaves out; `None` where that is nothing.
    pub fn by_configuration(&self) -> Option<String> {
        let reasons = [EXCLUDED, NOT_INCLUDED].iter().filter_map(|reason| self.reasons.get(*reason));
        let named: Vec<&str> = reasons.flat_map(|(_, named)| named).map(String::as_str).collect();
        (!named.is_empty()).then(|| named.join(", "))
    }

    /// A line for each reason.
    pub fn notes(&self) -> Vec<String> {
        self.reasons
            .iter()
            .map(|(reason, (count, named))| {
                let more = if *count > named.len() as u64 { ", ..." } else { "" };
                format!("left out: {count} {reason}: {}{more}", named.join(", "))
            })
            .collect()
    }
}

/// Walks a tree; what is left out is counted.
pub struct Walk {
    inner: walkdir::IntoIter,
    root: PathBuf,
    rules: Rules,
    /// Folders that have been passed, and are part of the tree only if something in them is.
    pending: Vec<Found>,
    ready: std::collections::VecDeque<Found>,
    pub left_out: LeftOut,
}

struct Rules {
    include: Vec<PathPattern>,
    exclude: Vec<PathPattern>,
    usual: Vec<(Usual, PathPattern)>,
    /// Whether vaults of backups are left out.
    no_vaults: bool,
}

impl Walk {
    pub fn new(source: &FilesSource) -> Self {
        let usual = source.exclude_usual.iter().flat_map(|group| {
            let patterns = group.patterns().iter().filter_map(|text| PathPattern::new(text).ok());
            patterns.map(|pattern| (*group, pattern))
        });
        let rules = Rules {
            include: source.include.clone(),
            exclude: source.exclude.clone(),
            usual: usual.collect(),
            no_vaults: true,
        };
        Self::over(&source.root, rules, source.one_file_system)
    }

    /// Everything that is there.
    pub fn whole(root: &Path) -> Self {
        Self::over(root, Rules { include: vec![], exclude: vec![], usual: vec![], no_vaults: false }, false)
    }

    fn over(root: &Path, rules: Rules, one_file_system: bool) -> Self {
        let walk = WalkDir::new(root).min_depth(1).follow_links(false).follow_root_links(true);
        let inner = walk.same_file_system(one_file_system).sort_by_file_name().into_iter();
        let (pending, ready) = (vec![], std::collections::VecDeque::new());
        Self { inner, root: root.into(), rules, pending, ready, left_out: LeftOut::default() }
    }

    /// The next entry that is part of the tree.
    ///
    /// # Errors
    /// `Denied` for a folder that cannot be read.
    pub fn next_found(&mut self) -> Result<Option<Found>, Failure> {
        loop {
            if let Some(found) = self.ready.pop_front() {
                return Ok(Some(found));
            }
            let entry = match self.inner.next() {
                None => return Ok(None),
                Some(Ok(entry)) => entry,
                Some(Err(error)) => {
                    let gone = error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound);
                    if gone && error.depth() > 0 {
                        continue; // removed while the tree was walked
                    }
                    let path = error.path().unwrap_or(&self.root).display().to_string();
                    let message = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                    return Err(failure(&path, error.io_error(), &message));
                }
            };
            self.take(&entry)?;
        }
    }

    fn take(&mut self, entry: &DirEntry) -> Result<(), Failure> {
        let relative = entry.path().strip_prefix(&self.root).unwrap_or(entry.path());
        let bytes = relative.as_os_str().as_bytes().to_vec();
        let kind = match entry.file_type() {
            kind if kind.is_dir() => Kind::Folder,
            kind if kind.is_symlink() => Kind::Symlink,
            kind if kind.is_file() => Kind::File,
            _ => {
                self.left_out.add("devices, pipes and sockets", &bytes);
                return Ok(());
            }
        };
        let is_folder = kind == Kind::Folder;
        if let Some(reason) = self.rules.reason(&bytes, is_folder, entry.path()) {
            self.left_out.add(&reason, &bytes);
            if is_folder {
                self.inner.skip_current_dir();
            }
            return Ok(());
        }
        let path = match RelPath::new(&bytes) {
            Ok(path) => path,
            Err(_) => {
                self.left_out.add("paths that are too long or too deep", &bytes);
                if is_folder {
                    self.inner.skip_current_dir();
                }
                return Ok(());
            }
        };
        let stat = match entry.path().symlink_metadata() {
            Ok(meta) => Stat::of(&meta),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failure(&entry.path().display().to_string(), Some(&error), &error.to_string())),
        };
        let found = Found { path, full: entry.path().into(), kind, stat };
        if self.rules.include.is_empty() {
            self.ready.push_back(found);
            return Ok(());
        }
        let included = self.rules.include.iter().any(|pattern| pattern.covers(&bytes, is_folder));
        // A folder counts when something in it does: the folders that this entry does not lie in have had their turn.
        let (folder, _) = found.path.split();
        let lies_in = |pending: &Found| {
            folder.is_some_and(|folder| {
                let rest = folder.strip_prefix(pending.path.as_bytes());
                rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
            })
        };
        self.pending.retain(lies_in);
        match (included, is_folder) {
            (true, _) => {
                self.ready.extend(self.pending.drain(..));
                self.ready.push_back(found);
            }
            (false, true) => self.pending.push(found),
            (false, false) => self.left_out.add(NOT_INCLUDED, &bytes),
        }
        Ok(())
    }
}

impl Rules {
    fn reason(&self, path: &[u8], is_folder: bool, full: &Path) -> Option<String> {
        if self.exclude.iter().any(|pattern| pattern.matches(path, is_folder)) {
            return Some(EXCLUDED.into());
        }
        if let Some((group, _)) = self.usual.iter().find(|(_, pattern)| pattern.matches(path, is_folder)) {
            return Some(group_name(*group).into());
        }
        if is_folder {
            let cache = self.usual.iter().any(|(group, _)| *group == Usual::Cache);
            if cache && full.join("CACHEDIR.TAG").is_file() {
                return Some(group_name(Usual::Cache).into());
            }
            // A vault within the tree would hold itself.
            if self.no_vaults && full.join("_strongroom").is_dir() {
                return Some("vaults of backups".into());
            }
        }
        None
    }
}

fn group_name(group: Usual) -> &'static str {
    match group {
        Usual::Temporary => "temporary",
        Usual::Cache => "caches",
        Usual::Logs => "logs",
        Usual::Generated => "generated",
    }
}

/// What an error of the file system means for whoever backs it up.
pub fn failure(object: &str, error: Option<&std::io::Error>, message: &str) -> Failure {
    let object = object.to_string();
    match error.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::NotFound) => {
            Failure::NotFound { object, message: "there is no such file or folder".into() }
        }
        Some(std::io::ErrorKind::PermissionDenied) => {
            let message = format!("{message}; hint: run as a user who may read it, or exclude it");
            Failure::Precondition { object, message }
        }
        _ => Failure::Invalid { object, message: message.into() },
    }
}

//! Writes a tree from its index and archives, and compares it with them.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::fetch::Contents;
use super::pack::{broken, local};
use super::place::Placer;
use super::walk::{Found, Kind, Walk, failure};
use crate::codec::archive::{Content, Entry, IndexReader, RelPath, What};
use crate::codec::digest::Digester;
use crate::model::{Failure, Pattern};

/// Zeros of so many bytes become a hole in a file that had some.
const HOLE_BYTES: usize = 64 << 10;
/// Differences that are named.
const NAMED: usize = 20;

/// What was written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    pub file_count: u64,
    pub entry_count: u64,
    pub content_bytes: u64,
}

/// Which entries are wanted: all, or those of a pattern and what lies in them.
pub struct Wanted<'a>(pub &'a [Pattern]);

impl Wanted<'_> {
    pub fn all(&self) -> bool {
        self.0.is_empty()
    }

    pub fn is(&self, path: &RelPath) -> bool {
        if self.all() {
            return true;
        }
        let bytes = path.as_bytes();
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([bytes.len()]);
        let mut names = ends.map(|end| String::from_utf8_lossy(&bytes[..end]).into_owned());
        names.any(|name| self.0.iter().any(|pattern| pattern.matches(&name)))
    }
}

/// The entries that are wanted, and the folders that lead to them.
pub struct Selected<'a> {
    entries: IndexReader<BufReader<File>>,
    wanted: &'a Wanted<'a>,
    /// Folders that are given out as soon as something in them is.
    pending: Vec<Entry>,
    ready: std::collections::VecDeque<Entry>,
}

impl<'a> Selected<'a> {
    pub fn new(index: &File, wanted: &'a Wanted<'a>) -> Result<Self, Failure> {
        let mut index = index.try_clone().map_err(local)?;
        index.seek(SeekFrom::Start(0)).map_err(local)?;
        let entries = IndexReader::open(index).map_err(broken)?;
        Ok(Self { entries, wanted, pending: vec![], ready: std::collections::VecDeque::new() })
    }

    pub fn next_entry(&mut self) -> Result<Option<Entry>, Failure> {
        while self.ready.is_empty() {
            let Some(entry) = self.entries.next_entry().map_err(broken)? else { return Ok(None) };
            let (folder, _) = entry.path.split();
            self.pending.retain(|pending| {
                let rest = folder.and_then(|folder| folder.strip_prefix(pending.path.as_bytes()));
                rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
            });
            if self.wanted.is(&entry.path) {
                self.ready.extend(self.pending.drain(..));
                self.ready.push_back(entry);
            } else if entry.what == What::Folder {
                self.pending.push(entry);
            }
        }
        Ok(self.ready.pop_front())
    }
}

/// Writes what is wanted of a tree into an empty folder.
///
/// # Errors
/// `Corrupt` for a content that is not what the index says, or an entry that cannot be where it says.
pub fn unpack(
    index: &File,
    mut contents: Contents,
    into: &Path,
    wanted: &Wanted<'_>,
    root_mode: u32,
) -> Result<Unpacked, Failure> {
    let mut placer = Placer::new(into)?;
    let mut unpacked = Unpacked::default();
    let mut entries = Selected::new(index, wanted)?;
    while let Some(entry) = entries.next_entry()? {
        unpacked.entry_count += 1;
        match &entry.what {
            What::Folder => placer.folder(&entry)?,
            What::Symlink { target } => placer.symlink(&entry, target)?,
            What::File(Content { hard_link: Some(to), .. }) if wanted.is(to) => {
                placer.hard_link(&entry.path, to)?;
                unpacked.file_count += 1;
            }
            What::File(content) => {
                write(&mut placer, &mut contents, &entry, content)?;
                unpacked.file_count += 1;
                unpacked.content_bytes += content.size_bytes;
            }
        }
    }
    contents.finish()?;
    placer.finish(root_mode)?;
    Ok(unpacked)
}

fn write(placer: &mut Placer, contents: &mut Contents, entry: &Entry, content: &Content) -> Result<(), Failure> {
    let mut file = placer.file(&entry.path)?;
    let failed = |error: std::io::Error| failure(&entry.shown(), Some(&error), &error.to_string());
    let mut digester = Digester::new();
    if let Some(place) = content.place {
        let mut hole = 0_u64;
        contents.copy(place, content.size_bytes, |bytes| {
            digester.update(bytes);
            if !content.sparse {
                return file.write_all(bytes).map_err(failed);
            }
            for piece in bytes.chunks(HOLE_BYTES) {
                if piece.iter().all(|byte| *byte == 0) {
                    hole += piece.len() as u64;
                    continue;
                }
                if hole > 0 {
                    file.seek(SeekFrom::Current(hole.cast_signed())).map_err(failed)?;
                    hole = 0;
                }
                file.write_all(piece).map_err(failed)?;
            }
            Ok(())
        })?;
        if content.sparse {
            file.set_len(content.size_bytes).map_err(failed)?;
        }
    }
    if digester.finish().sha256 != content.sha256 {
        let message = "the archive holds another content than the index says".to_string();
        return Err(Failure::Corrupt { object: entry.shown(), message });
    }
    placer.settle(&file, entry)
}

/// Reads every content that an index tells of, and holds it against that. Gives what differs, and the numbers of the archives
/// that were read whole.
///
/// # Errors
/// When something cannot be read, or is none of ours.
pub fn check(
    index: &File,
    mut contents: Contents,
    expected_file_count: u64,
) -> Result<(Vec<String>, Vec<usize>), Failure> {
    let mut differences = Vec::new();
    let mut file_count = 0;
    let everything = Wanted(&[]);
    let mut entries = Selected::new(index, &everything)?;
    while let Some(entry) = entries.next_entry()? {
        let What::File(content) = &entry.what else { continue };
        file_count += 1;
        if content.hard_link.is_some() {
            continue; // the content is the other name's
        }
        let mut digester = Digester::new();
        if let Some(place) = content.place {
            contents.copy(place, content.size_bytes, |bytes| {
                digester.update(bytes);
                Ok(())
            })?;
        }
        if digester.finish().sha256 != content.sha256 && differences.len() < NAMED {
            differences.push(format!("{}: the archive holds another content than the index says", entry.path));
        }
    }
    if file_count != expected_file_count {
        differences.push(format!("the index holds {file_count} files, recorded were {expected_file_count}"));
    }
    Ok((differences, contents.finish()?))
}

/// Compares a tree with its index: every entry, every byte. What differs, the first of it; empty when it is the same.
///
/// # Errors
/// When it cannot be read.
pub fn compare(index: &File, mut walk: Walk, wanted: &Wanted<'_>) -> Result<Vec<String>, Failure> {
    let is_root = super::place::is_root();
    let mut entries = Selected::new(index, wanted)?;
    let mut differences = Vec::new();
    let (mut entry, mut found) = (entries.next_entry()?, walk.next_found()?);
    while differences.len() < NAMED {
        let order = match (&entry, &found) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(entry), Some(found)) => entry.path.cmp(&found.path),
        };
        match (order, &entry, &found) {
            (std::cmp::Ordering::Less, Some(missing), _) => {
                differences.push(format!("{}: is missing", missing.path));
                entry = entries.next_entry()?;
            }
            (std::cmp::Ordering::Greater, _, Some(more)) => {
                differences.push(format!("{}: should not be there", more.path));
                found = walk.next_found()?;
            }
            (_, Some(expected), Some(there)) => {
                if let Some(difference) = difference(expected, there, is_root)? {
                    differences.push(format!("{}: {difference}", expected.path));
                }
                entry = entries.next_entry()?;
                found = walk.next_found()?;
            }
            _ => break,
        }
    }
    Ok(differences)
}

fn difference(entry: &Entry, found: &Found, is_root: bool) -> Result<Option<String>, Failure> {
    let failed = |error: std::io::Error| failure(&found.full.display().to_string(), Some(&error), &error.to_string());
    let same_kind = matches!(
        (&entry.what, found.kind),
        (What::Folder, Kind::Folder) | (What::File(_), Kind::File) | (What::Symlink { .. }, Kind::Symlink)
    );
    if !same_kind {
        return Ok(Some("is of another kind".into()));
    }
    if let What::Symlink { target } = &entry.what {
        let there = std::fs::read_link(&found.full).map_err(failed)?;
        return Ok((there.as_os_str().as_bytes() != target.as_slice()).then(|| "leads elsewhere".into()));
    }
    let foreign = (found.stat.uid, found.stat.gid) != (entry.uid, entry.gid);
    let mask = if foreign && !is_root { 0o1777 } else { 0o7777 };
    if found.stat.mode & mask != entry.mode & mask {
        return Ok(Some(format!("has mode {:o}, expected {:o}", found.stat.mode, entry.mode)));
    }
    if found.stat.modified != entry.modified {
        return Ok(Some("has another time".into()));
    }
    if is_root && foreign {
        return Ok(Some("has another owner".into()));
    }
    let What::File(content) = &entry.what else { return Ok(None) };
    if found.stat.size_bytes != content.size_bytes {
        return Ok(Some(format!("has {} bytes, expected {}", found.stat.size_bytes, content.size_bytes)));
    }
    let mut file = File::open(&found.full).map_err(failed)?;
    let mut digester = Digester::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            length => digester.update(&buffer[..length]),
        }
    }
    Ok((digester.finish().sha256 != content.sha256).then(|| "has another content".into()))
}

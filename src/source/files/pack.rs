//! Reads a tree into archives and an index: what is unchanged is referred to, the rest is stored.
//!
//! Runs on threads of its own: one reads, some compress, one hands on in order. What is in memory is a few frames a thread.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};

use super::walk::{Found, Kind, Stat, Walk, failure};
use crate::codec::archive::{
    self, Compressor, Content, END, Entry, FRAME_BYTES, Frames, IndexReader, IndexWriter, MAX_FRAME_BYTES, Place,
    RelPath, What,
};
use crate::codec::digest::Digester;
use crate::config::FilesSource;
use crate::manifest::FilesRecord;
use crate::model::Failure;
use crate::plan::archives;

/// An archive is ended after so much content: what is no longer needed is given up by archive.
pub const ARCHIVE_BYTES: u64 = 1 << 30;
/// How often a file is read that is changed meanwhile.
const READS: usize = 3;
const MAX_THREADS: usize = 8;
/// What is handed on in one piece.
const PIECE_BYTES: usize = 256 << 10;
/// Files that are named in a note; of the others there is a number.
const NAMED: usize = 5;

/// What the threads give out.
pub enum Piece {
    Bytes(Bytes),
    /// The archive is whole.
    End,
    Failed(Failure),
}

/// The newest backup of the same tree, and its index.
pub struct Last {
    pub record: FilesRecord,
    pub index: File,
}

/// What was read and what came of it.
pub struct Packed {
    pub index: File,
    /// Archives of earlier backups, by their numbers there, and what of each is needed.
    pub kept: Vec<(usize, u64)>,
    /// Content and needed bytes of the archives that were written.
    pub written: Vec<u64>,
    pub file_count: u64,
    pub folder_count: u64,
    pub symlink_count: u64,
    pub content_bytes: u64,
    pub stored_bytes: u64,
    pub stored_count: u64,
    pub in_full: bool,
    pub notes: Vec<String>,
}

/// How far it is, for whoever watches.
#[derive(Default)]
pub struct Progress {
    pub done: AtomicU64,
    pub total: AtomicU64,
}

/// What the tree's earlier state says of a path.
type Before = Option<Entry>;

/// Reads the tree.
///
/// # Errors
/// When something in it cannot be read, or nobody takes what is given out.
pub fn pack(
    source: &FilesSource,
    last: Option<Last>,
    taken_at: Timestamp,
    out: &tokio::sync::mpsc::Sender<Piece>,
    progress: &Progress,
) -> Result<Packed, Failure> {
    let read = read(source, last, taken_at, out, progress);
    if let Err(failure) = &read {
        // Whoever takes the pieces must not take what there is for a whole archive. Gone already: as good.
        let _ = out.blocking_send(Piece::Failed(failure.clone()));
    }
    read
}

fn read(
    source: &FilesSource,
    mut last: Option<Last>,
    taken_at: Timestamp,
    out: &tokio::sync::mpsc::Sender<Piece>,
    progress: &Progress,
) -> Result<Packed, Failure> {
    let (total, needed) = look(source, last.as_mut())?;
    progress.total.store(total, Ordering::Relaxed);
    let in_full = last.as_ref().is_none_or(|last| {
        let since = taken_at.duration_since(last.record.read_in_full_at);
        since.as_secs() < 0 || since.as_secs().unsigned_abs() >= source.reread_after.as_secs()
    });
    let earlier: Vec<(u64, u64)> = last.as_ref().map_or(vec![], |last| {
        last.record.archives.iter().zip(&needed).map(|(archive, needed)| (archive.content_bytes, *needed)).collect()
    });
    let mut renumbered = HashMap::new();
    let mut kept = Vec::new();
    for (at, _) in archives::kept(&earlier).into_iter().enumerate().filter(|(_, kept)| *kept) {
        renumbered.insert(at as u32, kept.len() as u32);
        kept.push((at, 0));
    }
    let index = tempfile::tempfile().map_err(local)?;
    let index = IndexWriter::new(std::io::BufWriter::with_capacity(1 << 20, index), taken_at).map_err(local)?;
    let before = last.as_mut().map(|last| Cursor::new(&last.index)).transpose()?;

    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    std::thread::scope(|scope| {
        let (jobs, todo) = sync_channel::<Job>(threads);
        let (ordered, next) = sync_channel::<Ordered>(2 * threads);
        let todo = Arc::new(Mutex::new(todo));
        for _ in 0..threads {
            let todo = todo.clone();
            scope.spawn(move || compress(&todo));
        }
        drop(todo);
        let giver = scope.spawn(move || give(&next, out));
        let reader = Reader {
            first_number: kept.len() as u32,
            frames: Packer { frame: Vec::new(), number: 0, archive: kept.len() as u32, content: 0, jobs, ordered },
            renumbered,
            kept,
            in_full,
            is_first: before.is_none(),
            index,
            links: HashMap::new(),
            folders: Vec::new(),
            written: Vec::new(),
            tally: Tally::default(),
            notes: Notes::default(),
            progress,
        };
        let packed = reader.tree(source, before);
        // The threads end when there is nothing more: `reader` and its senders are gone.
        let given = giver.join().unwrap_or_else(|_| Err(stopped()));
        packed.and_then(|packed| given.map(|()| packed))
    })
}

/// What lies in the tree by its times: all bytes, and how many of each earlier archive are still needed.
fn look(source: &FilesSource, last: Option<&mut Last>) -> Result<(u64, Vec<u64>), Failure> {
    let mut needed = vec![0; last.as_ref().map_or(0, |last| last.record.archives.len())];
    let mut before = last.map(|last| Cursor::new(&last.index)).transpose()?;
    let mut walk = Walk::new(source);
    let mut total = 0;
    while let Some(found) = walk.next_found()? {
        if found.kind == Kind::File {
            total += found.stat.size_bytes;
        }
        let Some(before) = &mut before else { continue };
        if let Some(old) = before.at(&found.path)?
            && let What::File(Content { place: Some(place), size_bytes, hard_link: None, .. }) = &old.what
            && entry(&found, old.what.clone()).is_unchanged(&old)
            && let Some(needed) = needed.get_mut(place.archive as usize)
        {
            *needed += size_bytes;
        }
    }
    Ok((total, needed))
}

/// Goes through an index beside a walk in the same order.
struct Cursor {
    entries: IndexReader<BufReader<File>>,
    next: Option<Entry>,
}

impl Cursor {
    fn new(index: &File) -> Result<Self, Failure> {
        let mut index = index.try_clone().map_err(local)?;
        index.seek(SeekFrom::Start(0)).map_err(local)?;
        let mut entries = IndexReader::open(index).map_err(broken)?;
        let next = entries.next_entry().map_err(broken)?;
        Ok(Self { entries, next })
    }

    /// The entry of this path, where there is one. Paths are asked for in order.
    fn at(&mut self, path: &RelPath) -> Result<Before, Failure> {
        while self.next.as_ref().is_some_and(|next| next.path < *path) {
            self.next = self.entries.next_entry().map_err(broken)?;
        }
        if self.next.as_ref().is_some_and(|next| next.path == *path) {
            let found = self.next.take();
            self.next = self.entries.next_entry().map_err(broken)?;
            return Ok(found);
        }
        Ok(None)
    }
}

/// What was counted.
#[derive(Default)]
struct Tally {
    files: u64,
    folders: u64,
    symlinks: u64,
    content_bytes: u64,
    stored_bytes: u64,
    stored_count: u64,
}

/// What a person should know, in bounded words.
#[derive(Default)]
struct Notes {
    unsettled: (u64, Vec<String>),
    silently_changed: (u64, Vec<String>),
    databases: (u64, Vec<String>),
}

impl Notes {
    fn add((count, named): &mut (u64, Vec<String>), path: String) {
        *count += 1;
        if named.len() < NAMED {
            named.push(path);
        }
    }

    fn lines(self) -> Vec<String> {
        let line = |(count, named): (u64, Vec<String>), what: &str| {
            let more = if count > named.len() as u64 { ", ..." } else { "" };
            (count > 0).then(|| format!("{count} {what}: {}{more}", named.join(", ")))
        };
        [
            line(self.unsettled, "files were changed each time they were read"),
            line(self.silently_changed, "files have another content than their times and inode say"),
            line(
                self.databases,
                "SQLite databases with a log beside them; hint: a source of kind sqlite takes them whole",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

struct Reader<'a> {
    first_number: u32,
    frames: Packer,
    /// New numbers of the earlier archives that are kept.
    renumbered: HashMap<u32, u32>,
    kept: Vec<(usize, u64)>,
    in_full: bool,
    is_first: bool,
    index: IndexWriter<std::io::BufWriter<File>>,
    /// Files with more than one name: the first of them, and its content.
    links: HashMap<(u64, u64), (RelPath, Content)>,
    /// The folders that lead to where we are, and whether the archive has them.
    folders: Vec<(Entry, bool)>,
    written: Vec<u64>,
    tally: Tally,
    notes: Notes,
    progress: &'a Progress,
}

impl Reader<'_> {
    fn tree(mut self, source: &FilesSource, mut before: Option<Cursor>) -> Result<Packed, Failure> {
        let mut walk = Walk::new(source);
        while let Some(found) = walk.next_found()? {
            let old = match &mut before {
                Some(before) => before.at(&found.path)?,
                None => None,
            };
            self.take(&found, old)?;
        }
        self.end_archive()?;
        let mut index = self.index.finish().map_err(local)?.into_inner().map_err(|error| local(error.into_error()))?;
        index.flush().map_err(local)?;
        index.seek(SeekFrom::Start(0)).map_err(local)?;
        let mut notes = walk.left_out.notes();
        notes.extend(self.notes.lines());
        Ok(Packed {
            index,
            kept: self.kept,
            written: self.written,
            file_count: self.tally.files,
            folder_count: self.tally.folders,
            symlink_count: self.tally.symlinks,
            content_bytes: self.tally.content_bytes,
            stored_bytes: self.tally.stored_bytes,
            stored_count: self.tally.stored_count,
            in_full: self.in_full,
            notes,
        })
    }

    fn take(&mut self, found: &Found, before: Before) -> Result<(), Failure> {
        let (folder, _) = found.path.split();
        let lies_in = |open: &RelPath| {
            let rest = folder.and_then(|folder| folder.strip_prefix(open.as_bytes()));
            rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        while self.folders.last().is_some_and(|(open, _)| !lies_in(&open.path)) {
            self.folders.pop();
        }
        let entry = match found.kind {
            Kind::Folder => {
                self.tally.folders += 1;
                let entry = entry(found, What::Folder);
                self.folders.push((entry.clone(), false));
                if self.is_first {
                    self.put_folders()?;
                }
                entry
            }
            Kind::Symlink => {
                let target = match std::fs::read_link(&found.full) {
                    Ok(target) => target.into_os_string().into_vec(),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                    Err(error) => return Err(of_path(found, &error)),
                };
                self.tally.symlinks += 1;
                let entry = entry(found, What::Symlink { target });
                if before.is_none_or(|before| before.what != entry.what) {
                    self.put_folders()?;
                    self.frames.put(&archive::header(&entry, 0, None))?;
                }
                entry
            }
            Kind::File => match self.file(found, before)? {
                Some(entry) => entry,
                None => return Ok(()), // removed before it was read
            },
        };
        self.index.put(&entry).map_err(local)
    }

    fn file(&mut self, found: &Found, before: Before) -> Result<Option<Entry>, Failure> {
        self.progress.done.fetch_add(found.stat.size_bytes, Ordering::Relaxed);
        if let Some(name) = found.path.as_bytes().strip_suffix(b"-wal").filter(|_| found.stat.size_bytes > 0)
            && name.ends_with(b"db") | name.ends_with(b"sqlite") | name.ends_with(b"sqlite3")
        {
            Notes::add(&mut self.notes.databases, found.path.to_string());
        }
        let identity = (found.stat.device, found.stat.inode);
        if found.stat.links > 1
            && let Some((first, content)) = self.links.get(&identity)
        {
            let content = Content { hard_link: Some(first.clone()), ..content.clone() };
            let first = first.clone();
            let entry = entry(found, What::File(content.clone()));
            // A tar's hard link is to what the same tar holds.
            if content.place.is_some_and(|place| place.archive == self.frames.archive) {
                self.put_folders()?;
                self.frames.put(&archive::header(&entry, 0, Some(&first)))?;
            }
            self.tally.files += 1;
            return Ok(Some(entry));
        }
        let earlier = before.and_then(|before| self.usable(before));
        let unchanged = |before: &Entry| entry(found, before.what.clone()).is_unchanged(before);
        let read = match earlier {
            Some(before) if !self.in_full && unchanged(&before) => Some(entry(found, before.what)),
            earlier => self.read_file(found, earlier)?,
        };
        let Some(entry) = read else { return Ok(None) };
        if let What::File(content) = &entry.what {
            self.tally.files += 1;
            self.tally.content_bytes += content.size_bytes;
            if content.unsettled {
                Notes::add(&mut self.notes.unsettled, found.path.to_string());
            }
            let earlier = content.place.and_then(|place| self.kept.get_mut(place.archive as usize));
            if let Some((_, needed)) = earlier {
                *needed += content.size_bytes;
            }
            if found.stat.links > 1 {
                self.links.insert(identity, (found.path.clone(), content.clone()));
            }
        }
        Ok(Some(entry))
    }

    /// What was there before, with its place among the archives that are kept; `None` when its archive is given up.
    fn usable(&self, mut before: Entry) -> Before {
        let What::File(content) = &mut before.what else { return None };
        content.hard_link = None;
        if let Some(place) = &mut content.place {
            place.archive = *self.renumbered.get(&place.archive)?;
        }
        Some(before)
    }

    /// Reads a file and stores it, where its content is not stored already.
    fn read_file(&mut self, found: &Found, earlier: Before) -> Result<Option<Entry>, Failure> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut file = match rustix::fs::open(&found.full, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP) => return Ok(None),
            Err(error) => return Err(of_path(found, &error.into())),
        };
        let stat = |file: &File| file.metadata().map_err(|error| of_path(found, &error));
        let meta = stat(&file)?;
        if !meta.is_file() {
            return Ok(None); // something else has taken its place
        }
        let mut before = Stat::of(&meta);
        let same_as = |digests: &crate::model::Digests, earlier: &Before| {
            earlier.as_ref().and_then(|earlier| match &earlier.what {
                What::File(content) if content.sha256 == digests.sha256 && content.size_bytes == digests.size_bytes => {
                    Some(content.clone())
                }
                _ => None,
            })
        };
        for read in 1..=READS {
            let last = read == READS;
            let mut whole = None;
            let digests = if before.size_bytes <= FRAME_BYTES as u64 {
                let mut content = Vec::with_capacity(before.size_bytes as usize);
                // One byte more tells that it has grown.
                { &mut file }
                    .take(before.size_bytes + 1)
                    .read_to_end(&mut content)
                    .map_err(|error| of_path(found, &error))?;
                content.truncate(before.size_bytes as usize);
                let digests = crate::model::Digests::of(&content);
                whole = Some(content);
                Some(digests)
            } else if earlier.is_some() {
                Some(digest(&mut file, before.size_bytes).map_err(|error| of_path(found, &error))?)
            } else {
                None
            };
            let after = |file: &File| stat(file).map(|meta| Stat::of(&meta));
            if let Some(digests) = &digests {
                let now = after(&file)?;
                if !now.is_same(&before) && !last {
                    before = now;
                    file.seek(SeekFrom::Start(0)).map_err(|error| of_path(found, &error))?;
                    continue;
                }
                if let Some(content) = same_as(digests, &earlier) {
                    let content = Content { unsettled: !now.is_same(&before), sparse: before.is_sparse(), ..content };
                    return Ok(Some(entry_of(found, &before, content)));
                }
                if let Some(earlier) = &earlier
                    && entry(found, earlier.what.clone()).is_unchanged(earlier)
                {
                    Notes::add(&mut self.notes.silently_changed, found.path.to_string());
                }
            }
            let (size_bytes, sha256, place) = match whole {
                Some(content) => {
                    let size = content.len() as u64;
                    let place = self.store(found, &before, size, &mut content.as_slice())?;
                    (size, digests.map(|digests| digests.sha256).unwrap_or_default(), place.0)
                }
                None => {
                    file.seek(SeekFrom::Start(0)).map_err(|error| of_path(found, &error))?;
                    let (place, digests) = self.store(found, &before, before.size_bytes, &mut file)?;
                    (before.size_bytes, digests.sha256, place)
                }
            };
            let now = after(&file)?;
            let unsettled = !now.is_same(&before);
            if unsettled && !last {
                // What was stored stands in the tar before what counts, as in any tar that was appended to.
                before = now;
                file.seek(SeekFrom::Start(0)).map_err(|error| of_path(found, &error))?;
                continue;
            }
            let place = (size_bytes > 0).then_some(place);
            let content = Content { size_bytes, sha256, place, sparse: before.is_sparse(), unsettled, hard_link: None };
            return Ok(Some(entry_of(found, &before, content)));
        }
        Ok(None)
    }

    /// Puts a file into the archive: exactly so many bytes, whatever the file has become meanwhile.
    fn store(
        &mut self,
        found: &Found,
        stat: &Stat,
        size_bytes: u64,
        content: &mut dyn Read,
    ) -> Result<(Place, crate::model::Digests), Failure> {
        if self.frames.content >= ARCHIVE_BYTES {
            self.end_archive()?;
        }
        self.put_folders()?;
        let blank =
            Content { size_bytes, sha256: [0; 32], place: None, sparse: false, unsettled: false, hard_link: None };
        self.frames.put(&archive::header(&entry_of(found, stat, blank), size_bytes, None))?;
        let place = self.frames.place();
        let mut digester = Digester::new();
        let mut left = size_bytes;
        let mut buffer = vec![0; PIECE_BYTES.min(usize::try_from(size_bytes).unwrap_or(PIECE_BYTES)).max(1)];
        while left > 0 {
            let length = left.min(buffer.len() as u64) as usize;
            let read = match content.read(&mut buffer[..length]) {
                Ok(0) => {
                    buffer[..length].fill(0); // it has become shorter: the header's size must stay true
                    length
                }
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(of_path(found, &error)),
            };
            digester.update(&buffer[..read]);
            self.frames.put(&buffer[..read])?;
            left -= read as u64;
        }
        self.frames.put(&[0; archive::BLOCK][..archive::padding(size_bytes)])?;
        self.frames.file_end()?;
        self.frames.content += size_bytes;
        self.tally.stored_bytes += size_bytes;
        self.tally.stored_count += 1;
        Ok((place, digester.finish()))
    }

    /// The folders that lead here, where the archive does not have them yet.
    fn put_folders(&mut self) -> Result<(), Failure> {
        for (folder, is_there) in self.folders.iter_mut().filter(|(_, is_there)| !is_there) {
            self.frames.put(&archive::header(folder, 0, None))?;
            *is_there = true;
        }
        Ok(())
    }

    fn end_archive(&mut self) -> Result<(), Failure> {
        if self.frames.is_empty() {
            return Ok(());
        }
        self.written.push(self.frames.content);
        self.frames.end()?;
        self.frames.archive = self.first_number + self.written.len() as u32;
        self.folders.iter_mut().for_each(|(_, is_there)| *is_there = false);
        Ok(())
    }
}

impl Stat {
    /// Whether a file was not changed between two looks.
    fn is_same(&self, other: &Self) -> bool {
        (self.size_bytes, self.modified, self.changed) == (other.size_bytes, other.modified, other.changed)
    }
}

struct Job {
    content: Vec<u8>,
    reply: SyncSender<std::io::Result<Vec<u8>>>,
}

enum Ordered {
    Frame { content_bytes: u32, stored: Receiver<std::io::Result<Vec<u8>>> },
    End,
}

/// Cuts a tar into frames.
struct Packer {
    frame: Vec<u8>,
    number: u64,
    archive: u32,
    /// Files' bytes in this archive.
    content: u64,
    jobs: SyncSender<Job>,
    ordered: SyncSender<Ordered>,
}

impl Packer {
    /// Where the next byte comes to lie.
    fn place(&self) -> Place {
        Place { archive: self.archive, frame: self.number, skip: self.frame.len() as u64 }
    }

    fn is_empty(&self) -> bool {
        self.number == 0 && self.frame.is_empty()
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let fits = bytes.len().min(MAX_FRAME_BYTES - self.frame.len());
            self.frame.extend_from_slice(&bytes[..fits]);
            bytes = &bytes[fits..];
            if self.frame.len() >= MAX_FRAME_BYTES {
                self.cut()?;
            }
        }
        Ok(())
    }

    fn file_end(&mut self) -> Result<(), Failure> {
        if self.frame.len() >= FRAME_BYTES { self.cut() } else { Ok(()) }
    }

    fn cut(&mut self) -> Result<(), Failure> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let content = std::mem::replace(&mut self.frame, Vec::with_capacity(FRAME_BYTES));
        let content_bytes = content.len() as u32;
        let (reply, stored) = sync_channel(1);
        self.jobs.send(Job { content, reply }).map_err(|_| stopped())?;
        self.ordered.send(Ordered::Frame { content_bytes, stored }).map_err(|_| stopped())?;
        self.number += 1;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        self.put(&END)?;
        self.cut()?;
        self.ordered.send(Ordered::End).map_err(|_| stopped())?;
        (self.number, self.content) = (0, 0);
        Ok(())
    }
}

fn compress(todo: &Mutex<Receiver<Job>>) {
    let mut compressor = Compressor::new();
    loop {
        let job = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { content, reply }) = job else { return };
        let frame = match &mut compressor {
            Ok(compressor) => compressor.frame(&content),
            Err(error) => Err(std::io::Error::other(error.to_string())),
        };
        // Nobody waits for it any more: the next look at the queue ends this thread.
        let _ = reply.send(frame);
    }
}

/// Hands frames on in order, and each archive's table after them.
fn give(next: &Receiver<Ordered>, out: &tokio::sync::mpsc::Sender<Piece>) -> Result<(), Failure> {
    let mut frames = Frames::default();
    let send = |bytes: Vec<u8>| {
        let mut bytes = Bytes::from(bytes);
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            out.blocking_send(Piece::Bytes(piece)).map_err(|_| stopped())?;
        }
        Ok(())
    };
    while let Ok(ordered) = next.recv() {
        match ordered {
            Ordered::Frame { content_bytes, stored } => {
                let frame = stored.recv().map_err(|_| stopped())?.map_err(local)?;
                frames.0.push((frame.len() as u32, content_bytes));
                send(frame)?;
            }
            Ordered::End => {
                send(archive::seek_table(&std::mem::take(&mut frames)))?;
                out.blocking_send(Piece::End).map_err(|_| stopped())?;
            }
        }
    }
    Ok(())
}

fn digest(file: &mut File, size_bytes: u64) -> std::io::Result<crate::model::Digests> {
    let mut digester = Digester::new();
    let mut buffer = vec![0; PIECE_BYTES];
    let mut content = file.take(size_bytes);
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(digester.finish()),
            Ok(length) => digester.update(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn entry(found: &Found, what: What) -> Entry {
    let Stat { mode, uid, gid, modified, changed, inode, .. } = found.stat;
    // Content of before says what its size was, not what it is.
    let what = match what {
        What::File(content) if content.size_bytes != found.stat.size_bytes => {
            What::File(Content { size_bytes: found.stat.size_bytes, ..content })
        }
        what => what,
    };
    Entry { path: found.path.clone(), what, mode, uid, gid, modified, changed, inode }
}

fn entry_of(found: &Found, stat: &Stat, content: Content) -> Entry {
    let Stat { mode, uid, gid, modified, changed, inode, .. } = *stat;
    Entry { path: found.path.clone(), what: What::File(content), mode, uid, gid, modified, changed, inode }
}

fn of_path(found: &Found, error: &std::io::Error) -> Failure {
    failure(&found.full.display().to_string(), Some(error), &error.to_string())
}

pub(super) fn broken(hostile: archive::Hostile) -> Failure {
    Failure::Corrupt { object: hostile.at, message: hostile.message }
}

pub(super) fn local(error: std::io::Error) -> Failure {
    Failure::Transient { object: "temporary file".into(), message: error.to_string() }
}

fn stopped() -> Failure {
    Failure::Transient { object: "archive".into(), message: "nobody takes it any more".into() }
}

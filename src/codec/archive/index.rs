//! The index of a tree of files: a line of JSON for each entry, in the order in which the tree is walked, all in zstd.
//!
//! It is read and written as a stream: a tree may have more entries than fit into memory.

use std::io::{self, BufRead, BufReader, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::path::shown;
use super::{Hostile, MAX_PATH_BYTES, RelPath};

/// A line holds a path, a target and a hard link's path, each at most 4095 bytes, six characters a byte at worst.
const MAX_LINE_BYTES: u64 = 128 << 10;
const LEVEL: i32 = 3;
/// What is written by us needs a window of 2 MiB.
const MAX_WINDOW_LOG: u32 = 23;

/// A folder, file or symbolic link of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: RelPath,
    pub what: What,
    /// Permission bits, with set-user-id and the like.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub modified: Moment,
    /// When the inode was last changed, and its number: with size and time they tell an unchanged file.
    pub changed: Moment,
    pub inode: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Folder,
    File(Content),
    Symlink { target: Vec<u8> },
}

/// A file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub size_bytes: u64,
    pub sha256: [u8; 32],
    /// `None` for an empty file.
    pub place: Option<Place>,
    /// The file had holes: a restore makes them again.
    pub sparse: bool,
    /// It was changed each time it was read.
    pub unsettled: bool,
    /// Another name of the file of this path, which comes before it.
    pub hard_link: Option<RelPath>,
}

/// Where a content lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Which of the record's archives.
    pub archive: u32,
    /// In which of its frames it begins, counted from 0, and after how many bytes of the frame's content.
    pub frame: u64,
    pub skip: u64,
}

/// An instant of a file system, in its own precision; may lie before 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment {
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// An entry as it stands in the index.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    kind: LineKind,
    /// In octal, as people write it.
    mode: String,
    uid: u32,
    gid: u32,
    mtime: String,
    ctime: String,
    inode: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    sparse: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unsettled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hard_link: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hard_link_base64: Option<String>,
}

#[derive(Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum LineKind {
    Folder,
    File,
    Symlink,
}

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    taken_at: Timestamp,
}

/// The index's own format.
const FORMAT: u32 = 1;

/// What an index says of itself at its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Indexed {
    pub taken_at: Timestamp,
}

/// Writes an index.
pub struct IndexWriter<W: Write> {
    inner: zstd::stream::write::Encoder<'static, W>,
}

impl<W: Write> IndexWriter<W> {
    /// # Errors
    /// The writer's own.
    pub fn new(inner: W, taken_at: Timestamp) -> io::Result<Self> {
        let mut inner = zstd::stream::write::Encoder::new(inner, LEVEL)?;
        inner.include_checksum(true)?;
        let mut writer = Self { inner };
        writer.line(&Head { format: FORMAT, taken_at })?;
        Ok(writer)
    }

    /// # Errors
    /// The writer's own.
    pub fn put(&mut self, entry: &Entry) -> io::Result<()> {
        self.line(&Line::of(entry))
    }

    /// # Errors
    /// The writer's own.
    pub fn finish(self) -> io::Result<W> {
        self.inner.finish()
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.inner.write_all(&text)
    }
}

/// Reads an index; refuses what no tree can be (see [`Order`]).
pub struct IndexReader<R: BufRead> {
    lines: BufReader<zstd::stream::read::Decoder<'static, R>>,
    head: Indexed,
    number: u64,
    order: Order,
}

impl<R: BufRead> IndexReader<R> {
    /// # Errors
    /// When it is no index, or one of a later version.
    pub fn new(inner: R) -> Result<Self, Hostile> {
        let broken = |error: io::Error| Hostile::new("index", error.to_string());
        let mut decoder = zstd::stream::read::Decoder::with_buffer(inner).map_err(broken)?;
        decoder.window_log_max(MAX_WINDOW_LOG).map_err(broken)?;
        let mut lines = BufReader::with_capacity(128 << 10, decoder);
        let first = line(&mut lines, 1)?.ok_or_else(|| Hostile::new("index", "is empty"))?;
        let head: Head = parse(&first, 1)?;
        if head.format != FORMAT {
            let message =
                format!("has format {}, this program knows {FORMAT}; hint: use a newer strongroom", head.format);
            return Err(Hostile::new("index", message));
        }
        Ok(Self { lines, head: Indexed { taken_at: head.taken_at }, number: 1, order: Order::default() })
    }

    pub fn head(&self) -> Indexed {
        self.head
    }

    /// The next entry.
    ///
    /// # Errors
    /// When a line is no entry, or stands where it cannot.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Hostile> {
        self.number += 1;
        let Some(text) = line(&mut self.lines, self.number)? else { return Ok(None) };
        let entry = parse::<Line>(&text, self.number)?.entry(self.number)?;
        self.order.check(&entry)?;
        Ok(Some(entry))
    }
}

impl<R: BufRead> Iterator for IndexReader<R> {
    type Item = Result<Entry, Hostile>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}

fn line(lines: &mut impl BufRead, number: u64) -> Result<Option<Vec<u8>>, Hostile> {
    let mut text = Vec::new();
    let at = || format!("index, line {number}");
    let mut bounded = lines.take(MAX_LINE_BYTES);
    bounded.read_until(b'\n', &mut text).map_err(|error| Hostile::new(at(), error.to_string()))?;
    match text.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(text)),
        Some(_) if text.len() as u64 + 1 >= MAX_LINE_BYTES => Err(Hostile::new(at(), "is longer than lines are")),
        Some(_) => Err(Hostile::new(at(), "is cut off")),
    }
}

fn parse<T: for<'de> Deserialize<'de>>(text: &[u8], number: u64) -> Result<T, Hostile> {
    serde_json::from_slice(text).map_err(|error| Hostile::new(format!("index, line {number}"), error.to_string()))
}

/// What entries must be to make a tree: in its order, each once, none below what is no folder, hard links only to files that came
/// before them.
#[derive(Default)]
pub struct Order {
    last: Option<RelPath>,
    /// The folders that the last entry lies in or is.
    open: Vec<Vec<u8>>,
}

impl Order {
    /// # Errors
    /// When the entry cannot follow those before it.
    pub fn check(&mut self, entry: &Entry) -> Result<(), Hostile> {
        let refused = |message: &str| Err(Hostile::new(format!("path '{}'", entry.path), message));
        if let Some(last) = &self.last {
            match entry.path.cmp(last) {
                std::cmp::Ordering::Greater => {}
                std::cmp::Ordering::Equal => return refused("is there twice"),
                std::cmp::Ordering::Less => return refused("does not stand in its place"),
            }
        }
        let (folder, _) = entry.path.split();
        while self.open.last().is_some_and(|open| folder.is_none_or(|folder| !below(folder, open))) {
            self.open.pop();
        }
        if folder != self.open.last().map(Vec::as_slice) {
            return refused("lies in what is no folder of the tree");
        }
        match &entry.what {
            What::Folder => self.open.push(entry.path.as_bytes().to_vec()),
            What::File(Content { hard_link: Some(to), .. }) if *to >= entry.path => {
                return refused("is another name of what does not come before it");
            }
            _ => {}
        }
        self.last = Some(entry.path.clone());
        Ok(())
    }
}

/// Whether a path is a folder, or lies in it.
fn below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

impl Line {
    fn of(entry: &Entry) -> Self {
        let (path, path_base64) = text(entry.path.as_bytes());
        let mut line = Self {
            path,
            path_base64,
            kind: LineKind::Folder,
            mode: format!("{:o}", entry.mode & 0o7777),
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.modified.to_text(),
            ctime: entry.changed.to_text(),
            inode: entry.inode,
            size_bytes: None,
            sha256: None,
            place: None,
            sparse: false,
            unsettled: false,
            target: None,
            target_base64: None,
            hard_link: None,
            hard_link_base64: None,
        };
        match &entry.what {
            What::Folder => {}
            What::File(content) => {
                line.kind = LineKind::File;
                line.size_bytes = Some(content.size_bytes);
                line.sha256 = Some(hex(&content.sha256));
                line.place = content.place;
                line.sparse = content.sparse;
                line.unsettled = content.unsettled;
                if let Some(to) = &content.hard_link {
                    (line.hard_link, line.hard_link_base64) = text(to.as_bytes());
                }
            }
            What::Symlink { target } => {
                line.kind = LineKind::Symlink;
                (line.target, line.target_base64) = text(target);
            }
        }
        line
    }

    fn entry(self, number: u64) -> Result<Entry, Hostile> {
        let refused = |message: &str| Hostile::new(format!("index, line {number}"), message);
        let path = bytes(self.path, self.path_base64).map_err(refused)?.ok_or_else(|| refused("has no path"))?;
        let path = RelPath::new(&path)?;
        let target = bytes(self.target, self.target_base64).map_err(refused)?;
        let hard_link = bytes(self.hard_link, self.hard_link_base64).map_err(refused)?;
        let is_file = self.kind == LineKind::File;
        if !is_file && (self.size_bytes.is_some() || self.sha256.is_some() || self.place.is_some()) {
            return Err(refused("has content where there can be none"));
        }
        if target.is_some() != (self.kind == LineKind::Symlink) || (hard_link.is_some() && !is_file) {
            return Err(refused("has a link's target where there is no link, or none where there is one"));
        }
        let what = match self.kind {
            LineKind::Folder => What::Folder,
            LineKind::Symlink => {
                let target = target.unwrap_or_default();
                if target.is_empty() || target.contains(&0) || target.len() > MAX_PATH_BYTES {
                    return Err(Hostile::new(format!("path '{path}'"), "is a symbolic link to nothing"));
                }
                What::Symlink { target }
            }
            LineKind::File => {
                let size_bytes = self.size_bytes.ok_or_else(|| refused("has no size"))?;
                let sha256 = self.sha256.and_then(|text| unhex(&text)).ok_or_else(|| refused("has no SHA-256"))?;
                if self.place.is_some() != (size_bytes > 0) {
                    return Err(refused("has a place without content, or content without a place"));
                }
                let hard_link = hard_link.map(|to| RelPath::new(&to)).transpose()?;
                let (sparse, unsettled) = (self.sparse, self.unsettled);
                What::File(Content { size_bytes, sha256, place: self.place, sparse, unsettled, hard_link })
            }
        };
        let mode = u32::from_str_radix(&self.mode, 8).ok().filter(|mode| *mode <= 0o7777);
        let moment = |text: &str| Moment::parse(text).ok_or_else(|| refused("has a time that is none"));
        Ok(Entry {
            path,
            what,
            mode: mode.ok_or_else(|| refused("has a mode that is none"))?,
            uid: self.uid,
            gid: self.gid,
            modified: moment(&self.mtime)?,
            changed: moment(&self.ctime)?,
            inode: self.inode,
        })
    }
}

/// As text where it is UTF-8, else in base64.
fn text(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.into()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

fn bytes(text: Option<String>, base64: Option<String>) -> Result<Option<Vec<u8>>, &'static str> {
    match (text, base64) {
        (Some(_), Some(_)) => Err("has a path in two ways"),
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(base64)) => STANDARD.decode(base64).map(Some).map_err(|_| "has a path that is no base64"),
        (None, None) => Ok(None),
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

impl Moment {
    /// Seconds since 1970 and nine digits: `1763766553.000000001`.
    fn to_text(self) -> String {
        format!("{}.{:09}", self.seconds, self.nanoseconds)
    }

    fn parse(text: &str) -> Option<Self> {
        let (seconds, nanoseconds) = text.split_once('.')?;
        if nanoseconds.len() != 9 || !nanoseconds.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Self { seconds: seconds.parse().ok()?, nanoseconds: nanoseconds.parse().ok()? })
    }
}

impl Entry {
    /// Whether a file's content can be taken for the same without being read.
    pub fn is_unchanged(&self, before: &Self) -> bool {
        let size = |entry: &Self| match &entry.what {
            What::File(content) => Some(content.size_bytes),
            _ => None,
        };
        size(self).is_some()
            && size(self) == size(before)
            && (self.modified, self.changed, self.inode) == (before.modified, before.changed, before.inode)
            && !matches!(&before.what, What::File(content) if content.unsettled)
    }

    /// Its path for people.
    pub fn shown(&self) -> String {
        shown(self.path.as_bytes())
    }
}

/// Reads an index in whole: for who wants its entries only.
impl<R: Read> IndexReader<BufReader<R>> {
    /// # Errors
    /// As [`IndexReader::new`].
    pub fn open(inner: R) -> Result<Self, Hostile> {
        Self::new(BufReader::with_capacity(128 << 10, inner))
    }
}

//! tar as far as archives need it: headers of folders, files, symbolic and hard links, with GNU's long names. Everything else is
//! refused when read: devices, pipes, sparse maps, extended headers.

use std::io::{self, Read};

use ::tar::{EntryType, Header};

use super::path::shown;
use super::{Entry, Hostile, RelPath, What};

/// tar's unit.
pub const BLOCK: usize = 512;
/// What ends a tar.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// Of names and targets: a path, and the zero byte after it.
const MAX_LONG: u64 = super::MAX_PATH_BYTES as u64 + 1;

/// The blocks before an entry's content; of a hard link with the path that it links to.
pub fn header(entry: &Entry, content_bytes: u64, hard_link: Option<&RelPath>) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_mode(entry.mode & 0o7777);
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_mtime(u64::try_from(entry.modified.seconds).unwrap_or(0));
    header.set_size(0);
    let mut path = entry.path.as_bytes().to_vec();
    let mut target: Option<&[u8]> = None;
    match (&entry.what, hard_link) {
        (What::Folder, _) => {
            header.set_entry_type(EntryType::Directory);
            path.push(b'/');
        }
        (What::Symlink { target: to }, _) => {
            header.set_entry_type(EntryType::Symlink);
            target = Some(to);
        }
        (What::File(_), Some(to)) => {
            header.set_entry_type(EntryType::Link);
            target = Some(to.as_bytes());
        }
        (What::File(_), None) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(content_bytes);
        }
    }
    let mut blocks = Vec::with_capacity(BLOCK);
    let mut put = |kind: u8, field: &mut [u8], text: &[u8]| {
        if text.len() > field.len() {
            long(kind, text, &mut blocks);
        }
        let length = text.len().min(field.len());
        field[..length].copy_from_slice(&text[..length]);
    };
    let old = header.as_old_mut();
    if let Some(target) = target {
        put(b'K', &mut old.linkname, target);
    }
    put(b'L', &mut old.name, &path);
    header.set_cksum();
    blocks.extend_from_slice(header.as_bytes());
    blocks
}

/// GNU's way of a name that is too long for its field: an entry of its own before.
fn long(kind: u8, text: &[u8], blocks: &mut Vec<u8>) {
    let mut header = Header::new_gnu();
    let name = b"././@LongLink";
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(text.len() as u64 + 1);
    header.set_cksum();
    blocks.extend_from_slice(header.as_bytes());
    blocks.extend_from_slice(text);
    blocks.resize(blocks.len() + 1 + padding(text.len() as u64 + 1), 0);
}

/// Zero bytes after a content of that length.
pub fn padding(content_bytes: u64) -> usize {
    (BLOCK - (content_bytes % BLOCK as u64) as usize) % BLOCK
}

/// An entry as it stands in a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TarEntry {
    Folder(RelPath),
    File { path: RelPath, size_bytes: u64 },
    Symlink { path: RelPath, target: Vec<u8> },
    HardLink { path: RelPath, to: RelPath },
}

/// Reads a tar, entry by entry. A file's content is read by [`TarReader::content`] before the next entry.
pub struct TarReader<R> {
    inner: R,
    at: u64,
    left: u64,
    pad: usize,
}

impl<R: Read> TarReader<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, at: 0, left: 0, pad: 0 }
    }

    /// Where the next byte is read.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The next entry; `None` at the tar's end.
    ///
    /// # Errors
    /// For everything that [`header`] does not write.
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>, Hostile> {
        self.skip()?;
        let (mut name, mut link) = (None, None);
        loop {
            let at = self.at;
            let Some(header) = self.block()? else {
                return Err(self.refused(at, "ends without the two blocks that end a tar"));
            };
            if header.as_bytes().iter().all(|byte| *byte == 0) {
                if name.is_some() || link.is_some() {
                    return Err(self.refused(at, "ends after a long name"));
                }
                match self.block()? {
                    Some(second) if second.as_bytes().iter().all(|byte| *byte == 0) => return Ok(None),
                    _ => return Err(self.refused(at, "has a block of zeros within")),
                }
            }
            self.checksum(at, &header)?;
            let size =
                header.entry_size().map_err(|_| self.refused(at, "has a header with a size that is no number"))?;
            match header.entry_type().as_byte() {
                b'L' if name.is_none() => name = Some(self.long(at, size)?),
                b'K' if link.is_none() => link = Some(self.long(at, size)?),
                kind => return self.entry(at, kind, size, &header, (name, link)).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        at: u64,
        kind: u8,
        size: u64,
        header: &Header,
        (name, link): (Option<Vec<u8>>, Option<Vec<u8>>),
    ) -> Result<TarEntry, Hostile> {
        let old = header.as_old();
        let name = name.unwrap_or_else(|| up_to_zero(&old.name));
        let link = link.unwrap_or_else(|| up_to_zero(&old.linkname));
        if kind != b'0' && size != 0 {
            return Err(self.refused(at, "has content where there can be none"));
        }
        if matches!(kind, b'0' | b'5') && !link.is_empty() {
            return Err(self.refused(at, "has a link's target where there is no link"));
        }
        match kind {
            b'5' => {
                let path = name.strip_suffix(b"/").unwrap_or(&name);
                Ok(TarEntry::Folder(RelPath::new(path)?))
            }
            b'0' => {
                let path = RelPath::new(&name)?;
                self.left = size;
                self.pad = padding(size);
                Ok(TarEntry::File { path, size_bytes: size })
            }
            b'2' => {
                let path = RelPath::new(&name)?;
                if link.is_empty() || link.contains(&0) || link.len() > super::MAX_PATH_BYTES {
                    return Err(Hostile::new(format!("path '{path}'"), "is a symbolic link to nothing"));
                }
                Ok(TarEntry::Symlink { path, target: link })
            }
            b'1' => Ok(TarEntry::HardLink { path: RelPath::new(&name)?, to: RelPath::new(&link)? }),
            kind => {
                let what = match kind {
                    b'3' | b'4' => "a device",
                    b'6' => "a pipe",
                    b'x' | b'g' => "an extended header",
                    b'S' => "a sparse map",
                    b'L' | b'K' => "a second long name",
                    _ => "of a kind that is not ours",
                };
                Err(Hostile::new(format!("path '{}'", shown(&name)), format!("is {what}")))
            }
        }
    }

    /// The content of the file that was read last.
    pub fn content(&mut self) -> impl Read + '_ {
        Inside { tar: self }
    }

    fn long(&mut self, at: u64, size: u64) -> Result<Vec<u8>, Hostile> {
        if size == 0 || size > MAX_LONG {
            return Err(self.refused(at, "has a name that is longer than names are"));
        }
        let mut text = vec![0; size as usize + padding(size)];
        self.fill(&mut text)?;
        text.truncate(size as usize);
        if text.pop() != Some(0) || text.contains(&0) {
            return Err(self.refused(at, "has a long name with a zero byte in it"));
        }
        Ok(text)
    }

    fn checksum(&self, at: u64, header: &Header) -> Result<(), Hostile> {
        let wrong = || self.refused(at, "has a header that is changed, or is no tar");
        let said = header.cksum().map_err(|_| wrong())?;
        let mut bytes = *header.as_bytes();
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
        if sum == said { Ok(()) } else { Err(wrong()) }
    }

    fn skip(&mut self) -> Result<(), Hostile> {
        let mut buffer = [0; 16 << 10];
        while self.left > 0 {
            let length = self.left.min(buffer.len() as u64) as usize;
            self.fill(&mut buffer[..length])?;
            self.left -= length as u64;
        }
        let pad = std::mem::take(&mut self.pad);
        self.fill(&mut buffer[..pad])
    }

    fn block(&mut self) -> Result<Option<Header>, Hostile> {
        let mut block = [0; BLOCK];
        match self.inner.read(&mut block[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => self.at += 1,
            Err(error) => return Err(self.failed(&error)),
        }
        self.fill(&mut block[1..])?;
        Ok(Some(Header::from_byte_slice(&block).clone()))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Hostile> {
        self.inner.read_exact(bytes).map_err(|error| self.failed(&error))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Hostile {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.refused(self.at, "is cut off"),
            _ => self.refused(self.at, &error.to_string()),
        }
    }

    fn refused(&self, at: u64, message: &str) -> Hostile {
        Hostile::new(format!("tar, byte {at}"), message)
    }
}

struct Inside<'a, R> {
    tar: &'a mut TarReader<R>,
}

impl<R: Read> Read for Inside<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.tar.left.min(out.len() as u64) as usize;
        let read = self.tar.inner.read(&mut out[..length])?;
        if read == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.tar.left -= read as u64;
        self.tar.at += read as u64;
        Ok(read)
    }
}

fn up_to_zero(field: &[u8]) -> Vec<u8> {
    field.iter().copied().take_while(|byte| *byte != 0).collect()
}

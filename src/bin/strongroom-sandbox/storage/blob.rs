//! The bytes of objects: one immutable file each, written aside, synced and renamed before any metadata names it.
//! Knows nothing of buckets or names.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

/// The directory of all blobs: `objects/ab/<id>`, unfinished ones in `objects/tmp/<id>`.
#[derive(Debug, Clone)]
pub struct Blobs {
    root: PathBuf,
}

/// A blob in the making. Dropped without [`Writer::finish`] it leaves nothing behind.
pub struct Writer {
    file: Option<File>,
    temporary: PathBuf,
    root: PathBuf,
    id: String,
    crc: u32,
    md5: Md5,
    size: u64,
}

/// A blob that is on disk for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    pub id: String,
    pub size: u64,
    /// Base64 of the big-endian CRC32C.
    pub crc32c: String,
    /// Base64 of the MD5.
    pub md5: String,
}

impl Blobs {
    /// The blobs below the sandbox's data directory.
    pub fn new(data: &Path) -> Self {
        Self { root: data.join("objects") }
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn create(&self) -> io::Result<Writer> {
        let id = fresh_id();
        let folder = self.root.join("tmp");
        fs::create_dir_all(&folder)?;
        let temporary = folder.join(&id);
        let file = File::create_new(&temporary)?;
        Ok(Writer { file: Some(file), temporary, root: self.root.clone(), id, crc: 0, md5: Md5::new(), size: 0 })
    }

    /// # Errors
    /// When the blob is gone or the disk fails.
    pub fn open(&self, id: &str) -> io::Result<File> {
        File::open(path_of(&self.root, id))
    }

    /// A second name for the same bytes; either can be removed without the other.
    ///
    /// # Errors
    /// When the blob is gone or the disk fails.
    pub fn duplicate(&self, id: &str) -> io::Result<String> {
        let new = fresh_id();
        let target = path_of(&self.root, &new);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::hard_link(path_of(&self.root, id), &target)?;
        Ok(new)
    }

    /// Makes a file of another place a blob; the file is gone from there.
    ///
    /// # Errors
    /// When the file is gone or the disk fails.
    pub fn adopt(&self, file: &Path) -> io::Result<Finished> {
        let id = fresh_id();
        let mut reader = File::open(file)?;
        let (mut crc, mut md5, mut size) = (0, Md5::new(), 0);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = reader.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            crc = crc32c::crc32c_append(crc, &buffer[..n]);
            md5.update(&buffer[..n]);
            size += n as u64;
        }
        reader.sync_all()?;
        let target = path_of(&self.root, &id);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
            fs::rename(file, &target)?;
            File::open(folder)?.sync_all()?;
        }
        Ok(Finished { id, size, crc32c: STANDARD.encode(crc.to_be_bytes()), md5: STANDARD.encode(md5.finalize()) })
    }

    /// Removes a blob; that it is gone already is no error.
    pub fn remove(&self, id: &str) {
        let path = path_of(&self.root, id);
        if let Err(e) = fs::remove_file(&path)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove '{}': {e}", path.display());
        }
    }

    /// Removes what no metadata names: leftovers of writes that a kill cut short.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn sweep(&self, used: &HashSet<String>) -> io::Result<()> {
        let _ = fs::remove_dir_all(self.root.join("tmp"));
        if !self.root.exists() {
            return Ok(());
        }
        for folder in fs::read_dir(&self.root)? {
            for file in fs::read_dir(folder?.path())? {
                let file = file?;
                if !file.file_name().to_str().is_some_and(|id| used.contains(id)) {
                    fs::remove_file(file.path())?;
                }
            }
        }
        Ok(())
    }
}

impl Writer {
    /// Copies everything from `reader`.
    ///
    /// # Errors
    /// When reading or writing fails.
    pub fn copy_from(&mut self, reader: &mut impl Read) -> io::Result<u64> {
        let mut buffer = vec![0; 1 << 20];
        let mut total = 0;
        loop {
            let n = reader.read(&mut buffer)?;
            if n == 0 {
                return Ok(total);
            }
            self.write_all(&buffer[..n])?;
            total += n as u64;
        }
    }

    /// Syncs the bytes and gives them their final name.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn finish(mut self) -> io::Result<Finished> {
        let target = path_of(&self.root, &self.id);
        if let Some(file) = self.file.take() {
            file.sync_all()?;
        }
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
            fs::rename(&self.temporary, &target)?;
            File::open(folder)?.sync_all()?;
        }
        Ok(Finished {
            id: self.id.clone(),
            size: self.size,
            crc32c: STANDARD.encode(self.crc.to_be_bytes()),
            md5: STANDARD.encode(std::mem::take(&mut self.md5).finalize()),
        })
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(file) = &mut self.file else { return Err(io::Error::other("the blob is finished")) };
        let n = file.write(bytes)?;
        self.crc = crc32c::crc32c_append(self.crc, &bytes[..n]);
        self.md5.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A new random id of 32 hex digits.
pub fn fresh_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn path_of(root: &Path, id: &str) -> PathBuf {
    root.join(id.get(..2).unwrap_or("__")).join(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_hashed_duplicated_and_swept() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path());
        let mut writer = blobs.create().unwrap();
        writer.write_all(b"hel").unwrap();
        writer.write_all(b"lo").unwrap();
        let done = writer.finish().unwrap();
        assert_eq!((done.size, done.crc32c.as_str()), (5, "mnG7TA=="));
        assert_eq!(done.md5, "XUFAKrxLKna5cZ2REBfFkg==");
        let copy = blobs.duplicate(&done.id).unwrap();
        blobs.remove(&done.id);
        assert!(blobs.open(&done.id).is_err());
        drop(blobs.create().unwrap());
        let orphan = blobs.duplicate(&copy).unwrap();
        blobs.sweep(&HashSet::from([copy.clone()])).unwrap();
        assert!(blobs.open(&copy).is_ok() && blobs.open(&orphan).is_err());
    }
}

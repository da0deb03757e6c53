//! Makes files, folders and links below a root, and nowhere else.
//!
//! Every part of a path is opened by itself from the folder before it, and no link is followed: what an archive or somebody on the
//! machine puts in the way is refused, not walked through.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::codec::archive::{Entry, RelPath};
use crate::model::Failure;

/// Writes below one folder.
pub struct Placer {
    root: OwnedFd,
    shown: String,
    /// The folders that lead to where we are.
    open: Vec<(Vec<u8>, OwnedFd)>,
    /// Made, and given their mode and time in the end: what is put into a folder changes its time.
    folders: Vec<Entry>,
    is_root: bool,
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Placer {
    /// # Errors
    /// When the root cannot be opened.
    pub fn new(root: &Path) -> Result<Self, Failure> {
        let shown = root.display().to_string();
        let fd = rustix::fs::open(root, FOLDER, Mode::empty()).map_err(|error| failed(&shown, error))?;
        Ok(Self { root: fd, shown, open: vec![], folders: vec![], is_root: is_root() })
    }

    /// # Errors
    /// When something is there, or in the way.
    pub fn folder(&mut self, entry: &Entry) -> Result<(), Failure> {
        let (parent, name) = self.parent(&entry.path)?;
        rustix::fs::mkdirat(parent, name, Mode::RWXU).map_err(|error| self.failed(&entry.path, error))?;
        self.folders.push(entry.clone());
        Ok(())
    }

    /// An empty file to write to; [`Placer::settle`] ends it.
    ///
    /// # Errors
    /// As [`Placer::folder`].
    pub fn file(&mut self, path: &RelPath) -> Result<File, Failure> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR);
        made.map(File::from).map_err(|error| self.failed(path, error))
    }

    /// Gives a file its owner, mode and time.
    ///
    /// # Errors
    /// When the file system does not take them.
    pub fn settle(&self, file: &File, entry: &Entry) -> Result<(), Failure> {
        let failed = |error| self.failed(&entry.path, error);
        let mode = self.own(file, entry).map_err(failed)?;
        rustix::fs::fchmod(file, mode).map_err(failed)?;
        rustix::fs::futimens(file, &times(entry)).map_err(failed)
    }

    /// # Errors
    /// As [`Placer::folder`].
    pub fn symlink(&mut self, entry: &Entry, target: &[u8]) -> Result<(), Failure> {
        let is_root = self.is_root;
        let (parent, name) = self.parent(&entry.path)?;
        let made = rustix::fs::symlinkat(target, parent, name)
            .and_then(|()| match is_root {
                true => {
                    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
                    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                }
                false => Ok(()),
            })
            .and_then(|()| rustix::fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW));
        made.map_err(|error| self.failed(&entry.path, error))
    }

    /// Another name for a file that was made here before.
    ///
    /// # Errors
    /// `Corrupt` when what it is to be a name of is no file of this tree; else as [`Placer::folder`].
    pub fn hard_link(&mut self, path: &RelPath, to: &RelPath) -> Result<(), Failure> {
        let (folder, to_name) = to.split();
        let mut from = rustix::io::dup(&self.root).map_err(|error| self.failed(to, error))?;
        for part in folder.into_iter().flat_map(|folder| folder.split(|byte| *byte == b'/')) {
            from = rustix::fs::openat(&from, part, FOLDER, Mode::empty()).map_err(|error| self.failed(to, error))?;
        }
        let stat =
            rustix::fs::statat(&from, to_name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| self.failed(to, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let message = format!("is to be another name of '{to}', which is no file");
            return Err(Failure::Corrupt { object: path.to_string(), message });
        }
        let (parent, name) = self.parent(path)?;
        // Without AT_SYMLINK_FOLLOW: should a link have taken the file's place, the link itself gets the name.
        let made = rustix::fs::linkat(&from, to_name, parent, name, AtFlags::empty());
        made.map_err(|error| self.failed(path, error))
    }

    /// Gives the folders their modes and times, the root its mode, and has all of it written to the disk.
    ///
    /// # Errors
    /// When the file system does not take them.
    pub fn finish(mut self, root_mode: u32) -> Result<(), Failure> {
        for entry in std::mem::take(&mut self.folders).into_iter().rev() {
            let (parent, name) = self.parent(&entry.path)?;
            let folder = rustix::fs::openat(parent, name, FOLDER, Mode::empty());
            let failed = |error| self.failed(&entry.path, error);
            let folder = folder.map_err(failed)?;
            let mode = self.own(&folder, &entry).map_err(failed)?;
            rustix::fs::fchmod(&folder, mode).map_err(failed)?;
            rustix::fs::futimens(&folder, &times(&entry)).map_err(failed)?;
        }
        let failed = |error| failed(&self.shown, error);
        rustix::fs::fchmod(&self.root, Mode::from_raw_mode(root_mode)).map_err(failed)?;
        rustix::fs::syncfs(&self.root).map_err(failed)
    }

    /// Gives it its owner, where we may; and the mode that it is to have: who does not get his owner back gets no set-user-id.
    fn own(&self, file: impl AsFd, entry: &Entry) -> Result<Mode, Errno> {
        if self.is_root {
            rustix::fs::fchown(&file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
            return Ok(Mode::from_raw_mode(entry.mode & 0o7777));
        }
        let stat = rustix::fs::fstat(&file)?;
        let foreign = (stat.st_uid, stat.st_gid) != (entry.uid, entry.gid);
        Ok(Mode::from_raw_mode(entry.mode & if foreign { 0o1777 } else { 0o7777 }))
    }

    /// The folder that a path lies in, opened part by part, and its name there.
    fn parent<'a>(&mut self, path: &'a RelPath) -> Result<(&OwnedFd, &'a [u8]), Failure> {
        let (folder, name) = path.split();
        let parts: Vec<&[u8]> = folder.map(|folder| folder.split(|byte| *byte == b'/').collect()).unwrap_or_default();
        let same = self.open.iter().zip(&parts).take_while(|((open, _), part)| open.as_slice() == **part).count();
        self.open.truncate(same);
        for part in &parts[same..] {
            let from = self.open.last().map_or(&self.root, |(_, fd)| fd);
            let fd =
                rustix::fs::openat(from, *part, FOLDER, Mode::empty()).map_err(|error| self.failed(path, error))?;
            self.open.push((part.to_vec(), fd));
        }
        Ok((self.open.last().map_or(&self.root, |(_, fd)| fd), name))
    }

    fn failed(&self, path: &RelPath, error: Errno) -> Failure {
        let object = format!("{}/{path}", self.shown);
        match error {
            // What is not there was never made: the archive says otherwise than the index.
            Errno::LOOP | Errno::NOTDIR | Errno::EXIST | Errno::NOENT => {
                let message = "cannot be put there: something else is in the way of its path".to_string();
                Failure::Corrupt { object, message }
            }
            error => failed(&object, error),
        }
    }
}

fn failed(object: &str, error: Errno) -> Failure {
    super::walk::failure(object, Some(&error.into()), &error.to_string())
}

/// Whether this process may give files to anybody: the owner of its folder in /proc is its effective user.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.modified.seconds, tv_nsec: entry.modified.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

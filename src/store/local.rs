//! A store in a directory: one file per object. A file appears whole (written aside, synced, then linked or renamed
//! into place) and survives a crash once the call has returned.
//!
//! Compare-and-swap holds between processes of one machine: whatever replaces or removes an object holds a file lock on
//! the key. A version is the file's time of modification in nanoseconds, which this store sets so that it never repeats,
//! and its size: it survives a copy that keeps times. Not for network file systems without `flock`.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

use super::halt::effect;
use super::{
    ByteStream, MAX_GET_BYTES, ObjectInfo, Space, Store, Version, changed, exists, key, next_prefix, not_found,
};
use crate::model::Failure;

/// The store's own directory for unfinished files and locks. No key begins with it, no list shows it.
const ASIDE: &str = ".strongroom-aside";
/// Unfinished files of a process that died are removed when the store is next opened after this time.
const STALE: Duration = Duration::from_secs(24 * 3600);
const LOCKS: u32 = 64;
const CHUNK_BYTES: usize = 256 << 10;

/// A directory of objects. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: Arc<PathBuf>,
}

/// What has to be true of what is there before it is replaced.
#[derive(Clone)]
enum Condition {
    Absent,
    Match(Version),
    None,
}

impl LocalStore {
    /// Opens a directory, creating it where it is missing.
    ///
    /// # Errors
    /// `Denied` or `Invalid` as the file system says.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, Failure> {
        let root = root.as_ref();
        let failed = |error: std::io::Error| io_failure(&root.display().to_string(), &error);
        fs::create_dir_all(root.join(ASIDE)).map_err(failed)?;
        let root = root.canonicalize().map_err(failed)?;
        remove_stale(&root.join(ASIDE));
        Ok(Self { root: Arc::new(root) })
    }

    fn name(&self, key: &str) -> String {
        format!("{}/{key}", self.root.display())
    }

    /// The object's path; its directory, where there is one, is truly inside the root.
    fn path(&self, key: &str) -> Result<PathBuf, Failure> {
        key::check(key)?;
        let outside = || Failure::Invalid { object: self.name(key), message: "is not inside the store".into() };
        if key.split('/').next() == Some(ASIDE) {
            return Err(outside());
        }
        let path = self.root.join(key);
        let mut directory = path.parent();
        // The deepest directory that exists; what is missing below it cannot be a link.
        while let Some(candidate) = directory.filter(|candidate| candidate.starts_with(&*self.root)) {
            match candidate.canonicalize() {
                Ok(real) if real.starts_with(&*self.root) => return Ok(path),
                Ok(_) => return Err(outside()),
                Err(error) if error.kind() == ErrorKind::NotFound => directory = candidate.parent(),
                Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(path),
                Err(error) => return Err(io_failure(&self.name(key), &error)),
            }
        }
        Err(outside())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || work(&this)).await.map_err(|error| Failure::Unknown {
            object: self.root.display().to_string(),
            message: format!("the work was interrupted: {error}"),
        })?
    }

    fn info(&self, key: &str) -> Result<Option<ObjectInfo>, Failure> {
        let path = self.path(key)?;
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(info_of(key, &metadata))),
            Ok(_) => Ok(None),
            Err(error) if missing(&error) => Ok(None),
            Err(error) => Err(io_failure(&self.name(key), &error)),
        }
    }

    fn open_object(&self, key: &str) -> Result<(File, fs::Metadata), Failure> {
        let path = self.path(key)?;
        let failed = |error: std::io::Error| {
            if missing(&error) { not_found(self.name(key)) } else { io_failure(&self.name(key), &error) }
        };
        if !fs::symlink_metadata(&path).map_err(failed)?.is_file() {
            return Err(not_found(self.name(key)));
        }
        let file = File::open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        Ok((file, metadata))
    }

    fn put_bytes(&self, key: &str, bytes: &[u8], condition: &Condition) -> Result<ObjectInfo, Failure> {
        self.path(key)?;
        let failed = |error: std::io::Error| io_failure(&self.name(key), &error);
        let (mut file, aside) = self.create_aside().map_err(failed)?;
        effect("write", || file.write_all(bytes)).map_err(failed)?;
        let mut info = self.place(key, file, aside, condition)?;
        info.crc32c = Some(crc32c::crc32c(bytes));
        Ok(info)
    }

    fn create_aside(&self) -> std::io::Result<(File, Aside)> {
        let path = self.root.join(ASIDE).join(format!("{:032x}.part", rand::random::<u128>()));
        let file = effect("create", || OpenOptions::new().write(true).create_new(true).open(&path))?;
        Ok((file, Aside(path)))
    }

    /// Puts a written file into its place, if the condition holds.
    fn place(&self, key: &str, file: File, aside: Aside, condition: &Condition) -> Result<ObjectInfo, Failure> {
        let path = self.path(key)?;
        let failed = |error: std::io::Error| io_failure(&self.name(key), &error);
        let _lock = self.lock(key).map_err(failed)?;
        let there = self.info(key)?;
        match (condition, &there) {
            (Condition::Absent, Some(_)) => return Err(exists(self.name(key))),
            (Condition::Match(version), there) if there.as_ref().map(|info| &info.version) != Some(version) => {
                return Err(changed(self.name(key)));
            }
            _ => {}
        }
        let after = fs::symlink_metadata(&path).and_then(|metadata| metadata.modified()).unwrap_or(UNIX_EPOCH);
        file.set_modified(SystemTime::now().max(after + Duration::from_nanos(1))).map_err(failed)?;
        effect("sync", || file.sync_all()).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        // A parallel deletion may remove the directory as empty between its creation and our rename.
        for _ in 0..100 {
            self.create_directories(&path).map_err(failed)?;
            let placed = match condition {
                // The link never replaces anything, whoever else is at work.
                Condition::Absent => effect("link", || fs::hard_link(&aside.0, &path)),
                _ => effect("rename", || fs::rename(&aside.0, &path)),
            };
            match placed {
                Ok(()) => {
                    drop(aside);
                    sync_parent(&path).map_err(failed)?;
                    return Ok(info_of(key, &metadata));
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(exists(self.name(key))),
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            }
        }
        let message = "its directory vanishes again and again".to_string();
        Err(Failure::Transient { object: self.name(key), message })
    }

    fn remove(&self, key: &str, condition: &Condition) -> Result<(), Failure> {
        let path = self.path(key)?;
        let failed = |error: std::io::Error| io_failure(&self.name(key), &error);
        let _lock = self.lock(key).map_err(failed)?;
        match (condition, self.info(key)?) {
            (Condition::Match(_), None) => return Err(not_found(self.name(key))),
            (Condition::Match(version), Some(info)) if info.version != *version => return Err(changed(self.name(key))),
            (_, None) => return Ok(()),
            (_, Some(_)) => effect("remove", || fs::remove_file(&path)).map_err(failed)?,
        }
        sync_parent(&path).map_err(failed)?;
        // Directories are no objects: an empty one is removed, as far up as they are empty.
        let mut directory = path.parent();
        while let Some(empty) = directory.filter(|directory| *directory != self.root.as_path()) {
            if effect("remove_dir", || fs::remove_dir(empty)).is_err() {
                break;
            }
            directory = empty.parent();
        }
        Ok(())
    }

    /// The lock of a key, held until it is dropped. Keys share a few files: the lock files never go away.
    fn lock(&self, key: &str) -> std::io::Result<File> {
        let name = format!("{:02}.lock", crc32c::crc32c(key.as_bytes()) % LOCKS);
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(self.root.join(ASIDE).join(name))?;
        file.lock()?;
        Ok(file)
    }

    fn create_directories(&self, path: &Path) -> std::io::Result<()> {
        let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) else {
            return Ok(());
        };
        effect("create_dir", || fs::create_dir_all(parent))?;
        let mut created = Some(parent);
        while let Some(directory) = created.filter(|directory| directory.starts_with(&*self.root)) {
            sync_directory(directory)?;
            created = directory.parent();
        }
        Ok(())
    }

    /// Every object whose key begins with `prefix`; looks only into directories that can hold one.
    fn walk(&self, prefix: &str) -> Result<Vec<ObjectInfo>, Failure> {
        let start = prefix.rsplit_once('/').map_or("", |(directory, _)| directory);
        let mut found = Vec::new();
        let mut open = vec![start.to_string()];
        while let Some(directory) = open.pop() {
            let path = if directory.is_empty() {
                self.root.to_path_buf()
            } else {
                self.path(&format!("{directory}/x"))?;
                self.root.join(&directory)
            };
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(error) if missing(&error) => continue,
                Err(error) => return Err(io_failure(&self.name(&directory), &error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| io_failure(&self.name(&directory), &error))?;
                // A name that is no key was not put here by a store.
                let Some(name) = entry.file_name().to_str().map(str::to_string) else { continue };
                let key = if directory.is_empty() { name } else { format!("{directory}/{name}") };
                let metadata = match fs::symlink_metadata(entry.path()) {
                    Ok(metadata) => metadata,
                    Err(error) if missing(&error) => continue,
                    Err(error) => return Err(io_failure(&self.name(&key), &error)),
                };
                if metadata.is_dir() && key != ASIDE {
                    let inside = format!("{key}/");
                    if inside.starts_with(prefix) || prefix.starts_with(&inside) {
                        open.push(key);
                    }
                } else if metadata.is_file() && key.starts_with(prefix) && key::check(&key).is_ok() {
                    found.push(info_of(&key, &metadata));
                }
            }
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }
}

#[async_trait]
impl Store for LocalStore {
    async fn space(&self) -> Result<Option<Space>, Failure> {
        let name = self.describe();
        let found = rustix::fs::statvfs(self.root.as_path()).map_err(|error| io_failure(&name, &error.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        // What a common user may still write.
        Ok(Some(Space { free_bytes: bytes(found.f_bavail), total_bytes: bytes(found.f_blocks) }))
    }

    fn describe(&self) -> String {
        format!("file://{}", self.root.display())
    }

    async fn get(&self, key: &str) -> Result<(Bytes, Version), Failure> {
        let key = key.to_string();
        self.blocking(move |this| {
            let (mut file, metadata) = this.open_object(&key)?;
            check_size(&this.name(&key), metadata.len())?;
            let mut bytes = Vec::with_capacity(metadata.len() as usize);
            file.read_to_end(&mut bytes).map_err(|error| io_failure(&this.name(&key), &error))?;
            Ok((bytes.into(), info_of(&key, &metadata).version))
        })
        .await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        let key = key.to_string();
        self.blocking(move |this| {
            let (mut file, metadata) = this.open_object(&key)?;
            let failed = |error: std::io::Error| io_failure(&this.name(&key), &error);
            let end = range.end.min(metadata.len());
            let len = end.saturating_sub(range.start);
            check_size(&this.name(&key), len)?;
            let mut bytes = Vec::with_capacity(len as usize);
            if len > 0 {
                file.seek(SeekFrom::Start(range.start)).map_err(failed)?;
                file.take(len).read_to_end(&mut bytes).map_err(failed)?;
            }
            Ok(bytes.into())
        })
        .await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, Failure> {
        let key = key.to_string();
        self.blocking(move |this| this.info(&key)).await
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Version, Failure> {
        let key = key.to_string();
        self.blocking(move |this| Ok(this.put_bytes(&key, &bytes, &Condition::Absent)?.version)).await
    }

    async fn put_if_match(&self, key: &str, bytes: Bytes, version: &Version) -> Result<Version, Failure> {
        let (key, condition) = (key.to_string(), Condition::Match(version.clone()));
        self.blocking(move |this| Ok(this.put_bytes(&key, &bytes, &condition)?.version)).await
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<Version, Failure> {
        let key = key.to_string();
        self.blocking(move |this| Ok(this.put_bytes(&key, &bytes, &Condition::None)?.version)).await
    }

    async fn read(&self, key: &str) -> Result<ByteStream, Failure> {
        let owned = key.to_string();
        let (file, _) = self.blocking(move |this| this.open_object(&owned)).await?;
        let name = self.name(key);
        let chunks = ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK_BYTES);
        Ok(chunks.map(move |chunk| chunk.map_err(|error| io_failure(&name, &error))).boxed())
    }

    async fn open_file(&self, key: &str) -> Result<Option<File>, Failure> {
        let owned = key.to_string();
        // An object is replaced by another file, never written into.
        let (file, _) = self.blocking(move |this| this.open_object(&owned)).await?;
        Ok(Some(file))
    }

    async fn write_stream(&self, key: &str, mut stream: ByteStream) -> Result<ObjectInfo, Failure> {
        let owned = key.to_string();
        let (file, aside) = self
            .blocking(move |this| {
                // Said before anything is read from the stream; place() decides.
                if this.info(&owned)?.is_some() {
                    return Err(exists(this.name(&owned)));
                }
                this.create_aside().map_err(|error| io_failure(&this.name(&owned), &error))
            })
            .await?;
        let failed = |error: std::io::Error| io_failure(&self.name(key), &error);
        let mut file = tokio::fs::File::from_std(file);
        let mut crc = 0;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            crc = crc32c::crc32c_append(crc, &chunk);
            file.write_all(&chunk).await.map_err(failed)?;
            // A part of the file is there.
            effect("write_part", || Ok(())).map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        let file = file.into_std().await;
        let owned = key.to_string();
        let mut info = self.blocking(move |this| this.place(&owned, file, aside, &Condition::Absent)).await?;
        info.crc32c = Some(crc);
        Ok(info)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, Failure> {
        key::check_prefix(prefix)?;
        let prefix = prefix.to_string();
        self.blocking(move |this| this.walk(&prefix)).await
    }

    async fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        let found: BTreeSet<_> =
            self.list(prefix).await?.iter().filter_map(|info| next_prefix(&info.key, prefix)).collect();
        Ok(found.into_iter().collect())
    }

    async fn delete_if_match(&self, key: &str, version: &Version) -> Result<(), Failure> {
        let (key, condition) = (key.to_string(), Condition::Match(version.clone()));
        self.blocking(move |this| this.remove(&key, &condition)).await
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        let key = key.to_string();
        self.blocking(move |this| this.remove(&key, &Condition::None)).await
    }
}

/// A file that is not in its place yet; removed when dropped (after a rename there is nothing to remove).
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        if self.0.exists() {
            let _ = effect("unlink", || fs::remove_file(&self.0));
        }
    }
}

fn info_of(key: &str, metadata: &fs::Metadata) -> ObjectInfo {
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    ObjectInfo {
        key: key.into(),
        size_bytes: metadata.len(),
        version: Version(format!("{}-{}", since.as_nanos(), metadata.len())),
        crc32c: None,
        updated: jiff::Timestamp::try_from(modified).unwrap_or(jiff::Timestamp::UNIX_EPOCH),
    }
}

fn check_size(object: &str, len: u64) -> Result<(), Failure> {
    if len <= MAX_GET_BYTES {
        return Ok(());
    }
    let message = format!("larger than the {MAX_GET_BYTES} bytes that are read in one piece");
    Err(Failure::Invalid { object: object.into(), message })
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    effect("sync_dir", || File::open(path)?.sync_all())
}

fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent().map(sync_directory) {
        // Removed as empty by a parallel deletion: the name is gone either way.
        Some(Err(error)) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// No such file, or a part of the key is a file: in a bucket both are simply no object.
fn missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn io_failure(object: &str, error: &std::io::Error) -> Failure {
    let (object, message) = (object.to_string(), error.to_string());
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Failure::Denied { object, message },
        ErrorKind::Interrupted | ErrorKind::TimedOut | ErrorKind::WouldBlock => Failure::Transient { object, message },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Failure::Invalid { object, message: format!("{message}; hint: free some space") }
        }
        _ => Failure::Invalid { object, message },
    }
}

fn remove_stale(aside: &Path) {
    let Ok(entries) = fs::read_dir(aside) else { return };
    for entry in entries.flatten() {
        let part = entry.path().extension().is_some_and(|extension| extension == "part");
        let old = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|modified| SystemTime::now().duration_since(modified).is_ok_and(|age| age > STALE));
        if part && old {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{conformance, stream_of};

    fn store() -> (tempfile::TempDir, LocalStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::open(directory.path().join("vault")).unwrap();
        (directory, store)
    }

    fn parts(store: &LocalStore) -> usize {
        let aside = fs::read_dir(store.root.join(ASIDE)).unwrap();
        aside.flatten().filter(|entry| entry.path().extension().is_some_and(|e| e == "part")).count()
    }

    #[tokio::test]
    async fn conforms() {
        let (_directory, store) = store();
        conformance::run(&store).await;
        assert_eq!(parts(&store), 0, "no unfinished files are left");
        assert_eq!(fs::read_dir(&*store.root).unwrap().count(), 1, "no empty directories are left");
    }

    #[tokio::test]
    async fn links_do_not_lead_out_of_the_store() {
        let (directory, store) = store();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, store.root.join("dir")).unwrap();
        std::os::unix::fs::symlink(outside.join("secret"), store.root.join("file")).unwrap();
        assert!(matches!(store.get("dir/secret").await, Err(Failure::Invalid { .. })));
        assert!(matches!(store.put("dir/new", Bytes::new()).await, Err(Failure::Invalid { .. })));
        assert!(matches!(store.put("dir/deep/new", Bytes::new()).await, Err(Failure::Invalid { .. })));
        assert!(matches!(store.get("file").await, Err(Failure::NotFound { .. })));
        assert_eq!(store.list("").await.unwrap(), vec![]);
        assert!(matches!(store.get(&format!("{ASIDE}/00.lock")).await, Err(Failure::Invalid { .. })));
    }

    #[tokio::test]
    async fn a_file_of_a_dead_process_is_never_an_object_and_goes_away() {
        let (_directory, store) = store();
        let part = store.root.join(ASIDE).join("dead.part");
        fs::write(&part, "half").unwrap();
        assert_eq!(store.list("").await.unwrap(), vec![]);
        LocalStore::open(&*store.root).unwrap();
        assert!(part.exists(), "a fresh one may be at work");
        let old = SystemTime::now() - STALE - Duration::from_secs(60);
        OpenOptions::new().write(true).open(&part).unwrap().set_modified(old).unwrap();
        LocalStore::open(&*store.root).unwrap();
        assert!(!part.exists());
    }

    #[tokio::test]
    async fn versions_never_repeat_however_fast() {
        let (_directory, store) = store();
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            assert!(seen.insert(store.put("k", Bytes::from_static(b"same")).await.unwrap().0));
        }
    }

    /// Two handles are two processes as far as the lock is concerned: the lock belongs to the open file.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_of_many_swaps_wins() {
        let (_directory, store) = store();
        let version = store.put_if_absent("k", Bytes::from_static(b"0")).await.unwrap();
        let tries = (0..16).map(|n| {
            let (store, version) = (LocalStore::open(&*store.root).unwrap(), version.clone());
            tokio::spawn(async move { store.put_if_match("k", Bytes::from(format!("{n}")), &version).await })
        });
        let won = futures::future::join_all(tries).await.into_iter().filter(|result| result.as_ref().unwrap().is_ok());
        assert_eq!(won.count(), 1);
    }

    #[tokio::test]
    async fn an_object_below_an_object_is_refused_clearly() {
        let (_directory, store) = store();
        store.put("a", Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(store.head("a/b").await.unwrap(), None);
        assert!(store.write_stream("a/b", stream_of(Bytes::from_static(b"y"))).await.is_err());
        assert_eq!(parts(&store), 0);
    }
}

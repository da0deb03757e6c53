//! Files below a folder: archives of what is new, an index of all, restored beside what is there and put in its place at once.
//!
//! Does not know how archives look ([`crate::codec::archive`] does), nor where objects lie.

mod fetch;
mod pack;
mod place;
#[cfg(test)]
mod tests;
mod unpack;
mod walk;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;
use tokio::sync::{Mutex, mpsc};

use self::fetch::Contents;
use self::pack::{Last, Packed, Piece, Progress, broken, local};
use self::unpack::{Selected, Wanted};
use self::walk::{Kind, Stat, Walk, failure};
use super::streamed::{
    Checked, Cut, ItemFacts, RestoredItem, RestoredSource, Sink, Streamed, StreamedFacts, StreamedRestore, Vault, Wish,
};
use crate::codec::archive::{IndexReader, What};
use crate::config::FilesSource;
use crate::manifest::{ArchiveRecord, FilesRecord, ListedFile, ObjectRecord, SourceRecord};
use crate::model::Failure;
use crate::plan::Refusal;
use crate::store::ByteStream;

/// Pieces that wait to be stored: some MiB.
const WAITING: usize = 16;
/// Files that cannot be read are all told, up to so many.
const REFUSALS: usize = 20;

/// A folder, ready to be looked at.
pub struct Files {
    name: String,
    settings: FilesSource,
}

impl Files {
    pub fn new(name: &str, settings: &FilesSource) -> Self {
        Self { name: name.into(), settings: settings.clone() }
    }

    /// Where a restore goes.
    fn target(&self, wish: &Wish) -> PathBuf {
        match &wish.to {
            Some(to) => absolute(&to.join(&self.name)),
            None => absolute(&self.settings.root),
        }
    }
}

#[async_trait]
impl Streamed for Files {
    async fn inventory(&self) -> Result<StreamedFacts, Failure> {
        let (name, settings) = (self.name.clone(), self.settings.clone());
        blocking(move || inventory(name, &settings)).await
    }

    async fn cut(&self) -> Result<Box<dyn Cut>, Failure> {
        // There is no way of holding a tree still: what is changed while it is read is read again.
        let taken_at = now();
        Ok(Box::new(Tree { name: self.name.clone(), settings: self.settings.clone(), taken_at }))
    }

    async fn look(&self, record: &SourceRecord, wish: &Wish) -> Result<Result<StreamedRestore, Vec<Refusal>>, Failure> {
        let record = files(record)?;
        let target = self.target(wish);
        let shown = target.display().to_string();
        let mut notes = vec![];
        let replaces = match std::fs::symlink_metadata(&target) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(failure(&shown, Some(&error), &error.to_string())),
            Ok(meta) if !meta.is_dir() => {
                let hint = "restore into another folder: --to DIR";
                return Ok(Err(vec![Refusal::new(shown, "is no folder", hint)]));
            }
            Ok(_) => !is_empty(&target)?,
        };
        let mut refusals = vec![];
        if replaces && !wish.paths.is_empty() {
            let message = "is there, and only some of its files are asked for";
            refusals.push(Refusal::new(shown.clone(), message, "restore them beside it: --to DIR"));
        } else if replaces && !wish.replace {
            let hint = "restore beside it with --to DIR, or replace all of it with --replace";
            refusals.push(Refusal::new(shown.clone(), "is there and holds files", hint));
        }
        if replaces && refusals.is_empty() && wish.to.is_none() {
            // A tree is replaced as a whole: what no backup has would be lost.
            let settings = self.settings.clone();
            let left_out = blocking(move || {
                let mut walk = Walk::new(&settings);
                while walk.next_found()?.is_some() {}
                Ok(walk.left_out.by_configuration())
            })
            .await?;
            if let Some(named) = left_out {
                let message = format!("holds files that its backups leave out, and that would be lost: {named}");
                let hint = "restore beside it with --to DIR, and move over what is wanted";
                refusals.push(Refusal::new(shown.clone(), message, hint));
            }
        }
        if !refusals.is_empty() {
            return Ok(Err(refusals));
        }
        if replaces {
            notes.push(format!("{shown}: what is there now is removed, also caches, logs and the like"));
        }
        let items = vec![ItemFacts { name: shown.clone(), row_count: None, size_bytes: Some(record.content_bytes) }];
        let (source, origin) = (self.name.clone(), record.root.clone());
        Ok(Ok(StreamedRestore { source, origin, target: shown, replaces, items, notes }))
    }

    async fn restore(&self, record: &SourceRecord, vault: &dyn Vault, wish: &Wish) -> Result<RestoredSource, Failure> {
        let record = files(record)?;
        let target = self.target(wish);
        let scratch = scratch(&target, &wish.run);
        let index = fetch_index(vault, &record.index).await?;
        let (ask, asked) = mpsc::channel(1);
        let contents = Contents::new(ask, record.archives.clone(), wish.paths.is_empty());
        let work = {
            let (wish, scratch, root_mode) = (wish.clone(), scratch.clone(), record.root_mode.clone());
            blocking(move || {
                let wanted = Wanted(&wish.paths);
                make_scratch(&scratch)?;
                let root_mode = u32::from_str_radix(&root_mode, 8).unwrap_or(0o755) & 0o7777;
                let unpacked = unpack::unpack(&index, contents, &scratch, &wanted, root_mode)?;
                if unpacked.entry_count == 0 && !wanted.all() {
                    let patterns: Vec<String> = wish.paths.iter().map(ToString::to_string).collect();
                    let message = "no file of the backup has such a path; hint: strongroom show lists what it holds";
                    return Err(Failure::NotFound { object: patterns.join(", "), message: message.into() });
                }
                let differences = unpack::compare(&index, Walk::whole(&scratch), &wanted)?;
                Ok((unpacked, differences))
            })
        };
        let (outcome, ()) = tokio::join!(work, fetch::serve(vault, &record.archives, asked));
        let (unpacked, differences) = outcome?;
        if !differences.is_empty() {
            let message = format!("what was restored is not what was backed up: {}", differences.join("; "));
            return Err(Failure::Corrupt { object: scratch.display().to_string(), message });
        }
        if wish.paths.is_empty() && unpacked.file_count != record.file_count {
            let message = format!("holds {} files, its record says {}", unpacked.file_count, record.file_count);
            return Err(Failure::Corrupt { object: record.index.key.clone(), message });
        }
        let (into, replace) = (target.clone(), wish.replace);
        blocking(move || put_in_place(&scratch, &into, replace)).await?;
        let name = format!("{} files, {} bytes", unpacked.file_count, unpacked.content_bytes);
        let items = vec![RestoredItem { name, row_count: None, expected_row_count: None, proven: Some(true) }];
        Ok(RestoredSource { source: self.name.clone(), target: target.display().to_string(), items, differences })
    }

    async fn compare(&self, record: &SourceRecord, vault: &dyn Vault) -> Result<Option<RestoredSource>, Failure> {
        let record = files(record)?;
        let index = fetch_index(vault, &record.index).await?;
        let settings = self.settings.clone();
        let differences = blocking(move || unpack::compare(&index, Walk::new(&settings), &Wanted(&[]))).await?;
        let name = format!("{} files, {} bytes", record.file_count, record.content_bytes);
        let proven = Some(differences.is_empty());
        let items = vec![RestoredItem { name, row_count: None, expected_row_count: None, proven }];
        let target = absolute(&self.settings.root).display().to_string();
        Ok(Some(RestoredSource { source: self.name.clone(), target, items, differences }))
    }

    async fn take_back(&self, _record: &SourceRecord, wish: &Wish) -> Result<(), Failure> {
        let target = self.target(wish);
        let run = wish.run.clone();
        blocking(move || take_back(&target, &run)).await
    }
}

/// Holds every content of a stored tree against its index.
///
/// # Errors
/// The vault's own; `Corrupt` when an archive or the index is none of ours.
pub async fn check(record: &FilesRecord, vault: &dyn Vault) -> Result<Checked, Failure> {
    let index = fetch_index(vault, &record.index).await?;
    let (ask, asked) = mpsc::channel(1);
    let contents = Contents::new(ask, record.archives.clone(), true);
    let file_count = record.file_count;
    let work = blocking(move || unpack::check(&index, contents, file_count));
    let (outcome, ()) = tokio::join!(work, fetch::serve(vault, &record.archives, asked));
    let (differences, whole) = outcome?;
    let archives = whole.into_iter().filter_map(|archive| record.archives.get(archive));
    let objects = archives.map(|archive| &archive.object).chain([&record.index]);
    Ok(Checked { objects: objects.map(|object| object.key.clone()).collect(), differences })
}

/// A tree that is about to be read.
struct Tree {
    name: String,
    settings: FilesSource,
    taken_at: Timestamp,
}

#[async_trait]
impl Cut for Tree {
    fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    async fn capture(self: Box<Self>, sink: &dyn Sink) -> Result<SourceRecord, Failure> {
        let root = absolute(&self.settings.root);
        let meta = std::fs::metadata(&root)
            .map_err(|error| failure(&root.display().to_string(), Some(&error), &error.to_string()))?;
        let last = match sink.last() {
            Some(SourceRecord::Files(record)) if record.root == root.display().to_string() => {
                let index = fetch_index(sink.vault(), &record.index).await?;
                Some(Last { record: record.clone(), index })
            }
            _ => None,
        };
        let before = last.as_ref().map(|last| last.record.clone());
        let (give, pieces) = mpsc::channel(WAITING);
        let progress = Arc::new(Progress::default());
        let work = {
            let (settings, taken_at, progress) = (self.settings.clone(), self.taken_at, progress.clone());
            tokio::task::spawn_blocking(move || pack::pack(&settings, last, taken_at, &give, &progress))
        };
        let stored = store(sink, &self.name, pieces, &progress).await;
        let packed = work.await.map_err(|error| Failure::Invalid {
            object: root.display().to_string(),
            message: format!("could not be read: {error}"),
        })?;
        // When storing failed, the threads only say that nobody takes what they give.
        let written = stored?;
        let packed = packed?;
        record(&self, (&root, Stat::of(&meta).mode), (before, written, packed), sink).await
    }
}

/// Stores archives as they come.
async fn store(
    sink: &dyn Sink,
    name: &str,
    pieces: mpsc::Receiver<Piece>,
    progress: &Arc<Progress>,
) -> Result<Vec<ObjectRecord>, Failure> {
    let pieces = Arc::new(Mutex::new(pieces));
    let mut written = Vec::new();
    loop {
        let first = pieces.lock().await.recv().await;
        let first = match first {
            None => return Ok(written),
            Some(Piece::End) => continue,
            Some(Piece::Failed(failure)) => return Err(failure),
            Some(Piece::Bytes(bytes)) => bytes,
        };
        let rest = archive_of(pieces.clone());
        let content: ByteStream = futures::stream::once(async move { Ok(first) }).chain(rest).boxed();
        written.push(sink.stream(&format!("archive-{:04}.tar.zst", written.len()), content).await?);
        let mib = |bytes: &std::sync::atomic::AtomicU64| (bytes.load(Ordering::Relaxed) >> 20) as usize;
        sink.progress(mib(&progress.done), mib(&progress.total), &format!("{name}, MiB"));
    }
}

/// The pieces up to the archive's end.
fn archive_of(pieces: Arc<Mutex<mpsc::Receiver<Piece>>>) -> ByteStream {
    futures::stream::unfold(Some(pieces), async |pieces| {
        let pieces = pieces?;
        let next = pieces.lock().await.recv().await;
        match next {
            Some(Piece::Bytes(bytes)) => Some((Ok(bytes), Some(pieces))),
            Some(Piece::End) => None,
            Some(Piece::Failed(failure)) => Some((Err(failure), None)),
            None => {
                let message = "ended before it was whole".to_string();
                Some((Err(Failure::Transient { object: "archive".into(), message }), None))
            }
        }
    })
    .boxed()
}

async fn record(
    tree: &Tree,
    (root, root_mode): (&Path, u32),
    (before, written, packed): (Option<FilesRecord>, Vec<ObjectRecord>, Packed),
    sink: &dyn Sink,
) -> Result<SourceRecord, Failure> {
    let mut archives = Vec::new();
    for (at, needed_bytes) in &packed.kept {
        let kept = before.as_ref().and_then(|before| before.archives.get(*at));
        let kept = kept.ok_or_else(|| Failure::Corrupt {
            object: format!("archive {at}"),
            message: "the last backup's record has no such archive".into(),
        })?;
        archives.push(ArchiveRecord { needed_bytes: *needed_bytes, ..kept.clone() });
    }
    if written.len() != packed.written.len() {
        let message = format!("{} archives were stored, {} were made", written.len(), packed.written.len());
        return Err(Failure::Corrupt { object: root.display().to_string(), message });
    }
    for (object, content_bytes) in written.into_iter().zip(&packed.written) {
        archives.push(ArchiveRecord { object, content_bytes: *content_bytes, needed_bytes: *content_bytes });
    }
    // A manifest lies open: what is sealed has its names in the index only.
    let is_listed = !sink.is_sealed() && packed.file_count <= FilesRecord::LISTED_AT_MOST as u64;
    let files = if is_listed { listed(&packed)? } else { vec![] };
    let mut index = packed.index;
    index.seek(SeekFrom::Start(0)).map_err(local)?;
    let index = sink.stream("index.jsonl.zst", of_file(index)).await?;
    let read_in_full_at = match &before {
        Some(before) if !packed.in_full => before.read_in_full_at,
        _ => tree.taken_at,
    };
    Ok(SourceRecord::Files(FilesRecord {
        name: tree.name.clone(),
        root: root.display().to_string(),
        root_mode: format!("{root_mode:o}"),
        taken_at: tree.taken_at,
        read_in_full_at,
        index,
        archives,
        file_count: packed.file_count,
        folder_count: packed.folder_count,
        symlink_count: packed.symlink_count,
        content_bytes: packed.content_bytes,
        stored_bytes: packed.stored_bytes,
        stored_count: packed.stored_count,
        files,
        notes: packed.notes,
    }))
}

/// The files by name.
fn listed(packed: &Packed) -> Result<Vec<ListedFile>, Failure> {
    let everything = Wanted(&[]);
    let mut entries = Selected::new(&packed.index, &everything)?;
    let mut files = Vec::new();
    while let Some(entry) = entries.next_entry()? {
        if let What::File(content) = &entry.what {
            let sha256 = content.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            files.push(ListedFile { path: entry.path.to_string(), size_bytes: content.size_bytes, sha256 });
        }
    }
    Ok(files)
}

fn inventory(name: String, settings: &FilesSource) -> Result<StreamedFacts, Failure> {
    let root = absolute(&settings.root);
    let origin = root.display().to_string();
    let mut facts = StreamedFacts { name, origin: origin.clone(), ..StreamedFacts::default() };
    match std::fs::metadata(&root) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            facts.refusals.push(Refusal::new(
                origin,
                "is no folder",
                "source.root names the folder that holds the files",
            ));
            return Ok(facts);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            facts.refusals.push(Refusal::new(
                origin,
                "does not exist",
                "source.root names the folder that holds the files",
            ));
            return Ok(facts);
        }
        Err(error) => return Err(failure(&origin, Some(&error), &error.to_string())),
    }
    let mut walk = Walk::new(settings);
    let (mut files, mut size_bytes, mut unreadable) = (0_u64, 0_u64, 0_usize);
    loop {
        let found = match walk.next_found() {
            Ok(Some(found)) => found,
            Ok(None) => break,
            Err(Failure::Precondition { object, message }) => {
                unreadable += 1;
                let (message, hint) = message.split_once("; hint: ").unwrap_or((&message, "exclude it"));
                facts.refusals.push(Refusal::new(object, message, hint));
                continue;
            }
            Err(error) => return Err(error),
        };
        if found.kind != Kind::File {
            continue;
        }
        files += 1;
        size_bytes += found.stat.size_bytes;
        if rustix::fs::access(&found.full, rustix::fs::Access::READ_OK) == Err(rustix::io::Errno::ACCESS) {
            unreadable += 1;
            if unreadable <= REFUSALS {
                let hint = "run as a user who may read it, or exclude it";
                facts.refusals.push(Refusal::new(found.full.display().to_string(), "cannot be read", hint));
            }
        }
    }
    if unreadable > REFUSALS {
        let message = format!("{} more files cannot be read", unreadable - REFUSALS);
        facts.refusals.push(Refusal::new(origin.clone(), message, "run as a user who may read them, or exclude them"));
    }
    let plural = if files == 1 { "" } else { "s" };
    facts.items.push(ItemFacts {
        name: format!("{files} file{plural}"),
        row_count: None,
        size_bytes: Some(size_bytes),
    });
    facts.notes = walk.left_out.notes().into_iter().map(|note| format!("{}: {note}", facts.name)).collect();
    Ok(facts)
}

/// Puts a restored tree in its place, in one step.
fn put_in_place(scratch: &Path, target: &Path, replace: bool) -> Result<(), Failure> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let shown = target.display().to_string();
    let failed = |error: rustix::io::Errno| failure(&shown, Some(&error.into()), &error.to_string());
    match renameat_with(CWD, scratch, CWD, target, RenameFlags::NOREPLACE) {
        Ok(()) => return settle_parent(target),
        Err(rustix::io::Errno::EXIST) => {}
        Err(rustix::io::Errno::INVAL) if !target.exists() => {
            std::fs::rename(scratch, target).map_err(|error| failure(&shown, Some(&error), &error.to_string()))?;
            return settle_parent(target);
        }
        Err(error) => return Err(failed(error)),
    }
    if !replace && !is_empty(target)? {
        let message = "holds files by now; hint: --to DIR, or --replace".to_string();
        return Err(Failure::Precondition { object: shown, message });
    }
    match renameat_with(CWD, scratch, CWD, target, RenameFlags::EXCHANGE) {
        Ok(()) => {
            settle_parent(target)?;
            remove_tree(scratch) // what was there before
        }
        // A file system that cannot exchange: for a moment there is nothing, and `take_back` knows what was there.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            let old = beside(scratch, "before");
            std::fs::rename(target, &old)
                .and_then(|()| std::fs::rename(scratch, target))
                .map_err(|error| failure(&shown, Some(&error), &error.to_string()))?;
            settle_parent(target)?;
            remove_tree(&old)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Either all is in place or what was there before is; what lies beside it goes.
fn take_back(target: &Path, run: &str) -> Result<(), Failure> {
    let scratch = scratch(target, run);
    let old = beside(&scratch, "before");
    if old.symlink_metadata().is_ok() && target.symlink_metadata().is_err() {
        std::fs::rename(&old, target)
            .map_err(|error| failure(&target.display().to_string(), Some(&error), &error.to_string()))?;
    }
    remove_tree(&scratch)?;
    remove_tree(&old)
}

fn settle_parent(target: &Path) -> Result<(), Failure> {
    let parent = target.parent().unwrap_or(target);
    let synced = File::open(parent).and_then(|folder| folder.sync_all());
    synced.map_err(|error| failure(&parent.display().to_string(), Some(&error), &error.to_string()))
}

fn remove_tree(path: &Path) -> Result<(), Failure> {
    let shown = || path.display().to_string();
    match std::fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            // Folders that nobody may write into were restored as they were.
            open_up(path);
            std::fs::remove_dir_all(path).map_err(|error| failure(&shown(), Some(&error), &error.to_string()))
        }
        Err(error) => Err(failure(&shown(), Some(&error), &error.to_string())),
    }
}

fn open_up(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for entry in walkdir::WalkDir::new(path).follow_links(false).into_iter().flatten() {
        if entry.file_type().is_dir() {
            let _ = std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(0o700));
        }
    }
}

fn make_scratch(scratch: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| failure(&scratch.display().to_string(), Some(&error), &error.to_string());
    if let Some(parent) = scratch.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    remove_tree(scratch)?;
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(scratch).map_err(failed)
}

/// Where a run restores to, beside the target: on the same file system, so that it can be put in place in one step.
fn scratch(target: &Path, run: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    target.with_file_name(format!(".{name}.strongroom-{run}"))
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{what}"));
    path.with_file_name(name)
}

fn is_empty(folder: &Path) -> Result<bool, Failure> {
    let mut entries = std::fs::read_dir(folder)
        .map_err(|error| failure(&folder.display().to_string(), Some(&error), &error.to_string()))?;
    Ok(entries.next().is_none())
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

fn files(record: &SourceRecord) -> Result<&FilesRecord, Failure> {
    match record {
        SourceRecord::Files(record) => Ok(record),
        other => {
            Err(Failure::Invalid { object: other.name().into(), message: "is no tree of files in the backup".into() })
        }
    }
}

/// An index, in a file without a name.
async fn fetch_index(vault: &dyn Vault, object: &ObjectRecord) -> Result<File, Failure> {
    let mut file = tempfile::tempfile().map_err(local)?;
    let mut content = vault.read(object).await?;
    while let Some(piece) = content.next().await {
        file.write_all(&piece?).map_err(local)?;
    }
    file.seek(SeekFrom::Start(0)).map_err(local)?;
    IndexReader::open(file.try_clone().map_err(local)?).map_err(broken)?;
    file.seek(SeekFrom::Start(0)).map_err(local)?;
    Ok(file)
}

/// A file's bytes as a stream.
pub(super) fn of_file(file: File) -> ByteStream {
    let file = tokio::fs::File::from_std(file);
    futures::stream::unfold(Some(file), async |file| {
        use tokio::io::AsyncReadExt;
        let mut file = file?;
        let mut piece = Vec::with_capacity(256 << 10);
        match (&mut file).take(256 << 10).read_to_end(&mut piece).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(Bytes::from(piece)), Some(file))),
            Err(error) => Some((Err(local(error)), None)),
        }
    })
    .boxed()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| Failure::Invalid { object: "files".into(), message: error.to_string() })?
}

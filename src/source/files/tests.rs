//! Trees there and back, through a place in memory.

use std::collections::BTreeMap;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use tempfile::TempDir;

use super::super::testing::{Memory, wish};
use super::*;
use crate::config::Usual;
use crate::model::{PathPattern, Pattern, Period};

fn settings(root: &Path) -> FilesSource {
    FilesSource {
        root: root.into(),
        include: vec![],
        exclude: vec![],
        exclude_usual: Usual::ALL.to_vec(),
        reread_after: Period::days(30),
        one_file_system: false,
    }
}

fn write(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let at = root.join(path);
    std::fs::create_dir_all(at.parent().unwrap()).unwrap();
    std::fs::write(at, content).unwrap();
}

/// Everything below a folder as text: what must be the same before and after.
fn picture(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut picture = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1).follow_links(false) {
        let entry = entry.unwrap();
        let meta = entry.path().symlink_metadata().unwrap();
        let content = if meta.is_symlink() {
            format!("-> {:?}", std::fs::read_link(entry.path()).unwrap())
        } else if meta.is_file() {
            crate::model::Digests::of(&std::fs::read(entry.path()).unwrap()).sha256_hex()
        } else {
            "folder".into()
        };
        let path = entry.path().strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let (mode, time) = (meta.mode(), (meta.mtime(), meta.mtime_nsec()));
        picture.insert(path, format!("{mode:o} {time:?} {}:{} {content}", meta.uid(), meta.gid()));
    }
    picture
}

fn record_of(record: &SourceRecord) -> &FilesRecord {
    files(record).unwrap()
}

/// A tree with one of everything.
fn odd_tree() -> TempDir {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    write(root, "app/config.toml", "name = \"x\"\n");
    write(root, "app/empty", "");
    write(root, "app.txt", "between app and its files, by name");
    let random: Vec<u8> = (0..9_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    write(root, "big.bin", &random);
    write(root, &format!("deep/{}/{}", "d".repeat(200), "f".repeat(250)), "a path that is too long for a tar's header");
    symlink("../../etc/passwd", root.join("app/link")).unwrap();
    symlink("x".repeat(300), root.join("app/nowhere")).unwrap();
    std::fs::hard_link(root.join("app/config.toml"), root.join("zweitname")).unwrap();
    let odd = std::ffi::OsString::from_vec(b"not \xff\xfe utf-8".to_vec());
    std::fs::write(root.join(odd), "latin").unwrap();
    let sparse = File::create(root.join("sparse.img")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"in the middle", 5 << 20).unwrap();
    std::fs::set_permissions(root.join("app.txt"), std::fs::Permissions::from_mode(0o400)).unwrap();
    std::fs::create_dir(root.join("closed")).unwrap();
    std::fs::set_permissions(root.join("closed"), std::fs::Permissions::from_mode(0o500)).unwrap();
    let then = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 987_654_321);
    File::open(root.join("deep")).unwrap().set_modified(then).unwrap();
    tree
}

#[tokio::test]
async fn a_tree_comes_back_as_it_was() {
    let tree = odd_tree();
    let root = tree.path();
    let before = picture(root);
    let source = Files::new("config", &settings(root));
    for whole_only in [false, true] {
        let vault = Memory { folder: "one".into(), whole_only, ..Memory::default() };
        let record = vault.backup(&source).await.unwrap();
        assert_eq!(picture(root), before, "a backup changes nothing");
        let files = record_of(&record);
        assert_eq!((files.archives.len(), files.symlink_count), (1, 2));
        assert_eq!(files.stored_count, files.file_count - 1, "the second name of a file is no second file");

        let to = tempfile::tempdir().unwrap();
        let wish = Wish { to: Some(to.path().into()), ..wish("r1") };
        source.look(&record, &wish).await.unwrap().unwrap();
        let restored = source.restore(&record, &vault, &wish).await.unwrap();
        assert_eq!(restored.items[0].proven, Some(true));
        assert_eq!(picture(&to.path().join("config")), before);
        let meta = |name: &str| to.path().join("config").join(name).metadata().unwrap();
        assert_eq!(meta("zweitname").ino(), meta("app/config.toml").ino(), "a hard link is one again");
        assert!(meta("sparse.img").blocks() * 512 < 1 << 20, "holes are holes again");
        assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 1, "nothing is left beside it");
        open_up(to.path());
    }
    open_up(root);
}

#[tokio::test]
async fn what_is_unchanged_is_not_stored_again() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    for n in 0..300 {
        write(root, &format!("f{:02}/{n}.txt", n % 7), format!("content {n} ").repeat(n));
    }
    let source = Files::new("config", &settings(root));
    let mut vault = Memory { folder: "one".into(), ..Memory::default() };
    let first = vault.backup(&source).await.unwrap();
    vault.next("two", &first);
    let second = vault.backup(&source).await.unwrap();
    let files = record_of(&second);
    assert_eq!((files.stored_bytes, files.stored_count), (0, 0));
    assert_eq!(files.archives, record_of(&first).archives);
    assert_eq!(vault.objects.lock().unwrap().keys().filter(|key| key.starts_with("two/")).count(), 1, "only its index");

    // One is changed, one added, one removed: two are stored.
    write(root, "f01/1.txt", "changed");
    write(root, "new.txt", "new");
    std::fs::remove_file(root.join("f02/2.txt")).unwrap();
    vault.next("three", &second);
    let third = vault.backup(&source).await.unwrap();
    let files = record_of(&third);
    assert_eq!((files.stored_count, files.stored_bytes, files.archives.len()), (2, 10, 2));
    assert!(files.archives[0].needed_bytes < files.archives[0].content_bytes);
    let to = tempfile::tempdir().unwrap();
    let there = Wish { to: Some(to.path().into()), ..wish("r1") };
    source.restore(&third, &vault, &there).await.unwrap();
    assert_eq!(picture(&to.path().join("config")), picture(root));

    // Most is rewritten: the old archive is given up, what is left of it is stored again.
    for n in 0..290 {
        if n != 2 {
            write(root, &format!("f{:02}/{n}.txt", n % 7), format!("another {n} ").repeat(n));
        }
    }
    vault.next("four", &third);
    let fourth = vault.backup(&source).await.unwrap();
    let files = record_of(&fourth);
    assert!(files.archives.iter().all(|archive| !archive.object.key.starts_with("one/")), "{:?}", files.archives);
    source.restore(&fourth, &vault, &Wish { replace: true, ..there }).await.unwrap();
    assert_eq!(picture(&to.path().join("config")), picture(root));
}

#[tokio::test]
async fn what_times_do_not_tell_is_found_when_everything_is_read_again() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    write(root, "a", "old content");
    write(root, "b", "stays");
    let mut source = Files::new("config", &settings(root));
    let mut vault = Memory { folder: "one".into(), ..Memory::default() };
    let mut first = vault.backup(&source).await.unwrap();
    // As if the disk had changed it: the record says another content for the same times.
    write(root, "a", "new content");
    let now = vault_entry_times(root, "a");
    vault
        .rewrite_index(&mut first, |entry| {
            if entry.path.as_bytes() == b"a" {
                (entry.modified, entry.changed, entry.inode) = now;
            }
        })
        .await;
    vault.next("two", &first);
    let second = vault.backup(&source).await.unwrap();
    assert_eq!(record_of(&second).stored_count, 0, "times and inode are the same");
    source.settings.reread_after = Period::seconds(0);
    vault.next("three", &first);
    let third = vault.backup(&source).await.unwrap();
    let files = record_of(&third);
    assert_eq!(files.stored_count, 1, "its content is another one; the other file's is not");
    assert!(
        files.notes.iter().any(|note| note.contains("another content") && note.contains(": a")),
        "{:?}",
        files.notes
    );
    assert_eq!(files.read_in_full_at, files.taken_at);
}

fn vault_entry_times(root: &Path, path: &str) -> (crate::codec::archive::Moment, crate::codec::archive::Moment, u64) {
    let stat = Stat::of(&root.join(path).metadata().unwrap());
    (stat.modified, stat.changed, stat.inode)
}

impl Memory {
    /// Puts another index in the place of a backup's own.
    async fn rewrite_index(&self, record: &mut SourceRecord, change: impl Fn(&mut crate::codec::archive::Entry)) {
        let SourceRecord::Files(files) = record else { panic!("no files") };
        let bytes = self.objects.lock().unwrap()[&files.index.key].clone();
        let reader = IndexReader::open(bytes.as_ref()).unwrap();
        let mut writer = crate::codec::archive::IndexWriter::new(Vec::new(), reader.head().taken_at).unwrap();
        for entry in reader {
            let mut entry = entry.unwrap();
            change(&mut entry);
            writer.put(&entry).unwrap();
        }
        let bytes = Bytes::from(writer.finish().unwrap());
        files.index.digests = crate::model::Digests::of(&bytes);
        self.objects.lock().unwrap().insert(files.index.key.clone(), bytes);
    }
}

#[tokio::test]
async fn one_file_is_restored_without_reading_the_rest() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    for n in 0_u32..40 {
        let noise: Vec<u8> =
            (0..1_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(n) >> 9) as u8).collect();
        write(root, &format!("data/{n:02}.bin"), noise);
    }
    write(root, "etc/app.toml", "wanted");
    let source = Files::new("config", &settings(root));
    let vault = Memory { folder: "one".into(), ..Memory::default() };
    let record = vault.backup(&source).await.unwrap();
    let to = tempfile::tempdir().unwrap();
    let wish = Wish { to: Some(to.path().into()), paths: vec![Pattern::new("etc/*.toml")], ..wish("r1") };
    source.restore(&record, &vault, &wish).await.unwrap();
    assert_eq!(std::fs::read(to.path().join("config/etc/app.toml")).unwrap(), b"wanted");
    assert!(!to.path().join("config/data").exists());
    let (read, all) = (*vault.ranged.lock().unwrap(), record_of(&record).archives[0].object.digests.size_bytes);
    assert!(read < all / 100, "{read} of {all} bytes were read");
    let none = Wish { paths: vec![Pattern::new("nowhere*")], to: Some(to.path().join("other")), ..wish };
    let refused = source.restore(&record, &vault, &none).await.unwrap_err();
    assert!(refused.to_string().contains("nowhere*: not found"), "{refused}");
    source.take_back(&record, &none).await.unwrap();
    assert_eq!(std::fs::read_dir(to.path().join("other")).unwrap().count(), 0, "no scratch is left");
}

#[tokio::test]
async fn files_that_need_no_backup_are_left_out_and_named() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    for path in [
        "keep.toml",
        "app.log",
        "app.log.1",
        "x/node_modules/m/i.js",
        "x/y.pyc",
        "cache/a",
        "t/CACHEDIR.TAG",
        "t/big",
        "tmp/z",
        "a.tmp",
        "archive/old",
        "vault/_strongroom/lease",
        "docs/build/index.html",
    ] {
        write(root, path, path);
    }
    let mut settings = settings(root);
    settings.exclude = vec![PathPattern::new("/archive").unwrap()];
    rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let source = Files::new("config", &settings);
    let facts = source.inventory().await.unwrap();
    let notes = facts.notes.join("\n");
    for reason in
        ["logs", "caches", "temporary", "generated", "vaults of backups", "excluded by the configuration", "pipes"]
    {
        assert!(notes.contains(reason), "{reason}: {notes}");
    }
    let vault = Memory { folder: "one".into(), ..Memory::default() };
    let record = vault.backup(&source).await.unwrap();
    let names: Vec<&str> = record_of(&record).files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["docs/build/index.html", "keep.toml"]);
    assert!(record_of(&record).notes.join("\n").contains("logs"));
    // Only what is asked for.
    settings.include = vec![PathPattern::new("*.html").unwrap()];
    let record = vault.folder_of("two").backup(&Files::new("config", &settings)).await.unwrap();
    assert_eq!((record_of(&record).file_count, record_of(&record).folder_count), (1, 2));
}

impl Memory {
    fn folder_of(&self, folder: &str) -> Self {
        Self { folder: folder.into(), ..Self::default() }
    }
}

#[tokio::test]
async fn files_that_are_written_meanwhile_make_no_broken_archive() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path().to_path_buf();
    write(&root, "grows", vec![b'x'; 3 << 20]);
    write(&root, "shrinks", vec![b'y'; 6 << 20]);
    write(&root, "still", "still");
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (root, stop) = (root.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut n = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                let _ = File::options()
                    .append(true)
                    .open(root.join("grows"))
                    .and_then(|mut f| f.write_all(&n.to_le_bytes()));
                let shrinks = File::options().write(true).open(root.join("shrinks")).unwrap();
                shrinks.set_len((6 << 20) - (n % (5 << 20))).unwrap();
                write(&root, &format!("comes-and-goes-{}", n % 5), "x");
                let _ = std::fs::remove_file(root.join(format!("comes-and-goes-{}", (n + 2) % 5)));
            }
        })
    };
    let source = Files::new("config", &settings(&root));
    let mut vault = Memory { folder: "0".into(), ..Memory::default() };
    let mut unsettled = 0;
    for n in 1..6 {
        let record = vault.backup(&source).await.unwrap();
        unsettled += record_of(&record).notes.iter().filter(|note| note.contains("changed each time")).count();
        let to = tempfile::tempdir().unwrap();
        let wish = Wish { to: Some(to.path().into()), ..wish("r1") };
        source.restore(&record, &vault, &wish).await.unwrap();
        assert_eq!(std::fs::read(to.path().join("config/still")).unwrap(), b"still");
        for object in record_of(&record).archives.iter().map(|archive| &archive.object.key) {
            let archive = vault.objects.lock().unwrap()[object].clone();
            let tar = zstd::decode_all(archive.as_ref()).unwrap();
            let mut reader = crate::codec::archive::TarReader::new(tar.as_slice());
            while reader.next_entry().unwrap().is_some() {}
        }
        vault.next(&n.to_string(), &record);
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert!(unsettled > 0, "a file that never stands still is said to be one");
}

/// Entries that an index cannot have, put before the placer itself: what the disk says counts, not what was read before.
#[test]
fn the_disk_is_not_trusted_either() {
    use super::place::Placer;
    use crate::codec::archive::{Entry, Moment, RelPath};
    let outside = tempfile::tempdir().unwrap();
    let root = tempfile::tempdir().unwrap();
    symlink(outside.path(), root.path().join("trap")).unwrap();
    symlink(outside.path().join("file"), root.path().join("file")).unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path().join("secret"), root.path().join("name")).unwrap();
    let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
    let time = Moment { seconds: 1, nanoseconds: 0 };
    let entry = |at: &str, what| Entry {
        path: path(at),
        what,
        mode: 0o644,
        uid: 0,
        gid: 0,
        modified: time,
        changed: time,
        inode: 1,
    };
    let mut placer = Placer::new(root.path()).unwrap();
    assert!(placer.file(&path("trap/file")).is_err(), "through a symbolic link");
    assert!(placer.folder(&entry("trap/folder", What::Folder)).is_err());
    assert!(placer.symlink(&entry("trap/link", What::Symlink { target: vec![b'x'] }), b"x").is_err());
    assert!(placer.file(&path("file")).is_err(), "over a symbolic link");
    assert!(placer.hard_link(&path("mine"), &path("name")).is_err(), "a name for what a link leads to");
    assert!(placer.hard_link(&path("mine"), &path("trap/secret")).is_err());
    assert!(placer.hard_link(&path("trap/mine"), &path("name")).is_err());
    assert!(placer.file(&path("nowhere/file")).is_err());
    assert!(Placer::new(&root.path().join("trap")).is_err(), "the root itself is no link");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_content_that_is_not_what_was_written_stays_out_of_place() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    write(root, "a", "content of a");
    write(root, "b", "content of b");
    let source = Files::new("config", &settings(root));
    let vault = Memory { folder: "one".into(), ..Memory::default() };
    let mut record = vault.backup(&source).await.unwrap();
    let to = tempfile::tempdir().unwrap();
    let wish = Wish { to: Some(to.path().into()), ..wish("r1") };
    vault
        .rewrite_index(&mut record, |entry| {
            if let What::File(content) = &mut entry.what {
                content.place = content.place.map(|place| crate::codec::archive::Place { skip: 512, ..place });
            }
        })
        .await;
    let refused = source.restore(&record, &vault, &wish).await.unwrap_err();
    assert!(matches!(&refused, Failure::Corrupt { object, .. } if object == "b"), "{refused}");
    assert!(!to.path().join("config").exists());
    source.take_back(&record, &wish).await.unwrap();
    assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_is_there_is_replaced_only_when_asked_and_in_one_step() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path().join("config");
    write(&root, "a", "as it was");
    let source = Files::new("config", &settings(&root));
    let vault = Memory { folder: "one".into(), ..Memory::default() };
    let record = vault.backup(&source).await.unwrap();
    write(&root, "a", "changed since");
    write(&root, "b", "new since");
    let refusals = source.look(&record, &wish("r1")).await.unwrap().unwrap_err();
    assert!(refusals[0].to_string().contains("--replace"), "{refusals:?}");
    assert!(source.restore(&record, &vault, &wish("r1")).await.is_err());
    source.take_back(&record, &wish("r1")).await.unwrap();
    assert_eq!(std::fs::read(root.join("b")).unwrap(), b"new since");
    let replace = Wish { replace: true, ..wish("r2") };
    assert!(source.look(&record, &replace).await.unwrap().unwrap().replaces);
    source.restore(&record, &vault, &replace).await.unwrap();
    assert_eq!(std::fs::read(root.join("a")).unwrap(), b"as it was");
    assert!(!root.join("b").exists());
    // What the configuration leaves out is in no backup: it would be lost.
    write(&root, "live.db", "data");
    let mut careful = settings(&root);
    careful.exclude = vec![PathPattern::new("*.db").unwrap()];
    let refusals = Files::new("config", &careful).look(&record, &replace).await.unwrap().unwrap_err();
    assert!(refusals[0].to_string().contains("would be lost: live.db"), "{refusals:?}");
    // Died after the exchange: what was there before lies in the scratch folder, and goes.
    let left = scratch(&root, "r2");
    write(&left, "old", "old");
    source.take_back(&record, &replace).await.unwrap();
    assert!(!left.exists() && root.join("a").exists());
    assert_eq!(std::fs::read_dir(tree.path()).unwrap().count(), 1);
}

/// 100,000 small files and one of 2 GiB (bar of the profile); in CI a small form of it. Prints its figures.
#[tokio::test(flavor = "multi_thread")]
async fn many_files_and_a_large_one() {
    let long = std::env::var_os("STRONGROOM_FILES_LONG").is_some();
    let (count, large) = if long { (100_000, 2_u64 << 30) } else { (3_000, 24 << 20) };
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path().join("tree");
    for n in 0..count {
        write(&root, &format!("{:03}/{n:06}.txt", n % 500), format!("file {n}\n").repeat(n % 40));
    }
    let mut big = std::io::BufWriter::new(File::create(root.join("large.bin")).unwrap());
    let mut state = 88_172_645_463_325_252_u64;
    for _ in 0..large / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        big.write_all(&state.to_le_bytes()).unwrap();
    }
    big.flush().unwrap();
    drop(big);
    let store = Arc::new(crate::store::LocalStore::open(tree.path().join("vault").display().to_string()).unwrap());
    let source = Files::new("config", &settings(&root));
    let mut place = Directory { store, last: None, folder: "one" };
    let timed = std::time::Instant::now();
    let first = source.cut().await.unwrap().capture(&place).await.unwrap();
    let first_seconds = timed.elapsed().as_secs_f64();
    (place.last, place.folder) = (Some(first.clone()), "two");
    let timed = std::time::Instant::now();
    let second = source.cut().await.unwrap().capture(&place).await.unwrap();
    let second_seconds = timed.elapsed().as_secs_f64();
    let files = record_of(&second);
    assert_eq!((files.file_count, files.stored_count, files.stored_bytes), (count as u64 + 1, 0, 0));
    let timed = std::time::Instant::now();
    let to = tree.path().join("back");
    source.restore(&second, &place, &Wish { to: Some(to.clone()), ..wish("r1") }).await.unwrap();
    let restore_seconds = timed.elapsed().as_secs_f64();
    let restored: u64 =
        walkdir::WalkDir::new(&to).into_iter().filter(|e| e.as_ref().unwrap().file_type().is_file()).count() as u64;
    assert_eq!(restored, files.file_count);
    let peak = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("").trim().to_string();
    println!(
        "files: {} files of {} bytes: first backup {first_seconds:.1} s, {} bytes stored; second {second_seconds:.1} s, 0 bytes stored, index of {} bytes; restore with proof {restore_seconds:.1} s; peak memory {peak}",
        files.file_count,
        files.content_bytes,
        record_of(&first).archives.iter().map(|archive| archive.object.digests.size_bytes).sum::<u64>(),
        files.index.digests.size_bytes,
    );
}

/// A vault in a directory, as the product's own: nothing is held in memory.
struct Directory {
    store: Arc<crate::store::LocalStore>,
    last: Option<SourceRecord>,
    folder: &'static str,
}

#[async_trait]
impl Sink for Directory {
    async fn stream(&self, name: &str, content: ByteStream) -> Result<ObjectRecord, Failure> {
        use crate::store::Store;
        let key = format!("{}/{name}", self.folder);
        let digester = Arc::new(std::sync::Mutex::new(crate::codec::digest::Digester::new()));
        let seen = digester.clone();
        let content = content.inspect(move |piece| {
            if let Ok(piece) = piece {
                seen.lock().unwrap().update(piece);
            }
        });
        self.store.write_stream(&key, content.boxed()).await?;
        let digests = digester.lock().unwrap().clone().finish();
        Ok(ObjectRecord { key, digests, row_count: None, stored: None })
    }

    async fn put(&self, name: &str, content: Bytes) -> Result<ObjectRecord, Failure> {
        self.stream(name, crate::store::stream_of(content)).await
    }

    fn last(&self) -> Option<&SourceRecord> {
        self.last.as_ref()
    }

    fn vault(&self) -> &dyn Vault {
        self
    }

    fn is_sealed(&self) -> bool {
        false
    }

    fn progress(&self, _done: usize, _total: usize, _what: &str) {}
}

#[async_trait]
impl Vault for Directory {
    async fn read(&self, object: &ObjectRecord) -> Result<ByteStream, Failure> {
        use crate::store::Store;
        self.store.read(&object.key).await
    }

    async fn read_range(&self, object: &ObjectRecord, range: std::ops::Range<u64>) -> Result<Option<Bytes>, Failure> {
        use crate::store::Store;
        self.store.get_range(&object.key, range).await.map(Some)
    }
}

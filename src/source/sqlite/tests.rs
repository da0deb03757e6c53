//! Databases there and back, while somebody writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::params;
use tempfile::TempDir;

use super::super::testing::{Memory, wish};
use super::*;
use crate::model::Period;
use crate::model::schema::FieldType;

fn source(path: &Path) -> Sqlite {
    let busy_timeout = Period::seconds(1);
    Sqlite::new("app", &SqliteSource { path: path.into(), busy_timeout, tables: true, optional: false })
}

fn database(sql: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    (folder, path)
}

fn figures_of(record: &SourceRecord) -> &[TableFigures] {
    &sqlite(record).unwrap().figures
}

fn one<T: rusqlite::types::FromSql>(path: &Path, sql: &str) -> T {
    Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

/// A restored copy equals the state at the backup's instant, whoever writes; and passes its integrity check.
#[tokio::test(flavor = "multi_thread")]
async fn a_live_database_is_copied_as_of_one_instant() {
    let (folder, path) = database(
        "PRAGMA journal_mode = WAL; CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
         CREATE TABLE log (n INTEGER PRIMARY KEY, note TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO account SELECT i, 100 FROM n;",
    );
    // Holds the log open, and moves money about: the sum is always the same, and every move is noted.
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (path, stop) = (path.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut connection = Connection::open(&path).unwrap();
            connection.busy_timeout(Duration::from_secs(20)).unwrap();
            let mut moves = 0_i64;
            while !stop.load(Ordering::Relaxed) {
                let t = connection.transaction().unwrap();
                t.execute("UPDATE account SET balance = balance - 7 WHERE id = ?1", params![moves % 20_000 + 1])
                    .unwrap();
                t.execute("UPDATE account SET balance = balance + 7 WHERE id = ?1", params![moves * 31 % 20_000 + 1])
                    .unwrap();
                t.execute("INSERT INTO log VALUES (?1, ?2)", params![moves, format!("move {moves}")]).unwrap();
                t.commit().unwrap();
                moves += 1;
            }
            moves
        })
    };
    let source = source(&path);
    let vault = Memory { folder: "one".into(), ..Memory::default() };
    while one::<i64>(&path, "SELECT count(*) FROM log") < 50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let cut = source.cut().await.unwrap();
    let at_cut = one::<i64>(&path, "SELECT count(*) FROM log");
    while one::<i64>(&path, "SELECT count(*) FROM log") < at_cut + 50 {
        tokio::time::sleep(Duration::from_millis(5)).await; // the state that is held still is an old one by now
    }
    let record = cut.capture(&vault).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let moves = writer.join().unwrap();
    let written = sqlite(&record).unwrap();
    assert!(written.has_wal && written.journal_mode == "wal", "{written:?}");
    let to = folder.path().join("copy.db");
    let wish = Wish { to: Some(to.clone()), ..wish("r1") };
    let restored = source.restore(&record, &vault, &wish).await.unwrap();
    assert_eq!(restored.items.iter().map(|item| item.proven).collect::<Vec<_>>(), [Some(true); 2]);
    assert_eq!(one::<String>(&to, "PRAGMA integrity_check"), "ok");
    assert_eq!(one::<i64>(&to, "SELECT sum(balance) FROM account"), 2_000_000);
    let (count, last) = (one::<i64>(&to, "SELECT count(*) FROM log"), one::<i64>(&to, "SELECT max(n) FROM log"));
    assert_eq!(count, last + 1, "every move up to one, and none after it");
    assert!(count <= at_cut && count + 50 <= moves, "{count} of {moves}, {at_cut} when the cut was made");
    assert!(!place::aside(&to, "-wal").exists());
    println!("sqlite: cut at {count} of {moves} moves, restored copy is whole and the same");
}

#[tokio::test]
async fn chinook_comes_back_with_its_figures() {
    let chinook = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/chinook/Chinook_Sqlite.sqlite");
    if !chinook.exists() {
        return eprintln!("skipped: {} is not there", chinook.display());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chinook.db");
    std::fs::write(&path, std::fs::read(&chinook).unwrap()).unwrap();
    let source = source(&path);
    let facts = source.inventory().await.unwrap();
    assert_eq!(facts.items.len(), 12);
    let mut vault = Memory { folder: "one".into(), ..Memory::default() };
    let first = vault.backup(&source).await.unwrap();
    let rows: Vec<(&str, u64)> = figures_of(&first).iter().map(|t| (t.table.as_str(), t.totals.row_count)).collect();
    assert!(rows.contains(&("Track", 3503)) && rows.contains(&("InvoiceLine", 2240)), "{rows:?}");
    let line = figures_of(&first).iter().find(|table| table.table == "InvoiceLine").unwrap();
    assert_eq!(line.schema.field("UnitPrice").unwrap().kind, FieldType::Float64);
    let sum = line.totals.columns.iter().find(|column| column.name == "Quantity").unwrap().sum.clone();
    assert_eq!(sum.as_deref(), Some("2240"));
    let invoice = figures_of(&first).iter().find(|table| table.table == "Invoice").unwrap();
    assert_eq!(invoice.schema.field("InvoiceDate").unwrap().kind, FieldType::DateTime);
    // Unchanged: referred to, not stored again.
    vault.next("two", &first);
    let second = vault.backup(&source).await.unwrap();
    assert_eq!(sqlite(&second).unwrap().database, sqlite(&first).unwrap().database);
    assert!(vault.objects.lock().unwrap().keys().all(|key| key.starts_with("one/")));
    // Lost, and back.
    let before = std::fs::metadata(&path).unwrap().permissions().mode();
    std::fs::remove_file(&path).unwrap();
    source.restore(&second, &vault, &wish("r1")).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode(), before);
    assert_eq!(one::<String>(&path, "PRAGMA integrity_check"), "ok");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[tokio::test]
async fn values_of_every_kind_are_told_apart() {
    let (_folder, path) = database(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, flag BOOLEAN, day DATE, at DATETIME, bad_day DATE, price NUMERIC, mixed, text TEXT,
                         latin TEXT, bytes BLOB, never REAL, big REAL, doubled AS (id * 2));
         INSERT INTO t VALUES (1, 1, '2026-01-31', '2026-01-31 10:00:00', '31.1.2026', 1.5, 1, 'a', CAST(X'ff' AS TEXT), X'00', NULL, 1e300),
                              (9223372036854775807, 0, '2026-02-01', '2026-02-01 00:00:01', '2026-02-01', 2, '1', 'ö', 'b', X'', NULL, -0.5),
                              (3, NULL, NULL, NULL, NULL, NULL, X'31', NULL, NULL, NULL, NULL, NULL);
         CREATE TABLE \"odd \"\"name\" (\"a b\" INT, \"select\" TEXT); INSERT INTO \"odd \"\"name\" VALUES (1, 'x');
         CREATE TABLE none (x TEXT); CREATE TABLE keyed (k TEXT PRIMARY KEY, v INT) WITHOUT ROWID; INSERT INTO keyed VALUES ('k', 1);
         CREATE VIRTUAL TABLE words USING fts5(body); INSERT INTO words VALUES ('found again');
         CREATE VIEW v AS SELECT 1; PRAGMA user_version = 42;",
    );
    let vault = Memory { folder: "one".into(), ..Memory::default() };
    let record = vault.backup(&source(&path)).await.unwrap();
    let table = figures_of(&record).iter().find(|table| table.table == "t").unwrap();
    let kinds: Vec<(&str, FieldType)> = table.schema.fields.iter().map(|f| (f.name.as_str(), f.kind)).collect();
    use FieldType::{Bool, Bytes as B, Date, DateTime, Float64, Int64, String as S};
    let expected = [
        ("id", Int64),
        ("flag", Bool),
        ("day", Date),
        ("at", DateTime),
        ("bad_day", S),
        ("price", Float64),
        ("mixed", S),
        ("text", S),
        ("latin", B),
        ("bytes", B),
        ("never", Float64),
        ("big", Float64),
        ("doubled", Float64),
    ];
    assert_eq!(kinds, expected, "the double of the greatest integer is a number");
    assert_eq!(table.quoted, ["mixed"]);
    let written = sqlite(&record).unwrap();
    assert_eq!((written.user_version, written.has_wal), (42, false));
    let notes = written.notes.join("\n");
    for said in [
        "column mixed holds integers and texts and bytes",
        "latin holds texts that are no UTF-8",
        "words is a virtual table",
        "in the database only",
    ] {
        assert!(notes.contains(said), "{said}: {notes}");
    }
    // The rows as anybody reads them.
    let object = &written.tables.iter().find(|table| table.table.table() == "t").unwrap().objects[0];
    let bytes = vault.objects.lock().unwrap()[&object.key].clone();
    let batch = crate::codec::parquet::Reader::new(bytes, &table.schema).unwrap().next().unwrap().unwrap();
    let shown = arrow::util::pretty::pretty_format_batches(&[batch]).unwrap().to_string();
    assert!(shown.contains("X'31'") && shown.contains("'1'") && shown.contains("2026-01-31T10:00:00"), "{shown}");
}

#[tokio::test]
async fn what_is_no_database_is_said_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let mut torn = b"SQLite format 3\0".to_vec();
    torn.extend([0xee; 5000]);
    for (path, said) in [
        (folder.path().join("nowhere.db"), "does not exist"),
        (at("notes.txt", b"hello, this is no database at all"), "is no SQLite database, or is encrypted"),
        (at("sealed.db", &[0xa7; 8192]), "is no SQLite database, or is encrypted"),
        (at("torn.db", &torn), "is no SQLite database, or is encrypted"),
        (folder.path().to_path_buf(), "is a folder"),
    ] {
        let facts = source(&path).inventory().await.unwrap();
        let refusal = facts.refusals.first().unwrap_or_else(|| panic!("{} is taken", path.display())).to_string();
        assert!(refusal.contains(said) && refusal.contains("hint: "), "{refusal}");
    }
    // Damaged within: found by the check of the copy.
    let (_folder, path) =
        database("CREATE TABLE t (x); CREATE INDEX i ON t (x); INSERT INTO t VALUES (randomblob(30000)), (1), (2);");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 4096..].fill(0x55);
    std::fs::write(&path, bytes).unwrap();
    let vault = Memory { folder: "one".into(), ..Memory::default() };
    let refused = vault.backup(&source(&path)).await.unwrap_err().to_string();
    assert!(refused.contains("hint: restore it from a backup"), "{refused}");
    assert!(vault.objects.lock().unwrap().is_empty(), "nothing of it is stored");
    // Optional, and not there.
    let mut optional = source(&folder.path().join("nowhere.db"));
    optional.settings.optional = true;
    assert!(optional.inventory().await.unwrap().skipped.unwrap().contains("optional"));
}

#[tokio::test]
async fn a_locked_database_is_asked_again_and_then_named() {
    let (_folder, path) = database("CREATE TABLE t (x); INSERT INTO t VALUES (1);");
    let writer = Connection::open(&path).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE; INSERT INTO t VALUES (2);").unwrap();
    let source = source(&path);
    let Err(refused) = source.cut().await else { panic!("it is locked") };
    assert!(refused.to_string().contains("is locked by another process; hint: raise source.busy_timeout"), "{refused}");
    let waiting = tokio::spawn(async move { source.cut().await.map(|cut| cut.taken_at()) });
    tokio::time::sleep(Duration::from_millis(200)).await;
    writer.execute_batch("COMMIT").unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_database_in_use_is_not_replaced_and_an_old_log_never_meets_the_new_one() {
    let (folder, path) = database("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1);");
    let source = source(&path);
    let vault = Memory { folder: "one".into(), ..Memory::default() };
    let record = vault.backup(&source).await.unwrap();
    let refusals = source.look(&record, &wish("r1")).await.unwrap().unwrap_err();
    assert!(refusals[0].to_string().contains("is there"), "{refusals:?}");
    let replace = Wish { replace: true, ..wish("r1") };
    let user = Connection::open(&path).unwrap();
    user.execute_batch("INSERT INTO t VALUES (2);").unwrap();
    let refusals = source.look(&record, &replace).await.unwrap().unwrap_err();
    assert!(refusals[0].to_string().contains("is in use"), "{refusals:?}");
    assert!(source.restore(&record, &vault, &replace).await.is_err());
    source.take_back(&record, &replace).await.unwrap();
    assert_eq!(one::<i64>(&path, "SELECT count(*) FROM t"), 2, "as it was");
    // A user that died leaves its log: rows that are only there.
    user.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    drop(user);
    assert!(place::aside(&path, "-wal").metadata().unwrap().len() > 0);
    // Killed after the log stepped aside, before the new database was in its place: all of it comes back.
    let scratch = place::scratch(&path, "r1");
    std::fs::write(&scratch, "half of a database").unwrap();
    for ending in place::LOGS {
        let _ = std::fs::rename(place::aside(&path, ending), place::aside(&scratch, ending));
    }
    source.take_back(&record, &replace).await.unwrap();
    assert_eq!(one::<i64>(&path, "SELECT count(*) FROM t"), 2);
    source.look(&record, &replace).await.unwrap().unwrap();
    source.restore(&record, &vault, &replace).await.unwrap();
    assert_eq!(one::<i64>(&path, "SELECT count(*) FROM t"), 1);
    assert_eq!(one::<String>(&path, "PRAGMA integrity_check"), "ok");
    assert!(std::fs::read_dir(folder.path()).unwrap().all(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.starts_with("app.db")
    }));
}

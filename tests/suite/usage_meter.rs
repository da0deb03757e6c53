//! The profile usage-meter: the commands of its operators' guide, as they run them, with what they see.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::estate::Run;

/// A directory with a configuration in it, and what the program finds in its environment.
pub struct Place {
    pub directory: tempfile::TempDir,
    pub environment: Vec<(String, String)>,
}

impl Place {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory"), environment: vec![] }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.into(), value.into()));
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BACKUP_") || name.starts_with("AWS_")) {
            command.env_remove(name);
        }
        command.env_remove("DATABASE_URL").env_remove("ENABLE_USAGE_TRACKING").env_remove("STRONGROOM_CONFIG");
        command.args(args).current_dir(self.directory.path()).stdin(Stdio::null());
        command.env("HOME", self.directory.path()).envs(self.environment.iter().cloned());
        command
    }

    pub fn run(&self, args: &[&str]) -> Run {
        Run::of(&self.command(args).output().expect("strongroom runs"))
    }

    /// Takes a backup; no two bear the name of one second.
    #[track_caller]
    pub fn backup(&self, args: &[&str]) -> Value {
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let mut all = vec!["usage", "backup"];
        all.extend(args);
        self.json(&all)
    }

    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(args);
        self.run(&all).ok().data()
    }
}

/// What differs from run to run, taken out: days of today, sizes, ages.
fn seen(place: &Place, run: Run) -> String {
    let text = run.stdout.replace(place.directory.path().to_str().expect("a path"), "DIR");
    let year = jiff::Timestamp::now().strftime("%Y").to_string();
    let digits = |word: &str| word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>();
    let mut out = String::new();
    for line in text.lines() {
        let sized = ["Backup:", "Backups:", "Latest backup:"].iter().any(|start| line.starts_with(start));
        let line = match (line.find('('), sized) {
            (Some(at), true) => format!("{}(...)", &line[..at]),
            _ => line.to_string(),
        };
        let words: Vec<&str> = line.split(' ').collect();
        let unit = |i: usize| words.get(i + 1).is_some_and(|next| ["B", "KiB", "MiB"].contains(next));
        let is_time = |word: &str| word.parse::<jiff::Timestamp>().is_ok_and(|at| at > jiff::Timestamp::now());
        let shown = |(i, word): (usize, &&str)| match word.contains(&year) || is_time(word) || unit(i) {
            true => digits(word),
            false => (*word).to_string(),
        };
        let words: Vec<String> = words.iter().enumerate().map(shown).collect();
        out.push_str(words.join(" ").trim_end());
        out.push('\n');
    }
    out
}

const COLUMNS: &str = "id INTEGER PRIMARY KEY, timestamp TEXT NOT NULL, endpoint TEXT, method TEXT, tokens_consumed INTEGER, \
    response_time_ms INTEGER, status_code INTEGER, user_id TEXT, ip_address TEXT DEFAULT '', payload TEXT DEFAULT ''";

/// 1,247 records of 2024, of 40 users, with what must never be backed up beside them.
pub fn records(path: &Path) {
    let mut database = rusqlite::Connection::open(path).unwrap();
    database.execute_batch(&format!("PRAGMA journal_mode = WAL; CREATE TABLE usage_records ({COLUMNS})")).unwrap();
    let transaction = database.transaction().unwrap();
    let begin: jiff::Timestamp = "2024-07-01T00:00:00Z".parse().unwrap();
    for i in 0..1247_i64 {
        let at = begin + jiff::SignedDuration::from_mins(i * 97);
        let status = if i % 77 == 0 { 500 } else { 200 };
        transaction
            .execute(
                "INSERT INTO usage_records (timestamp, endpoint, method, tokens_consumed, response_time_ms, status_code, user_id, ip_address, payload) \
                 VALUES (?1, ?2, 'POST', ?3, ?4, ?5, ?6, '203.0.113.77', 'hidden payload')",
                rusqlite::params![at.to_string(), format!("/api/\"{}\"", i % 7), i % 300, 1000 + i, status, format!("person-{}@example.com", i % 40)],
            )
            .unwrap();
    }
    transaction.commit().unwrap();
}

fn count(path: &Path, sql: &str) -> i64 {
    rusqlite::Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

/// The documents of a backup, parsed.
fn documents(place: &Place, backup: &Value) -> Vec<(PathBuf, Value)> {
    let objects = backup["backup"]["sources"][0]["documents"].as_array().unwrap();
    let read = |document: &Value| {
        let path = place.path("artifacts").join(document["object"]["key"].as_str().unwrap());
        let bytes = std::fs::read(&path).unwrap();
        let text = match path.extension().is_some_and(|ending| ending == "gz") {
            true => std::io::read_to_string(flate2::read::GzDecoder::new(&bytes[..])).unwrap(),
            false => String::from_utf8(bytes).unwrap(),
        };
        assert!(!text.contains("example.com") && !text.contains("203.0.113") && !text.contains("hidden"), "{text}");
        (path, serde_json::from_str(&text).unwrap())
    };
    objects.iter().map(read).collect()
}

#[test]
fn switched_off_every_verb_is_safe_and_says_skipped() {
    let mut place = Place::new();
    let verbs = ["dry-run", "backup", "restore", "validate", "health"];
    let off = verbs.map(|verb| seen(&place, place.run(&["usage", verb]).ok())).join("\n");
    insta::assert_snapshot!("usage_off", off);
    place.run(&["init", "--profile", "usage-meter"]).ok();
    assert_eq!(verbs.map(|verb| seen(&place, place.run(&["usage", verb]).ok())).join("\n"), off, "with a file, too");
    for args in [
        &["backup"][..],
        &["backup", "--dry-run"],
        &["list"],
        &["verify", "--all"],
        &["retention", "--dry-run"],
        &["retention"],
        &["usage", "backup", "--days", "30", "--compress", "--split-by-month"],
        &["usage", "backup", "--emergency"],
    ] {
        let run = place.run(args).ok();
        assert!(!run.stdout.contains("error"), "{args:?}: {run:?}");
    }
    // A database alone switches nothing on, and is not touched.
    place.set("DATABASE_URL", "postgresql://user:cAnary@127.0.0.1:1/usage_db");
    let run = place.run(&["usage", "dry-run"]).ok();
    assert!(run.stdout.contains("DISABLED") && run.stdout.contains("SKIPPED"), "{run:?}");
    assert!(!run.stdout.contains("cAnary"), "{run:?}");
    place.set("ENABLE_USAGE_TRACKING", "true");
    place.set("DATABASE_URL", "");
    let run = place.run(&["usage", "backup"]).ok();
    assert!(run.stdout.contains("ENABLED") && run.stdout.contains("SKIPPED (no DB)"), "{run:?}");
    assert!(place.json(&["usage", "dry-run"])["reason"].as_str().unwrap().contains("DATABASE_URL is not set"));
}

#[test]
fn the_guides_commands_on_sqlite() {
    let mut place = Place::new();
    let database = place.path("usage.db");
    records(&database);
    place.run(&["init", "--profile", "usage-meter"]).ok();
    place.set("ENABLE_USAGE_TRACKING", "true");
    place.set("DATABASE_URL", "sqlite:./usage.db");
    let mut told = String::new();
    let mut say = |place: &Place, args: &[&str]| {
        let run = place.run(args).ok();
        told.push_str(&format!("$ strongroom {}\n{}\n", args.join(" "), seen(place, run)));
    };
    say(&place, &["usage", "dry-run"]);
    say(&place, &["usage", "backup"]);
    say(&place, &["usage", "validate", "--check-counts", "--check-integrity"]);
    say(&place, &["usage", "health"]);
    say(&place, &["schedule", "status"]);

    // The document has the guide's shape, and nobody in it.
    let backup = place.backup(&[]);
    let (path, document) = documents(&place, &backup).remove(0);
    let keys: Vec<&String> = document.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["backup_info", "usage_records", "aggregates"]);
    assert_eq!(document["backup_info"]["record_count"], 1247);
    assert_eq!(document["backup_info"]["source_db"], "sqlite:./usage.db");
    assert_eq!(document["backup_info"]["date_range"]["start"], "2024-07-01T00:00:00Z");
    let record = &document["usage_records"][40];
    let keys: Vec<&String> = record.as_object().unwrap().keys().collect();
    let expected = ["timestamp", "endpoint", "method", "tokens_consumed", "response_time_ms", "status_code", "user_id"];
    assert_eq!(keys, expected);
    assert_eq!(record["user_id"], "usr_anonymized_001", "the 41st record is of the first user again");
    assert_eq!(
        document["aggregates"],
        json!({
            "total_requests": 1247,
            "total_tokens": (0..1247).map(|i| i % 300).sum::<i64>(),
            "avg_response_time": 1623,
            "success_rate": 0.986,
        })
    );

    // By days, by dates, by months, smaller.
    let by_dates = place.backup(&["--start", "2024-07-01", "--end", "2024-07-02"]);
    assert_eq!(documents(&place, &by_dates)[0].1["backup_info"]["record_count"], 30);
    let none = place.backup(&["--days", "30"]);
    assert_eq!(documents(&place, &none)[0].1["usage_records"], json!([]));
    let months = place.backup(&["--split-by-month", "--compress"]);
    let months = documents(&place, &months);
    let names: Vec<String> =
        months.iter().map(|(path, _)| path.file_name().unwrap().to_string_lossy().into()).collect();
    assert_eq!(names, ["usage-backup-2024-07.json.gz", "usage-backup-2024-08.json.gz", "usage-backup-2024-09.json.gz"]);
    let records: Vec<&Value> =
        months.iter().flat_map(|(_, month)| month["usage_records"].as_array().unwrap()).collect();
    assert_eq!(json!(records), document["usage_records"], "the same records, and the same numbers, in all months");

    // What is there is in the way; beside it, and over it, all comes back.
    let refused = place.run(&["usage", "restore", "latest"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("1247 records") && refused.stderr.contains("--into-table"), "{refused:?}");
    say(&place, &["usage", "restore", "latest", "--into-table", "usage_back", "--dry-run"]);
    say(&place, &["usage", "restore", "latest", "--into-table", "usage_back"]);
    assert_eq!(count(&database, "SELECT count(*) FROM usage_back"), 1247);
    say(&place, &["usage", "validate", "--check-counts", "--check-integrity", "--table", "usage_back"]);
    rusqlite::Connection::open(&database).unwrap().execute_batch("DELETE FROM usage_records").unwrap();
    let file = path.to_str().unwrap();
    std::fs::copy(file, place.path("usage-backup-copied.json")).unwrap();
    say(&place, &["usage", "restore", "usage-backup-copied.json"]);
    assert_eq!(count(&database, "SELECT count(DISTINCT user_id) FROM usage_records"), 40);
    say(&place, &["usage", "validate", "usage-backup-copied.json"]);
    place.run(&["usage", "restore", "latest", "--replace"]).ok();
    assert_eq!(count(&database, "SELECT count(*) FROM usage_records"), 1247);
    let kept = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'usage_records_before_%'";
    assert_eq!(count(&database, kept), 1, "what was there is kept");
    assert_eq!(count(&database, "SELECT count(*) FROM sqlite_schema WHERE name LIKE '%_restore_%'"), 0);

    // A document that is not what it says is found, and not restored.
    let broken =
        std::fs::read_to_string(file).unwrap().replacen("\"tokens_consumed\": 7,", "\"tokens_consumed\": 8,", 1);
    std::fs::write(place.path("broken.json"), broken).unwrap();
    let found = place.run(&["usage", "validate", "broken.json"]);
    assert_eq!(found.code, 13, "{found:?}");
    assert!(found.stdout.contains("aggregates are not those of the records"), "{found:?}");
    assert_eq!(place.run(&["usage", "restore", "broken.json", "--into-table", "x"]).code, 12);

    // Encrypted, where somebody can open it.
    let refused = place.run(&["usage", "backup", "--encrypt"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    let recipient = place.json(&["key", "generate", "--sealing", "key.txt"])["public"].as_str().unwrap().to_string();
    place.set("BACKUP_RECIPIENTS", &recipient);
    let sealed = place.backup(&["--emergency", "--encrypt"]);
    assert_eq!(sealed["backup"]["terms"]["kind"], "emergency");
    let key = sealed["backup"]["sources"][0]["documents"][0]["object"]["key"].as_str().unwrap().to_string();
    assert!(key.ends_with(".json.zst.age"), "{key}");
    place.run(&["usage", "validate", "latest", "--check-integrity", "--identity", "key.txt"]).ok();
    for args in [&["list"][..], &["show"], &["stats"], &["verify", "--all"], &["retention", "--dry-run"]] {
        place.run(args).ok();
    }

    say(&place, &["usage", "panic-off"]);
    assert!(
        std::fs::read_to_string(place.path("usage-tracking.off"))
            .unwrap()
            .contains("export ENABLE_USAGE_TRACKING=false")
    );
    say(&place, &["usage", "dry-run"]);
    insta::assert_snapshot!("usage_sqlite", told);
}

#[test]
fn the_guides_commands_on_postgresql() {
    let Some(server) = crate::postgres::Server::start() else { return };
    server.sql("postgres", "CREATE DATABASE usage_db");
    let table = "CREATE TABLE usage_records (id bigserial PRIMARY KEY, timestamp timestamptz NOT NULL, endpoint text, method text, \
        tokens_consumed integer, response_time_ms double precision, status_code smallint, user_id text, ip_address inet, payload jsonb)";
    server.sql("usage_db", table);
    server.sql(
        "usage_db",
        "INSERT INTO usage_records (timestamp, endpoint, method, tokens_consumed, response_time_ms, status_code, user_id, ip_address, payload) \
         SELECT timestamptz '2024-07-01 00:00:00+00' + i * interval '97 minutes' + interval '123 microseconds', '/api/\"' || i % 7 || '\"', \
         'POST', i % 300, 1000 + i + 0.5, CASE WHEN i % 77 = 0 THEN 500 ELSE 200 END, 'person-' || i % 40 || '@example.com', \
         '203.0.113.77', '{\"hidden\": true}' FROM generate_series(0, 1246) AS i",
    );
    let mut place = Place::new();
    place.run(&["init", "--profile", "usage-meter"]).ok();
    place.set("ENABLE_USAGE_TRACKING", "true");
    place.set("DATABASE_URL", &server.url("usage_db"));
    let port = server.port.to_string();
    let mut told = String::new();
    let mut say = |place: &Place, args: &[&str]| {
        let run = place.run(args).ok();
        assert!(
            !run.stdout.contains(crate::postgres::PASSWORD_IN_URL) && !run.stderr.contains(crate::postgres::PASSWORD),
            "{run:?}"
        );
        told.push_str(&format!("$ strongroom {}\n{}\n", args.join(" "), seen(place, run).replace(&port, "PORT")));
    };
    say(&place, &["usage", "dry-run"]);
    say(&place, &["usage", "backup"]);
    let backup = place.backup(&["--split-by-month"]);
    let months = documents(&place, &backup);
    assert_eq!(months.len(), 3);
    assert_eq!(
        months[0].1["usage_records"][0],
        json!({
            "timestamp": "2024-07-01T00:00:00.000123Z", "endpoint": "/api/\"0\"", "method": "POST", "tokens_consumed": 0,
            "response_time_ms": 1000.5, "status_code": 500, "user_id": "usr_anonymized_001",
        })
    );
    assert!(!backup.to_string().contains(crate::postgres::PASSWORD_IN_URL));
    let refused = place.run(&["usage", "restore"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    say(&place, &["usage", "restore", "latest", "--into-table", "usage_back"]);
    say(&place, &["usage", "validate", "latest", "--table", "usage_back"]);
    server.sql("usage_db", "TRUNCATE usage_records");
    place.run(&["usage", "restore", "latest"]).ok();
    assert_eq!(server.sql("usage_db", "SELECT count(*), count(DISTINCT user_id), sum(tokens_consumed), min(timestamp) AT TIME ZONE 'UTC' FROM usage_records"),
        format!("1247|40|{}|2024-07-01 00:00:00.000123", (0..1247).map(|i| i % 300).sum::<i64>()));
    let copied = place.path("copied.json");
    std::fs::copy(&months[1].0, &copied).unwrap();
    place.run(&["usage", "restore", "copied.json", "--into-table", "august"]).ok();
    place.run(&["usage", "restore", "copied.json", "--replace"]).ok();
    assert_eq!(server.sql("usage_db", "SELECT count(*) FROM usage_records"), "1247");
    say(&place, &["usage", "health"]);
    insta::assert_snapshot!("usage_postgres", told);

    // A database that does not answer.
    place.set("DATABASE_URL", "postgresql://u:cAnary@127.0.0.1:1/usage_db?connect_timeout=2");
    for verb in ["dry-run", "backup", "health"] {
        let failed = place.run(&["usage", verb]);
        assert_ne!(failed.code, 0, "{failed:?}");
        assert!(!format!("{failed:?}").contains("cAnary"), "{failed:?}");
    }
}

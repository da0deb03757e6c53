//! PostgreSQL end to end: a real server, real `pg_dump`, the program as a person runs it.

mod profiles;
mod server;

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use self::profiles::redacted;
pub use self::server::{PASSWORD, PASSWORD_IN_URL, Server};
use crate::estate::Run;

/// Everything that a dump may lose: kinds of objects, and values that are no ordinary ones.
const SCHEMA: &str = include_str!("schema.sql");

#[track_caller]
fn clean(run: Run) -> Run {
    for secret in [PASSWORD, PASSWORD_IN_URL] {
        assert!(!run.stdout.contains(secret) && !run.stderr.contains(secret), "the password is seen: {run:?}");
    }
    run
}

/// Nothing that was written holds the password.
fn no_secret_below(directory: &std::path::Path) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files += no_secret_below(&path);
            continue;
        }
        let bytes = std::fs::read(&path).expect("a file");
        for secret in [PASSWORD, PASSWORD_IN_URL] {
            assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none(), "{} holds the password", path.display());
        }
        files += 1;
    }
    files
}

/// Moves money between accounts until it is told to stop: whatever the instant, the sum is the same and every transfer has
/// its two bookings.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u32>>,
}

impl Writer {
    fn start(server: &Server, database: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut command = server.program("psql");
        command.args(["-X", "-q", "-d", database, "-v", "ON_ERROR_STOP=1", "-c"]);
        command.arg(
            "DO $$ BEGIN FOR i IN 1..25 LOOP PERFORM app.transfer(1 + (random() * 99)::int, 1 + (random() * 99)::int, \
             (random() * 100)::numeric(12, 2)); COMMIT; END LOOP; END $$",
        );
        command.stdout(Stdio::null());
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut rounds = 0;
            while !told.load(Ordering::Relaxed) {
                assert!(command.status().expect("psql runs").success());
                rounds += 1;
            }
            rounds
        });
        Self { stop, thread: Some(thread) }
    }

    /// Gives how many rounds it made.
    fn stop(mut self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("running").join().expect("every round went well")
    }
}

fn record(server: &Server, config: &std::path::Path, database: &str) -> Value {
    let shown = clean(server.strongroom(config, database, &["--json", "show", "latest"])).ok().data();
    let sources = shown.pointer("/manifest/sources").or_else(|| shown.get("sources")).expect("sources");
    sources[0].clone()
}

/// Every table's rows, as the server counts them.
fn counted(server: &Server, database: &str, record: &Value) -> Vec<(String, u64)> {
    let tables = record["tables"].as_array().expect("tables");
    let name = |table: &Value, key: &str| table[key].as_str().expect("a name").to_string();
    tables
        .iter()
        .map(|table| {
            let (schema, table) = (name(table, "schema"), name(table, "table"));
            let sql = format!("SELECT count(*) FROM ONLY \"{}\".\"{}\"", schema, table.replace('"', "\"\""));
            (format!("{schema}.{table}"), server.sql(database, &sql).parse().expect("a number"))
        })
        .collect()
}

fn recorded(record: &Value) -> Vec<(String, u64)> {
    let tables = record["tables"].as_array().expect("tables");
    let text = |value: &Value| value.as_str().expect("a text").to_string();
    tables
        .iter()
        .map(|table| {
            let name = format!("{}.{}", text(&table["schema"]), text(&table["table"]));
            (name, table["row_count"].as_u64().expect("a number"))
        })
        .collect()
}

#[test]
fn a_database_comes_back_as_it_was_at_the_cut() {
    let Some(server) = Server::start() else { return };
    server.sql("postgres", "CREATE DATABASE app");
    server.sql("app", SCHEMA);
    let before = server.schema("app");
    let config = server.configure("app", "globals = true\nexport = true");

    let dry = clean(server.strongroom(&config, "app", &["backup", "--tier", "daily", "--dry-run"])).ok();
    assert!(dry.stdout.contains("app.account"), "{}", dry.stdout);
    let writer = Writer::start(&server, "app");
    let backup = clean(server.strongroom(&config, "app", &["backup", "--tier", "daily"])).ok();
    let rounds = writer.stop();
    assert!(rounds > 0, "nothing was written meanwhile: {}", backup.stdout);
    let record = record(&server, &config, "app");
    for table in record["tables"].as_array().expect("tables") {
        assert!(!table["proof"].is_null() && !table["fingerprint"].is_null(), "{table}");
    }
    let verify = clean(server.strongroom(&config, "app", &["verify"])).ok();
    assert!(!verify.stdout.contains("corrupt"), "{}", verify.stdout);

    assert!(no_secret_below(server.directory.path()) > 20, "the vault has files");

    // The rows are in the export as well.
    let sql = "SELECT COUNT(*) AS n FROM app.account";
    let query = clean(server.strongroom(&config, "app", &["query", "latest", sql]));
    assert!(query.code == 0 && query.stdout.contains("100"), "{query:?}");

    // What is there is not replaced unasked, nor while somebody uses it.
    let refused = clean(server.strongroom(&config, "app", &["restore", "latest"]));
    assert!(refused.code != 0 && refused.stderr.contains("--replace"), "{refused:?}");
    let mut session =
        server.program("psql").args(["-X", "-q", "-d", "app"]).stdin(Stdio::piped()).spawn().expect("psql");
    wait_for(|| server.sql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE datname = 'app'") != "0");
    let refused = clean(server.strongroom(&config, "app", &["restore", "latest", "--replace"]));
    assert!(refused.code != 0 && refused.stderr.contains("is in use by psql (postgres)"), "{refused:?}");
    drop(session.stdin.take());
    session.wait().expect("psql ends");

    // Beside it.
    let beside = clean(server.strongroom(&config, "app", &["restore", "latest", "--target-db", "app_test"])).ok();
    assert!(beside.stdout.contains("yes, proven") && !beside.stdout.contains("NO"), "{}", beside.stdout);
    assert_eq!(counted(&server, "app_test", &record), recorded(&record));

    // Lost, with the roles that owned it.
    server.sql("postgres", "DROP DATABASE app_test; DROP DATABASE app; DROP ROLE app_reader; DROP ROLE \"App Owner\";");
    let restored = clean(server.strongroom(&config, "app", &["restore", "latest"])).ok();
    assert!(restored.stdout.contains("yes, proven"), "{}", restored.stdout);
    assert_eq!(counted(&server, "app", &record), recorded(&record));
    assert_eq!(server.schema("app"), before);
    assert_eq!(server.sql("app", "SELECT sum(balance) FROM app.account"), "100000.00", "one instant");
    let halves = "SELECT count(*) FROM (SELECT transfer FROM app.booking GROUP BY transfer HAVING count(*) <> 2 OR sum(amount) <> 0) h";
    assert_eq!(server.sql("app", halves), "0", "one instant");
    assert_eq!(server.sql("app", "SELECT convert_from(lo_get(4711), 'UTF8')"), "a large object");
    assert_ne!(server.sql("app", "SELECT count(*) FROM pg_stats WHERE schemaname = 'app'"), "0", "analysed");
    let marks = "SELECT count(*) FROM pg_roles WHERE shobj_description(oid, 'pg_authid') LIKE '%strongroom%'";
    assert_eq!(server.sql("postgres", marks), "0");

    // In its place: what was there is kept.
    server.sql("app", "DELETE FROM app.booking");
    let replaced = clean(server.strongroom(&config, "app", &["restore", "latest", "--replace"])).ok();
    assert!(replaced.stdout.contains("app_before_restore_"), "{}", replaced.stdout);
    assert_eq!(counted(&server, "app", &record), recorded(&record));
    let databases = server
        .sql("postgres", "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE 'app%'");
    assert!(databases.starts_with("app app_before_restore_") && !databases.contains("_strongroom_"), "{databases}");

    // What changed since: by figures against what is there, by rows against another backup.
    let first = clean(server.strongroom(&config, "app", &["--json", "list"])).ok().data();
    let first = first["backups"][0]["name"].as_str().expect("a name").to_string();
    let added = "INSERT INTO app.account (id, owner, balance) OVERRIDING SYSTEM VALUE VALUES (4711, 'Somebody', 7.5)";
    server.sql("app", added);
    let diff = clean(server.strongroom(&config, "app", &["diff", "latest"]));
    assert_eq!(diff.code, 7, "{diff:?}");
    assert!(diff.stdout.contains("app.account: 101 rows, expected 100"), "{}", diff.stdout);
    assert!(diff.stdout.contains("app.event_2025: the same"), "{}", diff.stdout);
    clean(server.strongroom(&config, "app", &["backup", "--tier", "daily"])).ok();
    let diff = clean(server.strongroom(&config, "app", &["diff", &first, "latest", "--table", "account"]));
    assert_eq!(diff.code, 7, "{diff:?}");
    assert!(diff.stdout.contains("added ") && diff.stdout.contains("\"id\":4711"), "{}", diff.stdout);
    let same = clean(server.strongroom(&config, "app", &["diff", &first, &first])).ok();
    assert!(same.stdout.contains("the same 100 rows"), "{}", same.stdout);
}

/// Values whose text depends on settings, on who computes them, or on what would end a COPY.
const ODD: &str = r#"
ALTER DATABASE odd SET bytea_output = 'escape';
ALTER DATABASE odd SET timezone = 'Asia/Kathmandu';
ALTER DATABASE odd SET extra_float_digits = 0;
ALTER DATABASE odd SET intervalstyle = 'iso_8601';
\c odd
CREATE TABLE values_ (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED, b bytea, at timestamptz, f float8,
    i interval, t text, r regclass, m money, j jsonb, a text[]);
INSERT INTO values_ (id, b, at, f, i, t, r, m, j, a) VALUES
    (1, '\x00ff5c', '2026-03-29 01:30:00+01', 0.1 + 0.2, '1 mon 2 days', E'\\.', 'values_', '12.34', '{"a": 1.50}', '{"x,y",NULL}'),
    (2, NULL, 'infinity', 'NaN', '-3 hours', E'tab\there\nline\\N', NULL, NULL, 'null', '{}'),
    (3, '', '0044-03-15 12:00:00+00 BC', 1e300, NULL, '', 'pg_class', '-0.01', '[]', NULL);
CREATE TABLE "no columns" ();
INSERT INTO "no columns" DEFAULT VALUES;
INSERT INTO "no columns" DEFAULT VALUES;
CREATE TABLE empty_ (x int);
CREATE UNLOGGED TABLE unlogged_ AS SELECT g, repeat('x', 2000000) AS long FROM generate_series(1, 2) g;
CREATE TABLE child_ (y int) INHERITS (empty_);
INSERT INTO child_ VALUES (1, 2);
SELECT lo_from_bytea(7, decode(repeat('5c2e0a', 50000), 'hex'));
"#;

/// The rows of the dump are counted and fingerprinted as they pass, and found again in it, and in what was restored of it.
#[test]
fn a_dump_proves_itself_row_by_row() {
    let Some(server) = Server::start() else { return };
    for (name, format) in [("custom", ""), ("directory", "format = \"directory\"\njobs = 2")] {
        server.sql("postgres", "DROP DATABASE IF EXISTS odd");
        server.sql("postgres", "CREATE DATABASE odd");
        server.sql("postgres", ODD);
        let config = server.configure(name, format);
        clean(server.strongroom(&config, "odd", &["backup", "--tier", "daily"])).ok();
        let taken = record(&server, &config, "odd");
        assert_eq!(counted(&server, "odd", &taken), recorded(&taken), "{name}");
        for table in taken["tables"].as_array().expect("tables") {
            assert!(!table["fingerprint"].is_null() && table["proof"].is_null(), "{table}");
        }
        clean(server.strongroom(&config, "odd", &["verify"])).ok();
        let target = format!("odd_{name}");
        let restored = clean(server.strongroom(&config, "odd", &["restore", "latest", "--target-db", &target])).ok();
        assert!(restored.stdout.contains("yes, proven") && !restored.stdout.contains(" NO"), "{}", restored.stdout);
        assert_eq!(server.sql(&target, "SELECT t FROM values_ WHERE id = 1"), "\\.", "{name}");

        // A manifest that tells of other rows is found out by the dump, whoever wrote it.
        let manifest = found_below(&server.directory.path().join(format!("vault-{name}/daily")), "manifest.json");
        let text = std::fs::read_to_string(&manifest).expect("a manifest");
        let sum = taken["tables"][0]["fingerprint"]["sum"].as_str().expect("a sum");
        assert!(text.contains(sum), "{sum}");
        std::fs::write(&manifest, text.replacen(sum, "4711", 1)).expect("written");
        let verified = clean(server.strongroom(&config, "odd", &["verify"]));
        assert!(verified.code != 0, "{verified:?}");
        assert!(verified.stdout.contains("the dump has other rows than those recorded"), "{}", verified.stdout);
    }
}

/// Over TLS to a server whose name is checked, sealed for an identity that the worker does not hold.
#[test]
fn a_sealed_database_comes_back_over_tls() {
    let Some(server) = Server::start_with_tls() else { return };
    server.sql("postgres", "CREATE DATABASE safe");
    server
        .sql("safe", "CREATE TABLE payment AS SELECT i, 'to somebody ' || i AS purpose FROM generate_series(1, 700) i");
    let at = |name: &str| server.directory.path().join(name).display().to_string();
    let nowhere = std::path::Path::new("/dev/null");
    let key = |name: &str| -> String {
        let made =
            server.strongroom(nowhere, "safe", &["--json", "key", "generate", "--sealing", &at(name)]).ok().data();
        made["public"].as_str().expect("a recipient").to_string()
    };
    let (recipient, _) = (key("own"), key("other"));
    let config = server.configure("safe", &format!("export = true\n[sealing]\nrecipients = [\"{recipient}\"]"));
    let url = |query: &str| format!("{}?{query}", server.url("safe"));
    let trusted = url(&format!("sslmode=verify-full&sslrootcert={}", at("ca.crt")));

    // Without TLS nobody gets in; who trusts another authority goes no further.
    let plain = clean(server.strongroom_by(&url("sslmode=disable"), &config, &["backup"]));
    assert!(plain.code != 0 && plain.stderr.contains("no encryption"), "{plain:?}");
    let unknown = url("sslmode=verify-full");
    let unknown = clean(server.strongroom_by(&unknown, &config, &["backup"]));
    assert!(unknown.code != 0 && unknown.stderr.to_lowercase().contains("certificate"), "{unknown:?}");

    clean(server.strongroom_by(&trusted, &config, &["backup", "--tier", "daily"])).ok();
    let mut files = 0;
    for entry in walkdir::WalkDir::new(at("vault-safe/daily")).into_iter().flatten().filter(|e| e.file_type().is_file())
    {
        let bytes = std::fs::read(entry.path()).expect("a file");
        assert!(memchr::memmem::find(&bytes, b"to somebody").is_none(), "{} is not sealed", entry.path().display());
        files += 1;
    }
    assert!(files >= 5, "{files}");
    let run = |args: &[&str]| clean(server.strongroom_by(&trusted, &config, args));
    let shut = run(&["restore", "latest", "--target-db", "safe_beside"]);
    assert!(shut.code == 21 && shut.stderr.contains("--identity"), "{shut:?}");
    let wrong = run(&["restore", "latest", "--target-db", "safe_beside", "--identity", &at("other")]);
    assert_eq!(wrong.code, 21, "{wrong:?}");
    run(&["verify", "--identity", &at("own")]).ok();
    let beside = run(&["restore", "latest", "--target-db", "safe_beside", "--identity", &at("own")]).ok();
    assert!(beside.stdout.contains("yes, proven"), "{}", beside.stdout);
    assert_eq!(server.sql("safe_beside", "SELECT count(*), min(purpose) FROM payment"), "700|to somebody 1");
}

fn found_below(directory: &std::path::Path, name: &str) -> std::path::PathBuf {
    let found = walkdir::WalkDir::new(directory).into_iter().flatten().find(|entry| entry.file_name() == name);
    found.unwrap_or_else(|| panic!("{} holds no {name}", directory.display())).into_path()
}

fn wait_for(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(120), "it did not come to pass within two minutes");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// pagila and chinook, where they are at hand.
#[test]
fn well_known_databases_come_back() {
    let root = std::env::var_os("STRONGROOM_SHARED_DATA").map(std::path::PathBuf::from);
    let root = root.unwrap_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"));
    if !root.join("pagila").is_dir() {
        eprintln!("skipped: ../shared/data/pagila is not there");
        return;
    }
    let Some(server) = Server::start() else { return };
    let read = |path: &str| std::fs::read(root.join(path)).expect("a file");
    let mut data = String::new();
    let packed = read("pagila/pagila-data.sql.gz");
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed[..]), &mut data).expect("gzip");
    server.sql("postgres", "CREATE DATABASE pagila");
    server.sql("pagila", &String::from_utf8(read("pagila/pagila-schema.sql")).expect("a text"));
    server.sql("pagila", &data);
    let chinook =
        String::from_utf8_lossy(&read("chinook/Chinook_PostgreSql.sql")).replace("\\c chinook;", "\\c chinook");
    server.sql("postgres", &chinook);
    for (database, settings, touch) in [
        (
            "pagila",
            "globals = true\nexport = \"parquet\"",
            "UPDATE rental SET last_update = now() WHERE rental_id % 50 = random() * 49::int",
        ),
        (
            "chinook",
            "format = \"directory\"\njobs = 2\nexport = \"avro\"",
            "UPDATE invoice SET total = total WHERE random() < 0.1",
        ),
    ] {
        let before = server.schema(database);
        let config = server.configure(database, settings);
        let stop = Arc::new(AtomicBool::new(false));
        let mut writer = server.program("psql");
        writer.args(["-X", "-q", "-d", database, "-c", touch]).stdout(Stdio::null());
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                assert!(writer.status().expect("psql runs").success());
            }
        });
        clean(server.strongroom(&config, database, &["backup", "--tier", "daily"])).ok();
        stop.store(true, Ordering::Relaxed);
        thread.join().expect("the writer writes");
        clean(server.strongroom(&config, database, &["verify"])).ok();
        server.sql("postgres", &format!("DROP DATABASE {database}"));
        let restored = clean(server.strongroom(&config, database, &["restore", "latest"])).ok();
        assert!(restored.stdout.contains("yes, proven") && !restored.stdout.contains(" NO"), "{}", restored.stdout);
        let record = record(&server, &config, database);
        assert_eq!(counted(&server, database, &record), recorded(&record));
        assert_eq!(server.schema(database), before);
    }
}

/// Each says what is wrong and how to go on; none shows the password.
#[test]
fn what_stands_in_the_way_is_said() {
    let Some(server) = Server::start() else { return };
    server.sql(
        "postgres",
        "CREATE DATABASE app; CREATE ROLE weak LOGIN PASSWORD 'weak'; CREATE ROLE hidden LOGIN PASSWORD 'hidden';",
    );
    server.sql("app", "CREATE TABLE secret (id int); CREATE TABLE rows (id int); ALTER TABLE rows ENABLE ROW LEVEL SECURITY; GRANT SELECT ON ALL TABLES IN SCHEMA public TO hidden;");
    let config = server.configure("app", "");
    let with = |url: &str, args: &[&str]| {
        clean(Run::of(
            &server.command(&config, "app", args).env("DATABASE_URL", url).output().expect("strongroom runs"),
        ))
    };
    let port = server.port;
    for (url, expected, hint) in [
        (
            format!("postgresql://postgres:{PASSWORD_IN_URL}@127.0.0.1:1/app"),
            "connection refused by 127.0.0.1:1",
            "is PostgreSQL running",
        ),
        (
            format!("postgresql://postgres:wrong{PASSWORD_IN_URL}@127.0.0.1:{port}/app"),
            "refuses the password of user 'postgres'",
            "DATABASE_URL",
        ),
        (format!("postgresql://postgres@127.0.0.1:{port}/app"), "password", "DATABASE_URL"),
        (server.url("nowhere"), "there is no database 'nowhere'", "DATABASE_URL"),
        (
            format!("postgresql://weak:weak@127.0.0.1:{port}/app"),
            "may not read public.rows, public.secret",
            "GRANT pg_read_all_data TO \"weak\"",
        ),
        (
            format!("postgresql://hidden:hidden@127.0.0.1:{port}/app"),
            "row level security hides rows of public.rows",
            "BYPASSRLS",
        ),
        (format!("{}?sslmode=require", server.url("app")), "TLS", "sslmode"),
        (
            format!("mysql://u:{PASSWORD_IN_URL}@h/d"),
            "source[0].url: is a URL of 'mysql'",
            "postgresql://user:password@host:5432/database",
        ),
        (format!("postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/app"), "source[0].url: ", "URL-encode"),
    ] {
        let run = with(&url, &["backup", "--tier", "daily", "--dry-run"]);
        assert!(run.code != 0 && run.stderr.contains(expected) && run.stderr.contains(hint), "{expected}: {run:?}");
    }
    let empty = tempfile::tempdir().expect("a temporary directory");
    let lacking = server.configure("app", &format!("tools = \"{}\"", empty.path().display()));
    let run = clean(server.strongroom(&lacking, "app", &["backup", "--tier", "daily", "--dry-run"]));
    assert!(run.code != 0 && run.stderr.contains("pg_dump") && run.stderr.contains("postgresql-client"), "{run:?}");
}

/// Killed while it restores: `recover` leaves what was there before, and nothing beside it.
#[test]
fn a_restore_that_dies_is_taken_back() {
    let Some(server) = Server::start() else { return };
    server.sql("postgres", "CREATE DATABASE app");
    server.sql("app", "CREATE TABLE t AS SELECT i, repeat('x', 100) AS filler FROM generate_series(1, 200000) i; CREATE INDEX ON t (filler, i);");
    let config = server.configure("app", "jobs = 2");
    clean(server.strongroom(&config, "app", &["backup", "--tier", "daily"])).ok();
    server.sql("app", "DELETE FROM t WHERE i > 5");
    let mut run = server
        .command(&config, "app", &["restore", "latest", "--replace"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("strongroom runs");
    wait_for(|| {
        server.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'app_strongroom_%'") != "0"
    });
    run.kill().expect("it is killed");
    run.wait().expect("it ends");
    let waits = clean(server.strongroom(&config, "app", &["recover"]));
    assert!(waits.code != 0 && waits.stderr.contains("holds the lease"), "{waits:?}");
    // The lease is over when the store's own times say so.
    for lease in
        std::fs::read_dir(server.directory.path().join("vault-app/_strongroom/lease")).expect("a lease").flatten()
    {
        let file = std::fs::File::options().write(true).open(lease.path()).expect("it can be opened");
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(200)).expect("it is made older");
    }
    let recovered = clean(server.strongroom(&config, "app", &["recover"])).ok();
    assert!(recovered.stdout.contains("take the restore of db back"), "{}", recovered.stdout);
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'app_strongroom_%'"), "0");
    assert_eq!(server.sql("app", "SELECT count(*) FROM t"), "5", "what was there before");
    clean(server.strongroom(&config, "app", &["restore", "latest", "--replace"])).ok();
    assert_eq!(server.sql("app", "SELECT count(*) FROM t"), "200000");
}

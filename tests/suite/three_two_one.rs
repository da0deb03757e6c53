//! The profile three-two-one: files and an SQLite database, three copies on two kinds of storage, one elsewhere. Its operators'
//! commands on `examples/three-two-one.toml`, with what a person sees.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::estate::{Estate, Run};

const BUCKET: &str = "demo-project-backup-monthly";

struct Machine {
    estate: Estate,
    home: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let mut estate = Estate::seeded();
        estate.config = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/three-two-one.toml");
        let home = tempfile::tempdir().expect("a folder");
        let at = |name: &str| home.path().join(name).display().to_string();
        estate.environment = vec![
            ("BACKUP_ROOT".into(), at("system")),
            ("BACKUP_DATABASE".into(), at("data/app.db")),
            ("BACKUP_DIR".into(), at("backup")),
            ("BACKUP_SECOND_DIR".into(), at("second")),
            ("BACKUP_OFFSITE_BUCKET".into(), BUCKET.into()),
        ];
        let machine = Self { estate, home };
        for (path, content) in [
            ("system/config/app.toml", "retries = 3\n"),
            ("system/config/users/ann.toml", "theme = \"dark\"\n"),
            ("system/tokens/service.token", "not a real token\n"),
            ("system/env/production.env", "MODE=production\n"),
            ("system/app.log", "a log\n"),
            ("system/cache/page", "a page\n"),
            ("system/draft.tmp", "a draft\n"),
            ("system/lib/node_modules/m/index.js", "generated\n"),
        ] {
            machine.write(path, content);
        }
        for place in ["backup", "second", "data"] {
            std::fs::create_dir_all(machine.at(place)).expect("a folder");
        }
        machine.database(
            "PRAGMA journal_mode = WAL; CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT, cost REAL);
             INSERT INTO note VALUES (1, 'first', 0.5), (2, 'second', 1.25); PRAGMA user_version = 7;",
        );
        machine
    }

    fn at(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let at = self.at(path);
        std::fs::create_dir_all(at.parent().expect("a folder")).expect("a folder");
        std::fs::write(at, content).expect("a file");
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Changes the database as a program would that dies: its log stays.
    fn database(&self, sql: &str) {
        let connection = rusqlite::Connection::open(self.at("data/app.db")).expect("a database");
        let keep = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        connection.set_db_config(keep, true).expect("a setting");
        connection.execute_batch(sql).expect("statements");
    }

    fn notes(&self, path: &str) -> i64 {
        let connection = rusqlite::Connection::open(self.at(path)).expect("a database");
        connection.query_row("SELECT count(*) FROM note", [], |row| row.get(0)).expect("a number")
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Run {
        self.estate.strongroom(args).ok()
    }

    /// What a person sees, without what differs from run to run.
    fn shown(&self, run: &Run) -> String {
        let mut text = run.stdout.replace(&self.home.path().display().to_string(), "~");
        for (pattern, instead) in [
            (r"\d{4}-\d{2}-\d{2}T\d{2}[-:]\d{2}[-:]\d{2}(\.\d+)?Z", "<time>"),
            (r"\d{8}_\d{4}", "<day_time>"),
            (r"\d{4}-\d{2}-\d{2}", "<day>"),
            (r"\d{2}:\d{2}(:\d{2})?Z", "<clock>"),
            (r"\d+(\.\d+)? (KiB|MiB|GiB|B)\b", "<size>"),
            (r"\d+(\.\d+)?( ?s| ms| min| h)\b", "<duration>"),
            (r"\d+ bytes", "<size>"),
            (r"\d+ free", "<free>"),
            (r"[0-9.]+ ?%", "<part>"),
            (r" +", " "),
            (r"-{3,}", "---"),
        ] {
            text = regex::Regex::new(pattern).expect("a pattern").replace_all(&text, instead).into_owned();
        }
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn its_operators_commands_work_as_they_know_them() {
    let machine = Machine::new();

    // Dry run: what would be taken, what is left out and why; nothing is written.
    let planned = machine.run(&["backup", "--tier", "daily", "--dry-run"]);
    for said in ["logs", "caches", "temporary", "generated"] {
        assert!(planned.stdout.contains(said), "{said}: {}", planned.stdout);
    }
    let visible = |entry: std::io::Result<std::fs::DirEntry>| {
        !entry.expect("an entry").file_name().to_string_lossy().starts_with('.')
    };
    assert_eq!(
        std::fs::read_dir(machine.at("backup")).expect("a folder").filter_map(|e| visible(e).then_some(())).count(),
        0
    );
    insta::assert_snapshot!("three_two_one_dry_run", machine.shown(&planned));

    let backup = machine.run(&["backup", "--tier", "daily", "--json"]).data();
    let name = backup["name"].as_str().expect("a name").to_string();
    insta::assert_snapshot!("three_two_one_list", machine.shown(&machine.run(&["list"])));
    insta::assert_snapshot!("three_two_one_show", machine.shown(&machine.run(&["show", &name])));
    for (called, args) in [
        ("stats", &["stats"][..]),
        ("verify", &["verify", &name]),
        ("retention", &["retention", "--dry-run"]),
        ("schedule", &["schedule", "status"]),
    ] {
        insta::assert_snapshot!(format!("three_two_one_{called}"), machine.shown(&machine.run(args)));
    }

    // backup_metadata.json: by relative path, in each place.
    for place in ["backup", "second"] {
        let index: Value = serde_json::from_str(&machine.read(&format!("{place}/backup_metadata.json"))).expect("JSON");
        let entry = &index["daily"][&name];
        assert_eq!((&entry["status"], &entry["verified"]), (&Value::from("active"), &Value::from(false)), "{entry}");
        let file = &entry["files"]["files/config/app.toml"];
        assert_eq!(file["size"], 12);
        assert_eq!(file["hash"].as_str().map(str::len), Some(64));
        let database = &entry["files"]["app/app.db"];
        assert_eq!(database["has_wal"], true, "{entry}");
        let left_out = |path: &str| entry["files"].get(path).is_none();
        assert!(left_out("files/app.log") && left_out("files/draft.tmp"));
    }

    // A second backup of what is unchanged stores none of the files again.
    let again = machine.run(&["backup", "--tier", "daily", "--json"]).data();
    let files = |manifest: &Value| {
        let source = manifest["sources"].as_array().and_then(|all| all.iter().find(|s| s["kind"] == "files").cloned());
        source.expect("files")
    };
    assert_eq!((&files(&again)["stored_bytes"], &files(&again)["stored_count"]), (&0.into(), &0.into()));
    assert_eq!(files(&again)["archives"], files(&backup)["archives"]);

    // Before a migration; after it went wrong, back.
    let change = ["backup", "--kind", "pre_change", "--description", "migrate notes", "--ticket", "OPS-9", "--json"];
    let change = machine.run(&change).data();
    let before = change["name"].as_str().expect("a name").to_string();
    machine.database("DROP TABLE note; PRAGMA user_version = 8;");
    machine.write("system/config/app.toml", "retries = oops\n");
    let refused = machine.estate.strongroom(&["restore", &before]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("--replace"), "{}", refused.stderr);
    insta::assert_snapshot!(
        "three_two_one_restore_dry_run",
        machine.shown(&machine.run(&["restore", &before, "--replace", "--dry-run"]))
    );
    assert_eq!(machine.read("system/config/app.toml"), "retries = oops\n", "a dry run changes nothing");
    let diff = machine.estate.strongroom(&["diff", &before]);
    assert_eq!(diff.code, 7, "{diff:?}");
    for said in ["config/app.toml: ", "note: is not there"] {
        assert!(diff.stdout.contains(said), "{said}: {}", diff.stdout);
    }
    machine.run(&["restore", &before, "--source", "app", "--replace"]);
    assert_eq!(machine.notes("data/app.db"), 2);
    let to = machine.at("beside").display().to_string();
    let restored = machine.run(&["restore", &before, "--to", &to]);
    insta::assert_snapshot!("three_two_one_restore", machine.shown(&restored));
    assert_eq!(machine.read("beside/files/config/app.toml"), "retries = 3\n");
    assert_eq!(machine.notes("beside/app.db"), 2);
    // One file.
    let one = machine.at("one").display().to_string();
    machine.run(&["restore", &before, "--source", "files", "--path", "config/users/*", "--to", &one]);
    assert_eq!(machine.read("one/files/config/users/ann.toml"), "theme = \"dark\"\n");
    assert!(!machine.at("one/files/env").exists());
    machine.run(&["approve", &before, "--by", "ann"]);

    // The first place burns down: the next one serves.
    std::fs::remove_dir_all(machine.at("backup/daily")).expect("a loss");
    std::fs::remove_dir_all(machine.at("system")).expect("a loss");
    std::fs::remove_dir_all(machine.at("data")).expect("a loss");
    machine.run(&["restore", &name]);
    assert_eq!(machine.read("system/env/production.env"), "MODE=production\n");
    assert_eq!(machine.notes("data/app.db"), 2);

    machine.run(&["repair", "--all"]);
    machine.run(&["verify", "--all"]);
    let status = machine.estate.strongroom(&["status", "--json"]);
    assert!(matches!(status.code, 0 | 5), "{status:?}");
}

//! A small estate with a vault, the program run on it until it is killed, and what an outsider finds there afterwards: through
//! Google's own interfaces and in the files of a local vault, not through the program.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::gate::{Gate, Point};
use crate::estate::{DATASET, Estate, JOB, PAUSED_JOB, PROJECT, Run};

/// Where backups and their copies, journal and lease are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vault {
    /// In buckets.
    Gcs,
    /// In directories, by way of a bucket for staging.
    Local,
}

impl Vault {
    pub fn name(self) -> &'static str {
        match self {
            Self::Gcs => "gcs",
            Self::Local => "local",
        }
    }
}

/// Where a run is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// At a call to Google.
    Google(Point),
    /// At a call to the file system.
    Files(Point),
}

/// What became of a run.
#[derive(Debug)]
pub enum Ended {
    Killed,
    /// It came to its end before.
    Finished(Run),
}

const PRIMARY: &str = "demo-project-backup-daily";
const COPY: &str = "demo-project-backup-weekly";

/// Longer than a lease lasts.
const LEASE: Duration = Duration::from_secs(180);
/// Longer than what a dead run left is spared.
const GRACE: Duration = Duration::from_secs(3700);

/// An object as a vault has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub size: u64,
    /// Base64, as Cloud Storage writes it.
    pub crc32c: String,
    /// A generation or a time of change: another one means that it was written again.
    pub stamp: String,
}

pub struct World {
    pub estate: Estate,
    pub vault: Vault,
    gate: Gate,
    files: tempfile::TempDir,
    /// How far the program's and the sandbox's clocks are ahead of the machine's.
    ahead: Cell<Duration>,
    /// The committed backups, each with the objects of its folder in both places.
    committed: RefCell<BTreeMap<String, BTreeMap<String, Object>>>,
    begin: Instant,
    pub data: BTreeMap<String, Vec<String>>,
    pub cells: Value,
}

impl World {
    /// Two tables, a view, a sheet with its mapping, a job that runs and one that is paused; one committed backup.
    pub fn new(vault: Vault) -> Self {
        let begin = Instant::now();
        let mut estate = Estate::seeded();
        let files = tempfile::tempdir().expect("a temporary directory");
        let queries = files.path().join("queries");
        std::fs::create_dir(&queries).expect("a folder for queries");
        std::fs::write(queries.join("price.sql"), QUERY).expect("a query");
        let (home, copy, staging) = match vault {
            Vault::Gcs => (format!("gs://{PRIMARY}"), format!("gs://{COPY}/copies"), String::new()),
            Vault::Local => {
                let staging = format!("staging = \"gs://{PRIMARY}/staging\"");
                (path(files.path(), "home"), path(files.path(), "copy"), staging)
            }
        };
        estate.configure(|_| {
            CONFIG
                .replace("@HOME", &home)
                .replace("@COPY", &copy)
                .replace("@STAGING", &staging)
                .replace("@QUERIES", &queries.display().to_string())
                .replace("@JOB", JOB)
                .replace("@PAUSED", PAUSED_JOB)
        });
        estate.query(&format!(
            "CREATE VIEW `{PROJECT}.{DATASET}.v_kill` AS SELECT COUNT(*) AS n FROM `{PROJECT}.{DATASET}.dim_model_price`"
        ));
        // Only what is backed up is there: a whole loss is one of it.
        for (table, _) in estate.contents(DATASET) {
            if !["dim_model_price", "dim_api_key_user", "v_kill"].contains(&table.as_str()) {
                estate.delete(&format!("/bigquery/v2/projects/{PROJECT}/datasets/{DATASET}/tables/{table}"));
            }
        }
        let gate = estate.block_on(Gate::start(estate.sandbox.endpoint()));
        estate.endpoint = Some(gate.endpoint().into());
        let (data, cells) = (estate.contents(DATASET), estate.sheet());
        let (ahead, committed) = (Cell::default(), RefCell::default());
        let world = Self { estate, vault, gate, files, ahead, committed, begin, data, cells };
        world.ok(&["backup"]);
        world.note_committed();
        world
    }

    /// Lets time pass, for the program and for Google, and for the files of a local vault.
    pub fn pass(&self, time: Duration) {
        self.ahead.set(self.ahead.get() + time);
        let ms = i64::try_from(time.as_millis()).expect("a time");
        self.estate.post("/_sandbox/clock", json!({"advance_ms": ms}));
    }

    /// How far it is, for whoever looks with `--nocapture`.
    pub fn told(&self, what: &str) {
        eprintln!("{:6.1} s  {what}", self.begin.elapsed().as_secs_f64());
    }

    pub fn pass_lease(&self) {
        self.pass(LEASE);
        if self.vault == Vault::Local {
            self.age(&self.files.path().join("home/_strongroom/lease"), LEASE);
        }
    }

    /// Files carry the machine's time: they are made older.
    fn age(&self, directory: &Path, older: Duration) {
        for file in files_below(directory) {
            let handle = std::fs::File::options().append(true).open(&file).expect("a file of the vault");
            let modified = handle.metadata().and_then(|metadata| metadata.modified()).expect("its time");
            handle.set_modified(modified - older).expect("it is made older");
        }
    }

    /// Lets the time of grace pass; unfinished files of a directory are spared for a day.
    pub fn pass_grace(&self) {
        self.pass(GRACE);
        for root in self.directories() {
            self.age(&root, GRACE + Duration::from_secs(24 * 3600));
        }
        // What is committed is the same though its files are older now.
        self.note_committed();
    }

    fn directories(&self) -> Vec<PathBuf> {
        match self.vault {
            Vault::Gcs => vec![],
            Vault::Local => ["home", "copy"].map(|name| self.files.path().join(name)).to_vec(),
        }
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.estate.command(args);
        command.env("STRONGROOM_TEST_CLOCK_AHEAD_MS", self.ahead.get().as_millis().to_string());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &[&str]) -> Run {
        let child = self.command(args).output().expect("strongroom runs");
        self.told(&format!("ran {args:?}: {}", child.status));
        Run {
            code: child.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&child.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&child.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> Run {
        self.run(args).ok()
    }

    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(args);
        self.ok(&all).data()
    }

    /// How many calls with an effect a whole run makes: to Google, and to the file system.
    pub fn count(&self, args: &[&str]) -> (Run, Vec<String>, Vec<String>) {
        let log = self.files.path().join("count.log");
        std::fs::remove_file(&log).ok();
        self.gate.arm(None);
        let mut command = self.command(args);
        command.env("STRONGROOM_TEST_HALT", format!("count 0 {}", log.display()));
        let child = command.output().expect("strongroom runs");
        let run = Run {
            code: child.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&child.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&child.stderr).into_owned(),
        };
        let files = std::fs::read_to_string(&log).unwrap_or_default().lines().map(String::from).collect();
        (run, self.gate.effects(), files)
    }

    /// Runs the program and kills it, as by SIGKILL, at this place.
    pub fn run_until(&self, args: &[&str], stop: Stop) -> Ended {
        let log = self.files.path().join("halt.log");
        std::fs::remove_file(&log).ok();
        let mut command = self.command(args);
        match stop {
            Stop::Google(point) => self.gate.arm(Some(point)),
            Stop::Files(Point { number, after }) => {
                self.gate.arm(None);
                let when = if after { "after" } else { "before" };
                command.env("STRONGROOM_TEST_HALT", format!("{when} {number} {}", log.display()));
            }
        }
        let output = tempfile::NamedTempFile::new().expect("a file for its output");
        let errors = output.reopen().expect("the same file");
        command.stdout(Stdio::null()).stderr(errors);
        let mut child = command.spawn().expect("strongroom runs");
        let begin = Instant::now();
        loop {
            let stopped = match stop {
                Stop::Google(_) => self.gate.stopped(Duration::from_millis(5)),
                Stop::Files(_) => {
                    std::thread::sleep(Duration::from_millis(3));
                    std::fs::read_to_string(&log).is_ok_and(|log| log.ends_with("stopped\n"))
                }
            };
            if stopped {
                child.kill().expect("it is killed");
                child.wait().expect("it is gone");
                self.gate.arm(None);
                return Ended::Killed;
            }
            if let Some(status) = child.try_wait().expect("its state") {
                let stderr = std::fs::read_to_string(output.path()).unwrap_or_default();
                return Ended::Finished(Run { code: status.code().unwrap_or(-1), stdout: String::new(), stderr });
            }
            assert!(begin.elapsed().as_secs() < 300, "{args:?} neither came to {stop:?} nor to its end");
        }
    }

    /// Everything in a place of the vault, by key.
    fn place(&self, which: Which) -> BTreeMap<String, Object> {
        match (self.vault, which) {
            (Vault::Gcs, Which::Primary) => self.bucket(PRIMARY, ""),
            (Vault::Gcs, Which::Copy) => self.bucket(COPY, "copies/"),
            (Vault::Local, Which::Primary) => local(&self.files.path().join("home")),
            (Vault::Local, Which::Copy) => local(&self.files.path().join("copy")),
        }
    }

    fn bucket(&self, bucket: &str, prefix: &str) -> BTreeMap<String, Object> {
        let mut found = BTreeMap::new();
        let mut token = String::new();
        loop {
            let listed = self.estate.get(&format!("/storage/v1/b/{bucket}/o?maxResults=1000&prefix={prefix}{token}"));
            for item in listed["items"].as_array().into_iter().flatten() {
                let text = |key: &str| item[key].as_str().unwrap_or_default().to_string();
                let object = Object {
                    size: text("size").parse().unwrap_or(u64::MAX),
                    crc32c: text("crc32c"),
                    stamp: text("generation"),
                };
                found.insert(text("name").trim_start_matches(prefix).to_string(), object);
            }
            match listed["nextPageToken"].as_str() {
                Some(next) => token = format!("&pageToken={next}"),
                None => return found,
            }
        }
    }

    fn read(&self, which: Which, key: &str) -> Value {
        let bucket = |bucket: &str, prefix: &str| {
            let name = format!("{prefix}{key}").replace('/', "%2F");
            self.estate.get(&format!("/storage/v1/b/{bucket}/o/{name}?alt=media"))
        };
        match (self.vault, which) {
            (Vault::Gcs, Which::Primary) => bucket(PRIMARY, ""),
            (Vault::Gcs, Which::Copy) => bucket(COPY, "copies/"),
            (Vault::Local, which) => {
                let root = self.files.path().join(if which == Which::Primary { "home" } else { "copy" });
                serde_json::from_slice(&std::fs::read(root.join(key)).expect("an object")).expect("a document")
            }
        }
    }

    /// The committed backups: name and folder, as the primary has their manifests.
    fn manifests(&self) -> Vec<(String, String, Value)> {
        let primary = self.place(Which::Primary);
        let keys = primary.keys().filter_map(|key| key.strip_suffix("/manifest.json"));
        keys.filter_map(|folder| {
            let manifest = self.read(Which::Primary, &format!("{folder}/manifest.json"));
            // A tombstone has no name.
            let name = manifest["name"].as_str()?.to_string();
            Some((name, folder.to_string(), manifest))
        })
        .collect()
    }

    pub fn names(&self) -> BTreeSet<String> {
        self.manifests().into_iter().map(|(name, ..)| name).collect()
    }

    /// Remembers what is committed now.
    pub fn note_committed(&self) {
        *self.committed.borrow_mut() = self.committed_now();
    }

    fn committed_now(&self) -> BTreeMap<String, BTreeMap<String, Object>> {
        let (primary, copy) = (self.place(Which::Primary), self.place(Which::Copy));
        let mut found = BTreeMap::new();
        for (name, folder, manifest) in self.manifests() {
            let mut objects = BTreeMap::new();
            let manifest_key = format!("{folder}/manifest.json");
            let keys = keys_of(&manifest).into_iter().map(|(key, ..)| key).chain([manifest_key]);
            for key in keys {
                for (place, listed) in [("primary", &primary), ("copy", &copy)] {
                    if let Some(object) = listed.get(&key) {
                        objects.insert(format!("{place}: {key}"), object.clone());
                    }
                }
            }
            found.insert(name, objects);
        }
        found
    }

    /// What is listed is whole, in both places, and what was committed is there and unchanged, but for those that were given up.
    pub fn check_vault(&self, about: &str, may_go: &dyn Fn(&str) -> bool) {
        let (primary, copy) = (self.place(Which::Primary), self.place(Which::Copy));
        let manifests = self.manifests();
        for (name, folder, manifest) in &manifests {
            for (key, size, crc32c) in keys_of(manifest) {
                for (place, listed) in [("primary", &primary), ("copy", &copy)] {
                    let object = listed.get(&key).unwrap_or_else(|| {
                        panic!("{about}: a partial backup is listed: {name} lacks {key} in its {place}")
                    });
                    assert_eq!(
                        (object.size, object.crc32c.as_str()),
                        (size, crc32c.as_str()),
                        "{about}: {key} in the {place}"
                    );
                }
            }
            let key = format!("{folder}/manifest.json");
            assert!(may_go(name) || copy.contains_key(&key), "{about}: {name} has no manifest in its copy");
        }
        let listed = self.json(&["list"]);
        let listed: BTreeSet<String> = listed["backups"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|backup| backup["name"].as_str().unwrap_or_default().to_string())
            .collect();
        let there: BTreeSet<String> = manifests.iter().map(|(name, ..)| name.clone()).collect();
        assert_eq!(listed, there, "{about}: what is listed");
        let now = self.committed_now();
        for (name, objects) in self.committed.borrow().iter().filter(|(name, _)| !may_go(name)) {
            let found = now.get(name).unwrap_or_else(|| panic!("{about}: the committed backup {name} is lost"));
            assert_eq!(found, objects, "{about}: the committed backup {name} was changed");
        }
    }

    /// Ingestion runs; what a person had paused does not.
    pub fn check_ingestion(&self, about: &str) {
        let states = [self.estate.job_state(JOB), self.estate.job_state(PAUSED_JOB)];
        assert_eq!(states, ["ENABLED", "PAUSED"], "{about}: ingestion");
    }

    /// Nothing is there that nobody needs.
    pub fn check_garbage(&self, about: &str) {
        let manifests = self.manifests();
        let names: BTreeSet<&str> = manifests.iter().map(|(name, ..)| name.as_str()).collect();
        let mut needed: BTreeSet<String> = BTreeSet::new();
        let mut snapshots: BTreeSet<String> = BTreeSet::new();
        for (_, folder, manifest) in &manifests {
            needed.extend(["manifest.json", "statement.json"].map(|name| format!("{folder}/{name}")));
            needed.extend(keys_of(manifest).into_iter().map(|(key, ..)| key));
            for table in manifest["sources"][0]["tables"].as_array().into_iter().flatten() {
                let id = table["snapshot"].as_str().unwrap_or_default();
                snapshots.insert(id.rsplit('.').next().unwrap_or_default().to_string());
            }
        }
        let home = self.place(Which::Primary);
        let closed = |run: &str| {
            let records = home.keys().filter(|key| key.starts_with(&format!("_strongroom/journal/{run}/")));
            records.max().map(|last| self.read(Which::Primary, last)["outcome"].as_str().unwrap_or("open").to_string())
        };
        let mut garbage = Vec::new();
        if self.vault == Vault::Local {
            garbage.extend(self.bucket(PRIMARY, "").into_keys().map(|key| format!("staging: {key}")));
        }
        for (place, which) in [("primary", Which::Primary), ("copy", Which::Copy)] {
            for key in self.place(which).keys().filter(|key| !needed.contains(*key)) {
                let mut parts = key.split('/');
                let own = parts.next() == Some("_strongroom") && which == Which::Primary;
                let (kind, of) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                let good = own
                    && match kind {
                        "lease" | "removals.json" => true,
                        "journal" => closed(of).is_some_and(|outcome| outcome != "open"),
                        "marks" => names.contains(of),
                        "drills" => home.contains_key(&format!("_strongroom/drills/{of}/report.json")),
                        _ => false,
                    };
                if !good && key != "backup_metadata.json" {
                    garbage.push(format!("{place}: {key}"));
                }
            }
        }
        for root in self.directories() {
            let aside = root.join(".strongroom-aside");
            let parts = files_below(&aside).into_iter().filter(|file| file.extension().is_some_and(|e| e == "part"));
            garbage.extend(parts.map(|file| file.display().to_string()));
        }
        let datasets =
            self.list(&format!("/bigquery/v2/projects/{PROJECT}/datasets"), "datasets", "/datasetReference/datasetId");
        garbage.extend(datasets.iter().filter(|name| name.contains("_drill_")).map(|name| format!("dataset {name}")));
        for dataset in datasets.iter().filter(|name| !name.contains("_drill_")) {
            let path = format!("/bigquery/v2/projects/{PROJECT}/datasets/{dataset}/tables?maxResults=1000");
            for table in self.list(&path, "tables", "/tableReference/tableId") {
                let good = if let Some((_, run)) = table.split_once("_before_restore_") {
                    // The way back from a restore that was carried out.
                    closed(&run.replacen('_', "-", 1)).is_some_and(|outcome| outcome == "committed")
                } else if dataset.ends_with("_snapshots") {
                    snapshots.contains(&table)
                } else {
                    !table.ends_with("_strongroom_staging")
                };
                if !good {
                    garbage.push(format!("table {dataset}.{table}"));
                }
            }
        }
        let services =
            self.list(&format!("/v2/projects/{PROJECT}/locations/us-central1/services"), "services", "/name");
        let secrets = self.list(&format!("/v1/projects/{PROJECT}/secrets"), "secrets", "/name");
        garbage.extend(services.into_iter().chain(secrets).filter(|name| name.contains("-drill-")));
        assert!(garbage.is_empty(), "{about}: garbage is left:\n  {}", garbage.join("\n  "));
    }

    fn list(&self, path: &str, member: &str, name: &str) -> Vec<String> {
        let listed = self.estate.get(path);
        let items = listed[member].as_array().cloned().unwrap_or_default();
        items.iter().filter_map(|item| item.pointer(name)?.as_str().map(String::from)).collect()
    }

    /// The dataset with all in it, and the sheet's cells.
    pub fn lose_everything(&self) {
        let path = format!("/bigquery/v2/projects/{PROJECT}/datasets/{DATASET}?deleteContents=true");
        let (status, body) = self.estate.call(Method::DELETE, &path, None);
        assert!(status == 404 || (200..300).contains(&status), "{body}");
        let sheet = crate::estate::SHEET;
        self.estate.post(&format!("/v4/spreadsheets/{sheet}/values/mappings:clear"), json!({}));
    }

    /// Whether all that was lost is there again.
    pub fn is_whole(&self) -> bool {
        let dataset = format!("/bigquery/v2/projects/{PROJECT}/datasets/{DATASET}");
        self.estate.call(Method::GET, &dataset, None).0 == 200
            && self.estate.contents(DATASET) == self.data
            && self.estate.sheet() == self.cells
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Journal and lease are there too.
    Primary,
    Copy,
}

/// Key, size and checksum of every object that a manifest names.
fn keys_of(manifest: &Value) -> Vec<(String, u64, String)> {
    let mut found = Vec::new();
    let mut open = vec![manifest];
    while let Some(value) = open.pop() {
        if let (Some(key), Some(size), Some(crc)) =
            (value["key"].as_str(), value["size_bytes"].as_u64(), value["crc32c"].as_str())
        {
            found.push((key.to_string(), size, crc.to_string()));
        }
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(members) => open.extend(members.values()),
            _ => {}
        }
    }
    found
}

fn path(root: &Path, name: &str) -> String {
    root.join(name).display().to_string()
}

fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                _ => found.push(entry.path()),
            }
        }
    }
    found
}

/// The objects of a directory.
fn local(root: &Path) -> BTreeMap<String, Object> {
    use base64::Engine;
    let mut found = BTreeMap::new();
    for file in files_below(root) {
        let key = file.strip_prefix(root).expect("below the root").display().to_string();
        if key.starts_with(".strongroom-aside") {
            continue;
        }
        let bytes = std::fs::read(&file).expect("a file of the vault");
        let crc = base64::engine::general_purpose::STANDARD.encode(crc32c::crc32c(&bytes).to_be_bytes());
        let modified = std::fs::metadata(&file).and_then(|metadata| metadata.modified()).expect("its time");
        found.insert(key, Object { size: bytes.len() as u64, crc32c: crc, stamp: format!("{modified:?}") });
    }
    found
}

const QUERY: &str = "-- name: prices\n-- title: Every price is there.\n-- expect: recorded\nSELECT COUNT(*) AS n, SUM(n) AS m FROM (SELECT 1 AS n FROM `${project_id}.${dataset}.dim_model_price`)\n";

const CONFIG: &str = r#"
name = "kill"
home = "@HOME"
parallel = 4
@STAGING

[google]
project = "${GOOGLE_CLOUD_PROJECT}"
endpoint = "${STRONGROOM_GOOGLE_ENDPOINT}"
credentials = "anonymous"

[[source]]
name = "warehouse"
kind = "bigquery"
dataset = "ai_usage_analytics"

[[source]]
name = "mappings"
kind = "sheets"
spreadsheet = "${MAPPINGS_SPREADSHEET_ID}"
tabs = ["mappings"]

[ingestion]
scheduler_jobs = ["@JOB", "@PAUSED"]
drain_timeout = "1m"
resume_within = "2m"

[tiers.daily]
keep = "0s"
keep_last = 2
destinations = ["@HOME", "@COPY"]

[retention]
grace = "0s"

[recover]
grace = "1h"

[validation]
queries = "@QUERIES"

[objectives]
rpo_transactions = "9999d"
rpo_mappings = "9999d"

[service]
name = "projects/${GOOGLE_CLOUD_PROJECT}/locations/us-central1/services/ai-usage-analytics-pipeline"
health = "/health"
dry_run = "/run-daily-job"
dry_run_body = '{"mode": "dry_run", "days": 1}'

[secrets]
names = ["projects/${GOOGLE_CLOUD_PROJECT}/secrets/cursor-api-key"]
"#;

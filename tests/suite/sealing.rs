//! Sealed backups: what lies in the vault is opened by its keys and by nothing else, and what is wrong with it has a name.

use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use crate::estate::{Estate, PROJECT, Run};
use crate::small::{self, HOME};

const STAGING: &str = "on-its-way";
const KEY: &str = "projects/demo-project/locations/us/keyRings/vault/cryptoKeys/backups";

struct Sealed {
    estate: Estate,
    directory: tempfile::TempDir,
}

impl Sealed {
    /// The small estate; `sealing` is the text of that table, in which RECIPIENT stands for a new identity's.
    fn new(sealing: &str) -> Self {
        let mut estate = small::estate(&[]);
        estate.post(&format!("/storage/v1/b?project={PROJECT}"), json!({"name": STAGING, "location": "US"}));
        let directory = tempfile::tempdir().unwrap();
        let sealed = Self::generate(&estate, &directory.path().join("own.key"));
        let sealing = sealing.replace("RECIPIENT", &sealed);
        estate.configure(|_| format!("staging = \"gs://{STAGING}/here\"\n{}\n[sealing]\n{sealing}\n", small::CONFIG));
        Self { estate, directory }
    }

    /// Makes an identity, and gives its recipient.
    fn generate(estate: &Estate, file: &Path) -> String {
        let made = estate.json(&["key", "generate", "--sealing", file.to_str().unwrap()]);
        made["public"].as_str().unwrap().to_string()
    }

    fn key(&self, name: &str) -> String {
        let file: PathBuf = self.directory.path().join(name);
        if !file.exists() {
            Self::generate(&self.estate, &file);
        }
        file.to_str().unwrap().into()
    }

    fn json_of(&self, args: &[&str], code: i32) -> Value {
        let run = self.estate.strongroom(&[&["--json"], args].concat());
        assert_eq!(run.code, code, "{args:?}: {run:?}");
        run.data()
    }

    /// What one verification says: the exit code, `state` and the kinds of its findings.
    fn verified(&self, args: &[&str]) -> (i32, String, Vec<String>) {
        let run = self.estate.strongroom(&[&["--json", "verify"], args].concat());
        let data = run.data()[0].clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let kinds = data["findings"].as_array().unwrap().iter().map(|finding| text(&finding["kind"])).collect();
        (run.code, text(&data["state"]), kinds)
    }

    fn path(bucket: &str, key: &str) -> String {
        format!("/storage/v1/b/{bucket}/o/{}", key.replace('/', "%2F"))
    }

    fn bytes(&self, bucket: &str, key: &str) -> Vec<u8> {
        let url = format!("{}{}?alt=media", self.estate.sandbox.endpoint(), Self::path(bucket, key));
        self.estate.block_on(async { reqwest::get(url).await.unwrap().bytes().await.unwrap().to_vec() })
    }

    fn put(&self, bucket: &str, key: &str, bytes: Vec<u8>) {
        let name = key.replace('/', "%2F");
        let endpoint = self.estate.sandbox.endpoint();
        let url = format!("{endpoint}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}");
        let client = reqwest::Client::new();
        let status = self.estate.block_on(async { client.post(url).body(bytes).send().await.unwrap().status() });
        assert!(status.is_success(), "{status}");
    }

    /// The data of the vault: all but manifests, statements, journal, lease.
    fn sealed_objects(&self, bucket: &str) -> Vec<String> {
        let inner = |key: &String| key.contains("/data/") || key.contains("/meta/");
        self.estate.objects(bucket).into_iter().filter(inner).collect()
    }
}

fn age(args: &[&str]) -> Run {
    Run::of(&Command::new("age").args(args).output().expect("age is installed; scripts/test does it"))
}

#[test]
fn a_sealed_backup_is_read_by_its_identity_and_by_nothing_else() {
    let sealed = Sealed::new("recipients = [\"RECIPIENT\"]");
    let estate = &sealed.estate;
    let before = small::contents(estate);
    let planned = estate.strongroom(&["backup", "--dry-run"]).ok().stdout;
    assert!(planned.contains("sealed for age1") && planned.contains("by way of gs://on-its-way/here"), "{planned}");
    let manifest = estate.json(&["backup"]);
    assert_eq!((&manifest["format"], manifest["sealing"]["recipients"].as_array().map(Vec::len)), (&json!(2), Some(1)));
    assert_eq!(estate.objects(STAGING), Vec::<String>::new(), "staging is empty after a backup");

    // Nothing in the vault but sealed objects; the copy holds the same bytes.
    let keys = sealed.sealed_objects(HOME);
    assert!(keys.len() >= 9, "{keys:?}");
    for key in &keys {
        let bytes = sealed.bytes(HOME, key);
        assert!(key.ends_with(".age") && bytes.starts_with(b"age-encryption.org/v1\n"), "{key}");
        assert_eq!(sealed.bytes("vault-copy", &key.replacen("a/", "b/", 1)), bytes, "{key}");
    }
    let ends = |ending: &str| keys.iter().filter(|key| key.ends_with(ending)).count();
    assert!(ends(".json.zst.age") >= 4 && ends(".avro.age") >= 2 && ends(".parquet.age") == 1, "{keys:?}");

    // The age command line opens an object with the identity, and with that only.
    let (own, other) = (sealed.key("own.key"), sealed.key("other.key"));
    let table = keys.iter().find(|key| key.ends_with(".avro.age")).unwrap();
    let file = sealed.directory.path().join("object.age");
    std::fs::write(&file, sealed.bytes(HOME, table)).unwrap();
    let (file, opened) = (file.to_str().unwrap(), sealed.directory.path().join("object"));
    age(&["--decrypt", "--identity", &own, "--output", opened.to_str().unwrap(), file]).ok();
    assert!(std::fs::read(opened).unwrap().starts_with(b"Obj\x01"), "an Avro file");
    assert_ne!(age(&["--decrypt", "--identity", &other, file]).code, 0);

    // What needs no key, and what does.
    assert_eq!(sealed.verified(&[]), (0, "complete".into(), vec![]));
    let told = estate.strongroom(&["verify"]).ok().stdout;
    assert!(told.contains("sealed, content not read"), "{told}");
    let shut = (21, "sealed".to_string(), vec!["sealed".to_string()]);
    assert_eq!(sealed.verified(&["--deep"]), shut);
    assert_eq!(sealed.verified(&["--identity", &other]), shut);
    let told = estate.strongroom(&["verify", "--identity", &other]);
    assert!(told.stdout.contains("the identity given is age1") && told.stdout.contains("hint: --identity"), "{told:?}");
    assert_eq!(sealed.verified(&["--identity", &own]), (0, "complete".into(), vec![]));
    assert_eq!(sealed.json_of(&["verify", "--identity", &own], 0)[0]["content_read"], true);

    let sql = "SELECT COUNT(*) AS n, SUM(id) AS s FROM entries";
    for (args, code) in [
        (vec!["query", "latest", sql], 21),
        (vec!["query", "latest", sql, "--identity", &other], 21),
        (vec!["diff", "latest"], 21),
        (vec!["drill"], 21),
        (vec!["restore", "--replace"], 21),
        (vec!["restore", "--replace", "--identity", &other], 21),
        (vec!["restore", "--replace", "--identity", "/no/such/file"], 1),
    ] {
        let mark = estate.mark();
        let run = estate.strongroom(&args);
        assert_eq!(run.code, code, "{args:?}: {run:?}");
        assert!(run.stderr.contains("hint:"), "{args:?}: {run:?}");
        let changed =
            |request: &Value| request["mutating"] == true && !request["name"].as_str().unwrap().contains("query");
        let changed: Vec<_> = estate.requests(mark).into_iter().filter(changed).collect();
        assert!(changed.is_empty(), "{args:?} changed something: {changed:?}");
    }
    let rows = sealed.json_of(&["query", "latest", sql, "--identity", &own], 0);
    assert_eq!(rows["rows"][0], json!(["500", "125250"]), "{rows}");
    sealed.json_of(&["diff", "latest", "--identity", &own], 0);

    // All is lost, and comes back.
    small::lose(estate);
    let run = Run::of(&estate.command(&["--json", "restore"]).env("STRONGROOM_IDENTITY", &own).output().unwrap()).ok();
    assert_eq!(run.data()["differences"], json!([]));
    assert_eq!(small::contents(estate), before);
    let report = sealed.json_of(&["drill", "--identity", &own], 0);
    assert_eq!((report["outcome"].as_str(), &report["findings"]), (Some("passed"), &json!([])), "{report:#}");
    assert_eq!(estate.objects(STAGING), Vec::<String>::new(), "staging is empty after a restore and a drill");
}

#[test]
fn missing_changed_and_shut_are_told_apart_with_and_without_the_key() {
    let sealed = Sealed::new("recipients = [\"RECIPIENT\"]");
    sealed.estate.strongroom(&["backup"]).ok();
    let own = sealed.key("own.key");
    let keys = sealed.sealed_objects(HOME);
    let key = keys.iter().find(|key| key.contains("/entries/") && key.ends_with(".avro.age")).unwrap();
    let good = sealed.bytes(HOME, key);
    let depths: [&[&str]; 2] = [&[], &["--identity", &own]];
    let both = |code: i32, state: &str, kind: &str| {
        for depth in depths {
            let (found, of, kinds) = sealed.verified(depth);
            assert_eq!((found, of.as_str()), (code, state), "{depth:?}: {kinds:?}");
            assert!(kinds.iter().all(|found| found == kind), "{depth:?}: {kinds:?}");
        }
    };
    both(0, "complete", "");
    // One byte: in the magic, where the key is wrapped, in the header's MAC, in the rows, and in the last tag.
    let header = good.windows(5).position(|word| word == b"\n--- ").unwrap();
    let wrapped = good.windows(10).position(|word| word == b"-> X25519 ").unwrap() + 15;
    for at in [3, wrapped, header + 8, header + 100, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        sealed.put(HOME, key, bad);
        both(12, "corrupt", "corrupt");
    }
    // Cut off.
    sealed.put(HOME, key, good[..good.len() - 20].to_vec());
    both(12, "corrupt", "corrupt");
    // Sealed anew by somebody for the same recipient: it opens, and is not what was written.
    let recipient = sealed.json_of(&["key", "show", "--sealing", &own], 0)["public"][0].as_str().unwrap().to_string();
    let forged = sealed.directory.path().join("forged");
    std::fs::write(&forged, "Obj\u{1}").unwrap();
    let out = sealed.directory.path().join("forged.age");
    age(&["--recipient", &recipient, "--output", out.to_str().unwrap(), forged.to_str().unwrap()]).ok();
    sealed.put(HOME, key, std::fs::read(out).unwrap());
    both(12, "corrupt", "corrupt");
    // Gone.
    sealed.estate.delete(&Sealed::path(HOME, key));
    both(22, "missing", "missing");
    // A restore takes the copy, without being told.
    let run = sealed.estate.strongroom(&["--json", "restore", "--replace", "--identity", &own]).ok();
    assert_eq!(run.data()["differences"], json!([]));
}

#[test]
fn cloud_kms_guards_what_the_worker_cannot_open() {
    let sealed = Sealed::new(&format!("kms_key = \"{KEY}\""));
    let estate = &sealed.estate;
    let refused = estate.strongroom(&["backup"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("no such Cloud KMS key") && refused.stderr.contains("hint:"), "{refused:?}");
    let (ring, _) = KEY.split_once("/cryptoKeys/").unwrap();
    let (place, _) = ring.split_once("/keyRings/").unwrap();
    estate.post(&format!("/v1/{place}/keyRings?keyRingId=vault"), json!({}));
    estate.post(&format!("/v1/{ring}/cryptoKeys?cryptoKeyId=backups"), json!({"purpose": "ENCRYPT_DECRYPT"}));

    // The worker may do everything but decrypt, and not even look at the key.
    let worker = json!({"principals": [{"token": "worker-token", "email": "worker@demo.example", "grants": [
        {"permissions": ["bigquery.*"]}, {"permissions": ["storage.*"]}, {"permissions": ["sheets.*"]},
        {"permissions": ["cloudscheduler.*"]}, {"permissions": ["cloudkms.cryptoKeyVersions.useToEncrypt"], "resource": KEY},
    ]}]});
    assert_eq!(estate.call(Method::PUT, "/_sandbox/permissions", Some(worker)).0, 200);
    let as_worker = |args: &[&str]| {
        let mut command = estate.command(args);
        command.env("STRONGROOM_GOOGLE_CREDENTIALS", "env:WORKER_TOKEN").env("WORKER_TOKEN", "worker-token");
        Run::of(&command.output().unwrap())
    };
    let before = small::contents(estate);
    let mark = estate.mark();
    as_worker(&["backup"]).ok();
    let encrypted =
        estate.requests(mark).iter().filter(|r| r["name"].as_str().unwrap().ends_with("cryptoKeys.encrypt")).count();
    assert_eq!(encrypted, 1, "one call a backup");
    let manifest = estate.json(&["show"]);
    let wrapped = &manifest["sealing"]["kms"][0];
    assert_eq!((&wrapped["key"], &wrapped["backup"]), (&json!(KEY), &manifest["name"]), "{manifest}");
    as_worker(&["verify"]).ok();
    for args in [&["verify", "--deep"][..], &["restore", "--replace"], &["query", "latest", "SELECT * FROM entries"]] {
        let run = as_worker(args);
        assert_eq!(run.code, 21, "{args:?}: {run:?}");
        assert!(format!("{run:?}").contains("Cloud KMS does not unwrap its key"), "{args:?}: {run:?}");
    }
    // Whoever may decrypt needs no file.
    let shown = sealed.json_of(&["verify", "--deep"], 0);
    assert_eq!((&shown[0]["content_read"], &shown[0]["state"]), (&json!(true), &json!("complete")));
    small::lose(estate);
    estate.strongroom(&["restore"]).ok();
    assert_eq!(small::contents(estate), before);

    // A key whose version is disabled seals nothing, and opens nothing.
    let version = format!("/v1/{KEY}/cryptoKeyVersions/1");
    assert_eq!(estate.call(Method::PATCH, &version, Some(json!({"state": "DISABLED"}))).0, 200);
    let refused = estate.strongroom(&["backup"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("primary version is disabled"), "{refused:?}");
    let refused = as_worker(&["backup"]);
    assert!(refused.code != 0 && refused.stderr.contains("is not enabled"), "{refused:?}");
    assert!(!refused.stderr.contains("pause"), "nothing was paused: {refused:?}");
    assert_eq!(sealed.verified(&["--deep"]).0, 21);
}

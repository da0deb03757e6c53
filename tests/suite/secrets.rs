//! Secrets as a source: sealed or not at all, restored as new versions, rotated when one is stolen. Nothing of them is in plain
//! anywhere in the vault, the journal or what the program prints.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::estate::{Estate, PROJECT, Run};
use crate::small;

const FIRST: &str = "sk-cursor-canary-first-7f3a";
const SECOND: &str = "sk-cursor-canary-second-91bc";
const ENVIRONMENT: &str = "API_TOKEN=canary-of-the-environment-file\n";

struct Keys {
    estate: Estate,
    directory: tempfile::TempDir,
}

impl Keys {
    /// An estate with two secrets, one of them of three versions (the middle one disabled), and a file of the environment.
    fn new(sealed: bool) -> Self {
        let mut estate = small::estate(&[]);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(".env");
        std::fs::write(&file, ENVIRONMENT).unwrap();
        let identity = directory.path().join("identity");
        let made = estate.json(&["key", "generate", "--sealing", identity.to_str().unwrap()]);
        let recipient = made["public"].as_str().unwrap().to_string();
        let vault = directory.path().join("vault");
        let sealing = match sealed {
            true => format!("[sealing]\nrecipients = [\"{recipient}\"]\nidentity = \"{}\"\n", identity.display()),
            false => String::new(),
        };
        estate.configure(|_| {
            format!(
                "name = \"keys\"\n{sealing}\n[google]\nproject = \"{PROJECT}\"\nendpoint = \"${{STRONGROOM_GOOGLE_ENDPOINT}}\"\ncredentials = \"${{STRONGROOM_GOOGLE_CREDENTIALS}}\"\n\
                 [[source]]\nname = \"keys\"\nkind = \"secrets\"\nsecrets = [\"cursor-*\", \"plain-text\"]\nfiles = [\"{}\"]\n\
                 [tiers.daily]\nkeep = \"30d\"\ndestinations = [\"{}\"]\n",
                file.display(),
                vault.display()
            )
        });
        let keys = Self { estate, directory };
        keys.create("cursor-api-key", json!({"team": "finance"}), &[FIRST, "of-no-use", SECOND]);
        keys.call(Method::POST, "/cursor-api-key/versions/2:disable", json!({}));
        keys.create("plain-text", json!({}), &["canary-plain"]);
        keys.create("other", json!({}), &["canary-of-another"]);
        keys
    }

    fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let body = (!body.is_null()).then_some(body);
        let (status, answer) = self.estate.call(method, &format!("/v1/projects/{PROJECT}/secrets{path}"), body);
        assert!(status < 300, "{path}: {answer}");
        answer
    }

    fn create(&self, id: &str, labels: Value, versions: &[&str]) {
        let body = json!({
            "replication": {"automatic": {}}, "labels": labels,
            "rotation": {"rotationPeriod": "2592000s", "nextRotationTime": "2031-01-01T00:00:00Z"},
            "topics": [{"name": format!("projects/{PROJECT}/topics/rotation")}],
        });
        self.call(Method::POST, &format!("?secretId={id}"), body);
        for version in versions {
            let payload = json!({"payload": {"data": STANDARD.encode(version)}});
            self.call(Method::POST, &format!("/{id}:addVersion"), payload);
        }
    }

    fn latest(&self, id: &str) -> String {
        let answer = self.call(Method::GET, &format!("/{id}/versions/latest:access"), json!(null));
        String::from_utf8(STANDARD.decode(answer["payload"]["data"].as_str().unwrap()).unwrap()).unwrap()
    }

    fn resource(&self, id: &str) -> Value {
        let mut found = self.call(Method::GET, &format!("/{id}"), json!(null));
        for key in ["etag", "createTime"] {
            found.as_object_mut().unwrap().remove(key);
        }
        found
    }

    fn run(&self, args: &[&str], code: i32) -> Run {
        let run = self.estate.strongroom(args);
        assert_eq!(run.code, code, "{args:?}: {run:?}");
        run
    }

    /// No payload in what was printed, and none in any file below the vault.
    fn nowhere_in_plain(&self, runs: &[Run]) {
        let canaries = [FIRST, SECOND, "of-no-use", "canary-plain", "canary-of"];
        let encoded: Vec<String> = [FIRST, SECOND, "canary-plain"].iter().map(|text| STANDARD.encode(text)).collect();
        let found = |text: &[u8]| {
            let holds = |word: &str| text.windows(word.len()).any(|window| window == word.as_bytes());
            canaries.iter().any(|word| holds(word)) || encoded.iter().any(|word| holds(word))
        };
        for run in runs {
            assert!(!found(format!("{run:?}").as_bytes()), "{run:?}");
        }
        let mut files = 0;
        let mut folders = vec![self.directory.path().join("vault")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files += 1;
                    assert!(!found(&std::fs::read(&path).unwrap()), "{}", path.display());
                }
            }
        }
        assert!(files > 5, "{files}");
    }
}

#[test]
fn secrets_are_sealed_lost_and_brought_back_with_their_versions() {
    let keys = Keys::new(true);
    let before = keys.resource("cursor-api-key");
    let mut runs =
        vec![keys.run(&["backup", "--dry-run"], 0), keys.run(&["backup"], 0), keys.run(&["show", "latest"], 0)];
    assert!(runs[0].stdout.contains("projects/demo-project/secrets/cursor-api-key"), "{}", runs[0].stdout);
    assert!(!runs[0].stdout.contains("secrets/other"), "{}", runs[0].stdout);
    assert!(runs[2].stdout.contains("2 versions, sealed"), "{}", runs[2].stdout);
    runs.push(keys.run(&["verify", "latest"], 0));

    // Nobody is handed secrets unasked, and nothing that is there is written over.
    runs.push(keys.run(&["restore", "latest"], 4));
    runs.push(keys.run(&["restore", "latest", "--source", "keys"], 4));
    assert!(runs.last().unwrap().stderr.contains("a restore never overwrites a secret unasked"));

    keys.call(Method::DELETE, "/cursor-api-key", json!(null));
    std::fs::remove_file(keys.directory.path().join(".env")).unwrap();
    runs.push(keys.run(&["restore", "latest", "--source", "keys", "--replace", "--dry-run"], 0));
    runs.push(keys.run(&["restore", "latest", "--source", "keys", "--replace"], 0));
    assert_eq!(keys.latest("cursor-api-key"), SECOND);
    let versions = keys.call(Method::GET, "/cursor-api-key/versions", json!(null));
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2, "the enabled ones: {versions}");
    assert_eq!(keys.resource("cursor-api-key"), before, "labels and rotation");
    assert_eq!(std::fs::read_to_string(keys.directory.path().join(".env")).unwrap(), ENVIRONMENT);

    // A newer version is there: the backup's is added after it. What is the same gets none.
    keys.call(Method::POST, "/plain-text:addVersion", json!({"payload": {"data": STANDARD.encode("wrong")}}));
    runs.push(keys.run(&["restore", "latest", "--source", "keys", "--replace"], 0));
    assert_eq!(keys.latest("plain-text"), "canary-plain");
    let versions = keys.call(Method::GET, "/plain-text/versions", json!(null));
    assert_eq!(versions["versions"].as_array().unwrap().len(), 3, "{versions}");
    let versions = keys.call(Method::GET, "/cursor-api-key/versions", json!(null));
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2, "{versions}");
    keys.nowhere_in_plain(&runs);
}

#[test]
fn secrets_that_would_lie_open_are_not_backed_up() {
    let keys = Keys::new(false);
    let refused = keys.run(&["backup", "--dry-run"], 4);
    assert!(refused.stderr.contains("source 'keys': holds secrets, and tier daily is not sealed"), "{refused:?}");
    assert_eq!(keys.run(&["backup"], 4).stderr, refused.stderr);
    assert!(!keys.directory.path().join("vault/daily").exists());
}

#[test]
fn a_stolen_key_is_replaced_and_refused() {
    let keys = Keys::new(true);
    let new = keys.directory.path().join("new-key");
    std::fs::write(&new, "sk-cursor-new").unwrap();
    let plan = keys.run(&["secret", "rotate", "cursor-api-key", "--dry-run"], 0);
    assert!(plan.stdout.contains("disable projects/demo-project/secrets/cursor-api-key/versions/3"), "{plan:?}");
    assert_eq!(keys.latest("cursor-api-key"), SECOND);

    let rotated = keys.run(&["secret", "rotate", "cursor-api-key", "--from", new.to_str().unwrap()], 0);
    assert!(rotated.stdout.contains("versions/4 is handed out"), "{rotated:?}");
    assert_eq!(keys.latest("cursor-api-key"), "sk-cursor-new");
    let versions = keys.call(Method::GET, "/cursor-api-key/versions", json!(null));
    let states: Vec<&str> =
        versions["versions"].as_array().unwrap().iter().map(|version| version["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["ENABLED", "DISABLED", "DISABLED", "DISABLED"]);
    assert!(!format!("{rotated:?}").contains("sk-cursor-new"));

    std::fs::write(&new, "").unwrap();
    let empty = keys.run(&["secret", "rotate", "cursor-api-key", "--from", new.to_str().unwrap()], 1);
    assert!(empty.stderr.contains("holds no key; hint:"), "{empty:?}");
    let missing = keys.run(&["secret", "rotate", "no-such-key", "--dry-run"], 1);
    assert!(missing.stderr.contains("no-such-key"), "{missing:?}");
}

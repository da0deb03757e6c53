//! Secrets are planted wherever the program may meet one, it is run with the most talkative log there is, and everything it
//! leaves is searched for them, plain and encoded: output, arguments of processes, vault, request log, exchanges.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::estate::{Estate, PROJECT};

/// A private key that opens nothing, without its armour (`openssl genpkey`, PKCS #8).
const KEY: &str = include_str!("canary_key.b64");

/// A secret and the forms that would give it away.
struct Canary {
    place: &'static str,
    forms: Vec<Vec<u8>>,
}

impl Canary {
    fn new(place: &'static str, secret: &str) -> Self {
        let bytes = secret.as_bytes();
        let mut forms = vec![bytes.to_vec(), secret.to_uppercase().into_bytes()];
        // Wherever it begins within what is encoded: the first and last digits depend on the neighbours.
        for before in 0..3 {
            let shifted = [&b"xxx"[..before], bytes].concat();
            let digits = STANDARD.encode(shifted).trim_end_matches('=').to_string();
            let inner = &digits[4..digits.len() - 4];
            forms.extend([inner.as_bytes().to_vec(), inner.replace('+', "-").replace('/', "_").into_bytes()]);
        }
        let each = |form: &dyn Fn(u8) -> String| bytes.iter().map(|byte| form(*byte)).collect::<String>().into_bytes();
        forms.push(each(&|byte| format!("{byte:02x}")));
        forms.push(each(&|byte| format!("{byte:02X}")));
        forms.push(each(&|byte| format!("%{byte:02X}")));
        forms.push(each(&|byte| format!("%{byte:02x}")));
        forms.push(each(&|byte| format!("\\u{byte:04x}")));
        forms.push(format!("{bytes:?}").trim_matches(['[', ']']).as_bytes().to_vec());
        Self { place, forms }
    }

    fn is_in(&self, text: &[u8]) -> bool {
        self.forms.iter().any(|form| memchr::memmem::find(text, form).is_some())
    }
}

/// What was searched, and what was found where it must not be.
struct Search {
    canaries: Vec<Canary>,
    places: BTreeMap<&'static str, usize>,
    bytes: usize,
    hits: BTreeSet<String>,
}

impl Search {
    fn look(&mut self, kind: &'static str, name: &str, text: &[u8]) {
        *self.places.entry(kind).or_default() += 1;
        self.bytes += text.len();
        for canary in self.canaries.iter().filter(|canary| canary.is_in(text)) {
            self.hits.insert(format!("{kind} {name}: {}", canary.place));
        }
        // A token that was made of the key is not known beforehand; all of them begin alike.
        for at in memchr::memmem::find_iter(text, b"eyJ") {
            let rest = &text[at..text.len().min(at + 60)];
            if rest.len() == 60 && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte)) {
                self.hits.insert(format!("{kind} {name}: a token, {}", String::from_utf8_lossy(rest)));
            }
        }
    }
}

/// Looks at the arguments of every process while the program runs.
struct Watch<'a> {
    over: &'a AtomicBool,
}

impl Watch<'_> {
    fn arguments(&self) -> BTreeSet<Vec<u8>> {
        let mut seen = BTreeSet::new();
        while !self.over.load(Ordering::Relaxed) {
            for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
                seen.extend(std::fs::read(process.path().join("cmdline")).ok().filter(|line| !line.is_empty()));
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        seen
    }
}

/// Ends the watch, also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn secret(place: &str) -> String {
    format!("cAnary{place}{:032x}", rand::random::<u128>())
}

#[test]
fn secrets_are_nowhere_to_be_found() {
    let traffic = tempfile::tempdir().unwrap();
    let exchanges = traffic.path().join("exchanges.jsonl");
    let mut estate = Estate::new(&["--seed", "ai-usage-analytics", "--traffic", exchanges.to_str().unwrap()]);
    let planted: BTreeMap<&'static str, String> = [
        "a comment of the configuration",
        "an unknown key of the configuration",
        "a value that is no text",
        "the endpoint's password",
        "a database's address in the environment",
        "a cloud's key in the environment",
        "a payload in Secret Manager",
        "the id of the service account's key",
        "a broken key's text",
        "a key in the place of its file's name",
        "a token in the place of the key's file",
    ]
    .into_iter()
    .enumerate()
    .map(|(n, place)| (place, secret(&n.to_string())))
    .collect();
    let key: String = KEY.split_whitespace().collect();
    let mut canaries: Vec<Canary> = planted.iter().map(|(place, secret)| Canary::new(place, secret)).collect();
    canaries.push(Canary::new("the service account's private key", &key[400..464]));
    canaries.push(Canary::new("the service account's private key's last line", &key[1500..1564]));
    let mut search = Search { canaries, places: BTreeMap::new(), bytes: 0, hits: BTreeSet::new() };

    // The secrets' places.
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| -> PathBuf {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let armour = |what: &str| format!("-----{what} PRIVATE {}-----\n", "KEY");
    let pem = format!("{}{}{}", armour("BEGIN"), KEY, armour("END"));
    let account = |id: &str, pem: &str| {
        json!({"type": "service_account", "project_id": PROJECT, "private_key_id": id, "private_key": pem,
            "client_email": "backup@demo-project.iam.gserviceaccount.com", "client_id": "1",
            "token_uri": "http://127.0.0.1:9/token"})
        .to_string()
    };
    let good = write("key.json", account(&planted["the id of the service account's key"], &pem));
    let broken_text = &planted["a broken key's text"];
    let broken = [
        write("no-json", format!("{{\"private_key\": \"{broken_text}")),
        write("no-account.json", json!({"private_key": broken_text}).to_string()),
        write("no-pem.json", account("id", &format!("{}{broken_text}\n{}", armour("BEGIN"), armour("END")))),
    ];
    let payload = STANDARD.encode(&planted["a payload in Secret Manager"]);
    for name in ["cursor-api-key", "anthropic-api-key"] {
        let path = format!("/v1/projects/{PROJECT}/secrets/{name}:addVersion");
        estate.post(&path, json!({"payload": {"data": payload}}));
    }
    let comment = planted["a comment of the configuration"].clone();
    estate.configure(|text| format!("# password = {comment}\n{text}"));

    let unknown = write("unknown.toml", {
        let text = std::fs::read_to_string(&estate.config).unwrap();
        let (key, no_text) = (&planted["an unknown key of the configuration"], &planted["a value that is no text"]);
        text.replace("[google]\n", &format!("[google]\npassword = \"{key}\"\nendpoints = [\"{no_text}\"]\n"))
            .replace("name = \"ai-usage-analytics\"\n", &format!("name = [\"{no_text}\"]\n"))
    });
    let unended = write("unended.toml", format!("name = \"{}", planted["a value that is no text"]));
    let endpoint = estate.sandbox.endpoint().to_string();
    let with_password = endpoint.replace("http://", &format!("http://user:{}@", planted["the endpoint's password"]));
    let address = format!("postgres://backup:{}@127.0.0.1/x", planted["a database's address in the environment"]);

    let over = AtomicBool::new(false);
    let (runs, arguments) = std::thread::scope(|scope| {
        let end = End(&over);
        let watch = Watch { over: &over };
        let watching = scope.spawn(move || watch.arguments());
        let mut runs: Vec<(String, i32, Vec<u8>, Vec<u8>)> = Vec::new();
        let mut run = |what: &str, expected: i32, args: &[&str], config: &Path, env: &[(&str, &str)]| {
            let mut command: Command = estate.command(args);
            command
                .env("STRONGROOM_CONFIG", config)
                .env("STRONGROOM_GOOGLE_CREDENTIALS", &good)
                .env("STRONGROOM_LOG", "trace")
                .env("RUST_LOG", "trace")
                .env("RUST_BACKTRACE", "full")
                .env("DATABASE_URL", &address)
                .env("AWS_SECRET_ACCESS_KEY", &planted["a cloud's key in the environment"])
                .envs(env.iter().copied());
            let done = command.output().expect("strongroom runs");
            let code = done.status.code().unwrap_or(-1);
            assert_eq!(
                code,
                expected,
                "{what}: {}",
                String::from_utf8_lossy(&done.stderr[done.stderr.len().saturating_sub(3000)..])
            );
            runs.push((what.into(), code, done.stdout, done.stderr));
        };
        let own = estate.config.clone();
        let none: &[(&str, &str)] = &[];
        run("backup", 0, &["backup"], &own, none);
        run("list", 0, &["--json", "list"], &own, none);
        run("verify", 0, &["verify"], &own, none);
        run("restore", 0, &["restore", "--into", "beside"], &own, none);
        run("drill", 0, &["drill", "--scenario", "key-compromise"], &own, none);
        run("report", 0, &["report", "--format", "html"], &own, none);
        run("status", 0, &["status"], &own, none);
        // Errors, provoked.
        run("unknown keys", 2, &["--config", unknown.to_str().unwrap(), "list"], &own, none);
        run("no end", 2, &["--config", unended.to_str().unwrap(), "list"], &own, none);
        run("a password in the endpoint", 2, &["list"], &own, &[("STRONGROOM_GOOGLE_ENDPOINT", &with_password)]);
        let no_url = with_password.replace("http://", "");
        run("an endpoint that is no URL", 2, &["list"], &own, &[("STRONGROOM_GOOGLE_ENDPOINT", &no_url)]);
        for (file, code) in broken.iter().zip([1, 1, 14]) {
            run("a broken key", code, &["list"], &own, &[("STRONGROOM_GOOGLE_CREDENTIALS", file.to_str().unwrap())]);
        }
        let inline = account(&planted["a key in the place of its file's name"], &pem);
        run("a key for its file", 2, &["list"], &own, &[("STRONGROOM_GOOGLE_CREDENTIALS", &inline)]);
        let token = format!("ya29.{}", planted["a token in the place of the key's file"]);
        run("a token for a file", 2, &["list"], &own, &[("STRONGROOM_GOOGLE_CREDENTIALS", &token)]);
        let nobody = json!({"principals": [], "deny_others": true});
        assert_eq!(estate.call(Method::PUT, "/_sandbox/permissions", Some(nobody)).0, 200);
        run("denied", 14, &["list"], &own, none);
        run("denied a backup", 14, &["backup"], &own, none);
        estate.delete("/_sandbox/permissions");
        let faults = json!([{"kind": "corrupt", "name": "secretmanager.*", "probability": 0.5, "seed": 1},
            {"status": 403, "reason": "forbidden", "name": "secretmanager.*.addVersion", "times": 0}]);
        assert_eq!(estate.call(Method::PUT, "/_sandbox/faults", Some(faults)).0, 200);
        let drill =
            estate.command(&["drill", "--scenario", "key-compromise"]).env("STRONGROOM_LOG", "trace").output().unwrap();
        runs.push(("a drill that is broken".into(), -1, drill.stdout, drill.stderr));
        estate.delete("/_sandbox/faults");
        drop(end);
        (runs, watching.join().unwrap())
    });

    let traces = runs.iter().filter(|(_, _, _, stderr)| stderr.windows(5).any(|word| word == b"TRACE")).count();
    assert!(traces > 8, "the log was at its most talkative in {traces} runs");
    for (what, _, stdout, stderr) in &runs {
        search.look("output", what, stdout);
        search.look("log and errors", what, stderr);
    }
    for line in &arguments {
        search.look("arguments of a process", &String::from_utf8_lossy(line), line);
    }
    let own = arguments.iter().filter(|line| memchr::memmem::find(line, b"--config").is_some()).count();
    assert!(own > 0, "the program's own arguments were seen");
    for bucket in ["daily", "weekly", "monthly"] {
        let bucket = format!("demo-project-backup-{bucket}");
        for object in estate.objects(&bucket) {
            let path: String = url::form_urlencoded::byte_serialize(object.as_bytes()).collect();
            let url = format!("{endpoint}/storage/v1/b/{bucket}/o/{}?alt=media", path.replace('+', "%20"));
            let bytes = estate.block_on(async { reqwest::get(url).await.unwrap().bytes().await.unwrap() });
            let kind = match object.as_str() {
                name if name.ends_with("manifest.json") => "manifest",
                name if name.contains("/journal/") || name.contains("/open/") || name.contains("/lease/") => "journal",
                name if name.contains("/drills/") => "report",
                _ => "object of the vault",
            };
            search.look(kind, &object, &bytes);
        }
    }
    search.look("request log", "in memory", Value::from(estate.requests(0)).to_string().as_bytes());
    search.look("request log", "on disk", &std::fs::read(estate.sandbox.data().join("requests.jsonl")).unwrap());
    search.look("exchanges", "on disk", &std::fs::read(&exchanges).unwrap());
    search.look("sandbox's own log", "on disk", &std::fs::read(estate.sandbox.data().join("stderr.log")).unwrap());

    // The search finds what is there.
    for (place, secret) in &planted {
        let hidden = format!("..{}..", STANDARD.encode(format!("ab{secret}c")));
        assert!(
            search.canaries.iter().any(|canary| canary.place == *place && canary.is_in(hidden.as_bytes())),
            "{place}"
        );
    }
    let places: Vec<String> = search.places.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    println!(
        "reliability: canaries: planted {}, runs {}, searched {} places with {} bytes ({}), hits {}",
        search.canaries.len(),
        runs.len(),
        search.places.values().sum::<usize>(),
        search.bytes,
        places.join(", "),
        search.hits.len()
    );
    for kind in ["manifest", "journal", "report", "object of the vault", "request log", "exchanges"] {
        assert!(search.places.contains_key(kind), "no {kind} was searched");
    }
    assert!(search.hits.is_empty(), "{:#?}", search.hits);
}

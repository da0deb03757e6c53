//! What is fuzzed: each entry takes any bytes and must come back, with a value or an error. `cargo fuzz` calls them
//! (`fuzz_targets/`), and so do the ordinary tests, over the corpus and mutations of it (`tests/suite/fuzz.rs`).

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use strongroom::catalog::Lease;
use strongroom::codec::{CodecError, avro, csv, fingerprint::TableFingerprint, ndjson, parquet, seal};
use strongroom::google::{Credentials, Google, RetryPolicy, Settings};
use strongroom::manifest::chronicle::{ChronicleEntry, History, Stored};
use strongroom::manifest::{self, Found, Statement, signed};
use strongroom::model::schema::{Field, FieldType, Mode, Schema};
use strongroom::model::{DatasetId, Encoding, Identity, Secret};
use strongroom::saga::{Clock, Log, Record};
use strongroom::store::{MemoryStore, Store};

/// An entry, by the name of its corpus.
pub type Entry = (&'static str, fn(&[u8]));

pub const ENTRIES: &[Entry] = &[
    ("manifest", manifest),
    ("config", config),
    ("avro", avro),
    ("parquet", parquet),
    ("csv", csv),
    ("ndjson", ndjson),
    ("records", records),
    ("sealed", sealed),
    ("http", http),
];

/// A manifest, and a statement of it; what is read is written and read again.
pub fn manifest(bytes: &[u8]) {
    let Ok(read) = manifest::read(bytes) else { return };
    let written = manifest::write(&read);
    assert_eq!(manifest::read(&written).expect("what was written is read"), read);
    let _ = (read.size_bytes(), read.row_count(), read.objects().count());
    let found = Found { system: "x", folder: "f", place: "p", manifest: &read, size_bytes: 1, sha256: "00" };
    let _ = manifest::judge(&found, Some(bytes), None);
}

/// A configuration: problems or not, they are printed.
pub fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(problems) = strongroom::config::parse(&text, &|name| (name.len() < 8).then(|| name.to_lowercase())) {
        assert!(!problems.is_empty() && !problems.to_string().is_empty());
    }
}

/// Every row, and its fingerprint: the way of `verify`.
fn drain(batches: impl Iterator<Item = Result<arrow::record_batch::RecordBatch, CodecError>>) {
    let mut fingerprint = TableFingerprint::new();
    for batch in batches {
        let Ok(batch) = batch else { return };
        if fingerprint.add(&batch).is_err() {
            return;
        }
    }
}

pub fn avro(bytes: &[u8]) {
    if let Ok(schema) = avro::infer_schema(bytes, &avro::Inference::default())
        && let Ok(reader) = avro::Reader::new(bytes, &schema)
    {
        drain(reader);
    }
    if let Ok(reader) = avro::Reader::new(bytes, &flat()) {
        drain(reader);
    }
}

pub fn parquet(bytes: &[u8]) {
    let file = Bytes::copy_from_slice(bytes);
    if let Ok(schema) = parquet::infer_schema(file.clone(), &parquet::Inference::default())
        && let Ok(reader) = parquet::Reader::new(file.clone(), &schema)
    {
        drain(reader);
    }
    let options = parquet::ReadOptions { ignore_unknown: true, ..parquet::ReadOptions::default() };
    if let Ok(reader) = parquet::Reader::with_options(file, &flat(), &options) {
        drain(reader);
    }
}

/// One column of every scalar type.
fn flat() -> Schema {
    let scalars = FieldType::ALL.iter().filter(|kind| !matches!(kind, FieldType::Struct | FieldType::Range));
    Schema::new(scalars.map(|kind| Field::new(kind.sql_name().to_lowercase(), *kind, Mode::Nullable)).collect())
}

pub fn csv(bytes: &[u8]) {
    for allow in [false, true] {
        let options = csv::ReadOptions {
            allow_jagged_rows: allow,
            allow_quoted_newlines: allow,
            ignore_unknown_values: allow,
            ..csv::ReadOptions::default()
        };
        if let Ok(reader) = csv::Reader::with_options(bytes, &flat(), options) {
            drain(reader);
        }
    }
}

pub fn ndjson(bytes: &[u8]) {
    let mut schema = flat();
    schema.fields.push(Field::record("record", Mode::Repeated, flat().fields));
    drain(ndjson::Reader::new(bytes, &schema));
}

/// Records of the vault: statements, the chronicle, the journal, the lease.
pub fn records(bytes: &[u8]) {
    let _ = signed::read::<Statement>(bytes, &BTreeSet::new());
    let _ = signed::read::<ChronicleEntry>(bytes, &BTreeSet::new());
    let stored = |sequence| Stored { sequence, place: "p".into(), bytes: bytes.to_vec(), sha256: "00".into() };
    let _ = History::of(&[stored(1), stored(2)], "x", &BTreeSet::new());
    let lines = bytes.split(|byte| *byte == b'\n');
    let _ = Log::replay(lines.filter_map(|line| serde_json::from_slice::<Record>(line).ok()));
    runtime().block_on(async {
        let store = MemoryStore::new();
        store.put("_strongroom/lease/x.json", Bytes::copy_from_slice(bytes)).await.expect("memory");
        if let Ok(mut lease) = Lease::acquire(&store, "x", ("fuzz", "run"), &Noon).await {
            lease.renew(&store, &Noon).await.expect("one's own lease");
        }
    });
}

/// An identity that has its own corpus: what the tests seal is sealed for it.
pub const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";

/// Sealed streams, compressed and not; what is opened is no more than what could have been sealed.
pub fn sealed(bytes: &[u8]) {
    static IDENTITIES: OnceLock<Vec<Identity>> = OnceLock::new();
    let identities = IDENTITIES.get_or_init(|| Identity::read_all(&Secret::new(IDENTITY)).expect("an identity"));
    for encodings in [&[Encoding::Age][..], &[Encoding::Zstd, Encoding::Age]] {
        for size in [None, Some(bytes.len() as u64)] {
            let Ok(mut reader) = seal::Reader::new(bytes, identities, encodings, size) else { continue };
            let mut buffer = [0; 4096];
            let mut given = 0;
            while let Ok(read) = reader.read(&mut buffer) {
                given += read;
                // Whoever reads stops at the size that was written; a bomb is nobody's.
                if read == 0 || given > 64 << 20 {
                    break;
                }
            }
            assert!(encodings.len() > 1 || given <= bytes.len(), "more came out than went in");
        }
    }
    let _ = Identity::read_all(&Secret::new(String::from_utf8_lossy(bytes)));
}

struct Noon;

impl Clock for Noon {
    fn now(&self) -> jiff::Timestamp {
        "2026-08-01T12:00:00Z".parse().expect("a time")
    }
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        // Google's generated types are large.
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_stack_size(32 << 20).enable_all().build().expect("a runtime")
    })
}

/// What the service answers next.
static ANSWER: Mutex<(u16, Vec<u8>)> = Mutex::new((200, Vec::new()));

/// Google's answers as the clients read them: the first byte picks a status, the rest is the body.
pub fn http(bytes: &[u8]) {
    let (first, body) = bytes.split_first().unwrap_or((&0, &[]));
    let status = [200, 200, 200, 200, 400, 403, 404, 409, 412, 429, 500, 503][usize::from(*first) % 12];
    *ANSWER.lock().expect("no panic") = (status, body.to_vec());
    let google = google();
    let dataset = DatasetId::new("project", "dataset").expect("a name");
    let table = dataset.table("table").expect("a name");
    runtime().block_on(async {
        let _ = google.bigquery.get_table(&table).await;
        let _ = google.bigquery.get_dataset(&dataset).await;
        let _ = google.bigquery.list_row_access_policies(&table).await;
        let _ = google.storage.get_bucket("bucket").await;
        let _ = google.sheets.get("sheet").await;
        let _ = google.sheets.read_values("sheet", "tab", strongroom::google::sheets::Render::Values).await;
        let _ = google.run.get_service("projects/p/locations/l/services/s").await;
        let _ = google.secrets.access("projects/p/secrets/s/versions/1").await;
        let _ = google.secrets.versions("projects/p/secrets/s").await;
        let key = "projects/p/locations/l/keyRings/r/cryptoKeys/k";
        let _ = google.kms.get(key).await;
        let _ = google.kms.encrypt(key, &Secret::new("text"), "context").await;
        let _ = google.kms.decrypt(key, "AAAA", "context").await;
        let _ = google.scheduler.get_job("projects/p/locations/l/jobs/j").await;
    });
}

/// Clients that talk to a server of this process, and ask once.
fn google() -> &'static Google {
    static GOOGLE: OnceLock<Google> = OnceLock::new();
    GOOGLE.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
        let moment = Duration::from_millis(1);
        let retry = RetryPolicy { max_attempts: 1, base_delay: moment, max_delay: moment, ..RetryPolicy::default() };
        let settings = Settings {
            endpoint: Some(endpoint),
            credentials: Credentials::Anonymous,
            retry,
            user_agent: "fuzz".into(),
        };
        runtime().block_on(Google::connect(settings)).expect("clients")
    })
}

fn serve(mut stream: std::net::TcpStream) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
    }
    let (status, body) = ANSWER.lock().expect("no panic").clone();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

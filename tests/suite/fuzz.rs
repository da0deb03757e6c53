//! The fuzzers' entries on an ordinary build: over the corpus, over mutations of it, and over the files that have broken other
//! programs. Each runs in a process of its own whose memory is bounded; none may panic, hang or take more.
//!
//!     STRONGROOM_FUZZ=1000000 cargo nextest run --all-targets --no-capture fuzz::
//!
//! gives each entry so many inputs; a failing one is told by entry, seed and number. With `STRONGROOM_FUZZ_SEEDS` set, the files
//! that the program itself writes are put into the corpus, for `cargo fuzz`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use strongroom::codec::{avro, ndjson, parquet, seal};
use strongroom::model::schema::{Field, FieldType, Mode, Schema};
use strongroom::model::{Encoding, Identity, Secret};

#[path = "../../fuzz/entries.rs"]
#[allow(dead_code)]
mod entries;

/// What the child may take in all, in KiB: code, stacks and buffers. A file of some kilobytes needs a small part of it.
const MEMORY_KIB: u64 = 3 << 20;
/// No input takes longer, also on a busy machine.
const LONGEST: Duration = Duration::from_secs(60);

fn corpus(entry: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(entry);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path()).collect();
    paths.sort();
    let mut seeds: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let made = made(entry);
    if std::env::var_os("STRONGROOM_FUZZ_SEEDS").is_some() {
        for (n, bytes) in made.iter().enumerate() {
            std::fs::write(directory.join(format!("written-{n}")), bytes).unwrap();
        }
    }
    seeds.extend(made);
    assert!(!seeds.is_empty(), "{}", directory.display());
    seeds
}

/// Files as the program itself writes them.
fn made(entry: &str) -> Vec<Vec<u8>> {
    let schema = Schema::new(vec![
        Field::required("int64", FieldType::Int64),
        Field::nullable("string", FieldType::String),
        Field::nullable("numeric", FieldType::Numeric),
        Field::nullable("timestamp", FieldType::Timestamp),
        Field::repeated("tags", FieldType::String),
        Field::record("record", Mode::Repeated, vec![Field::nullable("date", FieldType::Date)]),
    ]);
    let rows = concat!(
        r#"{"int64":1,"string":"aä","numeric":"1.25","timestamp":"2026-08-01T02:00:00Z","tags":["x","y"]}"#,
        "\n",
        r#"{"int64":-2,"record":[{"date":"2026-08-01"},{}]}"#,
        "\n"
    );
    let batches: Vec<_> = ndjson::Reader::new(rows.as_bytes(), &schema).map(Result::unwrap).collect();
    match entry {
        "avro" => [avro::Codec::Null, avro::Codec::Deflate, avro::Codec::Snappy]
            .map(|codec| {
                let mut writer = avro::Writer::new(Vec::new(), &schema, codec, true).unwrap();
                batches.iter().for_each(|batch| writer.write(batch).unwrap());
                writer.finish().unwrap()
            })
            .into(),
        "parquet" => [parquet::Compression::None, parquet::Compression::Snappy, parquet::Compression::Zstd]
            .map(|compression| {
                let mut file = Vec::new();
                let mut writer = parquet::Writer::new(&mut file, &schema, compression).unwrap();
                batches.iter().for_each(|batch| writer.write(batch).unwrap());
                writer.finish().unwrap();
                file
            })
            .into(),
        "sealed" => {
            let identity = &Identity::read_all(&Secret::new(entries::IDENTITY)).unwrap()[0];
            let recipients = [identity.recipient().clone()];
            let encodings = [&[Encoding::Age][..], &[Encoding::Zstd, Encoding::Age]];
            let sealed = |encodings: &[Encoding]| {
                [0, 300, 70_000].map(|size| {
                    seal::seal(&rows.as_bytes().repeat(size / 200), &recipients, encodings).unwrap().0.to_vec()
                })
            };
            encodings.into_iter().flat_map(sealed).collect()
        }
        _ => vec![],
    }
}

/// splitmix64: the same inputs everywhere.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// A few changes, of the kinds that break readers: bits, lengths, cuts, repeats, pieces of another seed.
fn mutated(seeds: &[Vec<u8>], random: &mut Seeded) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..1 + random.below(6) {
        let at = random.below(bytes.len());
        let length = 1 + random.below(16);
        let end = (at + length).min(bytes.len());
        match random.below(9) {
            _ if bytes.is_empty() => bytes.push(random.next() as u8),
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'9'][random.below(8)],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece.repeat(1 + random.below(8)));
            }
            5 => {
                let large =
                    [u64::MAX, 1 << 63, u64::from(u32::MAX), 1 << 31, 0x7fff_ffff][random.below(5)].to_le_bytes();
                let width = [4, 8][random.below(2)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&large[..width]);
            }
            6 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                let piece = other[from..(from + 4 * length).min(other.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            // The greatest number of Avro and of Thrift.
            7 => drop(bytes.splice(at..at, [0xff; 9].into_iter().chain([1]))),
            _ => bytes[at] = random.next() as u8,
        }
    }
    bytes.truncate(1 << 20);
    bytes
}

/// What runs now, and since when: told when it takes too long.
static NOW: Mutex<Option<(String, Instant)>> = Mutex::new(None);

fn watch() {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            if let Some((what, since)) = NOW.lock().unwrap().as_ref()
                && since.elapsed() > LONGEST
            {
                eprintln!("{what} takes more than {LONGEST:?}");
                std::process::abort();
            }
        }
    });
}

fn timed(what: impl Fn() -> String, entry: fn(&[u8]), bytes: &[u8]) -> Duration {
    let started = Instant::now();
    *NOW.lock().unwrap() = Some((what(), started));
    if std::panic::catch_unwind(|| entry(bytes)).is_err() {
        let path = std::env::temp_dir().join(format!("strongroom-fuzz-{}", what().replace([' ', '/'], "-")));
        std::fs::write(&path, bytes).ok();
        panic!("{} panicked; the input is in {}", what(), path.display());
    }
    *NOW.lock().unwrap() = None;
    started.elapsed()
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024
}

/// Runs `child` in a process of its own with bounded memory.
fn bounded(what: &str) {
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -v {MEMORY_KIB} && exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "fuzz::child", "--nocapture"])
        .env("STRONGROOM_FUZZ_CHILD", what)
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let told: Vec<&str> = out.lines().filter(|line| line.starts_with("reliability:")).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<&str> = errors.lines().rev().take(12).collect();
    assert!(output.status.success() && told.len() == 1, "{what}: {:?}\n{out}\n{tail:#?}", output.status);
    println!("{}", told[0]);
}

#[test]
fn files_that_broke_others_give_a_value_or_an_error() {
    if shared().is_none() {
        return;
    }
    bounded("files");
}

macro_rules! mutations {
    ($($entry:ident),*) => {
        mod mutations_of {
            $(#[test] fn $entry() { super::bounded(stringify!($entry)); })*
        }
    };
}

mutations!(manifest, config, avro, parquet, csv, ndjson, records, sealed, http);

/// Does nothing unless it was started by [`bounded`].
#[test]
fn child() {
    let Ok(what) = std::env::var("STRONGROOM_FUZZ_CHILD") else { return };
    watch();
    if what == "files" { files() } else { mutations(&what) }
}

fn mutations(name: &str) {
    let (_, entry) = entries::ENTRIES.iter().find(|(known, _)| *known == name).unwrap();
    // Each input of the last is ten requests.
    let usual = if name == "http" { 40 } else { 1_500 };
    let wanted = std::env::var("STRONGROOM_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let seeds = corpus(name);
    let mut slowest = Duration::ZERO;
    for (n, seed) in seeds.iter().enumerate() {
        slowest = slowest.max(timed(|| format!("{name} seed {n}"), *entry, seed));
    }
    for n in 0..wanted {
        let bytes = mutated(&seeds, &mut Seeded(n));
        slowest = slowest.max(timed(|| format!("{name} mutation {n}"), *entry, &bytes));
    }
    println!(
        "reliability: fuzzing {name}, seeds {}, mutations {wanted}, panics 0, slowest {} ms, peak {} MiB",
        seeds.len(),
        slowest.as_millis(),
        peak_mib()
    );
}

fn shared() -> Option<PathBuf> {
    let root = std::env::var_os("STRONGROOM_SHARED_DATA").map(PathBuf::from);
    let root = root.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"));
    if root.is_dir() {
        return Some(root);
    }
    eprintln!("skipped: ../shared/data is not there");
    None
}

/// Every file of the crash corpora, to every reader: what a file's name says does not bind an attacker.
fn files() {
    let Some(root) = shared() else { return };
    let mut open = ["apache-avro", "arrow-testing", "parquet-testing"].map(|name| root.join(name)).to_vec();
    let mut files = Vec::new();
    while let Some(at) = open.pop() {
        if at.is_dir() {
            open.extend(std::fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.push(at);
        }
    }
    files.sort();
    assert!(files.len() > 200, "{}", files.len());
    let (mut slowest, mut runs) = (Duration::ZERO, 0);
    for path in &files {
        let bytes = std::fs::read(path).unwrap();
        for (name, entry) in entries::ENTRIES.iter().filter(|(name, _)| *name != "http") {
            // Text formats of a megabyte of noise teach nothing that 64 KiB do not.
            let text = !matches!(*name, "avro" | "parquet");
            let bytes = if text { &bytes[..bytes.len().min(64 << 10)] } else { &bytes[..] };
            slowest = slowest.max(timed(|| format!("{name} on {}", path.display()), *entry, bytes));
            runs += 1;
        }
    }
    println!(
        "reliability: crash corpora, files {}, readings {runs}, panics 0, slowest {} ms, peak {} MiB",
        files.len(),
        slowest.as_millis(),
        peak_mib()
    );
}

//! How much memory a large file takes on its way through sealing and compression, and back: in a process of its own.
//!
//! `STRONGROOM_VAULT_GIB=4 cargo nextest run --locked --all-targets --no-capture contents::memory` is the long form.

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt;

use super::*;
use crate::job::staging::move_on;
use crate::manifest::{Manifest, SealingRecord};
use crate::model::Identity;
use crate::store::{LocalStore, UnsealedStore};

const MIB: u64 = 1 << 20;
const NAME: &str = "job::contents::memory::a_large_file_is_sealed_and_opened_in_little_memory";
/// The program's whole memory at its highest, threads and buffers with it.
const MOST: u64 = 128 * MIB;

fn size_bytes() -> u64 {
    let gib: u64 = std::env::var("STRONGROOM_VAULT_GIB").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    if gib == 0 { 192 * MIB } else { gib << 30 }
}

/// Half of it compresses, half does not; no two pieces are alike.
fn content(size_bytes: u64) -> ByteStream {
    const PIECE: u64 = 256 << 10;
    let piece = |n: u64| {
        let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut bytes = Vec::with_capacity(PIECE as usize);
        while bytes.len() < (PIECE / 2) as usize {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        let line = format!("{{\"piece\":{n},\"text\":\"as in every other line\"}}\n");
        bytes.extend(line.bytes().cycle().take((PIECE / 2) as usize));
        Ok(Bytes::from(bytes))
    };
    futures::stream::iter(0..size_bytes / PIECE).map(piece).boxed()
}

/// The highest resident size of this process so far, as Linux counts it.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn a_large_file_is_sealed_and_opened_in_little_memory() {
    if std::env::var_os("STRONGROOM_VAULT_CHILD").is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(there_and_back());
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env("STRONGROOM_VAULT_CHILD", "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{told}");
    let line = told.lines().find(|line| line.contains("vault:")).expect("the child ran the test");
    println!("{}", &line[line.find("vault:").unwrap()..]);
}

/// The pass of a backup and of a restore: a staged file is moved into the vault, sealed, and brought back.
async fn there_and_back() {
    let before = peak_bytes();
    let directory = tempfile::tempdir().unwrap();
    let open = |name: &str| LocalStore::open(directory.path().join(name).to_str().unwrap()).unwrap();
    let (staging, vault, back) = (open("staging"), Arc::new(open("vault")), open("back"));
    let size_bytes = size_bytes();
    let file = write(&staging, "part-0.json", content(size_bytes), None).await.unwrap();
    assert_eq!(file.digests.size_bytes, size_bytes);

    let identity = Identity::new(age::x25519::Identity::generate());
    let record = SealingRecord { recipients: vec![identity.recipient().clone()], kms: vec![] };
    let begun = Instant::now();
    let sealed = move_on(&staging, vault.as_ref(), &file, Some(&record)).await.unwrap();
    let sealing = begun.elapsed();
    assert_eq!((sealed.key.as_str(), sealed.digests), ("part-0.json.zst.age", file.digests));
    let stored = sealed.in_store().size_bytes;
    assert!(stored < size_bytes * 6 / 10, "{stored} of {size_bytes}");

    let begun = Instant::now();
    let opened = UnsealedStore::new(vault, &manifest(&sealed), vec![identity]);
    let restored = write(&back, "part-0.json", read(&opened, &sealed).await.unwrap(), None).await.unwrap();
    let opening = begun.elapsed();
    assert_eq!(restored.digests, file.digests);

    let peak = peak_bytes();
    let speed = |took: std::time::Duration| (size_bytes as f64 / MIB as f64 / took.as_secs_f64()).round();
    println!(
        "vault: {} MiB through zstd and age ({} MiB stored) and back: memory at most {} MiB ({} MiB before), sealed at {} MiB/s, \
         opened at {} MiB/s",
        size_bytes / MIB,
        stored / MIB,
        peak / MIB,
        before / MIB,
        speed(sealing),
        speed(opening)
    );
    assert!(peak < MOST, "{} MiB", peak / MIB);
}

fn manifest(object: &ObjectRecord) -> Manifest {
    let record = serde_json::json!({
        "format": 2, "name": "x_daily_backup_2026-08-01T02-00-00Z", "tier": "daily", "commit_id": "", "tool": "", "run": "",
        "generation": 1, "started_at": "2026-08-01T02:00:00Z", "cut_at": null, "committed_at": "2026-08-01T02:00:00Z",
        "sources": [{"kind": "bigquery", "name": "x", "dataset": "p-1.x", "location": "US", "meta": object, "tables": [],
            "views": [], "routines": []}],
        "validation": [], "pause": null, "timings": [], "previous": null, "notes": []
    });
    serde_json::from_value(record).unwrap()
}

//! A vault that somebody changes: every byte flipped, every length cut, objects swapped, removed, doubled, manifests put back;
//! and what an attacker would do who knows the program. The backup is a real one; it is verified in this process, from memory,
//! by the jobs of `strongroom verify --all`.
//!
//!     STRONGROOM_TAMPER=all cargo nextest run --all-targets every_change_of_a_backup_is_found --no-capture
//!
//! is the long form; the short one tries a part of the bytes and lengths of every object.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use strongroom::catalog::marks::{Book, Condemned, Pinned};
use strongroom::catalog::{Authority, Catalog, Chronicle};
use strongroom::job::retention::Deletion;
use strongroom::job::{Context, pin, retention, verify, witness};
use strongroom::manifest::DoubtKind;
use strongroom::manifest::chronicle::Head;
use strongroom::model::{BackupName, Place, SigningKey};
use strongroom::saga::Observer;
use strongroom::store::{MemoryStore, Store};

use crate::estate::{Estate, PROJECT};
use crate::warehouse;

const SPREADSHEET: &str = "tamper-sheet";

fn signer(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap().0
}

/// A small estate whose backups go to a bucket and to a directory, signed or not.
fn small(signed: bool) -> (Estate, std::path::PathBuf) {
    let mut estate = warehouse::empty(&[]);
    let sheet = json!({"spreadsheetId": SPREADSHEET, "properties": {"title": "keys"},
        "sheets": [{"properties": {"title": "mappings"}}]});
    let made = estate.post("/v4/spreadsheets", sheet);
    let id = made["spreadsheetId"].as_str().unwrap().to_string();
    let cells = json!({"values": [["key", "owner"], ["k-1", "ann"], ["k-2", "bob"]]});
    let (status, answer) = estate.call(
        reqwest::Method::PUT,
        &format!("/v4/spreadsheets/{id}/values/mappings!A1:B3?valueInputOption=RAW"),
        Some(cells),
    );
    assert_eq!(status, 200, "{answer}");
    let dataset = format!("{PROJECT}.{}", warehouse::WAREHOUSE);
    estate.query(&format!("CREATE TABLE `{dataset}.costs` AS SELECT n, n * 1.5 AS cost, IF(n = 2, NULL, 'x') AS note FROM UNNEST([1, 2, 3]) AS n"));
    estate.query(&format!("CREATE VIEW `{dataset}.total` AS SELECT SUM(cost) AS cost FROM `{dataset}.costs`"));
    let copy = estate.config.parent().unwrap().join("copy");
    let destinations = format!("[\"gs://vault-avro\", \"{}\"]", copy.display());
    let mut signing = String::new();
    if signed {
        let key = estate.config.parent().unwrap().join("signing.pem");
        std::fs::write(&key, SigningKey::from_seed(&[1; 32]).unwrap().1.expose()).unwrap();
        signing = format!("\n[signing]\nkey = \"signing.pem\"\ntrusted = [\"{}\"]\n", signer(1).public());
    }
    warehouse::configure(&mut estate, |text| {
        let text = text.replace("[\"gs://vault-avro\"]", &destinations);
        let sheet = format!("[[source]]\nname = \"keys\"\nkind = \"sheets\"\nspreadsheet = \"{id}\"\n\n[tiers.avro]");
        // Nothing but the last is kept by a rule.
        let text = text.replace("keep = \"30d\"", "keep = \"1s\"");
        text.replace("[tiers.avro]", &sheet) + &signing + "\n[retention]\ngrace = \"0s\"\n"
    });
    (estate, copy)
}

/// The objects of a vault by their keys.
type Objects = BTreeMap<String, Bytes>;

/// What lies in a directory, without journals and leases, which are no part of a backup.
fn objects_of(directory: &Path) -> Objects {
    let mut objects = Objects::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let key = path.strip_prefix(directory).unwrap().to_string_lossy().into_owned();
            if key.starts_with(".strongroom-aside") {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else {
                objects.insert(key, std::fs::read(path).unwrap().into());
            }
        }
    }
    objects
}

struct Quiet;

impl Observer for Quiet {}

/// A vault in memory: a tier with one place or two, the first of them also home.
struct Vault {
    places: Vec<Arc<MemoryStore>>,
    context: Context,
}

impl Vault {
    /// `template` is the context of the program on a real configuration: the rest of it is used as it is.
    async fn of(template: &Context, objects: &Objects, places: usize, key: Option<SigningKey>) -> Self {
        let places: Vec<Arc<MemoryStore>> = (0..places).map(|_| Arc::new(MemoryStore::new())).collect();
        for place in &places {
            for (key, bytes) in objects {
                place.put(key, bytes.clone()).await.unwrap();
            }
        }
        let stores = || places.iter().map(|place| place.clone() as Arc<dyn Store>).collect::<Vec<_>>();
        let authority = key.map(|key| Authority::new("warehouse", [key.public()].into(), Arc::new(key)));
        let chronicle = authority.as_ref().map(|authority| Arc::new(Chronicle::new(stores(), authority.clone())));
        let home: Arc<dyn Store> = places[0].clone();
        // What a place of the configuration means is decided by its order.
        let mut config = (*template.config).clone();
        config.tiers.retain(|name, _| name.as_str() == "avro");
        let tier = config.tiers.values_mut().next().unwrap();
        tier.destinations =
            (0..places.len()).map(|n| format!("/memory/{n}").parse::<Place>().unwrap().into()).collect();
        let opened = stores();
        let context = Context {
            catalog: Catalog::new([("avro".parse().unwrap(), stores())].into()).of_system("warehouse", authority),
            marks: Book::new(home.clone(), chronicle.clone()),
            chronicle,
            home,
            open: Arc::new(move |place| {
                let number: usize = place.to_string().rsplit('/').next().unwrap().parse().unwrap();
                Ok(opened[number].clone())
            }),
            config: Arc::new(config),
            observer: Arc::new(Quiet),
            ..template.clone()
        };
        Self { places, context }
    }

    async fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        self.places[0].put(key, bytes.into()).await.unwrap();
    }

    async fn delete(&self, key: &str) {
        self.places[0].delete(key).await.unwrap();
    }

    /// The kinds of what the catalog's check doubts.
    async fn doubts(&self) -> Vec<DoubtKind> {
        self.doubts_since(None).await
    }

    async fn doubts_since(&self, head: Option<&Head>) -> Vec<DoubtKind> {
        let check = witness::run(&self.context, head).await.unwrap();
        let mut kinds: Vec<DoubtKind> = check.doubts.iter().map(|doubt| doubt.kind).collect();
        kinds.dedup();
        kinds
    }

    async fn head(&self) -> Head {
        witness::run(&self.context, None).await.unwrap().head.unwrap()
    }

    async fn names(&self) -> Vec<BackupName> {
        let listing = self.context.catalog.list().await.unwrap();
        listing.entries.iter().map(|entry| entry.manifest.name.clone()).collect()
    }

    /// Runs retention twice, to condemn and to remove, and gives what it has removed.
    async fn retained(&self) -> Vec<BackupName> {
        let mut removed = Vec::new();
        for _ in 0..2 {
            removed.extend(retention::run(&self.context).await.unwrap().removed);
        }
        removed
    }

    /// Whether `verify --all` would say that something is wrong.
    async fn found(&self, in_bytes_first: bool) -> bool {
        for bytes in [in_bytes_first, !in_bytes_first] {
            let wrong = if bytes {
                let Ok(listing) = self.context.catalog.list().await else { return true };
                let mut wrong = false;
                for entry in &listing.entries {
                    wrong |= !verify::run(&self.context, entry, self.context.depth())
                        .await
                        .is_ok_and(|outcome| outcome.passed());
                }
                wrong
            } else {
                !witness::run(&self.context, None).await.is_ok_and(|check| check.passed())
            };
            if wrong {
                return true;
            }
        }
        false
    }
}

/// The program's context for a configuration, as the program itself makes it.
fn context(estate: &Estate) -> Context {
    let text = std::fs::read_to_string(&estate.config).unwrap();
    let environment = |name: &str| match name {
        "GOOGLE_CLOUD_PROJECT" => Some(PROJECT.to_string()),
        "STRONGROOM_GOOGLE_ENDPOINT" => Some(estate.sandbox.endpoint().to_string()),
        _ => None,
    };
    let config = strongroom::config::parse(&text, &environment).unwrap();
    estate.block_on(strongroom::app::connect(config, &estate.config, Arc::new(Quiet))).unwrap()
}

/// Backups taken by the program, and their objects as they lie in the copy.
fn taken(estate: &Estate, copy: &Path, backups: usize) -> Objects {
    for n in 0..backups {
        if n > 0 {
            std::thread::sleep(std::time::Duration::from_millis(1100));
        }
        estate.strongroom(&["backup", "--tier", "avro"]).ok();
    }
    objects_of(copy)
}

#[derive(Default, Debug)]
struct Tried {
    flipped: usize,
    cut: usize,
    swapped: usize,
    removed: usize,
    doubled: usize,
    put_back: usize,
}

#[test]
fn every_change_of_a_backup_is_found() {
    let all = std::env::var("STRONGROOM_TAMPER").is_ok_and(|text| text == "all");
    for signed in [true, false] {
        let (estate, copy) = small(signed);
        // Two, so that there is something to put back.
        let objects = taken(&estate, &copy, 2);
        let template = context(&estate);
        let key = || signed.then(|| signer(1));
        let newest = objects.keys().filter_map(|key| key.strip_suffix("/manifest.json")).max().unwrap().to_string();
        let of_backup: Vec<String> =
            objects.keys().filter(|key| key.starts_with(&newest) || key.contains("/chronicle/")).cloned().collect();
        let step = if all { 1 } else { 5 };
        let mut tried = Tried::default();
        estate.block_on(async {
            let vault = Vault::of(&template, &objects, 1, key()).await;
            assert!(!vault.found(false).await, "{:?}", witness::run(&vault.context, None).await);
            for key in &of_backup {
                let whole = &objects[key];
                let data = key.contains("/data/") || key.contains("/meta/");
                // Each object begins elsewhere, so that the short form does not always try the same columns.
                for at in (key.len() % step..whole.len()).step_by(step) {
                    let mut changed = whole.to_vec();
                    changed[at] ^= 1 << (at % 8);
                    vault.put(key, changed).await;
                    assert!(vault.found(data).await, "signed: {signed}, {key}: byte {at} flipped");
                    tried.flipped += 1;
                }
                for length in (key.len() % step..whole.len()).step_by(step) {
                    vault.put(key, whole.slice(..length)).await;
                    assert!(vault.found(data).await, "signed: {signed}, {key}: cut to {length}");
                    tried.cut += 1;
                }
                vault.delete(key).await;
                // Without a signature, a backup that is gone as a whole is one that never was.
                let expected = signed || !key.ends_with("manifest.json");
                assert_eq!(vault.found(data).await, expected, "signed: {signed}, {key} removed");
                tried.removed += usize::from(expected);
                vault.put(key, whole.clone()).await;
                if key.starts_with(&newest) {
                    let double = format!("{key}.copy");
                    vault.put(&double, whole.clone()).await;
                    assert!(vault.found(true).await, "signed: {signed}, {key} doubled");
                    vault.delete(&double).await;
                    tried.doubled += 1;
                }
            }
            for (n, a) in of_backup.iter().enumerate() {
                for b in &of_backup[n + 1..] {
                    vault.put(a, objects[b].clone()).await;
                    vault.put(b, objects[a].clone()).await;
                    assert!(vault.found(false).await, "signed: {signed}, {a} and {b} swapped");
                    vault.put(a, objects[a].clone()).await;
                    vault.put(b, objects[b].clone()).await;
                    tried.swapped += 1;
                }
            }
            // The older backup's manifest, alone and with its statement, in the newer one's place.
            let older = objects.keys().filter_map(|key| key.strip_suffix("/manifest.json")).min().unwrap();
            for names in [&["manifest.json"][..], &["statement.json"], &["manifest.json", "statement.json"]] {
                for name in names {
                    vault.put(&format!("{newest}/{name}"), objects[&format!("{older}/{name}")].clone()).await;
                }
                assert!(vault.found(false).await, "signed: {signed}, {names:?} put back");
                for name in names {
                    let key = format!("{newest}/{name}");
                    vault.put(&key, objects[&key].clone()).await;
                }
                tried.put_back += 1;
            }
            assert!(!vault.found(false).await, "all is as it was");
        });
        let bytes: usize = of_backup.iter().map(|key| objects[key].len()).sum();
        let Tried { flipped, cut, swapped, removed, doubled, put_back } = tried;
        let count = flipped + cut + swapped + removed + doubled + put_back;
        println!(
            "reliability: tampering, {} vault of {} objects and {bytes} bytes: tried {count} (flipped {flipped}, cut {cut}, swapped \
             {swapped}, removed {removed}, doubled {doubled}, put back {put_back}), found {count}",
            if signed { "signed" } else { "unsigned" },
            of_backup.len()
        );
        assert!(count > 100);
    }
}

#[test]
fn what_an_attacker_would_do_is_named_and_removes_nothing_good() {
    let (estate, copy) = small(true);
    let objects = taken(&estate, &copy, 3);
    let text = estate.strongroom(&["verify", "--catalog"]).ok().stdout;
    assert!(text.contains("all of it, and as it was signed") && text.contains("3 backups in 3 places"), "{text}");
    let template = context(&estate);
    estate.block_on(async {
        use DoubtKind::{Changed, Future, Removed, Replayed, RolledBack, Unsigned};
        let folders: Vec<String> =
            objects.keys().filter_map(|key| key.strip_suffix("/manifest.json")).map(String::from).collect();
        let name = |folder: &str| -> BackupName { folder.rsplit('/').next().unwrap().parse().unwrap() };
        let fresh = async || Vault::of(&template, &objects, 1, Some(signer(1))).await;
        let within = |folder: &str| -> Vec<(String, Bytes)> {
            objects.iter().filter(|(key, _)| key.starts_with(folder)).map(|(k, b)| (k.clone(), b.clone())).collect()
        };

        // Nothing wrong: retention does its work, and the catalog stays whole.
        let vault = fresh().await;
        assert_eq!(vault.doubts().await, []);
        let head = vault.head().await;
        assert_eq!(vault.retained().await.len(), 2, "the rules keep the last");
        assert_eq!(vault.doubts_since(Some(&head)).await, [], "removed by retention is no tampering");
        // A removed one is put back, with all that was ever true of it.
        for (key, bytes) in within(&folders[0]) {
            vault.put(&key, bytes).await;
        }
        assert_eq!(vault.doubts().await, [Replayed]);
        assert_eq!(vault.retained().await, [], "and it is not removed silently");
        // The whole vault of yesterday: only who has seen more can tell.
        let rolled_back = fresh().await;
        let later = vault.head().await;
        assert_eq!(rolled_back.doubts().await, []);
        assert_eq!(rolled_back.doubts_since(Some(&later)).await, [RolledBack]);

        // The newest is removed, with or without the chronicle's end.
        let vault = fresh().await;
        for (key, _) in within(&folders[2]) {
            vault.delete(&key).await;
        }
        assert_eq!(vault.doubts().await, [Removed]);
        assert_eq!(vault.retained().await, [], "nothing is removed while one is missed");
        let newest = name(&folders[2]);
        let given_up = retention::delete(&vault.context, &newest, Deletion { now: true, even_the_last: false }).await;
        assert_eq!(given_up.unwrap().removed_from, None);
        assert_eq!(vault.doubts().await, [], "a person has given it up");
        let vault = fresh().await;
        let last = objects.keys().filter(|key| key.contains("/chronicle/")).max().unwrap().clone();
        for (key, _) in within(&folders[2]) {
            vault.delete(&key).await;
        }
        vault.delete(&last).await;
        assert_eq!(vault.doubts().await, [], "one place, rolled back as a whole, by one step");
        assert_eq!(vault.doubts_since(Some(&head)).await, [RolledBack]);
        // In two places it takes both.
        let vault = Vault::of(&template, &objects, 2, Some(signer(1))).await;
        for (key, _) in within(&folders[2]) {
            vault.delete(&key).await;
        }
        vault.delete(&last).await;
        let mut kinds = vault.doubts().await;
        kinds.sort();
        assert_eq!(kinds, [RolledBack, Removed]);
        // The chronicle alone.
        let vault = fresh().await;
        let first_two: Vec<String> =
            objects.keys().filter(|key| key.contains("/chronicle/")).take(2).cloned().collect();
        vault.delete(&first_two[1]).await;
        assert!(vault.doubts().await.contains(&Removed), "a hole");
        assert_eq!(vault.retained().await, []);

        // A backup of one's own making.
        let vault = fresh().await;
        let manifest: Value = serde_json::from_slice(&objects[&format!("{}/manifest.json", folders[2])]).unwrap();
        let forged = |system: &str, at: &str| {
            let mut forged = manifest.clone();
            let name = format!("warehouse_avro_backup_{}", at.replace(':', "-"));
            (forged["system"], forged["name"]) = (json!(system), json!(name));
            (forged["started_at"], forged["commit_id"]) = (json!(at), json!("forged"));
            let folder = format!("avro/{}/{name}", at[..10].replace('-', ""));
            (folder, serde_json::to_vec_pretty(&forged).unwrap())
        };
        let (folder, bytes) = forged("warehouse", "2026-11-30T00:00:00Z");
        vault.put(&format!("{folder}/manifest.json"), bytes.clone()).await;
        assert!(vault.doubts().await.contains(&Unsigned));
        assert!(!vault.names().await.contains(&name(&folder)), "it is neither listed nor restored");
        assert_eq!(vault.retained().await, []);
        // Signed by a stranger.
        let stranger = Vault::of(&template, &Objects::new(), 1, Some(signer(2))).await;
        let parsed = strongroom::manifest::read(&bytes).unwrap();
        let statement = stranger.context.catalog.state(&folder, &parsed, None).await.unwrap();
        vault.put(&format!("{folder}/manifest.json"), strongroom::manifest::write(&parsed)).await;
        vault.put(&format!("{folder}/statement.json"), statement).await;
        assert!(vault.doubts().await.contains(&Changed));
        assert_eq!(vault.retained().await, []);
        // It goes when a person says so, by its name.
        retention::delete(&vault.context, &name(&folder), Deletion { now: true, even_the_last: true }).await.unwrap();
        assert_eq!(vault.doubts().await, []);
        assert_eq!(vault.names().await.len(), 3);
        // Another system's, soundly signed by the same key.
        let other = vault.context.catalog.clone().of_system("other", vault.context.catalog.authority().cloned());
        let (folder, bytes) = forged("other", "2026-11-01T00:00:00Z");
        let parsed = strongroom::manifest::read(&bytes).unwrap();
        let statement = other.state(&folder, &parsed, None).await.unwrap();
        vault.put(&format!("{folder}/manifest.json"), strongroom::manifest::write(&parsed)).await;
        vault.put(&format!("{folder}/statement.json"), statement).await;
        assert!(vault.doubts().await.contains(&Changed));

        // A clock that was wrong: signed, and of a year to come.
        let vault = fresh().await;
        let (folder, bytes) = forged("warehouse", "2099-01-01T00:00:00Z");
        let parsed = strongroom::manifest::read(&bytes).unwrap();
        let statement = vault.context.catalog.state(&folder, &parsed, None).await.unwrap();
        vault.put(&format!("{folder}/manifest.json"), strongroom::manifest::write(&parsed)).await;
        vault.put(&format!("{folder}/statement.json"), statement).await;
        assert!(vault.doubts().await.contains(&Future));
        let removed = vault.retained().await;
        assert!(!removed.contains(&name(&folders[2])) && !removed.contains(&name(&folder)), "{removed:?}");

        // Marks: a pin is taken away, a sentence is forged, a proof is forged.
        let vault = fresh().await;
        pin::pin(&vault.context, &name(&folders[0]), None, None, false).await.unwrap();
        assert_eq!(vault.doubts().await, []);
        let marks = |folder: &str, kind: &str| format!("_strongroom/marks/{}/{kind}.json", name(folder));
        vault.delete(&marks(&folders[0], "pinned")).await;
        let commit_id = vault.context.catalog.list().await.unwrap().entries[0].manifest.commit_id.clone();
        let sentence = Condemned {
            commit_id: commit_id.clone(),
            tier: "avro".parse().unwrap(),
            started_at: vault.context.now(),
            at: Timestamp::UNIX_EPOCH,
            by: "mallory".into(),
            by_hand: true,
        };
        vault.put(&marks(&folders[2], "condemned"), serde_json::to_vec(&sentence).unwrap()).await;
        assert_eq!(vault.doubts().await, [Changed, Removed]);
        let removed = vault.retained().await;
        assert_eq!(removed, [name(&folders[1])], "the pinned one stays, and so does the newest");
        let pinned: Option<Pinned> = vault.context.marks.of(&name(&folders[0]), "?").await.unwrap().pinned;
        assert_eq!(pinned, None, "a mark is of one commit");
    });
}

#[test]
fn an_unsigned_vault_is_signed_later_and_keys_are_changed() {
    let (mut estate, copy) = small(false);
    let objects = taken(&estate, &copy, 2);
    let run = estate.strongroom(&["verify", "--catalog"]).ok().stdout;
    assert!(run.contains("the catalog is not signed") && run.contains("without a contradiction"), "{run}");
    assert!(!objects.keys().any(|key| key.contains("/chronicle/")));

    // With a key: what was there is not believed until it is signed.
    let key = estate.config.parent().unwrap().join("new.pem");
    let made = estate.strongroom(&["key", "generate", key.to_str().unwrap()]).ok().stdout;
    assert_eq!(estate.strongroom(&["key", "generate", key.to_str().unwrap()]).code, 1, "never over another");
    let public = estate.strongroom(&["key", "show", key.to_str().unwrap()]).ok().stdout.trim().to_string();
    assert!(made.contains(&public) && public.starts_with("ed25519:"), "{made}");
    let before = std::fs::read_to_string(&estate.config).unwrap();
    let signing = format!("\n[signing]\nkey = \"new.pem\"\ntrusted = [\"{public}\"]\n");
    estate.configure(|_| format!("{before}{signing}"));
    let doubted = estate.strongroom(&["verify", "--catalog"]);
    assert_eq!(doubted.code, 20, "{doubted:?}");
    assert!(doubted.stdout.contains("strongroom sign"), "{doubted:?}");
    assert_eq!(estate.strongroom(&["restore", "latest", "--dry-run"]).code, 10, "nothing that is believed");
    let named = estate.json(&["backup", "--tier", "avro"])["name"].as_str().unwrap().to_string();
    assert_eq!(estate.strongroom(&["list"]).code, 20);
    let signed = estate.strongroom(&["sign", "--all"]).ok().stdout;
    assert_eq!(signed.lines().count(), 3, "{signed}");
    let head = estate.config.parent().unwrap().join("head.json");
    estate.strongroom(&["verify", "--all", "--head", head.to_str().unwrap()]).ok();
    assert!(head.exists());

    // A second key; then the first is trusted no longer.
    let second = estate.config.parent().unwrap().join("second.pem");
    estate.strongroom(&["key", "generate", second.to_str().unwrap()]).ok();
    let other = estate.strongroom(&["key", "show", second.to_str().unwrap()]).ok().stdout.trim().to_string();
    estate.configure(|_| format!("{before}\n[signing]\nkey = \"second.pem\"\ntrusted = [\"{public}\", \"{other}\"]\n"));
    estate.strongroom(&["sign", "--all"]).ok();
    estate.strongroom(&["pin", &named]).ok();
    estate.configure(|_| format!("{before}\n[signing]\nkey = \"second.pem\"\ntrusted = [\"{other}\"]\n"));
    estate.strongroom(&["verify", "--all", "--head", head.to_str().unwrap()]).ok();
    // Who only reads needs no key, and cannot write.
    estate.configure(|_| format!("{before}\n[signing]\ntrusted = [\"{other}\"]\n"));
    estate.strongroom(&["verify", "--catalog"]).ok();
    let refused = estate.strongroom(&["backup", "--tier", "avro"]);
    assert!(refused.code != 0 && refused.stderr.contains("signing.key"), "{refused:?}");
    // The first key alone is a stranger's now.
    estate.configure(|_| format!("{before}{signing}"));
    assert_eq!(estate.strongroom(&["verify", "--catalog"]).code, 15);
}

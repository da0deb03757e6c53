//! The crash harness: every call with an effect is a numbered kill point. The program is killed, as by SIGKILL, before and
//! after each, and run again; an outsider looks at what is there in between.
//!
//! The short form kills at a seeded sample of the points, in one estate; `STRONGROOM_KILLS=all cargo nextest run --all-targets
//! kill::` at all of them, `STRONGROOM_KILLS=N` at N of every scenario, each in an estate of its own. `STRONGROOM_SEED` chooses
//! another sample, `STRONGROOM_KILL_ONLY` one scenario by its name.

mod gate;
mod world;

use std::time::{Duration, Instant};

use serde_json::json;

use crate::estate::{DATASET, PROJECT, SHEET};
use gate::Point;
use world::{Ended, Stop, Vault, World};

/// What is killed, and what must be true when it is run again.
struct Scenario {
    name: &'static str,
    args: &'static [&'static str],
    /// Makes the world as it is before the run.
    prepare: fn(&World),
    /// Backups that the run may remove.
    may_go: fn(&World, &str) -> bool,
    /// Runs it again, and looks at the outcome.
    again: fn(&World, &str),
}

fn nothing(_: &World) {}

fn none_may_go(_: &World, _: &str) -> bool {
    false
}

const BACKUP: Scenario =
    Scenario { name: "backup", args: &["backup"], prepare: thin_out, may_go: none_may_go, again: backed_up };

const RESTORE: Scenario = Scenario {
    name: "restore",
    args: &["restore", "latest"],
    prepare: World::lose_everything,
    may_go: none_may_go,
    again: restored,
};

const REPLACE: Scenario = Scenario {
    name: "restore --replace",
    args: &["restore", "latest", "--replace"],
    prepare: change_data,
    may_go: none_may_go,
    again: replaced,
};

const RETENTION: Scenario = Scenario {
    name: "retention",
    args: &["retention"],
    prepare: make_old_backups,
    may_go: all_but_two_may_go,
    again: retained,
};

const DRILL: Scenario =
    Scenario { name: "drill", args: &["drill"], prepare: nothing, may_go: none_may_go, again: drilled };

const DRILL_TABLE: Scenario = Scenario {
    name: "drill of a corrupted table",
    args: &["drill", "--scenario", "corrupted-rows"],
    prepare: nothing,
    may_go: none_may_go,
    again: drilled,
};

const DRILL_KEY: Scenario = Scenario {
    name: "drill of a stolen key",
    args: &["drill", "--scenario", "key-compromise"],
    prepare: nothing,
    may_go: none_may_go,
    again: drilled,
};

/// Many backups make every list slow: from time to time all but two are removed.
fn thin_out(world: &World) {
    if world.names().len() > 8 {
        world.ok(&["retention"]);
        world.pass(Duration::from_secs(1));
        world.ok(&["retention"]);
        world.note_committed();
    }
}

fn backed_up(world: &World, about: &str) {
    let before = world.names();
    let run = world.run(BACKUP.args);
    assert_eq!(run.code, 0, "{about}: the second run: {run:?}");
    assert_eq!(world.names().difference(&before).count(), 1, "{about}: the second run's backup");
}

fn restored(world: &World, about: &str) {
    let run = world.run(RESTORE.args);
    // It may have come to its end before it was killed: then it stands in its own way.
    assert!(run.code == 0 || (run.code == 4 && world.is_whole()), "{about}: the second run: {run:?}");
    assert!(world.is_whole(), "{about}: what was lost is not there: {run:?}");
}

fn change_data(world: &World) {
    world.estate.query(&format!("DELETE FROM `{PROJECT}.{DATASET}.dim_model_price` WHERE TRUE"));
    world.estate.query(&format!("CREATE OR REPLACE VIEW `{PROJECT}.{DATASET}.v_kill` AS SELECT 1 AS n"));
    let values = json!({"range": "mappings!A2", "majorDimension": "ROWS", "values": [["changed"]]});
    let path = format!("/v4/spreadsheets/{SHEET}/values/mappings!A2?valueInputOption=RAW");
    let (status, answer) = world.estate.call(reqwest::Method::PUT, &path, Some(values));
    assert_eq!(status, 200, "{answer}");
}

fn replaced(world: &World, about: &str) {
    let there = world.estate.contents(DATASET);
    for (table, rows) in &world.data {
        let found = there.get(table).unwrap_or_else(|| panic!("{about}: {table} is gone, it was only to be replaced"));
        let changed = match table.as_str() {
            "dim_model_price" => found.is_empty(),
            "v_kill" => found.len() == 1,
            _ => false,
        };
        assert!(found == rows || changed, "{about}: {table} is neither what it was nor what it is to be");
    }
    let run = world.run(REPLACE.args);
    assert_eq!(run.code, 0, "{about}: the second run: {run:?}");
    assert!(world.is_whole(), "{about}: {run:?}");
}

/// One backup is due to be removed, and one to be condemned.
fn make_old_backups(world: &World) {
    if world.names().len() > 2 {
        // What is due must be as much every time, or points are missed.
        for _ in 0..2 {
            world.ok(&["retention"]);
            world.pass(Duration::from_secs(2));
        }
    }
    for _ in 0..2 {
        world.pass(Duration::from_secs(2));
        world.ok(&["backup"]);
    }
    world.ok(&["retention"]);
    world.pass(Duration::from_secs(2));
    world.ok(&["backup"]);
    world.note_committed();
}

/// All but the newest two.
fn all_but_two_may_go(world: &World, name: &str) -> bool {
    let names = world.names();
    !names.iter().rev().take(2).any(|kept| kept == name)
}

fn retained(world: &World, about: &str) {
    let before = world.names();
    for _ in 0..3 {
        let run = world.run(RETENTION.args);
        assert_eq!(run.code, 0, "{about}: the second run: {run:?}");
        world.pass(Duration::from_secs(2));
    }
    let kept: Vec<&String> = before.iter().rev().take(2).collect();
    assert_eq!(world.names().iter().rev().collect::<Vec<_>>(), kept, "{about}: what is kept");
}

fn drilled(world: &World, about: &str) {
    let scenario = about.split(" (").next().unwrap_or_default();
    let args =
        [&DRILL, &DRILL_TABLE, &DRILL_KEY].into_iter().find(|s| s.name == scenario).map_or(DRILL.args, |s| s.args);
    let run = world.run(args);
    assert_eq!(run.code, 0, "{about}: the second run: {run:?}");
    assert!(world.is_whole(), "{about}: a drill leaves what is real alone");
}

const SCENARIOS: [&Scenario; 7] = [&BACKUP, &RESTORE, &REPLACE, &RETENTION, &DRILL, &DRILL_TABLE, &DRILL_KEY];

/// Figures of a harness' run.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    points: u64,
    kills: u64,
    /// Runs that came to their end before the point: an earlier run went another way.
    not_reached: u64,
}

/// Which points, before and after: all of them, or a seeded sample.
fn chosen(points: usize, seed: u64, short: usize) -> Vec<Point> {
    let all = (1..=points as u64).flat_map(|number| [false, true].map(|after| Point { number, after }));
    let all: Vec<Point> = all.collect();
    let wanted = match std::env::var("STRONGROOM_KILLS").ok().as_deref() {
        Some("all") => return all,
        Some(number) => number.parse().unwrap_or(short),
        None => short,
    };
    if all.is_empty() {
        return all;
    }
    // One of each part of the run, so that no part is always passed over.
    let wanted = wanted.clamp(1, all.len());
    let part = all.len() / wanted;
    let mut state = seed;
    let mut dice = |sides: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or(0) % sides.max(1)
    };
    (0..wanted).map(|n| all[n * part + dice(part)]).collect()
}

/// Kills one verb everywhere.
fn kill_everywhere(world: &World, scenario: &Scenario) -> Figures {
    let (vault, begin) = (world.vault, Instant::now());
    let mut figures = Figures::default();
    world.pass_lease();
    (scenario.prepare)(world);
    let (run, google, files) = world.count(scenario.args);
    assert_eq!(run.code, 0, "{}: {run:?}", scenario.name);
    world.note_committed();
    let seed = std::env::var("STRONGROOM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let named = |names: &[String], point: &Point| names[usize::try_from(point.number - 1).unwrap_or(0)].clone();
    let google_stops = chosen(google.len(), seed, if vault == Vault::Gcs { 2 } else { 1 });
    let mut stops: Vec<(Stop, String)> =
        google_stops.iter().map(|point| (Stop::Google(*point), named(&google, point))).collect();
    figures.points = (google.len() + files.len()) as u64;
    if vault == Vault::Local {
        assert!(files.len() > 20, "a local vault's effects are counted: {files:?}");
        stops.extend(chosen(files.len(), seed, 2).iter().map(|point| (Stop::Files(*point), named(&files, point))));
    }

    let mut failed = Vec::new();
    for (stop, at) in &stops {
        let about = format!("{} ({vault:?}, {stop:?}, '{at}')", scenario.name);
        world.told(&about);
        let once = std::panic::AssertUnwindSafe(|| kill_once(world, scenario, *stop, &about));
        match std::panic::catch_unwind(once) {
            Ok(true) => figures.kills += 1,
            Ok(false) => figures.not_reached += 1,
            Err(panic) => {
                let message = panic.downcast_ref::<String>().cloned();
                failed.push(message.unwrap_or_else(|| format!("{about}: panicked")));
                if failed.len() > 2 {
                    break;
                }
                world.note_committed();
            }
        }
    }
    assert!(failed.is_empty(), "{} of {} kills went wrong:\n{}", failed.len(), stops.len(), failed.join("\n"));
    tell(&format!("kills of {} (vault {})", scenario.name, vault.name()), figures, begin.elapsed());
    assert!(figures.not_reached <= 1 + stops.len() as u64 / 10, "nearly every point is reached: {figures:?}");
    figures
}

fn tell(what: &str, figures: Figures, took: Duration) {
    let Figures { points, kills, not_reached } = figures;
    println!(
        "reliability: {what}: kill points {points}, kills {kills}, ended before the point {not_reached}, partial backups listed 0, \
         committed backups lost or changed 0, ingestion not resumed 0, second runs that failed 0, garbage left 0, {:.0} s",
        took.as_secs_f64()
    );
}

fn kill_all(vault: Vault) {
    let begin = Instant::now();
    let only = std::env::var("STRONGROOM_KILL_ONLY").ok();
    let long = std::env::var_os("STRONGROOM_KILLS").is_some();
    // The short form leaves out what differs least from the others.
    let short = |scenario: &&Scenario| match vault {
        Vault::Gcs => scenario.name != DRILL_TABLE.name,
        Vault::Local => [BACKUP.name, RETENTION.name, DRILL.name].contains(&scenario.name),
    };
    let wanted = SCENARIOS.into_iter().filter(|scenario| match &only {
        Some(only) => only == scenario.name,
        None => long || short(scenario),
    });
    let mut shared = None;
    let mut all = Figures::default();
    for scenario in wanted {
        if long {
            shared = None; // the last one's sandbox ends first
        }
        let figures = kill_everywhere(shared.get_or_insert_with(|| World::new(vault)), scenario);
        all.points += figures.points;
        all.kills += figures.kills;
        all.not_reached += figures.not_reached;
    }
    tell(&format!("all kills (vault {})", vault.name()), all, begin.elapsed());
}

#[test]
fn what_is_killed_with_its_vault_in_buckets_is_recovered() {
    kill_all(Vault::Gcs);
}

#[test]
fn what_is_killed_with_its_vault_in_directories_is_recovered() {
    kill_all(Vault::Local);
}

/// Kills one run, and looks at all that must hold. Whether it was killed before it came to its end.
fn kill_once(world: &World, scenario: &Scenario, stop: Stop, about: &str) -> bool {
    world.pass_lease();
    (scenario.prepare)(world);
    let may_go = |name: &str| (scenario.may_go)(world, name);
    let killed = match world.run_until(scenario.args, stop) {
        Ended::Killed => true,
        Ended::Finished(run) => {
            assert_eq!(run.code, 0, "{about}: {run:?}");
            false
        }
    };
    world.check_vault(&format!("{about}, killed"), &may_go);
    world.pass_lease();
    let recovered = world.run(&["--json", "recover"]);
    assert_eq!(recovered.code, 0, "{about}: {recovered:?}");
    world.check_ingestion(about);
    world.check_vault(&format!("{about}, recovered"), &may_go);
    (scenario.again)(world, about);
    world.check_ingestion(about);
    world.check_vault(&format!("{about}, run again"), &may_go);
    world.pass_grace();
    let recovered = world.run(&["recover"]);
    assert_eq!(recovered.code, 0, "{about}: {recovered:?}");
    world.check_garbage(about);
    world.note_committed();
    killed
}

//! The environment's well-known variables, over a file and alone: what they configure works, and no secret of theirs is seen.

use serde_json::{Value, json};

use crate::clouds;
use crate::usage_meter::{Place, records};

/// Paths and origins of what `config show` tells.
fn shown(place: &Place) -> Vec<(String, String, String)> {
    let data = place.json(&["config", "show"]);
    let text = |setting: &Value, key: &str| setting[key].as_str().unwrap_or_default().to_string();
    let settings = data["settings"].as_array().unwrap().iter();
    settings.map(|setting| (text(setting, "path"), text(setting, "value"), text(setting, "origin"))).collect()
}

fn has(place: &Place, path: &str, value: &str, origin: &str) {
    let shown = shown(place);
    let expected = (path.to_string(), value.to_string(), origin.to_string());
    assert!(shown.contains(&expected), "{expected:?} in {shown:#?}");
}

#[test]
fn an_s3_bucket_out_of_the_environment_holds_a_backup_that_comes_back() {
    let Some(server) = clouds::s3() else { return };
    let mut place = Place::new();
    records(&place.path("usage.db"));
    place.run(&["init", "--profile", "usage-meter"]).ok();
    for (name, value) in [
        ("ENABLE_USAGE_TRACKING", "true"),
        ("DATABASE_URL", "sqlite:usage.db"),
        ("BACKUP_PROVIDER", "s3"),
        ("BACKUP_DESTINATION", "vault/database"),
        ("BACKUP_ACCESS_KEY", "AKIAIOSFODNN7EXAMPLE"),
        ("BACKUP_SECRET_KEY", "cAnary-of-the-secret-key"),
        ("BACKUP_REGION", "us-east-1"),
        ("BACKUP_ENDPOINT", &server.endpoint),
        ("BACKUP_RETENTION_DAYS", "14"),
        ("BACKUP_PARALLEL_JOBS", "2"),
        ("BACKUP_DEBUG", "true"),
    ] {
        place.set(name, value);
    }
    has(&place, "tiers.daily.destinations[0]", "\"s3://vault/database\"", "environment BACKUP_DESTINATION");
    has(&place, "tiers.daily.keep", "\"14d\"", "environment BACKUP_RETENTION_DAYS");
    has(&place, "tiers.weekly.keep", "\"1y\"", "file");
    has(&place, "retention.grace", "\"7d\"", "default");
    let flag = place.json(&["config", "show", "--set", "parallel=3"]);
    let parallel = flag["settings"].as_array().unwrap().iter().find(|setting| setting["path"] == "parallel").unwrap();
    assert_eq!(parallel, &json!({"path": "parallel", "value": "3", "origin": "flag --set"}));
    let checked = place.run(&["config", "check"]).ok();
    let probes =
        ["list: can be listed", "write: an object", "read: it can", "delete: it can", "source usage: can be read"];
    assert!(probes.iter().all(|probe| checked.stdout.contains(probe)), "{checked:?}");

    let mut said = vec![checked];
    for args in [
        &["backup"][..],
        &["list"],
        &["verify"],
        &["restore", "latest", "--to", "usage_back"],
        &["config", "show"],
        &["status"],
    ] {
        said.push(place.run(args));
    }
    assert!(said.iter().take(5).all(|run| run.code == 0), "{said:#?}");
    assert!(!format!("{said:?}").contains("cAnary"), "{said:#?}");
    let back = rusqlite::Connection::open(place.path("usage.db")).unwrap();
    let count: i64 = back.query_row("SELECT count(*) FROM usage_back", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1247);

    // A bucket that is not there, and a directory that cannot be made, are both told at once.
    place.set("BACKUP_DESTINATION", "no-such-bucket/database");
    let failed = place.run(&["config", "check", "--set", "tiers.weekly.destinations=[\"/proc/nowhere\"]"]);
    assert_ne!(failed.code, 0, "{failed:?}");
    assert!(
        failed.stdout.contains("s3://no-such-bucket/database") && failed.stdout.contains("/proc/nowhere"),
        "{failed:?}"
    );
    assert!(failed.stdout.matches("FAILED").count() >= 2, "{failed:?}");
}

/// No file of a configuration anywhere: the variables of the documents are enough.
#[test]
fn the_environment_alone_is_enough() {
    let mut place = Place::new();
    records(&place.path("app.db"));
    place.set("DATABASE_URL", "sqlite:app.db");
    place.set("BACKUP_DIR", "./backups");
    place.set("BACKUP_RETENTION_DAYS", "30");
    let count = |place: &Place, file: &str| -> i64 {
        let connection = rusqlite::Connection::open(place.path(file)).expect("a database");
        connection.query_row("SELECT count(*) FROM usage_records", [], |row| row.get(0)).expect("a number")
    };
    let before = count(&place, "app.db");
    for args in [&["config", "check"][..], &["backup", "--dry-run"], &["backup"], &["verify"], &["list"], &["stats"]] {
        place.run(args).ok();
    }
    std::fs::remove_file(place.path("app.db")).expect("a loss");
    place.run(&["restore", "latest"]).ok();
    assert_eq!(count(&place, "app.db"), before);
    for args in [&["cleanup"][..], &["status"], &["schedule", "next"]] {
        place.run(args).ok();
    }
    assert!(place.path("backups/daily").is_dir() && !place.path("strongroom.toml").exists());

    // The same for a server's database, in a directory by the other name for it.
    let Some(server) = crate::postgres::Server::start() else { return };
    server.sql("postgres", "CREATE DATABASE app");
    server.sql("app", "CREATE TABLE t AS SELECT generate_series(1, 250) AS i");
    let mut place = Place::new();
    place.set("DATABASE_URL", &server.url("app"));
    place.set("BACKUP_PROVIDER", "local");
    place.set("BACKUP_DESTINATION", &place.path("vault").display().to_string());
    place.run(&["backup"]).ok();
    place.run(&["restore", "latest", "--target-db", "app_test"]).ok();
    assert_eq!(server.sql("app_test", "SELECT count(*) FROM t"), "250");
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let mut place = Place::new();
    let nothing = place.run(&["config", "check"]);
    assert_eq!(nothing.code, 2, "{nothing:?}");
    assert!(nothing.stderr.contains("DATABASE_URL") && nothing.stderr.contains("strongroom init"), "{nothing:?}");
    place.set("DATABASE_URL", "mysql://root:cAnary@db/app");
    place.set("BACKUP_PROVIDER", "ftp");
    place.set("BACKUP_RETENTION_DAYS", "-1");
    let wrong = place.run(&["config", "check"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
    for said in ["DATABASE_URL is no database's address", "BACKUP_PROVIDER 'ftp'", "BACKUP_RETENTION_DAYS: must be"] {
        assert!(wrong.stdout.contains(said), "{said}: {wrong:?}");
    }
    assert!(!format!("{wrong:?}").contains("cAnary"), "{wrong:?}");

    // A wrong key keeps a place that cannot be reached from being found as little.
    std::fs::write(place.path("strongroom.toml"), "parallel = 0\nname = \"x\"\n[[source]]\nname = \"u\"\nkind = \"usage\"\nurl = \"env:NO_URL\"\ntable = \"t\"\ncolumns = [\"c\"]\n[tiers.daily]\nkeep = \"1d\"\nkepp = 2\ndestinations = [\"/proc/nowhere\"]\n").unwrap();
    place.environment.clear();
    let wrong = place.run(&["config", "check"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
    for said in ["parallel: must be", "tiers.daily.kepp: is no known key", "/proc/nowhere"] {
        assert!(wrong.stdout.contains(said), "{said}: {wrong:?}");
    }
}

#[test]
fn init_never_overwrites_and_shells_and_man_know_every_verb() {
    let place = Place::new();
    let told = place.run(&["init"]);
    assert_eq!(told.code, 2, "{told:?}");
    assert!(told.stderr.contains("usage-meter"), "{told:?}");
    place.run(&["init", "--profile", "usage-meter"]).ok();
    let written = std::fs::read_to_string(place.path("strongroom.toml")).unwrap();
    assert_eq!(written, include_str!("../../examples/usage-meter.toml"));
    std::fs::write(place.path("strongroom.toml"), "mine").unwrap();
    let refused = place.run(&["init", "--profile", "ai-usage-analytics"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert_eq!(std::fs::read_to_string(place.path("strongroom.toml")).unwrap(), "mine");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(&["completions", shell]).ok().stdout;
        assert!(script.contains("panic-off") && script.contains("restore"), "{shell}");
    }
    place.run(&["man", "pages"]).ok();
    for page in ["strongroom.1", "strongroom-backup.1", "strongroom-usage-panic-off.1"] {
        assert!(place.path("pages").join(page).is_file(), "{page}");
    }
}

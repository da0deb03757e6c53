//! Schedules followed by the program itself: a backup when it is due, one for all that were missed, one for two processes.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::Method;
use serde_json::json;

use crate::estate::{Estate, PROJECT};

struct Scheduled {
    estate: Estate,
    directory: tempfile::TempDir,
}

/// A process that follows the schedules; killed with the test.
struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Scheduled {
    /// One secret, sealed into a directory, daily at two.
    fn new() -> Self {
        let mut estate = Estate::new(&[]);
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let made = estate.json(&["key", "generate", "--sealing", &path("identity")]);
        let text = format!(
            "name = \"keys\"\n[sealing]\nrecipients = [{}]\n\
             [google]\nproject = \"{PROJECT}\"\nendpoint = \"${{STRONGROOM_GOOGLE_ENDPOINT}}\"\ncredentials = \"anonymous\"\n\
             [[source]]\nname = \"keys\"\nkind = \"secrets\"\n\
             [tiers.daily]\nkeep = \"30d\"\nschedule = \"0 2 * * *\"\ndestinations = [\"{}\"]\n\
             [tiers.weekly]\nkeep = \"84d\"\nschedule = \"0 3 * * 0\"\ndestinations = [\"{}\"]\n",
            made["public"],
            path("vault"),
            path("vault")
        );
        estate.configure(|_| text);
        let secrets = format!("/v1/projects/{PROJECT}/secrets");
        estate.post(&format!("{secrets}?secretId=key"), json!({"replication": {"automatic": {}}}));
        let (status, answer) =
            estate.call(Method::POST, &format!("{secrets}/key:addVersion"), Some(json!({"payload": {"data": "a2V5"}})));
        assert_eq!(status, 200, "{answer}");
        Self { estate, directory }
    }

    fn at(&mut self, time: &str) {
        let ahead = time.parse::<Timestamp>().unwrap().as_millisecond() - Timestamp::now().as_millisecond();
        self.estate.environment = vec![("STRONGROOM_TEST_CLOCK_AHEAD_MS".into(), ahead.to_string())];
    }

    fn follow(&self, args: &[&str]) -> Follower {
        let mut command = self.estate.command(args);
        Follower(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"))
    }

    /// The days and hours of the backups, as their names tell, the newest first.
    fn backups(&self) -> Vec<String> {
        let listed = self.estate.json(&["list"]);
        let name = |backup: &serde_json::Value| backup["name"].as_str().unwrap().to_string();
        let hour =
            |name: String| name.split("_backup_").nth(1).unwrap().split('-').take(3).collect::<Vec<_>>().join("-");
        listed["backups"].as_array().unwrap().iter().map(|backup| hour(name(backup))).collect()
    }

    fn wait_for(&self, count: usize) -> Vec<String> {
        let latest = Instant::now() + Duration::from_secs(90);
        loop {
            let found = self.backups();
            if found.len() >= count || Instant::now() > latest {
                return found;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

#[test]
fn what_is_due_is_taken_once_and_what_was_missed_is_caught_up_once() {
    let mut estate = Scheduled::new();
    // Two processes, two seconds before it is due.
    estate.at("2031-03-04T01:59:58Z");
    let followers =
        [estate.follow(&["schedule", "run"]), estate.follow(&["serve", "--listen", "127.0.0.1:0", "--schedule"])];
    assert_eq!(estate.wait_for(1), ["2031-03-04T02"]);
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(estate.backups(), ["2031-03-04T02"], "the other process has seen it too");
    drop(followers);

    // Three nights later, at noon: the daily one is caught up, once; a Sunday was not among them.
    estate.at("2031-03-07T12:00:00Z");
    let status = estate.estate.strongroom(&["schedule"]).ok();
    assert!(status.stdout.contains("was due 2031-03-07T02:00:00Z"), "{}", status.stdout);
    assert!(status.stdout.contains("2031-03-09T03:00:00Z"), "the next weekly one: {}", status.stdout);
    let follower = estate.follow(&["schedule", "run"]);
    assert_eq!(estate.wait_for(2), ["2031-03-07T12", "2031-03-04T02"]);
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(estate.backups().len(), 2);
    drop(follower);
    // What follows a backup: nothing is kept that no rule keeps.
    let runs = std::fs::read_dir(estate.directory.path().join("vault/_strongroom/journal")).unwrap();
    let runs: Vec<String> = runs.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(runs.iter().any(|run| run.starts_with("20310304T020000Z-schedule-daily")), "{runs:?}");
}

#[test]
fn schedules_rest_while_somebody_has_stopped_them() {
    let mut estate = Scheduled::new();
    estate.at("2031-03-04T01:59:58Z");
    let stopped = estate.estate.strongroom(&["schedule", "stop", "--by", "ann"]).ok();
    assert!(stopped.stdout.contains("schedules rest"), "{}", stopped.stdout);
    let status = estate.estate.strongroom(&["schedule", "status"]).ok();
    assert!(status.stdout.contains("by ann; hint: strongroom schedule start"), "{}", status.stdout);
    let follower = estate.follow(&["schedule", "run"]);
    std::thread::sleep(Duration::from_secs(12));
    assert!(estate.backups().is_empty());
    drop(follower);

    estate.at("2031-03-04T01:59:58Z");
    estate.estate.strongroom(&["schedule", "--start"]).ok();
    let _follower = estate.follow(&["schedule", "run"]);
    assert_eq!(estate.wait_for(1), ["2031-03-04T02"]);
    let next = estate.estate.strongroom(&["schedule", "next"]).ok();
    assert!(next.stdout.starts_with("2031-03-05T02:00:00Z  daily\n2031-03-09T03:00:00Z  weekly"), "{}", next.stdout);
}

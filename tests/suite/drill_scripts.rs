//! The scripts that a schedule runs: every scenario in them is rehearsed for real, their reports lie in a folder, and their
//! exit code is that of the gravest outcome.

use serde_json::Value;

use crate::drill::{FAULTS, outsider, ready_for_everything, scratch};
use crate::estate::{DATASET, Estate, PROJECT};

/// The report of a scenario in the folder that the script filled.
fn report(folder: &std::path::Path, scenario: &str) -> Value {
    let folder = folder.join(scenario);
    for (file, begins) in [("report.html", "<!DOCTYPE html>"), ("report.txt", "drill ")] {
        let text =
            std::fs::read_to_string(folder.join(file)).unwrap_or_else(|error| panic!("{scenario} {file}: {error}"));
        assert!(text.starts_with(begins), "{scenario} {file}: {text}");
    }
    let text = std::fs::read_to_string(folder.join("report.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn all_pass(estate: &Estate, script: &str, scenarios: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let before = estate.contents(DATASET);
    let run = estate.script(script, &[folder.path().to_str().unwrap()]).ok();
    assert_eq!(run.stdout.matches("passed").count(), scenarios.len(), "{run:?}");
    let mut made: Vec<String> =
        std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    made.sort();
    let mut known = scenarios.to_vec();
    known.sort_unstable();
    assert_eq!(made, known);
    for scenario in scenarios {
        let report = report(folder.path(), scenario);
        assert_eq!((&report["scenario"], &report["outcome"]), (&(*scenario).into(), &"passed".into()), "{report:#}");
    }
    assert_eq!(estate.contents(DATASET), before, "nothing of production is changed");
    assert_eq!(scratch(estate, PROJECT), Vec::<String>::new());
}

#[test]
fn the_quarterly_drill_rehearses_the_accidents_that_happen() {
    let estate = Estate::seeded();
    estate.strongroom(&["backup"]).ok();
    all_pass(&estate, "quarterly-drill", &["rehearsal", "table-loss", "accidental-deletion", "corrupted-rows"]);
}

#[test]
fn the_annual_test_takes_every_way_back() {
    let estate = ready_for_everything();
    estate.strongroom(&["backup"]).ok();
    let scenarios = [
        "rehearsal",
        "dataset-loss",
        "table-loss",
        "accidental-deletion",
        "corrupted-rows",
        "service-failure",
        "key-compromise",
        "bucket-loss",
        "project-loss",
    ];
    all_pass(&estate, "annual-dr-test", &scenarios);
}

#[test]
fn a_scenario_that_does_not_pass_gives_the_code_and_keeps_no_other_from_being_run() {
    let mut estate = Estate::seeded();
    estate.configure(|text| text.replace("rto_full = \"4h\"", "rto_full = \"1s\""));
    estate.strongroom(&["backup"]).ok();
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().to_str().unwrap();

    // All came back, too late.
    let run = estate.script("quarterly-drill", &[into, "rehearsal"]);
    assert_eq!(run.code, 9, "{run:?}");
    assert!(run.stdout.contains("passed, an objective was missed"), "{run:?}");
    assert_eq!(report(folder.path(), "rehearsal")["outcome"], "late");

    // What is not set up is refused; what comes after it is rehearsed, and its being late is not what counts.
    let run = estate.script("annual-dr-test", &[into, "project-loss", "table-loss"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.stdout.contains("project-loss           REFUSED"), "{run:?}");
    assert!(run.stderr.contains("recovery_project"), "{run:?}");
    assert_eq!(report(folder.path(), "table-loss")["outcome"], "late");

    // The first restore is spoiled, the second is not.
    let proxy = outsider(&estate, FAULTS.iter().find(|fault| fault.name == "a row dropped").unwrap());
    estate.endpoint = Some(proxy.endpoint().into());
    let run = estate.script("annual-dr-test", &[into, "rehearsal", "dataset-loss"]);
    let failed = report(folder.path(), "rehearsal");
    assert_eq!(failed["outcome"], "failed", "{run:?}");
    assert_eq!(report(folder.path(), "dataset-loss")["outcome"], "late", "{run:?}");
    assert!(matches!(run.code, 3 | 13), "{run:?}");
    assert!(run.stdout.contains(&format!("FAILED (exit code {})", run.code)), "{run:?}");
}

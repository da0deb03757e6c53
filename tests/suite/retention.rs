//! Retention as an operator sees it: what no rule keeps is condemned, and gone a run later; what is needed stays.

use serde_json::Value;

use crate::estate::Estate;

/// One small table, so that backups are quick; everything is due at once.
fn estate() -> Estate {
    let mut estate = Estate::seeded();
    estate.configure(|text| {
        let small = "dataset = \"ai_usage_analytics\"\ntables = [\"dim_model_price\"]";
        let text = text.replace("dataset = \"ai_usage_analytics\"", small).replace("keep = \"30d\"", "keep = \"0s\"");
        let text = text.replace(
            "[validation]\nqueries = \"builtin\"                # or a folder of .sql files beside this file\n",
            "",
        );
        format!("{text}\n[retention]\ngrace = \"0s\"\n")
    });
    estate
}

fn names(estate: &Estate) -> Vec<String> {
    let listed = estate.json(&["list"]);
    let backups = listed["backups"].as_array().cloned().unwrap_or_default();
    backups.iter().filter_map(|backup| backup["name"].as_str().map(String::from)).collect()
}

fn take(estate: &Estate) -> String {
    // Names are made of seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    estate.json(&["backup", "--tier", "daily"])["name"].as_str().expect("a name").to_string()
}

fn verdicts(plan: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let decisions = plan["decisions"].as_array().cloned().unwrap_or_default();
    decisions.iter().map(|decision| (text(&decision["backup"]), text(&decision["verdict"]))).collect()
}

#[test]
fn what_no_rule_keeps_is_condemned_and_then_removed() {
    let estate = estate();
    let (first, second, third) = (take(&estate), take(&estate), take(&estate));
    estate.strongroom(&["pin", &first, "--reason", "audit"]).ok();

    let dry = estate.json(&["retention", "--dry-run"]);
    let expected = [(&third, "keep"), (&second, "condemn"), (&first, "keep")];
    let expected: Vec<(String, String)> = expected.iter().map(|(n, v)| ((*n).clone(), (*v).to_string())).collect();
    assert_eq!(verdicts(&dry), expected);
    assert_eq!(names(&estate).len(), 3, "a dry run changes nothing");

    let text = estate.strongroom(&["retention"]).ok().stdout;
    assert!(
        text.contains("last of its tier") && text.contains("pinned by") && text.contains("no rule keeps it"),
        "{text}"
    );
    assert_eq!(names(&estate).len(), 3, "condemned, not gone");
    let retained = estate.json(&["retention"]);
    assert_eq!(retained["removed"], serde_json::json!([second]));
    assert_eq!(names(&estate), [third.clone(), first.clone()]);
    let left = estate.objects("demo-project-backup-daily");
    assert!(!left.iter().any(|key| key.contains(&second)), "{left:?}");
    assert!(left.iter().any(|key| key.contains(&first)) && left.iter().any(|key| key.contains(&third)));
    estate.strongroom(&["verify", "--all"]).ok();

    // Unpinned, it is an ordinary backup again.
    estate.strongroom(&["unpin", &first]).ok();
    estate.strongroom(&["retention"]).ok();
    estate.strongroom(&["retention"]).ok();
    assert_eq!(names(&estate), std::slice::from_ref(&third));
    // The last is never removed, however often it is asked.
    estate.strongroom(&["retention"]).ok();
    assert_eq!(names(&estate), [third]);
}

#[test]
fn a_deletion_by_hand_is_confirmed_and_never_takes_what_is_needed() {
    let estate = estate();
    let (first, second) = (take(&estate), take(&estate));

    let unconfirmed = estate.strongroom(&["delete", &first]);
    assert_eq!(unconfirmed.code, 1);
    assert!(unconfirmed.stderr.contains(&format!("--confirm {first}")), "{}", unconfirmed.stderr);
    let last = estate.strongroom(&["delete", &second, "--confirm", &second]);
    assert_eq!(last.code, 4, "{}", last.stderr);
    assert!(last.stderr.contains("the newest backup of tier daily"), "{}", last.stderr);
    estate.strongroom(&["pin", &first]).ok();
    let pinned = estate.strongroom(&["delete", &first, "--confirm", &first, "--now"]);
    assert_eq!(pinned.code, 4, "{}", pinned.stderr);
    assert!(pinned.stderr.contains(&format!("strongroom unpin {first}")), "{}", pinned.stderr);
    assert_eq!(names(&estate).len(), 2);

    estate.strongroom(&["unpin", &first]).ok();
    estate.strongroom(&["delete", &first, "--confirm", &first]).ok();
    assert_eq!(names(&estate).len(), 2, "condemned, not gone");
    estate.strongroom(&["retention"]).ok();
    assert_eq!(names(&estate), std::slice::from_ref(&second));
    estate.strongroom(&["delete", &second, "--confirm", &second, "--now", "--even-the-last"]).ok();
    assert_eq!(names(&estate), Vec::<String>::new());
    let left = estate.objects("demo-project-backup-daily");
    let kept = |key: &String| key.starts_with("_strongroom/") || key == "backup_metadata.json";
    assert!(left.iter().all(kept), "{left:?}");
    assert_eq!(estate.strongroom(&["delete", &second, "--confirm", &second]).code, 10);
}

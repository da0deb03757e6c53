use super::*;

const EXAMPLE: &str = include_str!("../../examples/ai-usage-analytics.toml");

fn environment(name: &str) -> Option<String> {
    match name {
        "GOOGLE_CLOUD_PROJECT" => Some("demo-project".into()),
        "MAPPINGS_SPREADSHEET_ID" => Some("sheet-1".into()),
        "BACKUP_BUCKET_PREFIX" => Some("demo-backup".into()),
        _ => None,
    }
}

#[test]
fn the_example_is_valid() {
    let config = parse(EXAMPLE, &environment).unwrap();
    assert_eq!(config.tiers.len(), 3);
    assert_eq!(config.home.to_string(), "gs://demo-backup-daily");
    let google = config.google.unwrap();
    assert_eq!((google.endpoint, google.credentials), (None, Credentials::ApplicationDefault));
    let SourceKind::BigQuery(bigquery) = &config.sources[0].kind else { panic!("{:?}", config.sources) };
    assert_eq!(bigquery.snapshot_dataset.to_string(), "demo-project.ai_usage_analytics_snapshots");
}

#[test]
fn all_problems_are_told_at_once() {
    let text = r#"
name = "../x"
[google]
project = "${NOT_SET}"
endpoint = "not a url"
[[source]]
name = "warehouse"
kind = "bigquery"
datset = "x"
[tiers.daily]
keep = "30 days"
destinations = ["ftp://x"]
"#;
    let problems = parse(text, &|_| None).unwrap_err();
    let mut told: Vec<&str> = problems.iter().map(|p| p.path.as_str()).collect();
    told.sort_unstable();
    let expected = [
        "google.endpoint",
        "google.project",
        "name",
        "source[0].dataset",
        "source[0].datset",
        "tiers.daily.destinations[0]",
        "tiers.daily.keep",
    ];
    assert_eq!(told, expected, "{problems}");
    let text = problems.to_string();
    assert!(text.contains("did you mean 'dataset'?"), "{text}");
    assert!(text.contains("NOT_SET is not set"), "{text}");
}

#[test]
fn a_value_of_the_environment_cannot_change_the_structure() {
    let hostile = |name: &str| match name {
        "GOOGLE_CLOUD_PROJECT" => Some("p\"\n[tiers.evil]".to_string()),
        other => environment(other),
    };
    let problems = parse(EXAMPLE, &hostile).unwrap_err();
    assert!(problems.iter().all(|p| !p.path.contains("evil")), "{problems}");
}

#[test]
fn a_syntax_error_names_its_line() {
    let problems = parse("name = \"x\"\n[google\n", &|_| None).unwrap_err();
    assert!(problems.to_string().contains("line 2"), "{problems}");
}

#[test]
fn a_secret_at_a_wrong_place_is_refused_and_not_repeated() {
    for (key, value) in [
        ("endpoint", "http://user:hunter2@127.0.0.1:1"),
        ("endpoint", "user:hunter2@127.0.0.1"),
        ("credentials", "{\"private_key\": \"hunter2\"}"),
        ("credentials", "-----BEGIN PRIVATE KEY-----hunter2"),
        ("credentials", "ya29.hunter2"),
        ("call_timeout", "0s"),
    ] {
        let text = EXAMPLE.lines().filter(|line| !line.starts_with(key)).collect::<Vec<_>>().join("\n");
        let text = text.replace("[google]", &format!("[google]\n{key} = '{value}'"));
        let problems = parse(&text, &environment).unwrap_err();
        assert!(problems.iter().any(|problem| problem.path == format!("google.{key}")), "{problems}");
        assert_eq!(problems.len(), 1, "{problems}");
        assert!(!format!("{problems} {problems:?}").contains("hunter2"), "{problems}");
    }
}

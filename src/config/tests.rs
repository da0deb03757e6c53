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

const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
const KMS_KEY: &str = "projects/p/locations/eu/keyRings/r/cryptoKeys/k";

/// The seals of the tiers daily, weekly and monthly under these tables.
fn seals(sealing: &str, weekly: &str) -> Result<Vec<Option<Seal>>, Problems> {
    let tier = |name: &str, more: &str| {
        format!("[tiers.{name}]\nkeep = \"30d\"\ndestinations = [\"gs://bucket-1/{name}\"]\n{more}\n")
    };
    let text = format!(
        "name = \"x\"\n[google]\nproject = \"p-1\"\n[[source]]\nname = \"s\"\nkind = \"sheets\"\nspreadsheet = \"y\"\n{sealing}\n{}{}{}",
        tier("daily", ""),
        tier("monthly", "sealed = false"),
        tier("weekly", weekly),
    );
    Ok(parse(&text, &|_| None)?.tiers.into_values().map(|tier| tier.seal).collect())
}

#[test]
fn a_tier_is_sealed_when_there_is_sealing_unless_it_says_otherwise() {
    let recipient: crate::model::Recipient = RECIPIENT.parse().unwrap();
    assert_eq!(seals("", "").unwrap(), [None, None, None]);
    let own = format!("sealed = true\nrecipients = [\"{RECIPIENT}\"]");
    let only = Seal { recipients: vec![recipient.clone()], kms_key: None };
    assert_eq!(seals("", &own).unwrap(), [None, None, Some(only.clone())]);
    let shared = format!("[sealing]\nrecipients = [\"{RECIPIENT}\"]\n");
    assert_eq!(seals(&shared, "").unwrap(), [Some(only.clone()), None, Some(only)]);
    let key = format!("[sealing]\nkms_key = \"{KMS_KEY}\"\n");
    let wrapped = Seal { recipients: vec![], kms_key: Some(KMS_KEY.into()) };
    let both = Seal { recipients: vec![recipient], kms_key: Some(KMS_KEY.into()) };
    assert_eq!(seals(&key, &format!("recipients = [\"{RECIPIENT}\"]")).unwrap(), [Some(wrapped), None, Some(both)]);
}

#[test]
fn what_nobody_could_open_is_no_configuration() {
    let paths = |sealing: &str, weekly: &str| {
        let problems = seals(sealing, weekly).unwrap_err();
        assert!(problems.iter().all(|problem| problem.message.contains("hint:")), "{problems}");
        problems.iter().map(|problem| problem.path.clone()).collect::<Vec<_>>()
    };
    assert_eq!(paths("", "sealed = true"), ["tiers.weekly.sealed"]);
    assert_eq!(paths("[sealing]", ""), ["tiers.daily.sealed", "tiers.weekly.sealed"]);
    let own = format!("recipients = [\"{RECIPIENT}\"]");
    assert_eq!(paths("", &own), ["tiers.weekly.sealed"]);
    assert_eq!(paths("", &format!("sealed = false\n{own}")), ["tiers.weekly.recipients"]);
    assert_eq!(paths("[sealing]\nkms_key = \"k\"", ""), ["sealing.kms_key"]);
    let secret = "[sealing]\nkms_key = \"projects/p/locations/l/keyRings/r/cryptoKeys/k\"\nrecipients = [\"AGE-SECRET-KEY-1HUNTER2\"]";
    assert_eq!(paths(secret, ""), ["sealing.recipients[0]"]);
    assert!(!seals(secret, "").unwrap_err().to_string().contains("HUNTER2"));
}

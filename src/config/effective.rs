//! The effective configuration: every value, given or default, with its origin, and no secret in it.

use serde::Serialize;
use toml::Value;
use url::Url;

use super::layers::{Layers, Merged, Origin};
use super::reader::Problems;
use super::{Config, valid};

/// A configuration that was put together, and what came of it.
pub struct Effective {
    /// `None` where anything is wrong.
    pub config: Option<Config>,
    /// What is left when all that is wrong is taken away: so that the rest can be looked at.
    pub remains: Option<Config>,
    pub problems: Problems,
    pub settings: Vec<Setting>,
}

/// One value of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub path: String,
    /// As TOML writes it; `None`: it is not set, and has no default.
    pub value: Option<String>,
    #[serde(serialize_with = "as_text")]
    pub origin: Origin,
}

fn as_text<S: serde::Serializer>(origin: &Origin, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(origin)
}

/// What keys mean that are not written; `*` is any name or number. A test writes them all, and nothing changes.
const DEFAULTS: &[(&str, &str)] = &[
    ("parallel", "8"),
    ("google.credentials", "\"application_default\""),
    ("google.call_timeout", "\"2m\""),
    ("google.progress_timeout", "\"60s\""),
    ("source[*].tables", "[\"*\"]"),
    ("source[*].exclude", "[]"),
    ("source[*].snapshots_kept", "\"7d\""),
    ("source[*].manual_snapshots_kept", "\"90d\""),
    ("source[*].fingerprint", "\"on\""),
    ("source[*].tabs", "[]"),
    ("ingestion.scheduler_jobs", "[]"),
    ("ingestion.drain_timeout", "\"10m\""),
    ("ingestion.resume_within", "\"30m\""),
    ("tiers.*.format", "\"avro\""),
    ("tiers.*.keep_last", "0"),
    ("tiers.*.keep_daily", "0"),
    ("tiers.*.keep_weekly", "0"),
    ("tiers.*.keep_monthly", "0"),
    ("tiers.*.keep_yearly", "0"),
    ("tiers.*.copies", "{ count = 1, kinds = 1, offsite = 0 }"),
    ("worker.listen", "\"127.0.0.1:8000\""),
    ("retention.grace", "\"7d\""),
    ("retention.keep_manual", "\"90d\""),
    ("retention.keep_emergency", "\"90d\""),
    ("retention.keep_pre_change", "\"30d\""),
    ("retention.time_zone", "\"UTC\""),
    ("watch.small_below", "0.5"),
    ("watch.expires_within", "\"7d\""),
    ("watch.unverified_after", "\"7d\""),
    ("watch.free_space_below", "0.1"),
    ("recover.grace", "\"1d\""),
    ("recover.keep_journals", "\"90d\""),
    ("objectives.rto_critical", "\"2h\""),
    ("objectives.rto_full", "\"4h\""),
    ("objectives.rto_dashboards", "\"1h\""),
    ("objectives.rto_pipeline", "\"30m\""),
    ("objectives.rpo_transactions", "\"24h\""),
    ("objectives.rpo_mappings", "\"1h\""),
    ("drill.noticed_after", "\"1h\""),
    ("service.health", "\"/health\""),
    ("secrets.names", "[]"),
];

/// Puts a configuration together and reads it.
pub fn read(layers: &Layers<'_>) -> Effective {
    let mut problems = Problems::default();
    let merged = match Merged::of(layers, &mut problems) {
        Ok(merged) => merged,
        Err(problems) => return Effective { config: None, remains: None, problems, settings: vec![] },
    };
    let config = valid::read(merged.table.clone(), &mut problems);
    let settings = settings(&merged, &problems);
    match config {
        Some(config) if problems.is_empty() => Effective { config: Some(config), remains: None, problems, settings },
        _ => Effective { config: None, remains: remains(merged, &problems), problems, settings },
    }
}

fn remains(mut merged: Merged, problems: &Problems) -> Option<Config> {
    let mut wrong: Vec<String> = problems.iter().map(|problem| problem.path.clone()).collect();
    // What is taken away may leave a hole that was none before. From behind: taking an element away moves those after it.
    for _ in 0..8 {
        wrong.sort_unstable_by(|a, b| b.cmp(a));
        for path in &wrong {
            merged.without(path);
        }
        let mut problems = Problems::default();
        let config = valid::read(merged.table.clone(), &mut problems);
        if problems.is_empty() {
            return config;
        }
        let left: Vec<String> = problems.iter().map(|problem| problem.path.clone()).collect();
        if left == wrong {
            return None;
        }
        wrong = left;
    }
    None
}

fn settings(merged: &Merged, problems: &Problems) -> Vec<Setting> {
    let mut settings: Vec<Setting> = Vec::new();
    for (path, value) in merged.leaves() {
        let origin = merged.origin(&path);
        let value = Some(shown(&path, &value, &origin));
        settings.push(Setting { path, value, origin });
    }
    for path in problems.asked() {
        let given = |setting: &Setting| {
            setting.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let is_table =
            problems.asked().any(|other| other.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '['])));
        if !is_table && !settings.iter().any(given) {
            let value = DEFAULTS.iter().find(|(pattern, _)| fits(pattern, path)).map(|(_, value)| (*value).to_string());
            settings.push(Setting { path: path.into(), value, origin: Origin::Default });
        }
    }
    settings.sort_by(|a, b| (rank(&a.path), &a.path).cmp(&(rank(&b.path), &b.path)));
    settings
}

/// What stands at the top of a file stands at the top here.
fn rank(path: &str) -> (bool, bool) {
    (path.contains('.'), path.contains('.') && !path.starts_with("source"))
}

fn fits(pattern: &str, path: &str) -> bool {
    let (mut parts, mut others) = (pattern.split(['.', '[']), path.split(['.', '[']));
    loop {
        match (parts.next(), others.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) | (Some("*]"), Some(_)) => {}
            (Some(part), Some(other)) if part == other => {}
            _ => return false,
        }
    }
}

const HIDDEN: &str = "\"REDACTED\"";

/// A value as TOML writes it, without what nobody may see.
fn shown(path: &str, value: &Value, origin: &Origin) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let secret = |name: &str| {
        let name = name.to_uppercase();
        ["SECRET", "PASSWORD", "PASSWD", "TOKEN", "PRIVATE", "ACCESS_KEY", "DATABASE_URL"]
            .iter()
            .any(|word| name.contains(word))
    };
    // A value is not shown when a variable with such a name is in it; a name of a variable or of a secret is no secret.
    let taken_in = matches!(origin, Origin::File(names) if names.iter().any(|name| secret(name)));
    let names_it = text.starts_with("env:") || text.starts_with("projects/");
    let key = path.rsplit('.').next().unwrap_or(path);
    if !names_it && (secret(key) || text.contains("PRIVATE KEY") || text.contains("AGE-SECRET-KEY")) {
        return HIDDEN.into();
    }
    let is_file = ["sqlite", "file:"].iter().any(|scheme| text.starts_with(scheme));
    match Url::parse(text) {
        // Wherever a password stands in what is no address.
        Err(_) if key == "url" && !names_it && !is_file => HIDDEN.into(),
        Ok(mut url) if url.password().is_some() || url.query().is_some() => {
            if url.password().is_some() {
                url.set_password(Some("REDACTED")).ok();
            }
            url.set_query(None);
            Value::String(url.to_string()).to_string()
        }
        Ok(url) if taken_in && url.has_host() => Value::String(text.clone()).to_string(),
        _ if taken_in => HIDDEN.into(),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::Layers;

    const TEXT: &str = r#"
name = "x"
[google]
project = "demo-project"
[[source]]
name = "warehouse"
kind = "bigquery"
dataset = "d"
[[source]]
name = "sheet"
kind = "sheets"
spreadsheet = "s"
[service]
name = "projects/p/locations/l/services/s"
[secrets]
[drill]
[ingestion]
[worker]
[watch]
[recover]
[objectives]
[retention]
[tiers.daily]
keep = "30d"
destinations = ["/vault"]
"#;

    fn of(text: &str) -> Effective {
        read(&Layers { file: Some(text), environment: &|_| None, flags: &[] })
    }

    #[test]
    fn a_default_that_is_written_changes_nothing() {
        let plain = of(TEXT).config.expect("valid");
        let shown: Vec<Setting> = of(TEXT).settings;
        for (pattern, value) in DEFAULTS {
            let path = shown.iter().map(|setting| setting.path.as_str()).find(|path| fits(pattern, path));
            let path = path.unwrap_or_else(|| panic!("{pattern} is no key that anybody asks for"));
            let value = format!("{path}={value}");
            let written = read(&Layers { file: Some(TEXT), environment: &|_| None, flags: &[value] });
            assert_eq!(written.config.as_ref(), Some(&plain), "{path}: {}", written.problems);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = |path: &str, text: &str, names: &[&str]| {
            let names = names.iter().map(ToString::to_string).collect();
            super::shown(path, &Value::String(text.into()), &Origin::File(names))
        };
        let url = "postgresql://u:hidden@h:5432/d?sslpassword=hidden";
        assert_eq!(shown("source[0].url", url, &[]), r#""postgresql://u:REDACTED@h:5432/d""#);
        assert_eq!(shown("source[0].url", url, &["DATABASE_URL"]), r#""postgresql://u:REDACTED@h:5432/d""#);
        assert_eq!(shown("a.b", "hidden", &["DB_PASSWORD"]), HIDDEN);
        assert_eq!(shown("a.password", "hidden", &[]), HIDDEN);
        assert_eq!(shown("s3.secret_key", "env:BACKUP_SECRET_KEY", &[]), r#""env:BACKUP_SECRET_KEY""#);
        assert_eq!(shown("a.b", "-----BEGIN PRIVATE KEY-----", &[]), HIDDEN);
        assert_eq!(shown("name", "x", &["NAME"]), r#""x""#);
    }

    #[test]
    fn what_is_right_remains() {
        let text = TEXT.replace("keep = \"30d\"", "keep = \"30d\"\nkepp = 1\nformat = \"csv\"");
        let found = of(&text.replace("dataset = \"d\"", "dataset = \"d\"\nfingerprint = 1.5"));
        assert!(found.config.is_none() && found.problems.len() == 3, "{}", found.problems);
        assert_eq!(found.remains, of(TEXT).config);
        assert!(of("name = [").remains.is_none());
    }
}

//! The well-known variables (`BACKUP_...`, `DATABASE_URL`) as a configuration: alone, or over a file.
//!
//! Keys stay where they are: the configuration names the variable (`env:BACKUP_SECRET_KEY`), never its value; a database's address
//! is one as the file would have it, and shown without its password. A variable that
//! the file takes in itself (`${BACKUP_DIR}`, `env:DATABASE_URL`) means what the file makes of it, and nothing else.

use toml::{Table, Value};

use super::layers::{Merged, Origin};
use super::reader::Problems;
use crate::model::DatabaseUrl;

/// The variables that alone are a configuration.
pub const VARIABLES: [&str; 17] = [
    "BACKUP_PROVIDER",
    "BACKUP_DESTINATION",
    "BACKUP_DIR",
    "BACKUP_SCHEDULE",
    "BACKUP_RETENTION_DAYS",
    "BACKUP_COMPRESSION",
    "BACKUP_ENCRYPTION",
    "BACKUP_RECIPIENTS",
    "BACKUP_ACCESS_KEY",
    "BACKUP_SECRET_KEY",
    "BACKUP_TOKEN",
    "BACKUP_REGION",
    "BACKUP_ENDPOINT",
    "BACKUP_PARALLEL_JOBS",
    "BACKUP_DEBUG",
    "BACKUP_NAME",
    "DATABASE_URL",
];

/// Where backups go when nobody says where.
const DIRECTORY: &str = "./backups";
const SCHEDULE: &str = "0 2 * * *";
const KEEP: &str = "30d";
/// The tier that the variables speak of.
const TIER: &str = "daily";

/// Whether there is anything in the environment that is a configuration without a file.
pub fn speaks(environment: &dyn Fn(&str) -> Option<String>) -> bool {
    VARIABLES.iter().any(|name| environment(name).is_some_and(|value| !value.is_empty()))
}

/// `true` or `false`, as people write them in variables.
pub fn switch(text: &str) -> Option<bool> {
    match text.trim().to_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Provider {
    S3,
    Gcs,
    Azure,
    Local,
}

impl Provider {
    const fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3://",
            Self::Gcs => "gs://",
            Self::Azure => "az://",
            Self::Local => "",
        }
    }

    fn of_place(place: &str) -> Self {
        let clouds = [Self::S3, Self::Gcs, Self::Azure];
        clouds.into_iter().find(|provider| place.starts_with(provider.scheme())).unwrap_or(Self::Local)
    }
}

/// Lays what the environment says over what the file said.
pub(super) fn lay(
    merged: &mut Merged,
    file: Option<&str>,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) {
    let named = |name: &str| {
        file.is_some_and(|text| text.contains(&format!("${{{name}")) || text.contains(&format!("env:{name}")))
    };
    let variable = |name: &str| environment(name).filter(|value| !value.trim().is_empty() && !named(name));
    let mut laying = Laying { merged, alone: file.is_none(), problems };
    if laying.alone && !speaks(environment) {
        return;
    }
    if let Some(name) = variable("BACKUP_NAME") {
        laying.set("name", name, "BACKUP_NAME");
    }
    laying.source(variable("DATABASE_URL").as_deref());
    let places = ["BACKUP_PROVIDER", "BACKUP_DESTINATION"];
    let provider = match places.iter().any(|name| named(name)) {
        true => None,
        false => laying.places(&variable),
    };
    let provider = provider.unwrap_or_else(|| laying.provider_of_tiers());
    laying.credentials(provider, &variable, environment);
    laying.terms(&variable);
}

struct Laying<'a> {
    merged: &'a mut Merged,
    /// Without a file: what is not said has a default.
    alone: bool,
    problems: &'a mut Problems,
}

type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Laying<'_> {
    fn set(&mut self, path: &str, value: impl Into<Value>, name: &str) {
        self.merged.set(path, value.into(), Origin::Environment(name.into()));
    }

    fn default(&mut self, path: &str, value: impl Into<Value>) {
        if self.alone && self.merged.get(path).is_none() {
            self.merged.set(path, value.into(), Origin::Default);
        }
    }

    fn tiers(&self) -> Vec<String> {
        match self.merged.get("tiers").and_then(Value::as_table) {
            Some(tiers) if !tiers.is_empty() => tiers.keys().cloned().collect(),
            _ => vec![TIER.into()],
        }
    }

    /// A database, where no source is named.
    fn source(&mut self, url: Option<&str>) {
        const NAME: &str = "DATABASE_URL";
        if self.merged.get("source").is_none()
            && let Some(url) = url
        {
            let (kind, database) = match database(url) {
                Ok(known) => known,
                Err(message) => {
                    self.default("name", "strongroom");
                    return self.problems.add("source", format!("{NAME} {message}"));
                }
            };
            let mut source = Table::new();
            source.insert("name".into(), plain_name(&database).into());
            let (key, value) = match kind {
                "sqlite" => ("path", database.clone()),
                _ => ("url", url.to_string()),
            };
            source.insert("kind".into(), kind.into());
            source.insert(key.into(), value.into());
            self.set("source", Value::Array(vec![Value::Table(source)]), NAME);
            if self.alone && self.merged.get("name").is_none() {
                self.set("name", plain_name(&database), NAME);
            }
        }
        if self.alone && self.merged.get("source").is_none() {
            let hint = "hint: DATABASE_URL=postgresql://user:password@host:5432/database, or sqlite:FILE";
            self.problems.add("source", format!("is missing: nothing says what is backed up; {hint}"));
        }
        self.default("name", "strongroom");
    }

    fn places(&mut self, variable: Variable<'_>) -> Option<Provider> {
        let said = variable("BACKUP_PROVIDER");
        let provider = match said.as_deref().map(|text| text.trim().to_lowercase()).as_deref() {
            None => None,
            Some("s3") => Some(Provider::S3),
            Some("gcs") => Some(Provider::Gcs),
            Some("azure") => Some(Provider::Azure),
            Some("local") => Some(Provider::Local),
            Some(other) => {
                let message = format!("BACKUP_PROVIDER '{other}' is no provider; hint: s3, gcs, azure or local");
                self.problems.add("tiers.daily.destinations", message);
                return None;
            }
        };
        let (name, place) = match (variable("BACKUP_DESTINATION"), variable("BACKUP_DIR")) {
            (Some(place), _) => ("BACKUP_DESTINATION", place),
            (None, Some(place)) if matches!(provider, None | Some(Provider::Local)) => ("BACKUP_DIR", place),
            _ if matches!(provider, Some(Provider::S3 | Provider::Gcs | Provider::Azure)) => {
                let message = "BACKUP_DESTINATION is missing; hint: the bucket or container and a prefix, such as my-bucket/database";
                self.problems.add("tiers.daily.destinations", message);
                return provider;
            }
            _ if self.alone => {
                self.default("tiers.daily.destinations", vec![DIRECTORY]);
                return Some(Provider::Local);
            }
            _ => return None,
        };
        let place = place.trim().to_string();
        let place = match provider {
            Some(provider) if !place.contains("://") => format!("{}{place}", provider.scheme()),
            Some(provider) if provider != Provider::Local && !place.starts_with(provider.scheme()) => {
                let hint = format!("hint: {}bucket/prefix, or without BACKUP_PROVIDER", provider.scheme());
                self.problems.add("tiers.daily.destinations", format!("{name} is no place of the provider; {hint}"));
                return None;
            }
            _ => place,
        };
        for tier in self.tiers() {
            let path = format!("tiers.{tier}.destinations[0]");
            let table = self.merged.get(&path).is_some_and(|place| place.is_table());
            let path = if table { format!("{path}.place") } else { path };
            self.set(&path, place.clone(), name);
        }
        Some(Provider::of_place(&place))
    }

    /// What the file's first destinations are.
    fn provider_of_tiers(&self) -> Provider {
        let first = |tier: &String| {
            let place = self.merged.get(&format!("tiers.{tier}.destinations[0]"))?;
            let place = place.get("place").unwrap_or(place);
            place.as_str().map(Provider::of_place)
        };
        self.tiers().iter().find_map(first).unwrap_or(Provider::Local)
    }

    fn credentials(
        &mut self,
        provider: Provider,
        variable: Variable<'_>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) {
        let (id, secret) = (variable("BACKUP_ACCESS_KEY"), variable("BACKUP_SECRET_KEY").is_some());
        let endpoint = variable("BACKUP_ENDPOINT");
        let region = variable("BACKUP_REGION");
        let both = id.is_some() == secret;
        if !both && matches!(provider, Provider::S3 | Provider::Azure) {
            let (missing, other) = match secret {
                true => ("BACKUP_ACCESS_KEY", "BACKUP_SECRET_KEY"),
                false => ("BACKUP_SECRET_KEY", "BACKUP_ACCESS_KEY"),
            };
            self.problems.add(missing, format!("is missing, and {other} is set; hint: set both, or neither"));
        }
        match provider {
            Provider::S3 => {
                if id.is_some() && secret {
                    self.set("s3.access_key", "env:BACKUP_ACCESS_KEY", "BACKUP_ACCESS_KEY");
                    self.set("s3.secret_key", "env:BACKUP_SECRET_KEY", "BACKUP_SECRET_KEY");
                }
                if let Some(region) = region {
                    self.set("s3.region", region, "BACKUP_REGION");
                }
                if let Some(endpoint) = endpoint {
                    self.set("s3.endpoint", endpoint, "BACKUP_ENDPOINT");
                }
            }
            Provider::Azure => {
                if let Some(account) = id.filter(|_| secret) {
                    self.set("azure.account", account, "BACKUP_ACCESS_KEY");
                    self.set("azure.credentials", "env:BACKUP_SECRET_KEY", "BACKUP_SECRET_KEY");
                }
                if let Some(endpoint) = endpoint {
                    self.set("azure.endpoint", endpoint, "BACKUP_ENDPOINT");
                }
            }
            Provider::Gcs => self.google(region, endpoint, variable, environment),
            Provider::Local => {}
        }
    }

    fn google(
        &mut self,
        region: Option<String>,
        endpoint: Option<String>,
        variable: Variable<'_>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) {
        let token = variable("BACKUP_TOKEN");
        if token.is_some() {
            self.set("google.credentials", "env:BACKUP_TOKEN", "BACKUP_TOKEN");
        }
        if let Some(endpoint) = endpoint {
            self.set("google.endpoint", endpoint, "BACKUP_ENDPOINT");
        }
        if let Some(region) = region {
            self.set("buckets.location", region, "BACKUP_REGION");
        }
        if self.merged.get("google").is_none() || self.merged.get("google.project").is_some() {
            return;
        }
        let of_key = token.and_then(|token| serde_json::from_str::<serde_json::Value>(&token).ok());
        let of_key = of_key.and_then(|key| Some(key.get("project_id")?.as_str()?.to_string()));
        match (of_key, environment("GOOGLE_CLOUD_PROJECT").filter(|project| !project.is_empty())) {
            (Some(project), _) => self.set("google.project", project, "BACKUP_TOKEN"),
            (None, Some(project)) => self.set("google.project", project, "GOOGLE_CLOUD_PROJECT"),
            (None, None) => {
                let hint = "hint: the JSON text of a service account's key, or set GOOGLE_CLOUD_PROJECT beside it";
                self.problems.add("BACKUP_TOKEN", format!("does not say of which project it is; {hint}"));
            }
        }
    }

    /// When, how long and in which form.
    fn terms(&mut self, variable: Variable<'_>) {
        let tiers = self.tiers();
        let tier = tiers.iter().find(|tier| *tier == TIER).or(tiers.first()).cloned().unwrap_or_else(|| TIER.into());
        let (schedule, keep) = (format!("tiers.{tier}.schedule"), format!("tiers.{tier}.keep"));
        if let Some(text) = variable("BACKUP_SCHEDULE") {
            self.set(&schedule, text, "BACKUP_SCHEDULE");
        }
        self.default(&schedule, SCHEDULE);
        if let Some(days) = self.number("BACKUP_RETENTION_DAYS", variable, 1..=36_500) {
            self.set(&keep, format!("{days}d"), "BACKUP_RETENTION_DAYS");
        }
        self.default(&keep, KEEP);
        if let Some(jobs) = self.number("BACKUP_PARALLEL_JOBS", variable, 1..=64) {
            self.set("parallel", jobs, "BACKUP_PARALLEL_JOBS");
        }
        if let Some(recipients) = variable("BACKUP_RECIPIENTS") {
            let list: Vec<&str> = recipients.split([',', ' ']).filter(|text| !text.is_empty()).collect();
            self.set("sealing.recipients", list, "BACKUP_RECIPIENTS");
        }
        if let Some(sealed) = self.flag("BACKUP_ENCRYPTION", variable) {
            if sealed && self.merged.get("sealing").is_none() {
                let hint =
                    "hint: strongroom key generate --sealing FILE, then BACKUP_RECIPIENTS=age1... as it prints it";
                self.problems.add("BACKUP_ENCRYPTION", format!("nobody could open what is encrypted; {hint}"));
            } else {
                for tier in &tiers {
                    self.set(&format!("tiers.{tier}.sealed"), sealed, "BACKUP_ENCRYPTION");
                }
            }
        }
        // What is stored is compressed in any case: a database's dump, an archive, what is sealed.
        self.flag("BACKUP_COMPRESSION", variable);
        self.flag("BACKUP_DEBUG", variable);
    }

    fn flag(&mut self, name: &'static str, variable: Variable<'_>) -> Option<bool> {
        let text = variable(name)?;
        let read = switch(&text);
        if read.is_none() {
            self.problems.add(name, "must be true or false");
        }
        read
    }

    fn number(
        &mut self,
        name: &'static str,
        variable: Variable<'_>,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        let text = variable(name)?;
        let read = text.trim().parse().ok().filter(|number| range.contains(number));
        if read.is_none() {
            self.problems.add(name, format!("must be a whole number from {} to {}", range.start(), range.end()));
        }
        read
    }
}

/// The kind of a database's address, and the database's name or file. Nothing of the address is in the message.
fn database(url: &str) -> Result<(&'static str, String), String> {
    let url = url.trim();
    for scheme in ["sqlite://", "sqlite:", "sqlite3:", "file:"] {
        if let Some(path) = url.strip_prefix(scheme) {
            let path = path.split('?').next().unwrap_or_default();
            return match path {
                "" | ":memory:" => Err("names no file; hint: sqlite:FILE".into()),
                path => Ok(("sqlite", path.into())),
            };
        }
    }
    if !url.starts_with("postgres") {
        return Err(
            "is no database's address; hint: postgresql://user:password@host:5432/database, or sqlite:FILE".into()
        );
    }
    let read = url.parse::<DatabaseUrl>().map_err(|error| error.to_string())?;
    Ok(("postgres", read.database))
}

/// A name for a source or a system, of a database's name or file.
fn plain_name(database: &str) -> String {
    let last = database.rsplit('/').next().unwrap_or(database);
    let stem = last.rsplit_once('.').map_or(last, |(stem, _)| stem);
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let name: String = stem.chars().map(plain).take(60).collect();
    match name.trim_start_matches(['.', '_']) {
        "" => "database".into(),
        name => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Effective, Layers, read};

    fn of(file: Option<&str>, variables: &[(&str, &str)]) -> Effective {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_string());
        read(&Layers { file, environment: &find, flags: &[] })
    }

    fn value(effective: &Effective, path: &str) -> (String, String) {
        let found = effective.settings.iter().find(|setting| setting.path == path);
        let found = found.unwrap_or_else(|| panic!("no {path} in {:#?}", effective.settings));
        (found.value.clone().unwrap_or_default(), found.origin.to_string())
    }

    fn pair(value: &str, origin: &str) -> (String, String) {
        (value.into(), origin.into())
    }

    #[test]
    fn the_variables_alone_are_a_configuration() {
        let s3 = of(
            None,
            &[
                ("BACKUP_PROVIDER", "s3"),
                ("BACKUP_DESTINATION", "my-backup-bucket/database"),
                ("BACKUP_SCHEDULE", "0 */6 * * *"),
                ("BACKUP_RETENTION_DAYS", "14"),
                ("BACKUP_ACCESS_KEY", "AKIAIOSFODNN7EXAMPLE"),
                ("BACKUP_SECRET_KEY", "hidden-secret"),
                ("BACKUP_REGION", "eu-west-1"),
                ("BACKUP_PARALLEL_JOBS", "2"),
                ("DATABASE_URL", "postgresql://brownie:hidden-password@postgres:5432/brownie_metadata"),
            ],
        );
        let shown = format!("{:?} {}", s3.settings, s3.problems);
        assert!(!shown.contains("hidden"), "{shown}");
        assert_eq!(value(&s3, "name"), pair("\"brownie_metadata\"", "environment DATABASE_URL"));
        assert_eq!(value(&s3, "source[0].kind"), pair("\"postgres\"", "environment DATABASE_URL"));
        let url = "\"postgresql://brownie:REDACTED@postgres:5432/brownie_metadata\"";
        assert_eq!(value(&s3, "source[0].url"), pair(url, "environment DATABASE_URL"));
        let place = value(&s3, "tiers.daily.destinations[0]");
        assert_eq!(place, pair("\"s3://my-backup-bucket/database\"", "environment BACKUP_DESTINATION"));
        assert_eq!(value(&s3, "tiers.daily.keep"), pair("\"14d\"", "environment BACKUP_RETENTION_DAYS"));
        assert_eq!(value(&s3, "tiers.daily.schedule"), pair("\"0 */6 * * *\"", "environment BACKUP_SCHEDULE"));
        assert_eq!(value(&s3, "s3.region"), pair("\"eu-west-1\"", "environment BACKUP_REGION"));
        assert_eq!(value(&s3, "s3.secret_key"), pair("\"env:BACKUP_SECRET_KEY\"", "environment BACKUP_SECRET_KEY"));
        assert_eq!(value(&s3, "parallel"), pair("2", "environment BACKUP_PARALLEL_JOBS"));
        assert_eq!(value(&s3, "retention.grace"), pair("\"7d\"", "default"));

        let local = of(None, &[("DATABASE_URL", "sqlite:./usage.db")]);
        assert_eq!(value(&local, "name"), pair("\"usage\"", "environment DATABASE_URL"));
        assert_eq!(value(&local, "source[0].path"), pair("\"./usage.db\"", "environment DATABASE_URL"));
        assert_eq!(value(&local, "tiers.daily.destinations[0]"), pair("\"./backups\"", "default"));
        assert_eq!(value(&local, "tiers.daily.keep"), pair("\"30d\"", "default"));
        let directory = of(None, &[("DATABASE_URL", "sqlite:a.db"), ("BACKUP_DIR", "/b")]);
        assert_eq!(value(&directory, "tiers.daily.destinations[0]"), pair("\"/b\"", "environment BACKUP_DIR"));
    }

    #[test]
    fn the_keys_of_google_and_azure_stay_in_their_variables() {
        let key = r#"{"type": "service_account", "project_id": "my-project", "private_key": "hidden"}"#;
        let gcs = of(
            None,
            &[
                ("BACKUP_PROVIDER", "gcs"),
                ("BACKUP_DESTINATION", "bkt/database"),
                ("BACKUP_TOKEN", key),
                ("DATABASE_URL", "sqlite:a.db"),
            ],
        );
        assert!(!format!("{:?}{}", gcs.settings, gcs.problems).contains("hidden"));
        assert_eq!(value(&gcs, "google.project"), pair("\"my-project\"", "environment BACKUP_TOKEN"));
        assert_eq!(value(&gcs, "google.credentials"), pair("\"env:BACKUP_TOKEN\"", "environment BACKUP_TOKEN"));
        let place = value(&gcs, "tiers.daily.destinations[0]");
        assert_eq!(place, pair("\"gs://bkt/database\"", "environment BACKUP_DESTINATION"));

        let azure = of(
            None,
            &[
                ("BACKUP_PROVIDER", "azure"),
                ("BACKUP_DESTINATION", "container/database"),
                ("BACKUP_ACCESS_KEY", "myaccount"),
                ("BACKUP_SECRET_KEY", "hidden"),
                ("DATABASE_URL", "sqlite:a.db"),
            ],
        );
        assert_eq!(value(&azure, "azure.account"), pair("\"myaccount\"", "environment BACKUP_ACCESS_KEY"));
        let credentials = value(&azure, "azure.credentials");
        assert_eq!(credentials, pair("\"env:BACKUP_SECRET_KEY\"", "environment BACKUP_SECRET_KEY"));
    }

    #[test]
    fn every_wrong_variable_is_told_and_nothing_of_a_secret() {
        let wrong = of(
            None,
            &[
                ("BACKUP_PROVIDER", "ftp"),
                ("BACKUP_SCHEDULE", "never"),
                ("BACKUP_RETENTION_DAYS", "0"),
                ("BACKUP_PARALLEL_JOBS", "many"),
                ("BACKUP_DEBUG", "maybe"),
                ("BACKUP_ENCRYPTION", "true"),
                ("DATABASE_URL", "mysql://u:hidden@h/d"),
            ],
        );
        let mut told: Vec<&str> = wrong.problems.iter().map(|problem| problem.path.as_str()).collect();
        told.sort_unstable();
        let expected = [
            "BACKUP_DEBUG",
            "BACKUP_ENCRYPTION",
            "BACKUP_PARALLEL_JOBS",
            "BACKUP_RETENTION_DAYS",
            "source",
            "tiers.daily.destinations",
            "tiers.daily.schedule",
        ];
        assert_eq!(told, expected, "{}", wrong.problems);
        assert!(!wrong.problems.to_string().contains("hidden"));
        let half = of(None, &[("BACKUP_PROVIDER", "s3"), ("BACKUP_ACCESS_KEY", "a"), ("DATABASE_URL", "sqlite:a.db")]);
        let text = half.problems.to_string();
        assert!(
            text.contains("BACKUP_SECRET_KEY: is missing") && text.contains("BACKUP_DESTINATION is missing"),
            "{text}"
        );
    }

    const FILE: &str = r#"
name = "x"
[google]
project = "demo-project"
[[source]]
name = "warehouse"
kind = "bigquery"
dataset = "d"
[tiers.daily]
keep = "30d"
destinations = ["${BACKUP_DIR:-/vault}", "/copy"]
[tiers.weekly]
keep = "84d"
destinations = ["/weekly"]
"#;

    #[test]
    fn flags_go_before_the_environment_which_goes_before_the_file() {
        let variables = |name: &str| match name {
            "BACKUP_RETENTION_DAYS" => Some("60".to_string()),
            "BACKUP_DIR" => Some("/other".into()),
            "BACKUP_PARALLEL_JOBS" => Some("4".into()),
            "DATABASE_URL" => Some("postgresql://u:p@h/d".into()),
            _ => None,
        };
        let flags = ["parallel=3".to_string(), "tiers.weekly.keep=90d".into()];
        let found = read(&Layers { file: Some(FILE), environment: &variables, flags: &flags });
        assert!(found.config.is_some(), "{}", found.problems);
        assert_eq!(value(&found, "parallel"), pair("3", "flag --set"));
        assert_eq!(value(&found, "tiers.weekly.keep"), pair("\"90d\"", "flag --set"));
        assert_eq!(value(&found, "tiers.daily.keep"), pair("\"60d\"", "environment BACKUP_RETENTION_DAYS"));
        // The file says itself what the variable means, and what is backed up.
        let place = value(&found, "tiers.daily.destinations[0]");
        assert_eq!(place, pair("\"/other\"", "file, by environment BACKUP_DIR"));
        assert_eq!(value(&found, "tiers.weekly.destinations[0]"), pair("\"/weekly\"", "file"));
        assert_eq!(value(&found, "source[0].kind"), pair("\"bigquery\"", "file"));
        let place = of(Some(&FILE.replace("${BACKUP_DIR:-/vault}", "/vault")), &[("BACKUP_DIR", "/other")]);
        for (path, at) in [("tiers.daily.destinations[0]", "/other"), ("tiers.weekly.destinations[0]", "/other")] {
            assert_eq!(value(&place, path), pair(&format!("\"{at}\""), "environment BACKUP_DIR"));
        }
        assert_eq!(value(&place, "tiers.daily.destinations[1]"), pair("\"/copy\"", "file"));
    }
}

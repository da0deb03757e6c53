//! The valid configuration, and how it is read from a table.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use toml::{Table, Value};

use super::buckets::{Buckets, read_buckets};
use super::cloud::{Azure, S3, read_azure, read_s3};
use super::drill::{Drill, SecretName, Service, read_drill, read_secrets, read_service};
use super::prices::{Prices, read_prices};
use super::reader::{Problems, Reader};
use super::sealing::{Sealing, read_sealing};
use super::signing::{KeyPlace, Signing, read_signing};
use super::source::{Source, read_source};
use super::tier::{Tier, read_tiers};
use super::worker::{Worker, read_worker};
use crate::model::{BackupName, Period, Place, TierName};

/// A valid configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The system's name: the first part of every backup's name.
    pub name: String,
    /// Where journal, lease and drill reports are kept: by default the daily tier's first destination.
    pub home: Place,
    /// A bucket for files on their way between BigQuery and places that it does not reach; emptied after every run.
    pub staging: Option<Place>,
    pub google: Option<Google>,
    pub s3: S3,
    pub azure: Azure,
    pub sources: Vec<Source>,
    pub ingestion: Ingestion,
    pub tiers: BTreeMap<TierName, Tier>,
    pub buckets: Buckets,
    /// `None`: nothing is said in money.
    pub prices: Option<Prices>,
    pub retention: Retention,
    pub watch: Watch,
    pub recover: Recover,
    pub validation: Option<Queries>,
    pub objectives: Objectives,
    pub drill: Drill,
    pub service: Option<Service>,
    /// Keys that drills look after.
    pub secrets: Vec<SecretName>,
    /// Who signs the catalog; `None`: nobody.
    pub signing: Option<Signing>,
    /// Who can open what is sealed; `None`: no tier is sealed unless it says so.
    pub sealing: Option<Sealing>,
    /// Where the private key is that opens what is sealed.
    pub identity: Option<KeyPlace>,
    pub worker: Worker,
    /// How many tables or objects are worked on at once.
    pub parallel: usize,
}

/// How Google is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Google {
    pub project: String,
    /// `None`: Google's own endpoints. Otherwise one endpoint for all services.
    pub endpoint: Option<String>,
    pub credentials: Credentials,
    /// How long one call may take, from connecting to the answer's last byte.
    pub call_timeout: Period,
    /// How long a stream may bring nothing.
    pub progress_timeout: Period,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    ApplicationDefault,
    Anonymous,
    /// The path of a service account's key file.
    File(String),
    /// The name of a variable of the environment that holds an access token, which is not refreshed.
    Token(String),
}

/// What writes into the sources and is paused while the cut is taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Ingestion {
    /// `projects/P/locations/L/jobs/J` of Cloud Scheduler.
    pub scheduler_jobs: Vec<String>,
    pub drain_timeout: Period,
    pub resume_within: Period,
}

/// What holds for the retention of all tiers.
#[derive(Debug, Clone, PartialEq)]
pub struct Retention {
    /// From condemnation to removal.
    pub grace: Period,
    /// For backups taken by hand.
    pub keep_manual: Period,
    /// For backups before a change, once the change is verified.
    pub keep_pre_change: Period,
    /// For backups in an emergency.
    pub keep_emergency: Period,
    /// In which days, weeks and months begin.
    pub time_zone: TimeZone,
}

/// From when on `status` tells of something.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Watch {
    /// A backup below this part of its tier's median size.
    pub small_below: f64,
    /// Backups that were asked for by hand and expire within this time.
    pub expires_within: Period,
    /// Backups before a change that nobody has verified for so long.
    pub unverified_after: Period,
    /// A scheduled tier of which no backup was verified for so long; `None`: not watched.
    pub verified_within: Option<Period>,
    /// A directory's file system with less free than this part of it.
    pub free_space_below: f64,
}

/// What holds for what dead runs left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recover {
    /// How old garbage must be.
    pub grace: Period,
    /// How long journals of closed runs are kept; those of committed backups as long as the backup.
    pub keep_journals: Period,
}

/// Where the validation queries are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queries {
    /// Those of the ai_usage_analytics dataset, which come with the program.
    Builtin,
    /// A folder of `.sql` files, relative to the configuration's file.
    Folder(String),
}

/// Recovery objectives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Objectives {
    pub rto_critical: Period,
    pub rto_full: Period,
    pub rto_dashboards: Period,
    pub rto_pipeline: Period,
    pub rpo_transactions: Period,
    pub rpo_mappings: Period,
}

pub(super) fn read(table: Table, problems: &mut Problems) -> Option<Config> {
    let mut top = Reader::new("", table, problems);
    let name = top.needed_text("name", "the system's name, such as ai-usage-analytics");
    if let Some(name) = &name
        && let Err(error) = name.parse::<BackupName>()
    {
        top.problem("name", error.to_string());
    }
    let home: Option<Place> = top.parsed("home");
    let staging: Option<Place> = top.parsed("staging");
    let parallel = top.count("parallel", 1..=64).unwrap_or(8);
    let google = top.table("google").and_then(|(path, table)| read_google(&path, table, top.problems()));
    let project = google.as_ref().map(|google| google.project.clone());
    let s3 = top.table("s3").map(|(path, table)| read_s3(&path, table, top.problems())).unwrap_or_default();
    let azure = top.table("azure").map(|(path, table)| read_azure(&path, table, top.problems())).unwrap_or_default();

    let entries = top.tables("source");
    if entries.is_empty() {
        top.problem("source", "is missing; hint: name what is backed up in one or more [[source]] tables");
    }
    let mut sources: Vec<Source> = Vec::new();
    for (path, table) in entries {
        if let Some(source) = read_source(&path, table, project.as_deref(), top.problems()) {
            if sources.iter().any(|other| other.name == source.name) {
                top.problems().add(&format!("{path}.name"), format!("'{}' names two sources", source.name));
            }
            sources.push(source);
        }
    }
    if google.is_none() && sources.iter().any(|source| source.kind.is_google()) {
        top.problem("google", "is missing; hint: [google] project = \"...\"");
    }

    let ingestion = match top.table("ingestion") {
        Some((path, table)) => read_ingestion(&path, table, top.problems()),
        None => read_ingestion("ingestion", Table::new(), top.problems()),
    };
    let sealing = top.table("sealing").map(|(path, table)| read_sealing(&path, table, top.problems()));
    let tiers = match top.table("tiers") {
        Some((path, table)) if !table.is_empty() => read_tiers(&path, table, sealing.as_ref(), top.problems()),
        _ => {
            top.problem("tiers", "is missing; hint: [tiers.daily] keep = \"30d\", destinations = [\"gs://bucket\"]");
            BTreeMap::new()
        }
    };
    let buckets =
        top.table("buckets").map(|(path, table)| read_buckets(&path, table, top.problems())).unwrap_or_default();
    let prices = top.table("prices").map(|(path, table)| read_prices(&path, table, top.problems()));
    let retention = match top.table("retention") {
        Some((path, table)) => read_retention(&path, table, top.problems()),
        None => read_retention("retention", Table::new(), top.problems()),
    };
    let watch = match top.table("watch") {
        Some((path, table)) => read_watch(&path, table, top.problems()),
        None => read_watch("watch", Table::new(), top.problems()),
    };
    let recover = match top.table("recover") {
        Some((path, table)) => read_recover(&path, table, top.problems()),
        None => read_recover("recover", Table::new(), top.problems()),
    };
    let validation = top.table("validation").and_then(|(path, table)| {
        let mut reader = Reader::new(&path, table, top.problems());
        let queries =
            reader.needed_text("queries", "a folder of .sql files, or \"builtin\"").map(|text| match text.as_str() {
                "builtin" => Queries::Builtin,
                _ => Queries::Folder(text),
            });
        reader.finish();
        queries
    });
    let objectives = match top.table("objectives") {
        Some((path, table)) => read_objectives(&path, table, top.problems()),
        None => read_objectives("objectives", Table::new(), top.problems()),
    };
    let drill = top.table("drill").map(|(path, table)| read_drill(&path, table, top.problems())).unwrap_or_default();
    let service = top.table("service").and_then(|(path, table)| read_service(&path, table, top.problems()));
    let secrets =
        top.table("secrets").map(|(path, table)| read_secrets(&path, table, top.problems())).unwrap_or_default();
    let signing = top.table("signing").and_then(|(path, table)| read_signing(&path, table, top.problems()));
    let worker = top.table("worker").map(|(path, table)| read_worker(&path, table, top.problems())).unwrap_or_default();
    top.finish();

    let home = home.or_else(|| {
        let tier = tiers.iter().find(|(name, _)| name.as_str() == "daily").or_else(|| tiers.iter().next())?.1;
        tier.destinations.first().map(|destination| destination.place.clone())
    })?;
    let lasting = tiers.values().flat_map(Tier::places).chain([&home]);
    let staging = staging.filter(|staging| check_staging(staging, lasting, problems));
    Some(Config {
        name: name?,
        home,
        staging,
        google,
        s3,
        azure,
        sources,
        ingestion,
        tiers,
        buckets,
        prices,
        retention,
        watch,
        recover,
        validation,
        objectives,
        drill,
        service,
        secrets,
        signing,
        identity: sealing.as_ref().and_then(|sealing| sealing.identity.clone()),
        sealing,
        worker,
        parallel: usize::try_from(parallel).unwrap_or(8),
    })
}

/// Whether a place can be staging: everything in it is removed, so nothing that lasts may lie there.
fn check_staging<'a>(staging: &Place, lasting: impl Iterator<Item = &'a Place>, problems: &mut Problems) -> bool {
    let Place::Gcs { .. } = staging else {
        let message = format!("{staging} is no bucket of Cloud Storage; hint: BigQuery writes into gs://bucket/prefix");
        problems.add("staging", message);
        return false;
    };
    let root = |place: &Place| format!("{}/", place.to_string().trim_end_matches('/'));
    let meets = |place: &&Place| root(place).starts_with(&root(staging)) || root(staging).starts_with(&root(place));
    if let Some(place) = { lasting }.find(meets) {
        let message =
            format!("{staging} and {place} lie in each other; hint: staging is emptied, give it a prefix of its own");
        problems.add("staging", message);
        return false;
    }
    true
}

fn read_google(path: &str, table: Table, problems: &mut Problems) -> Option<Google> {
    let mut reader = Reader::new(path, table, problems);
    let project = reader.needed_text("project", "the id of the Google Cloud project");
    let endpoint = reader.text("endpoint");
    if let Some(endpoint) = &endpoint {
        let ok = url::Url::parse(endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        // What is in it is not repeated: a password may be, at a wrong place.
        if !ok {
            reader.problem("endpoint", "is no URL; hint: http://127.0.0.1:9050, or leave it empty for Google");
        } else if url::Url::parse(endpoint).is_ok_and(|url| !url.username().is_empty() || url.password().is_some()) {
            reader.problem("endpoint", "has credentials in it; hint: they belong into google.credentials");
        }
    }
    let credentials = match reader.text("credentials").as_deref() {
        None | Some("application_default") => Credentials::ApplicationDefault,
        Some("anonymous") => Credentials::Anonymous,
        Some(text) if text.starts_with("env:") => Credentials::Token(text["env:".len()..].into()),
        // The key itself, or a token: the path of a file has no braces, line breaks or `BEGIN`.
        Some(text) if text.contains(['{', '\n']) || text.contains("-----BEGIN") || text.starts_with("ya29.") => {
            reader.problem("credentials", "is a secret itself; hint: put the key into a file and name the file");
            Credentials::Anonymous
        }
        Some(file) => Credentials::File(file.into()),
    };
    let call_timeout = reader.parsed("call_timeout").unwrap_or(Period::seconds(120));
    let progress_timeout = reader.parsed("progress_timeout").unwrap_or(Period::seconds(60));
    for (key, timeout) in [("call_timeout", call_timeout), ("progress_timeout", progress_timeout)] {
        if timeout.as_secs() == 0 {
            reader.problem(key, "must be longer than nothing; hint: 2m");
        }
    }
    reader.finish();
    Some(Google { project: project?, endpoint, credentials, call_timeout, progress_timeout })
}

fn read_ingestion(path: &str, table: Table, problems: &mut Problems) -> Ingestion {
    let mut reader = Reader::new(path, table, problems);
    let scheduler_jobs = reader.texts("scheduler_jobs").unwrap_or_default();
    for (i, job) in scheduler_jobs.iter().enumerate() {
        let parts: Vec<&str> = job.split('/').collect();
        if !matches!(parts.as_slice(), ["projects", p, "locations", l, "jobs", j] if !p.is_empty() && !l.is_empty() && !j.is_empty())
        {
            let path = format!("{}[{i}]", reader.path_of("scheduler_jobs"));
            reader.problems().add(&path, format!("'{job}' is no job's name; hint: projects/P/locations/L/jobs/J"));
        }
    }
    let drain_timeout = reader.parsed("drain_timeout").unwrap_or(Period::seconds(600));
    let resume_within = reader.parsed("resume_within").unwrap_or(Period::seconds(1800));
    if resume_within <= drain_timeout {
        reader.problem("resume_within", format!("must be longer than drain_timeout ({drain_timeout})"));
    }
    reader.finish();
    Ingestion { scheduler_jobs, drain_timeout, resume_within }
}

fn read_retention(path: &str, table: Table, problems: &mut Problems) -> Retention {
    let mut reader = Reader::new(path, table, problems);
    let grace = reader.parsed("grace").unwrap_or(Period::days(7));
    let keep_manual = reader.parsed("keep_manual").unwrap_or(Period::days(90));
    let keep_pre_change = reader.parsed("keep_pre_change").unwrap_or(Period::days(30));
    let keep_emergency = reader.parsed("keep_emergency").unwrap_or(Period::days(90));
    let zone = reader.text("time_zone").unwrap_or_else(|| "UTC".into());
    let time_zone = TimeZone::get(&zone).unwrap_or_else(|_| {
        reader.problem("time_zone", format!("'{zone}' is no time zone; hint: UTC, or such as Europe/Berlin"));
        TimeZone::UTC
    });
    reader.finish();
    Retention { grace, keep_manual, keep_pre_change, keep_emergency, time_zone }
}

fn read_watch(path: &str, table: Table, problems: &mut Problems) -> Watch {
    let mut reader = Reader::new(path, table, problems);
    let part = |reader: &mut Reader<'_>, key, default| match reader.take(key) {
        None => default,
        Some(Value::Float(part)) if (0.0..=1.0).contains(&part) => part,
        Some(Value::Integer(0)) => 0.0,
        Some(Value::Integer(1)) => 1.0,
        Some(_) => {
            reader.problem(key, "must be a part of the whole; hint: from 0.0 (never) to 1.0");
            default
        }
    };
    let watch = Watch {
        small_below: part(&mut reader, "small_below", 0.5),
        expires_within: reader.parsed("expires_within").unwrap_or(Period::days(7)),
        unverified_after: reader.parsed("unverified_after").unwrap_or(Period::days(7)),
        verified_within: reader.parsed("verified_within"),
        free_space_below: part(&mut reader, "free_space_below", 0.1),
    };
    reader.finish();
    watch
}

fn read_recover(path: &str, table: Table, problems: &mut Problems) -> Recover {
    let mut reader = Reader::new(path, table, problems);
    let recover = Recover {
        grace: reader.parsed("grace").unwrap_or(Period::days(1)),
        keep_journals: reader.parsed("keep_journals").unwrap_or(Period::days(90)),
    };
    reader.finish();
    recover
}

fn read_objectives(path: &str, table: Table, problems: &mut Problems) -> Objectives {
    let mut reader = Reader::new(path, table, problems);
    let mut period = |key, default| reader.parsed(key).unwrap_or(Period::seconds(default));
    let objectives = Objectives {
        rto_critical: period("rto_critical", 2 * 3600),
        rto_full: period("rto_full", 4 * 3600),
        rto_dashboards: period("rto_dashboards", 3600),
        rto_pipeline: period("rto_pipeline", 1800),
        rpo_transactions: period("rpo_transactions", 86_400),
        rpo_mappings: period("rpo_mappings", 3600),
    };
    reader.finish();
    objectives
}

//! The tiers: how often, how long, in which form and where backups are kept.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::drill::is_name;
use super::reader::{Problems, Reader};
use crate::model::{Period, Place, Schedule, StorageClass, TierName};

/// A tier of backups.
#[derive(Debug, Clone, PartialEq)]
pub struct Tier {
    /// When its backups are taken, on the clocks of `retention.time_zone`.
    pub schedule: Option<Schedule>,
    pub keep: Keep,
    pub format: TableFormat,
    /// The first is the primary, the others are copies. Never empty.
    pub destinations: Vec<Destination>,
    pub copies: CopyPolicy,
    /// How long a backup may take before somebody is told.
    pub max_duration: Option<Period>,
}

/// How many whole copies of each backup there must be, on how many kinds of storage, how many of them offsite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyPolicy {
    pub count: u32,
    pub kinds: u32,
    pub offsite: u32,
}

impl Default for CopyPolicy {
    /// One copy, wherever it is.
    fn default() -> Self {
        Self { count: 1, kinds: 1, offsite: 0 }
    }
}

/// A place of a tier's backups, and how they are kept in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    pub place: Place,
    /// Whoever takes backups may only create objects here, and sees nothing of what is there.
    pub create_only: bool,
    /// `None`: the bucket's own.
    pub storage_class: Option<StorageClass>,
    /// The bucket's customer-managed key, `projects/P/locations/L/keyRings/R/cryptoKeys/K`; `None`: as it is.
    pub kms_key: Option<String>,
    /// For so long nobody can delete an object, and for ever so once the bucket is locked.
    pub retention_lock: Option<Period>,
    /// Whether it is away from what is backed up; `None`: buckets are, directories are not.
    pub offsite: Option<bool>,
    /// What it is lost together with; `None`: what is of its kind in its location.
    pub domain: Option<String>,
}

impl Destination {
    pub fn is_offsite(&self) -> bool {
        self.offsite.unwrap_or(!matches!(self.place, Place::Local { .. }))
    }
}

impl From<Place> for Destination {
    fn from(place: Place) -> Self {
        Self {
            place,
            create_only: false,
            storage_class: None,
            kms_key: None,
            retention_lock: None,
            offsite: None,
            domain: None,
        }
    }
}

impl Tier {
    /// The places that whoever takes backups can read, too.
    pub fn readable(&self) -> impl Iterator<Item = &Place> {
        self.destinations.iter().filter(|destination| !destination.create_only).map(|destination| &destination.place)
    }

    /// Where its backups lie, the primary first.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.destinations.iter().map(|destination| &destination.place)
    }
}

/// How long a tier's backups are kept: as long as any of these keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// All backups of so long before the newest.
    pub within: Period,
    /// The newest ones.
    pub last: u32,
    /// The newest of each of so many days, ISO weeks, months, years that have one.
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
    pub yearly: u32,
}

/// The format of a table's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableFormat {
    Avro,
    Parquet,
}

impl TableFormat {
    /// The ending of a file's name.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Avro => "avro",
            Self::Parquet => "parquet",
        }
    }
}

pub(super) fn read_tiers(path: &str, table: Table, problems: &mut Problems) -> BTreeMap<TierName, Tier> {
    let mut tiers = BTreeMap::new();
    for (key, value) in table {
        let path = format!("{path}.{key}");
        let (name, Value::Table(table)) = (key.parse::<TierName>(), value) else {
            problems.add(&path, "must be a table with a name of letters, digits, '-' and '_'");
            continue;
        };
        let tier = read_tier(&path, table, problems);
        match (name, tier) {
            (Ok(name), Some(tier)) => {
                tiers.insert(name, tier);
            }
            (Err(error), _) => problems.add(&path, error.to_string()),
            (Ok(_), None) => {}
        }
    }
    tiers
}

fn read_tier(path: &str, table: Table, problems: &mut Problems) -> Option<Tier> {
    let mut reader = Reader::new(path, table, problems);
    let schedule = reader.parsed("schedule");
    let keep = match reader.needed_text("keep", "how long backups are kept, such as \"30d\"") {
        None => None,
        Some(text) => match text.parse::<Period>() {
            Ok(period) => Some(period),
            Err(error) => {
                reader.problem("keep", error.to_string());
                None
            }
        },
    };
    let mut count = |key| reader.count(key, 0..=100_000).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let (last, daily, weekly) = (count("keep_last"), count("keep_daily"), count("keep_weekly"));
    let (monthly, yearly) = (count("keep_monthly"), count("keep_yearly"));
    let keep = keep.map(|within| Keep { within, last, daily, weekly, monthly, yearly });
    let format = match reader.text("format").as_deref() {
        None | Some("avro") => TableFormat::Avro,
        Some("parquet") => TableFormat::Parquet,
        Some(other) => {
            reader.problem("format", format!("'{other}' is no format; hint: avro or parquet"));
            TableFormat::Avro
        }
    };
    let destinations = read_destinations(&mut reader);
    let copies = reader.table("copies").map(|(path, table)| read_copies(&path, table, reader.problems()));
    let max_duration = reader.parsed("max_duration");
    reader.finish();
    if destinations.is_empty() {
        return None;
    }
    Some(Tier { schedule, keep: keep?, format, destinations, copies: copies.unwrap_or_default(), max_duration })
}

fn read_copies(path: &str, table: Table, problems: &mut Problems) -> CopyPolicy {
    let mut reader = Reader::new(path, table, problems);
    let mut count =
        |key, least: u64, default| reader.count(key, least..=16).and_then(|n| u32::try_from(n).ok()).unwrap_or(default);
    let policy =
        CopyPolicy { count: count("count", 1, 1), kinds: count("kinds", 1, 1), offsite: count("offsite", 0, 0) };
    if policy.kinds > policy.count || policy.offsite > policy.count {
        reader.problem("count", "must not be less than kinds or offsite; hint: { count = 3, kinds = 2, offsite = 1 }");
    }
    reader.finish();
    policy
}

/// Each is a text, or a table with a `place`.
fn read_destinations(reader: &mut Reader) -> Vec<Destination> {
    let path = reader.path_of("destinations");
    let entries = match reader.take("destinations") {
        Some(Value::Array(entries)) if !entries.is_empty() => entries,
        None | Some(Value::Array(_)) => {
            let message = "is missing; hint: [\"gs://bucket/prefix\"], the first is the primary";
            reader.problem("destinations", message);
            return Vec::new();
        }
        Some(_) => {
            reader.problem("destinations", "must be a list; hint: [\"gs://bucket/prefix\"]");
            return Vec::new();
        }
    };
    let mut destinations: Vec<Destination> = Vec::new();
    for (i, entry) in entries.into_iter().enumerate() {
        let path = format!("{path}[{i}]");
        let read = match entry {
            Value::String(text) => match text.parse::<Place>() {
                Ok(place) => Some(Destination::from(place)),
                Err(error) => {
                    reader.problems().add(&path, error.to_string());
                    None
                }
            },
            Value::Table(table) => read_destination(&path, table, reader.problems()),
            _ => {
                reader.problems().add(&path, "must be a text or a table; hint: { place = \"gs://bucket/prefix\" }");
                None
            }
        };
        match read {
            Some(read) if destinations.iter().any(|other| other.place == read.place) => {
                reader.problems().add(&path, format!("{} is named twice: that is one copy", read.place));
            }
            read => destinations.extend(read),
        }
    }
    destinations
}

fn read_destination(path: &str, table: Table, problems: &mut Problems) -> Option<Destination> {
    let mut reader = Reader::new(path, table, problems);
    let place = match reader.needed_text("place", "gs://bucket/prefix, or the path of a directory") {
        None => None,
        Some(text) => match text.parse() {
            Ok(place) => Some(place),
            Err(error) => {
                reader.problem("place", format!("{error}"));
                None
            }
        },
    };
    let storage_class = reader.text("storage_class").zip(place.as_ref()).and_then(|(text, place)| {
        StorageClass::of(place, &text).map_err(|error| reader.problem("storage_class", error.to_string())).ok()
    });
    let kms_key = reader.text("kms_key");
    let key_parts = ["projects", "locations", "keyRings", "cryptoKeys"];
    if kms_key.as_ref().is_some_and(|key| !is_name(key, &key_parts)) {
        reader.problem("kms_key", "is no key's name; hint: projects/P/locations/L/keyRings/R/cryptoKeys/K");
    }
    let retention_lock = reader.parsed("retention_lock");
    let create_only = reader.flag("create_only").unwrap_or(false);
    let bucket = matches!(place, None | Some(Place::Gcs { .. }));
    for (key, there) in [("kms_key", kms_key.is_some()), ("retention_lock", retention_lock.is_some())] {
        if there && !bucket {
            reader.problem(key, "is a setting of Cloud Storage's buckets; hint: set it by the provider's own tools");
        }
    }
    let offsite = match reader.take("offsite") {
        None => None,
        Some(Value::Boolean(offsite)) => Some(offsite),
        Some(_) => {
            reader.problem("offsite", "must be true or false");
            None
        }
    };
    let domain = reader.text("domain");
    reader.finish();
    Some(Destination { place: place?, create_only, storage_class, kms_key, retention_lock, offsite, domain })
}

//! The example configurations, which `strongroom init` writes.

/// A profile's name, what it is for, and its configuration.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    pub name: &'static str,
    pub what: &'static str,
    pub text: &'static str,
}

macro_rules! profiles {
    ($($name:literal: $what:literal),* $(,)?) => {
        &[$(Profile { name: $name, what: $what, text: include_str!(concat!("../../examples/", $name, ".toml")) }),*]
    };
}

/// Every profile that comes with the program.
pub const PROFILES: &[Profile] = profiles![
    "ai-usage-analytics": "BigQuery and Google Sheets, ingestion paused for the cut, three tiers in Cloud Storage",
    "usage-meter": "records of usage in PostgreSQL or SQLite, without who they are of; off by default",
    "three-two-one": "files and SQLite databases of one machine: three copies, two kinds of storage, one offsite",
    "brownie": "one PostgreSQL database with its roles, every night, kept for thirty days",
    "tellbill": "one PostgreSQL database: daily, weekly and monthly dumps in a directory, rows as files for queries",
];

/// The profile of a name.
pub fn profile(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}

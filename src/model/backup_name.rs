//! Names of backups and tiers: safe as a part of an object's key and of a file's path.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::InvalidName;

/// The name of a backup: `{name}_{tier}_backup_{YYYY-MM-DDTHH-mm-ssZ}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BackupName(String);

/// The name of a tier: `daily`, `weekly`, `monthly`, or a user's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TierName(String);

const HINT: &str = "letters, digits, '-', '_' and '.', not beginning with '.' or '_', at most 200";

fn check(what: &'static str, text: &str) -> Result<(), InvalidName> {
    let ok = (1..=200).contains(&text.len())
        && !text.starts_with(['.', '_'])
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if ok { Ok(()) } else { Err(InvalidName { what, text: text.into(), hint: HINT }) }
}

impl BackupName {
    /// The name of a backup of `system` in `tier` whose run began `at`.
    ///
    /// # Errors
    /// When `system` holds characters that a name may not.
    pub fn scheduled(system: &str, tier: &TierName, at: Timestamp) -> Result<Self, InvalidName> {
        let at = at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H-%M-%SZ");
        format!("{system}_{tier}_backup_{at}").parse()
    }

    /// The name of a manual backup: `{YYYYMMDD_HHMM}_{description}`, with `_` for what a name may not hold.
    ///
    /// # Errors
    /// When the description is longer than a name may be.
    pub fn manual(description: &str, at: Timestamp) -> Result<Self, InvalidName> {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c } else { '_' };
        let description: String = description.trim().chars().map(plain).collect();
        let at = at.to_zoned(TimeZone::UTC).strftime("%Y%m%d_%H%M");
        format!("{at}_{description}").parse()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TierName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for TierName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for BackupName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        check("backup's name", text)?;
        Ok(Self(text.into()))
    }
}

impl FromStr for TierName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        check("tier's name", text)?;
        Ok(Self(text.into()))
    }
}

impl From<BackupName> for String {
    fn from(name: BackupName) -> Self {
        name.0
    }
}

impl TryFrom<String> for BackupName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<TierName> for String {
    fn from(name: TierName) -> Self {
        name.0
    }
}

impl TryFrom<String> for TierName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduled_name_says_system_tier_and_time() {
        let at: Timestamp = "2026-08-01T02:00:00Z".parse().unwrap();
        let name = BackupName::scheduled("ai-usage-analytics", &"daily".parse().unwrap(), at).unwrap();
        assert_eq!(name.as_str(), "ai-usage-analytics_daily_backup_2026-08-01T02-00-00Z");
    }

    #[test]
    fn a_manual_name_says_time_and_purpose() {
        let at: Timestamp = "2026-08-01T02:03:04Z".parse().unwrap();
        let name = BackupName::manual("before ../ the é move", at).unwrap();
        assert_eq!(name.as_str(), "20260801_0203_before_..__the___move");
        assert!(BackupName::manual(&"x".repeat(300), at).is_err());
    }

    #[test]
    fn a_name_that_could_leave_its_folder_is_refused() {
        for text in ["", "..", "../x", "a/b", "_strongroom", "a b", "a\u{0}"] {
            assert!(text.parse::<BackupName>().is_err(), "{text:?}");
        }
    }
}

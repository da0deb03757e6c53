//! What of the backups a person should look at before it matters: sizes out of line, slow runs, backups that end or that nobody
//! has verified, disks that fill. Pure: what was seen is an argument.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::config::{Tier, Watch};
use crate::model::{BackupName, Kind, Period, TierName};

/// How many earlier backups of a tier a size is held against, and how many there must be.
const HISTORY: usize = 30;
const LEAST: usize = 3;

/// A backup as it is watched.
#[derive(Debug, Clone, PartialEq)]
pub struct Watched {
    pub name: BackupName,
    pub tier: TierName,
    pub kind: Option<Kind>,
    pub started_at: Timestamp,
    pub committed_at: Timestamp,
    pub size_bytes: u64,
    pub verified_at: Option<Timestamp>,
    pub approved: bool,
    /// When the rules for backups by hand, or a pin, let it go; `None`: not by themselves.
    pub expires: Option<Timestamp>,
}

/// A directory's file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceFacts {
    pub place: String,
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alert {
    pub kind: AlertKind,
    /// A backup, a tier or a place.
    pub object: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    AbnormalSize,
    SlowBackup,
    LowSpace,
    Expiring,
    Unverified,
}

impl AlertKind {
    pub const ALL: [Self; 5] = [Self::AbnormalSize, Self::SlowBackup, Self::LowSpace, Self::Expiring, Self::Unverified];

    pub const fn name(self) -> &'static str {
        match self {
            Self::AbnormalSize => "abnormal_size",
            Self::SlowBackup => "slow_backup",
            Self::LowSpace => "low_space",
            Self::Expiring => "expiring",
            Self::Unverified => "unverified",
        }
    }
}

impl std::fmt::Display for Alert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.object, self.message)
    }
}

/// Looks. `backups` are the newest first.
pub fn alerts(
    (watch, tiers): (&Watch, &BTreeMap<TierName, Tier>),
    backups: &[Watched],
    spaces: &[SpaceFacts],
    now: Timestamp,
) -> Vec<Alert> {
    let mut alerts = Vec::new();
    for (name, tier) in tiers {
        let of_tier: Vec<&Watched> = backups.iter().filter(|backup| backup.tier == *name).collect();
        alerts.extend(of_tier.first().and_then(|newest| abnormal(watch, newest, &of_tier[1..])));
        alerts.extend(of_tier.first().and_then(|newest| slow(tier.max_duration?, newest)));
        alerts.extend(never_verified(watch, name, tier, &of_tier, now));
    }
    for backup in backups {
        alerts.extend(expiring(watch, backup, now));
        alerts.extend(pending(watch, backup, now));
    }
    alerts.extend(spaces.iter().filter_map(|space| low(watch, space)));
    alerts
}

fn alert(kind: AlertKind, object: impl ToString, message: String) -> Alert {
    Alert { kind, object: object.to_string(), message }
}

/// The newest backup far below the median of those before it.
#[allow(clippy::cast_precision_loss)] // a part of a median
fn abnormal(watch: &Watch, newest: &Watched, earlier: &[&Watched]) -> Option<Alert> {
    let mut sizes: Vec<u64> = earlier.iter().take(HISTORY).map(|backup| backup.size_bytes).collect();
    if sizes.len() < LEAST {
        return None;
    }
    sizes.sort_unstable();
    let median = sizes[sizes.len() / 2];
    let least = median as f64 * watch.small_below;
    let per_cent = newest.size_bytes.saturating_mul(100).checked_div(median)?;
    (least > newest.size_bytes as f64).then(|| {
        let message = format!(
            "{} bytes are {per_cent} % of the tier's median ({median}): has something been lost? hint: strongroom show {}",
            newest.size_bytes, newest.name
        );
        alert(AlertKind::AbnormalSize, &newest.name, message)
    })
}

fn slow(limit: Period, newest: &Watched) -> Option<Alert> {
    let took = newest.committed_at.duration_since(newest.started_at);
    (took > length(limit)).then(|| {
        let message = format!("took {} s, more than the tier's max_duration of {limit}", took.as_secs());
        alert(AlertKind::SlowBackup, &newest.name, message)
    })
}

/// A scheduled tier's backups go as others come; only what somebody asked for, or has pinned, ends unnoticed.
fn expiring(watch: &Watch, backup: &Watched, now: Timestamp) -> Option<Alert> {
    let until = backup.expires?;
    let left = until.duration_since(now);
    (left > SignedDuration::ZERO && left <= length(watch.expires_within)).then(|| {
        let day = until.strftime("%Y-%m-%d");
        let message = format!("is kept to {day} only; hint: strongroom pin {}, if it is still needed", backup.name);
        alert(AlertKind::Expiring, &backup.name, message)
    })
}

fn pending(watch: &Watch, backup: &Watched, now: Timestamp) -> Option<Alert> {
    let waits = backup.kind == Some(Kind::PreChange) && !backup.approved;
    let age = now.duration_since(backup.started_at);
    (waits && age > length(watch.unverified_after)).then(|| {
        let days = age.as_hours() / 24;
        let message = format!("its change is not verified after {days} days; hint: strongroom approve {}", backup.name);
        alert(AlertKind::Unverified, &backup.name, message)
    })
}

fn never_verified(watch: &Watch, name: &TierName, tier: &Tier, of_tier: &[&Watched], now: Timestamp) -> Option<Alert> {
    let within = watch.verified_within?;
    let oldest = of_tier.last()?.started_at;
    let last = of_tier.iter().filter_map(|backup| backup.verified_at).max();
    let since = now.duration_since(last.unwrap_or(oldest));
    (tier.schedule.is_some() && since > length(within)).then(|| {
        let last = last.map_or("never was".into(), |at| format!("was last {}", at.strftime("%Y-%m-%d")));
        let message =
            format!("no backup was proven within {within} (one {last}); hint: strongroom drill --tier {name}");
        alert(AlertKind::Unverified, format!("tier {name}"), message)
    })
}

#[allow(clippy::cast_precision_loss)] // a part of a disk
fn low(watch: &Watch, space: &SpaceFacts) -> Option<Alert> {
    let least = space.total_bytes as f64 * watch.free_space_below;
    (least > space.free_bytes as f64).then(|| {
        let per_cent = space.free_bytes.saturating_mul(100).checked_div(space.total_bytes).unwrap_or(0);
        let message = format!("{per_cent} % of its file system are free ({} bytes)", space.free_bytes);
        alert(AlertKind::LowSpace, &space.place, message)
    })
}

fn length(period: Period) -> SignedDuration {
    SignedDuration::try_from(period.as_duration()).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIERS: &str = "name = 'x'\n[google]\nproject = 'p-1'\n[[source]]\nname = 's'\nkind = 'sheets'\nspreadsheet = 'y'\n\
        [tiers.daily]\nkeep = '30d'\nschedule = '0 2 * * *'\nmax_duration = '10m'\ndestinations = ['gs://one']\n";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn backup(day: i8, size_bytes: u64) -> Watched {
        let started_at = at(&format!("2026-08-{day:02}T02:00:00Z"));
        Watched {
            name: format!("b{day}").parse().unwrap(),
            tier: "daily".parse().unwrap(),
            kind: None,
            started_at,
            committed_at: started_at + SignedDuration::from_mins(2),
            size_bytes,
            verified_at: None,
            approved: false,
            expires: None,
        }
    }

    fn told(watch: &str, backups: &[Watched], spaces: &[SpaceFacts]) -> Vec<(AlertKind, String)> {
        let config = crate::config::parse(&format!("{TIERS}{watch}"), &|_| None).unwrap();
        let alerts = alerts((&config.watch, &config.tiers), backups, spaces, at("2026-08-20T03:00:00Z"));
        alerts.into_iter().map(|alert| (alert.kind, alert.object)).collect()
    }

    #[test]
    fn only_what_is_out_of_line_is_told() {
        let sizes = |newest| vec![backup(20, newest), backup(19, 110), backup(18, 100), backup(17, 90), backup(16, 5)];
        assert_eq!(told("", &sizes(60), &[]), []);
        assert_eq!(told("", &sizes(44), &[]), [(AlertKind::AbnormalSize, "b20".into())]);
        assert_eq!(told("[watch]\nsmall_below = 0.3\n", &sizes(44), &[]), []);
        assert_eq!(told("", &sizes(0)[..3], &[]), [], "two say nothing of what is usual");
        assert_eq!(told("", &[backup(20, 0), backup(19, 0), backup(18, 0), backup(17, 0)], &[]), []);
    }

    #[test]
    fn slow_expiring_and_unverified_ones_are_told() {
        let mut slow = backup(20, 1);
        slow.committed_at = slow.started_at + SignedDuration::from_mins(11);
        assert_eq!(told("", &[slow], &[]), [(AlertKind::SlowBackup, "b20".into())]);
        let ending = |until| Watched { expires: Some(at(until)), ..backup(1, 1) };
        assert_eq!(told("", &[ending("2026-08-27T02:00:00Z")], &[]), [(AlertKind::Expiring, "b1".into())]);
        assert_eq!(told("", &[ending("2026-08-27T04:00:00Z")], &[]), []);
        assert_eq!(told("", &[ending("2026-08-20T02:00:00Z")], &[]), [], "it has expired");
        let change = |day, approved| Watched { kind: Some(Kind::PreChange), approved, ..backup(day, 1) };
        assert_eq!(told("", &[change(10, false)], &[]), [(AlertKind::Unverified, "b10".into())]);
        assert_eq!(told("", &[change(15, false), change(10, true)], &[]), []);
        let proven = Watched { verified_at: Some(at("2026-08-01T00:00:00Z")), ..backup(20, 1) };
        let within = "[watch]\nverified_within = '14d'\n";
        assert_eq!(told(within, &[proven], &[]), [(AlertKind::Unverified, "tier daily".into())]);
        assert_eq!(told(within, &[backup(19, 1)], &[]), [], "it is young");
    }

    #[test]
    fn a_disk_that_fills_is_told() {
        let space = |free_bytes| SpaceFacts { place: "/b".into(), free_bytes, total_bytes: 1000 };
        assert_eq!(told("", &[], &[space(99)]), [(AlertKind::LowSpace, "/b".into())]);
        assert_eq!(told("", &[], &[space(100)]), []);
    }
}

//! Which backups are kept, and why. Removal takes two runs: a backup is condemned first, and removed when the time of grace
//! is over; until then it can be restored, pinned, and is pardoned by itself when a rule keeps it again.
//!
//! Rules are counted back from the newest backup of the tier, not from today: when backups stop, or a clock runs ahead,
//! nothing gets old. (So does restic, <https://restic.readthedocs.io/en/stable/060_forget.html>.)

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::civil::{Date, ISOWeekDate};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::config::{Keep, Retention};
use crate::model::{BackupName, Kind, Period, TierName};

/// How far ahead of this machine's clock a backup may be dated without being doubted.
pub(super) const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(10);

/// What is known of a backup.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub name: BackupName,
    pub tier: TierName,
    /// When its run began.
    pub taken_at: Timestamp,
    pub size_bytes: u64,
    /// Taken by hand, for a purpose: the tier's counts pass over it.
    pub kind: Option<Kind>,
    /// What its creator said, instead of what the configuration says for its kind.
    pub keep: Option<Period>,
    /// When somebody said that the change is verified before which it was taken.
    pub approved_at: Option<Timestamp>,
    pub verified: bool,
    /// A source that was full in the backup before was found empty in this one: somebody must look.
    pub emptied: bool,
    pub pinned: Option<Pin>,
    pub condemned: Option<Sentence>,
    /// Backups whose objects this one is made of, beside its own.
    pub references: BTreeSet<BackupName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    pub by: String,
    /// `None`: until it is unpinned.
    pub until: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sentence {
    pub at: Timestamp,
    /// By a person: no rule of the tier keeps it.
    pub by_hand: bool,
}

impl Pin {
    fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl Candidate {
    /// A person wants it gone, and nobody wants it kept: that something still needs it is no pardon.
    fn given_up(&self, now: Timestamp) -> bool {
        self.condemned.is_some_and(|sentence| sentence.by_hand)
            && !self.pinned.as_ref().is_some_and(|pin| pin.holds(now))
    }
}

/// Everything that retention decides on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    pub candidates: Vec<Candidate>,
    /// Manifests that cannot be read: what they refer to is not known, so nothing is removed.
    pub unreadable: Vec<String>,
    /// What in the catalog is not believed, and is therefore no candidate: while there is any, nothing is removed.
    pub doubts: Vec<String>,
}

/// What is done about every backup, the newest first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RetentionPlan {
    pub at: Timestamp,
    pub decisions: Vec<Decision>,
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    pub backup: BackupName,
    pub tier: TierName,
    pub taken_at: Timestamp,
    pub size_bytes: u64,
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Backups that are made of objects in this one's folder: when it goes, those objects stay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub part_of: Vec<BackupName>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    Keep {
        reasons: Vec<Reason>,
        /// It was condemned, and is not any more.
        pardoned: bool,
    },
    /// No rule keeps it: it is condemned now.
    Condemn { removed_from: Timestamp },
    /// It is condemned, and not removed yet.
    Wait { removed_from: Timestamp },
    /// It was condemned long enough ago.
    Remove { condemned_at: Timestamp },
}

/// Why a backup is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    LastOfTier,
    LastVerified,
    Last {
        nth: u32,
    },
    Within {
        until: Timestamp,
    },
    Daily {
        day: Date,
    },
    Weekly {
        year: i16,
        week: i8,
    },
    Monthly {
        year: i16,
        month: i8,
    },
    Yearly {
        year: i16,
    },
    Manual {
        until: Timestamp,
    },
    Emergency {
        until: Timestamp,
    },
    /// Nobody has said yet that the change is verified.
    UnverifiedChange,
    VerifiedChange {
        until: Timestamp,
    },
    Pinned {
        by: String,
        until: Option<Timestamp>,
    },
    /// A source was found empty in it.
    Emptied,
    /// The last one before a source was found empty.
    LastFull {
        before: BackupName,
    },
    FromTheFuture,
    UnknownTier,
}

impl RetentionPlan {
    pub fn of<'a>(&'a self, wanted: impl Fn(&Verdict) -> bool + 'a) -> impl Iterator<Item = &'a Decision> {
        self.decisions.iter().filter(move |decision| wanted(&decision.verdict))
    }

    /// Those to remove.
    pub fn removals(&self) -> impl Iterator<Item = &Decision> {
        self.of(|verdict| matches!(verdict, Verdict::Remove { .. }))
    }
}

/// Decides. `now` may be wrong: no clock makes this remove a tier's last backup, its newest verified one, or a pinned one. A
/// backup that others are made of is not kept for that: its removal leaves them their objects.
pub fn plan(tiers: &BTreeMap<TierName, Keep>, retention: &Retention, facts: &Facts, now: Timestamp) -> RetentionPlan {
    let mut order: Vec<&Candidate> = facts.candidates.iter().collect();
    order.sort_by(|a, b| (b.taken_at, &b.name).cmp(&(a.taken_at, &a.name)));
    let mut reasons = keep_by_rules(tiers, retention, &order, now);
    let mut verdicts: BTreeMap<&BackupName, Verdict> = BTreeMap::new();
    for backup in &order {
        verdicts.insert(&backup.name, verdict(backup, reasons.remove(&backup.name), retention.grace, now));
    }
    let mut notes = Vec::new();
    if !facts.unreadable.is_empty() || !facts.doubts.is_empty() {
        notes.extend(facts.doubts.iter().map(|doubt| format!("{doubt}; so nothing is removed")));
        for place in &facts.unreadable {
            notes.push(format!(
                "{place}: the manifest cannot be read, so nothing is removed; hint: strongroom verify --all"
            ));
        }
        for verdict in verdicts.values_mut() {
            if let Verdict::Remove { condemned_at } = verdict {
                *verdict = Verdict::Wait { removed_from: later(*condemned_at, retention.grace) };
            }
        }
    }
    let mut referrers: BTreeMap<BackupName, Vec<BackupName>> = BTreeMap::new();
    for backup in order.iter().filter(|b| !matches!(verdicts.get(&b.name), Some(Verdict::Remove { .. }))) {
        for reference in &backup.references {
            referrers.entry(reference.clone()).or_default().push(backup.name.clone());
        }
    }
    let decisions = order
        .into_iter()
        .filter_map(|backup| {
            let verdict = verdicts.remove(&backup.name)?;
            let Candidate { name, tier, taken_at, size_bytes, .. } = backup.clone();
            let part_of = referrers.remove(&name).unwrap_or_default();
            Some(Decision { backup: name, tier, taken_at, size_bytes, verdict, part_of })
        })
        .collect();
    RetentionPlan { at: now, decisions, notes }
}

type Reasons<'a> = BTreeMap<&'a BackupName, Vec<Reason>>;

fn keep_by_rules<'a>(
    tiers: &BTreeMap<TierName, Keep>,
    retention: &Retention,
    order: &[&'a Candidate],
    now: Timestamp,
) -> Reasons<'a> {
    let mut reasons = Reasons::new();
    let mut by_tier: BTreeMap<&TierName, Vec<&'a Candidate>> = BTreeMap::new();
    for backup in order {
        if let Some(pin) = backup.pinned.as_ref().filter(|pin| pin.holds(now)) {
            let reason = Reason::Pinned { by: pin.by.clone(), until: pin.until };
            reasons.entry(&backup.name).or_default().push(reason);
        }
        if !tiers.contains_key(&backup.tier) {
            reasons.entry(&backup.name).or_default().push(Reason::UnknownTier);
        } else if backup.taken_at > now.checked_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX) {
            // Neither believed nor removed: it must not make the others look old, nor stand in for them.
            reasons.entry(&backup.name).or_default().push(Reason::FromTheFuture);
        } else {
            by_tier.entry(&backup.tier).or_default().push(backup);
        }
    }
    keep_full(&by_tier, now, &mut reasons);
    for (tier, backups) in by_tier {
        if let Some(keep) = tiers.get(tier) {
            for (backup, reason) in keep_of_tier(keep, retention, &backups, now) {
                reasons.entry(&backup.name).or_default().push(reason);
            }
        }
    }
    reasons
}

/// Keeps the last backup from before a source was found empty, and the one that found it, until a person has looked and
/// removes the latter by hand.
fn keep_full<'a>(by_tier: &BTreeMap<&TierName, Vec<&'a Candidate>>, now: Timestamp, reasons: &mut Reasons<'a>) {
    let mut order: Vec<&'a Candidate> = by_tier.values().flatten().copied().collect();
    order.sort_by(|a, b| (b.taken_at, &b.name).cmp(&(a.taken_at, &a.name)));
    for (at, emptied) in order.iter().enumerate().filter(|(_, backup)| backup.emptied && !backup.given_up(now)) {
        reasons.entry(&emptied.name).or_default().push(Reason::Emptied);
        if let Some(full) = order[at + 1..].iter().find(|backup| !backup.given_up(now)) {
            reasons.entry(&full.name).or_default().push(Reason::LastFull { before: emptied.name.clone() });
        }
    }
}

/// What the rules of one tier keep; `backups` are the newest first.
fn keep_of_tier<'a>(
    keep: &Keep,
    retention: &Retention,
    backups: &[&'a Candidate],
    now: Timestamp,
) -> Vec<(&'a Candidate, Reason)> {
    let mut kept = Vec::new();
    let Some(newest) = backups.first() else { return kept };
    kept.push((*newest, Reason::LastOfTier));
    if let Some(verified) = backups.iter().find(|backup| backup.verified) {
        kept.push((*verified, Reason::LastVerified));
    }
    let judged = || backups.iter().filter(|backup| !backup.given_up(now));
    for backup in judged() {
        kept.extend(by_hand(backup, retention, newest.taken_at).map(|reason| (*backup, reason)));
    }
    let scheduled: Vec<&'a Candidate> = judged().filter(|backup| backup.kind.is_none()).copied().collect();
    for backup in &scheduled {
        let until = later(backup.taken_at, keep.within);
        if newest.taken_at < until {
            kept.push((*backup, Reason::Within { until }));
        }
    }
    for (nth, backup) in (1..=keep.last).zip(&scheduled) {
        kept.push((*backup, Reason::Last { nth }));
    }
    let day = |backup: &Candidate| backup.taken_at.to_zoned(retention.time_zone.clone()).date();
    let week = |backup: &Candidate| day(backup).iso_week_date();
    kept.extend(newest_of_each(&scheduled, keep.daily, day, |day| Reason::Daily { day }));
    let weekly = |week: ISOWeekDate| Reason::Weekly { year: week.year(), week: week.week() };
    kept.extend(newest_of_each(
        &scheduled,
        keep.weekly,
        |backup| week(backup).first_of_week().unwrap_or(week(backup)),
        weekly,
    ));
    let month = |backup: &Candidate| (day(backup).year(), day(backup).month());
    kept.extend(newest_of_each(&scheduled, keep.monthly, month, |(year, month)| Reason::Monthly { year, month }));
    kept.extend(newest_of_each(&scheduled, keep.yearly, |backup| day(backup).year(), |year| Reason::Yearly { year }));
    kept
}

/// When a backup goes by the rules that are its own, and that rule in a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// `None`: not by itself. Counts may keep it longer; it goes a time of grace later.
    pub at: Option<Timestamp>,
    /// `days_N`, `until_verified`, `permanent`.
    pub policy: String,
}

/// When a backup goes, as far as that can be said beforehand.
pub fn expiry(backup: &Candidate, keep: Option<&Keep>, retention: &Retention) -> Expiry {
    let (from, period) = match (backup.kind, backup.approved_at) {
        (None, _) => (backup.taken_at, keep.map(|keep| keep.within)),
        (Some(Kind::Manual), _) => (backup.taken_at, Some(retention.keep_manual)),
        (Some(Kind::Emergency), _) => (backup.taken_at, Some(retention.keep_emergency)),
        (Some(Kind::PreChange), Some(at)) => (at, Some(retention.keep_pre_change)),
        (Some(Kind::PreChange), None) => return Expiry { at: None, policy: "until_verified".into() },
    };
    // A tier that is not configured any more keeps what it has; so does a pin without an end.
    let pinned = backup.pinned.as_ref();
    let Some(period) = backup.keep.or(period).filter(|_| pinned.is_none_or(|pin| pin.until.is_some())) else {
        return Expiry { at: None, policy: "permanent".into() };
    };
    let at = later(from, period).max(pinned.and_then(|pin| pin.until).unwrap_or(Timestamp::MIN));
    Expiry { at: Some(at), policy: format!("days_{}", period.as_secs() / 86_400) }
}

/// What keeps a backup by hand; `newest` is when the tier's newest was taken.
fn by_hand(backup: &Candidate, retention: &Retention, newest: Timestamp) -> Option<Reason> {
    let kept = |from: Timestamp, period: Period, reason: fn(Timestamp) -> Reason| {
        let until = later(from, backup.keep.unwrap_or(period));
        (newest < until).then(|| reason(until))
    };
    match (backup.kind?, backup.approved_at) {
        (Kind::Manual, _) => kept(backup.taken_at, retention.keep_manual, |until| Reason::Manual { until }),
        (Kind::Emergency, _) => kept(backup.taken_at, retention.keep_emergency, |until| Reason::Emergency { until }),
        (Kind::PreChange, None) => Some(Reason::UnverifiedChange),
        (Kind::PreChange, Some(at)) => kept(at, retention.keep_pre_change, |until| Reason::VerifiedChange { until }),
    }
}

/// The newest backup of each of the newest `count` periods that have one.
fn newest_of_each<'a, P: PartialEq + Copy>(
    backups: &[&'a Candidate],
    count: u32,
    period: impl Fn(&Candidate) -> P,
    reason: impl Fn(P) -> Reason,
) -> Vec<(&'a Candidate, Reason)> {
    let mut kept: Vec<(&Candidate, Reason)> = Vec::new();
    let mut last = None;
    for backup in backups {
        if kept.len() >= count as usize {
            break;
        }
        let of = period(backup);
        if last != Some(of) {
            last = Some(of);
            kept.push((backup, reason(of)));
        }
    }
    kept
}

fn verdict(backup: &Candidate, reasons: Option<Vec<Reason>>, grace: Period, now: Timestamp) -> Verdict {
    match (reasons, backup.condemned) {
        (Some(reasons), condemned) => {
            let pardoned = condemned.is_some() && !backup.given_up(now);
            Verdict::Keep { reasons, pardoned }
        }
        (None, None) => Verdict::Condemn { removed_from: later(now, grace) },
        (None, Some(Sentence { at, .. })) if later(at, grace) <= now => Verdict::Remove { condemned_at: at },
        (None, Some(Sentence { at, .. })) => Verdict::Wait { removed_from: later(at, grace) },
    }
}

fn later(at: Timestamp, period: Period) -> Timestamp {
    at.checked_add(period.as_duration()).unwrap_or(Timestamp::MAX)
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = |at: &Timestamp| at.to_zoned(TimeZone::UTC).date();
        match self {
            Self::LastOfTier => f.write_str("last of its tier"),
            Self::LastVerified => f.write_str("last verified"),
            Self::Last { nth } => write!(f, "keep_last {nth}"),
            Self::Within { until } => write!(f, "keep, to {}", day(until)),
            Self::Daily { day } => write!(f, "daily {day}"),
            Self::Weekly { year, week } => write!(f, "weekly {year}-W{week:02}"),
            Self::Monthly { year, month } => write!(f, "monthly {year:04}-{month:02}"),
            Self::Yearly { year } => write!(f, "yearly {year:04}"),
            Self::Manual { until } => write!(f, "by hand, to {}", day(until)),
            Self::Emergency { until } => write!(f, "emergency, to {}", day(until)),
            Self::UnverifiedChange => f.write_str("its change is not verified yet"),
            Self::VerifiedChange { until } => write!(f, "its change is verified, to {}", day(until)),
            Self::Pinned { by, until: None } => write!(f, "pinned by {by}"),
            Self::Pinned { by, until: Some(until) } => write!(f, "pinned by {by}, to {}", day(until)),
            Self::Emptied => f.write_str("a source was found empty in it: look, then delete it"),
            Self::LastFull { before } => write!(f, "the last before a source was found empty in {before}"),
            Self::FromTheFuture => f.write_str("dated in the future"),
            Self::UnknownTier => f.write_str("its tier is not configured"),
        }
    }
}

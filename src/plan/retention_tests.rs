//! Retention on tables of cases, and on generated histories.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::retention::{Candidate, Facts, Pin, Reason, RetentionPlan, Sentence, Verdict, plan};
use crate::config::{Keep, Retention};
use crate::model::{BackupName, Kind, Period, TierName};

fn keep(within_days: u64) -> Keep {
    Keep { within: Period::days(within_days), last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 }
}

fn tiers(keep: Keep) -> BTreeMap<TierName, Keep> {
    BTreeMap::from([("daily".parse().unwrap(), keep)])
}

fn settings() -> Retention {
    Retention {
        grace: Period::days(7),
        keep_manual: Period::days(90),
        keep_pre_change: Period::days(30),
        keep_emergency: Period::days(60),
        time_zone: TimeZone::UTC,
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn backup(name: &str, taken_at: &str) -> Candidate {
    Candidate {
        name: name.parse().unwrap(),
        tier: "daily".parse().unwrap(),
        taken_at: at(taken_at),
        size_bytes: 1,
        kind: None,
        keep: None,
        approved_at: None,
        verified: false,
        emptied: false,
        pinned: None,
        condemned: None,
        references: BTreeSet::new(),
    }
}

/// One a day, `d00` being the newest.
fn days(newest: &str, count: i64) -> Vec<Candidate> {
    (0..count)
        .map(|n| Candidate {
            taken_at: at(newest) - SignedDuration::from_hours(24 * n),
            ..backup(&format!("d{n:02}"), newest)
        })
        .collect()
}

fn facts(candidates: Vec<Candidate>) -> Facts {
    Facts { candidates, ..Facts::default() }
}

fn kept(plan: &RetentionPlan) -> Vec<&str> {
    plan.of(|verdict| matches!(verdict, Verdict::Keep { .. })).map(|d| d.backup.as_str()).collect()
}

fn reasons(plan: &RetentionPlan, name: &str) -> Vec<String> {
    let decision = plan.decisions.iter().find(|d| d.backup.as_str() == name).unwrap();
    match &decision.verdict {
        Verdict::Keep { reasons, .. } => reasons.iter().map(ToString::to_string).collect(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn what_is_older_than_keep_is_condemned_and_then_removed() {
    let now = at("2026-08-31T03:00:00Z");
    let mut backups = days("2026-08-31T02:00:00Z", 5);
    let first = plan(&tiers(keep(3)), &settings(), &facts(backups.clone()), now);
    assert_eq!(kept(&first), ["d00", "d01", "d02"]);
    assert_eq!(reasons(&first, "d02"), ["keep, to 2026-09-01"]);
    assert_eq!(first.decisions[3].verdict, Verdict::Condemn { removed_from: at("2026-09-07T03:00:00Z") });

    backups[3].condemned = Some(Sentence { at: now, by_hand: false });
    let wait = plan(&tiers(keep(3)), &settings(), &facts(backups.clone()), at("2026-09-07T02:59:59Z"));
    assert_eq!(wait.decisions[3].verdict, Verdict::Wait { removed_from: at("2026-09-07T03:00:00Z") });
    let remove = plan(&tiers(keep(3)), &settings(), &facts(backups), at("2026-09-07T03:00:00Z"));
    assert_eq!(remove.removals().map(|d| d.backup.as_str()).collect::<Vec<_>>(), ["d03"]);
}

#[test]
fn when_backups_stop_nothing_gets_old() {
    let backups = days("2026-08-31T02:00:00Z", 3);
    let years_later = plan(&tiers(keep(3)), &settings(), &facts(backups), at("2036-08-31T02:00:00Z"));
    assert_eq!(kept(&years_later), ["d00", "d01", "d02"]);
}

#[test]
fn counts_keep_the_newest_of_each_day_week_month_and_year() {
    let keep = Keep { daily: 2, weekly: 2, monthly: 2, yearly: 2, last: 1, ..keep(0) };
    let mut backups = vec![backup("noon", "2026-03-02T12:00:00Z")]; // a Monday
    backups.extend(days("2026-03-02T02:00:00Z", 100));
    let plan = plan(&tiers(keep), &settings(), &facts(backups), at("2026-03-02T13:00:00Z"));
    assert_eq!(kept(&plan), ["noon", "d01", "d02", "d61"]);
    assert_eq!(
        reasons(&plan, "noon"),
        ["last of its tier", "keep_last 1", "daily 2026-03-02", "weekly 2026-W10", "monthly 2026-03", "yearly 2026"]
    );
    assert_eq!(reasons(&plan, "d01"), ["daily 2026-03-01", "weekly 2026-W09"]);
    assert_eq!(reasons(&plan, "d02"), ["monthly 2026-02"]);
    assert_eq!(reasons(&plan, "d61"), ["yearly 2025"]);
}

#[test]
fn days_begin_where_the_operator_lives() {
    // 2026-03-29 has 23 hours in Berlin, 2026-10-25 has 25.
    let zone = Retention { time_zone: TimeZone::get("Europe/Berlin").unwrap(), ..settings() };
    let backups = ["2026-10-25T22:30:00Z", "2026-10-24T22:30:00Z", "2026-10-24T21:30:00Z"];
    let backups = backups.iter().enumerate().map(|(n, taken)| backup(&format!("d{n}"), taken)).collect();
    let plan = plan(&tiers(Keep { daily: 2, ..keep(0) }), &zone, &facts(backups), at("2026-10-26T00:00:00Z"));
    assert_eq!(kept(&plan), ["d0", "d2"], "d1 is of the same day as d0: it lasts from 22:00Z to 23:00Z");
}

#[test]
fn pinned_referenced_verified_and_future_ones_are_kept() {
    let now = at("2026-08-31T03:00:00Z");
    let mut backups = days("2026-08-31T02:00:00Z", 8);
    backups[2].verified = true;
    backups[3].verified = true;
    backups[4].pinned = Some(Pin { by: "ann".into(), until: Some(at("2026-09-01T00:00:00Z")) });
    backups[5].pinned = Some(Pin { by: "ann".into(), until: Some(at("2026-08-31T00:00:00Z")) });
    backups[4].references = BTreeSet::from(["d06".parse().unwrap()]);
    backups[6].references = BTreeSet::from(["d07".parse().unwrap()]);
    backups.push(backup("soon", "2027-01-01T00:00:00Z"));
    let plan = plan(&tiers(keep(0)), &settings(), &facts(backups), now);
    assert_eq!(kept(&plan), ["soon", "d00", "d02", "d04"]);
    let part = plan.decisions.iter().find(|decision| decision.backup.as_str() == "d06").unwrap();
    assert_eq!(part.part_of, ["d04".parse().unwrap()], "its objects stay, it does not");
    assert_eq!(reasons(&plan, "soon"), ["dated in the future"]);
    assert_eq!(reasons(&plan, "d02"), ["last verified"]);
    assert_eq!(reasons(&plan, "d04"), ["pinned by ann, to 2026-09-01"]);
}

#[test]
fn what_was_taken_by_hand_is_kept_as_its_kind_is() {
    let now = at("2026-12-31T03:00:00Z");
    let mut backups = days("2026-12-31T02:00:00Z", 1);
    let hand = |name: &str, kind, taken: &str| Candidate { kind: Some(kind), ..backup(name, taken) };
    backups.push(hand("manual", Kind::Manual, "2026-10-10T00:00:00Z"));
    backups.push(Candidate { keep: Some(Period::days(10)), ..hand("short", Kind::Manual, "2026-12-01T00:00:00Z") });
    backups.push(Candidate { keep: Some(Period::days(400)), ..hand("long", Kind::Emergency, "2026-01-01T00:00:00Z") });
    backups.push(hand("old", Kind::Emergency, "2026-10-10T00:00:00Z"));
    backups.push(hand("pending", Kind::PreChange, "2020-01-01T00:00:00Z"));
    let verified = |name: &str, approved: &str| {
        let backup = hand(name, Kind::PreChange, "2026-01-01T00:00:00Z");
        Candidate { approved_at: Some(at(approved)), ..backup }
    };
    backups.push(verified("verified", "2026-12-15T00:00:00Z"));
    backups.push(verified("settled", "2026-11-15T00:00:00Z"));
    let plan = plan(&tiers(keep(1)), &settings(), &facts(backups), now);
    let mut kept = kept(&plan);
    kept.sort_unstable();
    assert_eq!(kept, ["d00", "long", "manual", "pending", "verified"]);
    assert_eq!(reasons(&plan, "manual"), ["by hand, to 2027-01-08"]);
    assert_eq!(reasons(&plan, "long"), ["emergency, to 2027-02-05"]);
    assert_eq!(reasons(&plan, "pending"), ["its change is not verified yet"]);
    assert_eq!(reasons(&plan, "verified"), ["its change is verified, to 2027-01-14"]);
}

#[test]
fn what_a_person_condemned_is_kept_by_no_count_but_may_be_pinned() {
    let mut backups = days("2026-08-31T02:00:00Z", 3);
    backups[1].condemned = Some(Sentence { at: at("2026-08-31T02:30:00Z"), by_hand: true });
    backups[2].condemned = Some(Sentence { at: at("2026-08-31T02:30:00Z"), by_hand: false });
    let decide = |backups: &Vec<Candidate>| {
        plan(&tiers(keep(30)), &settings(), &facts(backups.clone()), at("2026-08-31T03:00:00Z"))
    };
    let verdicts = decide(&backups);
    assert!(matches!(verdicts.decisions[1].verdict, Verdict::Wait { .. }), "{verdicts:?}");
    assert!(matches!(verdicts.decisions[2].verdict, Verdict::Keep { pardoned: true, .. }), "{verdicts:?}");
    backups[1].pinned = Some(Pin { by: "ann".into(), until: None });
    assert!(matches!(decide(&backups).decisions[1].verdict, Verdict::Keep { pardoned: true, .. }));
}

#[test]
fn the_last_full_backup_is_kept_until_somebody_has_looked() {
    let mut backups = days("2026-08-31T02:00:00Z", 9);
    backups[5].emptied = true;
    let decide = |backups: &Vec<Candidate>| {
        plan(&tiers(keep(2)), &settings(), &facts(backups.clone()), at("2026-08-31T03:00:00Z"))
    };
    let looked = decide(&backups);
    assert_eq!(kept(&looked), ["d00", "d01", "d05", "d06"]);
    assert_eq!(reasons(&looked, "d06"), ["the last before a source was found empty in d05"]);
    backups[5].condemned = Some(Sentence { at: at("2026-08-31T02:30:00Z"), by_hand: true });
    assert_eq!(kept(&decide(&backups)), ["d00", "d01"]);
}

#[test]
fn an_unreadable_manifest_holds_every_removal_up() {
    let mut backups = days("2026-08-31T02:00:00Z", 3);
    backups[2].condemned = Some(Sentence { at: at("2026-08-01T00:00:00Z"), by_hand: true });
    let facts = Facts { candidates: backups, unreadable: vec!["gs://b/daily/x/manifest.json".into()], doubts: vec![] };
    let plan = plan(&tiers(keep(1)), &settings(), &facts, at("2026-08-31T03:00:00Z"));
    assert_eq!(plan.removals().count(), 0);
    assert!(plan.notes[0].starts_with("gs://b/daily/x/manifest.json: the manifest cannot be read"), "{:?}", plan.notes);
}

/// One vault over a time, with a clock that is not always right.
struct History {
    random: StdRng,
    now: Timestamp,
    tiers: BTreeMap<TierName, Keep>,
    retention: Retention,
    backups: Vec<Candidate>,
    removed: usize,
    taken: usize,
    seen: Seen,
}

/// What kept a backup when nothing else did, and what else came to pass: each must really have been generated.
type Seen = BTreeMap<&'static str, u64>;

impl History {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        // Around the changes of summer time, leap days, turns of the year.
        let starts = ["2024-02-26T00:30:00Z", "2026-03-27T00:30:00Z", "2026-10-23T23:30:00Z", "2027-12-29T12:00:00Z"];
        let mut seen = Seen::new();
        let zones = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"];
        let mut small = |most: u32| random.random_range(0..=most);
        let mut keep = || Keep {
            within: Period::days(u64::from(small(9))),
            last: small(3),
            daily: small(4),
            weekly: small(3),
            monthly: small(2),
            yearly: small(2),
        };
        let tiers = ["daily", "weekly"].map(|tier| (tier.parse().unwrap(), keep())).into();
        let retention = Retention {
            grace: Period::days(u64::from(small(3))),
            keep_manual: Period::days(u64::from(small(9))),
            keep_pre_change: Period::days(u64::from(small(9))),
            keep_emergency: Period::days(u64::from(small(9))),
            time_zone: TimeZone::get(zones[small(4) as usize]).unwrap(),
        };
        let start = small(3) as usize;
        *seen.entry(["leap day", "spring", "autumn", "new year"][start]).or_default() += 1;
        let now = at(starts[start]);
        Self { random, now, tiers, retention, backups: vec![], removed: 0, taken: 0, seen }
    }

    fn step(&mut self) {
        let hours = match self.random.random_range(0..20) {
            0 => 24 * 400,
            1 => -24 * 3,
            2..6 => 24 * 5,
            6..10 => 3,
            _ => 24,
        };
        self.now += SignedDuration::from_hours(hours);
        match hours {
            9600 => *self.seen.entry("hole").or_default() += 1,
            -72 => *self.seen.entry("clock set back").or_default() += 1,
            _ => {}
        }
        let tier = if self.random.random_bool(0.8) { "daily" } else { "weekly" };
        if self.random.random_bool(0.9) {
            self.taken += 1;
            let skew = if self.random.random_bool(0.03) {
                SignedDuration::from_hours(24 * 3650)
            } else {
                SignedDuration::ZERO
            };
            let mut references = BTreeSet::new();
            for backup in &self.backups {
                if self.random.random_bool(0.1) {
                    references.insert(backup.name.clone());
                }
            }
            let kinds = [Kind::Manual, Kind::PreChange, Kind::Emergency];
            let kind = self.random.random_bool(0.2).then(|| kinds[self.random.random_range(0..3)]);
            let keep =
                (kind.is_some() && self.random.random_bool(0.3)).then(|| Period::days(self.random.random_range(0..60)));
            self.backups.push(Candidate {
                kind,
                keep,
                tier: tier.parse().unwrap(),
                taken_at: self.now + skew,
                verified: self.random.random_bool(0.3),
                emptied: self.random.random_bool(0.02),
                references,
                ..backup(&format!("b{:03}", self.taken), "2026-01-01T00:00:00Z")
            });
        }
        let now = self.now;
        for backup in &mut self.backups {
            match self.random.random_range(0..40) {
                0 => backup.pinned = Some(Pin { by: "ann".into(), until: None }),
                1 => backup.pinned = Some(Pin { by: "ann".into(), until: Some(now + SignedDuration::from_hours(50)) }),
                2 | 3 => backup.pinned = None,
                5 | 6 if backup.kind == Some(Kind::PreChange) => backup.approved_at = Some(now),
                4 if backup.condemned.is_none() => backup.condemned = Some(Sentence { at: now, by_hand: true }),
                _ => {}
            }
        }
    }

    /// Plans, holds the plan against what must never happen, and carries it out.
    fn retain(&mut self, seed: u64) {
        let plan = plan(&self.tiers, &self.retention, &facts(self.backups.clone()), self.now);
        assert_eq!(plan.decisions.len(), self.backups.len(), "seed {seed}");
        let removed: BTreeSet<BackupName> = plan.removals().map(|decision| decision.backup.clone()).collect();
        let condemned: BTreeSet<BackupName> =
            plan.of(|verdict| !matches!(verdict, Verdict::Keep { .. })).map(|d| d.backup.clone()).collect();
        let mut newest: BTreeMap<&TierName, &Candidate> = BTreeMap::new();
        let mut newest_verified: BTreeMap<&TierName, &Candidate> = BTreeMap::new();
        for backup in &self.backups {
            let gone = removed.contains(&backup.name);
            let active = backup.pinned.as_ref().is_some_and(|pin| pin.until.is_none_or(|until| self.now < until));
            assert!(!(active && condemned.contains(&backup.name)), "seed {seed}: pinned {backup:?}");
            assert!(
                !gone || backup.taken_at <= self.now + SignedDuration::from_mins(10),
                "seed {seed}: future {backup:?}"
            );
            let pending = backup.kind == Some(Kind::PreChange) && backup.approved_at.is_none();
            assert!(
                !(pending && condemned.contains(&backup.name)) || by_hand(backup),
                "seed {seed}: its change is not verified {backup:?}"
            );
            if gone {
                let grace = SignedDuration::try_from(self.retention.grace.as_duration()).unwrap();
                let sentence = backup.condemned.unwrap_or_else(|| panic!("seed {seed}: without warning {backup:?}"));
                assert!(sentence.at + grace <= self.now, "seed {seed}: before the time {backup:?}");
            } else {
                for reference in backup.references.iter().filter(|reference| removed.contains(*reference)) {
                    let told = plan.decisions.iter().find(|decision| decision.backup == *reference);
                    let told = told.is_some_and(|decision| decision.part_of.contains(&backup.name));
                    assert!(told, "seed {seed}: {reference} is part of {}", backup.name);
                    *self.seen.entry("removed though a part").or_default() += 1;
                }
            }
            if backup.taken_at <= self.now {
                let later = |other: &&Candidate| (other.taken_at, &other.name) < (backup.taken_at, &backup.name);
                if newest.get(&backup.tier).is_none_or(later) {
                    newest.insert(&backup.tier, backup);
                }
                if backup.verified && newest_verified.get(&backup.tier).is_none_or(later) {
                    newest_verified.insert(&backup.tier, backup);
                }
            }
        }
        for backup in newest.values().chain(newest_verified.values()) {
            assert!(!condemned.contains(&backup.name), "seed {seed}: the last {backup:?}");
        }
        let mut order: Vec<&Candidate> = self.backups.iter().filter(|backup| backup.taken_at <= self.now).collect();
        order.sort_by(|a, b| (b.taken_at, &b.name).cmp(&(a.taken_at, &a.name)));
        for two in order.windows(2).filter(|two| two[0].emptied && two[0].condemned.is_none()) {
            assert!(!removed.contains(&two[1].name) || by_hand(two[1]), "seed {seed}: the last full {:?}", two[1]);
        }
        for decision in &plan.decisions {
            let what = match &decision.verdict {
                Verdict::Keep { reasons, .. } if reasons.len() == 1 => match &reasons[0] {
                    Reason::LastOfTier => "kept as last of its tier only",
                    Reason::LastVerified => "kept as last verified only",
                    Reason::Pinned { .. } => "kept by a pin only",
                    Reason::LastFull { .. } => "kept as last full only",
                    Reason::Emptied => "kept as emptied only",
                    Reason::FromTheFuture => "kept as from the future",
                    Reason::Manual { .. } => "kept by hand only",
                    Reason::Emergency { .. } => "kept as emergency only",
                    Reason::UnverifiedChange => "kept as unverified only",
                    Reason::VerifiedChange { .. } => "kept as verified change only",
                    Reason::Daily { .. } | Reason::Weekly { .. } => "kept by day or week only",
                    Reason::Monthly { .. } | Reason::Yearly { .. } => "kept by month or year only",
                    _ => "kept by another rule only",
                },
                Verdict::Remove { .. } => "removed",
                _ => continue,
            };
            *self.seen.entry(what).or_default() += 1;
        }
        for decision in &plan.decisions {
            let Some(backup) = self.backups.iter_mut().find(|backup| backup.name == decision.backup) else { continue };
            match decision.verdict {
                Verdict::Condemn { .. } => backup.condemned = Some(Sentence { at: self.now, by_hand: false }),
                Verdict::Keep { pardoned: true, .. } => backup.condemned = None,
                Verdict::Keep { .. } | Verdict::Wait { .. } | Verdict::Remove { .. } => {}
            }
        }
        self.removed += removed.len();
        self.backups.retain(|backup| !removed.contains(&backup.name));
        let again = super::retention::plan(&self.tiers, &self.retention, &facts(self.backups.clone()), self.now);
        assert_eq!(
            again.of(|v| matches!(v, Verdict::Condemn { .. } | Verdict::Keep { pardoned: true, .. })).count(),
            0,
            "seed {seed}: once carried out, the plan is to wait"
        );
    }
}

fn by_hand(backup: &Candidate) -> bool {
    backup.condemned.is_some_and(|sentence| sentence.by_hand)
}

/// `STRONGROOM_HISTORIES=1000000 cargo nextest run --all-targets --no-capture no_history_loses` is the long form; a failing
/// seed is printed.
#[test]
fn no_history_loses_what_must_be_kept() {
    let histories: u64 = std::env::var("STRONGROOM_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let begin = std::time::Instant::now();
    let next = std::sync::atomic::AtomicU64::new(0);
    let work = || {
        let (mut taken, mut removed, mut seen) = (0, 0, Seen::new());
        loop {
            let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if seed >= histories {
                return (taken, removed, seen);
            }
            let mut history = History::new(seed);
            for _ in 0..16 {
                history.step();
                history.retain(seed);
            }
            taken += history.taken;
            removed += history.removed;
            for (what, n) in history.seen {
                *seen.entry(what).or_default() += n;
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut taken, mut removed, mut seen) = (0, 0, Seen::new());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (t, r, s) = worker.join().expect("no history fails");
            taken += t;
            removed += r;
            for (what, n) in s {
                *seen.entry(what).or_default() += n;
            }
        }
    });
    let told: Vec<String> = seen.iter().map(|(what, n)| format!("{what} {n}")).collect();
    println!(
        "reliability: retention histories {histories}, plans {}, backups taken {taken}, removed {removed}, lost 0, in {} s; {}",
        histories * 16,
        begin.elapsed().as_secs(),
        told.join(", ")
    );
    assert!(removed * 8 > taken, "retention does remove: {removed} of {taken}");
    for what in [
        "leap day",
        "spring",
        "autumn",
        "new year",
        "hole",
        "clock set back",
        "kept as last of its tier only",
        "kept as last verified only",
        "kept by a pin only",
        "removed though a part",
        "kept by hand only",
        "kept as emergency only",
        "kept as unverified only",
        "kept as verified change only",
        "kept as last full only",
        "kept as emptied only",
        "kept as from the future",
        "kept by day or week only",
        "kept by month or year only",
    ] {
        assert!(seen.contains_key(what), "'{what}' never came to pass: {seen:?}");
    }
}

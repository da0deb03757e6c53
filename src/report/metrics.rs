//! Metrics in Prometheus' text format (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Most are read off the catalog: a worker that comes and goes still tells the truth.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;

use crate::model::TierName;

/// What is measured.
pub struct Samples {
    /// The newest first.
    pub backups: Vec<BackupSample>,
    pub broken_count: usize,
    /// Failed operations of this process, by verb.
    pub errors: BTreeMap<String, u64>,
    pub running_count: usize,
    /// Age of the newest data in any backup.
    pub rpo_seconds: Option<i64>,
    pub rpo_objective_seconds: u64,
    pub finding_count: usize,
    /// How many there are of each kind.
    pub alerts: BTreeMap<&'static str, usize>,
    pub copies: Vec<CopiesSample>,
}

/// A backup's whole copies.
pub struct CopiesSample {
    pub tier: TierName,
    pub copies: u32,
    /// Whether there are as many as the tier's policy asks for.
    pub met: bool,
}

/// A backup.
pub struct BackupSample {
    pub tier: TierName,
    pub committed_at: Timestamp,
    /// How long it took.
    pub seconds: f64,
    pub size_bytes: u64,
    pub row_count: u64,
    pub verified_at: Option<Timestamp>,
}

/// The text.
pub fn metrics(samples: &Samples) -> String {
    let mut out = String::new();
    let mut tiers: BTreeMap<&str, Vec<&BackupSample>> = BTreeMap::new();
    for backup in &samples.backups {
        tiers.entry(backup.tier.as_str()).or_default().push(backup);
    }
    let mut family = |name: &str, kind: &str, help: &str, lines: Vec<(String, f64)>| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in lines {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let by_tier = |value: &dyn Fn(&[&BackupSample]) -> Option<f64>| -> Vec<(String, f64)> {
        tiers.iter().filter_map(|(tier, of)| Some((format!("{{tier=\"{tier}\"}}"), value(of)?))).collect()
    };
    #[allow(clippy::cast_precision_loss)] // figures for graphs
    {
        let seconds = |at: Timestamp| at.as_millisecond() as f64 / 1000.0;
        family("backup_total", "gauge", "Backups in the catalog.", by_tier(&|of| Some(of.len() as f64)));
        family(
            "backup_last_success_timestamp_seconds",
            "gauge",
            "When the newest backup was committed, seconds since 1970.",
            by_tier(&|of| of.first().map(|backup| seconds(backup.committed_at))),
        );
        family(
            "backup_duration_seconds",
            "gauge",
            "How long the newest backup took.",
            by_tier(&|of| of.first().map(|backup| backup.seconds)),
        );
        family(
            "backup_size_bytes",
            "gauge",
            "Bytes of the newest backup's objects.",
            by_tier(&|of| of.first().map(|backup| backup.size_bytes as f64)),
        );
        family(
            "backup_rows",
            "gauge",
            "Rows of the newest backup.",
            by_tier(&|of| of.first().map(|backup| backup.row_count as f64)),
        );
        family(
            "backup_stored_bytes",
            "gauge",
            "Bytes of all backups' objects in the primary destination.",
            by_tier(&|of| Some(of.iter().map(|backup| backup.size_bytes).sum::<u64>() as f64)),
        );
        family(
            "backup_last_verified_timestamp_seconds",
            "gauge",
            "When a restore of a backup was last proven, seconds since 1970.",
            by_tier(&|of| of.iter().filter_map(|backup| backup.verified_at).max().map(seconds)),
        );
        let errors = samples.errors.iter().map(|(verb, n)| (format!("{{verb=\"{verb}\"}}"), *n as f64)).collect();
        family("backup_errors_total", "counter", "Operations of this process that failed.", errors);
        let plain = |value: f64| vec![(String::new(), value)];
        family("backup_operations_running", "gauge", "Operations under way.", plain(samples.running_count as f64));
        family(
            "backup_broken_manifests",
            "gauge",
            "Manifests that cannot be used.",
            plain(samples.broken_count as f64),
        );
        family("backup_findings", "gauge", "What a person should look at.", plain(samples.finding_count as f64));
        let alerts = samples.alerts.iter().map(|(kind, n)| (format!("{{kind=\"{kind}\"}}"), *n as f64)).collect();
        family("backup_alerts", "gauge", "Sizes, times and spaces out of line, and what ends or waits.", alerts);
        let mut least: BTreeMap<&str, (u32, usize)> = BTreeMap::new();
        for sample in &samples.copies {
            let (copies, below) = least.entry(sample.tier.as_str()).or_insert((u32::MAX, 0));
            *copies = sample.copies.min(*copies);
            *below += usize::from(!sample.met);
        }
        let of = |value: fn(&(u32, usize)) -> f64| -> Vec<(String, f64)> {
            least.iter().map(|(tier, found)| (format!("{{tier=\"{tier}\"}}"), value(found))).collect()
        };
        let copies = of(|(copies, _)| f64::from(*copies));
        family("backup_whole_copies_min", "gauge", "Whole copies of the backup that has the fewest.", copies);
        let below = of(|(_, below)| *below as f64);
        family("backup_below_copy_policy", "gauge", "Backups with fewer copies than their tier asks for.", below);
        let rpo = samples.rpo_seconds.map(|age| plain(age as f64)).unwrap_or_default();
        family("backup_rpo_seconds", "gauge", "What would be lost now: the age of the newest data.", rpo);
        let objective = plain(samples.rpo_objective_seconds as f64);
        family("backup_rpo_objective_seconds", "gauge", "What may be lost at most.", objective);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_tier_is_told() {
        let sample = |tier: &str, at: &str, size_bytes| BackupSample {
            tier: tier.parse().unwrap(),
            committed_at: at.parse().unwrap(),
            seconds: 12.5,
            size_bytes,
            row_count: 7,
            verified_at: None,
        };
        let text = metrics(&Samples {
            backups: vec![
                sample("daily", "2026-11-21T02:00:00Z", 30),
                sample("weekly", "2026-11-16T03:00:00Z", 50),
                sample("daily", "2026-11-20T02:00:00Z", 20),
            ],
            broken_count: 0,
            errors: BTreeMap::from([("restore".into(), 2)]),
            running_count: 1,
            rpo_seconds: Some(36_000),
            rpo_objective_seconds: 86_400,
            finding_count: 0,
            alerts: BTreeMap::from([("abnormal_size", 1)]),
            copies: vec![
                CopiesSample { tier: "daily".parse().unwrap(), copies: 3, met: true },
                CopiesSample { tier: "daily".parse().unwrap(), copies: 1, met: false },
            ],
        });
        for line in [
            "backup_total{tier=\"daily\"} 2",
            "backup_last_success_timestamp_seconds{tier=\"daily\"} 1795226400",
            "backup_size_bytes{tier=\"daily\"} 30",
            "backup_stored_bytes{tier=\"daily\"} 50",
            "backup_errors_total{verb=\"restore\"} 2",
            "backup_rpo_seconds 36000",
            "backup_alerts{kind=\"abnormal_size\"} 1",
            "backup_whole_copies_min{tier=\"daily\"} 1",
            "backup_below_copy_policy{tier=\"daily\"} 1",
            "backup_duration_seconds{tier=\"weekly\"} 12.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        assert!(!text.contains("verified_timestamp_seconds{"), "{text}");
    }
}

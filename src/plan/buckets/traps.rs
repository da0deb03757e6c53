//! Settings that cost more than they seem to, or do not do what is expected of them.

use serde_json::{Value, json};

use super::Use;
use crate::config::Config;
use crate::model::{Period, StorageClass};

pub(super) fn warnings(config: &Config, uses: &[Use<'_>], is: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    for of in uses {
        warnings.extend(early_deletion(config, of, is));
        warnings.extend(lock(config, of));
    }
    let soft_delete = super::super::facts::count(&is["softDeletePolicy"], "retentionDurationSeconds");
    if soft_delete > 0 && config.buckets.soft_delete.is_none() && !uses.is_empty() {
        let period = Period::seconds(soft_delete);
        warnings.push(format!(
            "soft delete keeps, and bills, what retention removes for {period} more; hint: buckets.soft_delete says that it \
             is wanted, or \"0s\" that it is not"
        ));
    }
    if is["defaultEventBasedHold"] == json!(true) {
        warnings.push(
            "every new object is held: nothing can be removed; hint: take the default event-based hold off".into(),
        );
    }
    warnings
}

/// A class that is billed for longer than backups are kept.
fn early_deletion(config: &Config, of: &Use<'_>, is: &Value) -> Option<String> {
    let own = is["storageClass"].as_str().and_then(|class| StorageClass::of(&of.destination.place, class).ok());
    let class = of.destination.storage_class.or(own)?;
    let kept = kept(config, of);
    let least = Period::days(u64::from(class.min_days));
    (least > kept).then(|| {
        format!(
            "{class} is billed for {least} at least, and {} keeps its backups for {kept} with the time of grace; hint: a warmer \
             class, or a longer `keep`",
            of.tier
        )
    })
}

/// A lock that outlasts the retention, or that BigQuery meets.
fn lock(config: &Config, of: &Use<'_>) -> Vec<String> {
    let Some(lock) = of.destination.retention_lock else { return Vec::new() };
    let mut warnings = Vec::new();
    let kept = kept(config, of);
    if lock > kept {
        warnings.push(format!(
            "retention_lock {lock} is longer than {} keeps its backups ({kept} with the time of grace): until then retention \
             fails to remove them, and they are billed",
            of.tier
        ));
    }
    if of.primary {
        warnings.push(format!(
            "BigQuery extracts {} into it, which may fail under a retention policy; hint: a bucket without one first, and this \
             one as a copy",
            of.tier
        ));
    }
    warnings
}

fn kept(config: &Config, of: &Use<'_>) -> Period {
    Period::seconds(of.settings.keep.within.as_secs() + config.retention.grace.as_secs())
}

//! Snapshots: which messages of a subscription were not acknowledged at an instant, and seeking to one or to a time.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::topics::mask;
use super::{POLICIES, SNAPSHOTS, check_name, delivery, exists, missing, public, subscriptions, text, texts};
use crate::core::clock::{parse_rfc3339_us, rfc3339_us};
use crate::core::mask::put_at;
use crate::core::{ApiError, Tx};

/// The longest life of a snapshot.
const LIFE_US: i64 = 7 * 86_400_000_000;

pub fn load(tx: &Tx<'_>, name: &str) -> Result<Value, ApiError> {
    tx.get(SNAPSHOTS, name)?.ok_or_else(|| missing(name))
}

pub fn create(tx: &Tx<'_>, request: &Value, now_us: i64) -> Result<Value, ApiError> {
    let name = text(request, "name");
    check_name(name, "snapshots")?;
    if tx.get(SNAPSHOTS, name)?.is_some() {
        return Err(exists(name));
    }
    let from = text(request, "subscription");
    let subscription = subscriptions::load(tx, from)?;
    let open: Vec<Value> =
        delivery::all(tx, from)?.into_iter().filter(|h| !h.acked).map(|h| h.message["messageId"].clone()).collect();
    let mut snapshot = json!({
        "name": name,
        "topic": subscription["topic"],
        "expireTime": rfc3339_us(now_us + LIFE_US),
        "_open": open,
        "_made": now_us,
    });
    if let Some(labels) = request.get("labels").filter(|l| l.is_object()) {
        snapshot["labels"] = labels.clone();
    }
    tx.put(SNAPSHOTS, name, &snapshot)?;
    Ok(public(snapshot))
}

pub fn patch(tx: &Tx<'_>, request: &Value) -> Result<Value, ApiError> {
    let change = &request["snapshot"];
    let name = text(change, "name");
    let mut snapshot = load(tx, name)?;
    for path in mask(request)? {
        if !matches!(path.split('.').next(), Some("labels" | "expireTime")) {
            return Err(ApiError::invalid(format!("Invalid update_mask provided: '{path}' cannot be updated.")));
        }
        put_at(&mut snapshot, &path, change.pointer(&format!("/{}", path.replace('.', "/"))).cloned());
    }
    tx.put(SNAPSHOTS, name, &snapshot)?;
    Ok(public(snapshot))
}

pub fn delete(tx: &Tx<'_>, name: &str) -> Result<Value, ApiError> {
    load(tx, name)?;
    tx.delete(POLICIES, name)?;
    tx.delete(SNAPSHOTS, name)?;
    Ok(json!({}))
}

/// Sets back (or forward) what counts as acknowledged.
pub fn seek(tx: &Tx<'_>, request: &Value, now_us: i64) -> Result<Value, ApiError> {
    let name = text(request, "subscription");
    let subscription = subscriptions::load(tx, name)?;
    match (request["time"].as_str(), request["snapshot"].as_str()) {
        (Some(time), None) => {
            let time = parse_rfc3339_us(time).ok_or_else(|| ApiError::invalid(format!("Invalid time: {time}")))?;
            delivery::mark(tx, name, |held| held.published_us < time)?;
        }
        (None, Some(snapshot)) => {
            let found = load(tx, snapshot)?;
            if found["expireTime"].as_str().and_then(parse_rfc3339_us).is_some_and(|at| at <= now_us) {
                return Err(missing(snapshot));
            }
            if found["topic"] != subscription["topic"] {
                return Err(ApiError::invalid("The snapshot and the subscription are of different topics."));
            }
            let open: HashSet<String> = texts(&found, "_open").into_iter().collect();
            let made = found["_made"].as_i64().unwrap_or(0);
            delivery::mark(tx, name, |held| {
                held.published_us <= made && !open.contains(text(&held.message, "messageId"))
            })?;
        }
        _ => return Err(ApiError::invalid("A seek needs either a time or a snapshot.")),
    }
    Ok(json!({}))
}

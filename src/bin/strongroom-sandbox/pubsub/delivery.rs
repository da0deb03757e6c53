//! The messages that a subscription holds: leased when they are delivered, gone or kept when they are acknowledged,
//! delivered again when the lease runs out. Leases go by the sandbox's clock.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::wire::seconds_us;
use super::{SNAPSHOTS, subscriptions, text, topics};
use crate::core::{ApiError, Sandbox, Tx};

/// key = `SUBSCRIPTION#MESSAGE`, the message's id with 20 digits: in the order of publishing.
const QUEUE: &str = "pubsub.queue";

/// A message on its way to one subscription.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Held {
    pub message: Value,
    pub published_us: i64,
    /// Not delivered before.
    free_at_us: i64,
    /// Whether somebody has it until then.
    leased: bool,
    attempts: i64,
    pub acked: bool,
}

pub fn enqueue(tx: &Tx<'_>, subscription: &str, message: &Value, now_us: i64) -> Result<(), ApiError> {
    let held = Held {
        message: message.clone(),
        published_us: now_us,
        free_at_us: 0,
        leased: false,
        attempts: 0,
        acked: false,
    };
    put(tx, subscription, &held)
}

pub fn put(tx: &Tx<'_>, subscription: &str, held: &Held) -> Result<(), ApiError> {
    let value = serde_json::to_value(held).map_err(|e| ApiError::internal(e.to_string()))?;
    tx.put(QUEUE, &key(subscription, text(&held.message, "messageId")), &value)
}

fn key(subscription: &str, id: &str) -> String {
    format!("{subscription}#{id:0>20}")
}

/// Everything that a subscription holds, oldest first.
pub fn all(tx: &Tx<'_>, subscription: &str) -> Result<Vec<Held>, ApiError> {
    let found = tx.scan(QUEUE, &format!("{subscription}#"), None, usize::MAX)?;
    found.into_iter().map(|(_, v)| serde_json::from_value(v).map_err(|e| ApiError::internal(e.to_string()))).collect()
}

pub fn clear(tx: &Tx<'_>, subscription: &str) -> Result<(), ApiError> {
    for held in all(tx, subscription)? {
        remove(tx, subscription, &held)?;
    }
    Ok(())
}

fn remove(tx: &Tx<'_>, subscription: &str, held: &Held) -> Result<(), ApiError> {
    tx.delete(QUEUE, &key(subscription, text(&held.message, "messageId"))).map(drop)
}

/// Up to `most` messages that nobody has, as ReceivedMessages; they are had until the deadline.
///
/// # Errors
/// 404 without the subscription, 400 when it is detached.
pub fn lease(
    sandbox: &Sandbox,
    tx: &Tx<'_>,
    name: &str,
    most: usize,
    deadline_s: Option<i64>,
) -> Result<Vec<Value>, ApiError> {
    let subscription = subscriptions::load(tx, name)?;
    if subscription["detached"] == json!(true) {
        return Err(ApiError::failed_precondition("Subscription is detached from its topic."));
    }
    let now_us = sandbox.clock.now_us();
    let deadline_s = deadline_s.or_else(|| subscription["ackDeadlineSeconds"].as_i64()).unwrap_or(10);
    let retention_us = seconds_us(&subscription["messageRetentionDuration"]).unwrap_or(i64::MAX);
    let ordered = subscription["enableMessageOrdering"] == json!(true);
    let dead_letters = subscription.get("deadLetterPolicy").filter(|p| p.is_object());
    // A key whose earlier message is under way, or waits for another attempt, is not gone on with.
    let mut blocked: HashSet<String> = HashSet::new();
    let mut found = Vec::new();
    for mut held in all(tx, name)? {
        if found.len() == most {
            break;
        }
        if now_us.saturating_sub(held.published_us) > retention_us {
            remove(tx, name, &held)?;
            continue;
        }
        if held.acked {
            continue;
        }
        let order = text(&held.message, "orderingKey").to_string();
        let in_order = ordered && !order.is_empty();
        if held.free_at_us > now_us || (in_order && blocked.contains(&order)) {
            if in_order {
                blocked.insert(order);
            }
            continue;
        }
        // The lease of the last attempt ran out: that counts as a refusal.
        if std::mem::take(&mut held.leased) && put_off(&subscription, &mut held, now_us) {
            put(tx, name, &held)?;
            if in_order {
                blocked.insert(order);
            }
            continue;
        }
        if let Some(policy) = dead_letters
            && held.attempts >= policy["maxDeliveryAttempts"].as_i64().unwrap_or(i64::MAX)
        {
            let mut message = held.message.clone();
            message["attributes"]["CloudPubSubDeadLetterSourceSubscription"] =
                json!(name.rsplit('/').next().unwrap_or_default());
            message["attributes"]["CloudPubSubDeadLetterSourceDeliveryCount"] = json!(held.attempts.to_string());
            topics::publish_in(sandbox, tx, text(policy, "deadLetterTopic"), vec![message])?;
            remove(tx, name, &held)?;
            continue;
        }
        held.attempts += 1;
        held.leased = true;
        held.free_at_us = now_us + deadline_s * 1_000_000;
        let id = text(&held.message, "messageId");
        let mut received = json!({ "ackId": format!("{id}-{}", held.attempts), "message": held.message });
        if dead_letters.is_some() {
            received["deliveryAttempt"] = json!(held.attempts);
        }
        put(tx, name, &held)?;
        found.push(received);
    }
    Ok(found)
}

/// A refused message waits as the retry policy says; tells whether it does.
fn put_off(subscription: &Value, held: &mut Held, now_us: i64) -> bool {
    let Some(policy) = subscription.get("retryPolicy").filter(|p| p.is_object()) else { return false };
    let least = seconds_us(&policy["minimumBackoff"]).unwrap_or(10_000_000);
    let most = seconds_us(&policy["maximumBackoff"]).unwrap_or(600_000_000);
    let doubled = least.saturating_mul(1_i64 << (held.attempts - 1).clamp(0, 20));
    held.free_at_us = now_us + doubled.min(most);
    doubled > 0
}

/// What an ack id stands for; None when it is none of ours or the message is gone.
fn find(tx: &Tx<'_>, subscription: &str, ack_id: &str) -> Result<Option<Held>, ApiError> {
    let id = ack_id.split('-').next().unwrap_or_default();
    let found = tx.get(QUEUE, &key(subscription, id))?;
    found.map(|v| serde_json::from_value(v).map_err(|e| ApiError::internal(e.to_string()))).transpose()
}

/// # Errors
/// 404 without the subscription.
pub fn acknowledge(tx: &Tx<'_>, name: &str, ack_ids: &[String]) -> Result<Value, ApiError> {
    let subscription = subscriptions::load(tx, name)?;
    let topic = &subscription["topic"];
    let kept = subscription["retainAckedMessages"] == json!(true)
        || tx.scan(SNAPSHOTS, "", None, usize::MAX)?.iter().any(|(_, s)| s["topic"] == *topic);
    for id in ack_ids {
        if let Some(mut held) = find(tx, name, id)? {
            if kept {
                (held.acked, held.leased, held.free_at_us) = (true, false, 0);
                put(tx, name, &held)?;
            } else {
                remove(tx, name, &held)?;
            }
        }
    }
    Ok(json!({}))
}

/// Prolongs leases; with 0 seconds gives them up.
///
/// # Errors
/// 404 without the subscription, 400 for a bad deadline.
pub fn extend(tx: &Tx<'_>, name: &str, ack_ids: &[String], seconds: i64, now_us: i64) -> Result<Value, ApiError> {
    let subscription = subscriptions::load(tx, name)?;
    if !(0..=600).contains(&seconds) {
        return Err(ApiError::invalid(format!(
            "Invalid ack deadline given: (ack_deadline={seconds}). Deadline should be between 0 and 600 seconds."
        )));
    }
    for id in ack_ids {
        let Some(mut held) = find(tx, name, id)?.filter(|h| !h.acked) else { continue };
        if seconds == 0 {
            held.leased = false;
            if !put_off(&subscription, &mut held, now_us) {
                held.free_at_us = 0;
            }
        } else {
            (held.leased, held.free_at_us) = (true, now_us + seconds * 1_000_000);
        }
        put(tx, name, &held)?;
    }
    Ok(json!({}))
}

/// Says of each message whether it counts as acknowledged from now on.
///
/// # Errors
/// When the database fails.
pub fn mark(tx: &Tx<'_>, name: &str, acked: impl Fn(&Held) -> bool) -> Result<(), ApiError> {
    for mut held in all(tx, name)? {
        let now = acked(&held);
        if now != held.acked || held.leased {
            (held.acked, held.leased, held.free_at_us, held.attempts) = (now, false, 0, 0);
            put(tx, name, &held)?;
        }
    }
    Ok(())
}

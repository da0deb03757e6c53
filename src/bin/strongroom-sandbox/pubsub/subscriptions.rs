//! Subscriptions as resources. What they deliver is in `delivery` and `push`.

use serde_json::{Value, json};

use super::topics::{self, mask};
use super::wire::seconds_us;
use super::{POLICIES, SUBSCRIPTIONS, check_name, delivery, exists, missing, text};
use crate::core::mask::put_at;
use crate::core::{ApiError, Tx};

const EDITABLE: [&str; 10] = [
    "ackDeadlineSeconds",
    "deadLetterPolicy",
    "enableExactlyOnceDelivery",
    "enableMessageOrdering",
    "expirationPolicy",
    "labels",
    "messageRetentionDuration",
    "pushConfig",
    "retainAckedMessages",
    "retryPolicy",
];
const DAY_US: i64 = 86_400_000_000;

pub fn load(tx: &Tx<'_>, name: &str) -> Result<Value, ApiError> {
    tx.get(SUBSCRIPTIONS, name)?.ok_or_else(|| missing(name))
}

pub fn create(tx: &Tx<'_>, request: &Value) -> Result<Value, ApiError> {
    let name = text(request, "name");
    check_name(name, "subscriptions")?;
    if tx.get(SUBSCRIPTIONS, name)?.is_some() {
        return Err(exists(name));
    }
    topics::load(tx, text(request, "topic"))?;
    let unsupported = ["bigqueryConfig", "cloudStorageConfig", "bigtableConfig", "messageTransforms"];
    let unsupported = unsupported.into_iter().find(|f| request.get(f).is_some_and(|v| !v.is_null()));
    if let Some(field) = unsupported.or_else(|| (!text(request, "filter").is_empty()).then_some("filter")) {
        return Err(ApiError::not_implemented(format!("the sandbox's Pub/Sub does not emulate {field}")));
    }
    let mut subscription = json!({ "name": name, "topic": request["topic"] });
    for field in EDITABLE {
        if let Some(value) = request.get(field).filter(|v| !v.is_null()) {
            subscription[field] = value.clone();
        }
    }
    complete(tx, &mut subscription)?;
    tx.put(SUBSCRIPTIONS, name, &subscription)?;
    Ok(subscription)
}

/// Fills in what Google fills in, and checks the rest.
fn complete(tx: &Tx<'_>, subscription: &mut Value) -> Result<(), ApiError> {
    let seconds = subscription["ackDeadlineSeconds"].as_i64().filter(|s| *s != 0).unwrap_or(10);
    if !(10..=600).contains(&seconds) {
        return Err(ApiError::invalid(format!(
            "Invalid ack deadline given: (ack_deadline={seconds}). Deadline should be between 10 and 600 seconds."
        )));
    }
    subscription["ackDeadlineSeconds"] = json!(seconds);
    subscription["state"] = json!("ACTIVE");
    if subscription["pushConfig"].is_null() {
        subscription["pushConfig"] = json!({});
    }
    let retention = match &subscription["messageRetentionDuration"] {
        Value::Null => 7 * DAY_US,
        said => seconds_us(said).unwrap_or(0),
    };
    if !(600_000_000..=31 * DAY_US).contains(&retention) {
        return Err(ApiError::invalid("Invalid message_retention_duration: it must be 10 minutes to 31 days."));
    }
    subscription["messageRetentionDuration"] = json!(format!("{}s", retention / 1_000_000));
    if subscription["expirationPolicy"].is_null() {
        subscription["expirationPolicy"] = json!({ "ttl": "2678400s" });
    }
    if let Some(policy) = subscription.get("deadLetterPolicy").filter(|p| p.is_object()) {
        topics::load(tx, text(policy, "deadLetterTopic"))?;
        let attempts = policy["maxDeliveryAttempts"].as_i64().filter(|n| *n != 0).unwrap_or(5);
        if !(5..=100).contains(&attempts) {
            return Err(ApiError::invalid(format!("max_delivery_attempts must be 5 to 100, not {attempts}.")));
        }
        subscription["deadLetterPolicy"]["maxDeliveryAttempts"] = json!(attempts);
    }
    check_push(&subscription["pushConfig"])
}

fn check_push(config: &Value) -> Result<(), ApiError> {
    let endpoint = text(config, "pushEndpoint");
    let sound = endpoint.is_empty()
        || url::Url::parse(endpoint).is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
    if sound { Ok(()) } else { Err(ApiError::invalid(format!("Invalid push endpoint given: (endpoint={endpoint})."))) }
}

pub fn patch(tx: &Tx<'_>, request: &Value) -> Result<Value, ApiError> {
    let change = &request["subscription"];
    let name = text(change, "name");
    let mut subscription = load(tx, name)?;
    for path in mask(request)? {
        let first = path.split('.').next().unwrap_or_default();
        if !EDITABLE.contains(&first) || first == "enableMessageOrdering" {
            return Err(ApiError::invalid(format!("Invalid update_mask provided: '{path}' cannot be updated.")));
        }
        put_at(&mut subscription, &path, change.pointer(&format!("/{}", path.replace('.', "/"))).cloned());
    }
    complete(tx, &mut subscription)?;
    tx.put(SUBSCRIPTIONS, name, &subscription)?;
    Ok(subscription)
}

pub fn modify_push(tx: &Tx<'_>, request: &Value) -> Result<Value, ApiError> {
    let name = text(request, "subscription");
    let mut subscription = load(tx, name)?;
    let config = request.get("pushConfig").filter(|c| c.is_object()).cloned().unwrap_or_else(|| json!({}));
    check_push(&config)?;
    subscription["pushConfig"] = config;
    tx.put(SUBSCRIPTIONS, name, &subscription)?;
    Ok(json!({}))
}

pub fn delete(tx: &Tx<'_>, name: &str) -> Result<Value, ApiError> {
    load(tx, name)?;
    delivery::clear(tx, name)?;
    tx.delete(POLICIES, name)?;
    tx.delete(SUBSCRIPTIONS, name)?;
    Ok(json!({}))
}

/// Cuts it off from its topic: what it held is gone, and it delivers no more.
pub fn detach(tx: &Tx<'_>, name: &str) -> Result<Value, ApiError> {
    let mut subscription = load(tx, name)?;
    subscription["detached"] = json!(true);
    subscription["topic"] = json!(super::DELETED);
    delivery::clear(tx, name)?;
    tx.put(SUBSCRIPTIONS, name, &subscription)?;
    Ok(json!({}))
}

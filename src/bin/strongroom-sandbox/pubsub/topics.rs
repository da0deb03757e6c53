//! Topics, and what is published to them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{ARRIVED, DELETED, POLICIES, SUBSCRIPTIONS, TOPICS, check_name, delivery, exists, missing, page, text};
use crate::core::clock::rfc3339_us;
use crate::core::mask::put_at;
use crate::core::{ApiError, Sandbox, Tx};

/// Google's bounds on one call.
const MAX_MESSAGES: usize = 1000;
const MAX_BYTES: usize = 10 << 20;
const FIELDS: [&str; 4] = ["labels", "messageStoragePolicy", "kmsKeyName", "messageRetentionDuration"];

pub fn load(tx: &Tx<'_>, name: &str) -> Result<Value, ApiError> {
    tx.get(TOPICS, name)?.ok_or_else(|| missing(name))
}

pub fn create(tx: &Tx<'_>, request: &Value) -> Result<Value, ApiError> {
    let name = text(request, "name");
    check_name(name, "topics")?;
    if tx.get(TOPICS, name)?.is_some() {
        return Err(exists(name));
    }
    for unsupported in ["schemaSettings", "ingestionDataSourceSettings", "messageTransforms"] {
        if request.get(unsupported).is_some_and(|v| !v.is_null()) {
            return Err(ApiError::not_implemented(format!("the sandbox's Pub/Sub does not emulate {unsupported}")));
        }
    }
    let mut topic = json!({ "name": name });
    for field in FIELDS {
        if let Some(value) = request.get(field).filter(|v| !v.is_null()) {
            topic[field] = value.clone();
        }
    }
    tx.put(TOPICS, name, &topic)?;
    Ok(topic)
}

pub fn patch(tx: &Tx<'_>, request: &Value) -> Result<Value, ApiError> {
    let change = &request["topic"];
    let name = text(change, "name");
    let mut topic = load(tx, name)?;
    for path in mask(request)? {
        if !FIELDS.contains(&path.split('.').next().unwrap_or_default()) {
            return Err(ApiError::invalid(format!("Invalid update_mask provided: '{path}' cannot be updated.")));
        }
        put_at(&mut topic, &path, change.pointer(&format!("/{}", path.replace('.', "/"))).cloned());
    }
    tx.put(TOPICS, name, &topic)?;
    Ok(topic)
}

/// The fields that a patch names.
pub fn mask(request: &Value) -> Result<Vec<String>, ApiError> {
    let mask = text(request, "updateMask");
    if mask.is_empty() {
        return Err(ApiError::invalid("The update_mask in the request must be set."));
    }
    Ok(mask.split(',').map(|p| crate::core::mask::camel(p.trim())).collect())
}

pub fn delete(tx: &Tx<'_>, name: &str) -> Result<Value, ApiError> {
    load(tx, name)?;
    for (key, mut subscription) in tx.scan(SUBSCRIPTIONS, "", None, usize::MAX)? {
        if subscription["topic"] == name {
            subscription["topic"] = json!(DELETED);
            tx.put(SUBSCRIPTIONS, &key, &subscription)?;
        }
    }
    tx.delete(POLICIES, name)?;
    tx.delete(TOPICS, name)?;
    Ok(json!({}))
}

/// The names of a topic's subscriptions or snapshots.
pub fn below(tx: &Tx<'_>, space: &str, field: &str, request: &Value) -> Result<Value, ApiError> {
    let name = text(request, "topic");
    load(tx, name)?;
    let all = tx.scan(space, "", None, usize::MAX)?;
    let found = all.into_iter().filter(|(_, v)| v["topic"] == name);
    Ok(page(found.map(|(key, _)| (key.clone(), json!(key))).collect(), field, request))
}

/// Hands messages to every subscription of the topic; gives their ids.
///
/// # Errors
/// 404 without the topic, 400 for what is empty or too much.
pub fn publish(sandbox: &Arc<Sandbox>, topic: &str, messages: Vec<Value>) -> Result<Vec<String>, ApiError> {
    let messages = sandbox.db.transaction(|tx| publish_in(sandbox, tx, topic, messages))?;
    ARRIVED.notify_waiters();
    Ok(messages)
}

/// The same within a transaction.
///
/// # Errors
/// As [`publish`].
pub fn publish_in(sandbox: &Sandbox, tx: &Tx<'_>, topic: &str, messages: Vec<Value>) -> Result<Vec<String>, ApiError> {
    load(tx, topic)?;
    if messages.is_empty() || messages.len() > MAX_MESSAGES {
        return Err(ApiError::invalid(format!(
            "The value for message_count is out of range: 1 to {MAX_MESSAGES}, not {}.",
            messages.len()
        )));
    }
    let subscriptions = tx.scan(SUBSCRIPTIONS, "", None, usize::MAX)?;
    let subscriptions: Vec<String> =
        subscriptions.into_iter().filter(|(_, s)| s["topic"] == topic).map(|(key, _)| key).collect();
    let mut ids = Vec::new();
    let mut total = 0;
    for message in messages {
        let data = text(&message, "data").replace('-', "+").replace('_', "/");
        let bytes = STANDARD.decode(&data).map_err(|e| ApiError::invalid(format!("Invalid value at 'data': {e}")))?;
        let attributes = message["attributes"].as_object().cloned().unwrap_or_default();
        if bytes.is_empty() && attributes.is_empty() {
            return Err(ApiError::invalid(
                "One or more messages in the publish request is empty. Each message must contain either non-empty \
                 data, or at least one attribute.",
            ));
        }
        if attributes.len() > 100 {
            return Err(ApiError::invalid("A message has more than 100 attributes."));
        }
        total += bytes.len();
        if total > MAX_BYTES {
            return Err(ApiError::invalid(format!("Request payload size exceeds the limit: {MAX_BYTES} bytes.")));
        }
        let now_us = sandbox.clock.unique_us();
        let id = now_us.to_string();
        let mut kept = json!({ "data": data, "messageId": id, "publishTime": rfc3339_us(now_us) });
        if !attributes.is_empty() {
            kept["attributes"] = json!(attributes);
        }
        if !text(&message, "orderingKey").is_empty() {
            kept["orderingKey"] = message["orderingKey"].clone();
        }
        for subscription in &subscriptions {
            delivery::enqueue(tx, subscription, &kept, now_us)?;
        }
        ids.push(id);
    }
    Ok(ids)
}

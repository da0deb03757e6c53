//! Long-running operations of Cloud Run: made by services, looked at here.

use std::time::Duration;

use serde_json::{Value, json};

use super::resource::uid;
use super::{Call, OPERATIONS, SERVICES, page, settle};
use crate::core::{ApiError, Sandbox, Tx};

const TYPE: &str = "type.googleapis.com/google.cloud.run.v2.Service";
/// Google's longest wait for an operation.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A resource within an operation.
pub fn typed(resource: &Value) -> Value {
    let kind = match resource["name"].as_str() {
        Some(name) if name.contains("/revisions/") => "type.googleapis.com/google.cloud.run.v2.Revision",
        _ => TYPE,
    };
    let mut typed = json!({ "@type": kind });
    for (field, value) in resource.as_object().into_iter().flatten() {
        typed[field] = value.clone();
    }
    typed
}

/// A new operation on a service; `done` when there is nothing to wait for.
///
/// # Errors
/// When the database fails.
pub fn start(tx: &Tx<'_>, resource: &Value, done: bool) -> Result<Value, ApiError> {
    let operation = unkept(resource, done);
    tx.put(OPERATIONS, operation["name"].as_str().unwrap_or_default(), &operation)?;
    Ok(operation)
}

/// The same without a record: the answer to `validateOnly`.
pub fn unkept(resource: &Value, done: bool) -> Value {
    let parent = resource["name"].as_str().unwrap_or_default().split("/services/").next().unwrap_or_default();
    let mut operation = json!({ "name": format!("{parent}/operations/{}", uid()), "metadata": typed(resource) });
    if done {
        operation["done"] = json!(true);
        operation["response"] = typed(resource);
    }
    operation
}

pub fn get(call: &Call<'_>, name: &str) -> Result<Value, ApiError> {
    let sandbox = call.sandbox;
    let operation = sandbox.db.transaction(|tx| look(sandbox, tx, name))?;
    Ok(shown(call, operation))
}

pub fn delete(call: &Call<'_>, name: &str) -> Result<Value, ApiError> {
    if call.sandbox.db.delete(OPERATIONS, name)? { Ok(json!({})) } else { Err(missing(name)) }
}

pub async fn wait(call: &Call<'_>, name: &str) -> Result<Value, ApiError> {
    let said = call.body["timeout"].as_str().and_then(|t| t.strip_suffix('s')).and_then(|t| t.parse::<f64>().ok());
    let longest = said.and_then(|s| Duration::try_from_secs_f64(s).ok()).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
    let began = std::time::Instant::now();
    loop {
        let operation = get(call, name)?;
        if operation["done"] == json!(true) || began.elapsed() >= longest {
            return Ok(operation);
        }
        tokio::time::sleep(LOOK_EVERY.min(longest)).await;
    }
}

pub fn list(call: &Call<'_>, parent: &str) -> Result<Value, ApiError> {
    let sandbox = call.sandbox;
    let found = sandbox.db.transaction(|tx| {
        for (name, _) in tx.scan(SERVICES, &format!("{parent}/services/"), None, usize::MAX)? {
            settle::service(sandbox, tx, &name)?;
        }
        tx.scan(OPERATIONS, &format!("{parent}/operations/"), None, usize::MAX)
    })?;
    let wanted = match call.params.get("filter").map(|f| f.replace([' ', '"'], "")) {
        None => None,
        Some(f) if f == "done=true" || f == "done" => Some(true),
        Some(f) if f == "done=false" => Some(false),
        Some(f) => {
            return Err(ApiError::invalid(format!("the sandbox filters operations by done=true only, not '{f}'")));
        }
    };
    let found = found.into_iter().filter(|(_, o)| wanted.is_none_or(|w| (o["done"] == json!(true)) == w));
    let found = found.map(|(key, operation)| (key, shown(call, operation))).collect();
    page(found, &call.params, "operations")
}

fn look(sandbox: &Sandbox, tx: &Tx<'_>, name: &str) -> Result<Value, ApiError> {
    let operation = tx.get(OPERATIONS, name)?.ok_or_else(|| missing(name))?;
    if operation["done"] == json!(true) {
        return Ok(operation);
    }
    let service = operation["metadata"]["name"].as_str().unwrap_or_default();
    settle::service(sandbox, tx, service)?;
    tx.get(OPERATIONS, name)?.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> ApiError {
    ApiError::not_found(format!("Operation '{name}' not found."))
}

/// With the addresses that depend on how the client named this server.
pub fn shown(call: &Call<'_>, mut operation: Value) -> Value {
    for part in ["metadata", "response"] {
        if operation[part]["@type"] == TYPE {
            super::services::address(&call.base, &mut operation[part]);
        }
    }
    operation
}

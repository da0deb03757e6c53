//! Deployments come to their end: whenever a service is looked at, what is due by the machine's clock is carried out.

use serde_json::{Map, Value, json};

use super::resource::{Deployment, Failure, Revision, Service, condition, etag};
use super::{OPERATIONS, REVISIONS, SERVICES, machine_ms};
use crate::core::{ApiError, Sandbox, Tx};
use crate::secrets;

/// A stored service, its deployments settled; None when there is none.
///
/// # Errors
/// When the database fails.
pub fn service(sandbox: &Sandbox, tx: &Tx<'_>, name: &str) -> Result<Option<Service>, ApiError> {
    let Some(found) = tx.get(SERVICES, name)? else { return Ok(None) };
    let mut service: Service = parse(found)?;
    let now_ms = machine_ms();
    if service.deployments.iter().any(|d| d.done_at_ms <= now_ms) {
        let (due, rest) = std::mem::take(&mut service.deployments).into_iter().partition(|d| d.done_at_ms <= now_ms);
        service.deployments = rest;
        let due: Vec<Deployment> = due;
        for deployment in due {
            finish(sandbox, tx, &mut service, &deployment)?;
        }
        store(tx, &service)?;
    }
    Ok(Some(service))
}

/// Writes a service.
///
/// # Errors
/// When the database fails.
pub fn store(tx: &Tx<'_>, service: &Service) -> Result<(), ApiError> {
    let value = serde_json::to_value(service).map_err(|e| ApiError::internal(e.to_string()))?;
    tx.put(SERVICES, service.resource["name"].as_str().unwrap_or_default(), &value)
}

/// A stored revision.
///
/// # Errors
/// When the database fails.
pub fn revision(tx: &Tx<'_>, name: &str) -> Result<Option<Revision>, ApiError> {
    tx.get(REVISIONS, name)?.map(parse).transpose()
}

/// Writes a revision.
///
/// # Errors
/// When the database fails.
pub fn store_revision(tx: &Tx<'_>, revision: &Revision) -> Result<(), ApiError> {
    let value = serde_json::to_value(revision).map_err(|e| ApiError::internal(e.to_string()))?;
    tx.put(REVISIONS, revision.resource["name"].as_str().unwrap_or_default(), &value)
}

fn finish(sandbox: &Sandbox, tx: &Tx<'_>, service: &mut Service, deployment: &Deployment) -> Result<(), ApiError> {
    let mut failure = deployment.failure.clone();
    if let Some(name) = &deployment.revision
        && let Some(mut revision) = revision(tx, name)?
    {
        match secrets_of(tx, &revision.resource) {
            Ok(versions) => revision.secrets = versions,
            Err(missing) => failure = failure.or(Some(missing)),
        }
        let state = if failure.is_some() { "CONDITION_FAILED" } else { "CONDITION_SUCCEEDED" };
        revision.resource["conditions"] = json!([
            condition(sandbox, "Ready", state, failure.as_ref()),
            condition(sandbox, "ContainerHealthy", state, failure.as_ref()),
            condition(sandbox, "ResourcesAvailable", "CONDITION_SUCCEEDED", None),
        ]);
        revision.resource["etag"] = json!(etag(sandbox));
        if let Some(map) = revision.resource.as_object_mut() {
            map.remove("reconciling");
        }
        revision.healthy = failure.is_none();
        store_revision(tx, &revision)?;
        if failure.is_none() {
            service.resource["latestReadyRevision"] = json!(name);
        }
    }
    let newest = service.deployments.is_empty();
    let resource = &mut service.resource;
    resource["observedGeneration"] = json!(deployment.generation.to_string());
    ready(sandbox, resource, failure.as_ref());
    let statuses: Vec<Value> = resource["traffic"].as_array().cloned().unwrap_or_default();
    resource["trafficStatuses"] = json!(statuses);
    if newest && let Some(map) = resource.as_object_mut() {
        map.remove("reconciling");
    }
    end_operation(tx, &deployment.operation, resource, failure.as_ref())
}

/// The conditions of a service, good or bad.
pub fn ready(sandbox: &Sandbox, resource: &mut Value, failure: Option<&Failure>) {
    let state = if failure.is_some() { "CONDITION_FAILED" } else { "CONDITION_SUCCEEDED" };
    resource["terminalCondition"] = condition(sandbox, "Ready", state, failure);
    resource["conditions"] = json!([
        condition(sandbox, "RoutesReady", "CONDITION_SUCCEEDED", None),
        condition(sandbox, "ConfigurationsReady", state, failure),
    ]);
    resource["etag"] = json!(etag(sandbox));
}

fn end_operation(tx: &Tx<'_>, name: &str, resource: &Value, failure: Option<&Failure>) -> Result<(), ApiError> {
    // Its record may have been deleted meanwhile.
    let Some(mut operation) = tx.get(OPERATIONS, name)? else { return Ok(()) };
    let typed = super::operations::typed(resource);
    operation["done"] = json!(true);
    operation["metadata"] = typed.clone();
    match failure {
        Some(failure) => operation["error"] = json!({ "code": 9, "message": failure.message }),
        None => operation["response"] = typed,
    }
    tx.put(OPERATIONS, name, &operation)
}

/// The versions of secrets that a revision's environment names, as they are now.
fn secrets_of(tx: &Tx<'_>, revision: &Value) -> Result<Map<String, Value>, Failure> {
    let name = revision["name"].as_str().unwrap_or_default();
    let project = name.split('/').nth(1).unwrap_or_default();
    let mut found = Map::new();
    for container in revision["containers"].as_array().into_iter().flatten() {
        for variable in container["env"].as_array().into_iter().flatten() {
            let Some(reference) = variable.pointer("/valueSource/secretKeyRef") else { continue };
            let secret = reference["secret"].as_str().unwrap_or_default();
            let secret =
                if secret.contains('/') { secret.to_string() } else { format!("projects/{project}/secrets/{secret}") };
            let version = reference["version"].as_str().filter(|v| !v.is_empty()).unwrap_or("latest");
            let refused = |why: String| Failure {
                reason: "SECRETS_ACCESS_CHECK_FAILED".into(),
                message: format!(
                    "Revision '{}' is not ready and cannot serve traffic. {why}",
                    name.rsplit('/').next().unwrap_or_default()
                ),
            };
            match secrets::state_of(tx, &secret, version) {
                Ok((version, state)) if state == "ENABLED" => {
                    found.insert(variable["name"].as_str().unwrap_or_default().into(), json!(version));
                }
                Ok((version, state)) => return Err(refused(format!("Secret {version} is in {state} state."))),
                Err(e) if e.code == 404 => {
                    return Err(refused(format!("Secret {secret}/versions/{version} was not found.")));
                }
                Err(e) => return Err(refused(e.message)),
            }
        }
    }
    Ok(found)
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, ApiError> {
    serde_json::from_value(value).map_err(|e| ApiError::internal(format!("a stored document is damaged: {e}")))
}

//! Services and revisions: get, list, create, patch, delete. A change of the template makes a revision, which a
//! deployment brings up; see `settle`.

use serde_json::{Value, json};

use super::resource::{self, Behaviour, Deployment, EDITABLE, Failure, Revision, Service, bad};
use super::{Call, OPERATIONS, POLICIES, REVISIONS, SERVICES, machine_ms, operations, page, settle};
use crate::core::clock::rfc3339_us;
use crate::core::mask::{camel, put_at};
use crate::core::{ApiError, Tx};

pub fn get(call: &Call<'_>, name: &str) -> Result<Value, ApiError> {
    call.sandbox.db.transaction(|tx| Ok(shown(call, load(call, tx, name)?.resource)))
}

pub fn list(call: &Call<'_>, parent: &str) -> Result<Value, ApiError> {
    let found = call.sandbox.db.transaction(|tx| {
        let mut found = Vec::new();
        for (name, _) in tx.scan(SERVICES, &format!("{parent}/services/"), None, usize::MAX)? {
            found.push((name.clone(), shown(call, load(call, tx, &name)?.resource)));
        }
        Ok(found)
    })?;
    page(found, &call.params, "services")
}

pub fn create(call: &Call<'_>, parent: &str) -> Result<Value, ApiError> {
    let id = call.params.get("serviceId").unwrap_or_default();
    if !resource::is_id(id, 49) {
        return Err(bad(
            "service_id",
            "must be 1 to 49 lower-case letters, digits and hyphens, and begin with a letter.",
        ));
    }
    let name = format!("{parent}/services/{id}");
    call.sandbox.db.transaction(|tx| {
        if tx.get(SERVICES, &name)?.is_some() {
            return Err(ApiError::new(409, "alreadyExists", format!("Resource '{id}' already exists.")));
        }
        let resource = resource::new_service(call.sandbox, &name, &call.body, &call.caller)?;
        let service = Service { resource, revisions: 0, deployments: Vec::new(), behaviour: Behaviour::default() };
        deploy(call, tx, service, true)
    })
}

pub fn patch(call: &Call<'_>, name: &str) -> Result<Value, ApiError> {
    call.sandbox.db.transaction(|tx| {
        let Some(mut service) = settle::service(call.sandbox, tx, name)? else {
            if !call.params.flag("allowMissing") {
                return Err(missing(name));
            }
            let resource = resource::new_service(call.sandbox, name, &call.body, &call.caller)?;
            let service = Service { resource, revisions: 0, deployments: Vec::new(), behaviour: Behaviour::default() };
            return deploy(call, tx, service, true);
        };
        check_etag(&service.resource, call.body["etag"].as_str())?;
        let before = service.resource["template"].clone();
        lay_over(&mut service.resource, call)?;
        resource::complete(name, &mut service.resource)?;
        service.resource["lastModifier"] = json!(call.caller);
        let changed = service.resource["template"] != before || call.params.flag("forceNewRevision");
        deploy(call, tx, service, changed)
    })
}

/// Takes over what the update mask names; without one, all that a client may say.
fn lay_over(resource: &mut Value, call: &Call<'_>) -> Result<(), ApiError> {
    let all = EDITABLE.join(",");
    let mask = call.params.get("updateMask").filter(|m| *m != "*").unwrap_or(&all);
    for path in mask.split(',').map(|p| camel(p.trim())) {
        let first = path.split('.').next().unwrap_or_default();
        // Clients send back what they read; what only the server says is left alone.
        if matches!(first, "name" | "etag" | "uid" | "generation") {
            continue;
        }
        if !EDITABLE.contains(&first) {
            return Err(bad("update_mask", &format!("'{path}' is no field that can be updated.")));
        }
        let pointer = format!("/{}", path.replace('.', "/"));
        let value = call.body.pointer(&pointer).filter(|v| !v.is_null()).cloned();
        put_at(resource, &path, value);
    }
    for (field, default) in [("ingress", "INGRESS_TRAFFIC_ALL"), ("launchStage", "GA")] {
        if resource.get(field).is_none() {
            resource[field] = json!(default);
        }
    }
    Ok(())
}

/// Writes the service's new state and starts what brings it about.
fn deploy(call: &Call<'_>, tx: &Tx<'_>, mut service: Service, new_revision: bool) -> Result<Value, ApiError> {
    let sandbox = call.sandbox;
    let name = service.resource["name"].as_str().unwrap_or_default().to_string();
    let generation = service.resource["generation"].as_str().and_then(|g| g.parse().ok()).unwrap_or(0) + 1;
    check_targets(tx, &name, &service.resource, new_revision)?;
    let resource = &mut service.resource;
    resource["generation"] = json!(generation.to_string());
    resource["updateTime"] = json!(rfc3339_us(sandbox.clock.now_us()));
    resource["etag"] = json!(resource::etag(sandbox));
    let mut made = None;
    if new_revision {
        service.revisions += 1;
        let id = resource::revision_id(&name, service.revisions, &resource["template"]);
        let revision = format!("{name}/revisions/{id}");
        if tx.get(REVISIONS, &revision)?.is_some() {
            return Err(ApiError::new(
                409,
                "alreadyExists",
                format!("Revision named '{id}' with different configuration already exists."),
            ));
        }
        resource["latestCreatedRevision"] = json!(revision);
        made = Some((revision.clone(), resource::new_revision(sandbox, resource, &revision, &call.caller)));
    }
    if call.params.flag("validateOnly") {
        return Ok(operations::shown(call, operations::unkept(resource, true)));
    }
    resource["reconciling"] = json!(true);
    // What is not ready does not become so without a new revision.
    let before = resource["terminalCondition"].take();
    resource["terminalCondition"] = resource::condition(sandbox, "Ready", "CONDITION_RECONCILING", None);
    let operation = operations::start(tx, resource, false)?;
    let revision = made.as_ref().map(|(name, _)| name.clone());
    if let Some((_, resource)) = made {
        settle::store_revision(tx, &Revision { resource, healthy: true, message: None, secrets: Default::default() })?;
    }
    let failure = if revision.is_none() {
        standing_failure(&before)
    } else if service.behaviour.failing_deployments > 0 {
        service.behaviour.failing_deployments -= 1;
        let id = revision.as_deref().and_then(|r| r.rsplit('/').next()).unwrap_or_default();
        Some(Failure {
            reason: "HEALTH_CHECK_CONTAINER_ERROR".into(),
            message: format!(
                "Revision '{id}' is not ready and cannot serve traffic. The user-provided container failed to start \
                 and listen on the port defined provided by the PORT=8080 environment variable within the allocated \
                 timeout."
            ),
        })
    } else {
        None
    };
    service.deployments.push(Deployment {
        revision,
        operation: operation["name"].as_str().unwrap_or_default().into(),
        done_at_ms: machine_ms().saturating_add(i64::try_from(service.behaviour.deploy_ms).unwrap_or(i64::MAX)),
        generation,
        failure,
    });
    settle::store(tx, &service)?;
    Ok(operations::shown(call, operation))
}

fn standing_failure(condition: &Value) -> Option<Failure> {
    let text = |field: &str| condition[field].as_str().map(str::to_string);
    (condition["state"] == "CONDITION_FAILED").then(|| Failure {
        reason: text("revisionReason").or_else(|| text("reason")).unwrap_or_default(),
        message: text("message").unwrap_or_default(),
    })
}

/// Traffic goes to revisions that there are.
fn check_targets(tx: &Tx<'_>, name: &str, resource: &Value, new_revision: bool) -> Result<(), ApiError> {
    for target in resource["traffic"].as_array().into_iter().flatten() {
        let Some(id) = target["revision"].as_str().filter(|r| !r.is_empty()) else { continue };
        let id = id.rsplit('/').next().unwrap_or_default();
        let comes = new_revision && resource["template"]["revision"] == id;
        if !comes && tx.get(REVISIONS, &format!("{name}/revisions/{id}"))?.is_none() {
            return Err(bad("traffic", &format!("Revision '{id}' not found.")));
        }
    }
    Ok(())
}

pub fn delete(call: &Call<'_>, name: &str) -> Result<Value, ApiError> {
    call.sandbox.db.transaction(|tx| {
        let service = load(call, tx, name)?;
        check_etag(&service.resource, call.params.get("etag"))?;
        let mut resource = service.resource;
        resource["deleteTime"] = json!(rfc3339_us(call.sandbox.clock.now_us()));
        if call.params.flag("validateOnly") {
            return Ok(operations::shown(call, operations::unkept(&resource, true)));
        }
        for (key, _) in tx.scan(REVISIONS, &format!("{name}/revisions/"), None, usize::MAX)? {
            tx.delete(REVISIONS, &key)?;
        }
        for deployment in service.deployments {
            if let Some(mut operation) = tx.get(OPERATIONS, &deployment.operation)? {
                operation["done"] = json!(true);
                operation["error"] = json!({ "code": 10, "message": format!("Service '{name}' was deleted.") });
                tx.put(OPERATIONS, &deployment.operation, &operation)?;
            }
        }
        tx.delete(POLICIES, name)?;
        tx.delete(SERVICES, name)?;
        Ok(operations::shown(call, operations::start(tx, &resource, true)?))
    })
}

pub fn list_revisions(call: &Call<'_>, service: &str) -> Result<Value, ApiError> {
    let found = call.sandbox.db.transaction(|tx| {
        load(call, tx, service)?;
        tx.scan(REVISIONS, &format!("{service}/revisions/"), None, usize::MAX)
    })?;
    page(found.into_iter().map(|(k, v)| (k, v["resource"].clone())).collect(), &call.params, "revisions")
}

pub fn get_revision(call: &Call<'_>, name: &str) -> Result<Value, ApiError> {
    let service = name.split("/revisions/").next().unwrap_or_default();
    call.sandbox.db.transaction(|tx| {
        load(call, tx, service)?;
        settle::revision(tx, name)?.map(|r| r.resource).ok_or_else(|| missing(name))
    })
}

pub fn delete_revision(call: &Call<'_>, name: &str) -> Result<Value, ApiError> {
    let service = name.split("/revisions/").next().unwrap_or_default();
    call.sandbox.db.transaction(|tx| {
        let service = load(call, tx, service)?.resource;
        let revision = settle::revision(tx, name)?.ok_or_else(|| missing(name))?.resource;
        check_etag(&revision, call.params.get("etag"))?;
        let id = name.rsplit('/').next().unwrap_or_default();
        let routed = service["traffic"].as_array().into_iter().flatten().any(|t| t["revision"] == id);
        if routed || service["latestCreatedRevision"] == name || service["latestReadyRevision"] == name {
            return Err(ApiError::failed_precondition(format!(
                "Revision '{id}' cannot be deleted: it serves traffic or is the service's latest."
            )));
        }
        if call.params.flag("validateOnly") {
            return Ok(operations::unkept(&revision, true));
        }
        tx.delete(REVISIONS, name)?;
        operations::start(tx, &revision, true)
    })
}

// ------------------------------------------------------------------------------------------------------------ IAM

pub fn policy(call: &Call<'_>, name: &str) -> Result<Value, ApiError> {
    call.sandbox.db.transaction(|tx| {
        load(call, tx, name)?;
        Ok(tx.get(POLICIES, name)?.unwrap_or_else(|| json!({ "version": 1, "etag": "ACAB" })))
    })
}

pub fn set_policy(call: &Call<'_>, name: &str) -> Result<Value, ApiError> {
    call.sandbox.db.transaction(|tx| {
        load(call, tx, name)?;
        let mut policy = call.body["policy"].clone();
        if !policy.is_object() {
            return Err(bad("policy", "must be specified."));
        }
        policy["etag"] = json!(resource::etag(call.sandbox).trim_matches('"'));
        tx.put(POLICIES, name, &policy)?;
        Ok(policy)
    })
}

pub fn test_permissions(call: &Call<'_>, name: &str) -> Result<Value, ApiError> {
    call.sandbox.db.transaction(|tx| load(call, tx, name))?;
    Ok(json!({ "permissions": call.body["permissions"] }))
}

// -------------------------------------------------------------------------------------------------------- Helpers

fn load(call: &Call<'_>, tx: &Tx<'_>, name: &str) -> Result<Service, ApiError> {
    settle::service(call.sandbox, tx, name)?.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> ApiError {
    let kind = if name.contains("/revisions/") { "Revision" } else { "Resource" };
    ApiError::not_found(format!("{kind} '{}' was not found.", name.rsplit('/').next().unwrap_or_default()))
}

fn check_etag(resource: &Value, said: Option<&str>) -> Result<(), ApiError> {
    let current = resource["etag"].as_str().unwrap_or_default();
    match said.filter(|s| !s.is_empty()) {
        Some(said) if said != current => Err(ApiError::new(
            409,
            "aborted",
            format!(
                "Conflict for resource '{}': version '{said}' was specified but current version is '{current}'.",
                resource["name"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default()
            ),
        )
        .with_status("ABORTED")),
        _ => Ok(()),
    }
}

fn shown(call: &Call<'_>, mut resource: Value) -> Value {
    address(&call.base, &mut resource);
    resource
}

/// Where a service answers: below this server, whatever port it has today.
pub fn address(base: &str, resource: &mut Value) {
    let name = resource["name"].as_str().unwrap_or_default();
    let parts: Vec<&str> = name.split('/').collect();
    if let ["projects", project, "locations", location, "services", id] = parts.as_slice() {
        let uri = format!("{base}/_services/{project}/{location}/{id}");
        resource["uri"] = json!(uri);
        resource["urls"] = json!([uri]);
    }
}

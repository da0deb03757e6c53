//! The resources of Cloud Run as they are stored and shown: defaults that Google fills in, what a client may say, what
//! only the server says, and the checks of both.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::core::clock::rfc3339_us;
use crate::core::{ApiError, Sandbox};

/// What a client may say about a service.
pub const EDITABLE: [&str; 17] = [
    "annotations",
    "binaryAuthorization",
    "buildConfig",
    "client",
    "clientVersion",
    "customAudiences",
    "defaultUriDisabled",
    "description",
    "iapEnabled",
    "ingress",
    "invokerIamDisabled",
    "labels",
    "launchStage",
    "multiRegionSettings",
    "scaling",
    "template",
    "traffic",
];

/// A stored service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Service {
    /// As it is answered, without `uri` and `urls`: those depend on how the client named this server.
    pub resource: Value,
    /// How many revisions it ever had.
    pub revisions: u64,
    /// Deployments under way, oldest first.
    #[serde(default)]
    pub deployments: Vec<Deployment>,
    #[serde(default)]
    pub behaviour: Behaviour,
}

/// A revision on its way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deployment {
    /// None when the template stayed as it was.
    pub revision: Option<String>,
    pub operation: String,
    /// By the machine's clock.
    pub done_at_ms: i64,
    pub generation: i64,
    /// Why it will not come up.
    pub failure: Option<Failure>,
}

/// Why a revision is not ready, in Google's words.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    pub reason: String,
    pub message: String,
}

/// How the sandbox was told to behave for this service.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Behaviour {
    /// How long a deployment takes.
    pub deploy_ms: u64,
    /// So many deployments to come fail.
    pub failing_deployments: u64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { deploy_ms: 300, failing_deployments: 0 }
    }
}

/// A stored revision.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Revision {
    pub resource: Value,
    /// Whether what runs in it answers well.
    pub healthy: bool,
    /// What its callers are told when it does not.
    #[serde(default)]
    pub message: Option<String>,
    /// The versions of secrets that its environment was given when it started: variable -> version.
    pub secrets: Map<String, Value>,
}

/// A service as Google makes it of a request.
///
/// # Errors
/// 400 when a part is missing or wrong.
pub fn new_service(sandbox: &Sandbox, name: &str, body: &Value, caller: &str) -> Result<Value, ApiError> {
    let now = rfc3339_us(sandbox.clock.now_us());
    let mut service = json!({
        "name": name,
        "uid": uid(),
        "generation": "0",
        "createTime": now,
        "updateTime": now,
        "creator": caller,
        "lastModifier": caller,
        "ingress": "INGRESS_TRAFFIC_ALL",
        "launchStage": "GA",
    });
    for field in EDITABLE {
        if let Some(value) = body.get(field).filter(|v| !v.is_null()) {
            service[field] = value.clone();
        }
    }
    complete(name, &mut service)?;
    Ok(service)
}

/// Fills in what Google fills in, and checks the rest.
///
/// # Errors
/// 400 when a part is missing or wrong.
pub fn complete(name: &str, service: &mut Value) -> Result<(), ApiError> {
    let id = name.rsplit('/').next().unwrap_or_default();
    let containers = service.pointer("/template/containers").and_then(Value::as_array);
    let Some(containers) = containers.filter(|c| !c.is_empty()) else {
        return Err(bad("template.containers", "At least one container is required."));
    };
    for (n, container) in containers.iter().enumerate() {
        if container["image"].as_str().is_none_or(str::is_empty) {
            return Err(bad(&format!("template.containers[{n}].image"), "Image is required."));
        }
    }
    if let Some(revision) = service.pointer("/template/revision").and_then(Value::as_str) {
        let sound = revision.strip_prefix(&format!("{id}-")).is_some_and(|r| !r.is_empty()) && is_id(revision, 63);
        if !revision.is_empty() && !sound {
            return Err(bad("template.revision", &format!("must be prefixed by the service's name, '{id}-'.")));
        }
    }
    let template = &mut service["template"];
    fill(template, "timeout", json!("300s"));
    fill(template, "maxInstanceRequestConcurrency", json!(80));
    fill(template, "scaling", json!({ "maxInstanceCount": 100 }));
    for container in template["containers"].as_array_mut().into_iter().flatten() {
        fill(container, "ports", json!([{ "name": "http1", "containerPort": 8080 }]));
        fill(
            container,
            "resources",
            json!({ "limits": { "cpu": "1000m", "memory": "512Mi" }, "cpuIdle": true, "startupCpuBoost": true }),
        );
    }
    if service["traffic"].as_array().is_none_or(Vec::is_empty) {
        service["traffic"] = json!([{ "type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100 }]);
    }
    let targets = service["traffic"].as_array().map_or(&[][..], Vec::as_slice);
    let total: i64 = targets.iter().filter_map(|t| t["percent"].as_i64()).sum();
    if total != 100 {
        return Err(bad("traffic", &format!("The sum of percentages must be 100, not {total}.")));
    }
    let nameless = |t: &Value| {
        t["type"] == "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION" && t["revision"].as_str().is_none_or(str::is_empty)
    };
    if targets.iter().any(nameless) {
        return Err(bad("traffic", "Revision name is required for a target of type REVISION."));
    }
    Ok(())
}

/// A condition of a service or revision.
pub fn condition(sandbox: &Sandbox, kind: &str, state: &str, failure: Option<&Failure>) -> Value {
    let mut condition = json!({
        "type": kind,
        "state": state,
        "lastTransitionTime": rfc3339_us(sandbox.clock.now_us()),
    });
    if let Some(failure) = failure {
        condition["message"] = json!(failure.message);
        condition["severity"] = json!("ERROR");
        let field = if failure.reason == "HEALTH_CHECK_CONTAINER_ERROR" { "revisionReason" } else { "reason" };
        condition[field] = json!(failure.reason);
    }
    condition
}

/// The name of a new revision: `SERVICE-00007-abc`, or what the template says.
pub fn revision_id(service: &str, number: u64, template: &Value) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz";
    if let Some(said) = template["revision"].as_str().filter(|r| !r.is_empty()) {
        return said.to_string();
    }
    let letter = |_| char::from(LETTERS[rand::random_range(0..LETTERS.len())]);
    let tail: String = (0..3).map(letter).collect();
    let id = service.rsplit('/').next().unwrap_or_default();
    format!("{id}-{number:05}-{tail}")
}

/// A revision made of a service's template.
pub fn new_revision(sandbox: &Sandbox, service: &Value, name: &str, caller: &str) -> Value {
    let now = rfc3339_us(sandbox.clock.now_us());
    let mut revision = json!({
        "name": name,
        "uid": uid(),
        "generation": "1",
        "createTime": now,
        "updateTime": now,
        "creator": caller,
        "service": service["name"].as_str().unwrap_or_default().rsplit('/').next(),
        "launchStage": service["launchStage"],
        "reconciling": true,
        "observedGeneration": "1",
    });
    let template = service["template"].as_object().into_iter().flatten();
    for (field, value) in template.filter(|(field, _)| !matches!(field.as_str(), "revision" | "healthCheckDisabled")) {
        revision[field] = value.clone();
    }
    revision["conditions"] = json!([condition(sandbox, "Ready", "CONDITION_RECONCILING", None)]);
    revision["etag"] = json!(etag(sandbox));
    revision
}

pub fn etag(sandbox: &Sandbox) -> String {
    format!("\"{:x}\"", sandbox.clock.unique_us())
}

/// A new UUID of version 4.
pub fn uid() -> String {
    let n = rand::random::<u128>() & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{n:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Lower-case letters, digits and hyphens, a letter first, no hyphen last.
pub fn is_id(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
}

/// 400 as Cloud Run words it.
pub fn bad(field: &str, message: &str) -> ApiError {
    ApiError::invalid(format!("Violation in {field}: {message}"))
}

fn fill(value: &mut Value, field: &str, default: Value) {
    if value.get(field).is_none_or(Value::is_null) {
        value[field] = default;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked_and_uids_are_uuids() {
        for (text, good) in [("pipeline-2", true), ("2x", false), ("x-", false), ("X", false), ("", false)] {
            assert_eq!(is_id(text, 49), good, "{text}");
        }
        let uid = uid();
        assert_eq!((uid.len(), &uid[14..15]), (36, "4"), "{uid}");
        assert!("89ab".contains(&uid[19..20]), "{uid}");
        let id = revision_id("projects/p/locations/l/services/s", 7, &json!({}));
        assert!(id.starts_with("s-00007-") && is_id(&id, 63), "{id}");
        assert_eq!(revision_id("x/s", 7, &json!({ "revision": "s-green" })), "s-green");
    }

    #[test]
    fn services_are_completed_or_refused() {
        let mut service = json!({ "template": { "containers": [{ "image": "gcr.io/p/i" }] } });
        complete("projects/p/locations/l/services/s", &mut service).unwrap();
        assert_eq!(service["template"]["containers"][0]["ports"][0]["containerPort"], 8080);
        assert_eq!(service["traffic"][0]["percent"], 100);
        for (bad, said) in [
            (json!({ "template": {} }), "template.containers"),
            (json!({ "template": { "containers": [{}] } }), "containers[0].image"),
            (json!({ "template": { "containers": [{ "image": "i" }], "revision": "t-1" } }), "'s-'"),
            (json!({ "template": { "containers": [{ "image": "i" }] }, "traffic": [{ "percent": 90 }] }), "not 90"),
        ] {
            let mut service = bad;
            let error = complete("projects/p/locations/l/services/s", &mut service).unwrap_err();
            assert!(error.code == 400 && error.message.contains(said), "{error}");
        }
    }
}

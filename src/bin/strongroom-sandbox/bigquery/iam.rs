//! IAM policies as documents: kept, versioned by etag, returned. Nothing is enforced.

use serde_json::{Map, Value, json};

use super::service::etag;
use crate::core::ApiError;

/// The policy as getIamPolicy answers it.
pub fn answer(policy: Option<Value>) -> Value {
    policy.unwrap_or_else(|| json!({"version": 1, "etag": "ACAB"}))
}

/// The policy that a setIamPolicy request leaves behind.
///
/// # Errors
/// `required` without a policy, 409 when its etag is not the current one's.
pub fn replace(current: Option<&Value>, request: &Map<String, Value>) -> Result<Value, ApiError> {
    let mut policy = request
        .get("policy")
        .and_then(Value::as_object)
        .cloned()
        .ok_or_else(|| ApiError::required("Required parameter is missing: policy"))?;
    let now = answer(current.cloned());
    if let Some(given) = policy.get("etag").and_then(Value::as_str).filter(|t| !t.is_empty())
        && now["etag"].as_str() != Some(given)
    {
        return Err(ApiError::new(
            409,
            "aborted",
            "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff.",
        )
        .with_status("ABORTED"));
    }
    policy.entry("version").or_insert(json!(1));
    policy.insert("etag".into(), json!(etag(&json!([policy, now["etag"]]))));
    Ok(Value::Object(policy))
}

/// Adds members to (or takes them out of) roles, as GRANT and REVOKE do.
pub fn grant(current: Option<&Value>, roles: &[String], members: &[String], revoke: bool) -> Value {
    let mut policy = answer(current.cloned());
    let mut bindings: Vec<(String, Vec<String>)> = policy
        .get("bindings")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|b| {
            let members = b["members"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
            (b["role"].as_str().unwrap_or_default().to_owned(), members.collect())
        })
        .collect();
    for role in roles {
        let at = match bindings.iter().position(|(r, _)| r == role) {
            Some(at) => at,
            None if revoke => continue,
            None => {
                bindings.push((role.clone(), vec![]));
                bindings.len() - 1
            }
        };
        let held = &mut bindings[at].1;
        held.retain(|m| !members.contains(m));
        if !revoke {
            held.extend(members.iter().cloned());
        }
    }
    bindings.retain(|(_, members)| !members.is_empty());
    policy["bindings"] = bindings.into_iter().map(|(r, m)| json!({"role": r, "members": m})).collect();
    policy["etag"] = json!(etag(&policy));
    policy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_etag_loses() {
        let request = |policy: Value| Map::from_iter([("policy".to_owned(), policy)]);
        let first = replace(None, &request(json!({"bindings": [], "etag": "ACAB"}))).unwrap();
        assert!(replace(Some(&first), &request(json!({"etag": "ACAB"}))).is_err());
        assert!(replace(Some(&first), &request(json!({"etag": first["etag"]}))).is_ok());
    }

    #[test]
    fn grants_are_added_and_revoked() {
        let roles = ["roles/x".to_owned()];
        let policy = grant(None, &roles, &["user:a@b.c".into(), "user:d@e.f".into()], false);
        let policy = grant(Some(&policy), &roles, &["user:a@b.c".into()], true);
        assert_eq!(policy["bindings"], json!([{"role": "roles/x", "members": ["user:d@e.f"]}]));
    }
}

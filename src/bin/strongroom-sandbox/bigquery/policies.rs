//! rowAccessPolicies.*: kept with the table, and applied to whoever reads it.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::http::{Caller, object, page_size, page_token, position};
use super::names::{Decorated, TableRef};
use super::registry::{Change, Policy, TableRecord, change_table};
use super::service::{BigQuery, etag};
use crate::core::clock::rfc3339_ms;
use crate::core::{ApiError, Params};

type Service = State<Arc<BigQuery>>;
type Table = Path<(String, String, String)>;
type One = Path<(String, String, String, String)>;

/// The predicate that a caller's rows must meet; `None` when the caller sees all rows.
///
/// A table without policies shows all. With policies a caller sees the rows of those that grant them access, and none
/// when none does.
pub fn filter_for(record: &TableRecord, caller: &Caller, table: &TableRef) -> Option<String> {
    if record.policies.is_empty() {
        return None;
    }
    let granted: Vec<&str> = record
        .policies
        .iter()
        .filter(|p| caller.is_among(&p.grantees, &table.project))
        .map(|p| p.filter.trim())
        .collect();
    if granted.is_empty() {
        return Some("FALSE".into());
    }
    if granted.iter().any(|f| f.trim_matches(['(', ')']).trim().eq_ignore_ascii_case("true")) {
        return None;
    }
    Some(granted.iter().map(|f| format!("({f})")).collect::<Vec<_>>().join(" OR "))
}

fn view(table: &TableRef, policy: &Policy) -> Value {
    // Grantees are input only: `getIamPolicy` on the policy tells them.
    let mut reference = table.json();
    reference["policyId"] = json!(policy.id);
    json!({
        "etag": etag(&json!([policy.id, policy.filter, policy.modified_ms])),
        "rowAccessPolicyReference": reference,
        "filterPredicate": policy.filter,
        "creationTime": rfc3339_ms(policy.created_ms * 1000),
        "lastModifiedTime": rfc3339_ms(policy.modified_ms * 1000),
    })
}

fn missing(table: &TableRef, id: &str) -> ApiError {
    ApiError::not_found(format!("Not found: Row access policy {id} on table {table}"))
}

fn read(body: &Map<String, Value>, id: Option<&str>, now_ms: i64) -> Result<Policy, ApiError> {
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().trim().to_owned();
    let given = body.get("rowAccessPolicyReference").and_then(|r| r["policyId"].as_str()).unwrap_or_default();
    let id = id.unwrap_or(given);
    if id.is_empty() || id.len() > 256 || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(ApiError::invalid(format!(
            "Invalid row access policy ID \"{id}\". It must contain only letters, digits and underscores and be at most 256 characters long."
        )));
    }
    let filter = text("filterPredicate");
    if filter.is_empty() {
        return Err(ApiError::required("Required parameter is missing: filterPredicate"));
    }
    let grantees = body.get("grantees").and_then(Value::as_array).into_iter().flatten();
    Ok(Policy {
        id: id.to_owned(),
        filter,
        grantees: grantees.filter_map(Value::as_str).map(str::to_owned).collect(),
        created_ms: now_ms,
        modified_ms: now_ms,
    })
}

/// Changes a table's policies.
///
/// # Errors
/// `notFound`, or what `change` says.
pub fn change<R>(
    service: &BigQuery,
    table: &TableRef,
    change: impl FnOnce(&mut Vec<Policy>) -> Result<R, ApiError>,
) -> Result<R, ApiError> {
    change_table(&service.sandbox.db, table, service.now_ms(), |before| {
        let mut record = before.ok_or_else(|| ApiError::not_found(format!("Not found: Table {table}")))?;
        if record.kind() != "TABLE" {
            return Err(ApiError::invalid(format!(
                "Row access policies are only supported for tables, and {table} is a {}.",
                record.kind()
            )));
        }
        let result = change(&mut record.policies)?;
        Ok(Change::Put(Box::new(record), result))
    })
}

pub async fn list(
    State(service): Service,
    Path((project, dataset, id)): Table,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let table = Decorated::parse(&project, &dataset, &id)?.plain()?;
    let mut policies = service.table(&table)?.policies;
    policies.sort_by(|a, b| a.id.cmp(&b.id));
    let size = match params.number("pageSize")? {
        Some(n) if n > 0 => usize::try_from(n).unwrap_or(100),
        _ => page_size(&params, 100, 1000)?,
    };
    let after = position(&params)?;
    let rest: Vec<_> = policies.iter().filter(|p| after.as_deref().is_none_or(|a| p.id.as_str() > a)).collect();
    let mut out = json!({});
    if !rest.is_empty() {
        out["rowAccessPolicies"] = rest.iter().take(size).map(|p| view(&table, p)).collect();
    }
    if rest.len() > size {
        out["nextPageToken"] = json!(page_token(&rest[size - 1].id));
    }
    Ok(Json(out))
}

pub async fn insert(
    State(service): Service,
    Path((project, dataset, id)): Table,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let table = Decorated::parse(&project, &dataset, &id)?.plain()?;
    let policy = read(&object(&body)?, None, service.now_ms())?;
    let out = view(&table, &policy);
    change(&service, &table, |policies| {
        if policies.iter().any(|p| p.id == policy.id) {
            return Err(ApiError::duplicate(format!(
                "Already Exists: Row access policy {} on table {table}",
                policy.id
            )));
        }
        policies.push(policy);
        Ok(())
    })?;
    Ok(Json(out))
}

pub async fn get(State(service): Service, Path((project, dataset, id, policy)): One) -> Result<Json<Value>, ApiError> {
    let table = Decorated::parse(&project, &dataset, &id)?.plain()?;
    let record = service.table(&table)?;
    let found = record.policies.iter().find(|p| p.id == policy).ok_or_else(|| missing(&table, &policy))?;
    Ok(Json(view(&table, found)))
}

pub async fn update(
    State(service): Service,
    Path((project, dataset, id, policy)): One,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let table = Decorated::parse(&project, &dataset, &id)?.plain()?;
    let mut fresh = read(&object(&body)?, Some(&policy), service.now_ms())?;
    let out = change(&service, &table, |policies| {
        let slot = policies.iter_mut().find(|p| p.id == policy).ok_or_else(|| missing(&table, &policy))?;
        fresh.created_ms = slot.created_ms;
        *slot = fresh;
        Ok(view(&table, slot))
    })?;
    Ok(Json(out))
}

pub async fn delete(
    State(service): Service,
    Path((project, dataset, id, policy)): One,
) -> Result<StatusCode, ApiError> {
    let table = Decorated::parse(&project, &dataset, &id)?.plain()?;
    remove(&service, &table, &[policy])?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn batch_delete(
    State(service): Service,
    Path((project, dataset, id)): Table,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let table = Decorated::parse(&project, &dataset, &id)?.plain()?;
    let request = object(&body)?;
    let ids = request.get("policyIds").and_then(Value::as_array).into_iter().flatten();
    let ids: Vec<String> = ids.filter_map(Value::as_str).map(str::to_owned).collect();
    remove(&service, &table, &ids)?;
    Ok(StatusCode::NO_CONTENT)
}

fn remove(service: &BigQuery, table: &TableRef, ids: &[String]) -> Result<(), ApiError> {
    change(service, table, |policies| {
        for id in ids {
            let at = policies.iter().position(|p| p.id == *id).ok_or_else(|| missing(table, id))?;
            policies.remove(at);
        }
        Ok(())
    })
}

/// `POST rowAccessPolicies/{policy}:getIamPolicy`: the grantees as one binding.
pub async fn custom(
    State(service): Service,
    Path((project, dataset, id, target)): One,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let table = Decorated::parse(&project, &dataset, &id)?.plain()?;
    let request = object(&body)?;
    let Some((policy, verb)) = target.rsplit_once(':') else {
        return Err(ApiError::not_found(format!("Not found: no method on rowAccessPolicies/{target}")));
    };
    let record = service.table(&table)?;
    let found = record.policies.iter().find(|p| p.id == policy).ok_or_else(|| missing(&table, policy))?;
    match verb {
        "getIamPolicy" => {
            let bindings = json!([{"role": "roles/bigquery.filteredDataViewer", "members": found.grantees}]);
            Ok(Json(json!({"version": 1, "etag": etag(&bindings), "bindings": bindings})))
        }
        "testIamPermissions" => {
            Ok(Json(json!({"permissions": request.get("permissions").cloned().unwrap_or(json!([]))})))
        }
        _ => Err(ApiError::not_found(format!("Not found: no method {verb} on row access policies"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(policies: &[(&str, &str)]) -> TableRecord {
        let mut record = TableRecord::new(Map::new(), 0);
        record.policies = policies
            .iter()
            .enumerate()
            .map(|(i, (grantee, filter))| Policy {
                id: format!("p{i}"),
                filter: (*filter).into(),
                grantees: vec![(*grantee).into()],
                created_ms: 0,
                modified_ms: 0,
            })
            .collect();
        record
    }

    #[test]
    fn a_caller_sees_the_union_of_what_is_granted() {
        let table = TableRef::new("p", "d", "t");
        let ann = Caller { email: Some("ann@x.org".into()), ..Caller::default() };
        let seen = |policies: &[(&str, &str)]| filter_for(&record(policies), &ann, &table);
        assert_eq!(seen(&[]), None);
        assert_eq!(seen(&[("user:bob@x.org", "TRUE")]), Some("FALSE".into()));
        assert_eq!(seen(&[("user:ann@x.org", "a = 1"), ("allUsers", "b = 2")]), Some("(a = 1) OR (b = 2)".into()));
        assert_eq!(seen(&[("user:ann@x.org", "a = 1"), ("user:ann@x.org", "(true)")]), None);
    }
}

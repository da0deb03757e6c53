//! Row access policies, and IAM policies of tables: by REST. The crate has no getIamPolicy, setIamPolicy; and
//! row access policies are whole resources (see the module's head).

use serde_json::{Value, json};

use super::{BigQuery, check_listed, string, tables};
use crate::google::rest::{self, Call};
use crate::google::retry::Effect;
use crate::model::{Failure, TableId};

/// Version 3 carries conditions; asking for less hides bindings that have them.
const IAM_POLICY_VERSION: u8 = 3;

impl BigQuery {
    /// All row access policies of a table. Their grantees are not among the fields: see `get_row_access_policy_iam`.
    ///
    /// # Errors
    /// `NotFound` for the table, and as mapped by `error.rs`.
    pub async fn list_row_access_policies(&self, id: &TableId) -> Result<Vec<Value>, Failure> {
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let call = Call::get(tables::object(id), &child(id, &["rowAccessPolicies"]))
                .query("pageSize", 100)
                .query_if("pageToken", token.as_deref());
            let mut page = self.rest.call(&call).await?;
            if let Some(Value::Array(policies)) = page.get_mut("rowAccessPolicies").map(Value::take) {
                found.extend(policies);
            }
            check_listed(&tables::object(id), found.len())?;
            let next = Some(string(&page, "nextPageToken")).filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(found);
            }
            rest::check_advances(&tables::object(id), token.as_deref(), next.as_deref())?;
            token = next;
        }
    }

    /// Creates a row access policy from a resource: `rowAccessPolicyReference.policyId`, `filterPredicate`, `grantees`.
    ///
    /// # Errors
    /// `Exists`, and as mapped by `error.rs`.
    pub async fn insert_row_access_policy(&self, id: &TableId, mut resource: Value) -> Result<Value, Failure> {
        let policy = string(&resource["rowAccessPolicyReference"], "policyId");
        resource["rowAccessPolicyReference"] = json!({
            "projectId": id.project(), "datasetId": id.dataset(), "tableId": id.table(), "policyId": policy,
        });
        if let Some(fields) = resource.as_object_mut() {
            // A saved resource has what only the server says, too.
            for said in ["etag", "creationTime", "lastModifiedTime"] {
                fields.remove(said);
            }
        }
        let object = format!("row access policy {policy} of table {id}");
        let call = Call::post(&object, &child(id, &["rowAccessPolicies"]), Effect::Idempotent, resource.clone());
        if let Some(created) = self.rest.create(&call).await? {
            return Ok(created);
        }
        // After a lost reply: grantees are never read back, so what is there is compared without them.
        let read = self.rest.call(&Call::get(&object, &child(id, &["rowAccessPolicies", &policy]))).await?;
        if let Some(fields) = resource.as_object_mut() {
            fields.remove("grantees");
        }
        super::own_or_exists(&object, &resource, read)
    }

    /// Who a row access policy lets read, as an IAM policy.
    ///
    /// # Errors
    /// As mapped by `error.rs`.
    pub async fn get_row_access_policy_iam(&self, id: &TableId, policy: &str) -> Result<Value, Failure> {
        let last = format!("{policy}:getIamPolicy");
        let object = format!("row access policy {policy} of table {id}");
        self.rest.call(&get_iam(object, &child(id, &["rowAccessPolicies", &last]))).await
    }

    /// A table's or view's IAM policy.
    ///
    /// # Errors
    /// As mapped by `error.rs`.
    pub async fn get_table_iam(&self, id: &TableId) -> Result<Value, Failure> {
        let mut path = tables::path(id).map(str::to_string);
        path[7].push_str(":getIamPolicy");
        self.rest.call(&get_iam(format!("IAM policy of table {id}"), &path.each_ref().map(String::as_str))).await
    }

    /// Replaces a table's or view's IAM policy; with an `etag` in the policy only if nobody changed it since.
    ///
    /// # Errors
    /// `Precondition` or `Exists` (the service's "aborted") when the etag does not match, and as mapped by `error.rs`.
    pub async fn set_table_iam(&self, id: &TableId, policy: Value) -> Result<Value, Failure> {
        let mut path = tables::path(id).map(str::to_string);
        path[7].push_str(":setIamPolicy");
        let object = format!("IAM policy of table {id}");
        // With an etag a repeat after a lost reply is refused, hence "once"; without one it sets the same again.
        let effect = if policy.get("etag").is_some() { Effect::Once } else { Effect::Idempotent };
        let path = path.each_ref().map(String::as_str);
        self.rest.call(&Call::post(object, &path, effect, json!({"policy": policy}))).await
    }
}

fn get_iam(object: String, path: &[&str]) -> Call {
    Call::post(object, path, Effect::Read, json!({"options": {"requestedPolicyVersion": IAM_POLICY_VERSION}}))
}

fn child<'a>(id: &'a TableId, tail: &[&'a str]) -> Vec<&'a str> {
    let mut path = tables::path(id).to_vec();
    path.extend(tail);
    path
}

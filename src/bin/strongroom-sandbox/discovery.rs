//! BigQuery's discovery document, for clients that build themselves from one (`bq`): method by method what the sandbox
//! serves, with paths and parameters but without the shapes of bodies. Written from the table below, not Google's own text.

use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::core::http::{ok, own_base};
use crate::core::{ApiError, Params, Sandbox};

/// Method, verb, path below `projects/{+projectId}` and query parameters.
const METHODS: &str = "
datasets.delete DELETE /datasets/{+datasetId} deleteContents
datasets.get GET /datasets/{+datasetId} accessPolicyVersion datasetView
datasets.insert POST /datasets accessPolicyVersion
datasets.list GET /datasets all filter maxResults pageToken
datasets.patch PATCH /datasets/{+datasetId} accessPolicyVersion updateMode
datasets.undelete POST /datasets/{+datasetId}:undelete
datasets.update PUT /datasets/{+datasetId} accessPolicyVersion updateMode
jobs.cancel POST /jobs/{+jobId}/cancel location
jobs.delete DELETE /jobs/{+jobId}/delete location
jobs.get GET /jobs/{+jobId} location
jobs.getQueryResults GET /queries/{+jobId} formatOptions.timestampOutputFormat formatOptions.useInt64Timestamp location maxResults pageToken startIndex timeoutMs
jobs.insert POST /jobs
jobs.list GET /jobs allUsers maxCreationTime maxResults minCreationTime pageToken parentJobId projection stateFilter
jobs.query POST /queries
models.list GET /datasets/{+datasetId}/models maxResults pageToken
projects.getServiceAccount GET /serviceAccount
routines.delete DELETE /datasets/{+datasetId}/routines/{+routineId}
routines.get GET /datasets/{+datasetId}/routines/{+routineId} readMask
routines.insert POST /datasets/{+datasetId}/routines
routines.list GET /datasets/{+datasetId}/routines filter maxResults pageToken readMask
routines.update PUT /datasets/{+datasetId}/routines/{+routineId}
rowAccessPolicies.delete DELETE /datasets/{+datasetId}/tables/{+tableId}/rowAccessPolicies/{+policyId} force
rowAccessPolicies.get GET /datasets/{+datasetId}/tables/{+tableId}/rowAccessPolicies/{+policyId}
rowAccessPolicies.insert POST /datasets/{+datasetId}/tables/{+tableId}/rowAccessPolicies
rowAccessPolicies.list GET /datasets/{+datasetId}/tables/{+tableId}/rowAccessPolicies pageSize pageToken
rowAccessPolicies.update PUT /datasets/{+datasetId}/tables/{+tableId}/rowAccessPolicies/{+policyId}
tabledata.insertAll POST /datasets/{+datasetId}/tables/{+tableId}/insertAll
tabledata.list GET /datasets/{+datasetId}/tables/{+tableId}/data formatOptions.timestampOutputFormat formatOptions.useInt64Timestamp maxResults pageToken selectedFields startIndex
tables.delete DELETE /datasets/{+datasetId}/tables/{+tableId}
tables.get GET /datasets/{+datasetId}/tables/{+tableId} selectedFields view
tables.insert POST /datasets/{+datasetId}/tables
tables.list GET /datasets/{+datasetId}/tables maxResults pageToken
tables.patch PATCH /datasets/{+datasetId}/tables/{+tableId} autodetect_schema
tables.update PUT /datasets/{+datasetId}/tables/{+tableId} autodetect_schema
";
/// Policies of tables and routines: path below the base, whose whole resource is one parameter.
const POLICIES: [&str; 3] = ["getIamPolicy", "setIamPolicy", "testIamPermissions"];

/// Answers `/$discovery/rest` and `/discovery/v1/apis/bigquery/v2/rest`.
///
/// # Errors
/// 404 for every API but BigQuery v2.
pub fn serve(sandbox: &Sandbox, request: &Request) -> Result<Response, ApiError> {
    let path = request.uri().path();
    let params = Params::of(request.uri());
    let version = match path {
        "/$discovery/rest" => params.get("version"),
        "/discovery/v1/apis/bigquery/v2/rest" => Some("v2"),
        _ => None,
    };
    if request.method() != Method::GET || version != Some("v2") {
        return Err(ApiError::not_found("The sandbox writes a discovery document for BigQuery v2 only."));
    }
    Ok(ok(document(&own_base(request.headers(), sandbox.base_url()))))
}

fn document(base: &str) -> Value {
    let mut resources = Map::new();
    let mut add = |id: &str, method: Value| {
        let (resource, name) = id.split_once('.').unwrap_or(("", id));
        resources.entry(resource).or_insert_with(|| json!({"methods": {}}))["methods"][name] = method;
    };
    for line in METHODS.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let (id, verb, path) = (words.next(), words.next(), words.next());
        let (Some(id), Some(verb), Some(path)) = (id, verb, path) else { continue };
        add(id, method(id, verb, &format!("projects/{{+projectId}}{path}"), words));
    }
    add("projects.list", method("projects.list", "GET", "projects", ["maxResults", "pageToken"].into_iter()));
    for name in POLICIES {
        for resource in ["tables", "routines"] {
            let id = format!("{resource}.{name}");
            add(&id, method(&id, "POST", &format!("{{+resource}}:{name}"), std::iter::empty()));
        }
    }
    json!({
        "kind": "discovery#restDescription", "discoveryVersion": "v1", "id": "bigquery:v2", "name": "bigquery",
        "version": "v2", "title": "BigQuery API", "protocol": "rest", "description": "What the sandbox serves.",
        "rootUrl": format!("{base}/"), "servicePath": "bigquery/v2/", "basePath": "/bigquery/v2/",
        "baseUrl": format!("{base}/bigquery/v2/"), "batchPath": "batch/bigquery/v2",
        "auth": {"oauth2": {"scopes": {"https://www.googleapis.com/auth/bigquery": {"description": "BigQuery"}}}},
        "parameters": {
            "alt": parameter("alt", "query"), "fields": parameter("fields", "query"), "key": parameter("key", "query"),
            "prettyPrint": {"type": "boolean", "location": "query"}, "quotaUser": parameter("quotaUser", "query"),
        },
        // Bodies are not described: any member is let through.
        "schemas": {"Any": {"id": "Any", "type": "object", "additionalProperties": {"type": "any"}}},
        "resources": resources,
    })
}

fn method<'a>(id: &str, verb: &str, path: &str, query: impl Iterator<Item = &'a str>) -> Value {
    let mut parameters = Map::new();
    let mut order = Vec::new();
    for name in path.split("{+").skip(1).filter_map(|piece| piece.split('}').next()) {
        parameters.insert(name.into(), parameter(name, "path"));
        order.push(name);
    }
    parameters.extend(query.map(|name| (name.to_string(), parameter(name, "query"))));
    let mut method = json!({
        "id": format!("bigquery.{id}"), "httpMethod": verb, "path": path, "parameters": parameters,
        "parameterOrder": order, "scopes": ["https://www.googleapis.com/auth/bigquery"],
    });
    if verb != "GET" && verb != "DELETE" && id != "jobs.cancel" {
        method["request"] = json!({"$ref": "Any"});
    }
    if verb != "DELETE" {
        method["response"] = json!({"$ref": "Any"});
    }
    if id == "jobs.insert" {
        let at = |prefix: &str| json!({"multipart": true, "path": format!("/{prefix}upload/bigquery/v2/{path}")});
        method["supportsMediaUpload"] = json!(true);
        method["mediaUpload"] =
            json!({"accept": ["*/*"], "protocols": {"simple": at(""), "resumable": at("resumable/")}});
    }
    method
}

fn parameter(name: &str, location: &str) -> Value {
    let kind = match name {
        "all" | "allUsers" | "autodetect_schema" | "deleteContents" | "force" | "formatOptions.useInt64Timestamp" => {
            "boolean"
        }
        "accessPolicyVersion" | "maxResults" | "pageSize" | "timeoutMs" => "integer",
        _ => "string",
    };
    let mut parameter = json!({"type": kind, "location": location});
    if location == "path" {
        parameter["required"] = json!(true);
        // A resource's name is a path of its own.
        parameter["pattern"] = json!(if name == "resource" { "^projects/.+$" } else { "^[^/]+$" });
    }
    if name == "stateFilter" {
        parameter["repeated"] = json!(true);
        parameter["enum"] = json!(["done", "pending", "running"]);
    }
    parameter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_says_its_parameters() {
        let document = document("http://127.0.0.1:1");
        let get = &document["resources"]["tables"]["methods"]["get"];
        assert_eq!(get["path"], "projects/{+projectId}/datasets/{+datasetId}/tables/{+tableId}");
        assert_eq!(get["parameterOrder"], json!(["projectId", "datasetId", "tableId"]));
        assert_eq!(get["parameters"]["view"]["location"], "query");
        assert!(
            get["request"].is_null() && document["resources"]["jobs"]["methods"]["insert"]["mediaUpload"].is_object()
        );
        let methods: usize = document["resources"]
            .as_object()
            .unwrap()
            .values()
            .map(|resource| resource["methods"].as_object().unwrap().len())
            .sum();
        assert_eq!(methods, METHODS.lines().filter(|line| !line.is_empty()).count() + 7);
        assert_eq!(document["rootUrl"], "http://127.0.0.1:1/");
    }
}

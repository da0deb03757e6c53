//! Which permissions a request needs, by its RPC-like name and path: as Google's tables of IAM permissions per method say.
//! What depends on the state (an overwrite needs `storage.objects.delete`) the service itself looks at.

use serde_json::Value;

use super::super::http::segments;
use super::super::{ApiError, Params};

/// A permission on something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    pub permission: String,
    pub subject: Subject,
}

/// What a permission is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    Bucket(String),
    Object {
        bucket: String,
        name: String,
    },
    Project(String),
    Dataset {
        project: String,
        dataset: String,
    },
    Table {
        project: String,
        dataset: String,
        table: String,
    },
    /// The resource name of any other service.
    Named(String),
}

impl Subject {
    /// The name that a grant's pattern is compared with.
    pub fn resource(&self) -> String {
        match self {
            Self::Bucket(bucket) => format!("projects/_/buckets/{bucket}"),
            Self::Object { bucket, name } => format!("projects/_/buckets/{bucket}/objects/{name}"),
            Self::Project(project) => format!("projects/{project}"),
            Self::Dataset { project, dataset } => format!("projects/{project}/datasets/{dataset}"),
            Self::Table { project, dataset, table } => {
                format!("projects/{project}/datasets/{dataset}/tables/{table}")
            }
            Self::Named(name) => name.clone(),
        }
    }
}

impl Need {
    pub fn new(permission: impl Into<String>, subject: Subject) -> Self {
        Self { permission: permission.into(), subject }
    }

    /// 403 in the words of the service.
    pub fn refusal(&self, email: &str) -> ApiError {
        let permission = &self.permission;
        match &self.subject {
            Subject::Bucket(_) | Subject::Object { .. } => {
                let kind = if matches!(self.subject, Subject::Bucket(_)) { "bucket" } else { "object" };
                ApiError::forbidden(
                    "forbidden",
                    format!(
                        "{email} does not have {permission} access to the Google Cloud Storage {kind}. \
                         Permission '{permission}' denied on resource (or it may not exist)."
                    ),
                )
            }
            Subject::Project(project) if permission.starts_with("bigquery.") => ApiError::forbidden(
                "accessDenied",
                format!(
                    "Access Denied: Project {project}: User does not have {permission} permission in project {project}."
                ),
            ),
            Subject::Dataset { project, dataset } => {
                let name = format!("{project}:{dataset}");
                ApiError::forbidden(
                    "accessDenied",
                    format!(
                        "Access Denied: Dataset {name}: Permission {permission} denied on dataset {name} (or it may not exist)."
                    ),
                )
            }
            Subject::Table { project, dataset, table } => {
                let name = format!("{project}:{dataset}.{table}");
                ApiError::forbidden(
                    "accessDenied",
                    format!(
                        "Access Denied: Table {name}: Permission {permission} denied on table {name} (or it may not exist)."
                    ),
                )
            }
            Subject::Named(name) if permission.starts_with("sheets.") => {
                tracing::debug!("{email} lacks {permission} on {name}");
                ApiError::forbidden("forbidden", "The caller does not have permission")
            }
            other => ApiError::forbidden(
                "forbidden",
                format!("Permission '{permission}' denied on resource '{}' (or it may not exist).", other.resource()),
            ),
        }
    }
}

/// What a request needs, and what a testIamPermissions is about.
pub fn of_request(name: &str, path: &str, params: &Params, body: Option<&Value>) -> (Vec<Need>, Option<Subject>) {
    let parts = segments(path).unwrap_or_default();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (service, method) = name.split_once('.').unwrap_or((name, ""));
    match service {
        "storage" => storage(method, &parts, params, body),
        "bigquery" => bigquery(method, &parts, body),
        "sheets" => {
            let id = parts.get(2).map_or("", |last| last.split(':').next().unwrap_or_default());
            let subject = Subject::Named(format!("spreadsheets/{id}"));
            (vec![Need::new(name, subject)], None)
        }
        "cloudscheduler" | "secretmanager" | "run" | "pubsub" => named(service, method, &parts),
        "cloudkms" => kms(method, &parts),
        _ => (Vec::new(), None),
    }
}

fn storage(method: &str, parts: &[&str], params: &Params, body: Option<&Value>) -> (Vec<Need>, Option<Subject>) {
    let api = parts.windows(2).position(|w| w == ["storage", "v1"]).map(|at| &parts[at + 2..]);
    let (bucket, object) = match api {
        Some(["b", bucket, "o", object, ..]) => (*bucket, Some((*object).to_string())),
        Some(["b", bucket, "o"]) => (*bucket, params.get("name").map(str::to_string)),
        Some(["b", bucket, ..]) => (*bucket, None),
        Some(_) => ("", None),
        None => {
            let object = parts.get(1..).unwrap_or_default().join("/");
            (parts.first().copied().unwrap_or_default(), Some(object).filter(|o| !o.is_empty()))
        }
    };
    let on_bucket = || Subject::Bucket(bucket.to_string());
    let on_object = |name: &str| Subject::Object { bucket: bucket.to_string(), name: name.to_string() };
    let target = object.as_deref().map_or_else(on_bucket, on_object);
    let one = |permission: &str, subject: Subject| (vec![Need::new(format!("storage.{permission}"), subject)], None);
    match method {
        // The address of an upload that was begun is permission enough.
        _ if params.get("upload_id").is_some() => (Vec::new(), None),
        "buckets.testIamPermissions" | "objects.testIamPermissions" => (Vec::new(), Some(target)),
        "buckets.insert" => one("buckets.create", Subject::Project(params.get("project").unwrap_or("_").into())),
        "buckets.list" => one("buckets.list", Subject::Project(params.get("project").unwrap_or("_").into())),
        "buckets.patch" | "buckets.update" | "lockRetentionPolicy.insert" => one("buckets.update", on_bucket()),
        "buckets.get" | "buckets.delete" | "buckets.getIamPolicy" | "buckets.setIamPolicy" => one(method, on_bucket()),
        "objects.list" => one("objects.list", on_bucket()),
        "objects.get" | "objects.getMedia" => one("objects.get", target),
        "objects.patch" | "objects.update" => one("objects.update", target),
        "objects.delete" | "objects.restore" | "objects.getIamPolicy" | "objects.setIamPolicy" => one(method, target),
        "objects.insert" => {
            let said = body.and_then(|b| b["name"].as_str());
            // A multipart upload may have its name within: that the service checks.
            object.as_deref().or(said).map_or((Vec::new(), None), |name| one("objects.create", on_object(name)))
        }
        "objects.compose" => {
            let sources = body.and_then(|b| b["sourceObjects"].as_array()).into_iter().flatten();
            let mut needs = vec![Need::new("storage.objects.create", target)];
            needs.extend(
                sources
                    .filter_map(|s| s["name"].as_str())
                    .map(|name| Need::new("storage.objects.get", on_object(name))),
            );
            (needs, None)
        }
        "objects.rewrite" | "objects.copy" | "objects.moveTo" => {
            let mut needs = vec![Need::new("storage.objects.get", target.clone())];
            let to = match api.unwrap_or_default() {
                [.., "b", bucket, "o", name] => Subject::Object { bucket: (*bucket).into(), name: (*name).into() },
                [.., name] => on_object(name),
                [] => target.clone(),
            };
            needs.push(Need::new("storage.objects.create", to));
            if method == "objects.moveTo" {
                needs.push(Need::new("storage.objects.delete", target));
            }
            (needs, None)
        }
        "xml.get" | "xml.head" if object.is_some() => one("objects.get", target),
        "xml.get" => one("objects.list", target),
        "xml.head" => one("buckets.get", target),
        "xml.put" | "xml.post" if object.is_some() => one("objects.create", target),
        "xml.put" => one("buckets.create", Subject::Project("_".into())),
        "xml.delete" if object.is_some() => one("objects.delete", target),
        "xml.delete" => one("buckets.delete", target),
        _ => (Vec::new(), None),
    }
}

fn bigquery(method: &str, parts: &[&str], body: Option<&Value>) -> (Vec<Need>, Option<Subject>) {
    let at = parts.iter().position(|p| *p == "projects").unwrap_or(parts.len());
    let part = |n: usize| parts.get(at + n).map_or("", |p| p.split(':').next().unwrap_or_default()).to_string();
    let (project, dataset, kind, table) = (part(1), part(3), part(4), part(5));
    // A decorator chooses rows of the same table.
    let table = table.split(['@', '$']).next().unwrap_or_default().to_string();
    let on_project = || Subject::Project(project.clone());
    let on_dataset = || Subject::Dataset { project: project.clone(), dataset: dataset.clone() };
    let on_table = || match kind.as_str() {
        "tables" => Subject::Table { project: project.clone(), dataset: dataset.clone(), table: table.clone() },
        kind => Subject::Named(format!("projects/{project}/datasets/{dataset}/{kind}/{table}")),
    };
    let one = |permission: String, subject: Subject| (vec![Need::new(permission, subject)], None);
    let (collection, verb) = method.split_once('.').unwrap_or((method, ""));
    let written = match verb {
        "insert" | "undelete" => "create",
        "patch" => "update",
        other => other,
    };
    match (collection, verb) {
        ("datasets", "testIamPermissions") => (Vec::new(), Some(on_dataset())),
        (_, "testIamPermissions") => (Vec::new(), Some(on_table())),
        ("datasets", "list") => (Vec::new(), None),
        ("datasets", "insert") => one("bigquery.datasets.create".into(), on_project()),
        ("datasets", _) => one(format!("bigquery.datasets.{written}"), on_dataset()),
        ("tabledata", "list") => one("bigquery.tables.getData".into(), on_table()),
        ("tabledata", "insertAll") => one("bigquery.tables.updateData".into(), on_table()),
        ("tables" | "routines" | "models", "list" | "insert") => {
            one(format!("bigquery.{collection}.{written}"), on_dataset())
        }
        ("tables" | "routines" | "models" | "rowAccessPolicies", _) => {
            one(format!("bigquery.{collection}.{written}"), on_table())
        }
        ("jobs", "insert" | "query") => {
            let mut needs = vec![Need::new("bigquery.jobs.create", on_project())];
            needs.extend(body.map_or(Vec::new(), |b| of_job(&b["configuration"])));
            (needs, None)
        }
        ("jobs", "delete") => one("bigquery.jobs.delete".into(), on_project()),
        _ => (Vec::new(), None),
    }
}

/// What a job does to tables and files. What a query reads is not looked into.
fn of_job(configuration: &Value) -> Vec<Need> {
    let mut needs = Vec::new();
    let table = |reference: &Value| {
        let text = |field: &str| reference[field].as_str().unwrap_or_default().to_string();
        let table = text("tableId");
        Subject::Table {
            project: text("projectId"),
            dataset: text("datasetId"),
            table: table.split(['@', '$']).next().unwrap_or_default().into(),
        }
    };
    let mut add = |permissions: &[&str], subject: Subject| {
        needs.extend(permissions.iter().map(|p| Need::new(*p, subject.clone())));
    };
    let files = |uris: &Value| -> Vec<Subject> {
        let names = uris.as_array().into_iter().flatten().filter_map(Value::as_str);
        let split = names.filter_map(|uri| uri.strip_prefix("gs://")?.split_once('/'));
        split.map(|(bucket, name)| Subject::Object { bucket: bucket.into(), name: name.into() }).collect()
    };
    if let Some(extract) = configuration.get("extract") {
        add(&["bigquery.tables.export"], table(&extract["sourceTable"]));
        for uri in files(&extract["destinationUris"]) {
            add(&["storage.objects.create", "storage.objects.delete"], uri);
        }
    }
    if let Some(load) = configuration.get("load") {
        let mut wanted = vec!["bigquery.tables.updateData"];
        if load["createDisposition"] != "CREATE_NEVER" {
            wanted.push("bigquery.tables.create");
        }
        add(&wanted, table(&load["destinationTable"]));
        for uri in files(&load["sourceUris"]) {
            add(&["storage.objects.get"], uri);
        }
    }
    if let Some(copy) = configuration.get("copy") {
        let one = copy.get("sourceTable").into_iter();
        for source in one.chain(copy["sourceTables"].as_array().into_iter().flatten()) {
            add(&["bigquery.tables.get", "bigquery.tables.getData"], table(source));
            if copy["operationType"] == "SNAPSHOT" {
                add(&["bigquery.tables.createSnapshot"], table(source));
            }
        }
        add(&["bigquery.tables.create", "bigquery.tables.updateData"], table(&copy["destinationTable"]));
    }
    needs
}

/// Cloud KMS: `encrypt` and `decrypt` are permissions on versions, held on the key.
fn kms(method: &str, parts: &[&str]) -> (Vec<Need>, Option<Subject>) {
    let resource = parts.get(1..).unwrap_or_default().join("/");
    let subject = Subject::Named(resource.split(':').next().unwrap_or_default().to_string());
    let method = method.trim_start_matches("projects.locations.");
    let mut names = method.rsplit('.');
    let (verb, collection) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
    let permission = match verb {
        "testIamPermissions" => return (Vec::new(), Some(subject)),
        "encrypt" => "cryptoKeyVersions.useToEncrypt".to_string(),
        "decrypt" => "cryptoKeyVersions.useToDecrypt".into(),
        "updatePrimaryVersion" => "cryptoKeys.update".into(),
        "patch" => format!("{collection}.update"),
        verb => format!("{collection}.{verb}"),
    };
    (vec![Need::new(format!("cloudkms.{permission}"), subject)], None)
}

/// The newer services, whose paths are resource names: `cloudscheduler.projects.locations.jobs.pause` needs
/// `cloudscheduler.jobs.pause`.
fn named(service: &str, method: &str, parts: &[&str]) -> (Vec<Need>, Option<Subject>) {
    let method = method.trim_start_matches("projects.").trim_start_matches("locations.");
    let method = method.trim_start_matches("secrets.versions").trim_start_matches("services.revisions");
    let method = match (service, method.strip_prefix('.')) {
        ("secretmanager", Some(verb)) => format!("versions.{verb}"),
        (_, Some(verb)) => format!("revisions.{verb}"),
        (_, None) => method.to_string(),
    };
    let resource = parts.get(1..).unwrap_or_default().join("/");
    let resource = resource.split(':').next().unwrap_or_default().to_string();
    let subject = Subject::Named(resource);
    let (collection, verb) = method.rsplit_once('.').unwrap_or((&method, ""));
    let permission = match (service, collection, verb) {
        (_, _, "testIamPermissions") => return (Vec::new(), Some(subject)),
        ("cloudscheduler", _, "resume") => "cloudscheduler.jobs.enable".to_string(),
        ("secretmanager", "secrets", "addVersion") => "secretmanager.versions.add".into(),
        ("pubsub", "subscriptions", "pull" | "streamingPull" | "acknowledge" | "modifyAckDeadline" | "seek") => {
            "pubsub.subscriptions.consume".into()
        }
        ("pubsub", "subscriptions", "detach") => "pubsub.topics.detachSubscription".into(),
        ("pubsub", "topics.subscriptions" | "topics.snapshots", _) => "pubsub.topics.get".into(),
        ("run", "operations", "wait") => "run.operations.get".into(),
        (_, _, "patch") => format!("{service}.{collection}.update"),
        _ => format!("{service}.{method}"),
    };
    (vec![Need::new(permission, subject)], None)
}

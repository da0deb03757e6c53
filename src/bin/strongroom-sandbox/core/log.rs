//! The request log: what came in, under which RPC-like name, and whether it could change something.
//! In memory as a ring, on disk as JSON lines. Knows the paths of Google's services, not their meaning.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ApiError, Params};

/// How many requests are kept in memory and read back at the start.
const RING: usize = 20_000;
/// A log file larger than this is put aside at the start, and the one put aside before is dropped.
const ROTATE_BYTES: u64 = 256 << 20;
/// JSON bodies up to this size are logged.
pub const LOGGED_BODY_BYTES: usize = 64 << 10;

/// One request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// Counts up from 1, also across restarts.
    pub seq: u64,
    /// The sandbox's time, RFC 3339.
    pub time: String,
    pub method: String,
    pub path: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub query: String,
    /// `bigquery`, `storage`, `sheets`, `scheduler`, `secretmanager`, `cloudkms`, `pubsub`, `run`, `container` or `other`.
    pub service: String,
    /// An RPC-like name such as `bigquery.jobs.insert`.
    pub name: String,
    /// 0: no answer was given.
    pub status: u16,
    pub duration_ms: u64,
    /// Whether a request of this kind may change something, whatever its status was.
    pub mutating: bool,
    /// Bytes of the answer's body, when its length was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// The fault that was injected, as it is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// A response extension by which a service corrects what the log would derive from method and path.
#[derive(Debug, Clone, Default)]
pub struct LogAs {
    pub name: Option<String>,
    pub mutating: Option<bool>,
}

/// The log of all requests but those to `/_sandbox`.
pub struct RequestLog {
    inner: Mutex<Inner>,
}

struct Inner {
    ring: VecDeque<Entry>,
    next: u64,
    file: File,
    path: PathBuf,
}

impl RequestLog {
    /// Opens the log and reads the last entries back.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, ApiError> {
        if std::fs::metadata(path).is_ok_and(|m| m.len() > ROTATE_BYTES) {
            std::fs::rename(path, path.with_extension("jsonl.1"))?;
        }
        let mut ring = VecDeque::new();
        if let Ok(file) = File::open(path) {
            // A line cut short by a kill is no entry.
            for entry in
                BufReader::new(file).lines().map_while(Result::ok).filter_map(|l| serde_json::from_str(&l).ok())
            {
                if ring.len() == RING {
                    ring.pop_front();
                }
                ring.push_back(entry);
            }
        }
        let next = ring.back().map_or(1, |e: &Entry| e.seq + 1);
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(b"\n")?;
        Ok(Self { inner: Mutex::new(Inner { ring, next, file, path: path.to_path_buf() }) })
    }

    /// Appends an entry; its `seq` is assigned here.
    pub fn append(&self, mut entry: Entry) {
        let mut inner = self.lock();
        entry.seq = inner.next;
        inner.next += 1;
        if let Ok(mut line) = serde_json::to_vec(&entry) {
            line.push(b'\n');
            if let Err(e) = inner.file.write_all(&line) {
                tracing::warn!("the request log cannot be written: {e}");
            }
        }
        if inner.ring.len() == RING {
            inner.ring.pop_front();
        }
        inner.ring.push_back(entry);
    }

    /// The entries after number `since`, oldest first, at most `limit`, and the number to go on from.
    pub fn since(&self, since: u64, limit: usize) -> (Vec<Entry>, u64) {
        let inner = self.lock();
        let entries: Vec<Entry> = inner.ring.iter().filter(|e| e.seq > since).take(limit).cloned().collect();
        let next = entries.last().map_or(since, |e| e.seq);
        (entries, next)
    }

    /// The last `count` entries, newest first.
    pub fn last(&self, count: usize) -> Vec<Entry> {
        self.lock().ring.iter().rev().take(count).cloned().collect()
    }

    /// Forgets all entries; the numbers go on.
    ///
    /// # Errors
    /// When the file cannot be emptied.
    pub fn clear(&self) -> Result<(), ApiError> {
        let mut inner = self.lock();
        inner.file = File::create(&inner.path)?;
        inner.ring.clear();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Service and RPC-like name of a request, from its method and path.
pub fn name_of(method: &str, path: &str, query: &Params) -> (&'static str, String) {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    if let Some(at) = parts.iter().position(|p| *p == "projects")
        && (at == 0 || parts[..at].ends_with(&["bigquery", "v2"]))
    {
        return ("bigquery", bigquery(method, &parts[at..]));
    }
    match parts.as_slice() {
        [.., "storage", "v1"] if parts[0] == "batch" => ("storage", "storage.batch".into()),
        ["upload" | "download" | "resumable", ..] | ["storage", "v1", ..] => {
            ("storage", storage(method, &parts, query).unwrap_or_else(|| "storage.unknown".into()))
        }
        ["v4", "spreadsheets", rest @ ..] => ("sheets", sheets(method, rest)),
        ["v1" | "v1beta1", "projects", _, "locations", _, "jobs", rest @ ..] => {
            ("scheduler", format!("cloudscheduler.projects.locations.jobs.{}", collection(method, rest)))
        }
        ["v1", "projects", _, "secrets", _, tail @ ..] if tail.first() == Some(&"versions") => {
            ("secretmanager", format!("secretmanager.projects.secrets.versions.{}", collection(method, &tail[1..])))
        }
        ["v1", "projects", _, "secrets", rest @ ..] => {
            ("secretmanager", format!("secretmanager.projects.secrets.{}", collection(method, rest)))
        }
        ["v1", "projects", _, "locations", _, "keyRings", _, "cryptoKeys", _, "cryptoKeyVersions", rest @ ..] => (
            "cloudkms",
            format!("cloudkms.projects.locations.keyRings.cryptoKeys.cryptoKeyVersions.{}", collection(method, rest)),
        ),
        ["v1", "projects", _, "locations", _, "keyRings", _, "cryptoKeys", rest @ ..] => {
            ("cloudkms", format!("cloudkms.projects.locations.keyRings.cryptoKeys.{}", collection(method, rest)))
        }
        ["v1", "projects", _, "locations", _, "keyRings", rest @ ..] => {
            ("cloudkms", format!("cloudkms.projects.locations.keyRings.{}", collection(method, rest)))
        }
        ["google.pubsub.v1.Publisher" | "google.pubsub.v1.Subscriber", rpc] => {
            ("pubsub", format!("pubsub.projects.{}", pubsub_rpc(rpc)))
        }
        ["v1", "projects", _, "topics", _, kind @ ("subscriptions" | "snapshots")] => {
            ("pubsub", format!("pubsub.projects.topics.{kind}.list"))
        }
        ["v1", "projects", _, kind @ ("topics" | "subscriptions" | "snapshots"), rest @ ..] => {
            let verb = if method == "PUT" { "create".into() } else { collection(method, rest) };
            ("pubsub", format!("pubsub.projects.{kind}.{verb}"))
        }
        ["v2", "projects", _, "locations", _, "services", _, "revisions", rest @ ..] => {
            ("run", format!("run.projects.locations.services.revisions.{}", collection(method, rest)))
        }
        ["v2", "projects", _, "locations", _, kind @ ("services" | "operations"), rest @ ..] => {
            ("run", format!("run.projects.locations.{kind}.{}", collection(method, rest)))
        }
        // What a deployed service answers, which is not Google.
        ["_services", _, _, _, rest @ ..] => ("container", format!("container.{}", rest.join("."))),
        ["computeMetadata", ..] => ("other", "metadata.get".into()),
        ["$discovery" | "discovery", ..] => ("other", "discovery.get".into()),
        ["token"] => ("other", "oauth2.token".into()),
        ["oauth2", ..] => ("other", "oauth2.certs".into()),
        [""] | ["_sandbox", ..] => ("other", "sandbox.page".into()),
        _ => ("storage", format!("storage.xml.{}", method.to_ascii_lowercase())),
    }
}

/// `CreateTopic` -> `topics.create`: as the same method is called over REST.
fn pubsub_rpc(rpc: &str) -> String {
    let verb = |verb: &str| if verb == "Update" { "patch".to_string() } else { verb.to_lowercase() };
    match rpc {
        "Publish" => "topics.publish".into(),
        "ListTopicSubscriptions" => "topics.subscriptions.list".into(),
        "ListTopicSnapshots" => "topics.snapshots.list".into(),
        "ModifyAckDeadline" => "subscriptions.modifyAckDeadline".into(),
        "ModifyPushConfig" => "subscriptions.modifyPushConfig".into(),
        "StreamingPull" => "subscriptions.streamingPull".into(),
        "Acknowledge" | "Pull" | "Seek" => format!("subscriptions.{}", rpc.to_lowercase()),
        _ => {
            let at = rpc.char_indices().skip(1).find(|(_, c)| c.is_ascii_uppercase()).map_or(rpc.len(), |(at, _)| at);
            let (first, kind) = rpc.split_at(at);
            let plural = if kind.ends_with('s') { "" } else { "s" };
            format!("{}{plural}.{}", kind.to_lowercase(), verb(first))
        }
    }
}

/// Whether a request of this name may change something.
pub fn is_mutating(method: &str, name: &str) -> bool {
    const READS: [&str; 9] = [
        "bigquery.jobs.query",
        "testIamPermissions",
        "getIamPolicy",
        "token",
        "access",
        "ByDataFilter",
        "cryptoKeys.encrypt",
        "cryptoKeys.decrypt",
        "operations.wait",
    ];
    // Over gRPC everything is a POST.
    let reads = name.starts_with("pubsub.") && (name.ends_with(".get") || name.ends_with(".list"));
    !reads && matches!(method, "POST" | "PUT" | "PATCH" | "DELETE") && !READS.iter().any(|r| name.ends_with(r))
}

fn crud(method: &str, on_collection: bool) -> &'static str {
    match (method, on_collection) {
        ("GET" | "HEAD", true) => "list",
        ("GET" | "HEAD", false) => "get",
        ("POST", _) => "insert",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        _ => "unknown",
    }
}

/// `create`, `run`, `get` ... for the newer APIs, whose paths may end in `:verb`.
fn collection(method: &str, rest: &[&str]) -> String {
    let last = rest.last().copied().unwrap_or_default();
    if let Some((_, verb)) = last.rsplit_once([':']).or_else(|| last.split_once("%3A")) {
        return verb.into();
    }
    match (method, rest.is_empty()) {
        ("POST", true) => "create".into(),
        (_, on_collection) => crud(method, on_collection).into(),
    }
}

fn bigquery(method: &str, parts: &[&str]) -> String {
    let verb_of = |last: &str| last.rsplit_once(':').map(|(_, verb)| verb.to_string());
    let name = match parts {
        ["projects"] => "projects.list".into(),
        ["projects", _, "serviceAccount"] => "projects.getServiceAccount".into(),
        // The pieces of a file that a load job brings.
        ["projects", _, "jobs"] if method == "PUT" => "jobs.insert".into(),
        ["projects", _, "queries"] => "jobs.query".into(),
        ["projects", _, "queries", _] => "jobs.getQueryResults".into(),
        ["projects", _, "jobs", _, "cancel"] => "jobs.cancel".into(),
        ["projects", _, "jobs", _, "delete"] => "jobs.delete".into(),
        ["projects", _, "datasets", _, "tables", _, "insertAll"] => "tabledata.insertAll".into(),
        ["projects", _, "datasets", _, "tables", _, "data"] => "tabledata.list".into(),
        ["projects", _, "datasets", _, "tables", _, "rowAccessPolicies", rest @ ..] => {
            let verb = rest.last().and_then(|l| verb_of(l)).unwrap_or_else(|| crud(method, rest.is_empty()).into());
            format!("rowAccessPolicies.{verb}")
        }
        ["projects", _, rest @ ..] => {
            let at = rest.len().saturating_sub(1) / 2 * 2;
            let kind = rest.get(at).copied().unwrap_or("projects");
            let last = rest.last().copied().unwrap_or_default();
            let verb = verb_of(last).unwrap_or_else(|| crud(method, rest.len() % 2 == 1).into());
            format!("{kind}.{verb}")
        }
        _ => "unknown".into(),
    };
    format!("bigquery.{name}")
}

fn storage(method: &str, parts: &[&str], query: &Params) -> Option<String> {
    let upload = parts.contains(&"upload");
    let at = parts.windows(2).position(|w| w == ["storage", "v1"])? + 2;
    Some(match &parts[at..] {
        ["b", _, "o"] if upload => "storage.objects.insert".into(),
        ["b", rest @ ("" | _)] if !rest.is_empty() => format!("storage.buckets.{}", crud(method, false)),
        ["b"] => format!("storage.buckets.{}", crud(method, true)),
        ["b", _, "o", rest @ ..] => match rest {
            [] => format!("storage.objects.{}", crud(method, true)),
            [_] if query.get("alt") == Some("media") => "storage.objects.getMedia".into(),
            [_] if parts[0] == "download" => "storage.objects.getMedia".into(),
            [_] => format!("storage.objects.{}", crud(method, false)),
            [_, "rewriteTo", ..] => "storage.objects.rewrite".into(),
            [_, "copyTo", ..] => "storage.objects.copy".into(),
            [_, "compose"] => "storage.objects.compose".into(),
            [_, "restore"] => "storage.objects.restore".into(),
            [_, "iam", ..] => iam("objects", method, rest),
            [.., last] => format!("storage.objects.{last}"),
        },
        ["b", _, "iam", ..] => iam("buckets", method, parts),
        ["b", _, what, rest @ ..] => format!("storage.{what}.{}", crud(method, rest.is_empty())),
        ["projects", ..] => "storage.projects.serviceAccount.get".into(),
        _ => return None,
    })
}

fn iam(of: &str, method: &str, parts: &[&str]) -> String {
    let verb = match (parts.last(), method) {
        (Some(&"testPermissions"), _) => "testIamPermissions",
        (_, "PUT") => "setIamPolicy",
        _ => "getIamPolicy",
    };
    format!("storage.{of}.{verb}")
}

fn sheets(method: &str, rest: &[&str]) -> String {
    let verb = |text: &str| text.rsplit_once([':']).map(|(_, v)| v.to_string());
    let name = match rest {
        [] => "create".into(),
        [id] => verb(id).unwrap_or_else(|| crud(method, false).into()),
        [_, "values", range] => format!("values.{}", verb_after_range(range).unwrap_or(crud(method, false))),
        [_, values] => format!("values.{}", verb(values).unwrap_or_default()),
        _ => "unknown".into(),
    };
    format!("sheets.spreadsheets.{name}")
}

/// A range holds colons of its own (`A1:B2`), so only the known verbs count.
fn verb_after_range(range: &str) -> Option<&'static str> {
    ["append", "clear"].into_iter().find(|v| range.ends_with(&format!(":{v}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_get_rpc_like_names() {
        let name = |method: &str, path: &str, query: &str| name_of(method, path, &Params::parse(Some(query))).1;
        for (method, path, expected) in [
            ("POST", "/bigquery/v2/projects/p/jobs", "bigquery.jobs.insert"),
            ("POST", "/upload/bigquery/v2/projects/p/jobs", "bigquery.jobs.insert"),
            ("PUT", "/upload/bigquery/v2/projects/p/jobs", "bigquery.jobs.insert"),
            ("GET", "/bigquery/v2/projects/p/jobs/j", "bigquery.jobs.get"),
            ("GET", "/bigquery/v2/projects/p/queries/j", "bigquery.jobs.getQueryResults"),
            ("POST", "/projects/p/queries", "bigquery.jobs.query"),
            ("GET", "/bigquery/v2/projects/p/datasets", "bigquery.datasets.list"),
            ("PATCH", "/bigquery/v2/projects/p/datasets/d/tables/t", "bigquery.tables.patch"),
            ("POST", "/bigquery/v2/projects/p/datasets/d/tables/t:getIamPolicy", "bigquery.tables.getIamPolicy"),
            ("POST", "/bigquery/v2/projects/p/datasets/d/tables/t/insertAll", "bigquery.tabledata.insertAll"),
            ("GET", "/bigquery/v2/projects/p/datasets/d/tables/t/rowAccessPolicies", "bigquery.rowAccessPolicies.list"),
            ("POST", "/upload/storage/v1/b/x/o", "storage.objects.insert"),
            ("GET", "/storage/v1/b/x/o/a%2Fb", "storage.objects.get"),
            ("GET", "/storage/v1/b", "storage.buckets.list"),
            ("DELETE", "/storage/v1/b/x", "storage.buckets.delete"),
            ("PUT", "/storage/v1/b/x/iam", "storage.buckets.setIamPolicy"),
            ("POST", "/storage/v1/b/x/o/a/rewriteTo/b/y/o/z", "storage.objects.rewrite"),
            ("POST", "/batch/storage/v1", "storage.batch"),
            ("PUT", "/x/a/b", "storage.xml.put"),
            ("POST", "/v4/spreadsheets", "sheets.spreadsheets.create"),
            ("PUT", "/v4/spreadsheets/s/values/A1:B2", "sheets.spreadsheets.values.update"),
            ("POST", "/v4/spreadsheets/s/values/A1:B2:append", "sheets.spreadsheets.values.append"),
            ("POST", "/v4/spreadsheets/s/values:batchClear", "sheets.spreadsheets.values.batchClear"),
            ("POST", "/v1/projects/p/locations/l/jobs/j:pause", "cloudscheduler.projects.locations.jobs.pause"),
            ("POST", "/v1/projects/p/locations/l/jobs", "cloudscheduler.projects.locations.jobs.create"),
            ("POST", "/v1/projects/p/secrets/s:addVersion", "secretmanager.projects.secrets.addVersion"),
            ("PATCH", "/v2/projects/p/locations/l/services/s", "run.projects.locations.services.patch"),
            (
                "GET",
                "/v2/projects/p/locations/l/services/s/revisions/r",
                "run.projects.locations.services.revisions.get",
            ),
            ("POST", "/v2/projects/p/locations/l/operations/o:wait", "run.projects.locations.operations.wait"),
            ("GET", "/_services/p/l/s/health", "container.health"),
            ("PUT", "/v1/projects/p/topics/t", "pubsub.projects.topics.create"),
            ("POST", "/v1/projects/p/topics/t:publish", "pubsub.projects.topics.publish"),
            ("GET", "/v1/projects/p/topics/t/subscriptions", "pubsub.projects.topics.subscriptions.list"),
            ("POST", "/google.pubsub.v1.Publisher/CreateTopic", "pubsub.projects.topics.create"),
            ("POST", "/google.pubsub.v1.Publisher/UpdateTopic", "pubsub.projects.topics.patch"),
            ("POST", "/google.pubsub.v1.Subscriber/ListSubscriptions", "pubsub.projects.subscriptions.list"),
            ("POST", "/google.pubsub.v1.Publisher/DetachSubscription", "pubsub.projects.subscriptions.detach"),
            ("POST", "/google.pubsub.v1.Subscriber/Pull", "pubsub.projects.subscriptions.pull"),
            (
                "GET",
                "/v1/projects/p/secrets/s/versions/latest:access",
                "secretmanager.projects.secrets.versions.access",
            ),
        ] {
            assert_eq!(name(method, path, ""), expected, "{method} {path}");
        }
        assert_eq!(name("GET", "/storage/v1/b/x/o/a", "alt=media"), "storage.objects.getMedia");
        assert!(is_mutating("POST", "bigquery.jobs.insert") && !is_mutating("POST", "bigquery.tables.getIamPolicy"));
    }

    #[test]
    fn the_log_is_read_back_and_its_numbers_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("requests.jsonl");
        let entry = Entry {
            seq: 0,
            time: String::new(),
            method: "GET".into(),
            path: "/x".into(),
            query: String::new(),
            service: "other".into(),
            name: "n".into(),
            status: 200,
            duration_ms: 0,
            mutating: false,
            response_bytes: None,
            user_agent: None,
            body: None,
            fault: None,
        };
        let log = RequestLog::open(&path).unwrap();
        log.append(entry.clone());
        log.append(entry.clone());
        assert_eq!(log.since(1, 9).0.len(), 1);
        drop(log);
        let log = RequestLog::open(&path).unwrap();
        log.append(entry);
        let (entries, next) = log.since(0, 9);
        assert_eq!((entries.len(), next), (3, 3));
        assert_eq!(log.since(3, 9).1, 3);
        log.clear().unwrap();
        assert!(log.since(0, 9).0.is_empty());
    }
}

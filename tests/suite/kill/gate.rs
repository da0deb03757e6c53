//! The gate between a run of the program and Google: numbers every request that may change something, and lets none of them
//! go on before or after the one at which the process is to be killed.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;

/// Where a run is stopped: before or after its n-th effect, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub number: u64,
    pub after: bool,
}

#[derive(Default)]
struct Passage {
    stop: Option<Point>,
    stopped: bool,
    /// Every effect since it was armed, `METHOD path`.
    effects: Vec<String>,
}

/// A running gate; it ends with the runtime that it was started on.
pub struct Gate {
    endpoint: String,
    state: Arc<Inner>,
}

struct Inner {
    endpoint: String,
    upstream: String,
    client: reqwest::Client,
    passage: Mutex<Passage>,
    changed: Condvar,
}

impl Gate {
    pub async fn start(upstream: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
        let state = Arc::new(Inner {
            endpoint: endpoint.clone(),
            upstream: upstream.into(),
            client: client.expect("a client"),
            passage: Mutex::default(),
            changed: Condvar::new(),
        });
        let router = axum::Router::new()
            .fallback(forward)
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { endpoint, state }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Counts from now on, and stops there.
    pub fn arm(&self, stop: Option<Point>) {
        *self.state.passage.lock().expect("the passage") = Passage { stop, ..Passage::default() };
    }

    /// Waits until the run stands still.
    pub fn stopped(&self, at_most: Duration) -> bool {
        let passage = self.state.passage.lock().expect("the passage");
        let waited = self.state.changed.wait_timeout_while(passage, at_most, |passage| !passage.stopped);
        waited.expect("the passage").0.stopped
    }

    /// The effects since it was armed.
    pub fn effects(&self) -> Vec<String> {
        self.state.passage.lock().expect("the passage").effects.clone()
    }
}

/// Whether a request may change something. Of queries only statements other than SELECT do.
fn has_effect(method: &str, path: &str, body: &Bytes) -> bool {
    if matches!(method, "GET" | "HEAD") {
        return false;
    }
    let path = path.split('?').next().unwrap_or_default();
    if path.ends_with("/queries") {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let sql = body["query"].as_str().unwrap_or_default().trim_start().to_uppercase();
        return !(sql.starts_with("SELECT") || sql.starts_with("WITH"));
    }
    !["testIamPermissions", "testPermissions", "getIamPolicy", "/token"].iter().any(|read| path.ends_with(read))
}

async fn forward(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let Ok(body) = to_bytes(body, usize::MAX).await else { return gone() };
    let mut stop_after = false;
    if has_effect(parts.method.as_str(), &path, &body) {
        let stand_still = {
            let mut passage = inner.passage.lock().expect("the passage");
            passage.effects.push(format!("{} {}", parts.method, path.split('?').next().unwrap_or_default()));
            let number = passage.effects.len() as u64;
            let here = passage.stop.filter(|stop| stop.number == number);
            stop_after = here.is_some_and(|stop| stop.after);
            let before = here.is_some_and(|stop| !stop.after);
            passage.stopped |= before;
            passage.stopped
        };
        if stand_still {
            inner.changed.notify_all();
            std::future::pending::<()>().await;
        }
    }
    let mut headers = parts.headers;
    for hop in ["host", "content-length", "transfer-encoding", "connection"] {
        headers.remove(hop);
    }
    let sent = inner.client.request(parts.method, format!("{}{path}", inner.upstream)).headers(headers).body(body);
    let Ok(answer) = sent.send().await else { return gone() };
    let (status, headers) = (answer.status(), answer.headers().clone());
    let Ok(bytes) = answer.bytes().await else { return gone() };
    if stop_after {
        inner.passage.lock().expect("the passage").stopped = true;
        inner.changed.notify_all();
        std::future::pending::<()>().await;
    }
    let mut response = Response::builder().status(status);
    for (name, value) in &headers {
        if !["content-length", "transfer-encoding", "connection"].contains(&name.as_str()) {
            // Resumable uploads are answered with an address of the server itself.
            let value = value.to_str().unwrap_or_default().replace(&inner.upstream, &inner.endpoint);
            response = response.header(name, value);
        }
    }
    response.body(Body::from(bytes)).expect("an answer")
}

/// The sandbox is gone, or the process was killed while it sent.
fn gone() -> Response {
    Response::builder().status(502).body(Body::empty()).expect("an answer")
}

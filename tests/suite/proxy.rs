//! A proxy that breaks things: between a client and the sandbox, it answers errors by itself, or lets a request through
//! and loses the reply. Does not know what the requests mean.

use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Pass,
    /// Answers this status, with an optional `Retry-After`; nothing is passed on.
    Answer(u16, Option<&'static str>),
    /// Cuts the connection before anything is passed on.
    Cut,
    /// Never answers; nothing is passed on.
    Stall,
    /// Passes the request on, and cuts the connection instead of answering.
    LoseReply,
    /// Passes only so many bytes of an upload's part on: the service keeps a part of the part.
    TakePart(usize),
    /// Passes the request on, and cuts the connection after so many bytes of the answer's body.
    CutBody(usize),
}

type Rule = dyn Fn(&str, &str) -> Action + Send + Sync;

/// A running proxy; it ends with the test's runtime.
pub struct Proxy {
    state: Arc<Broken>,
}

struct Broken {
    endpoint: String,
    upstream: String,
    client: reqwest::Client,
    rule: Box<Rule>,
    seen: Mutex<Vec<String>>,
}

impl Proxy {
    /// `rule` gets the method and the path with the query of every request.
    pub async fn start(upstream: &str, rule: impl Fn(&str, &str) -> Action + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
        let rule = Box::new(rule);
        let state = Arc::new(Broken { endpoint, upstream: upstream.into(), client, rule, seen: Mutex::default() });
        let router = axum::Router::new()
            .fallback(forward)
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { state }
    }

    pub fn endpoint(&self) -> &str {
        &self.state.endpoint
    }

    /// How many requests had this text in `METHOD path?query`.
    pub fn count(&self, text: &str) -> usize {
        self.state.seen.lock().expect("the log").iter().filter(|line| line.contains(text)).count()
    }
}

/// The first `count` requests that contain `text` get `action`, all others pass.
pub fn first(count: usize, text: &'static str, action: Action) -> impl Fn(&str, &str) -> Action + Send + Sync {
    let left = Mutex::new(count);
    move |method, path| {
        let mut left = left.lock().expect("the counter");
        if *left > 0 && format!("{method} {path}").contains(text) {
            *left -= 1;
            return action.clone();
        }
        Action::Pass
    }
}

async fn forward(State(broken): State<Arc<Broken>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    broken.seen.lock().expect("the log").push(format!("{} {path}", parts.method));
    let action = (broken.rule)(parts.method.as_str(), &path);
    let mut body = to_bytes(body, usize::MAX).await.unwrap_or_else(|_| cut());
    match action {
        Action::Answer(status, retry_after) => {
            let text = format!(r#"{{"error": {{"code": {status}, "message": "broken on purpose", "errors": []}}}}"#);
            let mut response = Response::builder().status(status).header("content-type", "application/json");
            if let Some(after) = retry_after {
                response = response.header("retry-after", after);
            }
            return response.body(Body::from(text)).expect("an answer");
        }
        Action::Cut => cut(),
        Action::Stall => std::future::pending::<()>().await,
        Action::Pass | Action::LoseReply | Action::CutBody(_) | Action::TakePart(_) => {}
    }
    let mut headers = parts.headers;
    for hop in ["host", "content-length", "transfer-encoding", "connection"] {
        headers.remove(hop);
    }
    if let Action::TakePart(bytes) = action {
        let range = headers.get("content-range").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let begin: usize =
            range.trim_start_matches("bytes ").split('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        if body.len() > bytes {
            body.truncate(bytes);
            let range = format!("bytes {begin}-{}/*", begin + bytes - 1);
            headers.insert("content-range", range.parse().expect("a range"));
            headers.remove("x-goog-hash");
        }
    }
    let sent = broken.client.request(parts.method, format!("{}{path}", broken.upstream)).headers(headers).body(body);
    let Ok(answer) = sent.send().await else { cut() };
    if action == Action::LoseReply {
        let _ = answer.bytes().await;
        cut();
    }
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if !["content-length", "transfer-encoding", "connection"].contains(&name.as_str()) {
            // Resumable uploads are answered with an address of the server itself.
            let value = value.to_str().unwrap_or_default().replace(&broken.upstream, &broken.endpoint);
            response = response.header(name, value);
        }
    }
    if let Action::CutBody(bytes) = action {
        let whole = answer.bytes().await.unwrap_or_else(|_| cut());
        let part = whole.slice(..bytes.min(whole.len()));
        let broken = futures::stream::iter([Ok(part), Err(std::io::Error::other("cut on purpose"))]);
        return response.header("content-length", whole.len()).body(Body::from_stream(broken)).expect("an answer");
    }
    response.body(Body::from_stream(answer.bytes_stream())).expect("an answer")
}

/// Ends the connection without a word: the task that serves it unwinds, and no panic message is printed.
fn cut() -> ! {
    std::panic::resume_unwind(Box::new(()))
}

//! What goes over the wire beside what the crate says: conditions, checksums and deadlines.
//!
//! The crate completes uploads in parts without a condition. Here "only where nothing is" is added to every completion:
//! the service itself decides, at the last moment.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::{CloudStore, Timeouts, failure};
use crate::model::Failure;

/// What a service wants in a request that the crate has made and signed.
#[async_trait]
pub(super) trait Dialect: Debug + Send + Sync + 'static {
    async fn amend(&self, request: &mut HttpRequest) -> Result<(), HttpError>;
}

/// Connects by the crate's own client.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    pub dialect: Arc<dyn Dialect>,
    pub call_timeout: Duration,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        let (dialect, call_timeout) = (self.dialect.clone(), self.call_timeout);
        Ok(HttpClient::new(Wire { inner, dialect, call_timeout }))
    }
}

#[derive(Debug)]
struct Wire {
    inner: HttpClient,
    dialect: Arc<dyn Dialect>,
    call_timeout: Duration,
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.dialect.amend(&mut request).await?;
        match tokio::time::timeout(self.call_timeout, self.inner.execute(request)).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(HttpError::new(HttpErrorKind::Timeout, elapsed)),
        }
    }
}

/// A stream takes as long as it takes: who reads it looks whether it brings anything.
pub(super) fn options(timeouts: Timeouts) -> ClientOptions {
    ClientOptions::new().with_allow_http(true).with_timeout_disabled().with_connect_timeout(timeouts.call.min(CONNECT))
}

const CONNECT: Duration = Duration::from_secs(10);

/// The crate's own repeats: of what surely had no effect, and of what may be done twice.
pub(super) fn retry() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(10), base: 2.0 };
    RetryConfig { backoff, max_retries: 8, retry_timeout: Duration::from_secs(180) }
}

/// How often a deletion is sent.
const TRIES: u32 = 5;

/// Sends a deletion until it is answered; it may be done twice.
pub(super) async fn delete(store: &CloudStore, key: &str, e_tag: Option<&str>) -> Result<(), Failure> {
    let (path, object) = (store.path(key)?, store.name(key));
    let mut unanswered = false;
    for tries in 1.. {
        let failed = match store.service.client().execute(store.service.deletion(&path, e_tag).await?).await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                if (200..300).contains(&status) || (status == 404 && unanswered) {
                    return Ok(());
                }
                let body = answer.into_body().bytes().await.unwrap_or_default();
                failure::of_status(&object, status, failure::told(status, &String::from_utf8_lossy(&body)), true)
            }
            Err(error) => Failure::Unknown {
                object: object.clone(),
                message: format!("no answer to a deletion ({:?})", error.kind()),
            },
        };
        let again = matches!(failed, Failure::Unknown { .. } | Failure::Transient { .. });
        if !again || tries >= TRIES {
            return Err(failed);
        }
        unanswered |= matches!(failed, Failure::Unknown { .. });
        tokio::time::sleep(Duration::from_millis(100 << tries)).await;
    }
    Ok(())
}

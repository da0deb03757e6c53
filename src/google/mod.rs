//! One client per Google service over one auth (`auth.rs`), one retry (`retry.rs`) and one error (`error.rs`).
//! Does not know backups, plans or where the program's settings come from.

mod auth;
pub mod bigquery;
mod error;
pub mod kms;
mod rest;
mod retry;
pub mod run;
pub mod scheduler;
pub mod secrets;
pub mod sheets;
pub mod storage;

use std::sync::Arc;

use crate::model::Failure;
pub use auth::Credentials;
pub use bigquery::{BigQuery, Warehouse};
pub use kms::Kms;
pub use retry::RetryPolicy;
pub use run::CloudRun;
pub use scheduler::{Scheduler, Schedules};
pub use secrets::Secrets;
pub use sheets::Sheets;
pub use storage::Storage;

/// How to reach Google.
#[derive(Debug, Clone)]
pub struct Settings {
    /// One address for all services, e.g. `http://127.0.0.1:9050`; `None` for Google's own.
    pub endpoint: Option<String>,
    pub credentials: Credentials,
    pub retry: RetryPolicy,
    /// Sent with every call of the REST client.
    pub user_agent: String,
}

/// The clients. Cheap to clone: all share one connection pool per client. Those that a simulation stands in for are
/// behind traits.
#[derive(Clone)]
pub struct Google {
    pub bigquery: Arc<dyn Warehouse>,
    pub storage: Storage,
    pub sheets: Sheets,
    pub scheduler: Arc<dyn Schedules>,
    pub run: CloudRun,
    pub secrets: Secrets,
    pub kms: Kms,
}

impl Google {
    /// Builds the clients; sends nothing yet.
    ///
    /// # Errors
    /// `Invalid` for an endpoint or key that cannot be read, `Denied` when no credentials are found.
    pub async fn connect(settings: Settings) -> Result<Self, Failure> {
        let credentials = settings.credentials.build(&auth::CLOUD_SCOPES)?;
        let retry = Arc::new(settings.retry.clone());
        let http = reqwest::Client::builder()
            .user_agent(&settings.user_agent)
            .connect_timeout(rest::CONNECT_TIMEOUT)
            // A redirect would carry the token to where the server points.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Failure::Invalid { object: "http client".into(), message: error.to_string() })?;
        let endpoint = settings.endpoint.as_deref().map(|text| text.trim_end_matches('/').to_string());
        let base = |own: &str| endpoint.clone().unwrap_or_else(|| own.to_string());

        let rest = rest::Rest::new(http.clone(), &base(bigquery::HOST), credentials.clone(), retry.clone())?;
        let bigquery = BigQuery::connect(rest, endpoint.as_deref(), credentials.clone()).await?;
        let rest = rest::Rest::new(http.clone(), &base(storage::HOST), credentials.clone(), retry.clone())?;
        let storage = Storage::connect(rest, endpoint.as_deref(), credentials.clone()).await?;
        let plain = |host: &str| rest::Rest::new(http.clone(), &base(host), credentials.clone(), retry.clone());
        let run = CloudRun::new(plain(run::HOST)?, plain(run::TOKENS_HOST)?);
        let secrets = Secrets::new(plain(secrets::HOST)?);
        let kms = Kms::new(plain(kms::HOST)?);
        // Cloud-platform does not cover Sheets, and a login by hand may not cover both: hence credentials of its own.
        let rest = rest::Rest::new(
            http,
            &base(sheets::HOST),
            settings.credentials.build(&auth::SHEETS_SCOPES)?,
            retry.clone(),
        )?;
        let sheets = Sheets::new(rest);
        let scheduler = Scheduler::connect(endpoint.as_deref(), credentials, retry).await?;
        Ok(Self { bigquery: Arc::new(bigquery), storage, sheets, scheduler: Arc::new(scheduler), run, secrets, kms })
    }
}

/// What Google's own crates say when a client cannot be built.
fn client_failure(service: &str, error: &google_cloud_gax::client_builder::Error) -> Failure {
    Failure::Invalid { object: format!("{service} client"), message: error.to_string() }
}

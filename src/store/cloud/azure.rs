//! Azure Blob Storage.
//!
//! Blobs and blocks are sent with their MD5 (`Content-MD5`), which the service holds against what arrived. Conditions:
//! `If-None-Match: *` on Put Blob and on Put Block List, `If-Match` on Put Blob and Delete Blob. An account's key signs
//! all of these, so a request that gets one is signed again.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Method, header};
use md5::{Digest, Md5};
use object_store::ObjectStore;
use object_store::azure::{
    AzureAuthorizer, AzureConfigKey, AzureCredential, AzureCredentialProvider, MicrosoftAzure, MicrosoftAzureBuilder,
};
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody};
use object_store::list::PaginatedListStore;
use object_store::path::Path;
use url::Url;

use super::wire::{self, Connector, Dialect};
use super::{CloudStore, Service, Timeouts, failure};
use crate::model::{Failure, Secret};

/// How an account is reached.
#[derive(Debug, Clone)]
pub struct AzureSettings {
    pub account: String,
    /// `None`: Microsoft's own, of this account.
    pub endpoint: Option<String>,
    pub credentials: AzureCredentials,
    pub timeouts: Timeouts,
}

#[derive(Debug, Clone)]
pub enum AzureCredentials {
    AccountKey(Secret),
    /// What Microsoft's own tools find: a shared access signature, a client's secret, a federated token, the machine's
    /// identity. The variables that say so, by their names.
    Found {
        variables: Vec<(String, Secret)>,
    },
}

impl CloudStore {
    /// A container of an account.
    ///
    /// # Errors
    /// `Invalid` for settings that cannot be.
    pub fn azure(container: &str, prefix: &str, settings: &AzureSettings) -> Result<Self, Failure> {
        let root = format!("az://{container}/");
        let account = &settings.account;
        let endpoint = settings.endpoint.clone().unwrap_or_else(|| format!("https://{account}.blob.core.windows.net"));
        let invalid = |message: String| Failure::Invalid { object: "azure.endpoint".into(), message };
        let url = Url::parse(&endpoint).map_err(|error| invalid(error.to_string()))?;
        if url.cannot_be_a_base() {
            return Err(invalid("is no address of a service".into()));
        }
        let manners = Arc::new(Manners { account: account.clone(), credentials: OnceLock::new() });
        let connector = Connector { dialect: manners.clone(), call_timeout: settings.timeouts.call };
        let mut builder = MicrosoftAzureBuilder::new()
            .with_account(account)
            .with_container_name(container)
            .with_endpoint(endpoint)
            .with_client_options(wire::options(settings.timeouts))
            .with_retry(wire::retry())
            .with_http_connector(connector.clone());
        match &settings.credentials {
            AzureCredentials::AccountKey(key) => builder = builder.with_access_key(key.expose()),
            AzureCredentials::Found { variables } => {
                for (name, value) in variables {
                    if let Ok(key) = name.to_lowercase().parse::<AzureConfigKey>() {
                        builder = builder.with_config(key, value.expose());
                    }
                }
            }
        }
        let failed = |error: object_store::Error| failure::of_read(&root, &error);
        let store = builder.build().map_err(failed)?;
        manners.credentials.get_or_init(|| store.credentials().clone());
        let client = connector.connect(&wire::options(settings.timeouts)).map_err(failed)?;
        let container = container.to_string();
        let service = Arc::new(Azure { store, client, url, account: account.clone(), container });
        Self::new(service, root.clone(), prefix, format!("account {account}"), settings.timeouts)
    }
}

#[derive(Debug)]
struct Azure {
    store: MicrosoftAzure,
    client: HttpClient,
    url: Url,
    account: String,
    container: String,
}

#[async_trait]
impl Service for Azure {
    fn objects(&self) -> &dyn ObjectStore {
        &self.store
    }

    fn lists(&self) -> &dyn PaginatedListStore {
        &self.store
    }

    fn client(&self) -> &HttpClient {
        &self.client
    }

    async fn deletion(&self, path: &Path, e_tag: Option<&str>) -> Result<HttpRequest, Failure> {
        let mut url = self.url.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().push(&self.container).extend(path.parts());
        }
        // A blob goes with its snapshots.
        let mut request = http::Request::delete(url.as_str()).header("x-ms-delete-snapshots", "include");
        if let Some(e_tag) = e_tag {
            request = request.header(header::IF_MATCH, e_tag);
        }
        let invalid = |error: http::Error| Failure::Invalid { object: path.to_string(), message: error.to_string() };
        let mut request = request.body(HttpRequestBody::empty()).map_err(invalid)?;
        let credential = self.store.credentials().get_credential().await;
        let credential = credential.map_err(|error| failure::of_read(path.as_ref(), &error))?;
        AzureAuthorizer::new(&credential, &self.account).authorize(&mut request);
        Ok(request)
    }
}

/// Conditions and checksums that the crate does not send.
#[derive(Debug)]
struct Manners {
    account: String,
    /// Known when the store is built.
    credentials: OnceLock<AzureCredentialProvider>,
}

static CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

#[async_trait]
impl Dialect for Manners {
    async fn amend(&self, request: &mut HttpRequest) -> Result<(), HttpError> {
        // Not the requests that fetch a token.
        let blob = request.headers().contains_key("x-ms-version") && request.method() == Method::PUT;
        let Some(credentials) = self.credentials.get().filter(|_| blob) else { return Ok(()) };
        let work = request.uri().query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("comp="));
        let work = work.unwrap_or_default().to_string();
        if work == "blocklist" {
            request.headers_mut().insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        if let Some(bytes) = request.body().as_bytes() {
            let sum = STANDARD.encode(Md5::digest(bytes));
            if let Ok(sum) = HeaderValue::from_str(&sum) {
                request.headers_mut().insert(CONTENT_MD5.clone(), sum);
            }
        }
        let failed = |error: object_store::Error| HttpError::new(HttpErrorKind::Request, error);
        let credential = credentials.get_credential().await.map_err(failed)?;
        // The others do not sign what a request says.
        if matches!(credential.as_ref(), AzureCredential::AccessKey(_)) {
            request.headers_mut().remove(header::AUTHORIZATION);
            AzureAuthorizer::new(&credential, &self.account).authorize(request);
        }
        Ok(())
    }
}

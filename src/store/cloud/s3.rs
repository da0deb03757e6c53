//! S3, and services that speak its protocol.
//!
//! Every request's body is signed with its SHA-256, and parts and objects carry it as their checksum
//! (`x-amz-checksum-sha256`): what arrives changed is refused by the service. Conditions: `If-None-Match: *` on PutObject and
//! on CompleteMultipartUpload, `If-Match` on PutObject and DeleteObject. A service that does not know the last of them deletes
//! what was looked at just before.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderValue, Method, header};
use object_store::ObjectStore;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpRequestBody};
use object_store::list::PaginatedListStore;
use object_store::path::Path;
use object_store::signer::Signer;

use super::wire::{self, Connector, Dialect};
use super::{CloudStore, Service, Timeouts, failure};
use crate::model::{Failure, Secret};

/// How S3 is reached.
#[derive(Debug, Clone)]
pub struct S3Settings {
    pub region: String,
    /// `None`: Amazon's own.
    pub endpoint: Option<String>,
    /// The bucket is in the path, not in the host's name.
    pub path_style: bool,
    pub credentials: S3Credentials,
    pub timeouts: Timeouts,
}

#[derive(Debug, Clone)]
pub enum S3Credentials {
    Key {
        id: String,
        secret: Secret,
        token: Option<Secret>,
    },
    /// What Amazon's own tools find without a key: a web identity, the container's, the machine's. The variables that say
    /// where, by their names.
    Found {
        variables: Vec<(String, Secret)>,
    },
}

impl CloudStore {
    /// A bucket of S3.
    ///
    /// # Errors
    /// `Invalid` for settings that cannot be.
    pub fn s3(bucket: &str, prefix: &str, settings: &S3Settings) -> Result<Self, Failure> {
        let root = format!("s3://{bucket}/");
        let connector = Connector { dialect: Arc::new(OnlyNew), call_timeout: settings.timeouts.call };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&settings.region)
            .with_virtual_hosted_style_request(!settings.path_style)
            .with_checksum_algorithm(Checksum::SHA256)
            .with_client_options(wire::options(settings.timeouts))
            .with_retry(wire::retry())
            .with_http_connector(connector.clone());
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        match &settings.credentials {
            S3Credentials::Key { id, secret, token } => {
                builder = builder.with_access_key_id(id).with_secret_access_key(secret.expose());
                if let Some(token) = token {
                    builder = builder.with_token(token.expose());
                }
            }
            S3Credentials::Found { variables } => {
                for (name, value) in variables {
                    if let Ok(key) = name.to_lowercase().parse::<AmazonS3ConfigKey>() {
                        builder = builder.with_config(key, value.expose());
                    }
                }
            }
        }
        let failed = |error: object_store::Error| failure::of_read(&root, &error);
        let store = builder.build().map_err(failed)?;
        let client = connector.connect(&wire::options(settings.timeouts)).map_err(failed)?;
        let service = Arc::new(S3 { store, client });
        Self::new(service, root.clone(), prefix, settings.region.clone(), settings.timeouts)
    }
}

#[derive(Debug)]
struct S3 {
    store: AmazonS3,
    client: HttpClient,
}

/// How long a deletion's address is good for.
const SIGNED_FOR: Duration = Duration::from_secs(300);

#[async_trait]
impl Service for S3 {
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
        let url = self.store.signed_url(Method::DELETE, path, SIGNED_FOR).await;
        let url = url.map_err(|error| failure::of_read(path.as_ref(), &error))?;
        let mut request = http::Request::delete(url.as_str());
        if let Some(e_tag) = e_tag {
            request = request.header(header::IF_MATCH, e_tag);
        }
        let invalid = |error: http::Error| Failure::Invalid { object: path.to_string(), message: error.to_string() };
        request.body(HttpRequestBody::empty()).map_err(invalid)
    }
}

/// Uploads are completed only where nothing is. (The header needs no signature: it is none of Amazon's own.)
#[derive(Debug)]
struct OnlyNew;

#[async_trait]
impl Dialect for OnlyNew {
    async fn amend(&self, request: &mut HttpRequest) -> Result<(), HttpError> {
        let completes = request.method() == Method::POST
            && request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("uploadId=")));
        if completes {
            request.headers_mut().insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        Ok(())
    }
}

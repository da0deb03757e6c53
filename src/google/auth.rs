//! Credentials, made once for all services. Does not read files or the environment, except through Google's own
//! application-default lookup.

use google_cloud_auth::credentials::{self, CacheableResource, CredentialsProvider, EntityTag};
use google_cloud_auth::errors::CredentialsError;
use http::{Extensions, HeaderMap, HeaderValue};

use crate::model::{Failure, Secret};

/// Who calls.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// No credentials: public data, or a local server.
    Anonymous,
    /// Google's own lookup: GOOGLE_APPLICATION_CREDENTIALS, gcloud's login, the metadata server.
    ApplicationDefault,
    /// The JSON text of a service account's key.
    ServiceAccountKey(Secret),
    /// An OAuth access token that somebody else obtained. It is not refreshed.
    Token(Secret),
}

/// BigQuery, Storage and Scheduler.
pub(crate) const CLOUD_SCOPES: [&str; 1] = ["https://www.googleapis.com/auth/cloud-platform"];
/// Sheets is no part of cloud-platform.
pub(crate) const SHEETS_SCOPES: [&str; 1] = ["https://www.googleapis.com/auth/spreadsheets"];

impl Credentials {
    /// # Errors
    /// `Invalid` for a key that cannot be read, `Denied` when no credentials are found.
    pub(crate) fn build(&self, scopes: &[&str]) -> Result<credentials::Credentials, Failure> {
        let scopes = scopes.iter().map(ToString::to_string);
        match self {
            Self::Anonymous => Ok(credentials::anonymous::Builder::new().build()),
            Self::ApplicationDefault => {
                credentials::Builder::default().with_scopes(scopes).build().map_err(|error| Failure::Denied {
                    object: "application default credentials".into(),
                    message: format!("{error}; hint: run `gcloud auth application-default login`"),
                })
            }
            Self::ServiceAccountKey(key) => {
                let object = "service account key".to_string();
                // The parser's own message could quote a part of the key.
                let key = serde_json::from_str(key.expose())
                    .map_err(|_| Failure::Invalid { object: object.clone(), message: "not a JSON document".into() })?;
                let access = credentials::service_account::AccessSpecifier::from_scopes(scopes);
                credentials::service_account::Builder::new(key).with_access_specifier(access).build().map_err(|_| {
                    let message = "not the key of a service account; hint: create a JSON key in the console";
                    Failure::Invalid { object, message: message.into() }
                })
            }
            Self::Token(token) => {
                let mut value =
                    HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| Failure::Invalid {
                        object: "access token".into(),
                        message: "has characters that no header may have".into(),
                    })?;
                value.set_sensitive(true);
                Ok(FixedToken { value, tag: EntityTag::new() }.into())
            }
        }
    }
}

/// One bearer token, sent as it is. `HeaderValue` marked sensitive prints no text.
#[derive(Debug, Clone)]
struct FixedToken {
    value: HeaderValue,
    tag: EntityTag,
}

impl CredentialsProvider for FixedToken {
    async fn headers(&self, extensions: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        if extensions.get::<EntityTag>() == Some(&self.tag) {
            return Ok(CacheableResource::NotModified);
        }
        let data = HeaderMap::from_iter([(http::header::AUTHORIZATION, self.value.clone())]);
        Ok(CacheableResource::New { entity_tag: self.tag.clone(), data })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_sent_and_never_printed() {
        let credentials = Credentials::Token(Secret::new("ya29.hidden"));
        assert!(!format!("{credentials:?}").contains("hidden"));
        let built = credentials.build(&CLOUD_SCOPES).unwrap();
        assert!(!format!("{built:?}").contains("hidden"), "{built:?}");
        let CacheableResource::New { data, .. } = built.headers(Extensions::new()).await.unwrap() else {
            panic!("no headers");
        };
        assert_eq!(data["authorization"], "Bearer ya29.hidden");
    }

    #[test]
    fn a_broken_key_is_refused_without_quoting_it() {
        for key in ["private-text", r#"{"private_key": "private-text"}"#] {
            let failure = Credentials::ServiceAccountKey(Secret::new(key)).build(&CLOUD_SCOPES).unwrap_err();
            assert!(!failure.to_string().contains("private-text"), "{failure}");
        }
    }
}

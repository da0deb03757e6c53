//! Settings of S3 and Azure out of the configuration, files and the environment, as the services' own tools find them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::config::{Azure, Config, S3};
use crate::model::{Failure, Place, Secret};
use crate::store::{AzureCredentials, AzureSettings, CloudStore, S3Credentials, S3Settings, Store, Timeouts};

/// What is needed to open a bucket of S3 or a container of Azure; looked up when one is opened.
#[derive(Clone)]
pub(super) struct Clouds {
    s3: S3,
    azure: Azure,
    timeouts: Timeouts,
}

impl Clouds {
    pub fn of(config: &Config) -> Self {
        let google = config.google.as_ref();
        let timeouts = google.map_or_else(Timeouts::default, |google| Timeouts {
            call: google.call_timeout.as_duration(),
            progress: google.progress_timeout.as_duration(),
        });
        Self { s3: config.s3.clone(), azure: config.azure.clone(), timeouts }
    }

    /// Opens a place in S3 or Azure; `None` for others.
    pub fn open(&self, place: &Place) -> Result<Option<Arc<dyn Store>>, Failure> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Ok(match place {
            Place::S3 { bucket, prefix } => {
                Some(Arc::new(CloudStore::s3(bucket, prefix, &s3(&self.s3, self.timeouts, &variable)?)?))
            }
            Place::Azure { container, prefix } => {
                Some(Arc::new(CloudStore::azure(container, prefix, &azure(&self.azure, self.timeouts, &variable)?)?))
            }
            Place::Gcs { .. } | Place::Local { .. } => None,
        })
    }
}

type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

fn s3(config: &S3, timeouts: Timeouts, variable: Variable<'_>) -> Result<S3Settings, Failure> {
    let region = config.region.clone().or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION"));
    let endpoint = config.endpoint.clone();
    let endpoint = endpoint.or_else(|| variable("AWS_ENDPOINT_URL_S3")).or_else(|| variable("AWS_ENDPOINT_URL"));
    Ok(S3Settings {
        region: region.unwrap_or_else(|| "us-east-1".into()),
        path_style: config.path_style.unwrap_or(endpoint.is_some()),
        endpoint,
        credentials: s3_credentials(config, variable)?,
        timeouts,
    })
}

fn s3_credentials(config: &S3, variable: Variable<'_>) -> Result<S3Credentials, Failure> {
    if let Some((id, secret)) = &config.key {
        let id = named("s3.access_key", id, variable)?;
        return Ok(S3Credentials::Key {
            id,
            secret: Secret::new(named("s3.secret_key", secret, variable)?),
            token: None,
        });
    }
    let profile = config.profile.clone().or_else(|| variable("AWS_PROFILE")).unwrap_or_else(|| "default".into());
    if let Some(file) = &config.credentials {
        return profile_of(Path::new(file), &profile);
    }
    if let (Some(id), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        let token = variable("AWS_SESSION_TOKEN").map(Secret::new);
        return Ok(S3Credentials::Key { id, secret: Secret::new(secret), token });
    }
    let file = variable("AWS_SHARED_CREDENTIALS_FILE")
        .or_else(|| Some(format!("{}/.aws/credentials", variable("HOME")?)))
        .filter(|file| Path::new(file).is_file());
    if let Some(file) = file {
        return profile_of(Path::new(&file), &profile);
    }
    // A web identity, the container's or the machine's own.
    const NAMES: [&str; 7] = [
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_ENDPOINT_URL_STS",
    ];
    Ok(S3Credentials::Found { variables: found(&NAMES, variable) })
}

/// What a variable holds that the configuration names.
fn named(setting: &str, name: &str, variable: Variable<'_>) -> Result<String, Failure> {
    variable(name).map(|value| value.trim().to_string()).ok_or_else(|| Failure::Invalid {
        object: format!("{setting} 'env:{name}'"),
        message: format!("the environment has no such variable; hint: export {name}=..."),
    })
}

fn found(names: &[&str], variable: Variable<'_>) -> Vec<(String, Secret)> {
    names.iter().filter_map(|name| Some(((*name).to_string(), Secret::new(variable(name)?)))).collect()
}

/// A profile of a file in Amazon's form: `[name]`, `key = value`.
fn profile_of(file: &Path, profile: &str) -> Result<S3Credentials, Failure> {
    let invalid =
        |message: String| Failure::Invalid { object: format!("s3.credentials '{}'", file.display()), message };
    let text = std::fs::read_to_string(file).map_err(|error| {
        invalid(format!("{error}; hint: a file of credentials in Amazon's form, or \"environment\""))
    })?;
    let mut values = BTreeMap::new();
    let mut within = false;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            within = name.trim() == profile;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| within) {
            values.insert(key.trim().to_lowercase(), value.trim().to_string());
        }
    }
    match (values.remove("aws_access_key_id"), values.remove("aws_secret_access_key")) {
        (Some(id), Some(secret)) => {
            let token = values.remove("aws_session_token").map(Secret::new);
            Ok(S3Credentials::Key { id, secret: Secret::new(secret), token })
        }
        _ => Err(invalid(format!("has no key of the profile '{profile}'; hint: s3.profile, or aws configure"))),
    }
}

fn azure(config: &Azure, timeouts: Timeouts, variable: Variable<'_>) -> Result<AzureSettings, Failure> {
    let invalid = |object: &str, message: &str| Failure::Invalid { object: object.into(), message: message.into() };
    let connection: BTreeMap<String, String> = variable("AZURE_STORAGE_CONNECTION_STRING")
        .iter()
        .flat_map(|text| text.split(';').filter_map(|pair| pair.split_once('=')))
        .map(|(key, value)| (key.trim().to_lowercase(), value.trim().to_string()))
        .collect();
    let account = config.account.clone().or_else(|| variable("AZURE_STORAGE_ACCOUNT"));
    let account = account.or_else(|| variable("AZURE_STORAGE_ACCOUNT_NAME"));
    let account = account.or_else(|| connection.get("accountname").cloned());
    let missing = "is missing; hint: [azure] account = \"...\", or the variable AZURE_STORAGE_ACCOUNT";
    let account = account.ok_or_else(|| invalid("azure.account", missing))?;
    let key = match &config.credentials {
        Some(text) if text.starts_with("env:") => Some(named("azure.credentials", &text["env:".len()..], variable)?),
        Some(file) => {
            let key = std::fs::read_to_string(file).map_err(|error| {
                let hint = "hint: a file with the account's key, or \"environment\"";
                invalid(&format!("azure.credentials '{file}'"), &format!("{error}; {hint}"))
            })?;
            Some(key.trim().to_string())
        }
        None => ["AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY"]
            .iter()
            .find_map(|name| variable(name))
            .or_else(|| connection.get("accountkey").cloned()),
    };
    const NAMES: [&str; 9] = [
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_SAS_KEY",
        "AZURE_CLIENT_ID",
        "AZURE_CLIENT_SECRET",
        "AZURE_TENANT_ID",
        "AZURE_AUTHORITY_HOST",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_MSI_ENDPOINT",
        "AZURE_IDENTITY_ENDPOINT",
    ];
    Ok(AzureSettings {
        account,
        endpoint: config.endpoint.clone().or_else(|| connection.get("blobendpoint").cloned()),
        credentials: match key {
            Some(key) => AzureCredentials::AccountKey(Secret::new(key)),
            None => AzureCredentials::Found { variables: found(&NAMES, variable) },
        },
        timeouts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_found_in_a_file_and_its_secret_is_not_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text =
            "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key=hidden-1\n[other]\naws_access_key_id=B\n";
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().display().to_string();
        let config = S3 { credentials: Some(path), ..S3::default() };
        let settings = s3(&config, Timeouts::default(), &|_| None).unwrap();
        assert!(
            matches!(&settings.credentials, S3Credentials::Key { id, secret, token: None } if id == "A" && secret.expose() == "hidden-1")
        );
        assert!(!format!("{settings:?}").contains("hidden-1"), "{settings:?}");
        let other = S3 { profile: Some("other".into()), ..config };
        let error = s3(&other, Timeouts::default(), &|_| None).unwrap_err().to_string();
        assert!(error.contains("has no key of the profile 'other'"), "{error}");
    }

    #[test]
    fn the_environment_is_taken_as_the_services_tools_take_it() {
        let variable = |name: &str| match name {
            "AWS_ACCESS_KEY_ID" => Some("A".into()),
            "AWS_SECRET_ACCESS_KEY" => Some("hidden".into()),
            "AWS_DEFAULT_REGION" => Some("eu-west-1".into()),
            "AZURE_STORAGE_CONNECTION_STRING" => {
                Some("AccountName=acc;AccountKey=a2V5==;BlobEndpoint=http://h/acc".into())
            }
            _ => None,
        };
        let found = s3(&S3::default(), Timeouts::default(), &variable).unwrap();
        assert_eq!((found.region.as_str(), found.path_style, found.endpoint), ("eu-west-1", false, None));
        let found = azure(&Azure::default(), Timeouts::default(), &variable).unwrap();
        assert_eq!((found.account.as_str(), found.endpoint.as_deref()), ("acc", Some("http://h/acc")));
        assert!(matches!(&found.credentials, AzureCredentials::AccountKey(key) if key.expose() == "a2V5=="));
        let error = azure(&Azure::default(), Timeouts::default(), &|_| None).unwrap_err().to_string();
        assert!(error.contains("azure.account: is missing; hint"), "{error}");
    }
}

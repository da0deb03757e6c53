//! How S3 and Azure Blob Storage are reached.

use toml::Table;

use super::reader::{Problems, Reader};

/// `[s3]`: what is not said is taken from the environment, as Amazon's own tools take it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct S3 {
    pub region: Option<String>,
    /// `None`: Amazon's own.
    pub endpoint: Option<String>,
    /// Whether the bucket is in the path; by default where there is an endpoint.
    pub path_style: Option<bool>,
    /// A file of credentials in Amazon's form; `None`: the environment's.
    pub credentials: Option<String>,
    /// The variables of the environment that hold a key's id and its secret half, instead.
    pub key: Option<(String, String)>,
    /// Which of the file's.
    pub profile: Option<String>,
}

/// `[azure]`: what is not said is taken from the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Azure {
    pub account: Option<String>,
    /// `None`: Microsoft's own, of this account.
    pub endpoint: Option<String>,
    /// A file with the account's key, or `env:NAME` of a variable that holds it; `None`: what the environment has.
    pub credentials: Option<String>,
}

pub(super) fn read_s3(path: &str, table: Table, problems: &mut Problems) -> S3 {
    let mut reader = Reader::new(path, table, problems);
    let s3 = S3 {
        region: reader.text("region"),
        endpoint: read_endpoint(&mut reader),
        path_style: reader.flag("path_style"),
        credentials: read_credentials(&mut reader),
        key: read_key(&mut reader),
        profile: reader.text("profile"),
    };
    if s3.key.is_some() && s3.credentials.is_some() {
        reader.problem("credentials", "and s3.access_key are both given; hint: one of them");
    }
    reader.finish();
    s3
}

pub(super) fn read_azure(path: &str, table: Table, problems: &mut Problems) -> Azure {
    let mut reader = Reader::new(path, table, problems);
    let account = reader.text("account");
    // https://learn.microsoft.com/azure/storage/common/storage-account-overview#storage-account-name
    let plain = |name: &String| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if account.as_ref().is_some_and(|name| !(3..=24).contains(&name.len()) || !plain(name)) {
        reader.problem("account", "is no account's name; hint: 3 to 24 lowercase letters and digits");
    }
    let azure = Azure { account, endpoint: read_endpoint(&mut reader), credentials: read_credentials(&mut reader) };
    reader.finish();
    azure
}

fn read_endpoint(reader: &mut Reader) -> Option<String> {
    let endpoint = reader.text("endpoint")?;
    // What is in it is not repeated: a password may be, at a wrong place.
    match url::Url::parse(&endpoint) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() || url.query().is_some() => {
            reader.problem("endpoint", "has credentials in it; hint: they belong into the environment or a file");
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => return Some(endpoint),
        _ => reader.problem("endpoint", "is no URL; hint: https://host, or leave it empty for the service's own"),
    }
    None
}

/// Both halves, each as `env:NAME`: a key itself does not belong into a configuration.
fn read_key(reader: &mut Reader) -> Option<(String, String)> {
    let mut name = |key: &'static str| {
        let text = reader.text(key)?;
        match text.strip_prefix("env:").filter(|name| !name.is_empty()) {
            Some(name) => Some(name.to_string()),
            None => {
                reader.problem(key, "must name a variable of the environment; hint: env:BACKUP_SECRET_KEY");
                None
            }
        }
    };
    let (id, secret) = (name("access_key"), name("secret_key"));
    if id.is_some() != secret.is_some() {
        let missing = if id.is_some() { "secret_key" } else { "access_key" };
        reader.problem(missing, "is missing; hint: a key has two halves, access_key and secret_key");
    }
    id.zip(secret)
}

fn read_credentials(reader: &mut Reader) -> Option<String> {
    let text = reader.text("credentials").filter(|text| text != "environment")?;
    // A key has the letters of base64, a file's path of any length a point or a slash where people put it.
    if text.contains(['\n', ';']) || (text.len() >= 40 && !text.contains('.') && !text.starts_with(['/', '~'])) {
        reader.problem("credentials", "is a secret itself; hint: put it into a file and name the file");
        return None;
    }
    Some(text)
}

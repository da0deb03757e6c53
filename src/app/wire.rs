//! Builds a job's context out of files, the environment and the machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::cloud::Clouds;
use super::{builtin, rehearsal, sources};
use crate::catalog::marks::Book;
use crate::catalog::{Authority, Catalog, Chronicle, KeySource};
use crate::config::{self, Config, KeyPlace, Problems, Queries, Signing, Tier};
use crate::google::{Credentials, Google, RetryPolicy, Settings};
use crate::job::sealing::IdentitySource;
use crate::job::{Context, Opener};
use crate::model::{Failure, Identity, Place, Secret, SigningKey};
use crate::plan::queries::{self, ValidationQuery};
use crate::saga::{Clock, Observer};
use crate::store::{GcsStore, LocalStore, Store};

/// Why the program cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error(
        "{path}: {message}; hint: name a configuration with --config FILE or STRONGROOM_CONFIG, write one with strongroom init, or set DATABASE_URL and BACKUP_DESTINATION"
    )]
    Unreadable { path: String, message: String },
    #[error("{path}: {problems}")]
    Config { path: String, problems: Problems },
    #[error("{}", .0.join("\n"))]
    Queries(Vec<String>),
    #[error(transparent)]
    Failure(#[from] Failure),
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // The precision of the stored records.
        let now = rehearsal::ahead(Timestamp::now());
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }
}

/// Connects everything.
///
/// # Errors
/// When credentials, stores or validation queries cannot be had.
pub async fn connect(config: Config, path: &Path, observer: Arc<dyn Observer>) -> Result<Context, Problem> {
    rehearsal::listen();
    let google = google(&config).await?;
    let queries = load_queries(config.validation.as_ref(), path)?;
    let anomalies = load_anomalies(config.drill.anomalies.as_deref(), path)?;
    let open = opener_of(&config, &google);
    let source = {
        let (google, path) = (google.clone(), path.to_path_buf());
        Arc::new(move |source: &config::Source| sources::open(&google, source, &path))
    };
    let mut tiers: BTreeMap<_, Vec<Arc<dyn Store>>> = BTreeMap::new();
    for (name, tier) in &config.tiers {
        tiers.insert(name.clone(), tier.places().map(open.as_ref()).collect::<Result<_, Failure>>()?);
    }
    let home = home(&config, open.as_ref(), observer.as_ref()).await?;
    let authority = config.signing.as_ref().map(|signing| authority(&config.name, signing, path, &google));
    let chronicle = match &authority {
        Some(authority) => {
            let places = chronicle_places(&config, home.clone(), open.as_ref())?;
            Some(Arc::new(Chronicle::new(places, authority.clone())))
        }
        None => None,
    };
    let catalog = Catalog::new(tiers).of_system(&config.name, authority).at_home(home.clone());
    let host =
        std::env::var("HOSTNAME").or_else(|_| std::fs::read_to_string("/etc/hostname").map(|h| h.trim().to_string()));
    let identity = config.identity.as_ref().map(|place| {
        let key = KeyAt::new("identity", place, "strongroom key generate --sealing", path, &google);
        Arc::new(IdentityAt(key)) as Arc<dyn IdentitySource>
    });
    Ok(Context {
        config: Arc::new(config),
        google,
        catalog,
        marks: Book::new(home.clone(), chronicle.clone()),
        chronicle,
        home,
        clock: Arc::new(SystemClock),
        observer,
        queries: Arc::new(queries),
        anomalies: anomalies.map(Arc::new),
        identity,
        open,
        source,
        run_id: None,
        nonce: Arc::new(|| format!("{:032x}", rand::random::<u128>())),
        holder: format!("process {} on {}", std::process::id(), host.unwrap_or_else(|_| "this machine".into())),
        tool: concat!("strongroom ", env!("CARGO_PKG_VERSION")).into(),
        cancelled: signals(),
    })
}

/// Where journal and lease are kept. When that place is gone and is a tier's primary, the tier's next place stands in.
async fn home(
    config: &Config,
    open: impl Fn(&Place) -> Result<Arc<dyn Store>, Failure>,
    observer: &dyn Observer,
) -> Result<Arc<dyn Store>, Failure> {
    let primary = open(&config.home)?;
    let copies = config.tiers.values().find(|tier| tier.places().next() == Some(&config.home));
    let copies: Vec<&Place> = copies.map(|tier| tier.places().skip(1).collect()).unwrap_or_default();
    if copies.is_empty() || !is_gone(primary.as_ref()).await? {
        return Ok(primary);
    }
    for place in copies {
        let store = open(place)?;
        if !is_gone(store.as_ref()).await? {
            observer.note(&format!("{} does not exist: journal and lease are kept in {place}", config.home));
            return Ok(store);
        }
    }
    Ok(primary)
}

/// The home, and every destination that is not it.
fn chronicle_places(
    config: &Config,
    home: Arc<dyn Store>,
    open: impl Fn(&Place) -> Result<Arc<dyn Store>, Failure>,
) -> Result<Vec<Arc<dyn Store>>, Failure> {
    let mut seen = vec![home.describe()];
    let mut places = vec![home];
    for place in config.tiers.values().flat_map(Tier::readable) {
        let store = open(place)?;
        if !seen.contains(&store.describe()) {
            seen.push(store.describe());
            places.push(store);
        }
    }
    Ok(places)
}

/// Where a private key is kept; read when it is needed.
struct KeyAt {
    /// The setting that says so.
    setting: &'static str,
    place: KeyPlace,
    /// How such a file is made.
    generate: &'static str,
    google: Google,
}

impl KeyAt {
    fn new(
        setting: &'static str,
        place: &KeyPlace,
        generate: &'static str,
        config_path: &Path,
        google: &Google,
    ) -> Self {
        let place = match place {
            KeyPlace::File(file) => {
                let path = config_path.parent().unwrap_or_else(|| Path::new(".")).join(file);
                KeyPlace::File(path.display().to_string())
            }
            other => other.clone(),
        };
        Self { setting, place, generate, google: google.clone() }
    }

    /// What it is called in messages, and its text.
    async fn text(&self) -> Result<(String, Secret), Failure> {
        let invalid = |object: String, message: String| Failure::Invalid { object, message };
        let named = |name: &str| format!("{} '{name}'", self.setting);
        match &self.place {
            KeyPlace::File(file) => match std::fs::read_to_string(file) {
                Ok(text) => Ok((named(file), Secret::new(text))),
                Err(error) => Err(invalid(named(file), format!("{error}; hint: {} {file}", self.generate))),
            },
            KeyPlace::Environment(name) => match std::env::var(name) {
                Ok(text) => Ok((named(name), Secret::new(text))),
                Err(_) => {
                    Err(invalid(named(name), "the environment has no such variable; hint: the text of a key".into()))
                }
            },
            KeyPlace::Secret(version) => Ok((named(version), self.google.secrets.access(version).await?)),
        }
    }
}

struct SigningAt(Option<KeyAt>);

struct IdentityAt(KeyAt);

#[async_trait::async_trait]
impl IdentitySource for IdentityAt {
    async fn identities(&self) -> Result<Vec<Identity>, Failure> {
        let (object, text) = self.0.text().await?;
        Identity::read_all(&text).map_err(|message| Failure::Invalid { object, message })
    }
}

fn authority(system: &str, signing: &Signing, config_path: &Path, google: &Google) -> Authority {
    let key = |place| KeyAt::new("signing.key", place, "strongroom key generate", config_path, google);
    let source = Arc::new(SigningAt(signing.key.as_ref().map(key)));
    Authority::new(system, signing.trusted.clone(), source)
}

#[async_trait::async_trait]
impl KeySource for SigningAt {
    async fn key(&self) -> Result<SigningKey, Failure> {
        let Some(key) = &self.0 else {
            let message = "is missing, and the catalog is signed; hint: where a signing key is kept, or do this where there is one";
            return Err(Failure::Precondition { object: "signing.key".into(), message: message.into() });
        };
        let (object, pem) = key.text().await?;
        SigningKey::from_pem(&pem).map_err(|message| Failure::Invalid { object, message })
    }
}

/// Whether the place itself does not exist; one that cannot be reached is an error.
async fn is_gone(store: &dyn Store) -> Result<bool, Failure> {
    match store.list_prefixes("_strongroom/lease/").await {
        Ok(_) => Ok(false),
        Err(Failure::NotFound { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Turns true when the process is asked to end.
fn signals() -> tokio::sync::watch::Receiver<bool> {
    let (tell, told) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tell.send_replace(true);
        // Whoever asks twice does not want to wait for what is being taken back; `recover` will.
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(super::Exit::Interrupted as i32);
    });
    told
}

async fn google(config: &Config) -> Result<Google, Problem> {
    let mut retry = RetryPolicy::default();
    if let Some(google) = &config.google {
        retry.attempt_timeout = google.call_timeout.as_duration();
        retry.progress_timeout = google.progress_timeout.as_duration();
    }
    let (endpoint, credentials) = match &config.google {
        // What is not used needs no credentials.
        None if config.tiers.values().flat_map(Tier::places).all(|place| !matches!(place, Place::Gcs { .. })) => {
            (None, Credentials::Anonymous)
        }
        None => (None, Credentials::ApplicationDefault),
        Some(google) => {
            let credentials = match &google.credentials {
                config::Credentials::ApplicationDefault => Credentials::ApplicationDefault,
                config::Credentials::Anonymous => Credentials::Anonymous,
                config::Credentials::Token(name) => {
                    let token = std::env::var(name).ok().filter(|token| !token.is_empty()).ok_or(Failure::Invalid {
                        object: format!("google.credentials 'env:{name}'"),
                        message: "the environment has no such variable; hint: gcloud auth print-access-token".into(),
                    })?;
                    // A service account's key is kept in a variable as its whole text.
                    match token.trim_start().starts_with('{') {
                        true => Credentials::ServiceAccountKey(Secret::new(token)),
                        false => Credentials::Token(Secret::new(token)),
                    }
                }
                config::Credentials::File(file) => {
                    let key = std::fs::read_to_string(file).map_err(|error| Failure::Invalid {
                        object: format!("google.credentials '{file}'"),
                        message: format!(
                            "{error}; hint: a service account's key file, application_default or anonymous"
                        ),
                    })?;
                    Credentials::ServiceAccountKey(Secret::new(key))
                }
            };
            (google.endpoint.clone(), credentials)
        }
    };
    let user_agent = concat!("strongroom/", env!("CARGO_PKG_VERSION")).to_string();
    Ok(Google::connect(Settings { endpoint, credentials, retry, user_agent }).await?)
}

/// Opens the places of a configuration, and nothing else of it.
///
/// # Errors
/// When Google's credentials cannot be had.
pub(super) async fn opener(config: &Config) -> Result<Opener, Failure> {
    match google(config).await {
        Ok(google) => Ok(opener_of(config, &google)),
        Err(Problem::Failure(failure)) => Err(failure),
        Err(problem) => Err(Failure::Invalid { object: "google".into(), message: problem.to_string() }),
    }
}

fn opener_of(config: &Config, google: &Google) -> Opener {
    let (google, clouds) = (google.clone(), Clouds::of(config));
    Arc::new(move |place: &Place| open(&google, &clouds, place))
}

fn open(google: &Google, clouds: &Clouds, place: &Place) -> Result<Arc<dyn Store>, Failure> {
    if let Some(store) = clouds.open(place)? {
        return Ok(store);
    }
    match place {
        Place::Gcs { bucket, prefix } => Ok(Arc::new(GcsStore::new(google.storage.clone(), bucket, prefix)?)),
        Place::Local { directory } => Ok(Arc::new(LocalStore::open(directory)?)),
        Place::S3 { .. } | Place::Azure { .. } => {
            Err(Failure::Invalid { object: place.to_string(), message: "cannot be opened".into() })
        }
    }
}

/// The query that searches for anomalies, from the program or from a file beside the configuration.
fn load_anomalies(setting: Option<&str>, config_path: &Path) -> Result<Option<ValidationQuery>, Problem> {
    let (file, text) = match setting {
        None => return Ok(None),
        Some("builtin") => (builtin::ANOMALIES.0.to_string(), builtin::ANOMALIES.1.to_string()),
        Some(file) => {
            let path = config_path.parent().unwrap_or_else(|| Path::new(".")).join(file);
            let text = std::fs::read_to_string(&path)
                .map_err(|error| Problem::Queries(vec![format!("drill.anomalies: {}: {error}", path.display())]))?;
            (path.display().to_string(), text)
        }
    };
    queries::parse(&file, &text).map(Some).map_err(|error| Problem::Queries(vec![error.to_string()]))
}

/// The validation queries, from the program or from a folder beside the configuration.
fn load_queries(queries: Option<&Queries>, config_path: &Path) -> Result<Vec<ValidationQuery>, Problem> {
    let texts: Vec<(String, String)> = match queries {
        None => vec![],
        Some(Queries::Builtin) => builtin::VALIDATION.iter().map(|(n, t)| ((*n).into(), (*t).into())).collect(),
        Some(Queries::Folder(folder)) => {
            let folder = config_path.parent().unwrap_or_else(|| Path::new(".")).join(folder);
            let failed = |error: std::io::Error| {
                Problem::Queries(vec![format!("validation.queries: {}: {error}", folder.display())])
            };
            let mut texts = Vec::new();
            for file in std::fs::read_dir(&folder).map_err(failed)? {
                let path = file.map_err(failed)?.path();
                if path.extension().is_some_and(|extension| extension == "sql") {
                    texts.push((path.display().to_string(), std::fs::read_to_string(&path).map_err(failed)?));
                }
            }
            texts.sort();
            texts
        }
    };
    let mut parsed: Vec<ValidationQuery> = Vec::new();
    let mut problems = Vec::new();
    for (file, text) in texts {
        match queries::parse(&file, &text) {
            Ok(query) if parsed.iter().any(|other| other.name == query.name) => {
                problems.push(format!("validation query {file}: its name '{}' is taken", query.name));
            }
            Ok(query) => parsed.push(query),
            Err(error) => problems.push(error.to_string()),
        }
    }
    if problems.is_empty() { Ok(parsed) } else { Err(Problem::Queries(problems)) }
}

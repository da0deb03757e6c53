//! What every job works with, and how a job fails.

use std::sync::Arc;

use jiff::Timestamp;

use super::sealing::IdentitySource;
use super::verify::Depth;
use crate::catalog::marks::Book;
use crate::catalog::{Catalog, CatalogError, Chronicle, LeaseError};
use crate::config::{Config, Destination, Source, SourceKind, Tier};
use crate::google::Google;
use crate::model::{DatasetId, Failure, InvalidName, Place, TierName};
use crate::plan::Refusal;
use crate::plan::queries::ValidationQuery;
use crate::saga::{Clock, LogError, Observer, SagaError};
use crate::source::streamed::Streamed;
use crate::store::{DropBox, Store};

/// Opens the store of a place.
pub type Opener = Arc<dyn Fn(&Place) -> Result<Arc<dyn Store>, Failure> + Send + Sync>;

/// Opens a source whose data passes through this process; `None` for one of another kind.
pub type SourceOpener = Arc<dyn Fn(&Source) -> Result<Option<Arc<dyn Streamed>>, Failure> + Send + Sync>;

/// Everything at the edge, wired once by `app`.
#[derive(Clone)]
pub struct Context {
    pub config: Arc<Config>,
    pub google: Google,
    pub catalog: Catalog,
    pub marks: Book,
    /// What was ever committed and removed, where the catalog is signed.
    pub chronicle: Option<Arc<Chronicle>>,
    /// Where journal and lease are kept.
    pub home: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub observer: Arc<dyn Observer>,
    pub queries: Arc<Vec<ValidationQuery>>,
    /// Searches the usage for what a stolen key would do.
    pub anomalies: Option<Arc<ValidationQuery>>,
    /// The private keys that open what is sealed; `None`: none is at hand.
    pub identity: Option<Arc<dyn IdentitySource>>,
    /// Opens a destination.
    pub open: Opener,
    /// Opens a source.
    pub source: SourceOpener,
    /// The id of the run to come, where its caller must know it beforehand; `None`: a new one.
    pub run_id: Option<String>,
    /// Random hexadecimal text, for ids.
    pub nonce: Arc<dyn Fn() -> String + Send + Sync>,
    /// Who this is, for people: "backup on host x".
    pub holder: String,
    /// Name and version of the program.
    pub tool: String,
    /// Turns true when the process is asked to end.
    pub cancelled: tokio::sync::watch::Receiver<bool>,
}

/// Why a job did not do all that was asked.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Found while planning: nothing was changed.
    #[error("{}", refused(.0))]
    Refused(Vec<Refusal>),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Failure(#[from] Failure),
    /// What would be backed up is switched off: there is nothing to do, and nothing is wrong.
    #[error("SKIPPED: {0}")]
    Skipped(String),
    #[error("stopped by a signal")]
    Interrupted,
    #[error("the journal is inconsistent: {0}")]
    Journal(#[from] LogError),
    /// A step failed; what was done was taken back, except for what `left` says.
    #[error("step '{step}' failed: {cause}{}", left_over(.left))]
    Step { step: String, cause: Box<JobError>, left: Vec<String> },
}

fn refused(refusals: &[Refusal]) -> String {
    let lines: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    match lines.as_slice() {
        [one] => one.clone(),
        lines => format!("{} things stand against it:\n  {}", lines.len(), lines.join("\n  ")),
    }
}

fn left_over(left: &[String]) -> String {
    if left.is_empty() {
        return String::new();
    }
    format!("\n  not taken back (run `strongroom recover`): {}", left.join("\n  "))
}

impl From<SagaError<JobError>> for JobError {
    fn from(error: SagaError<JobError>) -> Self {
        match error {
            SagaError::Step { step, error } => Self::Step { step, cause: Box::new(error), left: vec![] },
            // The place of its record is another's: the run was taken over.
            SagaError::Journal { error: Failure::Exists { .. }, .. } => Self::Lease(LeaseError::Lost),
            SagaError::Journal { step, error } => {
                let cause = Box::new(Self::Failure(error));
                Self::Step { step: format!("{step} (journal)"), cause, left: vec![] }
            }
            SagaError::Log(error) => Self::Journal(error),
        }
    }
}

impl Context {
    /// What is sealed is opened to be verified where there is a key.
    pub fn depth(&self) -> Depth {
        if self.identity.is_some() { Depth::Content } else { Depth::Stored }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A dataset as people name it: in the configuration's project unless said otherwise.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn dataset(&self, text: &str) -> Result<DatasetId, InvalidName> {
        let project = self.config.google.as_ref().map(|google| google.project.as_str()).unwrap_or_default();
        if text.contains('.') { text.parse() } else { DatasetId::new(project, text) }
    }

    /// The stores of a tier's destinations, the primary first.
    ///
    /// # Errors
    /// When a destination cannot be opened.
    pub fn destinations(&self, tier: &TierName) -> Result<Vec<Arc<dyn Store>>, Failure> {
        self.places(tier).map(|place| (self.open)(place)).collect()
    }

    /// The same for whoever takes a backup: where objects may only be created, what he has put in is all that he sees.
    ///
    /// # Errors
    /// When a destination cannot be opened.
    pub fn written_to(&self, tier: &TierName) -> Result<Vec<Arc<dyn Store>>, Failure> {
        let destinations = self.config.tiers.get(tier).into_iter().flat_map(|tier| &tier.destinations);
        let open = |destination: &Destination| {
            let store = (self.open)(&destination.place)?;
            Ok(if destination.create_only { Arc::new(DropBox::new(store)) as Arc<dyn Store> } else { store })
        };
        destinations.map(open).collect()
    }

    /// A tier's destinations, the primary first; none for an unknown tier.
    pub fn places(&self, tier: &TierName) -> impl Iterator<Item = &Place> + use<'_> {
        self.config.tiers.get(tier).into_iter().flat_map(Tier::places)
    }

    /// The first BigQuery source of the configuration, with its name.
    pub fn bigquery_sources(&self) -> impl Iterator<Item = (&Source, &crate::config::BigQuerySource)> {
        self.config.sources.iter().filter_map(|source| match &source.kind {
            SourceKind::BigQuery(bigquery) => Some((source, bigquery)),
            _ => None,
        })
    }
}

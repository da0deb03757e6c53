//! What every emulated service shares: the state on disk, the clock, the errors, the request log and the gate
//! that all requests pass. Knows no service by its types; only `log` knows their names.

pub mod clock;
pub mod db;
pub mod error;
pub mod faults;
pub mod fields;
pub mod gate;
pub mod http;
pub mod log;
pub mod mask;
pub mod permissions;
pub mod traffic;

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

pub use clock::Clock;
pub use db::{Db, Tx};
pub use error::ApiError;
pub use http::Params;
pub use log::RequestLog;

/// The whole local Google. Shared as `Arc<Sandbox>`, which is also axum's state.
pub struct Sandbox {
    /// The time that every service tells.
    pub clock: Clock,
    /// Metadata of all services.
    pub db: Db,
    /// The data directory: `sandbox.sqlite`, `requests.jsonl`, `objects/`, `tables/` ...
    pub dir: PathBuf,
    /// Every request that came in.
    pub log: RequestLog,
    /// Where whole exchanges are written to, once that was asked for.
    pub traffic: OnceLock<traffic::Traffic>,
    /// Faults that were asked for.
    pub faults: Arc<faults::Faults>,
    /// What callers may do.
    pub permissions: permissions::Permissions,
    /// What was asked for on the command line.
    pub options: Options,
    /// Held as long as this process owns the directory.
    _lock: File,
    /// The address in use, once bound.
    pub address: OnceLock<SocketAddr>,
}

/// Choices of the command line that services look at.
#[derive(Debug, Clone)]
pub struct Options {
    /// The project that is assumed where a request names none.
    pub project: String,
    /// Whether scheduler jobs may call addresses other than loopback.
    pub allow_external_targets: bool,
    pub bigquery: crate::bigquery::Settings,
}

impl Sandbox {
    /// Opens or creates the state below `dir`.
    ///
    /// # Errors
    /// When the directory or the database cannot be opened.
    pub fn open(dir: &Path, options: Options) -> Result<Arc<Self>, ApiError> {
        std::fs::create_dir_all(dir)
            .map_err(|e| ApiError::internal(format!("cannot create the data directory '{}': {e}", dir.display())))?;
        let lock = File::create(dir.join("lock"))?;
        if lock.try_lock().is_err() {
            let place = dir.display();
            return Err(ApiError::internal(format!(
                "'{place}' is in use; hint: another sandbox runs on it, choose another --data"
            )));
        }
        let db = Db::open(&dir.join("sandbox.sqlite"))?;
        let clock = Clock::load(&db)?;
        let log = RequestLog::open(&dir.join("requests.jsonl"))?;
        Ok(Arc::new(Self {
            traffic: OnceLock::new(),
            clock,
            db,
            dir: dir.to_path_buf(),
            log,
            faults: Arc::default(),
            permissions: permissions::Permissions::default(),
            options,
            _lock: lock,
            address: OnceLock::new(),
        }))
    }

    /// `http://ADDRESS` of this server, as clients reach it when they sent no Host header.
    pub fn base_url(&self) -> String {
        match self.address.get() {
            Some(a) => format!("http://{a}"),
            None => "http://127.0.0.1".into(),
        }
    }

    /// Sets the clock for good and tells everyone who waits for it.
    ///
    /// # Errors
    /// When the new offset cannot be stored.
    pub fn set_clock_us(&self, now_us: i64) -> Result<(), ApiError> {
        self.clock.set_us(now_us, &self.db)
    }
}

//! Manifests, journals and the lease as records over stores.
//!
//! Knows where they lie; does not know what a backup is made of, nor how a run goes on.

mod authority;
mod chronicle;
pub mod drills;
mod journal;
mod lease;
mod ledger;
mod manifests;
pub mod marks;
mod runs;
pub mod schedules;
mod tombstone;

pub use authority::{Authority, KeySource};
pub use chronicle::{Chronicle, Reading};
pub use journal::{OpenRun, StoreJournal, has_markers, log_of, open_runs, sweep_markers};
pub use lease::{HOLD_ON, Lease, LeaseError, TIME_TO_LIVE};
pub use ledger::{Decision, Ledger};
pub use manifests::{
    Broken, Catalog, CatalogError, Copy, Damaged, Doubtful, Entry, Listing, MANIFEST, STATEMENT, Wanted,
};
pub use runs::{RunSummary, remove_journal, runs};
pub use tombstone::{Standing, Tombstone};

/// Where all that is not a backup lies, below the home's root.
pub const OWN_FOLDER: &str = "_strongroom";

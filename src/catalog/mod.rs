//! Manifests, journals and the lease as records over stores.
//!
//! Knows where they lie; does not know what a backup is made of, nor how a run goes on.

pub mod drills;
mod journal;
mod lease;
mod manifests;
pub mod marks;

pub use journal::{OpenRun, StoreJournal, open_runs};
pub use lease::{Lease, LeaseError, TIME_TO_LIVE, keep};
pub use manifests::{Broken, Catalog, CatalogError, Entry, Listing, Wanted};

/// Where all that is not a backup lies, below the home's root.
pub const OWN_FOLDER: &str = "_strongroom";

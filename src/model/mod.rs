//! The field's words as types. Knows nothing of files, clocks, networks or configuration.

mod failure;
mod names;
pub mod schema;
mod secret;

pub use failure::Failure;
pub use names::{DatasetId, InvalidName, TableId};
pub use secret::Secret;

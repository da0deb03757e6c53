//! Wiring: files, environment, clock, randomness, signals, exit codes. The only reader of the environment.

mod builtin;
mod check;
mod cloud;
mod exit;
mod keys;
mod load;
mod profiles;
mod rehearsal;
mod sources;
mod wire;

pub use check::{Check, State, check, of_checks};
pub use exit::{Exit, of_doubt, of_error, of_verification};
pub use keys::{new_identity, new_key, public_key, recipients};
pub use load::{Asked, effective, load, log_filter};
pub use profiles::{PROFILES, Profile, profile};
pub use sources::{off_file, usage};
pub use wire::{Problem, connect};

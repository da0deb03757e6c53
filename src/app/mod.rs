//! Wiring: files, environment, clock, randomness, signals, exit codes. The only reader of the environment.

mod builtin;
mod cloud;
mod exit;
mod keys;
mod rehearsal;
mod sources;
mod wire;

pub use exit::{Exit, of_doubt, of_error, of_verification};
pub use keys::{new_identity, new_key, public_key, recipients};
pub use wire::{Problem, connect, load};

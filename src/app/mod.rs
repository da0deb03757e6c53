//! Wiring: files, environment, clock, randomness, signals, exit codes. The only reader of the environment.

mod builtin;
mod cloud;
mod exit;
mod keys;
mod rehearsal;
mod wire;

pub use exit::{Exit, of_doubt, of_error};
pub use keys::{new_key, public_key};
pub use wire::{Problem, connect, load};

//! All integration tests in one binary: one link instead of many.

mod floors;
mod google;
mod google_faults;
mod proxy;
mod sandbox;

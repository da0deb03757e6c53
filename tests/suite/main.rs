//! All integration tests in one binary: one link instead of many.

mod drill;
mod drill_page;
mod estate;
mod failing_steps;
mod floors;
mod google;
mod google_faults;
mod main_job;
mod proof;
mod proxy;
mod retention;
mod sandbox;

//! All integration tests in one binary: one link instead of many.

mod canaries;
mod drill;
mod drill_page;
mod drill_scripts;
mod edges;
mod estate;
mod failing_calls;
mod failing_steps;
mod faults;
mod floors;
mod google;
mod google_faults;
mod main_job;
mod many_processes;
mod metadata;
mod proof;
mod proxy;
mod readers;
mod real_exports;
mod retention;
mod sandbox;
mod signals;
mod simulation;
mod small;
mod type_matrix;
mod warehouse;

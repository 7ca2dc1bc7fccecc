//! Prelim: a DICOM network node that writes the preliminary report.
//!
//! The map. A module may name those below it, never its neighbours or those above:
//! `tests/it/layers.rs` holds the table.

pub mod cli;

mod app;

// Ways in for fuzzers, of which the program itself has none.
#[cfg(fuzzing)]
pub mod fuzz;
#[cfg(all(test, not(fuzzing)))]
mod fuzz;

mod config;

mod telemetry;
mod web;

mod pipeline;
mod receive;

mod worker;

mod alert;
mod analysis;
mod assemble;
mod deid;
mod deliver;
mod imaging;
mod orders;
mod report;
mod sr;
mod store;

mod dicom;
mod hl7;
mod outgoing;
mod turns;

mod domain;
mod files;

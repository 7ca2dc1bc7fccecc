//! What survives a power cut.

pub mod event;

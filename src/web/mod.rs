//! The web page, the API and the local API of the command line.

mod config;

pub use crate::web::config::Config;

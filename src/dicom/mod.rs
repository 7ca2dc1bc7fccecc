//! The protocol: what is said on the wire, and a flat look at what came over it. Knows no store
//! and no state of a study.

pub mod access;
pub mod association;
pub mod certificate;
pub mod charset;
pub mod command;
pub mod config;
pub mod elements;
pub mod find_scu;
pub mod mpps;
pub mod negotiation;
pub mod pdu;
pub mod peers_file;
pub mod query_scu;
pub mod scan;
pub mod service;
pub mod socket;
pub mod sources;
pub mod status;
pub mod storage_commitment;
pub mod storage_scp;
pub mod storage_scu;
pub mod tls;
pub mod tls_client;
pub mod tls_named;
pub mod user_information;
pub mod users;
pub mod walk;
pub mod worklist_scu;

mod admission;
mod scp_session;

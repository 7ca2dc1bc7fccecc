//! The words: parsed once, then trusted. No I/O, no async.

pub mod ae_title;
pub mod agreement;
pub mod alert;
pub mod aligned;
pub mod assessment;
pub mod call;
pub mod canary;
pub mod clock;
pub mod code;
pub mod context;
pub mod digest;
pub mod final_report;
pub mod finding;
pub mod hours;
pub mod identities;
pub mod identity;
pub mod in_force;
pub mod key_image;
pub mod looked;
pub mod mask;
pub mod message;
pub mod names;
pub mod order;
pub mod origin;
pub mod password;
pub mod picture;
pub mod priority;
pub mod profile;
#[cfg(test)]
pub mod sample;
pub mod secret;
pub mod study;
pub mod text;
pub mod uid;
pub mod urgency;

//! HL7 v2: messages (their delimiters, escapes and character sets), acknowledgements, and MLLP,
//! which frames them. Knows no study.

pub mod about;
pub mod ack;
pub mod message;
pub mod mllp;
pub mod write;

//! (room receive)

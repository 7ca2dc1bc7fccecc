//! (room deliver)

//! (room alert)

//! (room sr)

//! (room deid)

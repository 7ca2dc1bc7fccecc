//! (room assemble)

//! (room imaging)

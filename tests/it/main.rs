//! Whole-program tests: the built `prelim` against real peers.

mod layers;

//! Whole-program tests: the built `prelim` against real peers.

mod crash;
mod layers;
mod node;
mod way;
mod net;

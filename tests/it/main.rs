//! Whole-program tests: the built `prelim` against real peers.

mod access;
mod crash;
mod gateway;
mod layers;
mod net;
mod node;
mod services;
mod way;

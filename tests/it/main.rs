//! Whole-program tests: the built `prelim` against real peers.

mod access;
mod agreement;
mod crash;
mod dicomweb;
mod disk;
mod faults;
mod gateway;
mod gateway_faults;
mod kill;
mod layers;
mod leaving;
mod load;
mod net;
mod node;
mod peer;
mod power_cut;
mod readers;
mod rest;
mod services;
mod tls;
mod volatile;
mod way;
mod workbench;

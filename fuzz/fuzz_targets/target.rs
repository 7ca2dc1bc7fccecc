//! One program for all targets of `prelim::fuzz::TARGETS`; PRELIM_FUZZ names the one.
#![no_main]

use std::sync::OnceLock;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("PRELIM_FUZZ").expect("PRELIM_FUZZ names a target");
        let found = prelim::fuzz::TARGETS.iter().find(|target| target.0 == name);
        TARGET.set(found.expect("there is no such target").1).expect("once");
    },
    |data: &[u8]| TARGET.get().expect("set above")(data)
);

//! Limits for a program that is not ours: taken by a process of ours, which then becomes the program.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::Resource;
use rustix::process::Rlimit;

/// What a program of the site may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Address space, and each file that it writes.
    pub memory_mb: u64,
    /// Over all its threads. What is left running longer is stopped by the node.
    pub processor_s: u64,
}

/// Becomes the program. Returns only when that fails: why.
pub fn become_program(program: &OsString, arguments: &[OsString], limits: Limits) -> String {
    // Before the limits: they hold for what is allocated here too.
    let mut command = Command::new(program);
    command.args(arguments);
    match apply(limits) {
        Ok(()) => format!("it cannot be started: {}", command.exec()),
        Err(why) => why,
    }
}

fn apply(limits: Limits) -> Result<(), String> {
    // A program that outlives a killed node would hold pictures of a patient.
    let signal = Some(rustix::process::Signal::KILL);
    rustix::process::set_parent_process_death_signal(signal)
        .map_err(|error| format!("parent death signal: {error}"))?;
    let bytes = limits.memory_mb.saturating_mul(1 << 20);
    for (resource, limit) in [
        // A core file would hold patient data.
        (Resource::Core, 0),
        (Resource::Cpu, limits.processor_s),
        (Resource::Fsize, bytes),
        (Resource::As, bytes),
    ] {
        let both = Rlimit { current: Some(limit), maximum: Some(limit) };
        rustix::process::setrlimit(resource, both)
            .map_err(|error| format!("limit {resource:?}: {error}"))?;
    }
    Ok(())
}

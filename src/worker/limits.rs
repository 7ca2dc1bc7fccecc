//! What a worker process may do: memory, files, system calls. Applied by the child itself
//! before it reads its first task.

use std::collections::BTreeMap;

use rustix::process::Resource;
use rustix::process::Rlimit;
use seccompiler::SeccompAction;
use seccompiler::SeccompCmpArgLen;
use seccompiler::SeccompCmpOp;
use seccompiler::SeccompCondition;
use seccompiler::SeccompFilter;
use seccompiler::SeccompRule;
use serde::Deserialize;
use serde::Serialize;

/// Files a worker holds open: the object, pipes, libraries.
const FILES_MAX: u64 = 64;

/// Sent to the child as its first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub memory_max_bytes: u64,
}

/// Applies all limits to this process; children and threads inherit them.
///
/// # Errors
/// A sentence when the kernel refuses one: the worker must not go on without.
pub fn apply(settings: &Settings) -> Result<(), String> {
    let failed = |what: &'static str| move |e: rustix::io::Errno| format!("{what}: {e}");
    // A child that outlives a killed node would hold its pipes for ever.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(failed("parent death signal"))?;
    let both = |n| Rlimit { current: Some(n), maximum: Some(n) };
    rustix::process::setrlimit(Resource::As, both(settings.memory_max_bytes))
        .map_err(failed("memory limit"))?;
    // A core file would hold patient data.
    rustix::process::setrlimit(Resource::Core, both(0)).map_err(failed("core limit"))?;
    rustix::process::setrlimit(Resource::Nofile, both(FILES_MAX)).map_err(failed("file limit"))?;
    // Nothing is written: neither by a file opened for writing nor by growing one.
    rustix::process::setrlimit(Resource::Fsize, both(0)).map_err(failed("file size limit"))?;
    forbid_system_calls().map_err(|e| format!("system call filter: {e}"))
}

/// No network, no other programs, no other processes, no writing to files. Sets
/// `no_new_privs`. A forbidden call fails with EPERM, so that a library that only tries goes on.
fn forbid_system_calls() -> Result<(), seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in FORBIDDEN {
        rules.insert(*call, Vec::new());
    }
    // Threads are made with clone(CLONE_THREAD); processes are not made.
    let thread = libc::CLONE_THREAD as u64;
    let no_thread = condition(0, SeccompCmpOp::MaskedEq(thread), 0)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![no_thread])?]);
    // openat(_, _, flags): anything but reading.
    let write_only = condition(2, SeccompCmpOp::MaskedEq(0o3), libc::O_WRONLY as u64)?;
    let read_write = condition(2, SeccompCmpOp::MaskedEq(0o3), libc::O_RDWR as u64)?;
    let creating = libc::O_CREAT as u64;
    let create = condition(2, SeccompCmpOp::MaskedEq(creating), creating)?;
    let writing = vec![
        SeccompRule::new(vec![write_only])?,
        SeccompRule::new(vec![read_write])?,
        SeccompRule::new(vec![create])?,
    ];
    rules.insert(libc::SYS_openat, writing);
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    let allowed = SeccompAction::Allow;
    let arch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, allowed.clone(), denied, arch)?;
    let program: seccompiler::BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    // clone3 hides its flags from a filter; "not implemented" makes the C library use clone.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let missing = SeccompAction::Errno(libc::ENOSYS as u32);
    let filter = SeccompFilter::new(clone3, allowed, missing, arch)?;
    let program: seccompiler::BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)
}

fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

/// System calls that no task needs, the same on x86_64 and aarch64.
const FORBIDDEN: &[i64] = &[
    // Network, also over what is inherited.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    // Other programs and processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_kill,
    libc::SYS_tkill,
    // Files beyond reading.
    libc::SYS_openat2,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_setxattr,
    // The system.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_memfd_create,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    // The old forms of openat and its kin.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
];

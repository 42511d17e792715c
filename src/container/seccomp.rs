//! The system calls a container may make: an allow-list equivalent to containerd's default profile for its default
//! capabilities. Everything else fails with EPERM, `clone3` (whose flags a filter cannot see) and calls newer than this
//! table with ENOSYS, so that C libraries fall back.
//!
//! The filter is compiled once per zygote, inherited by every shim, and loaded just before a program is executed.

use std::io::{Read, Seek};
use std::os::fd::AsFd;

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use nix::libc;

/// `CLONE_NEW*`: a container may make threads and processes, no namespaces.
const CLONE_NAMESPACES: u64 = 0x7E02_0000;
/// `personality` values: Linux, 32 bit, and each without address randomisation... and the query.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("seccomp filter cannot be compiled")]
    Compile(#[from] SeccompError),
    #[error("seccomp filter cannot be exported")]
    Export(#[from] std::io::Error),
}

/// Compiles the filter to a BPF program.
pub fn compile() -> Result<Vec<u8>, Error> {
    let mut filter = ScmpFilterContext::new(ScmpAction::Errno(libc::EPERM))?;
    #[cfg(target_arch = "x86_64")]
    for arch in [ScmpArch::X86, ScmpArch::X32] {
        filter.add_arch(arch)?;
    }
    #[cfg(target_arch = "aarch64")]
    filter.add_arch(ScmpArch::Arm)?;
    filter.set_ctl_nnp(false)?;
    // A binary tree instead of a list: a dozen comparisons per call instead of hundreds.
    filter.set_ctl_optimize(2)?;
    let mut newest = 0;
    for name in ALLOWED.split_ascii_whitespace() {
        // A name this machine's libseccomp does not know is a call it cannot filter; the default refuses it.
        let Ok(call) = ScmpSyscall::from_name(name) else { continue };
        filter.add_rule(ScmpAction::Allow, call)?;
        newest = newest.max(i32::from(call));
    }
    if let Ok(call) = ScmpSyscall::from_name("clone") {
        let no_namespaces = ScmpArgCompare::new(0, ScmpCompareOp::MaskedEqual(CLONE_NAMESPACES), 0);
        filter.add_rule_conditional(ScmpAction::Allow, call, &[no_namespaces])?;
    }
    if let Ok(call) = ScmpSyscall::from_name("clone3") {
        filter.add_rule(ScmpAction::Errno(libc::ENOSYS), call)?;
    }
    if let Ok(call) = ScmpSyscall::from_name("personality") {
        for value in PERSONALITIES {
            let equal = ScmpArgCompare::new(0, ScmpCompareOp::Equal, value);
            filter.add_rule_conditional(ScmpAction::Allow, call, &[equal])?;
        }
    }
    if let Ok(call) = ScmpSyscall::from_name("socket") {
        let family = u64::from(libc::AF_VSOCK.unsigned_abs());
        let not_vsock = ScmpArgCompare::new(0, ScmpCompareOp::NotEqual, family);
        filter.add_rule_conditional(ScmpAction::Allow, call, &[not_vsock])?;
    }
    let mut program = unknown_calls_are_missing(newest.unsigned_abs());
    let mut file = std::fs::File::from(
        nix::sys::memfd::memfd_create(c"seccomp", nix::sys::memfd::MemFdCreateFlag::MFD_CLOEXEC)
            .map_err(std::io::Error::from)?,
    );
    filter.export_bpf(file.as_fd())?;
    file.rewind()?;
    file.read_to_end(&mut program)?;
    Ok(program)
}

/// A prefix that answers ENOSYS to native calls beyond `newest`: the filter knows nothing of them.
fn unknown_calls_are_missing(newest: u32) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    const NATIVE: u32 = 0xC000_003E;
    #[cfg(target_arch = "aarch64")]
    const NATIVE: u32 = 0xC000_00B7;
    /// Calls of the x32 table carry this bit; they are left to the filter.
    const X32: u32 = 0x4000_0000;
    const LOAD: u16 = 0x20;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_GREATER: u16 = 0x25;
    const JUMP_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const ERRNO: u32 = 0x0005_0000;
    let instructions: [(u16, u8, u8, u32); 6] = [
        (LOAD, 0, 0, 4),
        (JUMP_EQUAL, 0, 4, NATIVE),
        (LOAD, 0, 0, 0),
        (JUMP_AT_LEAST, 2, 0, X32),
        (JUMP_GREATER, 0, 1, newest),
        (RETURN, 0, 0, ERRNO | libc::ENOSYS.unsigned_abs()),
    ];
    let mut bytes = Vec::with_capacity(instructions.len() * 8);
    for (code, yes, no, k) in instructions {
        bytes.extend_from_slice(&code.to_ne_bytes());
        bytes.extend_from_slice(&[yes, no]);
        bytes.extend_from_slice(&k.to_ne_bytes());
    }
    bytes
}

/// Calls allowed whatever their arguments.
const ALLOWED: &str = "
accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown chown32 chroot
clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl
epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group
faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32
fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs
fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat
get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32
getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32
getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr
getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents
io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule
landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listxattr listxattrat
llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create
memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect mq_getsetattr
mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl
msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat
openat2 pause pidfd_getfd pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll
ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6
pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg
recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr
sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send
sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid
setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32
setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl
shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64
statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink
unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_and_fits() {
        let program = compile().unwrap();
        assert_eq!(program.len() % 8, 0);
        assert!(program.len() / 8 < 4096, "the kernel takes at most 4,096 instructions");
    }

    #[test]
    fn nothing_dangerous_is_on_the_list() {
        let allowed: Vec<_> = ALLOWED.split_ascii_whitespace().collect();
        for name in [
            "mount",
            "umount2",
            "unshare",
            "setns",
            "keyctl",
            "add_key",
            "request_key",
            "bpf",
            "kexec_load",
            "init_module",
            "finit_module",
            "delete_module",
            "reboot",
            "swapon",
            "pivot_root",
            "perf_event_open",
            "userfaultfd",
            "io_uring_setup",
            "open_by_handle_at",
            "clone",
            "clone3",
            "personality",
            "socket",
            "acct",
            "settimeofday",
            "iopl",
            "ioperm",
            "quotactl",
        ] {
            assert!(!allowed.contains(&name), "{name}");
        }
    }
}

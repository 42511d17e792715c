//! The system calls that need `unsafe`, each behind a function that cannot be misused.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{ForkResult, Pid};

/// Forks. Only zygote and shims call this; both are single-threaded for their whole life.
pub fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the calling process has one thread, so the child may do anything.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Ends a forked child without running destructors or exit handlers of its parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` never returns and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// Takes ownership of descriptors that `recvmsg` gave us.
pub fn own_fds(fds: &[RawFd]) -> Vec<OwnedFd> {
    // SAFETY: the kernel installed these descriptors for this call alone; nobody else owns them.
    fds.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// A descriptor this process was started with, such as its standard input.
pub fn inherited_fd(fd: RawFd) -> OwnedFd {
    // SAFETY: called once at the start of a process for a descriptor its parent passed for this purpose.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Closes every descriptor above standard error except `keep`.
pub fn close_all_but(keep: &[RawFd]) {
    let mut keep: Vec<u32> = keep.iter().filter_map(|&fd| u32::try_from(fd).ok()).filter(|&fd| fd > 2).collect();
    keep.sort_unstable();
    let mut from = 3;
    for fd in keep {
        if fd > from {
            close_range(from, fd - 1);
        }
        from = fd + 1;
    }
    close_range(from, u32::MAX);
}

fn close_range(first: u32, last: u32) {
    // SAFETY: called in a freshly forked child for descriptors whose owners are never used again there.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}

/// Sets a terminal's size.
pub fn set_window_size(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one `winsize`, which outlives the call.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })?;
    Ok(())
}

/// Raises the loopback interface of the network namespace this process is in.
pub fn raise_loopback() -> io::Result<()> {
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: an all-zero `ifreq` is valid; name and flags are set below.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::try_from(*from).unwrap_or_default();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which outlives the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })?;
    Ok(())
}

/// Loads a seccomp filter for this thread. Needs `CAP_SYS_ADMIN` (or no-new-privileges).
pub fn load_seccomp(program: &[u8]) -> io::Result<()> {
    let count = program.len() / size_of::<libc::sock_filter>();
    let mut filters = Vec::<libc::sock_filter>::with_capacity(count);
    for bytes in program.chunks_exact(size_of::<libc::sock_filter>()) {
        filters.push(libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        });
    }
    let program = libc::sock_fprog {
        len: u16::try_from(filters.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        filter: filters.as_mut_ptr(),
    };
    // SAFETY: the kernel copies `len` filters from a vector that outlives the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) })?;
    Ok(())
}

/// Takes `capability` out of this thread's bounding, effective and permitted sets; with `all_others` the last two become
/// empty, as they do when an ordinary user executes a program.
pub fn drop_capability(capability: u32, all_others: bool) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    /// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 capabilities.
    const VERSION: u32 = 0x2008_0522;
    let header = Header { version: VERSION, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: header and the two data words are laid out as capget(2) of version 3 asks and outlive the calls.
    unsafe {
        Errno::result(libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0))?;
        Errno::result(libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()))?;
        if all_others {
            data = [Data::default(); 2];
        }
        let word = &mut data[(capability / 32) as usize];
        word.effective &= !(1 << (capability % 32));
        word.permitted &= !(1 << (capability % 32));
        Errno::result(libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()))?;
    }
    Ok(())
}

/// Gives every signal its default back, also those the C library keeps for itself, and blocks none: a program must not
/// inherit what this process or its parents ignored.
pub fn reset_signals() -> io::Result<()> {
    use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
    /// The kernel's `sigaction`: handler (0 is the default), flags, restorer, mask.
    const DEFAULT: [libc::c_ulong; 4] = [0; 4];
    for signal in 1..=64 {
        // SAFETY: reads one all-zero structure; SIGKILL and SIGSTOP refuse, which is fine.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), std::ptr::null::<libc::c_ulong>(), 8);
        }
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Makes this process the parent of orphans below it.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: takes plain integers.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })?;
    Ok(())
}

/// Names this process in `ps`.
pub fn set_name(name: &std::ffi::CStr) {
    // SAFETY: PR_SET_NAME reads a string of at most 16 bytes that ends with a zero.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Ignores `signal`, or gives it back its default.
pub fn ignore_signal(signal: nix::sys::signal::Signal, ignore: bool) -> io::Result<()> {
    use nix::sys::signal::{SigHandler, signal as set};
    // SAFETY: neither disposition runs code of ours.
    unsafe { set(signal, if ignore { SigHandler::SigIgn } else { SigHandler::SigDfl }) }?;
    Ok(())
}

/// Attaches to a version 2 cgroup the device filter that version 1 has a controller for: make any device file, use only
/// null, zero, full, random, urandom, tty, ptmx and terminals.
pub fn attach_device_filter(group: &std::path::Path) -> io::Result<()> {
    /// `bpf_attr` for `BPF_PROG_LOAD`, as far as it is needed.
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel: u32,
        flags: u32,
    }
    #[repr(C)]
    struct Attach {
        group: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    const PROG_LOAD: libc::c_int = 5;
    const PROG_ATTACH: libc::c_int = 8;
    const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
    const CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    let program = device_filter();
    let group = std::fs::File::open(group)?;
    let mut load = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).unwrap_or_default(),
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel: 0,
        flags: 0,
    };
    // SAFETY: the structure is the prefix of `bpf_attr` for this command; what it points to outlives the call.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw mut load, size_of::<Load>()) })?;
    let fd = inherited_fd(RawFd::try_from(fd).map_err(io::Error::other)?);
    let mut attach = Attach {
        group: group.as_raw_fd().unsigned_abs(),
        program: fd.as_raw_fd().unsigned_abs(),
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: as above; both descriptors are open.
    Errno::result(unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw mut attach, size_of::<Attach>()) })?;
    Ok(())
}

/// The program: (code, registers, jump, constant), one per eight-byte instruction.
fn device_filter() -> Vec<u64> {
    const LOAD_WORD: u8 = 0x61;
    const MOVE: u8 = 0xbf;
    const SET: u8 = 0xb7;
    const AND: u8 = 0x57;
    const SHIFT_RIGHT: u8 = 0x77;
    const IF_EQUAL: u8 = 0x15;
    const IF_NOT: u8 = 0x55;
    const GOTO: u8 = 0x05;
    const EXIT: u8 = 0x95;
    const DENY: i16 = 20;
    const ALLOW: i16 = 22;
    /// Access: 1 makes a device file, 2 reads, 4 writes. Type: 1 block, 2 character.
    const MKNOD: i32 = 1;
    const CHARACTER: i32 = 2;
    // Jump targets are written as instruction numbers and made relative below.
    let program: [(u8, u8, i16, i32); 24] = [
        (LOAD_WORD, 0x12, 0, 0), // r2 = access << 16 | type
        (MOVE, 0x23, 0, 0),
        (AND, 0x03, 0, 0xffff), // r3 = type
        (SHIFT_RIGHT, 0x02, 0, 16),
        (LOAD_WORD, 0x14, 4, 0), // r4 = major
        (LOAD_WORD, 0x15, 8, 0), // r5 = minor
        (IF_EQUAL, 0x02, ALLOW, MKNOD),
        (IF_NOT, 0x03, DENY, CHARACTER),
        (IF_EQUAL, 0x04, ALLOW, 136),
        (IF_EQUAL, 0x04, 12, 1),
        (IF_EQUAL, 0x04, 18, 5),
        (GOTO, 0, DENY, 0),
        (IF_EQUAL, 0x05, ALLOW, 3),
        (IF_EQUAL, 0x05, ALLOW, 5),
        (IF_EQUAL, 0x05, ALLOW, 7),
        (IF_EQUAL, 0x05, ALLOW, 8),
        (IF_EQUAL, 0x05, ALLOW, 9),
        (GOTO, 0, DENY, 0),
        (IF_EQUAL, 0x05, ALLOW, 0),
        (IF_EQUAL, 0x05, ALLOW, 2),
        (SET, 0x00, 0, 0), // DENY
        (EXIT, 0, 0, 0),
        (SET, 0x00, 0, 1), // ALLOW
        (EXIT, 0, 0, 0),
    ];
    let jumps = [IF_EQUAL, IF_NOT, GOTO];
    (0i16..)
        .zip(program)
        .map(|(at, (code, registers, offset, constant))| {
            let offset = if jumps.contains(&code) { offset - at - 1 } else { offset };
            let mut bytes = [0; 8];
            bytes[0] = code;
            bytes[1] = registers;
            bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
            bytes[4..].copy_from_slice(&constant.to_ne_bytes());
            u64::from_ne_bytes(bytes)
        })
        .collect()
}

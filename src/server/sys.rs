//! System calls that no library wraps as we need them. All of the crate's `unsafe` is here.
#![expect(unsafe_code, reason = "calls into libc; each states why it is sound")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// Raises the descriptor limit to the hard limit. Returns the limit now in force.
pub fn raise_descriptors() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid pointer to a local of the right type.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let wanted = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: as above.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &wanted) } != 0 {
        return Ok(limit.rlim_cur);
    }
    Ok(wanted.rlim_cur)
}

/// Bytes of memory the process has in use; 0 where the system does not say.
pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    // SAFETY: sysconf takes a number and touches no memory of ours.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.unwrap_or(0) * u64::try_from(page_bytes).unwrap_or(0)
}

/// Has the allocator give blocks above 64 KiB (hash memory, long lines, outgrown tables) back to the system when they are
/// freed, instead of learning to keep them.
pub fn return_big_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt takes two integers; it is called before any thread is started.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10);
    }
}

/// Bytes of the socket's stream that its peer has not acknowledged, a queued FIN counting one.
pub fn unacknowledged(fd: RawFd) -> u64 {
    let mut n: libc::c_int = 0;
    // SAFETY: TIOCOUTQ (SIOCOUTQ on a socket) writes one int; the descriptor is the caller's open socket.
    let failed = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &mut n) } != 0;
    if failed { 0 } else { u64::try_from(n).unwrap_or(0) }
}

/// True when the kernel is sending again what was not answered, and heard nothing for `silence`. A reader
/// that is merely slow answers each probe of its closed window, so one that is still out says nothing.
pub fn is_stalled(fd: RawFd, silence: Duration) -> bool {
    // SAFETY: tcp_info is plain integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `info`.
    let failed =
        unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &mut len) }
            != 0;
    let repeats = info.tcpi_retransmits > 0 || info.tcpi_probes > 1;
    !failed && repeats && u128::from(info.tcpi_last_ack_recv) > silence.as_millis()
}

/// Lets the socket get its port when it connects, and not when it is bound to an address: then only sockets with the
/// same destination are in the way. Looking for one that nobody has takes milliseconds when there are 50,000. Where
/// the system does not know that, it goes on as it did.
pub fn choose_port_late(fd: RawFd) {
    let on: libc::c_int = 1;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of `on`; the descriptor is the caller's open socket.
    unsafe {
        libc::setsockopt(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, (&raw const on).cast(), len);
    }
}

/// Has a command run in a session of its own: what ends this process's terminal or group does not end it.
pub fn in_own_session(command: &mut Command) {
    // SAFETY: between fork and exec only setsid is called, which may be; it takes no lock and no memory.
    unsafe {
        command.pre_exec(|| match libc::setsid() {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
}

/// Has a command get SIGTERM when the thread that starts it ends, however that ends.
pub fn ends_with_parent(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: between fork and exec only prctl and getppid are called, which may be; they take no lock and no
    // memory.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                return Err(io::Error::last_os_error());
            }
            // It may have ended before.
            if libc::getppid() as u32 == parent { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
        });
    }
}

/// Nanoseconds of the machine's clock that never goes back: the same clock for all of its processes.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec to a local.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) } != 0;
    assert!(!failed, "Linux has this clock");
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// A clock that wakes a poll at a time given in nanoseconds; a poll's own timeout counts in milliseconds.
pub struct Alarm(OwnedFd);

impl Alarm {
    pub fn new() -> io::Result<Alarm> {
        // SAFETY: the call takes two numbers; what it returns is checked, and owned by nobody else.
        unsafe {
            match libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(Alarm(OwnedFd::from_raw_fd(fd))),
            }
        }
    }

    /// Makes it readable at that time of [`monotonic_ns`], at once if that is past, and not before.
    pub fn set(&self, at_ns: u64) -> io::Result<()> {
        // Zero would turn it off.
        let at_ns = at_ns.max(1);
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let at = libc::timespec {
            tv_sec: (at_ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (at_ns % 1_000_000_000) as libc::c_long,
        };
        let wanted = libc::itimerspec { it_interval: none, it_value: at };
        // SAFETY: the descriptor is ours; the pointer is to a local, and none is given for the old value.
        let failed = unsafe {
            let fd = self.0.as_raw_fd();
            libc::timerfd_settime(fd, libc::TFD_TIMER_ABSTIME, &raw const wanted, std::ptr::null_mut())
        } != 0;
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Sends a signal to a process that this one started. One that has just ended does not get it.
pub fn signal(process: u32, signal: i32) {
    // SAFETY: kill takes two integers and touches no memory of ours.
    unsafe {
        libc::kill(process as libc::pid_t, signal);
    }
}

/// The socket's descriptor number, for the calls above.
pub fn number(fd: &impl AsRawFd) -> RawFd {
    fd.as_raw_fd()
}

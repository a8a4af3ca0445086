//! The system calls that Linux lets a process give up (seccomp(2)).

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

/// As `info` shows it.
pub const NAME: &str = "seccomp";

/// The numbers of these calls.
macro_rules! calls {
    ($($name:ident)*) => {
        &[$(libc::$name),*]
    };
}

/// What the token holder never does itself: start a process, run a program, look into another
/// process, signal or slow it, change what Landlock doesn't guard of a file, listen (Landlock knows
/// only of a port that is asked for by its number), share memory with processes of the same user,
/// change the machine, or be helped by the kernel in unusual ways. All else stays allowed: name
/// lookup and the C library may need calls that can't be foreseen.
const DENIED: &[i64] = calls! {
    SYS_execve SYS_execveat SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev
    SYS_pidfd_getfd SYS_kill SYS_tkill SYS_rt_sigqueueinfo SYS_rt_tgsigqueueinfo
    SYS_pidfd_send_signal SYS_setpriority SYS_ioprio_set SYS_sched_setaffinity
    SYS_sched_setattr SYS_sched_setparam SYS_sched_setscheduler SYS_listen SYS_fchmodat
    SYS_fchown SYS_fchownat SYS_utimensat SYS_truncate SYS_setxattr SYS_lsetxattr
    SYS_fsetxattr SYS_removexattr SYS_lremovexattr SYS_fremovexattr SYS_open_by_handle_at
    SYS_bpf SYS_perf_event_open SYS_userfaultfd SYS_io_uring_setup SYS_io_uring_enter
    SYS_io_uring_register SYS_keyctl SYS_add_key SYS_request_key SYS_shmget SYS_shmat
    SYS_shmctl SYS_semget SYS_semctl SYS_semop SYS_semtimedop SYS_msgget SYS_msgctl
    SYS_msgsnd SYS_msgrcv SYS_mq_open SYS_mq_unlink SYS_fanotify_init SYS_mount
    SYS_mount_setattr SYS_move_mount SYS_open_tree SYS_fsopen SYS_fspick SYS_umount2
    SYS_pivot_root SYS_chroot SYS_unshare SYS_setns SYS_kexec_load SYS_init_module
    SYS_finit_module SYS_delete_module SYS_acct SYS_swapon SYS_swapoff SYS_quotactl
    SYS_reboot SYS_sethostname SYS_setdomainname SYS_settimeofday SYS_clock_settime
    SYS_clock_adjtime SYS_adjtimex SYS_syslog
};

/// fchmodat2, setxattrat, removexattrat and file_setattr, which are younger than the C library's names
/// on some architectures; their numbers are the same on all.
const YOUNGER: &[i64] = &[452, 463, 466, 469];

/// The same under the names that this architecture has kept, and what it alone has.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = calls! {
    SYS_chmod SYS_chown SYS_lchown SYS_utime SYS_utimes SYS_futimesat SYS_fork SYS_vfork
    SYS_kexec_file_load SYS_ioperm SYS_iopl
};
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// What the number of a call has in it that comes by the x32 interface, on kernels with one.
#[cfg(target_arch = "x86_64")]
const X32: Option<i64> = Some(0x4000_0000);
#[cfg(not(target_arch = "x86_64"))]
const X32: Option<i64> = None;

/// The calls that have numbers of their own there, running programs among them.
const X32_ONLY: std::ops::RangeInclusive<i64> = 512..=547;

/// The part of a socket's type that isn't a flag (socket(2)).
const TYPE: u64 = 0xf;

/// What a clone(2) that starts no process asks for.
const THREAD: u64 = 0x0001_0000;

/// Terminals do as if what one writes had been typed, for the process that reads there next: the
/// shell from which a server in the foreground was started (ioctl_tty(2)). The second is the
/// console's.
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;

/// The attributes of a file that is open, be it for reading only (ioctl_iflags(2)).
const FS_IOC_SETFLAGS: u64 = 0x4008_6602;
const FS_IOC_FSSETXATTR: u64 = 0x401c_5820;

/// Who is signalled when a descriptor becomes ready, by ioctl(2) and by fcntl(2).
const FIOSETOWN: u64 = 0x8901;
const SIOCSPGRP: u64 = 0x8902;
const F_SETOWN: u64 = 8;
const F_SETOWN_EX: u64 = 15;

/// The signal that a process gets when its parent ends (prctl(2)): it is to stay.
const PR_SET_PDEATHSIG: u64 = 1;

/// The only mode that the token holder gives to a file, its nameless memory.
const OWNERS: u64 = 0o600;

/// One comparison of an argument, by its number. The kernel takes these for 32 bits, too.
struct Word(u8, SeccompCmpOp, u64);

fn is(argument: u8, value: u64) -> Word {
    Word(argument, SeccompCmpOp::Eq, value)
}

fn is_not(argument: u8, value: u64) -> Word {
    Word(argument, SeccompCmpOp::Ne, value)
}

/// Denied if all of these hold.
fn rule(words: Vec<Word>) -> Result<SeccompRule, BackendError> {
    let words = words.into_iter().map(|Word(argument, operator, value)| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
    });
    SeccompRule::new(words.collect::<Result<_, _>>()?)
}

fn number(constant: i32) -> u64 {
    u64::from(constant.unsigned_abs())
}

/// Sockets, but for datagrams to Unix sockets, as syslog needs them, TCP, UDP, and the kernel's
/// word on routes and addresses, by which names are looked up. Connections to Unix sockets lead
/// to what runs programs for the user: the session's bus and service manager, a terminal
/// multiplexer. Pairs and what was opened before stay. Other protocols are ways around what
/// Landlock says of TCP, and a lot of the kernel that an intruder could try.
fn sockets() -> Result<Vec<SeccompRule>, BackendError> {
    use SeccompCmpOp::{Gt, Lt, MaskedEq};
    let [unix, inet, inet6, netlink] = [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ]
    .map(number);
    let of = |kind: i32| Word(1, MaskedEq(TYPE), number(kind));
    let mut rules = vec![
        vec![is(0, unix), of(libc::SOCK_STREAM)],
        vec![is(0, unix), of(libc::SOCK_SEQPACKET)],
        vec![Word(0, Gt, inet), Word(0, Lt, inet6)],
        vec![Word(0, Gt, inet6), Word(0, Lt, netlink)],
        vec![Word(0, Gt, netlink)],
        vec![is(0, netlink), is_not(2, number(libc::NETLINK_ROUTE))],
    ];
    for internet in [inet, inet6] {
        rules.push(vec![
            is(0, internet),
            of(libc::SOCK_STREAM),
            is_not(2, number(libc::IPPROTO_IP)),
            is_not(2, number(libc::IPPROTO_TCP)),
        ]);
        rules.push(vec![
            is(0, internet),
            of(libc::SOCK_DGRAM),
            is_not(2, number(libc::IPPROTO_IP)),
            is_not(2, number(libc::IPPROTO_UDP)),
        ]);
        for kind in [
            libc::SOCK_RAW,
            libc::SOCK_RDM,
            libc::SOCK_SEQPACKET,
            libc::SOCK_DCCP,
        ] {
            rules.push(vec![is(0, internet), of(kind)]);
        }
    }
    rules.into_iter().map(rule).collect()
}

/// Calls that the token holder makes, but never with these arguments.
fn uses() -> Result<Vec<(i64, Vec<SeccompRule>)>, BackendError> {
    let requests = [
        TIOCSTI,
        TIOCLINUX,
        FS_IOC_SETFLAGS,
        FS_IOC_FSSETXATTR,
        FIOSETOWN,
        SIOCSPGRP,
    ];
    let second = |value: &u64| rule(vec![is(1, *value)]);
    let ioctl = requests.iter().map(second).collect::<Result<_, _>>()?;
    let owners = [F_SETOWN, F_SETOWN_EX];
    let fcntl = owners.iter().map(second).collect::<Result<_, _>>()?;
    let process = vec![Word(0, SeccompCmpOp::MaskedEq(THREAD), 0)];
    let ourselves = u64::from(std::process::id());
    let alone = |words| rule(words).map(|rule| vec![rule]);
    Ok(vec![
        (libc::SYS_socket, sockets()?),
        (libc::SYS_ioctl, ioctl),
        (libc::SYS_fcntl, fcntl),
        (libc::SYS_clone, alone(process)?),
        // Limits kill: of the processor's time, for one.
        (libc::SYS_prlimit64, alone(vec![is_not(0, 0)])?),
        // abort(3) signals its own thread.
        (libc::SYS_tgkill, alone(vec![is_not(0, ourselves)])?),
        (libc::SYS_prctl, alone(vec![is(0, PR_SET_PDEATHSIG)])?),
        (libc::SYS_fchmod, alone(vec![is_not(1, OWNERS)])?),
    ])
}

/// These calls fail with EPERM from now on, in every thread to come.
pub fn deny() -> Result<bool, String> {
    let denied = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    // Its arguments can't be looked at, and the C library has another way to start a thread.
    let absent = filter(denied, libc::ENOSYS);
    let calls = calls().and_then(|calls| filter(calls, libc::EPERM));
    for filter in [absent, calls] {
        let filter = filter.map_err(|error| error.to_string())?;
        apply_filter(&filter).map_err(|error| error.to_string())?;
    }
    Ok(true)
}

fn calls() -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let plain = DENIED.iter().chain(YOUNGER).chain(OLDER);
    let plain = plain.map(|call| (*call, Vec::new()));
    Ok(plain.chain(uses()?).collect())
}

fn filter(
    mut rules: BTreeMap<i64, Vec<SeccompRule>>,
    errno: i32,
) -> Result<BpfProgram, BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    if let Some(bit) = X32 {
        let again = rules
            .iter()
            .map(|(call, rules)| (call | bit, rules.clone()));
        let again: Vec<_> = again.collect();
        rules.extend(again);
        rules.extend(X32_ONLY.map(|call| (call | bit, Vec::new())));
    }
    let denied = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, denied, arch)?.try_into()
}

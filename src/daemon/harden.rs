//! What the daemon takes from itself, so that its memory stays its own and a bug in it can do
//! less. The hooks' runner was forked before and keeps all of the user's rights and limits.

use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use crate::sys;

/// How many descriptors the daemon may have at least, if the hard limit allows: 2,048 clients, the
/// browsers, the providers.
const DESCRIPTORS: rlim_t = 4096;

/// What part of the memory that may be locked is for secrets: a half; the rest is for whatever a
/// library wants to lock.
const LOCKED_PART: rlim_t = 2;

/// What is in force.
#[derive(Default)]
pub struct Sandbox {
    /// By the names that `info` shows.
    pub layers: Vec<&'static str>,
    /// What the system has refused.
    refused: Vec<String>,
}

/// No core files, no tracing by processes of the same user, no new privileges and no secrets in swap
/// from now on. Whatever the system refuses is done without; [`Sandbox::tell`] logs it.
pub fn harden() -> Sandbox {
    let mut sandbox = Sandbox::default();
    sandbox.told(
        "no_core",
        "core files can't be switched off",
        done(setrlimit(Resource::RLIMIT_CORE, 0, 0)),
    );
    sandbox.told(
        "not_dumpable",
        "other processes can't be kept out",
        system::undumpable(),
    );
    sandbox.told(
        "no_new_privs",
        "set-user-ID programs can't be given up",
        system::no_new_privs(),
    );
    sandbox.told("locked", "secrets may be swapped out", locked());
    sandbox
}

/// Lets no other process look into this one or those that it forks, as far as the system can; the
/// programs that they run are as any others.
pub fn keep_out() {
    // The daemon logs what isn't in force.
    let _ = system::undumpable();
}

impl Sandbox {
    /// Gives up running programs, and the system calls that only an intruder would make.
    pub fn deny_calls(&mut self) {
        self.told(calls::NAME, "system calls can't be given up", calls::deny());
    }

    /// Gives up the file system, ports, and signals to others, once every port is bound and before
    /// there are threads.
    /// The control socket is at `socket`: whether it still is must be seen.
    pub fn confine(&mut self, socket: &Path) {
        self.told(
            system::NAME,
            "the file system can't be given up",
            system::confine(socket),
        );
    }

    fn told(&mut self, layer: &'static str, what: &str, outcome: Result<bool, String>) {
        match outcome {
            Ok(true) => self.layers.push(layer),
            Ok(false) => {}
            Err(why) => self.refused.push(format!("{what}: {why}")),
        }
    }

    /// Logs what isn't in force though it could be.
    pub fn tell(&mut self) {
        for refused in self.refused.drain(..) {
            log::warn!("{refused}");
        }
    }
}

fn done(outcome: nix::Result<()>) -> Result<bool, String> {
    outcome
        .map(|()| true)
        .map_err(|errno| errno.desc().to_lowercase())
}

/// Gives the server as many descriptors as it may need; the limit that there was, if it had less.
pub fn more_descriptors() -> Option<rlim_t> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let raised = soft < DESCRIPTORS
        && setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.min(hard), hard).is_ok();
    raised.then_some(soft)
}

/// Gives commands the limit that the server was started with.
pub fn limit_descriptors(limit: Option<rlim_t>) {
    if let (Some(soft), Ok((_, hard))) = (limit, getrlimit(Resource::RLIMIT_NOFILE)) {
        // They could live with more.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    }
}

/// Keeps secrets out of swap. Not all users may do that; then their secrets are where all else is.
fn locked() -> Result<bool, String> {
    let limit = lockable().map_err(|errno| errno.desc().to_lowercase())?;
    let limit = limit.checked_div(LOCKED_PART).unwrap_or(0);
    let outcome = sys::lock_texts(usize::try_from(limit).unwrap_or(usize::MAX));
    if let Err(error) = &outcome {
        log::info!("secrets may be swapped out: {error}");
    }
    Ok(outcome.is_ok())
}

/// How much memory this process may lock, in bytes; all that the hard limit allows.
#[cfg(any(
    target_os = "linux",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd"
))]
fn lockable() -> nix::Result<rlim_t> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    // If that can't be, it is what it was.
    let raised = soft < hard && setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard).is_ok();
    Ok(if raised { hard } else { soft })
}

/// There is no limit of one's own, or none that is known.
#[cfg(not(any(
    target_os = "linux",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd"
)))]
fn lockable() -> nix::Result<rlim_t> {
    Ok(rlim_t::MAX)
}

/// What only Linux has. Each says whether it is in force.
#[cfg(target_os = "linux")]
mod system {
    use std::path::{Path, PathBuf};

    use landlock::{
        ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
        RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    };
    use nix::sys::prctl;

    use super::done;
    use crate::daemon::guard;

    /// As `info` shows it.
    pub const NAME: &str = "landlock";

    /// Memory, environment and descriptors become root's to look at (proc(5), ptrace(2)).
    pub fn undumpable() -> Result<bool, String> {
        done(prctl::set_dumpable(false))
    }

    /// No program that is run has more rights than this one; a seccomp filter needs it.
    pub fn no_new_privs() -> Result<bool, String> {
        done(prctl::set_no_new_privs())
    }

    /// Where the system keeps what it takes to look up names and to check certificates, and the
    /// libraries that do it, in the hierarchies that are in use; whatever isn't there is left out.
    const SYSTEM: [&str; 18] = [
        "/etc",
        "/usr",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/gnu/store",
        "/nix/store",
        "/run/NetworkManager",
        "/run/current-system",
        "/run/nscd",
        "/run/resolvconf",
        "/run/systemd/resolve",
        "/var/lib/ca-certificates",
        "/var/lib/sss",
        "/var/run/nscd",
        "/dev/random",
        "/dev/urandom",
    ];

    /// Files of the same kind that are often links to somewhere else.
    const LINKS: [&str; 4] = [
        "/etc/hosts",
        "/etc/nsswitch.conf",
        "/etc/resolv.conf",
        "/etc/ssl/certs",
    ];

    /// Opens no file but the system's own, and those only for reading; runs no program; listens on
    /// no further TCP port; signals nobody but its own threads; connects to no abstract Unix socket:
    /// as far as the kernel knows how (landlock(7)). What was opened before stays open, and what a
    /// hand (hand.rs) opens may be used.
    pub fn confine(_socket: &Path) -> Result<bool, String> {
        let status = restrict().map_err(|error| error.to_string())?;
        Ok(status != RulesetStatus::NotEnforced)
    }

    fn restrict() -> Result<RulesetStatus, RulesetError> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(ABI::V5))?
            .handle_access(AccessNet::BindTcp)?
            .scope(Scope::Signal | Scope::AbstractUnixSocket)?
            .create()?;
        for path in readable() {
            // What isn't there needs no rule.
            if let Ok(fd) = PathFd::new(path) {
                rules = rules.add_rule(PathBeneath::new(fd, read))?;
            }
        }
        if let Ok(fd) = PathFd::new("/dev/null") {
            rules = rules.add_rule(PathBeneath::new(fd, read | AccessFs::WriteFile))?;
        }
        if let Some(fd) = guard::drills().and_then(|dir| PathFd::new(dir).ok()) {
            rules = rules.add_rule(PathBeneath::new(fd, AccessFs::RemoveFile))?;
        }
        Ok(rules.restrict_self()?.ruleset)
    }

    /// The system's own files. A link may lead out of them, and the file at its end may be replaced
    /// by another: so the directory around it is readable, unless that would be the user's home.
    fn readable() -> Vec<PathBuf> {
        let mut places: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let trust = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(std::env::var_os);
        let mut links: Vec<PathBuf> = trust.into_iter().flatten().map(PathBuf::from).collect();
        links.extend(LINKS.iter().map(PathBuf::from));
        let certificates: Vec<_> = links.iter().flat_map(|dir| links_in(dir)).collect();
        for link in links.into_iter().chain(certificates) {
            let Ok(end) = link.canonicalize() else {
                continue;
            };
            let around = end.parent().filter(|_| end.is_file());
            let around = around.filter(|dir| home.as_ref().is_none_or(|it| !it.starts_with(dir)));
            let place = around.map(Path::to_owned).unwrap_or(end);
            if !places.iter().any(|known| place.starts_with(known)) {
                places.push(place);
            }
        }
        places
    }

    /// The links in a directory that may lead out of the system's own.
    fn links_in(dir: &Path) -> Vec<PathBuf> {
        let entries = dir.read_dir().into_iter().flatten().flatten();
        let leads_out = |link: &PathBuf| {
            let end = link.read_link().unwrap_or_default();
            let inside = SYSTEM.iter().any(|place| end.starts_with(place));
            !inside && end.components().count() > 1
        };
        entries
            .map(|entry| entry.path())
            .filter(leads_out)
            .collect()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::path::Path;

    use crate::daemon::process;

    /// As `info` shows it.
    pub const NAME: &str = "unveil";

    /// What name lookup and the trust store need, and what is opened by its name.
    #[cfg(target_os = "openbsd")]
    const SYSTEM: [(&str, &std::ffi::CStr); 5] = [
        ("/dev/null", c"rw"),
        ("/etc", c"r"),
        ("/usr/lib", c"r"),
        ("/usr/local", c"r"),
        ("/usr/share", c"r"),
    ];

    /// On FreeBSD and macOS nobody may trace it from now on; elsewhere nothing is in force.
    pub fn undumpable() -> Result<bool, String> {
        process::deny_tracing().map_err(|error| error.to_string())
    }

    pub fn no_new_privs() -> Result<bool, String> {
        Ok(false)
    }

    /// Sees nothing but the system's own files, the trust store that the environment names, and
    /// what is around the control socket's directory, which may be made again.
    #[cfg(target_os = "openbsd")]
    pub fn confine(socket: &Path) -> Result<bool, String> {
        let trust = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(std::env::var_os);
        let trust = trust.iter().flatten().map(Path::new);
        let around = socket.parent().and_then(Path::parent);
        let named = trust.chain(around).map(|path| (path, c"r"));
        let system = SYSTEM
            .iter()
            .map(|(path, rights)| (Path::new(path), *rights));
        for (path, rights) in system.chain(named) {
            // What isn't there needs no veil.
            let _ = process::unveil(path, rights);
        }
        process::seal_veil().map_err(|error| error.to_string())?;
        Ok(true)
    }

    #[cfg(not(target_os = "openbsd"))]
    pub fn confine(_socket: &Path) -> Result<bool, String> {
        Ok(false)
    }
}

/// The architectures whose system calls the filter knows.
#[cfg(all(
    target_os = "linux",
    any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    )
))]
mod calls {
    use std::collections::BTreeMap;

    use nix::libc;
    use seccompiler::{
        BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
        SeccompFilter, SeccompRule, TargetArch, apply_filter,
    };

    /// As `info` shows it.
    pub const NAME: &str = "seccomp";

    /// What the daemon never does itself: start a process, run a program, look into another process,
    /// signal or slow it, change what Landlock doesn't guard of a file, listen (Landlock knows only
    /// of a port that is asked for by its number), share memory with whoever runs as the same user,
    /// change the machine, or be helped by the kernel in unusual ways. All else stays allowed: name
    /// lookup and the C library may need what nobody foresees.
    const DENIED: &[i64] = &[
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
        libc::SYS_pidfd_send_signal,
        libc::SYS_setpriority,
        libc::SYS_ioprio_set,
        libc::SYS_sched_setaffinity,
        libc::SYS_sched_setattr,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setscheduler,
        libc::SYS_listen,
        libc::SYS_fchmodat,
        FCHMODAT2,
        libc::SYS_fchown,
        libc::SYS_fchownat,
        libc::SYS_utimensat,
        libc::SYS_truncate,
        libc::SYS_setxattr,
        libc::SYS_lsetxattr,
        libc::SYS_fsetxattr,
        SETXATTRAT,
        libc::SYS_removexattr,
        libc::SYS_lremovexattr,
        libc::SYS_fremovexattr,
        REMOVEXATTRAT,
        FILE_SETATTR,
        libc::SYS_open_by_handle_at,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_shmget,
        libc::SYS_shmat,
        libc::SYS_shmctl,
        libc::SYS_semget,
        libc::SYS_semctl,
        libc::SYS_semop,
        libc::SYS_semtimedop,
        libc::SYS_msgget,
        libc::SYS_msgctl,
        libc::SYS_msgsnd,
        libc::SYS_msgrcv,
        libc::SYS_mq_open,
        libc::SYS_mq_unlink,
        libc::SYS_fanotify_init,
        libc::SYS_mount,
        libc::SYS_mount_setattr,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_fsopen,
        libc::SYS_fspick,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_acct,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_quotactl,
        libc::SYS_reboot,
        libc::SYS_sethostname,
        libc::SYS_setdomainname,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_clock_adjtime,
        libc::SYS_adjtimex,
        libc::SYS_syslog,
    ];

    /// Calls that are younger than the C library's names on some architectures; their numbers are the
    /// same on all.
    const FCHMODAT2: i64 = 452;
    const SETXATTRAT: i64 = 463;
    const REMOVEXATTRAT: i64 = 466;
    const FILE_SETATTR: i64 = 469;

    /// The same under the names that this architecture has kept, and what it alone has.
    #[cfg(target_arch = "x86_64")]
    const OLDER: &[i64] = &[
        libc::SYS_chmod,
        libc::SYS_chown,
        libc::SYS_lchown,
        libc::SYS_utime,
        libc::SYS_utimes,
        libc::SYS_futimesat,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_kexec_file_load,
        libc::SYS_ioperm,
        libc::SYS_iopl,
    ];
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

    /// Terminals do as if what one writes had been typed, for whoever reads there next: the shell
    /// from which a server in the foreground was started (ioctl_tty(2)). The second is the console's.
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

    /// The only mode that the daemon gives to a file, its nameless memory.
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
    /// to what runs programs for the user: his session's bus and service manager, a terminal
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

    /// Calls that the daemon makes, but never so.
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
        let plain = DENIED.iter().chain(OLDER).map(|call| (*call, Vec::new()));
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
}

/// Writing, running programs and changing who one is aren't among the promises.
#[cfg(target_os = "openbsd")]
mod calls {
    use crate::daemon::process;

    /// As `info` shows it.
    pub const NAME: &str = "pledge";

    /// Sockets, name lookup and its files, the trust store, the lock, descriptors on their way from
    /// and to the monitor. With `error`, what breaks a promise fails: a daemon that is killed for it
    /// loses every token.
    pub fn deny() -> Result<bool, String> {
        let promises = c"error stdio rpath flock unix inet dns sendfd recvfd";
        process::pledge(promises)
            .map(|()| true)
            .map_err(|error| error.to_string())
    }
}

#[cfg(not(any(
    target_os = "openbsd",
    all(
        target_os = "linux",
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64"
        )
    )
)))]
mod calls {
    /// As `info` would show it.
    pub const NAME: &str = "seccomp";

    /// Which call has which number isn't known.
    pub fn deny() -> Result<bool, String> {
        Ok(false)
    }
}

#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use std::{
        io::{ErrorKind, Write},
        net::{TcpListener, TcpStream, ToSocketAddrs},
        os::linux::net::SocketAddrExt,
        os::unix::{
            fs::{PermissionsExt, symlink},
            net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
        },
        process::Command,
        thread,
    };

    use nix::{
        errno::Errno,
        libc,
        sys::{
            signal::{Signal, kill},
            stat::Mode,
            uio,
        },
        unistd::Pid,
    };

    use super::{calls, system};
    use crate::daemon::process;

    #[test]
    fn the_calls_of_an_intruder_are_denied_and_a_daemons_are_not() {
        // A filter is its thread's own, and ends with it.
        let thread = thread::spawn(|| {
            Command::new("/bin/true").status().unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            assert_eq!(system::no_new_privs(), Ok(true));
            assert_eq!(calls::deny(), Ok(true));
            let run = nix::unistd::execv(c"/bin/true", &[c"true"]);
            assert_eq!(run, Err(Errno::EPERM));
            let run = Command::new("/bin/true").status();
            assert!(run.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied));
            let ourselves = nix::unistd::Pid::this();
            let mut byte = [0];
            let mut local = [std::io::IoSliceMut::new(&mut byte)];
            let remote = [uio::RemoteIoVec { base: 0, len: 1 }];
            let read = uio::process_vm_readv(ourselves, &mut local, &remote);
            assert_eq!(read, Err(Errno::from_raw(libc::EPERM)));
            let denied = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("file");
            std::fs::write(&file, "mail").unwrap();
            let mode = PermissionsExt::from_mode(0o777);
            assert!(std::fs::set_permissions(&file, mode).is_err_and(denied));
            let cut = nix::unistd::truncate(&file, 0);
            assert_eq!(cut, Err(Errno::from_raw(libc::EPERM)));
            assert!(UnixStream::connect("/nowhere").is_err_and(denied));
            UnixStream::pair().unwrap();
            UnixDatagram::unbound().unwrap();
            assert!(("localhost", 80).to_socket_addrs().is_ok());
            let listening = TcpListener::bind("127.0.0.1:0");
            assert!(listening.is_err_and(denied));
            TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert!(
                thread::spawn(|| std::fs::read("/etc/passwd").is_ok())
                    .join()
                    .unwrap()
            );
        });
        thread.join().unwrap();
    }

    /// Calls that come to nothing, so that only the filter says that they aren't permitted.
    const FUTILE: [(i64, [i64; 4]); 26] = [
        // As x32 runs programs.
        (0x4000_0208, [0, 0, 0, 0]),
        (libc::SYS_ioctl, [-1, 0x5412, 0, 0]),
        (libc::SYS_ioctl, [-1, 0x7fff_ffff_0000_5412, 0, 0]),
        (libc::SYS_ioctl, [-1, 0x541c, 0, 0]),
        (libc::SYS_ioctl, [-1, 0x4008_6602, 0, 0]),
        (libc::SYS_ioctl, [-1, 0x8901, 0, 0]),
        (libc::SYS_fcntl, [-1, 8, 1, 0]),
        (libc::SYS_fcntl, [-1, 15, 0, 0]),
        (libc::SYS_fchmod, [-1, 0o4755, 0, 0]),
        (452, [-1, 0, 0o4755, 0]),
        (libc::SYS_fchown, [-1, 0, 0, 0]),
        (libc::SYS_fsetxattr, [-1, 0, 0, 0]),
        (libc::SYS_listen, [-1, 1, 0, 0]),
        (libc::SYS_kill, [0, 999, 0, 0]),
        (libc::SYS_tgkill, [1, -1, 0, 0]),
        (libc::SYS_prlimit64, [1, 999, 0, 0]),
        (libc::SYS_prctl, [1, 999, 0, 0]),
        (libc::SYS_shmat, [-1, 0, 0, 0]),
        // A process of its own that shares signal handlers, but no memory.
        (libc::SYS_clone, [0x800, 0, 0, 0]),
        (libc::SYS_chroot, [0, 0, 0, 0]),
        (libc::SYS_socket, [40, 99, 0, 0]),
        (libc::SYS_socket, [2, 1, 999, 0]),
        (libc::SYS_socket, [10, 1, 999, 0]),
        (libc::SYS_socket, [2, 2, 999, 0]),
        (libc::SYS_socket, [10, 2, 999, 0]),
        (libc::SYS_socket, [16, 3, 999, 0]),
    ];

    /// The same calls as a daemon makes them.
    const ALLOWED: [(i64, [i64; 4]); 5] = [
        (libc::SYS_ioctl, [-1, 0x5421, 0, 0]),
        (libc::SYS_fcntl, [-1, 1, 0, 0]),
        (libc::SYS_fchmod, [-1, 0o600, 0, 0]),
        (libc::SYS_prlimit64, [0, 999, 0, 0]),
        (libc::SYS_prctl, [999, 0, 0, 0]),
    ];

    #[test]
    fn a_call_is_denied_for_what_it_asks() {
        let tried = |(call, arguments): &(i64, [i64; 4])| process::call(*call, *arguments);
        let thread = thread::spawn(move || {
            for futile in &FUTILE {
                let outcome = tried(futile);
                assert!(outcome.is_err_and(|it| it != Errno::EPERM), "{futile:?}");
            }
            assert_eq!(system::no_new_privs(), Ok(true));
            assert_eq!(calls::deny(), Ok(true));
            for futile in &FUTILE {
                assert_eq!(tried(futile), Err(Errno::EPERM), "{futile:?}");
            }
            for allowed in &ALLOWED {
                let outcome = tried(allowed);
                assert!(outcome.is_err_and(|it| it != Errno::EPERM), "{allowed:?}");
            }
            let ourselves = i64::from(std::process::id());
            let signalled = process::call(libc::SYS_tgkill, [ourselves, ourselves, 0, 0]);
            assert_eq!(signalled, Ok(0));
            let started = process::call(libc::SYS_clone3, [0, 0, 0, 0]);
            assert_eq!(started, Err(Errno::ENOSYS));
            thread::spawn(|| ()).join().unwrap();
        });
        thread.join().unwrap();
    }

    #[test]
    fn files_programs_ports_and_signals_are_given_up_and_nothing_else() {
        // A domain is its thread's own, and that of the threads and processes that it starts.
        let mut stranger = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(stranger.id() as i32);
        let abstract_name = format!("pizauth-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(abstract_name).unwrap();
        let _outside = UnixListener::bind_addr(&abstract_name).unwrap();
        let thread = thread::spawn(move || {
            let dir = tempfile::tempdir().unwrap();
            let of = |name: &str| dir.path().join(name);
            let bound = TcpListener::bind("127.0.0.1:0").unwrap();
            std::fs::write(of("old"), "mail").unwrap();
            let handed = std::fs::File::options()
                .append(true)
                .open(of("old"))
                .unwrap();
            if system::confine(dir.path()) != Ok(true) {
                // This kernel has no Landlock.
                return dir;
            }
            let refused = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
            assert!(std::fs::read(of("old")).is_err_and(refused));
            assert!(std::fs::read_dir(dir.path()).is_err_and(refused));
            assert!(std::fs::write(of("new"), "token").is_err_and(refused));
            assert!(std::fs::rename(of("old"), of("new")).is_err_and(refused));
            assert!(std::fs::remove_file(of("old")).is_err_and(refused));
            assert!(std::fs::create_dir(of("new")).is_err_and(refused));
            assert!(UnixListener::bind(of("socket")).is_err_and(refused));
            assert!(symlink("/", of("link")).is_err_and(refused));
            let fifo = nix::unistd::mkfifo(&of("fifo"), Mode::S_IRWXU);
            assert_eq!(fifo, Err(Errno::EACCES));
            let environment = format!("/proc/{pid}/environ");
            assert!(std::fs::read(environment).is_err_and(refused));
            let run = Command::new("/bin/true").status();
            assert!(run.is_err_and(refused));
            assert!(TcpListener::bind("127.0.0.1:0").is_err_and(refused));
            let refused_too = |error: std::io::Error| error.raw_os_error() == Some(libc::EPERM);
            assert!(UnixStream::connect_addr(&abstract_name).is_err_and(refused_too));
            assert_eq!(kill(pid, Signal::SIGKILL), Err(Errno::EPERM));

            TcpStream::connect(bound.local_addr().unwrap()).unwrap();
            bound.accept().unwrap();
            (&handed).write_all(b"box").unwrap();
            std::fs::read("/etc/passwd").unwrap();
            std::fs::write("/dev/null", "nothing").unwrap();
            assert!(("localhost", 80).to_socket_addrs().is_ok());
            dir
        });
        let outcome = thread.join();
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        // Its directory is removed by one who may.
        drop(outcome.unwrap());
    }
}

//! What the daemon takes from itself, so that its memory stays its own and a bug in it can do
//! less. The hooks' runner was forked before and keeps all of the user's rights and limits.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// How many descriptors the daemon may have at least, if the hard limit allows: 2,048 clients, the
/// browsers, the providers.
const DESCRIPTORS: rlim_t = 4096;

/// What is in force.
#[derive(Default)]
pub struct Sandbox {
    /// By the names that `info` shows.
    pub layers: Vec<&'static str>,
    /// The numbers of the system calls that a filter denies.
    pub denied: Vec<i64>,
    /// The process is confined.
    pub confined: bool,
}

/// No core files, no tracing by processes of the same user and no new privileges from now on.
/// Whatever the system refuses is logged and done without.
pub fn harden() -> Sandbox {
    // The last thing that needs a right which is given up.
    if let Err(why) = more_descriptors() {
        log::warn!("the limit of descriptors stays: {why}");
    }
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
    sandbox
}

impl Sandbox {
    /// Denies the system calls that only an intruder would make. A filter outlives execve(2), and
    /// the kernel takes 273 of these, so a successor adds none to the one that denies `already`
    /// what it would.
    pub fn deny_calls(&mut self, already: Vec<i64>) {
        self.denied = already;
        let outcome = match calls::DENIED.iter().all(|it| self.denied.contains(it)) {
            true if !self.denied.is_empty() => Ok(true),
            _ => calls::deny(),
        };
        if outcome == Ok(true) {
            self.denied = calls::DENIED.to_vec();
        }
        self.told(calls::NAME, "system calls can't be given up", outcome);
    }

    /// Gives up ports, signals and special files, once every port is bound and before there are
    /// threads. That outlives execve(2), too, and can be had sixteen times; so a successor of one
    /// who has done it has `already`.
    pub fn confine(&mut self, already: bool) {
        let outcome = match already {
            true => Ok(true),
            false => system::confine(),
        };
        self.confined = outcome == Ok(true);
        self.told("landlock", "ports and signals can't be given up", outcome);
    }

    fn told(&mut self, layer: &'static str, what: &str, outcome: Result<bool, String>) {
        match outcome {
            Ok(true) => self.layers.push(layer),
            Ok(false) => {}
            Err(why) => log::warn!("{what}: {why}"),
        }
    }
}

fn done(outcome: nix::Result<()>) -> Result<bool, String> {
    outcome
        .map(|()| true)
        .map_err(|errno| errno.desc().to_lowercase())
}

fn more_descriptors() -> nix::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    match soft < DESCRIPTORS {
        true => setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.min(hard), hard),
        false => Ok(()),
    }
}

/// What only Linux has. Each says whether it is in force.
#[cfg(target_os = "linux")]
mod system {
    use landlock::{
        AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError,
        RulesetStatus, Scope,
    };
    use nix::sys::prctl;

    use super::done;

    /// Memory, environment and descriptors become root's to look at (proc(5), ptrace(2)).
    pub fn undumpable() -> Result<bool, String> {
        done(prctl::set_dumpable(false))
    }

    /// No program that is run has more rights than this one; a seccomp filter needs it.
    pub fn no_new_privs() -> Result<bool, String> {
        done(prctl::set_no_new_privs())
    }

    /// Listens on no further TCP port, signals nobody but its own children, makes no device, FIFO
    /// or symbolic link, moves no file to another directory and mounts nothing, as far as the
    /// kernel knows how (landlock(7)). Reading and writing stay as they are: a reload may bring
    /// a file in any directory.
    pub fn confine() -> Result<bool, String> {
        let status = restrict().map_err(|error| error.to_string())?;
        Ok(status != RulesetStatus::NotEnforced)
    }

    fn restrict() -> Result<RulesetStatus, RulesetError> {
        let special = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeFifo;
        let restricted = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(special | AccessFs::MakeSym)?
            .handle_access(AccessNet::BindTcp)?
            .scope(Scope::Signal)?
            .create()?
            .restrict_self()?;
        Ok(restricted.ruleset)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use crate::daemon::process;

    /// On FreeBSD and macOS nobody may trace it from now on; elsewhere nothing is in force.
    pub fn undumpable() -> Result<bool, String> {
        process::deny_tracing().map_err(|error| error.to_string())
    }

    pub fn no_new_privs() -> Result<bool, String> {
        Ok(false)
    }

    pub fn confine() -> Result<bool, String> {
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
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

    /// As `info` shows it.
    pub const NAME: &str = "seccomp";

    /// What the daemon never does itself: look into another process or be helped by the kernel in
    /// unusual ways. All else stays allowed: name lookup and the C library may need what nobody
    /// foresees, and `restart` makes the daemon another program (without new privileges).
    pub const DENIED: [i64; 15] = [
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_mount,
        libc::SYS_kexec_load,
        libc::SYS_init_module,
    ];

    /// The calls of [`DENIED`] fail with EPERM from now on, in every thread to come.
    pub fn deny() -> Result<bool, String> {
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| e.to_string())?;
        let rules: BTreeMap<i64, Vec<_>> = DENIED.map(|call| (call, Vec::new())).into();
        let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch)
            .and_then(BpfProgram::try_from)
            .map_err(|error| error.to_string())?;
        match apply_filter(&filter) {
            Ok(()) => Ok(true),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Running programs and changing who one is aren't among the promises: there is no `restart` in
/// place on that system. Its paths aren't narrowed, for the reasons in SECURITY.md.
#[cfg(target_os = "openbsd")]
mod calls {
    use crate::daemon::process;

    /// As `info` shows it.
    pub const NAME: &str = "pledge";

    /// A pledge names what is allowed instead, and here nothing outlives the program.
    pub const DENIED: [i64; 0] = [];

    /// Sockets and their files, token files, name lookup, descriptors on their way to the runner.
    /// With `error`, what breaks a promise fails: a daemon that is killed for it loses every token.
    pub fn deny() -> Result<bool, String> {
        let promises = c"error stdio rpath wpath cpath fattr flock unix inet dns sendfd recvfd";
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
    pub const DENIED: [i64; 0] = [];

    pub fn deny() -> Result<bool, String> {
        Ok(false)
    }
}

#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use std::{
        io::ErrorKind,
        net::{TcpListener, TcpStream, ToSocketAddrs},
        os::unix::{fs::symlink, net::UnixListener},
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

    #[test]
    fn the_calls_of_an_intruder_are_denied_and_a_daemons_are_not() {
        // A filter is its thread's own, and ends with it.
        let thread = thread::spawn(|| {
            Command::new("/bin/true").status().unwrap();
            assert_eq!(system::no_new_privs(), Ok(true));
            assert_eq!(calls::deny(), Ok(true));
            // `restart` needs this.
            Command::new("/bin/true").status().unwrap();
            let ourselves = nix::unistd::Pid::this();
            let mut byte = [0];
            let mut local = [std::io::IoSliceMut::new(&mut byte)];
            let remote = [uio::RemoteIoVec { base: 0, len: 1 }];
            let read = uio::process_vm_readv(ourselves, &mut local, &remote);
            assert_eq!(read, Err(Errno::from_raw(libc::EPERM)));
            assert!(("localhost", 80).to_socket_addrs().is_ok());
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert!(
                thread::spawn(|| std::fs::read("/etc/passwd").is_ok())
                    .join()
                    .unwrap()
            );
        });
        thread.join().unwrap();
    }

    #[test]
    fn ports_signals_and_special_files_are_given_up_and_nothing_else() {
        // A domain is its thread's own, and that of the threads and processes that it starts.
        let mut stranger = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(stranger.id().cast_signed());
        let thread = thread::spawn(move || {
            let dir = tempfile::tempdir().unwrap();
            let bound = TcpListener::bind("127.0.0.1:0").unwrap();
            if system::confine() != Ok(true) {
                // This kernel has no Landlock.
                return;
            }
            let refused = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
            assert!(TcpListener::bind("127.0.0.1:0").is_err_and(refused));
            assert!(symlink("/", dir.path().join("link")).is_err_and(refused));
            let fifo = nix::unistd::mkfifo(&dir.path().join("fifo"), Mode::S_IRWXU);
            assert_eq!(fifo, Err(Errno::EACCES));
            assert_eq!(kill(pid, Signal::SIGKILL), Err(Errno::EPERM));

            TcpStream::connect(bound.local_addr().unwrap()).unwrap();
            bound.accept().unwrap();
            std::fs::write(dir.path().join("new"), "token").unwrap();
            std::fs::rename(dir.path().join("new"), dir.path().join("file")).unwrap();
            UnixListener::bind(dir.path().join("socket")).unwrap();
            let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
        });
        let outcome = thread.join();
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        outcome.unwrap();
    }
}

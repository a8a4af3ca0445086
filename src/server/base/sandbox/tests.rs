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
use crate::server::base::rights;

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
    let tried = |(call, arguments): &(i64, [i64; 4])| rights::call(*call, *arguments);
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
        let signalled = rights::call(libc::SYS_tgkill, [ourselves, ourselves, 0, 0]);
        assert_eq!(signalled, Ok(0));
        let started = rights::call(libc::SYS_clone3, [0, 0, 0, 0]);
        assert_eq!(started, Err(Errno::ENOSYS));
        thread::spawn(|| ()).join().unwrap();
    });
    thread.join().unwrap();
}

// Covers: sandbox
#[test]
fn files_programs_ports_and_signals_are_given_up_and_nothing_else() {
    // A domain is its thread's own, and that of the threads and processes that it starts.
    let mut stranger = Command::new("/bin/sleep").arg("60").spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(stranger.id()).unwrap());
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

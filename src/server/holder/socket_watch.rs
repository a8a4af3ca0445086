//! Notices that the control socket's file may have gone: a user cleaned the runtime directory,
//! mounted another over it, or the system took it away. On Linux the kernel says so and nothing wakes
//! up without a reason.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{cell::Cell, fs::File};

use crate::alarm::drain;

/// How long a change is left alone before it is looked at: who removes a directory file by file
/// must not find a new file in it.
const SETTLE: Duration = Duration::from_secs(1);

/// How often to look where nothing tells, or where the last try to mend has failed: a user can wait
/// so long for a server to be found again.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// inotify(7) on the socket's directory and on the one around it.
#[cfg(target_os = "linux")]
type Watch = nix::sys::inotify::Inotify;
#[cfg(not(target_os = "linux"))]
type Watch = File;

/// Tells when the socket should be looked at.
pub struct SocketWatch {
    socket: PathBuf,
    watch: Option<Watch>,
    /// The mounts that this process sees, proc_pid_mountinfo(5). Without /proc, no event arrives.
    mounts: Option<File>,
    mounted: Cell<bool>,
    due: Option<Instant>,
}

impl SocketWatch {
    /// Watches over nothing before [`SocketWatch::renew`].
    pub fn new(socket: &Path) -> Self {
        SocketWatch {
            socket: socket.to_owned(),
            watch: watch(),
            mounts: File::open("/proc/self/mountinfo").ok(),
            mounted: Cell::new(false),
            due: None,
        }
    }

    /// Readable when something has changed around the socket.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// Exceptional (POLLPRI) once, when something was mounted or unmounted.
    pub fn mounts(&self) -> Option<BorrowedFd<'_>> {
        self.mounts.as_ref().map(AsFd::as_fd)
    }

    /// [`SocketWatch::mounts`] was exceptional; it says so once only.
    pub fn mounted(&self) {
        self.mounted.set(true);
    }

    /// How long until the socket should be looked at, whatever happens.
    pub fn left(&self) -> Option<Duration> {
        let due = self.due?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Whether the socket should be looked at now.
    pub fn is_due(&mut self) -> bool {
        let now = Instant::now();
        if self.watch.as_ref().is_some_and(drain) | self.mounted.take() {
            self.due = Some(self.due.map_or(now + SETTLE, |due| due.min(now + SETTLE)));
        }
        self.due.is_some_and(|due| due <= now)
    }

    /// Watches the directories that are there now. To be called before the socket is looked at, so
    /// that nothing happens unseen; what was found has to follow.
    pub fn renew(&mut self) {
        let told = (self.watch.as_ref()).is_some_and(|watch| renew(watch, &self.socket));
        self.due = (!told).then(|| Instant::now() + LOOK_EVERY);
    }

    /// The socket was made again, perhaps in a directory that isn't watched yet.
    pub fn mended(&mut self) {
        self.due = Some(Instant::now() + SETTLE);
    }

    /// The socket is gone and can't be made now.
    pub fn missing(&mut self) {
        self.due = Some(Instant::now() + LOOK_EVERY);
    }
}

/// Watches nothing yet.
#[cfg(target_os = "linux")]
fn watch() -> Option<Watch> {
    use nix::sys::inotify::InitFlags;
    // The system's limit may have been reached; then it is looked at now and again.
    Watch::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()
}

/// Nothing tells.
#[cfg(not(target_os = "linux"))]
fn watch() -> Option<Watch> {
    None
}

/// Watches the directories that are there now; whether it can. To watch one again is nothing new to
/// the kernel.
#[cfg(target_os = "linux")]
fn renew(watch: &Watch, socket: &Path) -> bool {
    use nix::sys::inotify::AddWatchFlags;
    let itself =
        AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_ONLYDIR;
    let files = itself | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE;
    let Some(dir) = socket.parent() else {
        return false;
    };
    // What happens to the other files of a directory such as /tmp is no reason to wake up.
    let around = dir.parent().map(|dir| watch.add_watch(dir, itself));
    watch.add_watch(dir, files).is_ok() && around.is_none_or(|added| added.is_ok())
}

#[cfg(not(target_os = "linux"))]
fn renew(_watch: &Watch, _socket: &Path) -> bool {
    false
}

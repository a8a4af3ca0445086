//! Where log lines go: syslog, or stderr with `-d`. Only this program's own lines: a library's
//! might show a request.

use std::{
    io::{IsTerminal, Write},
    os::fd::AsFd,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    syslog::{Facility, LogFlags, Priority, Severity, openlog, syslog},
};

use crate::text;

/// Lines of this crate start with this target.
const OWN: &str = "pizauth";

/// The target of lines about clients of restricted sockets: the user who opens one can tell its
/// use, however quiet the server is.
pub const ACCESS: &str = "pizauth::access";

/// The level that so many `-v` ask for; there is nothing to say above the third.
fn level(verbose: u8) -> LevelFilter {
    match verbose {
        0 => LevelFilter::Error,
        1 => LevelFilter::Warn,
        2 => LevelFilter::Info,
        _ => LevelFilter::Debug,
    }
}

/// How long the reader of the server's stderr may take to go on reading, before what hooks write is
/// dropped: all hooks wait meanwhile.
const READER_TIMEOUT_MILLIS: u16 = 1000;

/// Whether the lines went to a terminal at first.
static ON_TERMINAL: OnceLock<bool> = OnceLock::new();

/// Whether the server belongs to a terminal, which may hang up.
pub fn is_on_terminal() -> bool {
    ON_TERMINAL.get() == Some(&true)
}

/// Whether the lines go to syslog.
static DETACHED: OnceLock<bool> = OnceLock::new();

/// Whether the server runs in the background, where nobody reads its standard output and error.
pub fn is_detached() -> bool {
    DETACHED.get() == Some(&true)
}

/// From now on, lines go to stderr or, `detached`, to syslog.
pub fn start(verbose: u8, detached: bool) {
    // A terminal that has hung up is none any more.
    ON_TERMINAL.get_or_init(|| !detached && std::io::stderr().is_terminal());
    DETACHED.get_or_init(|| detached);
    if detached {
        open_syslog();
    }
    let level = level(verbose);
    // The first call wins, and there is one in a process's life.
    if log::set_boxed_logger(Box::new(Lines(level))).is_ok() {
        log::set_max_level(level.max(LevelFilter::Info));
    }
}

/// Logs up to this level.
struct Lines(LevelFilter);

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata) -> bool {
        let (target, level) = (metadata.target(), metadata.level());
        target == ACCESS || (target.starts_with(OWN) && level <= self.0)
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let line = text::sanitize(&record.args().to_string());
            match is_detached() {
                true => to_syslog(record.level(), &line),
                false => to_stderr(record.level(), &line),
            }
        }
    }

    fn flush(&self) {}
}

fn to_stderr(level: Level, line: &str) {
    // With stderr closed the line is lost.
    let _ = std::io::stderr().write_all(format!("{level} - {line}\n").as_bytes());
}

fn to_syslog(level: Level, line: &str) {
    let severity = match level {
        Level::Error => Severity::LOG_ERR,
        Level::Warn => Severity::LOG_WARNING,
        Level::Info => Severity::LOG_INFO,
        Level::Debug | Level::Trace => Severity::LOG_DEBUG,
    };
    let priority = Priority::new(severity, Facility::LOG_DAEMON);
    // Without a syslog the server works as well.
    let _ = syslog(priority, line);
}

/// Passes on to the server's stderr what a hook has written. Its reader is waited for, and not a
/// second time until it reads again. In the background nobody reads it.
pub fn pass_on(bytes: &[u8]) {
    static STUCK: AtomicBool = AtomicBool::new(false);
    let patience = if STUCK.load(Ordering::Relaxed) {
        0
    } else {
        READER_TIMEOUT_MILLIS
    };
    let mut stderr = std::io::stderr();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    // The end of a hook meanwhile is no answer.
    let ready = loop {
        match poll(&mut fds, PollTimeout::from(patience)) {
            Err(Errno::EINTR) => {}
            outcome => break outcome == Ok(1),
        }
    };
    STUCK.store(!ready, Ordering::Relaxed);
    if ready {
        // What can't be written is in nobody's way.
        let _ = stderr.write(bytes);
    }
}

/// The type of a name for syslog(3), which it gets none of: then it is the program's. It keeps a pointer
/// to any other, and nix gives it one to a copy that is gone after the call.
#[cfg(target_os = "linux")]
type Name = std::ffi::CStr;
#[cfg(not(target_os = "linux"))]
type Name = str;

fn open_syslog() {
    // As above.
    let _ = openlog(None::<&Name>, LogFlags::LOG_PID, Facility::LOG_DAEMON);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_logged_however_quiet_the_server_is() {
        let quiet = Lines(level(0));
        let heard = |target: &str, level| {
            quiet.enabled(&Metadata::builder().target(target).level(level).build())
        };
        assert!(heard(ACCESS, Level::Info));
        assert!(heard("pizauth::daemon", Level::Error));
        assert!(!heard("pizauth::daemon", Level::Warn));
        assert!(!heard("ureq", Level::Error));
    }
}

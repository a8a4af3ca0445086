//! Where log lines go: syslog, or stderr with `-d`. Only this program's own lines: a library's
//! might show a request.

use std::io::Write;

use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::syslog::{Facility, LogFlags, Priority, Severity, openlog, syslog};

use crate::text;

/// Lines of this crate start with this target.
const OWN: &str = "pizauth";

/// The level that so many `-v` ask for; there is nothing to say above the third.
fn level(verbose: u8) -> LevelFilter {
    match verbose {
        0 => LevelFilter::Error,
        1 => LevelFilter::Warn,
        2 => LevelFilter::Info,
        _ => LevelFilter::Debug,
    }
}

/// From now on, lines go to stderr or, `detached`, to syslog.
pub fn start(verbose: u8, detached: bool) {
    let logger: &'static dyn Log = match detached {
        true => {
            open_syslog();
            &Syslog
        }
        false => &Stderr,
    };
    // The first call wins, and there is one in a process's life.
    if log::set_logger(logger).is_ok() {
        log::set_max_level(level(verbose));
    }
}

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target().starts_with(OWN)
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let line = format!(
                "{} - {}\n",
                record.level(),
                text::sanitize(&record.args().to_string())
            );
            // With stderr closed there is nobody to tell.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

struct Syslog;

impl Log for Syslog {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target().starts_with(OWN)
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let severity = match record.level() {
                Level::Error => Severity::LOG_ERR,
                Level::Warn => Severity::LOG_WARNING,
                Level::Info => Severity::LOG_INFO,
                Level::Debug | Level::Trace => Severity::LOG_DEBUG,
            };
            let priority = Priority::new(severity, Facility::LOG_DAEMON);
            // Without a syslog the daemon works as well.
            let _ = syslog(
                priority,
                text::sanitize(&record.args().to_string()).as_str(),
            );
        }
    }

    fn flush(&self) {}
}

#[cfg(target_os = "linux")]
fn open_syslog() {
    // As above.
    let _ = openlog(
        None::<&std::ffi::CStr>,
        LogFlags::LOG_PID,
        Facility::LOG_DAEMON,
    );
}

#[cfg(not(target_os = "linux"))]
fn open_syslog() {
    let _ = openlog("pizauth", LogFlags::LOG_PID, Facility::LOG_DAEMON);
}

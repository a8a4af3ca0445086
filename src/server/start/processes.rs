//! The first fork: into the monitor and the token holder.

use std::{
    io,
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::Path,
};

use nix::unistd::{ForkResult, Pid, getppid};

use super::detach::Launcher;
use crate::error::Exit;
use crate::server::base::fork::{close_inherited, close_stdio, fork_patiently, let_go_of_terminal};
use crate::server::base::{program, rights, signals};
use crate::server::ipc::helper_messages::{HelperContext, HelperKind};
use crate::server::ipc::line::Line;
use crate::server::ipc::monitor_messages::{HolderLines, Lines, StartOptions};
use crate::server::monitor::{self, Options, Predecessor, Programs};
use crate::server::{helper, proxy, runner};

/// What a helper of this kind does.
fn serve(context: HelperContext, kind: HelperKind, line: UnixStream) -> io::Result<()> {
    match kind {
        HelperKind::Proxies => proxy::serve(&context, line),
        _ => helper::serve(context, kind, line),
    }
}

/// Forks the holder, before anything secret is in memory. This process becomes the monitor, and
/// ends as the holder does; only the holder returns. `not_for_it` is nothing to the monitor.
///
/// # Errors
/// As fork(2).
pub fn fork_holder<T>(
    launcher: Launcher,
    config_file: &Path,
    start: StartOptions,
    predecessor: Predecessor,
    not_for_it: T,
) -> io::Result<(HolderLines, T)> {
    let (our_requests, requests) = UnixStream::pair()?;
    let (our_events, events) = UnixStream::pair()?;
    // Both answer them: the monitor by passing them on.
    signals::block()?;
    let monitor = Pid::this();
    let ForkResult::Parent { child } = fork_patiently()? else {
        drop((requests, events, predecessor));
        signals::end_with_parent();
        // It may have been killed before that.
        if getppid() != monitor {
            return Err(io::Error::other("the monitor was killed"));
        }
        if !launcher.waits() {
            let_go_of_terminal()?;
        }
        let lines = Lines {
            requests: Line::new(our_requests),
            events: Line::new(our_events),
        };
        return Ok((lines, not_for_it));
    };
    let mut kept = vec![requests.as_raw_fd(), events.as_raw_fd()];
    kept.extend(predecessor.key.iter().map(AsRawFd::as_raw_fd));
    kept.extend(predecessor.guarded.iter().map(AsRawFd::as_raw_fd));
    // The command that started a detached server waits for the end of its line and of its output.
    if launcher.waits() && close_stdio().is_err() {
        std::process::exit(Exit::Other.code().into());
    }
    // It closes the rest, of which nothing may be dropped then.
    close_inherited(&kept);
    std::mem::forget((launcher, our_requests, our_events, not_for_it));
    rights::keep_out();
    let lines = Lines {
        requests: Line::new(requests),
        events: Line::new(events),
    };
    let options = Options {
        program: program::program(),
        config_file: config_file.to_owned(),
        start,
        programs: Programs {
            helper: serve,
            runner: runner::run,
        },
        predecessor,
    };
    std::process::exit(monitor::run(lines, child, options))
}

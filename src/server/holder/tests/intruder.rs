//! In a build for tests: what code would try that an intruder has smuggled into the holder. The holder
//! runs it when a file of this name lies in the drills' directory (drills.rs), and logs what came of
//! it.

use std::os::fd::AsFd;
use std::os::unix::{fs::PermissionsExt, net::UnixStream};
use std::{fs, io, net::TcpListener, path::Path, process::Command, sync::Arc, thread};

use nix::sys::signal::kill;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, listen, socket};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use super::state::Holder;
use crate::server::base::{drills, runtime_files};
use crate::server::ipc::{capability::Capability, helper_messages::HelperKind};
use crate::{core::hook::Hook, error::Failure, secret::Secret};

/// Tries, if there is an order to.
pub fn visit(holder: &Arc<Holder>) {
    let Some(drills) = drills::dir() else {
        return;
    };
    if fs::remove_file(drills.join("intruder")).is_err() {
        return;
    }
    let tell = |what: &str, outcome: Result<(), String>| match outcome {
        Ok(()) => log::error!("intruder: {what}: done"),
        Err(why) => log::error!("intruder: {what}: refused: {why}"),
    };
    for (what, outcome) in alone(holder, &drills) {
        tell(what, outcome.map_err(|error| error.to_string()));
    }
    for (what, outcome) in by_others(holder, &drills) {
        tell(what, outcome);
    }
    let script = format!("touch '{}'", drills.join("by-runner").display());
    holder.effects.hooks.run(Hook::startup(script));
    holder.effects.alarm.ring();
}

/// Stays when the holder is to end, if there is an order to.
pub fn stay() {
    let order = drills::dir().map(|drills| drills.join("stay"));
    if order.is_some_and(|order| order.exists()) {
        loop {
            thread::park();
        }
    }
}

/// What the intruder tries itself.
fn alone(holder: &Holder, drills: &Path) -> Vec<(&'static str, io::Result<()>)> {
    let parent = Pid::parent();
    let environment = format!("/proc/{parent}/environ");
    let peek = || {
        let mut byte = [0];
        let mut local = [io::IoSliceMut::new(&mut byte)];
        let remote = [RemoteIoVec { base: 0, len: 1 }];
        process_vm_readv(parent, &mut local, &remote)
    };
    vec![
        (
            "run a program",
            Command::new("/bin/true").status().map(drop),
        ),
        (
            "read the configuration",
            fs::read(&holder.config_file).map(drop),
        ),
        ("list a directory", fs::read_dir(drills).map(drop)),
        (
            "empty a file",
            nix::unistd::truncate(&drills.join("by-hand"), 0).map_err(Into::into),
        ),
        (
            "give a file away",
            fs::set_permissions(drills.join("by-hand"), fs::Permissions::from_mode(0o666)),
        ),
        (
            "ask another server",
            UnixStream::connect(drills.join("by-hand")).map(drop),
        ),
        ("write a file", fs::write(drills.join("file"), "x")),
        ("make a directory", fs::create_dir(drills.join("dir"))),
        (
            "read another's environment",
            fs::read(environment).map(drop),
        ),
        (
            "read another's memory",
            peek().map(drop).map_err(Into::into),
        ),
        ("signal another", kill(parent, None).map_err(Into::into)),
        (
            "listen on a port",
            TcpListener::bind("127.0.0.1:0").map(drop),
        ),
        (
            "listen on whatever port there is",
            listen_anywhere().map_err(Into::into),
        ),
    ]
}

/// Who listens without having asked for a port gets one.
fn listen_anywhere() -> nix::Result<()> {
    let (family, kind) = (AddressFamily::Inet, SockType::Stream);
    let socket = socket(family, kind, SockFlag::empty(), None)?;
    listen(&socket, Backlog::MAXCONN)
}

/// What the intruder asks of the processes that may.
fn by_others(holder: &Holder, drills: &Path) -> Vec<(&'static str, Result<(), String>)> {
    let file: Arc<str> = drills.join("by-hand").display().to_string().into();
    let forged = Capability::default();
    let secret = Secret::new("x".into());
    let monitor = &holder.monitor;
    let (Ok(mut sockets), Ok(mut files)) = (
        monitor.helper(HelperKind::Sockets),
        monitor.helper(HelperKind::Files),
    ) else {
        return Vec::new();
    };
    let capabilities = monitor.capabilities();
    let socket = drills.join("socket");
    let id = fs::symlink_metadata(&socket).map(|it| runtime_files::id_of(&it));
    let id = id.unwrap_or_default();
    let control = holder.socket.parts().map(|(_, control, _)| control);
    let why = |outcome: Result<(), Failure>| outcome.map_err(|it| it.what);
    let other_kind = monitor.helper(HelperKind::Files);
    vec![
        (
            "have a helper do what another kind does",
            why(other_kind.and_then(|mut it| it.lock_file().map(drop))),
        ),
        (
            "have another's socket removed",
            why(sockets.remove_socket(&socket, id, None)),
        ),
        (
            "have it removed for one of the server's",
            why(sockets.remove_socket(&socket, id, control.as_ref().map(AsFd::as_fd))),
        ),
        (
            "have a file written",
            why(files.replace(&file, &forged, &secret)),
        ),
        ("have a file removed", why(files.remove(&file, &forged))),
        (
            "have a socket made",
            why(sockets.listen(&file, &capabilities).map(drop)),
        ),
    ]
}

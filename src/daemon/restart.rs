//! `pizauth restart`, on both sides of execve(2): the last deeds of one program and the first of
//! its successor.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    sync::{Arc, mpsc::RecvTimeoutError},
    time::{Duration, Instant},
};

use nix::sys::stat::{Mode, umask};

use super::{
    Daemon, Parts, Rest, Sites,
    handover::{self, Handover, Kept},
    harden::{self, Sandbox},
    hooks::Hooks,
    log as logging, other,
    place::{self, Place},
    process, signals,
    signals::Wish,
    store::{self, State},
    turn, verbs,
};
use crate::{
    core::{Core, Ports},
    error::Failure,
    paths, sys,
};

/// How long to wait for what is under way with a provider or a command that saves: a reply that
/// nobody hears may cost a login. A little longer than either may take.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(65);

/// How long clients may take to finish what they have begun to ask.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(6);

/// How often to look meanwhile whether the socket is still there: nobody finds it before.
const DRAIN_LOOK: Duration = Duration::from_millis(250);

/// How long token files may take that are being written.
const FILES_TIMEOUT: Duration = Duration::from_secs(5);

/// Has the program tried that is there now, and asks the main thread to become it.
pub fn request(daemon: &Arc<Daemon>) -> Result<(), Failure> {
    let config = verbs::read_config_text(&daemon.config_file)?;
    let kept = daemon.kept();
    let Some(kept) = &*kept else {
        return Err(other("the server is just ending"));
    };
    let handover = describe(daemon, kept, config.clone(), &Numbers::default());
    handover.trial(&kept.program, &daemon.config_file)?;
    *daemon.restarting() = Some(config);
    daemon.alarm.ring();
    Ok(())
}

/// Descriptors that go over as their numbers; a trial needs none.
#[derive(Default)]
struct Numbers {
    lock: RawFd,
    runner: RawFd,
    spawner: Option<RawFd>,
}

fn describe(daemon: &Daemon, kept: &Kept, config: String, numbers: &Numbers) -> Handover {
    Handover {
        config,
        listeners: kept.listeners.clone(),
        detached: kept.detached,
        verbose: kept.verbose,
        restarts: kept.restarts,
        denied: kept.denied.clone(),
        confined: kept.confined,
        lock: numbers.lock,
        runner: numbers.runner,
        spawner: numbers.spawner,
        control: kept.control.as_raw_fd(),
        given: kept.given,
        sites: kept.sites(),
        doors: daemon.doors.state(),
        hooks: daemon.shared.hooks().state(),
        core: daemon.shared.with(|core, cx| core.state(cx.now)),
    }
}

/// Becomes the program that was tried. Returns only when that wasn't possible: then everything
/// goes on as it was.
pub fn perform(daemon: &Arc<Daemon>, parts: &mut Parts, place: &mut Place, config: String) {
    log::info!("the server is about to be restarted in place");
    daemon.shared.with(|core, _| core.hold());
    let outcome = match settle(daemon, parts, place) {
        Ok(true) => drain_and_exec(daemon, parts, place, config),
        Ok(false) => Err(io::Error::other(
            "what is under way with a provider takes too long",
        )),
        Err(error) => Err(error),
    };
    parts.clients.resume();
    parts.browsers.resume();
    daemon.shared.with(Core::release);
    daemon.alarm.ring();
    if let Err(error) = outcome {
        log::error!("the server was not restarted and goes on: {error}");
    }
}

/// Waits for the end of what is under way; false when that takes too long, or the server is to end.
fn settle(daemon: &Arc<Daemon>, parts: &mut Parts, place: &mut Place) -> io::Result<bool> {
    let give_up = Instant::now() + SETTLE_TIMEOUT;
    let shared = &daemon.shared;
    while shared.with(|core, _| core.awaits_reply() || core.is_keeping())
        || !shared.hooks().is_settled()
    {
        let left = give_up.saturating_duration_since(Instant::now());
        let rest = Rest::WatchingAtMost(&place.presence, left);
        let wishes = turn(shared, &parts.alarm, &parts.wishes, &mut parts.timer, rest)?;
        if wishes.contains(&Wish::Stop) {
            daemon.stop_by_signal();
        }
        if daemon.is_stopping() || Instant::now() >= give_up {
            return Ok(false);
        }
        // Clients must find the socket meanwhile, too.
        if place.presence.is_due() {
            place.look(daemon)?;
        }
    }
    Ok(!daemon.is_stopping())
}

fn drain_and_exec(
    daemon: &Arc<Daemon>,
    parts: &Parts,
    place: &mut Place,
    config: String,
) -> io::Result<()> {
    drain(daemon, parts, place)?;
    if daemon.is_stopping() || !daemon.shared.files().finish(FILES_TIMEOUT) {
        return Err(io::Error::other(
            "it ends, or a token file can't be written",
        ));
    }
    // What the last clients have brought about.
    daemon.shared.hooks().exchange(&daemon.shared);
    if !daemon.shared.hooks().is_settled() {
        return Err(io::Error::other("the hook runner takes no orders"));
    }
    let kept = daemon.kept();
    let (runner, spawner) = daemon.shared.hooks().kept();
    let (Some(kept), Some(runner)) = (&*kept, runner) else {
        return Err(io::Error::other("the hook runner is gone"));
    };
    let lock = place.lock_fd();
    let numbers = Numbers {
        lock: lock.as_raw_fd(),
        runner: runner.as_raw_fd(),
        spawner: spawner.as_ref().map(|line| line.as_raw_fd()),
    };
    let handover = describe(daemon, kept, config, &numbers);
    let error = daemon.doors.with_fds(|doors| {
        let mut passed: Vec<BorrowedFd> = kept.fds();
        passed.extend([lock, runner.as_fd()]);
        passed.extend(spawner.iter().map(|line| line.as_fd()));
        passed.extend(doors);
        handover.exec(&kept.program, &daemon.config_file, &passed)
    });
    Err(error)
}

/// Answers those who have begun to ask, and leaves all others to the successor.
fn drain(daemon: &Arc<Daemon>, parts: &Parts, place: &mut Place) -> io::Result<()> {
    // Who is still silent then has asked for nothing.
    let give_up = Instant::now() + DRAIN_TIMEOUT;
    let begin = || vec![parts.clients.drain(), parts.browsers.drain()];
    let mut draining = begin();
    while let Some(drained) = draining.last()
        && Instant::now() < give_up
    {
        match drained.recv_timeout(DRAIN_LOOK) {
            Err(RecvTimeoutError::Timeout) => {}
            // A server that has panicked answers nobody.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => drop(draining.pop()),
        }
        if place.presence.is_due() {
            place.look(daemon)?;
            // A socket that is made again lets in those who had come to the old one.
            draining = begin();
        }
    }
    Ok(())
}

/// Brings to an end what is under way, before a server stops that another may follow.
pub fn retire(daemon: &Arc<Daemon>, parts: &mut Parts, place: &mut Place) {
    daemon.shared.with(|core, _| core.hold());
    daemon.wait_for_replies(&parts.wishes, &mut parts.timer);
    if let Err(error) = drain(daemon, parts, place) {
        log::warn!("{error}");
    }
}

/// Leaves state and sockets with the service manager; nothing is served any more. What can't be
/// left goes.
pub fn leave(daemon: &Arc<Daemon>) {
    let shared = &daemon.shared;
    let (at, core) = shared.with(|core, cx| (cx.now.instant.millis(), core.state(cx.now)));
    let identity = daemon.https.as_ref();
    let state = State {
        at,
        http_port: daemon.ports.http,
        https_port: daemon.ports.https,
        identity: identity.map(|it| (it.certificate().to_vec(), it.key().to_vec())),
        core,
    };
    let kept = daemon.kept();
    // One that the service manager has made is its own already.
    let control = kept.as_ref().filter(|kept| !kept.given);
    let control = control.map(|kept| kept.control.as_fd());
    let outcome = daemon.doors.with_fds(|doors| {
        let sockets: Vec<_> = control.into_iter().chain(doors).collect();
        store::put(&state, &sockets)
    });
    drop(kept);
    match outcome {
        Ok(()) => log::info!("the service manager has the state, should it start another server"),
        Err(error) => {
            log::error!("the service manager can't keep the state: {error}");
            daemon.stop();
        }
    }
}

/// The successor's beginning; without a `number` only whether there could be one.
pub fn take_over(config_file: PathBuf, number: Option<RawFd>) -> Result<(), Failure> {
    umask(Mode::from_bits_truncate(0o077));
    sys::tune_heap();
    let cant = super::cant;
    let mut sandbox = match number {
        None => Sandbox::default(),
        Some(_) => {
            signals::block().map_err(cant)?;
            harden::harden()
        }
    };
    let handover::Taken { handover, config } = handover::take(&config_file, number)?;
    if number.is_none() {
        return Ok(());
    }
    logging::start(handover.verbose, handover.detached);
    sandbox.deny_calls(handover.denied);
    sandbox.confine(handover.confined);
    let listeners = handover.listeners.clone();
    let sites = adopt_sites(handover.sites).map_err(cant)?;
    let line = |number| UnixStream::from(process::own(number));
    let (spawner, runner) = (handover.spawner.map(line), line(handover.runner));
    let hooks = Hooks::adopt(spawner, runner, handover.hooks).map_err(cant)?;
    let parts = Parts::new(config, &sites, hooks).map_err(cant)?;
    parts.shared.with(|core, cx| core.adopt(cx, handover.core));
    let control = process::own(handover.control).into();
    let kept = Kept {
        control,
        given: handover.given,
        sites: sites.kept().map_err(cant)?,
        listeners,
        restarts: handover.restarts.saturating_add(1),
        denied: sandbox.denied,
        confined: sandbox.confined,
        detached: handover.detached,
        verbose: handover.verbose,
        program: handover::program(),
    };
    let address = paths::address()?;
    let opened = parts.reopen(&address.socket, &kept, handover.doors)?;
    let (daemon, listener) = parts.daemon(config_file, &sites, opened, sandbox.layers);
    *daemon.kept() = Some(kept);
    let lock = place::adopt_lock(process::own(handover.lock)).map_err(cant)?;
    log::info!("the server was restarted in place");
    super::serve(
        daemon,
        parts,
        listener,
        sites,
        Place::new(address, lock),
        None,
    )
}

fn adopt_sites(states: Vec<handover::SiteState>) -> io::Result<Sites> {
    let mut sites = Sites {
        sites: Vec::new(),
        ports: Ports::default(),
        identity: None,
    };
    for state in states {
        let site = state.open()?;
        match &site.identity {
            Some(identity) => {
                sites.ports.https = Some(site.bound.port);
                sites.identity = Some(identity.clone());
            }
            None => sites.ports.http = Some(site.bound.port),
        }
        sites.sites.push(site);
    }
    Ok(sites)
}

//! `pizauth restart`, on both sides of the monitor's execve(2): the last deeds of one daemon and the
//! first of its successor.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::PathBuf,
    sync::{Arc, mpsc::RecvTimeoutError},
    time::{Duration, Instant},
};

use nix::sys::stat::{Mode, umask};

use super::{
    Daemon, Parts, Rest, Sites,
    broker::{Broker, Hand},
    handover::{self, Handover, Kept, Passed, Received},
    harden,
    hooks::Hooks,
    log as logging,
    monitor::{Charge, Handed, Legacy, Runner, Start},
    other,
    place::{self, Place},
    presence::Presence,
    process::{self, Lines, Starter},
    seals::Seals,
    signals::Wish,
    store::{self, State},
    turn,
    verbs::{self, ReadConfig},
};
use crate::{
    config,
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

/// What a successor is to go by.
#[derive(Clone)]
pub struct Renewed {
    /// The configuration.
    config: String,
    /// Its seals.
    seals: Seals,
    /// How many reloads there were before: after another one, this is no longer the newest.
    reloads: u64,
}

impl Renewed {
    fn read(daemon: &Daemon, hand: &Hand) -> Result<Self, Failure> {
        let file = daemon.config_file.display().to_string();
        let text = |read: ReadConfig| config::text(&file, read.bytes).map_err(verbs::bad_config);
        let reloads = daemon.reloads();
        let (config, seals) = hand.config(text)?;
        Ok(Renewed {
            config,
            seals,
            reloads,
        })
    }

    /// This, or a newer one that has come into force meanwhile.
    fn newest(self, daemon: &Daemon, hand: &Hand) -> Result<Self, Failure> {
        match self.reloads == daemon.reloads() {
            true => Ok(self),
            false => Renewed::read(daemon, hand),
        }
    }
}

/// Has the program tried that is there now, and asks the main thread to become it.
pub fn request(daemon: &Arc<Daemon>) -> Result<(), Failure> {
    *daemon.restart_failure() = None;
    let hand = daemon.shared.broker().hand()?;
    let config = Renewed::read(daemon, &hand)?;
    try_out(daemon, &hand, config.clone())?;
    *daemon.restarting() = Some(config);
    daemon.alarm.ring();
    Ok(())
}

/// Has the program that is there now look at the state as it is now, and at the configuration.
fn try_out(daemon: &Daemon, hand: &Hand, config: Renewed) -> Result<(), Failure> {
    let guard = daemon.kept();
    let Some(kept) = &*guard else {
        return Err(other("the server is just ending"));
    };
    // What was given away once more would be looked at only.
    let mut passed = Passed::default();
    let control = kept.control.as_fd();
    let handover = describe(daemon, kept, config, &mut passed, [control, control]);
    let cant = |error: io::Error| other(&format!("the state can't be handed over: {error}"));
    let memory = handover.memory().map_err(cant)?;
    drop(handover);
    drop(guard);
    let outcome = hand.try_program(memory.as_fd());
    handover::wipe(&memory);
    outcome
}

/// The state as it is now. What it counts goes along: the lock and the line to the runner, and what
/// was kept, but for the doors.
fn describe<'a>(
    daemon: &Daemon,
    kept: &'a Kept,
    Renewed { config, seals, .. }: Renewed,
    passed: &mut Passed<'a>,
    [lock, runner]: [BorrowedFd<'a>; 2],
) -> Handover {
    Handover {
        config,
        seals: seals.state(),
        old_seals: daemon.shared.broker().seals().state(),
        listeners: kept.listeners.clone(),
        restarts: kept.restarts,
        lock: passed.put(lock),
        runner: passed.put(runner),
        control: passed.put(kept.control.as_fd()),
        given: kept.given,
        sites: kept.sites(passed),
        doors: Vec::new(),
        hooks: daemon.shared.hooks().state(),
        core: daemon.shared.with(|core, cx| core.state(cx.now)),
    }
}

/// Becomes the program that was tried. Returns only when that wasn't possible: then everything
/// goes on as it was.
pub fn perform(daemon: &Arc<Daemon>, parts: &mut Parts, place: &mut Place, config: Renewed) {
    log::info!("the server is about to be restarted in place");
    daemon.shared.with(|core, _| core.hold());
    let outcome = match settle(daemon, parts, place) {
        Ok(true) => drain_and_become(daemon, parts, place, config),
        Ok(false) if daemon.is_stopping() => Ok(()),
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
        *daemon.restart_failure() = Some(crate::text::sanitize(&error.to_string()));
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
        if wishes.contains(&Wish::Reload) {
            daemon.reload_by_signal();
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

fn drain_and_become(
    daemon: &Arc<Daemon>,
    parts: &Parts,
    place: &mut Place,
    config: Renewed,
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
    let broker = daemon.shared.broker();
    let config = (broker.hand())
        .and_then(|hand| {
            let newest = config.newest(daemon, &hand)?;
            // Much may have happened since it was asked for, and once more costs milliseconds.
            try_out(daemon, &hand, newest.clone()).map(|()| newest)
        })
        .map_err(|failure| io::Error::other(failure.what))?;
    // Before it is asked for: the answer may be late, and orders are obeyed in turn.
    let held = HeldSignals(broker);
    broker.hold_signals(true)?;
    let (error, reload) = hand_over(daemon, parts, place, config);
    drop(held);
    if reload {
        // The successor was to.
        daemon.reload_by_signal();
    }
    Err(error)
}

/// Signals are held back for a successor until this is dropped.
struct HeldSignals<'a>(&'a Broker);

impl Drop for HeldSignals<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.hold_signals(false) {
            log::error!("signals may go unheard: {error}");
        }
    }
}

/// From the last signal that is this daemon's to the first that is its successor's. Returns only when
/// there is none: why, and whether a reload is wanted.
fn hand_over(
    daemon: &Arc<Daemon>,
    parts: &Parts,
    place: &Place,
    config: Renewed,
) -> (io::Error, bool) {
    let wishes: Vec<Wish> = std::iter::from_fn(|| parts.wishes.next()).collect();
    if wishes.contains(&Wish::Stop) {
        daemon.stop_by_signal();
        return (io::Error::other("it ends"), false);
    }
    let reload = wishes.contains(&Wish::Reload);
    let kept = daemon.kept();
    let (Some(kept), Some(runner)) = (&*kept, daemon.shared.hooks().line()) else {
        return (io::Error::other("the hook runner is gone"), reload);
    };
    let mut passed = Passed::default();
    let first = [place.lock_fd(), runner.as_fd()];
    let mut handover = describe(daemon, kept, config, &mut passed, first);
    let error = daemon.doors.with_sockets(|doors| {
        let mut passed = Passed(passed.0.clone());
        let doors = doors.into_iter();
        handover.doors = doors.map(|(path, fd)| (path, passed.put(fd))).collect();
        match handover.memory() {
            Ok(memory) => {
                let broker = daemon.shared.broker();
                let error = broker.become_successor(memory.as_fd(), &passed.0, reload);
                handover::wipe(&memory);
                error
            }
            Err(error) => error,
        }
    });
    (error, reload)
}

/// Answers those who have begun to ask, and leaves all others to the successor.
fn drain(daemon: &Arc<Daemon>, parts: &Parts, place: &mut Place) -> io::Result<()> {
    // Who is still silent then has asked for nothing.
    let give_up = Instant::now() + DRAIN_TIMEOUT;
    let begin = || vec![parts.clients.drain(), parts.browsers.drain()];
    let mut draining = begin();
    while let Some(drained) = draining.last() {
        if Instant::now() >= give_up {
            break;
        }
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
    // This server removes its token files itself, under the seals of its own configuration.
    let core = core.without_token_files();
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
    let outcome = daemon.doors.with_sockets(|doors| {
        let doors = doors.into_iter().map(|(_, fd)| fd);
        let sockets: Vec<_> = control.into_iter().chain(doors).collect();
        store::put(shared.broker(), &state, &sockets)
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

/// The successor's beginning; without `handed` only whether there could be one.
pub fn take_over(config_file: PathBuf, handed: Option<&str>) -> Result<(), Failure> {
    harden::keep_out();
    process::hear_of_children().map_err(super::cant)?;
    umask(Mode::from_bits_truncate(0o077));
    sys::tune_heap();
    let Some(handed) = handed else {
        // What comes from a daemon may be an intruder's.
        let mut sandbox = harden::harden();
        sandbox.confine(&paths::address()?.socket);
        sandbox.deny_calls();
        return handover::take(&config_file, None).map(drop);
    };
    let handed = Handed::parse(handed).ok_or_else(|| other("it is given nothing"))?;
    let Start {
        verbose, detached, ..
    } = handed.start;
    logging::start(verbose, detached);
    // Nobody else hears of it.
    become_next(config_file, handed).inspect_err(|failure| log::error!("{failure}"))
}

fn become_next(config_file: PathBuf, handed: Handed) -> Result<(), Failure> {
    handed.end_daemon();
    let state = process::own(handed.state);
    let fds = handed.fds.into_iter().map(process::own).collect();
    let charge = Charge {
        program: handover::program(),
        config_file: config_file.clone(),
        start: handed.start,
        legacy: Some(Legacy {
            runner: Runner {
                process: handed.runner,
                alive: process::own(handed.alive).into(),
            },
            key: process::own(handed.key).into(),
        }),
    };
    let mut starter = Starter::none();
    let (lines, (state, fds)) =
        process::fork_daemon(&mut starter, charge, (state, fds)).map_err(super::cant)?;
    if handed.start.detached {
        std::env::set_current_dir("/").map_err(super::cant)?;
    }
    go_on(config_file, lines, state, Received::new(fds))
}

/// The successor of a daemon, with what that has left.
fn go_on(
    config_file: PathBuf,
    lines: Lines,
    state: OwnedFd,
    mut received: Received,
) -> Result<(), Failure> {
    let cant = super::cant;
    let mut sandbox = harden::harden();
    let address = paths::address()?;
    let presence = Presence::new(&address.socket);
    // What comes from a daemon may be an intruder's.
    sandbox.confine(&address.socket);
    sandbox.deny_calls();
    let handover::Taken { handover, config } = handover::take(&config_file, Some(state))?;
    let mut take = |slot| received.take(slot).map_err(cant);
    let (lock, runner) = (take(handover.lock)?, take(handover.runner)?);
    let control = UnixListener::from(take(handover.control)?);
    let doors = handover.doors.into_iter();
    let doors = doors.map(|(path, slot)| Ok((path, take(slot)?.into())));
    let doors = doors.collect::<Result<Vec<_>, Failure>>()?;
    let sites = adopt_sites(handover.sites, &mut received).map_err(cant)?;
    let lock = place::adopt_lock(lock).map_err(cant)?;
    let place = Place::new(address, lock, presence);
    sandbox.tell();
    let listeners = handover.listeners.clone();
    let broker = Arc::new(Broker::new(lines.orders).map_err(cant)?);
    broker.learn(Seals::new(handover.old_seals));
    broker.learn(Seals::new(handover.seals));
    let hooks =
        Hooks::adopt(lines.news, broker.clone(), runner.into(), handover.hooks).map_err(cant)?;
    let parts = Parts::new(config, &sites, hooks, broker).map_err(cant)?;
    parts.shared.with(|core, cx| core.adopt(cx, handover.core));
    let kept = Kept {
        control,
        given: handover.given,
        sites: sites.kept().map_err(cant)?,
        listeners,
        restarts: handover.restarts.saturating_add(1),
    };
    let opened = parts.reopen(place.socket(), &kept, doors)?;
    let (daemon, listener) = parts.daemon(config_file, &sites, opened, sandbox.layers);
    *daemon.kept() = Some(kept);
    log::info!("the server was restarted in place");
    super::serve(daemon, parts, listener, sites, place, None)
}

fn adopt_sites(states: Vec<handover::SiteState>, received: &mut Received) -> io::Result<Sites> {
    let mut sites = Sites {
        sites: Vec::new(),
        ports: Ports::default(),
        identity: None,
    };
    for state in states {
        let site = state.open(received)?;
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

//! The token holder: the process that has all tokens, client secrets and sign-ins, and answers.
//!
//! It takes its own rights away before it serves: it can't run programs, make or read the user's
//! files, or signal other processes, as far as the system can enforce that. It reads and writes the
//! sockets and ports that it has, and asks token endpoints. For files, names and commands it asks
//! the monitor for a helper, and the hook runner, with the configuration's capability. It tells the
//! monitor what the service manager is to hear. When it dies, the tokens are gone unless
//! `state_save_cmd` has them, and the monitor ends with its exit status.
//!
//! [`engine`] has the core behind the one lock; [`effects`] does what the core says. Threads: the
//! main one ([`main_thread`]), one for the control socket ([`clients`]), one for the redirect port
//! ([`redirects`]), workers for providers and for token files while there is work, and one for each
//! job that may wait for a disk ([`jobs`]).

mod checkpoints;
mod clients;
mod control_socket;
mod effects;
mod engine;
pub mod fdstore;
pub(super) mod handover;
mod helpers;
mod hook_outcomes;
mod hook_queue;
mod hooks;
mod inheritance;
#[cfg(all(debug_assertions, target_os = "linux"))]
#[path = "tests/intruder.rs"]
mod intruder;
mod jobs;
mod life;
mod main_thread;
mod network_watch;
mod outbox;
mod parts;
mod provider;
mod proxies;
mod redirect_ports;
mod redirects;
mod reload;
mod replies;
mod request_queue;
mod restart;
mod restricted;
mod show;
mod sign_in;
mod socket_watch;
mod state;
mod timer;
mod token_files;
mod trial;
mod verbs;

use std::os::{fd::OwnedFd, unix::net::UnixListener};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::{fs::File, io, iter, sync::Arc};

use sd_notify::NotifyState;

use self::parts::Place;
use self::state::{Holder, STACK};
use self::{
    clients::Clients, main_thread::MainThread, redirect_ports::RedirectPorts, redirects::Endpoint,
};
use crate::control::{self, Control};
use crate::core::{Core, hook::Hook};
use crate::serve::{self, Inbox, Listener, Remote};
use crate::server::base::activation::{self, InheritedFd};
use crate::server::base::error::{cant, other};
use crate::server::base::{guard, limits, runtime_files, sandbox};
use crate::server::ipc::{
    memfd,
    monitor_messages::{CHECKPOINTS, HolderLines},
    slots::SlotReader,
};
use crate::{error::Failure, paths, redirect, sys};

/// What a holder begins with.
pub struct Beginning {
    /// To the monitor.
    pub lines: HolderLines,
    /// The configuration's file.
    pub config_file: PathBuf,
    /// What the process was given.
    pub inherited: Vec<InheritedFd>,
    /// It takes the place of an older server, whose tokens are on standard input.
    pub heir: bool,
    /// It goes to the root directory, so that the one it was started in can be unmounted.
    pub leave_directory: bool,
    /// Called when it answers.
    pub answers: Box<dyn FnOnce() -> io::Result<()>>,
}

/// A holder from its first breath to its last.
///
/// # Errors
/// Why there is none, or why it has ended.
pub fn run(beginning: Beginning) -> Result<(), Failure> {
    let heir = beginning.heir;
    let mut place = Place::new(beginning.config_file, beginning.lines)?;
    let (mut left, others) = fdstore::split(&place.monitor, beginning.inherited);
    let (config, text, capabilities) = helpers::read_config(&place.monitor, &place.config_file)?;
    place.monitor.learn(capabilities);
    place.address.prepare_all()?;
    // An heir takes the lock when clients can ask it.
    let given = !(left.kept.is_empty() && others.is_empty());
    let lock = || runtime_files::lock(&place.address, given);
    let early = (!heir).then(lock).transpose()?;
    let startup_cmd = config.startup_cmd.clone();
    let state = left.state();
    let bind = || RedirectPorts::bind(&config, state.as_ref(), &mut left.ports);
    let (redirects, dump) = inheritance::bind(heir, bind)?;
    left.ports.clear();
    let lock = early.map_or_else(lock, Ok)?;
    let given = activation::control_socket(others, &place.address.socket)?;
    if beginning.leave_directory {
        std::env::set_current_dir("/").map_err(cant)?;
    }
    place.confine();
    place.sandbox.tell();

    let (mut main, inboxes) = place.assemble(lock, 0, config, redirects)?;
    let holder = main.holder.clone();
    holder.effects.keeper.learn(text);
    state
        .into_iter()
        .for_each(|it| holder.adopt(it.core, Some(true)));
    main.load()?;
    holder.proxies.inherit(std::mem::take(&mut left.proxies));
    dump.map(|dump| holder.engine.with(|core, cx| core.restore(cx, dump)));
    let sockets = std::mem::take(&mut left.sockets).into_iter();
    let (own, restricted): (Vec<_>, _) = sockets.partition(|(at, _)| at == holder.socket.path());
    let is_given = given.is_some();
    let control = given.or_else(|| Some(own.into_iter().next()?.1));
    let control = holder.open(control, is_given, restricted, false)?;
    serve(main, inboxes, control, |holder| {
        let kept = std::mem::take(&mut left.kept);
        holder.effects.keeper.succeed(kept);
        if checkpoints::store(holder)? {
            left.forget();
        }
        (beginning.answers)().map_err(cant)?;
        if let Some(command) = startup_cmd {
            holder.effects.hooks.run(Hook::startup(command));
            holder.effects.alarm.ring();
        }
        Ok(())
    })
}

/// Whether this program could go on from the state on standard input.
///
/// # Errors
/// Why not.
pub fn try_state(config_file: &Path) -> Result<String, Failure> {
    // What comes from a holder may be an intruder's.
    let mut sandbox = sandbox::harden();
    sandbox.confine(&paths::address()?.socket);
    sandbox.deny_calls();
    handover::try_out(config_file)
}

/// The successor of a holder, with what that has left.
///
/// # Errors
/// Why there is none, or why it has ended.
pub fn succeed(
    config_file: PathBuf,
    lines: HolderLines,
    mut left: Vec<OwnedFd>,
) -> Result<(), Failure> {
    let mut place = Place::new(config_file, lines)?;
    // What comes from a holder may be an intruder's.
    place.confine();
    let fds = left.split_off(left.len().min(1 + CHECKPOINTS));
    let memory: Vec<File> = left.into_iter().map(File::from).collect();
    let (state, files) = memory
        .split_first()
        .ok_or_else(|| other("it is given nothing"))?;
    let (handover, config) = handover::take(&place.config_file, state)?;
    let killed = handover.core.is_none();
    let core = (handover.core).map_or_else(|| checkpoints::core_of(files), Ok)?;
    let mut fds = SlotReader::new(fds);
    let lock = fds.take(handover.lock).and_then(runtime_files::adopt_lock);
    let lock = lock.map_err(cant)?;
    let control: UnixListener = fds.take(handover.control).map_err(cant)?.into();
    let restricted = handover.restricted.into_iter();
    let restricted = restricted.filter_map(|slot| activation::listener(fds.take(slot).ok()?));
    let restricted = restricted.collect();
    let redirects = RedirectPorts::adopt(handover.redirects, &mut fds).map_err(cant)?;
    place.sandbox.tell();
    place.monitor.learn(handover.old_grants);
    place.monitor.learn(handover.grants);
    let restarts = handover.restarts.saturating_add((!killed).into());
    let (main, inboxes) = place.assemble(lock, restarts, config, redirects)?;
    let holder = &main.holder;
    let hooks = holder.effects.hooks.adopt(handover.hooks, &mut fds);
    hooks.map_err(cant)?;
    let proxies = holder.proxies.adopt(handover.proxies, &mut fds);
    proxies.map_err(cant)?;
    holder.effects.keeper.learn(handover.config);
    // The sockets are stored once more, which the manager notices.
    let kept = fdstore::named(files, iter::empty());
    (holder.effects.keeper).succeed(kept.into_iter().map(|(name, _)| name).collect());
    holder.adopt(core, killed.then_some(false));
    match killed {
        true => log::warn!("the state of the token holder that was killed was taken over"),
        false => log::info!("the server was restarted in place"),
    }
    let control = holder.open(Some(control), handover.given, restricted, true)?;
    serve(main, inboxes, control, |holder| {
        if checkpoints::store(holder)? {
            // Only now is it of no more use.
            memory.iter().for_each(memfd::discard);
        }
        Ok(())
    })
}

/// Serves until the end, and ends well. `answers` is called when it answers for the first time.
fn serve(
    mut main: MainThread,
    inboxes: [Inbox; 2],
    control: Listener,
    answers: impl FnOnce(&Arc<Holder>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let holder = main.holder.clone();
    holder.engine.with(|core, cx| core.publish(cx));
    if let Err(error) = holder.effects.keeper.begin(&holder.engine) {
        log::warn!("the state is lost should the token holder be killed: {error}");
    }
    checkpoints::guard(&holder);
    let threads = start(&holder, inboxes, control).map_err(cant)?;
    // Check once: changes before the watch began raise no event.
    main.first_look().map_err(cant)?;
    fdstore::notify(&holder.monitor, &[NotifyState::Ready]);
    answers(&holder)?;
    // What was taken over may go on.
    holder.engine.with(Core::release);
    jobs::proceed(&holder, None);
    // What was read and loaded at start.
    sys::trim();
    let outcome = loop {
        match main.run() {
            Ok(true) => {
                if guard::job("a restart", || restart::perform(&mut main)).is_none() {
                    restart::go_on(&main, "it has failed by a bug");
                }
            }
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    fdstore::notify(&holder.monitor, &[NotifyState::Stopping]);
    let _ = holder.monitor.guard(&[]);
    let leaves = outcome.is_ok() && holder.life.with(|life| life.leaves);
    if leaves {
        main.retire();
    } else {
        holder.stop();
    }
    // After the replies that they are writing.
    holder.servers().into_iter().for_each(Remote::stop);
    for thread in threads {
        // A thread that has panicked has nothing left to finish.
        let _ = thread.join();
    }
    if leaves {
        checkpoints::leave(&holder);
    } else if outcome.is_ok() {
        checkpoints::forget(&holder);
    }
    holder.redirects.with(RedirectPorts::release);
    holder.socket.release();
    main.close();
    outcome.map_err(|error| other(&format!("the server has ended: {error}")))
}

/// Starts the threads of both servers.
fn start(
    holder: &Arc<Holder>,
    [clients, browsers]: [Inbox; 2],
    control: Listener,
) -> io::Result<[JoinHandle<()>; 2]> {
    let sites = holder.redirects.with(|it| it.sites())?;
    let answering = Control::new(Clients(holder.clone()));
    let limits = control::limits(limits::descriptors());
    let endpoint = Endpoint(holder.engine.clone());
    let pages = holder.effects.pages.clone();
    let clients = spawn(holder, "control", "control socket", move || {
        serve::run(vec![control], answering, limits, clients)
    });
    let browsers = spawn(holder, "redirect", "redirect listener", move || {
        let limits = redirect::limits(limits::descriptors());
        let wait = redirect::WAIT_TIMEOUT;
        redirect::run(limits, wait, sites, endpoint, pages, browsers)
    });
    Ok([clients?, browsers?])
}

/// Has a thread of this name serve. A server without one of its listeners ends, and saves what it has.
fn spawn(
    holder: &Arc<Holder>,
    name: &str,
    what: &'static str,
    serve: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let holder = holder.clone();
    let thread = thread::Builder::new().name(name.into()).stack_size(STACK);
    thread.spawn(move || {
        match guard::job(&format!("the {what}'s thread"), serve) {
            Some(Ok(())) => return,
            Some(Err(error)) => log::error!("the {what} has ended: {error}"),
            // The panic is in the log.
            None => {}
        }
        holder.stop();
    })
}

#[cfg(test)]
mod tests {
    use super::main_thread::{CLOSE_TIMEOUT, FILES_TIMEOUT, REPLY_GRACE, TELL_GRACE};
    use crate::server::base::limits::END_TIMEOUT;

    #[test]
    fn everybody_gives_an_ending_server_the_same_time() {
        let counted = REPLY_GRACE + CLOSE_TIMEOUT + FILES_TIMEOUT + TELL_GRACE;
        assert!(counted < END_TIMEOUT);
        let secs = END_TIMEOUT.as_secs();
        for (text, promise) in [
            (
                include_str!("../../../pizauth.1"),
                "may take up to N seconds",
            ),
            (
                include_str!("../../../lib/systemd/user/pizauth.service"),
                "\nTimeoutStopSec=N\n",
            ),
            (
                include_str!("../../../lib/launchd/pizauth.plist"),
                "<integer>N</integer>",
            ),
            (
                include_str!("../../../examples/services/dinit"),
                "\nstop-timeout = N\n",
            ),
            (
                include_str!("../../../examples/services/openrc"),
                "\nretry=\"TERM/N/KILL/5\"\n",
            ),
            (
                include_str!("../../../examples/services/runit/run"),
                "`sv -w N down`",
            ),
        ] {
            let promise = promise.replace('N', &secs.to_string());
            assert!(text.contains(&promise), "no {promise:?}");
        }
    }
}

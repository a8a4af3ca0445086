//! `pizauth restart`, on this side of the monitor's execve(2): what is under way is finished, the
//! state goes to a successor, and if there is none after all, everything goes on as it was.

use std::time::{Duration, Instant};
use std::{io, sync::mpsc::sync_channel};

use super::checkpoints::kept;
use super::main_thread::{FILES_TIMEOUT, MainThread};
use super::trial::{describe, try_program};
use super::{handover::NewConfig, jobs, life::LifeRequest, state::Holder};
use crate::core::Core;
use crate::serve::Remote;
use crate::server::base::{guard, signals::ServerSignal};
use crate::server::ipc::{memfd, slots::SlotWriter};

/// How long to wait for what is under way with a provider or a command that saves: a reply that
/// is lost may cost a login. A little longer than either may take.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(65);

/// How long the second trial may take, or a reload that is under way: a little longer than their
/// helpers live.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(25);

/// Becomes the program that was tried. Returns only when that wasn't possible: then everything
/// goes on as it was.
pub fn perform(main: &mut MainThread) {
    log::info!("the server is about to be restarted in place");
    main.holder.engine.with(|core, _| core.hold());
    let outcome = settle(main)
        .and_then(|()| begin_hand_over(main))
        // Much may have happened since it was asked for, and once more costs milliseconds.
        .and_then(|()| try_again(main))
        .and_then(|config| drain_and_become(main, &config));
    let Err(error) = outcome;
    go_on(main, &error.to_string());
}

/// There is no successor: everything goes on as it was.
pub fn go_on(main: &MainThread, why: &str) {
    let holder = &main.holder;
    holder.servers().into_iter().for_each(Remote::resume);
    holder.engine.with(Core::release);
    if !holder.is_stopping() {
        log::error!("the server was not restarted and goes on: {why}");
    }
    let why = crate::text::sanitize(why);
    holder.restart.with(|restart| restart.failure = Some(why));
    jobs::proceed(holder, Some(LifeRequest::Restart));
    holder.effects.alarm.ring();
}

/// From now on the configuration stays as it is: a reload that is under way ends before, and another
/// one is the successor's.
fn begin_hand_over(main: &mut MainThread) -> io::Result<()> {
    wait_until(main, TRIAL_TIMEOUT, "a reload takes too long", |holder| {
        holder.life.with(|life| life.hand_over()).then_some(())
    })
}

/// Waits for the end of what is under way.
fn settle(main: &mut MainThread) -> io::Result<()> {
    let late = "what is under way with a provider takes too long";
    wait_until(main, SETTLE_TIMEOUT, late, |holder| {
        let busy = |core: &mut Core| core.awaits_reply() || core.is_keeping();
        let settled = !holder.engine.with(|core, _| busy(core))
            && holder.effects.hooks.is_settled()
            && holder.requests_under_way() == 0;
        settled.then_some(())
    })
}

/// Turns until there is what `done` looks for.
///
/// # Errors
/// `late` when that takes too long, or that the server ends.
fn wait_until<T>(
    main: &mut MainThread,
    patience: Duration,
    late: &str,
    done: impl Fn(&Holder) -> Option<T>,
) -> io::Result<T> {
    let give_up = Instant::now() + patience;
    loop {
        if let Some(found) = done(&main.holder) {
            return Ok(found);
        }
        let left = give_up.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::other(late));
        }
        // Clients must find the socket meanwhile, too.
        main.turn_and_serve(Some(left))?;
        if main.holder.is_stopping() {
            return Err(io::Error::other("it ends"));
        }
    }
}

/// The trial once more, on a thread of its own: this one goes on.
fn try_again(main: &mut MainThread) -> io::Result<NewConfig> {
    let (sender, tried) = sync_channel(1);
    main.holder.spawn("trial", move |holder| {
        guard::job("trial", || {
            // Who asked may have given up.
            let _ = sender.send(try_program(holder));
        });
        holder.effects.alarm.ring();
    })?;
    let late = "trying the new program takes too long";
    let tried = wait_until(main, TRIAL_TIMEOUT, late, |_| tried.try_recv().ok())?;
    tried.map_err(|failure| io::Error::other(failure.what))
}

/// What never comes: a successor doesn't return.
enum Never {}

fn drain_and_become(main: &mut MainThread, config: &NewConfig) -> io::Result<Never> {
    main.drain_clients()?;
    let holder = main.holder.clone();
    if holder.is_stopping() || !holder.effects.files.finish(FILES_TIMEOUT) {
        return Err(io::Error::other(
            "it ends, or a token file can't be written",
        ));
    }
    // What the last clients have brought about.
    holder.effects.hooks.exchange(&holder.engine);
    // One that came meanwhile may still change the state.
    if holder.requests_under_way() > 0 {
        return Err(io::Error::other("a dump or a restore is under way"));
    }
    // Before it is asked for: the answer may be late, and requests are dealt with in turn.
    let held = HeldSignals(&holder);
    holder.monitor.hold_signals(true)?;
    let (error, reload) = hand_over(main, config);
    drop(held);
    if reload {
        // The successor was to.
        main.reload_by_signal();
    }
    Err(error)
}

/// Signals are held back for a successor until this is dropped.
struct HeldSignals<'a>(&'a Holder);

impl Drop for HeldSignals<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.monitor.hold_signals(false) {
            log::error!("signals may go unheard: {error}");
        }
    }
}

/// From the last signal that is this server's to the first that is its successor's. Returns only when
/// there is none: why, and whether a reload is wanted.
fn hand_over(main: &MainThread, config: &NewConfig) -> (io::Error, bool) {
    let holder = &main.holder;
    let signals = main.signals();
    if signals.contains(&ServerSignal::Stop) {
        jobs::stop_by_signal(holder);
        return (io::Error::other("it ends"), false);
    }
    let waiting = holder.life.with(|life| life.owes_reload());
    let reload = waiting || signals.contains(&ServerSignal::Reload);
    let mut fds = SlotWriter::default();
    let memory = describe(holder, config, &mut fds).and_then(|state| {
        // Only this thread writes to runners: an order that came meanwhile is still here.
        match holder.effects.hooks.is_settled() {
            true => state.memory(),
            false => Err(io::Error::other("the hook runner takes no orders")),
        }
    });
    let error = memory.map_or_else(Into::into, |memory| {
        let files = holder.effects.keeper.files();
        let kept = kept(&memory, &files, &fds);
        let error = holder.monitor.become_successor(&kept, reload);
        memfd::discard(&memory);
        error
    });
    (error, reload && !waiting)
}

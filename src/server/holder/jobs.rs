//! What a server does that may take time and isn't the core's: reloading, restarting, and taking its
//! sockets away before it ends. Each runs on a thread of its own, one after the other as
//! [`super::life`] says.

use std::sync::Arc;

use super::life::{AskedBy, LifeRequest, Verdict};
use super::{checkpoints, fdstore, reload, state::Holder, trial};
use crate::{
    error::{Exit, Failure},
    server::base::guard,
    wire::Reply,
};

/// Takes up a request; `None` when the reply comes later.
pub fn request(holder: &Arc<Holder>, request: LifeRequest, by: AskedBy) -> Option<Reply> {
    match holder.life.with(|life| life.ask(request, by)) {
        Verdict::Begin => {
            if request == LifeRequest::Restart {
                holder.restart.with(|restart| restart.failure = None);
            }
            start(holder, request, vec![by]);
            None
        }
        Verdict::Follow => None,
        Verdict::Done => Some(Reply::done()),
        Verdict::Refuse(why) => Some(Reply::Failure(Failure::new(Exit::NoServer, why))),
    }
}

/// A service manager or a person has sent SIGTERM or SIGINT.
pub fn stop_by_signal(holder: &Arc<Holder>) {
    // The same signal comes from the monitor and from a process that signals all of the server.
    if fdstore::is_there() && !holder.is_stopping() {
        return holder.leave();
    }
    let _ = request(holder, LifeRequest::Stop, None);
}

/// The proxies' process has ended: another one takes its place.
pub fn revive_proxies(holder: &Arc<Holder>) {
    let since = holder.proxies.bury();
    let started = holder.spawn("proxies", move |holder| {
        guard::job("the proxies", || {
            holder.proxies.revive(since);
            checkpoints::guard(holder);
            // The main thread hears of the end of this one, too.
            holder.effects.alarm.ring();
        });
    });
    if let Err(error) = started {
        log::error!("the proxies are gone until a reload: no thread can be started: {error}");
    }
}

/// What was under way has ended (the start, if nothing else): what has waited for that begins.
pub fn proceed(holder: &Arc<Holder>, ended: Option<LifeRequest>) {
    if let Some((request, by)) = holder.life.with(|life| life.proceed(ended)) {
        start(holder, request, by);
    }
}

fn start(holder: &Arc<Holder>, request: LifeRequest, by: Vec<AskedBy>) {
    let (name, waiting) = (name_of(request), by.clone());
    let started = holder.spawn(name, move |holder| {
        if guard::job(name, || perform(holder, request, &by)).is_none() {
            give_up(holder, request, &by, "it has failed by a bug");
        }
    });
    if let Err(error) = started {
        let why = format!("no thread can be started: {error}");
        log::error!("{name}: {why}");
        give_up(holder, request, &waiting, &why);
    }
}

/// It couldn't be done to its end.
fn give_up(holder: &Arc<Holder>, request: LifeRequest, by: &[AskedBy], why: &str) {
    holder.reply(by, &Reply::Failure(Failure::new(Exit::TryLater, why)));
    match request {
        // It must end, if it has to wait for it.
        LifeRequest::Stop => holder.stop(),
        LifeRequest::Reload | LifeRequest::Restart => proceed(holder, Some(request)),
    }
}

fn name_of(request: LifeRequest) -> &'static str {
    match request {
        LifeRequest::Reload => "reload",
        LifeRequest::Restart => "restart",
        LifeRequest::Stop => "stop",
    }
}

fn perform(holder: &Arc<Holder>, request: LifeRequest, by: &[AskedBy]) {
    match request {
        LifeRequest::Reload => {
            let reply = match reload::reload(holder) {
                Ok(remark) => {
                    if by.contains(&None) && !remark.is_empty() {
                        log::warn!("{}", remark.trim_end());
                    }
                    Reply::text(remark)
                }
                Err(failure) => {
                    if by.contains(&None) {
                        let why = failure.one_line();
                        log::error!("the configuration was not reloaded: {why}");
                    }
                    Reply::Failure(failure)
                }
            };
            holder.reply(by, &reply);
            proceed(holder, Some(request));
        }
        LifeRequest::Restart => match trial::prepare(holder) {
            // The main thread goes on.
            Ok(()) => holder.reply(by, &Reply::done()),
            Err(failure) => {
                // For those who have asked for the same meanwhile, too.
                let why = failure.one_line();
                log::error!("the server was not restarted and goes on: {why}");
                holder.restart.with(|restart| restart.failure = Some(why));
                holder.reply(by, &Reply::Failure(failure));
                proceed(holder, Some(request));
            }
        },
        LifeRequest::Stop => {
            // No client shall find it when the command has ended.
            holder.hide();
            holder.reply(by, &Reply::done());
            holder.stop();
        }
    }
}

//! The clients of the control socket: those that wait for a token or watch, and their answers.

use std::{sync::Arc, time::Duration};

use super::replies::{being_completed, failure, json};
use super::sign_in::{self, ClientAnswer, Waiting};
use super::{life::LifeRequest, show, state::Holder, verbs};
use crate::control::{self, Handler};
use crate::core::{Ended, Patience, ShowAnswer, ShowRequest, Waiter};
use crate::error::{Exit, Failure};
use crate::serve::{ConnId, Remote, Unparked};
use crate::wire::{self, Reply, Request, ShowArgs};
use crate::{
    oauth::token::Refusal,
    server::base::clock,
    view::{Happening, News},
};

/// How long a `show` that doesn't wait lets who asks be looked up: that takes a hundredth of it, and
/// what it begins doesn't depend on it.
const REQUESTER_WAIT: Duration = Duration::from_secs(1);

/// How long a `show` that asks for some life left, but not to wait, waits for one refresh: what
/// a slow provider needs, and what a mail program bears.
const REFRESH_WAIT: Duration = Duration::from_secs(30);

/// How long a `show` waits at most, whatever it asks for: nothing that starts it runs for longer, and
/// what waits for ever takes a place from others.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a client hears that it has waited in vain: others want its place.
const CROWDED: &str = "too many clients are waiting";

/// The token holder as its clients see it. Lives on the thread of the control socket.
pub struct Clients(pub Arc<Holder>);

impl Clients {
    fn show(&self, id: ConnId, asker: &control::Asker, args: ShowArgs) -> ClientAnswer {
        let (patience, limit) = match (args.wait_secs, args.min_valid_secs) {
            (Some(0), _) | (None, None) => (Patience::None, REQUESTER_WAIT),
            (Some(secs), _) => (Patience::Token, Duration::from_secs(secs).min(MAX_WAIT)),
            (None, Some(_)) => (Patience::Refresh, REFRESH_WAIT),
        };
        let request = ShowRequest {
            waiter: Waiter(id.0),
            form: args.form,
            no_url: args.no_url,
            min_valid: Duration::from_secs(args.min_valid_secs.unwrap_or(0)),
            patience,
            process: asker.pid,
        };
        let account = args.account;
        let engine = &self.0.engine;
        match engine.with(|core, cx| core.ask(cx, &account, request.clone())) {
            Some(answer) => show::reply(&request, &account, answer).into(),
            None => {
                if patience != Patience::None {
                    log::debug!("{account}: a client waits for a token");
                }
                ClientAnswer::Wait(limit, Waiting::Token(request, account))
            }
        }
    }
}

impl Handler for Clients {
    type Waiting = Waiting;

    fn permit(&mut self, asker: &control::Asker, verb: &str) -> Result<(), Reply> {
        self.0.restricted.permit(asker, verb)
    }

    fn request(
        &mut self,
        id: ConnId,
        asker: &control::Asker,
        mut request: Request,
    ) -> ClientAnswer {
        let admitted = match self.0.restricted.admit(asker, &mut request) {
            Ok(admitted) => admitted,
            Err(reply) => return reply.into(),
        };
        log::debug!("a client asks for {}", words(&request));
        let holder = &self.0;
        let engine = &holder.engine;
        match request {
            Request::Auth(args) => sign_in::auth(engine, id, &args),
            Request::Await(args) => sign_in::wait_for_sign_in(engine, id, &args.account),
            Request::Import(args) => sign_in::import(engine, id, args),
            Request::Redirect(args) => sign_in::redirect(engine, id, &args),
            Request::Revoke(args) => sign_in::revoke(engine, id, &args),
            Request::Show(args) => self.show(id, asker, args),
            Request::Watch => ClientAnswer::Stream(json(&News {
                at: clock::now().wall,
                ..Happening::Watching.into()
            })),
            Request::Dump => verbs::dump(holder, id),
            Request::Restore(bytes) => verbs::restore(holder, id, bytes),
            Request::Info => verbs::info(holder).into(),
            Request::Refresh(args) => verbs::refresh(engine, &args).into(),
            Request::Status => verbs::status(holder, &admitted).into(),
            Request::Save => verbs::save(engine, id),
            Request::Reload => verbs::job(holder, id, LifeRequest::Reload),
            Request::Restart => verbs::job(holder, id, LifeRequest::Restart),
            Request::Shutdown => verbs::job(holder, id, LifeRequest::Stop),
        }
    }

    fn unparked(&mut self, waiting: Option<&mut Waiting>, why: Unparked) -> Reply {
        let engine = &self.0.engine;
        match (why, waiting) {
            (Unparked::Stopping, _) => failure(Exit::NoServer, "the server is stopping"),
            (Unparked::Crowded, Some(Waiting::Token(..))) => {
                let longest = format!("{CROWDED}, and this one has waited longest");
                failure(Exit::TryLater, &longest)
            }
            (Unparked::Crowded, _) | (Unparked::Deadline, None) => failure(Exit::TryLater, CROWDED),
            (Unparked::Deadline, Some(Waiting::Token(request, account))) => {
                let given_up = engine.on(account, |it, env| it.give_up(env, request.waiter));
                // One that is on its way comes too late, but can be had again.
                (request.patience, request.process) = (Patience::None, None);
                let again = || engine.with(|core, cx| core.ask(cx, account, request.clone()));
                match given_up.flatten().or_else(again) {
                    Some(answer) => show::reply(request, account, answer),
                    None => failure(Exit::TryLater, "the time to wait is over"),
                }
            }
            // It asks the successor again.
            (
                Unparked::Draining,
                None | Some(Waiting::Token(..) | Waiting::End { account: None, .. }),
            ) => Reply::Failure(Failure::new(Exit::TryLater, wire::RESTARTING).hint("ask again")),
            (Unparked::Deadline | Unparked::Draining, Some(Waiting::End { account, in_vain })) => {
                in_vain.take().unwrap_or_else(|| {
                    let account = account.as_deref().unwrap_or_default();
                    let trouble = engine.with(|core, _| core.exchange_trouble(account).cloned());
                    being_completed(trouble)
                })
            }
        }
    }

    /// The core keeps no client waiting that isn't there.
    fn left(&mut self, id: ConnId, waiting: Waiting) {
        let (Waiting::Token(_, account)
        | Waiting::End {
            account: Some(account),
            ..
        }) = waiting
        else {
            return;
        };
        let waiter = Waiter(id.0);
        (self.0.engine).on(&account, |it, _| it.forget(waiter));
    }
}

/// A request for the log: what it is and whose, and nothing of what else it holds.
fn words(request: &Request) -> String {
    let account = match request {
        Request::Auth(args) | Request::Await(args) => &args.account,
        Request::Refresh(args) => &args.account,
        Request::Revoke(args) => &args.account,
        Request::Show(args) => &args.account,
        _ => return request.verb().into(),
    };
    format!("{} {}", request.verb(), crate::text::sanitize(account))
}

/// Answers those who wait for a token.
pub fn answer(remote: &Remote, request: &ShowRequest, account: &str, answer: ShowAnswer) {
    let Waiter(number) = request.waiter;
    let reply = show::reply(request, account, answer);
    remote.send(ConnId(number), control::encode(&reply), true);
}

/// Answers a client that waits for an end, if it is one.
pub fn settle(
    remote: &Remote,
    Waiter(number): Waiter,
    what: Ended,
    account: &str,
    result: &Result<(), Refusal>,
) {
    let reply = control::encode(&sign_in::settled(what, account, result));
    remote.send(ConnId(number), reply, true);
}

/// Tells those who watch, of all of it at once: a dump that is restored has news of every account.
pub fn publish(remote: &Remote, news: &[News]) {
    let rows = news.iter().map(|news| control::encode(&json(news)));
    remote.publish(rows.collect::<Vec<_>>().concat());
}

//! The clients of the control socket: those that wait for a token or watch, and their answers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    Daemon, clock, show,
    sign_in::{self, LastWords, Told},
    verbs::{self, failure},
};
use crate::{
    control::{self, Answer, Handler},
    core::{Ended, Patience, ShowAnswer, ShowRequest, Waiter},
    error::{Exit, Failure},
    oauth::token::Refusal,
    report,
    serve::{ConnId, Remote, Unparked},
    view::News,
    wire::{self, Reply, Request, ShowArgs},
};

/// How long a `show` that asks for some life left, but not to wait, waits for one refresh: what
/// a slow provider needs, and what a mail program bears.
const REFRESH_WAIT: Duration = Duration::from_secs(30);

/// The daemon as its clients see it. Lives on the thread of the control socket.
pub struct Clients {
    daemon: Arc<Daemon>,
    waiting: HashMap<ConnId, Asking>,
    /// Those that wait for an end, for whose, and what they hear if it doesn't come.
    later: HashMap<ConnId, (String, LastWords)>,
}

/// What a client that waits wants.
struct Asking {
    asker: ShowRequest,
    account: String,
}

impl Clients {
    /// Nobody yet.
    pub fn new(daemon: Arc<Daemon>) -> Self {
        Clients {
            daemon,
            waiting: HashMap::new(),
            later: HashMap::new(),
        }
    }

    fn told(&mut self, id: ConnId, told: Told) -> Answer {
        match told {
            Told::Now(reply) => Answer::Reply(reply),
            Told::Later {
                limit,
                account,
                last_words,
            } => {
                self.later.insert(id, (account, last_words));
                Answer::Wait(limit)
            }
        }
    }

    fn show(&mut self, id: ConnId, args: ShowArgs) -> Answer {
        let (patience, limit) = match (args.wait_secs, args.min_valid_secs) {
            (Some(0), _) | (None, None) => (Patience::None, Duration::ZERO),
            (Some(secs), _) => (Patience::Token, Duration::from_secs(secs)),
            (None, Some(_)) => (Patience::Refresh, REFRESH_WAIT),
        };
        let asker = ShowRequest {
            waiter: Waiter(id.number()),
            form: args.form,
            no_url: args.no_url,
            min_valid: Duration::from_secs(args.min_valid_secs.unwrap_or(0)),
            patience,
        };
        let account = args.account;
        let answer = self
            .daemon
            .shared
            .with(|core, cx| core.ask(cx, &account, asker.clone()));
        match answer {
            Some(answer) => Answer::Reply(show::reply(&asker, &account, answer)),
            None => {
                let name = crate::text::sanitize(&account);
                log::debug!("{name}: a client waits for a token");
                self.waiting.insert(id, Asking { asker, account });
                Answer::Wait(limit)
            }
        }
    }
}

impl Handler for Clients {
    fn request(&mut self, id: ConnId, asker: &control::Asker, mut request: Request) -> Answer {
        let admitted = match self.daemon.doors.admit(asker, &mut request) {
            Ok(admitted) => admitted,
            Err(reply) => return Answer::Reply(reply),
        };
        log::debug!("a client asks for {}", words(&request));
        match request {
            Request::Auth(args) => self.told(id, sign_in::auth(&self.daemon.shared, id, &args)),
            Request::Await(args) => {
                let told = sign_in::wait_for_sign_in(&self.daemon.shared, id, &args.account);
                self.told(id, told)
            }
            Request::Redirect(args) => {
                self.told(id, sign_in::redirect(&self.daemon.shared, id, &args))
            }
            Request::Revoke(args) => self.told(id, sign_in::revoke(&self.daemon.shared, id, &args)),
            Request::Show(args) => self.show(id, args),
            Request::Watch => {
                let first = report::watching(clock::now().wall);
                Answer::Stream(verbs::json(&first))
            }
            other => Answer::Reply(verbs::answer(&self.daemon, &admitted, other)),
        }
    }

    fn unparked(&mut self, id: ConnId, why: Unparked) -> Reply {
        if let (Unparked::Deadline | Unparked::Draining, Some((account, last_words))) =
            (why, self.later.get_mut(&id))
        {
            let last_words = std::mem::replace(last_words, LastWords::Completing);
            return last_words.reply(&self.daemon.shared, account);
        }
        let asking = self.waiting.get(&id);
        match (why, asking) {
            (Unparked::Stopping, _) => failure(Exit::NoServer, "the server is stopping"),
            (Unparked::Draining, _) => {
                let restarting = Failure::new(Exit::TryLater, wire::RESTARTING);
                Reply::Failure(restarting.hint("ask again"))
            }
            (Unparked::Deadline | Unparked::Crowded, Some(asking)) => {
                let waiter = asking.asker.waiter;
                let shared = &self.daemon.shared;
                let answer = shared.with(|core, cx| core.give_up(cx, &asking.account, waiter));
                match answer {
                    Some(answer) => show::reply(&asking.asker, &asking.account, answer),
                    // The answer is on its way, and comes too late.
                    None => failure(Exit::TryLater, "the time to wait is over"),
                }
            }
            (Unparked::Deadline | Unparked::Crowded, None) => {
                failure(Exit::TryLater, "too many clients are waiting")
            }
        }
    }

    fn left(&mut self, id: ConnId) {
        if let Some((account, _)) = self.later.remove(&id) {
            let waiter = Waiter(id.number());
            self.daemon
                .shared
                .with(|core, _| core.forget(&account, waiter));
        }
        if let Some(asking) = self.waiting.remove(&id) {
            let waiter = asking.asker.waiter;
            self.daemon
                .shared
                .with(|core, _| core.forget(&asking.account, waiter));
        }
    }
}

/// A request for the log: what it is and whose, and nothing of what else it holds.
fn words(request: &Request) -> String {
    let of = |verb, account| format!("{verb} {}", crate::text::sanitize(account));
    match request {
        Request::Auth(args) => of("auth", &args.account),
        Request::Await(args) => of("await", &args.account),
        Request::Dump => "dump".into(),
        Request::Info => "info".into(),
        Request::Redirect(_) => "redirect".into(),
        Request::Refresh(args) => of("refresh", &args.account),
        Request::Reload => "reload".into(),
        Request::Restart => "restart".into(),
        Request::Restore(_) => "restore".into(),
        Request::Revoke(args) => of("revoke", &args.account),
        Request::Show(args) => of("show", &args.account),
        Request::Shutdown => "shutdown".into(),
        Request::Status => "status".into(),
        Request::Watch => "watch".into(),
    }
}

/// Answers those who wait for a token.
pub fn answer(remote: &Remote, asker: &ShowRequest, account: &str, answer: ShowAnswer) {
    let Waiter(number) = asker.waiter;
    let reply = show::reply(asker, account, answer);
    remote.send(ConnId::from_number(number), control::encode(&reply), true);
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
    remote.send(ConnId::from_number(number), reply, true);
}

/// Tells those who watch, of all of it at once: a dump that is restored has news of every account.
pub fn publish(remote: &Remote, news: &[News]) {
    let rows = news.iter().map(report::event);
    let rows = rows.map(|event| control::encode(&verbs::json(&event)));
    remote.publish(rows.collect::<Vec<_>>().concat());
}

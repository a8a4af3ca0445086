//! Those who wait: for a token (`show --wait`), for a sign-in's end (`auth`), for a device code.

use std::time::Duration;

use super::{
    people::Wait,
    promise::{Check, Invariant, fail, must},
    provider::{Tag, id_token_expires, read_id_token, read_tag},
    setup::{NAMES, Origin},
    state::{Device, Doing, Renewal, Said, SignIn},
    world::World,
};
use crate::{
    core::{Patience, Progress, ShowAnswer, ShowRequest, Waiter, schedule::MIN_REQUEST_GAP},
    form::Form,
    secret::Secret,
    time::Instant,
    view::{SignInStart, SignInWays},
};

/// How many wait at once: more only take longer.
const MAX_WAITS: usize = 12;

impl World {
    // ---- for a token --------------------------------------------------------------------------

    /// `show` with all its options.
    pub fn ask(&mut self, account: usize, how: u8) -> Check {
        if self.people.waits.len() >= MAX_WAITS {
            return Ok(());
        }
        let wait = Wait::new(account, how, self.now.instant);
        let waiter = self.people.waiter();
        self.people.begins = Some(account);
        let ask = ShowRequest {
            waiter,
            form: Form {
                id_token: wait.id_token,
                ..Form::default()
            },
            no_url: false,
            min_valid: wait.min_valid,
            patience: wait.patience,
            process: None,
        };
        let answer = self.feed(|sut, cx| sut.ask(cx, NAMES[account], ask));
        self.begin(account);
        self.expect(Said::default())?;
        match answer {
            Some(answer) => self.judge_answer(&wait, &answer, true)?,
            None => {
                must(
                    wait.patience != Patience::None,
                    Invariant::Answers,
                    "who has no time is kept waiting",
                )?;
                let shadow = &mut self.state.shadows[account];
                shadow.wanted |= shadow.renewal == Renewal::Idle && !shadow.needs_person();
                self.people.waits.insert(waiter, wait);
            }
        }
        self.look(Doing::Other)
    }

    /// The shell tells those whose time is over.
    pub fn give_up(&mut self) -> Check {
        let now = self.now.instant;
        let over = |(waiter, wait): (&Waiter, &Wait)| (wait.until <= now).then_some(*waiter);
        while let Some(waiter) = self.people.waits.iter().find_map(over) {
            let Some(wait) = self.people.waits.remove(&waiter) else {
                return Ok(());
            };
            self.people.begins = Some(wait.account);
            let answer = self.feed(|sut, cx| sut.give_up(cx, NAMES[wait.account], waiter));
            self.begin(wait.account);
            self.expect(Said::default())?;
            match answer {
                Some(answer) => self.judge_answer(&wait, &answer, true)?,
                None => return fail(Invariant::Answers, "a waiter was forgotten".into()),
            }
            self.look(Doing::Other)?;
        }
        Ok(())
    }

    /// Somebody who waits for something leaves.
    pub fn leave(&mut self, pick: usize) -> Check {
        let ours = self
            .people
            .waits
            .iter()
            .map(|(waiter, wait)| (wait.account, *waiter));
        let shadows = self.state.shadows.iter().enumerate();
        let theirs = shadows.flat_map(|(account, shadow)| {
            let both = shadow.watchers.iter().chain(&shadow.code_watchers);
            both.map(move |waiter| (account, *waiter))
        });
        let all: Vec<_> = ours.chain(theirs).collect();
        if all.is_empty() {
            return Ok(());
        }
        let (account, waiter) = all[pick % all.len()];
        self.people.waits.remove(&waiter);
        let shadow = &mut self.state.shadows[account];
        shadow.watchers.retain(|it| *it != waiter);
        shadow.code_watchers.retain(|it| *it != waiter);
        self.feed(|sut, cx| sut.core.on(cx, NAMES[account], |it, _| it.forget(waiter)));
        self.expect(Said::default())?;
        self.look(Doing::Other)
    }

    /// An answer that was waited for.
    pub fn answered(&mut self, account: usize, waiter: Waiter, answer: &ShowAnswer) -> Check {
        let wait = self
            .people
            .waits
            .remove(&waiter)
            .filter(|wait| wait.account == account);
        match wait {
            Some(wait) => self.judge_answer(&wait, answer, false),
            None => fail(
                Invariant::Answers,
                "somebody was answered twice, or without having asked".into(),
            ),
        }
    }

    /// Whether `answer` is right; `now` is whether it is given because there is no more time.
    fn judge_answer(&mut self, wait: &Wait, answer: &ShowAnswer, now: bool) -> Check {
        let Wait {
            account, patience, ..
        } = *wait;
        let must = |condition, message| must(condition, Invariant::Answers, message);
        match answer {
            ShowAnswer::Token(handed) => {
                let text = "a token was handed out that isn't valid so long";
                must(self.has_token_for(wait), text)?;
                let expires = self.expires(wait).map(|at| self.now.wall_at(at));
                must(handed.expires == expires, "another expiry was told")?;
                return match wait.id_token {
                    true => self.id_token_shown(account, &handed.token),
                    false => self.shown(account, &handed.token),
                };
            }
            _ => must(!self.has_token_for(wait), "a good token was withheld")?,
        }
        match answer {
            ShowAnswer::Token(_) => Ok(()),
            ShowAnswer::Not { progress, left, .. } => {
                let rest = self.expires(wait).map(|at| at.since(self.now.instant));
                let rest = rest.filter(|rest| !rest.is_zero());
                must(*left == rest, "the rest of a token's life is wrong")?;
                let early = match progress {
                    Progress::Refreshing { .. } => patience != Patience::Refresh,
                    Progress::Parked(_) => false,
                    _ => patience == Patience::Token,
                };
                must(now || !early, "somebody was sent away too early")?;
                if let (true, Progress::Refreshing { .. }) = (now, progress) {
                    let shadow = &mut self.state.shadows[account];
                    shadow.wanted |= shadow.renewal == Renewal::Idle;
                }
                self.judge_progress(account, progress)
            }
            ShowAnswer::ShortLived { lifetime } => {
                let life = self.life(wait);
                let short = wait.min_valid + MIN_REQUEST_GAP > *lifetime;
                must(life == Some(*lifetime), "another life was told")?;
                must(short || !now, "a life was called too short that isn't")
            }
            ShowAnswer::NoIdToken => {
                let held = self.state.shadows[account].held.as_ref();
                let lacks = held.is_some_and(|it| it.access.is_some() && it.id_token.is_none());
                must(wait.id_token && lacks, "an ID token was denied")
            }
            ShowAnswer::Failed(_) => {
                let shadow = &self.state.shadows[account];
                let over = !shadow.begun && !shadow.renewable() && shadow.sign_in == SignIn::None;
                must(over, "a failure was told that isn't the end")
            }
            ShowAnswer::Gone => must(!self.present(account), "an account was called gone"),
        }
    }

    /// Whether the token that is asked for is there, and when it expires.
    fn wanted_token(&self, wait: &Wait) -> Option<Option<Instant>> {
        let held = self.state.shadows[wait.account].held.as_ref()?;
        let (_, expires) = held.access?;
        if !wait.id_token {
            return Some(expires);
        }
        let own = id_token_expires(held.id_token?).map(|at| self.now.instant_at(at));
        Some(own.or(expires))
    }

    fn expires(&self, wait: &Wait) -> Option<Instant> {
        self.wanted_token(wait)?
    }

    /// How long the provider let the present token live.
    fn life(&self, wait: &Wait) -> Option<Duration> {
        let obtained = self.state.shadows[wait.account].held.as_ref()?.obtained;
        Some(self.expires(wait)?.since(obtained))
    }

    fn has_token_for(&self, wait: &Wait) -> bool {
        let then = self.now.instant.after(wait.min_valid);
        self.wanted_token(wait)
            .is_some_and(|expires| expires.is_none_or(|at| then < at))
    }

    /// Nobody waits who could be told something, or for whom nobody does anything.
    pub fn look_at_waits(&self) -> Check {
        for wait in self.people.waits.values() {
            let shadow = &self.state.shadows[wait.account];
            let text = match (shadow.needs_person(), wait.patience) {
                _ if !self.present(wait.account) => "for an account that is gone",
                _ if self.has_token_for(wait) => "though there is a token",
                _ if shadow.stopped() && shadow.renewable() && !shadow.wanted => "in vain",
                _ if shadow.unattended && !shadow.begun => "for a token that is not asked for",
                (true, Patience::Refresh | Patience::None) => "for a refresh of nothing",
                (true, Patience::Token) if shadow.sign_in == SignIn::None => {
                    "for nobody to sign in"
                }
                (true, Patience::Token) | (false, _) => continue,
            };
            return fail(Invariant::Answers, format!("somebody waits {text}"));
        }
        Ok(())
    }

    /// The tokens of `account` are others than before: those who wait and can't be served ask anew,
    /// and what they have asked for stays wanted when they leave.
    pub fn waiting_ask(&mut self, account: usize) {
        let mut waits = self.people.waits.values();
        let asks = waits.any(|wait| {
            wait.account == account && !self.has_token_for(wait) && !self.is_in_vain(wait)
        });
        let shadow = &mut self.state.shadows[account];
        shadow.wanted |= asks && shadow.can_renew() && shadow.renewal == Renewal::Idle;
    }

    /// Whether a successor of the present token would be valid for too short a time, too.
    fn is_in_vain(&self, wait: &Wait) -> bool {
        let shadow = &self.state.shadows[wait.account];
        let valid = shadow.valid(self.now.instant).is_some();
        let life = self.life(wait);
        let short = life.is_some_and(|life| life < wait.min_valid + MIN_REQUEST_GAP);
        valid && (short || self.wanted_token(wait).is_none())
    }

    // ---- for a sign-in ------------------------------------------------------------------------

    /// `auth`.
    pub fn auth(&mut self, account: usize, join: bool) -> Check {
        let waiter = self.people.waiter();
        self.people.begins = Some(account).filter(|_| !join);
        let start = self.feed(|sut, cx| {
            sut.core.on(cx, NAMES[account], |it, env| {
                it.auth(env, join, false, false, waiter)
            })
        });
        if !join {
            self.begin(account);
            let shadow = &mut self.state.shadows[account];
            let asks = shadow.begun && shadow.valid(self.now.instant).is_none();
            if asks && shadow.renewal == Renewal::Idle {
                shadow.wanted = true;
                if shadow.stopped() {
                    shadow.trouble = None;
                }
            }
        }
        self.expect(Said::default())?;
        let shadow = &mut self.state.shadows[account];
        match start {
            None => must(!self.present(account), Invariant::Events, "who is that?")?,
            Some(Err(_)) => self.must_discover(account)?,
            Some(Ok(SignInStart::Over)) => {
                let over = (join || shadow.unattended) && shadow.sign_in == SignIn::None;
                must(over, Invariant::SignIn, "a sign-in was called over")?;
            }
            Some(Ok(SignInStart::Exchanging)) => self.must_exchange(account)?,
            Some(Ok(SignInStart::AskingForCode)) => {
                let asking = matches!(
                    shadow.sign_in,
                    SignIn::Discovering { .. }
                        | SignIn::Pending {
                            device: Device::Wanted | Device::Asking(_),
                            ..
                        }
                );
                must(asking, Invariant::SignIn, "no code is asked for")?;
                shadow.code_watchers.push(waiter);
            }
            Some(Ok(SignInStart::Open(SignInWays {
                browser_uri,
                device,
                ..
            }))) => self.asked(account, browser_uri.as_deref(), device.as_ref())?,
        }
        self.look(Doing::Other)
    }

    /// Somebody waits for the end of the sign-in under way.
    pub fn await_sign_in(&mut self, account: usize) -> Check {
        let waiter = self.people.waiter();
        let name = NAMES[account];
        let waits = self.feed(|sut, cx| {
            sut.core
                .on(cx, name, |it, env| it.wait_for_sign_in(env, waiter))
        });
        self.expect(Said::default())?;
        let shadow = &mut self.state.shadows[account];
        match waits {
            None => must(!self.present(account), Invariant::Events, "who is that?")?,
            Some(Ok(true)) => {
                let comes =
                    shadow.begun && (!shadow.stopped() || !shadow.renewable() || shadow.wanted);
                let under_way = shadow.sign_in != SignIn::None || comes;
                must(under_way, Invariant::Answers, "there is no sign-in")?;
                shadow.watchers.push(waiter);
            }
            Some(Ok(false) | Err(_)) => {
                let over = shadow.sign_in == SignIn::None;
                must(over, Invariant::Answers, "a sign-in was called over")?;
            }
        }
        self.look(Doing::Other)
    }

    /// Whether what was issued with this tag is of the account's registration.
    fn is_its(&self, account: usize, tag: Option<Tag>, what: &'static str) -> Check {
        let origin = tag
            .and_then(|tag| self.provider.get(tag))
            .map(|it| it.origin);
        let same = origin.map(Origin::registered) == Some(self.origin(account).registered());
        must(same, Invariant::Origin, what)
    }

    /// Whether an ID token that is shown is the one held.
    fn id_token_shown(&self, account: usize, token: &Secret) -> Check {
        let tag = read_id_token(token.expose());
        self.is_its(
            account,
            tag,
            "an ID token of another registration was shown",
        )?;
        let held = self.state.shadows[account].held.as_ref();
        must(
            tag == held.and_then(|held| held.id_token),
            Invariant::NothingOlder,
            "an ID token was shown that isn't the one held",
        )
    }

    /// Whether a token that is shown is the one held, and valid.
    pub fn shown(&self, account: usize, token: &Secret) -> Check {
        let tag = read_tag(token.expose());
        self.is_its(account, tag, "a token of another registration was shown")?;
        let held = self.state.shadows[account].held.as_ref();
        let access = held.and_then(|held| held.access);
        must(
            tag == access.map(|(tag, _)| tag),
            Invariant::NothingOlder,
            "a token was shown that isn't the one held",
        )?;
        must(
            self.state.shadows[account].valid(self.now.instant) == tag,
            Invariant::NoneExpired,
            "an expired token was shown",
        )
    }
}

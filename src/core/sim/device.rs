//! Signing in by a code that is entered on another device (RFC 8628): what the core must do with
//! one, and the users who enter it.

use std::time::Duration;

use super::{
    promise::{Check, FLOOR, Invariant, fail, must},
    provider::{Decision, Fault, Polled, Tag, user_code},
    state::{ClientSecret, Device, Flight, Said, SignIn},
    world::World,
};
use crate::{core::AttemptId, time::Instant, view::DeviceView};

/// How often to poll when the provider doesn't say, and by how much a `slow_down` slows it.
const INTERVAL: Duration = Duration::from_secs(5);

/// The slowest that polling may get.
const MAX_INTERVAL: Duration = Duration::from_secs(120);

/// How many codes a user keeps in mind.
const MAX_CODES: usize = 6;

impl World {
    /// A user enters a code.
    pub fn enter(&mut self, pick: usize, agrees: bool) -> Check {
        if !self.people.codes.is_empty() {
            let code = self.people.codes[pick % self.people.codes.len()];
            self.provider.enter(code, agrees);
        }
        Ok(())
    }

    fn device(&mut self, account: usize) -> Option<&mut Device> {
        match &mut self.state.shadows[account].sign_in {
            SignIn::Pending { device, .. } => Some(device),
            SignIn::None | SignIn::Discovering { .. } | SignIn::Exchanging { .. } => None,
        }
    }

    /// The core asks for a code, or would if it had the client secret.
    pub fn code_asked_for(&mut self, account: usize, attempt: AttemptId) -> Check {
        let has = self.setup.accounts[account].has_device();
        match self.device(account) {
            Some(Device::Asking(known)) if *known == attempt => Ok(()),
            Some(device @ (Device::Wanted | Device::Over)) if has => {
                *device = Device::Asking(attempt);
                Ok(())
            }
            other => {
                let text = format!("a code that nobody needs: there is {other:?}");
                fail(Invariant::Device, text)
            }
        }
    }

    /// A code is to be asked for when the floor allows.
    pub fn code_wanted(&mut self, account: usize) -> Check {
        let has = self.setup.accounts[account].has_device();
        let early = self.sut.core.is_held() || self.next_code(account) > self.now.instant;
        match self.device(account) {
            Some(Device::Wanted) => Ok(()),
            Some(device @ Device::Over) if has && early => {
                *device = Device::Wanted;
                Ok(())
            }
            _ => fail(Invariant::Device, "a code is wanted for nothing".into()),
        }
    }

    /// No code is asked for, nor to be asked for.
    fn is_idle(device: &Device) -> bool {
        !matches!(device, Device::Wanted | Device::Asking(_))
    }

    /// No code is asked for; if one was to be, the config has no endpoint for it any more.
    pub fn code_given_up(&mut self, account: usize) -> Check {
        let has = self.setup.accounts[account].has_device();
        match self.device(account) {
            Some(device) if !Self::is_idle(device) => {
                *device = Device::Over;
                must(!has, Invariant::Device, "a code is forgotten")
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The client secret is there for which the request for a code has waited, and with it the end
    /// of a code for which there is no endpoint any more.
    pub fn code_can_be_asked_for(&mut self, account: usize, said: &mut Said) {
        if self.setup.accounts[account].has_device() {
            return;
        }
        if let Some(Device::Asking(attempt)) = self.device(account).cloned() {
            if !self.is_flying(attempt) {
                self.code_settles(account, said);
            }
        }
    }

    /// When the next code may be asked for.
    pub fn next_code(&self, account: usize) -> Instant {
        let last = self.state.shadows[account].last_code;
        last.map_or(Instant::from_millis(0), |at| at.after(FLOOR))
    }

    /// The request for a code is made.
    pub fn code_requested(&mut self, account: usize, attempt: AttemptId) -> Check {
        self.code_asked_for(account, attempt)?;
        let now = self.now.instant;
        let last = self.state.shadows[account].last_code.replace(now);
        must(
            last.is_none_or(|at| now.since(at) >= FLOOR),
            Invariant::Floor,
            "codes are asked for too often",
        )
    }

    /// The core polls, or would if it had the client secret.
    pub fn poll_asked_for(&mut self, account: usize, sent_as: AttemptId) -> Check {
        let now = self.now.instant;
        let Some(Device::Code {
            expires,
            next,
            attempt,
            ..
        }) = self.device(account)
        else {
            return fail(Invariant::Device, "a poll for no code".into());
        };
        if *attempt == Some(sent_as) {
            return Ok(());
        }
        let text = "two polls at once";
        must(attempt.is_none(), Invariant::OneInFlight, text)?;
        let text = "a poll before the interval is over";
        must(*next <= now, Invariant::Device, text)?;
        let text = "a poll for a code that has expired";
        must(now < *expires, Invariant::Device, text)?;
        *attempt = Some(sent_as);
        Ok(())
    }

    /// The poll is made.
    pub fn poll_requested(&mut self, account: usize, attempt: AttemptId, tag: Tag) -> Check {
        self.poll_asked_for(account, attempt)?;
        let ours =
            matches!(self.device(account), Some(Device::Code { tag: own, .. }) if *own == tag);
        must(ours, Invariant::NothingOlder, "a poll with another code")
    }

    /// Whoever waits for the code hears that there is an answer.
    pub fn code_settles(&mut self, account: usize, said: &mut Said) {
        let waiters = std::mem::take(&mut self.state.shadows[account].code_watchers);
        if !waiters.is_empty() {
            said.codes.push((account, waiters));
        }
    }

    /// The issuer, or whoever stood in its way, has answered the request for a code.
    pub fn code_replied(&mut self, flight: &Flight, fault: Fault) -> Said {
        let mut said = Said::default();
        let account = flight.account;
        self.code_settles(account, &mut said);
        let gives = fault.gives_code(flight.decision) && self.setup.accounts[account].has_device();
        let decision = flight.decision.filter(|_| gives);
        if let (
            Some(Decision::Device {
                code,
                life,
                interval,
            }),
            Some(device),
        ) = (decision, self.device(account))
        {
            let secs = |secs: u32| Duration::from_secs(secs.into());
            let interval = interval.map_or(INTERVAL, secs);
            *device = Device::Code {
                tag: code,
                expires: flight.sent.after(secs(life)),
                next: flight.sent.after(interval),
                interval,
                troubles: 0,
                lost: false,
                attempt: None,
            };
            self.people.codes.push_front(code);
            self.people.codes.truncate(MAX_CODES);
            return said;
        }
        self.doubt_secret(account);
        self.device_over(account, said)
    }

    /// There is no code, for whatever reason; with no other way, that ends the sign-in.
    pub fn device_over(&mut self, account: usize, said: Said) -> Said {
        if let SignIn::Pending {
            browser, device, ..
        } = &mut self.state.shadows[account].sign_in
        {
            *device = Device::Over;
            if browser.is_none() {
                return self.pending_failed(account, said);
            }
        }
        said
    }

    /// The pending sign-in has ended without tokens.
    fn pending_failed(&mut self, account: usize, mut said: Said) -> Said {
        self.pending_ends(account, false, &mut said);
        said.errors.push(account);
        said
    }

    /// The pending sign-in has ended: whoever waits for it hears of it.
    pub fn pending_ends(&mut self, account: usize, ok: bool, said: &mut Said) {
        let sign_in = std::mem::replace(&mut self.state.shadows[account].sign_in, SignIn::None);
        self.state.shadows[account].ending.closed = true;
        said.notify_ends += 1;
        if let SignIn::Pending {
            browser: Some(state),
            ..
        } = sign_in
        {
            self.spend(state, ok);
        }
        self.code_settles(account, said);
        self.watchers_settle(account, ok, said);
    }

    pub fn watchers_settle(&mut self, account: usize, ok: bool, said: &mut Said) {
        let waiters = std::mem::take(&mut self.state.shadows[account].watchers);
        if !waiters.is_empty() {
            said.settled.push((account, waiters, ok));
        }
    }

    /// The codes that nobody has entered in time, or that can no longer be asked for.
    pub fn codes_expire(&mut self) -> Said {
        let mut said = Said::default();
        let now = self.now.instant;
        for account in 0..self.state.shadows.len() {
            let idle = !self.setup.accounts[account].has_device() && self.next_code(account) <= now;
            if self.sut.core.is_held() {
                continue;
            }
            match self.device(account) {
                Some(device @ Device::Wanted) if idle => {
                    *device = Device::Over;
                    self.code_settles(account, &mut said);
                }
                Some(Device::Code {
                    expires,
                    attempt: None,
                    ..
                }) if *expires <= now => said = self.device_over(account, said),
                Some(_) | None => {}
            }
        }
        said
    }

    /// The issuer, or whoever stood in its way, has answered a poll.
    pub fn poll_replied(&mut self, flight: &Flight, fault: Fault) -> Said {
        let account = flight.account;
        let now = self.now.instant;
        let Some(Device::Code {
            next,
            interval,
            troubles,
            lost,
            attempt,
            ..
        }) = self.device(account)
        else {
            return Said::default();
        };
        *attempt = None;
        match fault.poll(flight.decision, *lost) {
            Polled::Granted => {
                let mut said = self.announced(account, "token_new");
                self.pending_ends(account, true, &mut said);
                self.granted(flight, fault);
                self.signed_in(account, fault, &mut said);
                return said;
            }
            Polled::NotYet { slower } => {
                if slower {
                    *interval = (*interval + INTERVAL).min(MAX_INTERVAL);
                }
                (*troubles, *lost) = (0, false);
                *next = now.after(*interval);
            }
            Polled::Troubled {
                lost: now_lost,
                wait,
            } => {
                *troubles += 1;
                *lost |= now_lost;
                let doubled = interval.saturating_mul(2u32.saturating_pow((*troubles).min(8)));
                *next = now.after(doubled.min(MAX_INTERVAL.max(*interval)).max(wait));
            }
            Polled::Denied => return self.pending_failed(account, Said::default()),
            Polled::Expired => return self.device_over(account, Said::default()),
            Polled::Failed => {
                self.doubt_secret(account);
                return self.device_over(account, Said::default());
            }
        }
        Said::default()
    }

    /// Whether `view` is what there is to show of the pending sign-in's code.
    pub fn judge_code(&mut self, account: usize, view: Option<&DeviceView>) -> Check {
        let shown = view.map(|view| view.user_code.clone());
        let origin = self.origin(account);
        let code = match self.device(account) {
            Some(Device::Code { tag, .. }) => Some(*tag),
            Some(Device::None | Device::Wanted | Device::Asking(_) | Device::Over) | None => None,
        };
        let text = "another code is shown than there is";
        must(shown == code.map(user_code), Invariant::Device, text)?;
        let minted = code.and_then(|code| self.provider.get(code));
        let text = "a code of another registration is shown";
        must(
            minted.is_none_or(|minted| minted.origin == origin),
            Invariant::Origin,
            text,
        )
    }

    /// What was sent with the secret may have been refused because of it.
    pub fn doubt_secret(&mut self, account: usize) {
        if let ClientSecret::Known { doubted, .. } = &mut self.state.shadows[account].secret {
            *doubted = true;
        }
    }
}

//! What comes back from the issuers and from `transient_error_if_cmd`.

use std::time::Duration;

use super::{
    people::Wait,
    promise::Check,
    provider::{
        Asks, Class, Decision, Fault, expiry, has_id_token, id_token_expires, is_other_user,
        refresh_life, waits,
    },
    setup::{COMMAND, EVENT, NAMES, Origin, PROBE},
    state::{Device, Doing, Flight, Held, Renewal, Said, SignIn, Trouble},
    world::World,
};
use crate::core::{
    Patience, Waiter,
    schedule::{
        CODE_LIFETIME, EXCHANGE_NOTICE_AFTER, EXCHANGE_RETRY, MAX_UNEXPLAINED, MIN_VAGUE,
        TROUBLE_NOTICE_AFTER,
    },
};

/// For how long what has worked is tried again that is said to be wrong.
const DAY: Duration = Duration::from_secs(86_400);

impl World {
    /// The request in flight at `index` ends.
    pub fn reply(&mut self, index: usize, fault: Fault, life: Option<u32>) -> Check {
        if fault.arrives() {
            self.arrive(index, life)?;
        }
        let flight = self.state.flights.remove(index);
        if flight.origin.client == COMMAND && flight.asks == Asks::Refresh {
            return self.command_ends(&flight, fault);
        }
        let class = fault.class(flight.decision);
        if let (Class::Login, Asks::Refresh | Asks::Exchange, Some(tag)) =
            (class, flight.asks, flight.tag)
        {
            self.provider.end_family(tag);
        }
        let outcome = fault.outcome(&self.provider, flight.decision);
        let (said, doing) = self.judged(&flight, fault, class);
        self.feed(|sut, cx| {
            let name = NAMES[flight.account];
            sut.token_outcome(cx, name, flight.attempt, flight.sent, &outcome);
        });
        self.expect(said)?;
        self.look(doing)
    }

    /// `token_cmd` has ended.
    fn command_ends(&mut self, flight: &Flight, fault: Fault) -> Check {
        let printed = fault.printed(&self.provider, flight.decision);
        let (said, doing) = self.judged(flight, fault, fault.command_class());
        self.feed(|sut, cx| {
            let name = NAMES[flight.account];
            sut.printed(cx, name, flight.attempt, printed);
        });
        self.expect(said)?;
        self.look(doing)
    }

    /// What the core must make of it.
    fn judged(&mut self, flight: &Flight, fault: Fault, class: Class) -> (Said, Doing) {
        let shadow = &self.state.shadows[flight.account];
        let own = Some(flight.attempt);
        let said = match (flight.asks, &shadow.sign_in) {
            (Asks::Refresh, _) if shadow.renewal == Renewal::InFlight(flight.attempt) => {
                self.refreshed(flight, fault, class)
            }
            (Asks::Exchange, SignIn::Exchanging { attempt, .. }) if *attempt == own => {
                return (self.exchanged(flight, fault, class), Doing::SigningIn);
            }
            (Asks::Code, SignIn::Pending { device, .. })
                if *device == Device::Asking(flight.attempt) =>
            {
                self.code_replied(flight, fault)
            }
            (
                Asks::Poll,
                SignIn::Pending {
                    device: Device::Code { attempt, .. },
                    ..
                },
            ) if *attempt == own => {
                return (self.poll_replied(flight, fault), Doing::SigningIn);
            }
            (Asks::Revocation, _) => self.revocation_replied(flight, fault),
            _ => Said::default(),
        };
        (said, Doing::Other)
    }

    pub fn refreshed(&mut self, flight: &Flight, fault: Fault, class: Class) -> Said {
        let account = flight.account;
        self.state.shadows[account].fault = fault;
        match class {
            Class::Granted => {
                let shadow = &self.state.shadows[account];
                let event = match shadow.unattended && shadow.held.is_none() {
                    true => "token_new",
                    false => "token_refreshed",
                };
                self.granted(flight, fault);
                let mut said = self.announced(account, event);
                if self.state.shadows[account].unattended {
                    self.watchers_settle(account, true, &mut said);
                }
                said
            }
            Class::Login => {
                if self.state.shadows[account].unattended {
                    self.doubt_secret(account);
                }
                self.rejected(account)
            }
            Class::Parked => {
                self.doubt_secret(account);
                self.failing(account, true)
            }
            Class::Vague if self.is_believed(account) => self.rejected(account),
            Class::Vague | Class::Transient(_) => {
                self.pause(flight, fault, class);
                match self.setup.has(PROBE) {
                    true => Said {
                        probes: vec![account],
                        ..Said::default()
                    },
                    false => self.failed(account),
                }
            }
        }
    }

    /// The issuer, or somebody in its place, has asked to be left alone.
    fn pause(&mut self, flight: &Flight, fault: Fault, class: Class) {
        let Class::Transient(wait) = class else {
            return;
        };
        if wait.is_zero() {
            return;
        }
        let until = self.now.instant.after(wait);
        let pause = &mut self.state.shadows[flight.account].pause;
        *pause = (*pause).max(Some(until));
        if fault.is_busy() {
            let Origin { issuer, place, .. } = flight.origin;
            let busy = &mut self.state.pauses[usize::from(issuer)][usize::from(place)];
            let busy = busy.entry(flight.account).or_insert(until);
            *busy = (*busy).max(until);
        }
    }

    /// Words that are no error code have come so often that they must be meant, and nothing is lost
    /// by a sign-in.
    fn is_believed(&self, account: usize) -> bool {
        let (now, shadow) = (self.now.instant, &self.state.shadows[account]);
        shadow.valid(now).is_none()
            && shadow.trouble.as_ref().is_some_and(|trouble| {
                let same = trouble.fault == shadow.fault;
                let often = trouble.unexplained + 1 >= MAX_UNEXPLAINED;
                same && often && now.since(trouble.since) >= MIN_VAGUE
            })
    }

    pub fn announced(&self, account: usize, event: &'static str) -> Said {
        let events = self.setup.has(EVENT).then(|| (account, event.to_owned()));
        Said {
            announced: events.into_iter().collect(),
            ..Said::default()
        }
    }

    pub fn rejected(&mut self, account: usize) -> Said {
        if self.state.shadows[account].unattended {
            // No sign-in helps.
            return self.failing(account, true);
        }
        self.learn(account);
        let shadow = &mut self.state.shadows[account];
        (shadow.renewal, shadow.trouble) = (Renewal::Rejected, None);
        Said {
            errors: vec![account],
            ..self.announced(account, "token_invalidated")
        }
    }

    /// A failure that may pass: told once, after an hour, or when it comes over and over unexplained.
    /// That the config is wrong is believed when it has never worked, or after a day.
    fn failed(&mut self, account: usize) -> Said {
        self.failing(account, false)
    }

    fn failing(&mut self, account: usize, wrong: bool) -> Said {
        let now = self.now.instant;
        let waits = self.people.waits.iter();
        let waits = waits.filter(|(_, wait)| wait.account == account);
        let is_command = self.is_command(account);
        let shadow = &mut self.state.shadows[account];
        shadow.renewal = Renewal::Idle;
        let fault = shadow.fault;
        let unexplained = match is_command {
            true => matches!(fault, Fault::Truncated | Fault::BrokenToken),
            false => fault.is_unexplained(),
        };
        let unexplained = wrong || unexplained;
        let trouble = shadow.trouble.get_or_insert(Trouble {
            since: now,
            last: now,
            fault,
            unexplained: 0,
            told: false,
            misconfigured: None,
            stopped: false,
        });
        trouble.unexplained = match unexplained {
            true if trouble.fault == fault => trouble.unexplained + 1,
            true => 1,
            false => 0,
        };
        (trouble.last, trouble.fault) = (now, fault);
        let since = trouble.misconfigured.unwrap_or(now);
        trouble.misconfigured = wrong.then_some(since);
        let stops = wrong && !trouble.stopped && (!shadow.works || now.since(since) >= DAY);
        trouble.stopped &= wrong || !unexplained;
        if stops {
            (trouble.stopped, shadow.works) = (true, false);
        }
        let hear = |(waiter, wait): (&Waiter, &Wait)| {
            (trouble.stopped || wait.patience == Patience::Refresh).then_some(*waiter)
        };
        self.people.impatient.extend(waits.filter_map(hear));
        let lasts = now.since(trouble.since) >= TROUBLE_NOTICE_AFTER;
        let often = trouble.unexplained >= MAX_UNEXPLAINED;
        let tell = stops || (!trouble.told && (lasts || often));
        trouble.told |= tell;
        let mut said = Said {
            errors: tell.then_some(account).into_iter().collect(),
            ..Said::default()
        };
        if shadow.unattended {
            self.watchers_settle(account, false, &mut said);
        }
        said
    }

    /// The tokens of a reply are held from now on.
    pub fn granted(&mut self, flight: &Flight, fault: Fault) {
        let Some(Decision::Granted {
            access,
            refresh,
            life,
        }) = flight.decision
        else {
            return;
        };
        let now = self.now.instant;
        let prints = self.is_command(flight.account);
        let shadow = &mut self.state.shadows[flight.account];
        let refresh = refresh.filter(|_| fault != Fault::NoRefreshToken && !shadow.unattended);
        // A refresh without a word on it is the same user's.
        let before = shadow
            .held
            .as_ref()
            .filter(|_| flight.asks == Asks::Refresh);
        let before = before.is_some_and(|held| held.other_user);
        let kept = (shadow.held.as_ref())
            .filter(|_| flight.asks == Asks::Refresh)
            .and_then(|held| held.id_token)
            .filter(|tag| id_token_expires(*tag).is_some_and(|at| at > self.now.wall));
        let id_token = has_id_token(access).then_some(access).filter(|_| !prints);
        let told = is_other_user(access).filter(|_| !shadow.unattended);
        let old = shadow.refresh_token();
        // With the old refresh token, what is known of it stays.
        let (mut ends, mut usable) = match &shadow.held {
            Some(held) if refresh.is_none() => (held.ends, held.usable),
            Some(_) | None => (None, None),
        };
        if let Some(tag) = refresh {
            let life = refresh_life(tag).filter(|life| *life > 0);
            ends = life.and_then(|_| expiry(flight.sent, life));
            usable = waits(tag).and_then(|_| expiry(now, waits(tag)));
        }
        shadow.pause = None;
        if shadow.renewal == Renewal::InFlight(flight.attempt) {
            (shadow.renewal, shadow.works) = (Renewal::Idle, true);
        }
        shadow.succeed(refresh);
        shadow.held = Some(Held {
            access: Some((access, expiry(flight.sent, life))),
            refresh: refresh.or(old),
            obtained: flight.sent,
            loaded: None,
            ends,
            usable,
            other_user: told.unwrap_or(before),
            id_token: id_token.or(kept),
        });
    }

    pub fn exchanged(&mut self, flight: &Flight, fault: Fault, class: Class) -> Said {
        let account = flight.account;
        let now = self.now.instant;
        let SignIn::Exchanging {
            since,
            attempt,
            last,
            told,
            ..
        } = &mut self.state.shadows[account].sign_in
        else {
            return Said::default();
        };
        if fault == Fault::NotSent && now.since(*since) + EXCHANGE_RETRY < CODE_LIFETIME {
            (*attempt, *last) = (None, Some(now));
            let tell = now.since(*since) >= EXCHANGE_NOTICE_AFTER && !*told;
            *told |= tell;
            return Said {
                errors: tell.then_some(account).into_iter().collect(),
                ..Said::default()
            };
        }
        let sign_in = std::mem::replace(&mut self.state.shadows[account].sign_in, SignIn::None);
        self.state.shadows[account].ending.closed = true;
        let SignIn::Exchanging { state, .. } = sign_in else {
            return Said::default();
        };
        let ok = class == Class::Granted;
        if !ok {
            self.doubt_secret(account);
        }
        self.spend(state, ok);
        let mut said = match ok {
            true => self.announced(account, "token_new"),
            false => Said {
                errors: vec![account],
                ..Said::default()
            },
        };
        self.watchers_settle(account, ok, &mut said);
        if ok {
            self.granted(flight, fault);
            self.signed_in(account, fault, &mut said);
        }
        said
    }

    /// What the user hears of a sign-in's tokens.
    pub fn signed_in(&mut self, account: usize, fault: Fault, said: &mut Said) {
        let shadow = &mut self.state.shadows[account];
        let held = shadow.held.as_ref();
        shadow.ending.signed_in(held.map(|held| held.obtained));
        if held.is_some_and(|held| held.other_user) {
            said.errors.push(account);
            said.other_users.push(account);
        }
        said.errors.extend(self.cannot_last(account, fault));
    }

    /// Who is told that a sign-in brought nothing to refresh with: once, until one does.
    fn cannot_last(&mut self, account: usize, fault: Fault) -> Option<usize> {
        let shadow = &mut self.state.shadows[account];
        if fault != Fault::NoRefreshToken {
            shadow.told_no_refresh = false;
            return None;
        }
        let access = shadow.held.as_ref().and_then(|held| held.access);
        let ends = access.is_some_and(|(_, expires)| expires.is_some());
        if !shadow.needs_person() || !ends {
            return None;
        }
        let told = std::mem::replace(&mut shadow.told_no_refresh, true);
        (!told).then_some(account)
    }

    /// `transient_error_if_cmd` ends.
    pub fn probe(&mut self, pick: usize, transient: bool) -> Check {
        let count = self.state.probes.len();
        if count == 0 {
            return Ok(());
        }
        let (account, attempt) = self.state.probes.remove(pick % count);
        let mut said = Said::default();
        if self.state.shadows[account].renewal == Renewal::Probing(attempt) {
            said = match transient {
                true => self.failed(account),
                false => {
                    let shadow = &mut self.state.shadows[account];
                    if let Some(held) = &mut shadow.held {
                        held.access = None;
                    }
                    // It begins a new row.
                    shadow.trouble = None;
                    shadow.held = shadow.held.take().filter(|it| it.refresh.is_some());
                    self.rejected(account)
                }
            };
        }
        self.feed(|sut, cx| sut.probe_outcome(cx, NAMES[account], attempt, transient));
        self.expect(said)?;
        self.look(Doing::Other)
    }
}

//! Restart in place: the core is held, and when nothing is under way any more it goes over.

use std::time::Duration;

use super::{
    promise::{Check, Invariant, Violation, fail, must},
    setup::NAMES,
    state::{ClientSecret, Device, Doing, Hold, Renewal, Said, SignIn},
    world::World,
};
use crate::core::{AttemptId, CoreState};

/// How long the shell waits for the end of what is under way.
const SETTLE: Duration = Duration::from_secs(65);

impl World {
    /// From now on nothing new is sent.
    pub fn hold(&mut self) -> Check {
        if self.state.hold.is_none() {
            self.state.hold = Some(Hold {
                until: self.now.instant.after(SETTLE),
                last: self.sut.core.common.output.attempts,
            });
            self.feed(|sut, _| sut.core.hold());
        }
        self.expect(Said::default())?;
        self.look(Doing::Other)
    }

    /// The restart is given up.
    pub fn release(&mut self) -> Check {
        if self.state.hold.take().is_some() {
            self.feed(|sut, cx| sut.core.release(cx));
        }
        self.expect(Said::default())?;
        self.look(Doing::Other)
    }

    /// The shell waits no longer than it should.
    pub fn release_in_time(&mut self) -> Check {
        match self.state.hold {
            Some(hold) if hold.until <= self.now.instant => self.release(),
            Some(_) | None => Ok(()),
        }
    }

    /// Nothing begins while the core is held.
    pub fn may_send(&self, attempt: AttemptId) -> Check {
        must(
            self.state.hold.is_none_or(|hold| attempt.0 <= hold.last),
            Invariant::Handover,
            "something was sent that must wait for the successor",
        )
    }

    /// The successor takes over, if nothing is under way.
    pub fn take_over(&mut self) -> Check {
        self.hold()?;
        let core = &self.sut.core;
        if core.awaits_reply() || core.is_keeping() {
            return Ok(());
        }
        for account in 0..self.state.shadows.len() {
            self.nothing_may_be_lost(account)?;
        }
        let now = self.now;
        let json = serde_json::to_vec(&self.sut.core.state(now)).unwrap_or_default();
        self.sut = self.sut.successor(self.config());
        self.state.wall_ahead = self.wall_ahead();
        self.state.network = None;
        for account in 0..self.state.shadows.len() {
            self.carried(account);
        }
        self.state.hold = None;
        self.forget_documents(true);
        self.state.flights.clear();
        // Their connections are gone.
        self.people.waits.clear();
        for revocation in &mut self.state.revocations {
            (revocation.waiter, revocation.attempt) = (None, None);
        }
        self.state.keeping.taken_over();
        let state: Result<CoreState, _> = serde_json::from_slice(&json);
        // One in a process of its own sends nothing before it answers.
        let waits = now.instant.millis() % 2 == 0;
        match state {
            Ok(state) => self.feed(|sut, cx| {
                if waits {
                    sut.core.hold();
                }
                sut.adopt(cx, state);
            }),
            Err(error) => return fail(Invariant::Handover, error.to_string()),
        }
        self.feed(|sut, cx| sut.core.publish(cx));
        if waits {
            self.feed(|sut, cx| sut.core.release(cx));
        }
        self.expect(Said::default())?;
        self.look(Doing::TakingOver).map_err(|lost| Violation {
            invariant: match lost.invariant {
                Invariant::SignIn | Invariant::Liveness => Invariant::Handover,
                other => other,
            },
            ..lost
        })
    }

    /// No request of `account` has an answer on its way.
    fn nothing_may_be_lost(&self, account: usize) -> Check {
        let under_way = self.sut.under_way(NAMES[account]);
        must(
            !under_way.attempts().any(|attempt| self.is_flying(attempt)),
            Invariant::Handover,
            "an answer is on its way that nobody will hear",
        )
    }

    /// What the successor knows of `account`, and what it doesn't.
    fn carried(&mut self, account: usize) {
        let now = self.now.instant;
        let shadow = &mut self.state.shadows[account];
        shadow.watchers.clear();
        shadow.code_watchers.clear();
        shadow.secret = ClientSecret::Unknown;
        if let Renewal::Probing(_) | Renewal::InFlight(_) = shadow.renewal {
            (shadow.renewal, shadow.wanted) = (Renewal::Idle, true);
        }
        match &mut shadow.sign_in {
            SignIn::Exchanging { attempt, last, .. } => {
                if attempt.take().is_some() {
                    *last = None;
                }
            }
            SignIn::Pending { device, .. } => {
                if let Device::Asking(_) = device {
                    *device = Device::Wanted;
                }
                if let Device::Code { attempt, next, .. } = device {
                    if attempt.take().is_some() {
                        *next = now;
                    }
                }
            }
            SignIn::Discovering { .. } | SignIn::None => {}
        }
    }
}

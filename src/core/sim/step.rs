//! Lets happen what can happen, and time pass.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use super::{
    action::{Action, LIVES},
    issuer::{Found, Issuer},
    promise::{Check, Invariant, fail},
    provider::Fault,
    state::{Doing, Flight, Said},
    world::World,
};

/// How long the shell lets a request take.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);

/// By how much the wall clock must be off to have been set, in milliseconds.
const STEP: u64 = 10_000;

impl World {
    /// Lets `action` happen, and looks at everything after it.
    pub fn step(&mut self, action: Action) -> Check {
        self.steps += 1;
        catch_unwind(AssertUnwindSafe(|| self.apply(action))).unwrap_or_else(|cause| {
            let text = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or(cause.downcast_ref::<String>().cloned());
            fail(Invariant::NoPanic, text.unwrap_or_default())
        })
    }

    fn apply(&mut self, action: Action) -> Check {
        match action {
            Action::Show(pick) => self.show(self.state.account(pick)),
            Action::Ask(pick, how) => self.ask(self.state.account(pick), how),
            Action::Auth(pick, join) => self.auth(self.state.account(pick), join),
            Action::Await(pick) => self.await_sign_in(self.state.account(pick)),
            Action::Leave(pick) => self.leave(pick.into()),
            Action::Enter(pick, agrees) => self.enter(pick.into(), agrees),
            Action::Secret(pick, printed) => self.secret(pick.into(), printed),
            Action::Refresh(pick) => self.refresh(self.state.account(pick)),
            Action::Revoke(pick, tell) => self.revoke(self.state.account(pick), tell),
            Action::Browser(pick, back) => self.browser(pick.into(), back),
            Action::Arrive(pick, life) => match self.flight(pick) {
                Some(index) => self.arrive(index, life_of(life)),
                None => Ok(()),
            },
            Action::Reply(pick, fault, life) => match self.flight(pick) {
                Some(index) => self.reply(index, fault, life_of(life)),
                None => Ok(()),
            },
            Action::Probe(pick, transient) => self.probe(pick.into(), transient),
            Action::Pass(secs) => self.pass(Duration::from_secs(secs.into())),
            Action::Deadline => match self.sut.poll_timeout(self.now) {
                Some(at) => self.pass(at.since(self.now.instant)),
                None => Ok(()),
            },
            Action::Suspend(secs) => {
                self.forward(Duration::from_secs(secs.into()));
                self.time_out()?;
                self.tick()?;
                self.give_up()?;
                self.release_in_time()
            }
            Action::SetClock(secs) => {
                let span = Duration::from_secs(secs.unsigned_abs().into());
                self.now.wall = match secs < 0 {
                    true => self.now.wall.before(span),
                    false => self.now.wall.after(span),
                };
                self.clock_set()?;
                self.look(Doing::Other)
            }
            Action::Network => self.network(),
            Action::Tick => self.tick(),
            Action::Reload(pick, change) => self.reload(self.state.account(pick), change),
            Action::Dump => self.dump(),
            Action::Restore(pick) => self.restore(pick.into()),
            Action::Kill(kill) => self.kill(kill),
            Action::Kept(how) => self.kept(how),
            Action::FileFails(pick) => self.file_fails(self.state.account(pick)),
            Action::Hold => self.hold(),
            Action::Release => self.release(),
            Action::TakeOver => self.take_over(),
            Action::Found(pick, found) => self.found(pick.into(), found),
            Action::Move(pick) => self.move_endpoints(pick),
            Action::Calm => self.calm(),
        }
    }

    fn flight(&self, pick: u8) -> Option<usize> {
        let count = self.state.flights.len();
        (count > 0).then(|| count - 1 - usize::from(pick) % count)
    }

    // ---- time ---------------------------------------------------------------------------------

    pub fn forward(&mut self, span: Duration) {
        self.now.instant = self.now.instant.after(span);
        self.now.wall = self.now.wall.after(span);
    }

    /// The wall clock was set, and the daemon wakes up.
    fn clock_set(&mut self) -> Check {
        let mut said = Said::default();
        let ahead = self.wall_ahead();
        if ahead.abs_diff(self.state.wall_ahead) >= STEP {
            self.state.wall_ahead = ahead;
            for account in 0..self.state.shadows.len() {
                let shadow = &mut self.state.shadows[account];
                let loaded = shadow.held.as_ref().is_some_and(|it| it.loaded.is_some());
                shadow.tell_times(self.now);
                // What was taken for expired serves after all.
                let valid = shadow.valid(self.now.instant).is_some();
                if loaded && shadow.unattended && valid {
                    self.watchers_settle(account, true, &mut said);
                }
                if loaded {
                    self.waiting_ask(account);
                }
            }
        }
        self.feed(|_, _| ());
        self.expect(said)
    }

    /// The network has changed.
    fn network(&mut self) -> Check {
        self.state.network = Some(self.now.instant);
        self.feed(|sut, cx| sut.network_changed(cx));
        self.expect(Said::default())?;
        self.look(Doing::Other)
    }

    /// Time passes, and the daemon meets each of its deadlines.
    pub fn pass(&mut self, span: Duration) -> Check {
        let end = self.now.instant.after(span);
        loop {
            let next = self.sut.poll_timeout(self.now);
            // The shell's own deadline is no event of the core's until it reports the outcome.
            let hung = self
                .state
                .flights
                .iter()
                .map(|flight| flight.sent.after(REQUEST_DEADLINE));
            let asked = self
                .provider
                .issuers
                .iter()
                .filter_map(|issuer| issuer.asking);
            let hung = hung.chain(asked.map(|asking| asking.sent.after(REQUEST_DEADLINE)));
            let waits = self.people.waits.values().map(|wait| wait.until);
            let waits = waits.chain(self.state.hold.map(|hold| hold.until));
            let wake = hung.chain(next).chain(waits).min().unwrap_or(end).min(end);
            self.forward(wake.since(self.now.instant));
            self.time_out()?;
            self.tick()?;
            self.give_up()?;
            self.release_in_time()?;
            if self.now.instant >= end {
                return Ok(());
            }
        }
    }

    pub fn tick(&mut self) -> Check {
        let now = self.now.instant;
        let said = self.codes_expire();
        self.feed(|sut, cx| sut.tick(cx));
        self.expect(said)?;
        self.look(Doing::Other)?;
        match self.sut.poll_timeout(self.now) {
            Some(at) if at <= now => fail(
                Invariant::Liveness,
                "a tick left a deadline that has passed".into(),
            ),
            _ => Ok(()),
        }
    }

    /// The shell gives up on requests that have taken too long.
    fn time_out(&mut self) -> Check {
        let now = self.now.instant;
        let late = |flight: &Flight| now.since(flight.sent) >= REQUEST_DEADLINE;
        while let Some(index) = self.state.flights.iter().position(late) {
            self.reply(index, Fault::RequestLost, None)?;
        }
        let late = |issuer: &Issuer| {
            let asking = issuer.asking;
            asking.is_some_and(|it| now.since(it.sent) >= REQUEST_DEADLINE)
        };
        while self.provider.issuers.iter().any(late) {
            let asked = self
                .provider
                .issuers
                .iter()
                .filter(|issuer| issuer.asking.is_some());
            let first = asked.clone().position(late);
            self.found(first.unwrap_or_default(), Found::Lost)?;
        }
        Ok(())
    }
}

fn life_of(pick: u8) -> Option<u32> {
    match LIVES[usize::from(pick) % LIVES.len()] {
        0 => None,
        life => Some(life),
    }
}

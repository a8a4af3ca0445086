//! The world around the core: its clocks, its random numbers, the config, and whom it deals with.

use std::collections::BTreeMap;

use super::{
    canary::{Canary, Sut},
    ending::Lives,
    people::People,
    promise::{ASKED, Check, FLOOR},
    provider::{Form, Provider},
    setup::{COMMAND, DISCOVERED, Described, ERROR, NOTIFY, OWN, Origin, PORTS, Setup},
    state::State,
};
use crate::{
    config::Config,
    core::{Cx, Entropy},
    time::{Instant, Now, Wall},
};

/// Ten years: as the daemon's clock, the world's knows points before the machine's start.
const START: Instant = Instant::from_millis(10 * 365 * 86_400 * 1000);
pub const START_WALL: Wall = Wall::from_millis(1_750_000_000_000);

/// Random numbers that can be found again: bytes 1 to 4 are a mark.
#[derive(Clone)]
pub struct Seeded {
    count: u64,
    /// Whether the jitter differs from one to the next.
    pub jitters: bool,
}

/// The mark, as it stands in a state or a verifier from its third digit on.
pub const RANDOM_MARK: &str = "5ec2e7d5";

impl Entropy for Seeded {
    fn bytes32(&mut self) -> [u8; 32] {
        self.count += 1;
        let mut bytes = [0; 32];
        if self.jitters {
            // The first byte makes the jitter.
            bytes[0] = (self.count % 251) as u8;
        }
        bytes[1..5].copy_from_slice(&[0x5e, 0xc2, 0xe7, 0xd5]);
        bytes[24..].copy_from_slice(&self.count.to_be_bytes());
        bytes
    }
}

#[derive(Clone)]
pub struct World {
    pub sut: Sut,
    pub canary: Option<Canary>,
    pub entropy: Seeded,
    pub now: Now,
    pub steps: u64,
    pub setup: Setup,
    pub state: State,
    pub provider: Provider,
    pub people: People,
    /// What each account's sign-ins have lived that ended here.
    pub lives: BTreeMap<usize, Lives>,
}

impl World {
    /// A world of `accounts` accounts at `issuers` issuers.
    pub fn new(accounts: usize, issuers: u8, global: u8, canary: Option<Canary>) -> Self {
        let described = |account: usize| Described {
            present: true,
            origin: Origin {
                account,
                issuer: account as u8 % issuers,
                client: match (account, global & (NOTIFY | ERROR) == NOTIFY | ERROR) {
                    (3, _) => OWN,
                    (4, _) => COMMAND,
                    (2, _) | (_, true) => DISCOVERED,
                    (_, false) => 0,
                },
                place: 0,
            },
            policy: account as u8,
            client_secret: (account as u8).wrapping_add(global >> 3),
            device: account % 2 == 1,
            revocation: account % 3 != 2,
            file: account as u8,
        };
        let setup = Setup {
            accounts: (0..accounts).map(described).collect(),
            global,
        };
        let mut world = World {
            sut: Sut::new(setup.config(), PORTS, canary),
            canary,
            entropy: Seeded {
                count: 0,
                jitters: true,
            },
            now: Now {
                instant: START,
                wall: START_WALL,
            },
            steps: 0,
            setup,
            state: State::new(accounts),
            provider: Provider::default(),
            people: People::default(),
            lives: BTreeMap::new(),
        };
        world.state.wall_ahead = world.wall_ahead();
        world.notice_unattended();
        world.start(0).expect("a start");
        world
    }

    /// Whether a command prints the tokens of `account`.
    pub fn is_command(&self, account: usize) -> bool {
        self.setup.accounts[account].origin.client == COMMAND
    }

    /// Nobody signs in to some accounts, as the config now has them.
    pub fn notice_unattended(&mut self) {
        for (shadow, described) in self.state.shadows.iter_mut().zip(&self.setup.accounts) {
            shadow.unattended = described.is_unattended();
        }
    }

    /// Somebody wants a token of `account`: where nobody has to sign in, it is obtained from now on.
    pub fn begin(&mut self, account: usize) {
        let shadow = &mut self.state.shadows[account];
        if self.setup.accounts[account].present && shadow.valid(self.now.instant).is_none() {
            shadow.begun |= shadow.unattended;
        }
    }

    pub fn present(&self, account: usize) -> bool {
        self.setup.accounts[account].present
    }

    pub fn origin(&self, account: usize) -> Origin {
        let origin = self.setup.accounts[account].origin;
        let issuer = &self.provider.issuers[usize::from(origin.issuer)];
        Origin {
            place: match origin.client {
                DISCOVERED => issuer.known.unwrap_or_default(),
                _ => 0,
            },
            ..origin
        }
    }

    /// When `account` may ask its token endpoint again; a pause is obeyed while the token lives, and
    /// otherwise by those whom nobody has asked.
    pub fn earliest(&self, account: usize, wanted: bool) -> Instant {
        let shadow = &self.state.shadows[account];
        let gap = shadow.last_request.map(|at| at.after(FLOOR));
        let usable = shadow.held.as_ref().and_then(|held| held.usable);
        let Origin { issuer, place, .. } = self.origin(account);
        if !self.is_located(account) {
            let pause = self.document_from(issuer);
            return gap
                .max(pause)
                .max(usable)
                .unwrap_or(Instant::from_millis(0));
        }
        let busy = &self.state.pauses[usize::from(issuer)][usize::from(place)];
        let mut busy: Vec<_> = busy.values().copied().collect();
        busy.sort_unstable();
        let two = busy.len().checked_sub(2).map(|second| busy[second]);
        let mut pause = match self.is_command(account) {
            true => None,
            false => shadow.pause.max(two),
        };
        let access = shadow.held.as_ref().and_then(|held| held.access);
        let expired = access.map_or(Some(Instant::from_millis(0)), |(_, expires)| expires);
        if let (true, Some(expired)) = (wanted, expired) {
            let minute = shadow.last_request.map(|at| at.after(ASKED));
            pause = pause.min(minute.max(Some(expired)));
        }
        gap.max(pause)
            .max(usable)
            .unwrap_or(Instant::from_millis(0))
    }

    /// Whether somebody wants a refresh of `account` now.
    pub fn is_wanted(&self, account: usize) -> bool {
        let mut waits = self.people.waits.values();
        self.state.shadows[account].wanted
            || self.people.asks == Some(account)
            || waits.any(|wait| wait.account == account)
    }

    /// Feeds the core one event.
    pub fn feed<T>(&mut self, event: impl FnOnce(&mut Sut, &mut Cx) -> T) -> T {
        let mut cx = Cx {
            now: self.now,
            entropy: &mut self.entropy,
        };
        self.sut.compare_clocks(&mut cx);
        event(&mut self.sut, &mut cx)
    }

    /// How far the wall clock is ahead of the other, in milliseconds.
    pub fn wall_ahead(&self) -> i64 {
        self.now.wall.millis() - self.now.instant.millis() as i64
    }

    /// Another daemon takes the place of this one.
    pub fn renew(&mut self) {
        self.sut = Sut::new(self.setup.config(), PORTS, self.canary);
        self.state.renew();
        self.state.wall_ahead = self.wall_ahead();
        self.notice_unattended();
        self.people.renew();
        self.forget_documents(false);
    }

    /// The config that `setup` now describes.
    pub fn config(&self) -> Config {
        self.setup.config()
    }

    /// The request arrives; its reply is on its way.
    pub fn arrive(&mut self, index: usize, life: Option<u32>) -> Check {
        let flight = &self.state.flights[index];
        if flight.decision.is_none() && flight.origin.client == COMMAND {
            let decision = self.provider.give_own(flight.origin, life);
            self.state.flights[index].decision = Some(decision);
        } else if flight.decision.is_none() {
            let form = Form::read(flight.form.expose())?;
            let decision = self
                .provider
                .decide(flight.origin, &form, self.now.instant, life)?;
            self.state.flights[index].decision = Some(decision);
        }
        Ok(())
    }
}

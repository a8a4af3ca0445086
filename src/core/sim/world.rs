//! The world around the core: clocks, accounts, browsers, requests in flight, old dumps; and beside
//! it what the core must now hold (its shadow), as far as anyone outside can tell.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use url::Url;

use super::{
    Check, Invariant, Violation,
    action::{Action, LIVES},
    canary::{Canary, Sut},
    fail,
    provider::{Decision, Fault, Form, ISSUERS, MARK, Origin, Provider, Tag},
};
use crate::{
    config::{self, Config, Listen, Policy, Registration},
    core::{AttemptId, Cx, Entropy, Ports, Waiter},
    secret::Secret,
    time::{Instant, Now, Wall},
};

/// The accounts' names.
pub const NAMES: [&str; 5] = ["work", "home", "bank", "list", "club"];

/// The ports that the listeners have.
pub const PORTS: Ports = Ports {
    http: Some(14204),
    https: None,
};

/// How long the shell lets a request take.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);

/// Ten years: as the daemon's clock, the world's knows points before the machine's start.
const START: Instant = Instant::from_millis(10 * 365 * 86_400 * 1000);

/// An account as the config has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Described {
    pub present: bool,
    pub origin: Origin,
    pub policy: u8,
    pub client_secret: u8,
}

/// The config in force, as what the sim varies of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Setup {
    pub accounts: Vec<Described>,
    /// Which hooks there are, and the reminders' interval: see [`Setup::has`].
    pub global: u8,
}

pub const NOTIFY: u8 = 1;
pub const ERROR: u8 = 2;
pub const EVENT: u8 = 4;
pub const PROBE: u8 = 8;
const HURRY: u8 = 16;

impl Setup {
    pub fn has(&self, bit: u8) -> bool {
        self.global & bit != 0
    }

    pub fn interval(&self) -> Duration {
        Duration::from_secs(if self.has(HURRY) { 60 } else { 900 })
    }

    pub fn policy(&self, account: usize) -> Policy {
        let secs = Duration::from_secs;
        let (at_least, before, retry) = match self.accounts[account].policy % 4 {
            0 => (5400, 90, 40),
            1 => (600, 30, 1),
            2 => (86_400, 7200, 3600),
            _ => (20, 5, 7),
        };
        Policy {
            refresh_at_least: secs(at_least),
            refresh_before_expiry: secs(before),
            refresh_retry: secs(retry),
        }
    }

    fn config(&self) -> Config {
        let hook = |bit: u8, name: &str| self.has(bit).then(|| format!("hook {name}"));
        let accounts = self.accounts.iter().enumerate();
        Config {
            auth_notify_cmd: hook(NOTIFY, "notify"),
            auth_notify_interval: self.interval(),
            error_notify_cmd: hook(ERROR, "error"),
            http_listen: Listen::None,
            https_listen: Listen::None,
            startup_cmd: None,
            state_load_cmd: None,
            state_save_cmd: None,
            token_event_cmd: hook(EVENT, "event"),
            transient_error_if_cmd: hook(PROBE, "probe"),
            accounts: accounts
                .filter(|(_, described)| described.present)
                .map(|(index, described)| config::Account {
                    name: NAMES[index].into(),
                    registration: Arc::new(registration(described.origin)),
                    client: Arc::new(config::Client {
                        secret: match described.client_secret % 3 {
                            0 => config::ClientSecret::None,
                            n => {
                                let secret = Secret::new(format!("{MARK}client-{n}"));
                                config::ClientSecret::Given(Arc::new(secret))
                            }
                        },
                        ..config::Client::default()
                    }),
                    device_auth_uri: None,
                    revocation_uri: None,
                    policy: self.policy(index),
                    token_file: None,
                })
                .collect(),
            sockets: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

fn registration(origin: Origin) -> Registration {
    let url = |path: &str| uri(&format!("https://iss{}.example/{path}", origin.issuer));
    Registration {
        token_uri_fields: Vec::new(),
        issuer: None,
        auth_uri: Some(url("auth")),
        token_uri: Some(url("token")),
        client_id: format!("client-{}-{}", origin.account, origin.client),
        redirect_uri: uri("http://localhost/"),
        scopes: vec!["mail".into()],
        auth_uri_fields: Vec::new(),
    }
}

fn uri(text: &str) -> Url {
    Url::parse(text).expect("a URI")
}

/// The token endpoint of an issuer.
pub fn endpoint(issuer: u8) -> Url {
    uri(&format!("https://iss{issuer}.example/token"))
}

/// What an account must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    pub access: Option<(Tag, Option<Instant>)>,
    pub refresh: Option<Tag>,
    pub obtained: Instant,
}

/// Where an account's renewal must stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Renewal {
    /// Nothing under way: the next refresh has a deadline.
    Idle,
    InFlight(AttemptId),
    Probing(AttemptId),
    Rejected,
    Parked,
}

/// Where an account's sign-in must stand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SignIn {
    None,
    Pending {
        state: String,
        since: Instant,
        reminded: Option<Instant>,
        notified: Option<AttemptId>,
    },
    Exchanging {
        state: String,
        since: Instant,
        code: Tag,
        attempt: Option<AttemptId>,
        last: Option<Instant>,
        waiters: Vec<Waiter>,
    },
}

impl SignIn {
    /// Whether an authorization response with this state is its own.
    pub fn waits_for(&self, state: &str) -> bool {
        match self {
            SignIn::None => false,
            SignIn::Pending { state: own, .. } | SignIn::Exchanging { state: own, .. } => {
                own == state
            }
        }
    }
}

/// Failures in a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Trouble {
    pub since: Instant,
    pub last: Instant,
    pub fault: Fault,
    /// How often that came in a row, if nobody explained it.
    pub unexplained: u32,
    pub told: bool,
}

/// What the world knows of an account.
#[derive(Clone, Debug, Hash)]
pub struct Shadow {
    pub held: Option<Held>,
    pub renewal: Renewal,
    /// A refresh was asked for and must start as soon as it may.
    pub wanted: bool,
    pub sign_in: SignIn,
    pub trouble: Option<Trouble>,
    /// The user knows that a sign-in brings no refresh token.
    pub told_no_refresh: bool,
    /// How the last refresh ended, for whoever judges it later.
    pub fault: Fault,
    pub last_request: Option<Instant>,
}

impl Shadow {
    pub fn new() -> Self {
        Shadow {
            held: None,
            renewal: Renewal::Idle,
            wanted: false,
            sign_in: SignIn::None,
            trouble: None,
            told_no_refresh: false,
            fault: Fault::Honest,
            last_request: None,
        }
    }

    pub fn valid(&self, now: Instant) -> Option<Tag> {
        let (token, expires) = self.held.as_ref()?.access?;
        expires.is_none_or(|at| now < at).then_some(token)
    }

    pub fn refresh_token(&self) -> Option<Tag> {
        self.held.as_ref()?.refresh
    }

    /// Whether only a sign-in brings a working account.
    pub fn needs_person(&self) -> bool {
        self.refresh_token().is_none() || self.renewal == Renewal::Rejected
    }

    /// New tokens take the place of the old ones, with `refresh` or with the old refresh token: that
    /// one may be of no use, or on its way and come back as another.
    pub fn succeed(&mut self, refresh: Option<Tag>) {
        match self.renewal {
            Renewal::Rejected | Renewal::InFlight(_)
                if refresh.is_none() && self.refresh_token().is_some() => {}
            _ => (self.renewal, self.trouble, self.wanted) = (Renewal::Idle, None, false),
        }
    }

    /// Whether the core is to refresh without being asked.
    pub fn renewable(&self) -> bool {
        self.refresh_token().is_some()
            && self.renewal == Renewal::Idle
            && !matches!(self.sign_in, SignIn::Exchanging { .. })
    }
}

/// A request that has no outcome yet.
#[derive(Clone, Debug)]
pub struct Flight {
    pub account: usize,
    pub attempt: AttemptId,
    pub issuer: u8,
    pub form: Arc<Secret>,
    pub sent: Instant,
    /// The issuer's answer, if the request has arrived.
    pub decision: Option<Decision>,
}

/// A page that a user has open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tab {
    pub origin: Origin,
    pub state: String,
    pub challenge: String,
    pub code: Option<Tag>,
}

/// What the core must say and do in answer to one event, beside requests, reminders and the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub announced: Vec<(usize, &'static str)>,
    pub errors: Vec<usize>,
    pub settled: Vec<(usize, Vec<Waiter>, bool)>,
    pub probes: Vec<usize>,
    pub notify_ends: usize,
}

/// What is going on, to name the broken promise by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Ending,
    Restoring,
    SigningIn,
    Other,
}

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
    pub setup: Setup,
    pub provider: Provider,
    pub shadows: Vec<Shadow>,
    pub flights: Vec<Flight>,
    pub probes: Vec<(usize, AttemptId)>,
    pub tabs: VecDeque<Tab>,
    /// Sealed, newest first.
    pub dumps: VecDeque<Vec<u8>>,
    /// What was held when each dump was made.
    pub dumped: VecDeque<Vec<Option<Held>>>,
    /// Until when each issuer asked to be left alone.
    pub pauses: [Option<Instant>; ISSUERS as usize],
    pub spent: VecDeque<(String, bool)>,
    pub waiters: u64,
    pub last_attempt: u64,
    pub steps: u64,
}

impl World {
    /// A world of `accounts` accounts at `issuers` issuers.
    pub fn new(accounts: usize, issuers: u8, global: u8, canary: Option<Canary>) -> Self {
        let described = |account: usize| Described {
            present: true,
            origin: Origin {
                account,
                issuer: account as u8 % issuers,
                client: 0,
            },
            policy: account as u8,
            client_secret: account as u8,
        };
        let setup = Setup {
            accounts: (0..accounts).map(described).collect(),
            global,
        };
        World {
            sut: Sut::new(setup.config(), PORTS, canary),
            canary,
            entropy: Seeded {
                count: 0,
                jitters: true,
            },
            now: Now {
                instant: START,
                wall: Wall::from_millis(1_750_000_000_000),
            },
            provider: Provider::default(),
            shadows: vec![Shadow::new(); accounts],
            setup,
            flights: Vec::new(),
            probes: Vec::new(),
            tabs: VecDeque::new(),
            dumps: VecDeque::new(),
            dumped: VecDeque::new(),
            pauses: [None; ISSUERS as usize],
            spent: VecDeque::new(),
            waiters: 0,
            last_attempt: 0,
            steps: 0,
        }
    }

    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    pub fn probing(&self) -> bool {
        !self.probes.is_empty()
    }

    pub fn pending(&self) -> bool {
        let pending = |shadow: &Shadow| matches!(shadow.sign_in, SignIn::Pending { .. });
        self.shadows.iter().any(pending)
    }

    /// The account that `pick` means, whether it is in the config or not.
    fn account(&self, pick: u8) -> usize {
        usize::from(pick) % self.shadows.len()
    }

    pub fn present(&self, account: usize) -> bool {
        self.setup.accounts[account].present
    }

    pub fn origin(&self, account: usize) -> Origin {
        self.setup.accounts[account].origin
    }

    /// When `account` may ask its token endpoint again.
    pub fn earliest(&self, account: usize) -> Instant {
        let shadow = &self.shadows[account];
        let gap = shadow.last_request.map(|at| at.after(super::FLOOR));
        let pause = self.pauses[usize::from(self.origin(account).issuer)];
        gap.max(pause).unwrap_or(Instant::from_millis(0))
    }

    /// Feeds the core one event.
    pub fn feed<T>(&mut self, event: impl FnOnce(&mut Sut, &mut Cx) -> T) -> T {
        let mut cx = Cx {
            now: self.now,
            entropy: &mut self.entropy,
        };
        event(&mut self.sut, &mut cx)
    }

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
            Action::Show(pick) => self.show(self.account(pick)),
            Action::Refresh(pick) => self.refresh(self.account(pick)),
            Action::Revoke(pick) => self.revoke(self.account(pick)),
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
                self.tick()
            }
            Action::SetClock(secs) => {
                let span = Duration::from_secs(secs.unsigned_abs().into());
                self.now.wall = match secs < 0 {
                    true => self.now.wall.before(span),
                    false => self.now.wall.after(span),
                };
                self.look(Doing::Other)
            }
            Action::Tick => self.tick(),
            Action::Reload(pick, change) => self.reload(self.account(pick), change),
            Action::Dump => self.dump(),
            Action::Restore(pick) => self.restore(pick.into()),
            Action::Kill(kill) => self.kill(kill),
            Action::Calm => self.calm(),
        }
    }

    /// Another daemon takes the place of this one.
    pub fn renew(&mut self) {
        self.sut = Sut::new(self.setup.config(), PORTS, self.canary);
        self.shadows.fill_with(Shadow::new);
        self.flights.clear();
        self.probes.clear();
        self.spent.clear();
        self.pauses = [None; ISSUERS as usize];
        self.last_attempt = 0;
    }

    /// The config that `setup` now describes.
    pub fn config(&self) -> Config {
        self.setup.config()
    }

    fn flight(&self, pick: u8) -> Option<usize> {
        let count = self.flights.len();
        (count > 0).then(|| count - 1 - usize::from(pick) % count)
    }

    // ---- time ---------------------------------------------------------------------------------

    pub fn forward(&mut self, span: Duration) {
        self.now.instant = self.now.instant.after(span);
        self.now.wall = self.now.wall.after(span);
    }

    /// Time passes, and the daemon meets each of its deadlines.
    pub fn pass(&mut self, span: Duration) -> Check {
        let end = self.now.instant.after(span);
        loop {
            let next = self.sut.poll_timeout(self.now);
            // The shell's own deadline is no event of the core's until it reports the outcome.
            let hung = self
                .flights
                .iter()
                .map(|flight| flight.sent.after(REQUEST_DEADLINE));
            let wake = hung.chain(next).min().unwrap_or(end).min(end);
            self.forward(wake.since(self.now.instant));
            self.time_out()?;
            self.tick()?;
            if self.now.instant >= end {
                return Ok(());
            }
        }
    }

    pub fn tick(&mut self) -> Check {
        let now = self.now.instant;
        self.feed(|sut, cx| sut.tick(cx));
        self.expect(Said::default())?;
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
        while let Some(index) = self.flights.iter().position(late) {
            self.reply(index, Fault::RequestLost, None)?;
        }
        Ok(())
    }

    /// The request arrives; its reply is on its way.
    pub fn arrive(&mut self, index: usize, life: Option<u32>) -> Check {
        let flight = &self.flights[index];
        if flight.decision.is_none() {
            let form = Form::read(flight.form.expose())?;
            let decision = self.provider.decide(flight.issuer, &form, life)?;
            self.flights[index].decision = Some(decision);
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

/// A violation, unless `condition` holds.
pub fn must(condition: bool, invariant: Invariant, message: &str) -> Result<(), Violation> {
    match condition {
        true => Ok(()),
        false => fail(invariant, message.into()),
    }
}

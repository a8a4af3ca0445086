//! The world around the core: clocks, accounts, browsers, requests in flight, old dumps; and beside
//! it what the core must now hold (its shadow), as far as anyone outside can tell.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use url::Url;

use super::{
    Check, Invariant, Violation,
    action::{Action, LIVES},
    canary::{Canary, Sut},
    discovery::{Found, Issuer, PLACES},
    fail,
    handover::Hold,
    keep::Keeping,
    provider::{Asks, Decision, Fault, Form, ISSUERS, MARK, Origin, Provider, Tag},
    waits::Wait,
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
    /// Whether there is a device authorization endpoint beside another way to sign in.
    pub device: bool,
    /// Whether there is a revocation endpoint.
    pub revocation: bool,
    pub file: u8,
}

impl Described {
    /// Whether a sign-in may use a device code.
    pub fn has_device(&self) -> bool {
        self.device || self.origin.client == DEVICE_ONLY
    }

    /// Whether a command prints the client secret.
    pub fn asks_for_secret(&self) -> bool {
        self.client_secret % 4 == 3
    }
}

/// The client of those registrations that have no other way to sign in than a device code.
pub const DEVICE_ONLY: u8 = 2;

/// The client of those registrations whose endpoints the issuer says.
pub const DISCOVERED: u8 = 3;

/// How many clients there are.
pub const CLIENTS: u8 = 4;

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
pub const HURRY: u8 = 16;
pub const SAVE: u8 = 32;
pub const LOAD: u8 = 64;

/// How many settings of all these there are.
pub const GLOBALS: u8 = 128;

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

    /// The token file of `account`. One path may be any account's, but only one's.
    pub fn file(&self, account: usize) -> Option<config::TokenFile> {
        let shares = |one: &Described| one.present && one.file % 4 == 3;
        let name = NAMES[account];
        let (path, format) = match self.accounts[account].file % 4 {
            _ if !self.accounts[account].present => return None,
            0 => return None,
            1 => (format!("/files/{name}"), config::TokenFormat::Raw),
            2 => (format!("/files/{name}.json"), config::TokenFormat::Json),
            _ if self.accounts.iter().position(shares) != Some(account) => return None,
            _ => ("/files/any".into(), config::TokenFormat::Raw),
        };
        let path = path.into();
        Some(config::TokenFile { path, format })
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
            state_load_cmd: hook(LOAD, "load"),
            state_save_cmd: hook(SAVE, "save"),
            token_event_cmd: hook(EVENT, "event"),
            transient_error_if_cmd: hook(PROBE, "probe"),
            accounts: accounts
                .filter(|(_, described)| described.present)
                .map(|(index, described)| config::Account {
                    name: NAMES[index].into(),
                    registration: Arc::new(registration(described.origin)),
                    client: Arc::new(config::Client {
                        secret: match described.client_secret % 4 {
                            0 => config::ClientSecret::None,
                            3 => config::ClientSecret::Command("hook secret".into()),
                            n => {
                                let secret = Secret::new(format!("{MARK}client-{n}"));
                                config::ClientSecret::Given(Arc::new(secret))
                            }
                        },
                        ..config::Client::default()
                    }),
                    device_auth_uri: (described.has_device())
                        .then(|| device_endpoint(described.origin.issuer).into()),
                    revocation_uri: (described.revocation)
                        .then(|| revocation_endpoint(described.origin.issuer).into()),
                    policy: self.policy(index),
                    token_file: self.file(index).map(Arc::new),
                })
                .collect(),
            sockets: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

fn registration(origin: Origin) -> Registration {
    let url = |path: &str| uri(&format!("https://iss{}.example/{path}", origin.issuer));
    let discovered = origin.client == DISCOVERED;
    let by_browser = origin.client != DEVICE_ONLY && !discovered;
    Registration {
        token_uri_fields: Vec::new(),
        issuer: discovered.then(|| issuer_uri(origin.issuer).into()),
        auth_uri: by_browser.then(|| url("auth").into()),
        token_uri: (!discovered).then(|| url("token").into()),
        client_id: format!("client-{}-{}", origin.account, origin.client),
        redirect_uri: uri("http://localhost/").into(),
        scopes: vec!["mail".into()],
        auth_uri_fields: Vec::new(),
    }
}

fn uri(text: &str) -> Url {
    Url::parse(text).expect("a URI")
}

/// What an issuer calls itself.
pub fn issuer_uri(issuer: u8) -> String {
    format!("https://iss{issuer}.example")
}

/// Where an issuer's endpoints are when they are at `place`.
pub fn host(issuer: u8, place: u8) -> String {
    match place {
        0 => format!("iss{issuer}.example"),
        _ => format!("login{place}.iss{issuer}.example"),
    }
}

/// The token endpoint of an issuer.
pub fn endpoint(origin: Origin) -> Url {
    uri(&format!(
        "https://{}/token",
        host(origin.issuer, origin.place)
    ))
}

/// Its device authorization endpoint.
pub fn device_endpoint(issuer: u8) -> Url {
    uri(&format!("https://iss{issuer}.example/device_authorization"))
}

/// Its revocation endpoint.
pub fn revocation_endpoint(issuer: u8) -> Url {
    uri(&format!("https://iss{issuer}.example/revoke"))
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
    /// The issuer is asked where.
    Discovering {
        /// The user has heard that this doesn't work.
        told: bool,
    },
    Pending {
        /// Its name, as reminders have it.
        attempt: AttemptId,
        /// The state, if a browser may complete it.
        browser: Option<String>,
        device: Device,
        since: Instant,
        reminded: Option<Instant>,
        /// The code that the last reminder had.
        told: Option<Tag>,
    },
    Exchanging {
        state: String,
        since: Instant,
        code: Tag,
        attempt: Option<AttemptId>,
        last: Option<Instant>,
        /// The user has heard that it fails.
        told: bool,
    },
}

/// Where a pending sign-in's device code must stand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    None,
    /// To be asked for when the floor allows.
    Wanted,
    Asking(AttemptId),
    Code {
        tag: Tag,
        expires: Instant,
        next: Instant,
        interval: Duration,
        /// Polls without an answer, in a row.
        troubles: u32,
        lost: bool,
        attempt: Option<AttemptId>,
    },
    /// There is none, and another may be asked for.
    Over,
}

impl Device {
    /// When something is to be done about it.
    pub fn due(&self) -> Option<Instant> {
        match self {
            Device::Code {
                expires,
                next,
                attempt: None,
                ..
            } => Some(*next.min(expires)),
            Device::None
            | Device::Wanted
            | Device::Asking(_)
            | Device::Code { .. }
            | Device::Over => None,
        }
    }
}

impl SignIn {
    /// Whether an authorization response with this state is its own.
    pub fn waits_for(&self, state: &str) -> bool {
        match self {
            SignIn::None | SignIn::Discovering { .. } => false,
            SignIn::Pending { browser, .. } => browser.as_deref() == Some(state),
            SignIn::Exchanging { state: own, .. } => own == state,
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
    /// When a device code was last asked for.
    pub last_code: Option<Instant>,
    pub secret: ClientSecret,
    /// Who waits for the end of the sign-in.
    pub watchers: Vec<Waiter>,
    /// Who waits for a device code.
    pub code_watchers: Vec<Waiter>,
}

/// What is known of the secret that a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientSecret {
    Unknown,
    Fetching(AttemptId),
    Known {
        /// The how-manieth that was printed.
        number: u64,
        /// It may have been taken for outdated.
        doubted: bool,
    },
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
            last_code: None,
            secret: ClientSecret::Unknown,
            watchers: Vec::new(),
            code_watchers: Vec::new(),
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
    /// For whom, as it was when the request was made.
    pub origin: Origin,
    pub asks: Asks,
    pub tag: Option<Tag>,
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
    /// Who waited for a device code.
    pub codes: Vec<(usize, Vec<Waiter>)>,
    pub probes: Vec<usize>,
    pub notify_ends: usize,
    /// About keeping the state.
    pub kept_errors: usize,
    /// Whose refresh token would go to a place that it wasn't issued at: the user is told.
    pub strangers: Vec<usize>,
}

impl Said {
    /// All of both.
    pub fn add(&mut self, other: Said) {
        self.announced.extend(other.announced);
        self.errors.extend(other.errors);
        self.settled.extend(other.settled);
        self.codes.extend(other.codes);
        self.probes.extend(other.probes);
        self.notify_ends += other.notify_ends;
        self.kept_errors += other.kept_errors;
        self.strangers.extend(other.strangers);
    }
}

/// What is going on, to name the broken promise by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Ending,
    Restoring,
    SigningIn,
    TakingOver,
    Other,
}

/// A revocation that the provider hasn't heard of yet, or not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    pub account: usize,
    /// Nobody, after a restart.
    pub waiter: Option<Waiter>,
    /// The refresh token, the access token, or both in this order.
    pub tags: Vec<Tag>,
    /// The first of them, as they were.
    pub first: Tag,
    /// Requests for the first of `tags`.
    pub tries: u32,
    pub attempt: Option<AttemptId>,
    pub last: Option<Instant>,
    /// Another one was about the same token, which had been restored in between.
    pub twin: bool,
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
    /// The commands that print client secrets and haven't ended.
    pub fetches: Vec<(usize, AttemptId)>,
    /// How many have printed one.
    pub printed: u64,
    /// Device codes that users have seen, newest first.
    pub codes: VecDeque<Tag>,
    /// Who waits for a token.
    pub waits: BTreeMap<Waiter, Wait>,
    pub revocations: Vec<Revocation>,
    /// What an issuer, or somebody in its place, has called revoked.
    pub revoked: BTreeSet<Tag>,
    pub held: Option<Hold>,
    pub keeping: Keeping,
    /// What would be in the token files.
    pub files: BTreeMap<String, String>,
    /// Whose sign-in the event may begin.
    pub begins: Option<usize>,
    /// Who must have been answered at the end of the event.
    pub impatient: Vec<Waiter>,
    pub tabs: VecDeque<Tab>,
    /// Sealed, newest first.
    pub dumps: VecDeque<Vec<u8>>,
    /// What was held when each dump was made.
    pub dumped: VecDeque<Vec<Option<Held>>>,
    /// Until when each issuer asked to be left alone.
    pub pauses: [[Option<Instant>; PLACES as usize]; ISSUERS as usize],
    pub issuers: [Issuer; ISSUERS as usize],
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
                client: match account == 2 || global & (NOTIFY | ERROR) == NOTIFY | ERROR {
                    true => DISCOVERED,
                    false => 0,
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
                wall: Wall::from_millis(1_750_000_000_000),
            },
            provider: Provider::default(),
            shadows: vec![Shadow::new(); accounts],
            setup,
            flights: Vec::new(),
            probes: Vec::new(),
            fetches: Vec::new(),
            printed: 0,
            revoked: BTreeSet::new(),
            held: None,
            keeping: Keeping::default(),
            files: BTreeMap::new(),
            begins: None,
            impatient: Vec::new(),
            codes: VecDeque::new(),
            waits: BTreeMap::new(),
            revocations: Vec::new(),
            tabs: VecDeque::new(),
            dumps: VecDeque::new(),
            dumped: VecDeque::new(),
            pauses: [[None; PLACES as usize]; ISSUERS as usize],
            issuers: [Issuer::default(); ISSUERS as usize],
            spent: VecDeque::new(),
            waiters: 0,
            last_attempt: 0,
            steps: 0,
        };
        world.start(0).expect("a start");
        world
    }

    /// Whether an issuer is asked for its document.
    pub fn asks_issuers(&self) -> bool {
        self.issuers.iter().any(|issuer| issuer.asking.is_some())
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
        let origin = self.setup.accounts[account].origin;
        let issuer = &self.issuers[usize::from(origin.issuer)];
        Origin {
            place: match origin.client {
                DISCOVERED => issuer.known.unwrap_or_default(),
                _ => 0,
            },
            ..origin
        }
    }

    /// When `account` may ask its token endpoint again.
    pub fn earliest(&self, account: usize) -> Instant {
        let shadow = &self.shadows[account];
        let gap = shadow.last_request.map(|at| at.after(super::FLOOR));
        let Origin { issuer, place, .. } = self.origin(account);
        let pause = match self.is_located(account) {
            true => self.pauses[usize::from(issuer)][usize::from(place)],
            false => self.document_from(issuer),
        };
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
            Action::Ask(pick, how) => self.ask(self.account(pick), how),
            Action::Auth(pick, join) => self.auth(self.account(pick), join),
            Action::Await(pick) => self.await_sign_in(self.account(pick)),
            Action::Leave(pick) => self.leave(pick.into()),
            Action::Enter(pick, agrees) => self.enter(pick.into(), agrees),
            Action::Secret(pick, printed) => self.secret(pick.into(), printed),
            Action::Refresh(pick) => self.refresh(self.account(pick)),
            Action::Revoke(pick, tell) => self.revoke(self.account(pick), tell),
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
                self.look(Doing::Other)
            }
            Action::Tick => self.tick(),
            Action::Reload(pick, change) => self.reload(self.account(pick), change),
            Action::Dump => self.dump(),
            Action::Restore(pick) => self.restore(pick.into()),
            Action::Kill(kill) => self.kill(kill),
            Action::Kept(how) => self.kept(how),
            Action::FileFails(pick) => self.file_fails(self.account(pick)),
            Action::Hold => self.hold(),
            Action::Release => self.release(),
            Action::TakeOver => self.take_over(),
            Action::Found(pick, found) => self.found(pick.into(), found),
            Action::Move(pick) => self.move_endpoints(pick),
            Action::Calm => self.calm(),
        }
    }

    /// Another daemon takes the place of this one.
    pub fn renew(&mut self) {
        self.sut = Sut::new(self.setup.config(), PORTS, self.canary);
        self.shadows.fill_with(Shadow::new);
        self.flights.clear();
        self.probes.clear();
        self.fetches.clear();
        self.waits.clear();
        self.revocations.clear();
        self.held = None;
        self.keeping.renew();
        self.impatient.clear();
        self.spent.clear();
        self.pauses = [[None; PLACES as usize]; ISSUERS as usize];
        self.forget_documents(false);
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
            let asked = self.issuers.iter().filter_map(|issuer| issuer.asking);
            let hung = hung.chain(asked.map(|asking| asking.sent.after(REQUEST_DEADLINE)));
            let waits = self.waits.values().map(|wait| wait.until);
            let waits = waits.chain(self.held.map(|hold| hold.until));
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
        while let Some(index) = self.flights.iter().position(late) {
            self.reply(index, Fault::RequestLost, None)?;
        }
        let late = |issuer: &Issuer| {
            let asking = issuer.asking;
            asking.is_some_and(|it| now.since(it.sent) >= REQUEST_DEADLINE)
        };
        while self.issuers.iter().any(late) {
            let asked = self.issuers.iter().filter(|issuer| issuer.asking.is_some());
            let first = asked.clone().position(late);
            self.found(first.unwrap_or_default(), Found::Lost)?;
        }
        Ok(())
    }

    /// The request arrives; its reply is on its way.
    pub fn arrive(&mut self, index: usize, life: Option<u32>) -> Check {
        let flight = &self.flights[index];
        if flight.decision.is_none() {
            let form = Form::read(flight.form.expose())?;
            let decision = self
                .provider
                .decide(flight.origin, &form, self.now.instant, life)?;
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

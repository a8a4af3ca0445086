//! What the core must now hold, wait for and say (its shadow), as far as anyone outside can tell.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    ending::Ending,
    provider::{Asks, Decision, Fault, Tag},
    setup::{ISSUERS, Origin, PLACES},
};
use crate::{
    core::{AttemptId, Waiter},
    secret::Secret,
    time::{Instant, Now, Wall},
};

/// All of it, for the daemon that now runs.
#[derive(Clone, Debug)]
pub struct State {
    pub shadows: Vec<Shadow>,
    pub flights: Vec<Flight>,
    pub probes: Vec<(usize, AttemptId)>,
    /// The commands that print client secrets and haven't ended.
    pub fetches: Vec<(usize, AttemptId)>,
    /// How many have ever printed one.
    pub printed: u64,
    pub revocations: Vec<Revocation>,
    pub hold: Option<Hold>,
    pub keeping: Keeping,
    /// What would be in the token files.
    pub files: BTreeMap<String, String>,
    /// Until when each issuer asked each account to be left alone for want of capacity.
    pub pauses: [[BTreeMap<usize, Instant>; PLACES as usize]; ISSUERS as usize],
    pub spent: VecDeque<(String, bool)>,
    pub last_attempt: u64,
    /// How far the wall clock was ahead when it was last found to be set.
    pub wall_ahead: i64,
    /// When the network has changed, as far as this daemon knows.
    pub network: Option<Instant>,
}

impl State {
    /// Of `accounts` accounts that nobody has asked for.
    pub fn new(accounts: usize) -> Self {
        State {
            shadows: vec![Shadow::new(); accounts],
            flights: Vec::new(),
            probes: Vec::new(),
            fetches: Vec::new(),
            printed: 0,
            revocations: Vec::new(),
            hold: None,
            keeping: Keeping::default(),
            files: BTreeMap::new(),
            pauses: Default::default(),
            spent: VecDeque::new(),
            last_attempt: 0,
            wall_ahead: 0,
            network: None,
        }
    }

    /// Another daemon starts: what is on the disk stays.
    pub fn renew(&mut self) {
        self.keeping.renew();
        *self = State {
            keeping: std::mem::take(&mut self.keeping),
            files: std::mem::take(&mut self.files),
            printed: self.printed,
            ..State::new(self.shadows.len())
        };
    }

    pub fn pending(&self) -> bool {
        let pending = |shadow: &Shadow| matches!(shadow.sign_in, SignIn::Pending { .. });
        self.shadows.iter().any(pending)
    }

    /// The account that `pick` means, whether it is in the config or not.
    pub fn account(&self, pick: u8) -> usize {
        usize::from(pick) % self.shadows.len()
    }

    /// The same without what a clock that is set changes.
    pub fn lasting(&self) -> Vec<Option<Held>> {
        let held = self.held().into_iter();
        held.map(|held| held.map(Held::lasting)).collect()
    }

    /// What is held of each account.
    pub fn held(&self) -> Vec<Option<Held>> {
        let held = self.shadows.iter().map(|shadow| shadow.held.clone());
        held.collect()
    }
}

/// What an account must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    pub access: Option<(Tag, Option<Instant>)>,
    pub refresh: Option<Tag>,
    pub obtained: Instant,
    pub loaded: Option<Loaded>,
    /// When the refresh token ends.
    pub ends: Option<Instant>,
    /// From when on it can be used.
    pub usable: Option<Instant>,
    /// Another user has signed in than was to.
    pub other_user: bool,
    /// With which access token the ID token came, if there is one.
    pub id_token: Option<Tag>,
}

/// What a dump has of it.
pub type Dumped = (
    Option<(Tag, Option<Wall>)>,
    (Option<Tag>, Option<Wall>),
    Wall,
);

impl Held {
    /// What a dump has of it.
    pub fn dumped(&self, now: Now) -> Dumped {
        let wall = |at| now.wall_at(at);
        let expires = |at| match self.loaded {
            Some(loaded) => loaded.expires,
            None => Some(wall(at)),
        };
        let access = (self.access).map(|(tag, at)| (tag, at.and_then(expires)));
        let obtained = self.loaded.map(|it| it.obtained);
        let ends = self.loaded.and_then(|it| it.ends);
        let ends = ends.or(self.ends.map(wall));
        (
            access,
            (self.refresh, ends),
            obtained.unwrap_or(wall(self.obtained)),
        )
    }

    /// The same without what a clock that is set changes.
    pub fn lasting(mut self) -> Held {
        if self.loaded.is_some() {
            self.access = self.access.map(|(tag, _)| (tag, None));
            (self.obtained, self.ends) = (Instant::from_millis(0), None);
        }
        self.usable = None;
        self
    }
}

/// The times of tokens that were loaded, on the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Loaded {
    pub obtained: Wall,
    pub expires: Option<Wall>,
    pub ends: Option<Wall>,
}

/// Where an account's renewal must stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Renewal {
    /// Nothing under way: the next refresh has a deadline.
    Idle,
    InFlight(AttemptId),
    Probing(AttemptId),
    Rejected,
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
    /// Since when all that came was that the config is wrong.
    pub misconfigured: Option<Instant>,
    /// That is believed.
    pub stopped: bool,
}

/// What the world knows of an account.
#[derive(Clone, Debug, Hash)]
pub struct Shadow {
    /// Nobody has to sign in.
    pub unattended: bool,
    /// It is, and its tokens are obtained.
    pub begun: bool,
    pub held: Option<Held>,
    pub renewal: Renewal,
    /// A refresh was asked for and must start as soon as it may.
    pub wanted: bool,
    pub sign_in: SignIn,
    pub trouble: Option<Trouble>,
    pub ending: Ending,
    /// The user knows that a sign-in brings no refresh token.
    pub told_no_refresh: bool,
    /// How the last refresh ended, for whoever judges it later.
    pub fault: Fault,
    pub last_request: Option<Instant>,
    /// Until when its issuer asked this account to leave it alone.
    pub pause: Option<Instant>,
    /// A refresh has succeeded with this config.
    pub works: bool,
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
            unattended: false,
            begun: false,
            held: None,
            renewal: Renewal::Idle,
            wanted: false,
            sign_in: SignIn::None,
            trouble: None,
            ending: Ending::default(),
            told_no_refresh: false,
            fault: Fault::Honest,
            last_request: None,
            pause: None,
            works: false,
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

    /// What is told by the wall clock is told anew.
    pub fn tell_times(&mut self, now: Now) {
        let Some(held) = &mut self.held else {
            return;
        };
        let Some(loaded) = held.loaded else {
            return;
        };
        let asked = now.instant_at(loaded.obtained);
        held.obtained = asked.min(now.instant);
        let behind = asked.since(held.obtained);
        let ends = loaded.ends.map(|at| now.instant_at(at).before(behind));
        (held.ends, held.usable) = (ends.or(held.ends), None);
        let Some((_, Some(expires))) = &mut held.access else {
            return;
        };
        let told = loaded.expires.map_or(*expires, |at| now.instant_at(at));
        *expires = match asked > now.instant {
            // Of tokens from the future only how long they live is known.
            true => now.instant.after(told.since(asked)).min(*expires),
            false => told,
        };
    }

    /// Whether the config is believed to be wrong.
    pub fn stopped(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.stopped)
    }

    pub fn refresh_token(&self) -> Option<Tag> {
        self.held.as_ref()?.refresh
    }

    /// Whether only a sign-in brings a working account.
    pub fn needs_person(&self) -> bool {
        !self.unattended && (self.refresh_token().is_none() || self.renewal == Renewal::Rejected)
    }

    /// Whether there is what new tokens are asked for with.
    pub fn can_renew(&self) -> bool {
        self.refresh_token().is_some() || self.begun
    }

    /// New tokens take the place of the old ones, with `refresh` or with the old refresh token: that
    /// one may be of no use, or on its way and come back as another.
    pub fn succeed(&mut self, refresh: Option<Tag>) {
        match self.renewal {
            Renewal::Rejected | Renewal::InFlight(_) if refresh.is_none() && self.can_renew() => {}
            _ => (self.renewal, self.trouble, self.wanted) = (Renewal::Idle, None, false),
        }
    }

    /// Whether the core is to refresh without being asked.
    pub fn renewable(&self) -> bool {
        self.can_renew()
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

/// What the core must say and do in answer to one event, beside requests, reminders and the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub announced: Vec<(usize, String)>,
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
    /// To which accounts another user has signed in: the user is told.
    pub other_users: Vec<usize>,
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
        self.other_users.extend(other.other_users);
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

/// What is known of the saved state.
#[derive(Clone, Debug, Default)]
pub struct Keeping {
    pub work: Work,
    /// What `state_save_cmd` was given last.
    pub disk: Vec<u8>,
    pub loaded: bool,
    /// Something has changed that was not given to the command yet.
    pub unsaved: bool,
    pub failed: Option<Instant>,
    pub told: bool,
    /// Files are brought in step before anybody is answered.
    pub starting: bool,
    pub closing: bool,
    /// As it was after the last event.
    pub held: Vec<Option<Held>>,
}

#[derive(Clone, Debug, Default)]
pub enum Work {
    #[default]
    None,
    Load(AttemptId),
    Save(AttemptId, Vec<u8>),
}

impl Keeping {
    pub fn is_busy(&self) -> bool {
        !matches!(self.work, Work::None)
    }

    /// Another daemon starts; the disk stays.
    pub fn renew(&mut self) {
        *self = Keeping {
            disk: std::mem::take(&mut self.disk),
            ..Keeping::default()
        };
    }

    /// The successor goes on, with nothing under way.
    pub fn taken_over(&mut self) {
        self.failed = None;
    }
}

/// A core that sends nothing.
#[derive(Clone, Copy, Debug)]
pub struct Hold {
    /// When the shell gives it up.
    pub until: Instant,
    /// The last attempt that had a name by then.
    pub last: u64,
}

//! What users, administrators and the end of a process do.

use std::{collections::BTreeMap, time::Duration};

use url::Url;

use super::{
    action::{Back, Change, Kill},
    issuer::Found,
    people::Tab,
    promise::{ASKED, Check, FLOOR, Invariant, Violation, fail, must},
    provider::{Fault, read_id_token, read_tag},
    setup::{
        CLIENTS, DEVICE_ONLY, EVENT, GLOBALS, ISSUERS, LOAD, MARK, NAMES, Origin, SAVE, Setup,
        host, index_of,
    },
    state::{ClientSecret, Device, Doing, Held, Loaded, Renewal, Said, Shadow, SignIn},
    world::World,
};
use crate::{
    core::{
        AttemptId, CallbackAnswer, Progress, Waiter,
        dump::{self, Saved},
        schedule::{MAX_RETRY_DELAY, STOPPED_RETRY},
    },
    oauth::authorization::{Callback, CallbackResult},
    secret::Secret,
    time::Instant,
    view::DeviceView,
};

/// How many pages a user keeps open, and how many dumps lie around.
const MAX_KEPT: usize = 6;

/// How many states of ended sign-ins are remembered at least.
const SPENT: usize = 64;

impl World {
    // ---- show and refresh ---------------------------------------------------------------------

    pub fn show(&mut self, account: usize) -> Check {
        self.people.begins = Some(account);
        let answer = self.feed(|sut, cx| sut.show(cx, NAMES[account]));
        self.begin(account);
        self.expect(Said::default())?;
        let valid = self.state.shadows[account].valid(self.now.instant);
        match answer {
            None => must(!self.present(account), Invariant::Events, "who is that?")?,
            Some(Ok(token)) => self.shown(account, &token)?,
            Some(Err(_)) if valid.is_some() => {
                return fail(Invariant::Kept, "a valid token isn't shown".into());
            }
            Some(Err(progress)) => {
                self.judge_progress(account, &progress)?;
                if let Progress::Parked(_) = progress {
                    let last = self.state.shadows[account].last_request;
                    let lately = last.is_some_and(|at| self.now.instant < at.after(ASKED));
                    let text = "who asks for a token of a stopped account is sent away";
                    must(lately, Invariant::Liveness, text)?;
                }
                if let Progress::Refreshing { .. } = progress {
                    let shadow = &mut self.state.shadows[account];
                    shadow.wanted |= shadow.renewal == Renewal::Idle;
                    self.must_have_started(account)?;
                }
            }
        }
        self.look(Doing::Other)
    }

    /// Whether `progress` says what brings a token.
    pub fn judge_progress(&mut self, account: usize, progress: &Progress) -> Check {
        let shadow = &self.state.shadows[account];
        let person = shadow.needs_person();
        let needless = "a sign-in is asked for without need";
        match progress {
            Progress::Parked(_) => {
                let idle = !matches!(shadow.renewal, Renewal::Rejected | Renewal::Probing(_));
                let stopped = shadow.can_renew() && shadow.stopped() && idle;
                must(stopped, Invariant::Liveness, "stopped without reason")
            }
            Progress::SignIn { ways, .. } => {
                must(person, Invariant::Kept, needless)?;
                let uri = ways.uri().unwrap_or_default();
                self.must_sign_in(account, uri, ways.device.as_ref())
            }
            Progress::AskingForCode => {
                must(person, Invariant::Kept, needless)?;
                self.must_ask_for_code(account)
            }
            Progress::Discovering { .. } => {
                must(person, Invariant::Kept, needless)?;
                self.must_discover(account)
            }
            Progress::Exchanging { .. } => self.must_exchange(account),
            Progress::Refreshing { .. } | Progress::Deferred { .. } => {
                let renews = shadow.can_renew();
                let refreshes = shadow.renewal != Renewal::Rejected;
                let text = "a refresh is promised that nobody does";
                must(renews && refreshes, Invariant::Liveness, text)
            }
        }
    }

    pub fn refresh(&mut self, account: usize) -> Check {
        self.people.begins = Some(account);
        let answer = self.feed(|sut, cx| sut.refresh(cx, NAMES[account]));
        self.begin(account);
        let shadow = &mut self.state.shadows[account];
        if shadow.stopped() && shadow.renewal == Renewal::Idle {
            shadow.trouble = None;
        }
        self.expect(Said::default())?;
        match answer {
            None => must(!self.present(account), Invariant::Events, "who is that?")?,
            Some(progress) => {
                self.judge_progress(account, &progress)?;
                if let Progress::Refreshing { .. } | Progress::Deferred { .. } = progress {
                    let shadow = &mut self.state.shadows[account];
                    shadow.wanted |= shadow.renewal == Renewal::Idle;
                    self.must_have_started(account)?;
                    let shadow = &self.state.shadows[account];
                    let soon = self.earliest(account, true).since(self.now.instant) <= FLOOR;
                    let waits = shadow.renewable() && !soon;
                    let deferred = matches!(progress, Progress::Deferred { .. });
                    let text = "`refresh` succeeds and does nothing, or fails and does it";
                    must(waits == deferred, Invariant::Liveness, text)?;
                }
            }
        }
        self.look(Doing::Other)
    }

    /// Whoever wants a refresh gets it at once, if that is allowed.
    fn must_have_started(&self, account: usize) -> Check {
        let shadow = &self.state.shadows[account];
        let waits = shadow.renewable() && shadow.wanted && self.state.hold.is_none();
        must(
            !waits || self.earliest(account, true) > self.now.instant,
            Invariant::Liveness,
            "a refresh that may start doesn't",
        )
    }

    pub fn must_exchange(&self, account: usize) -> Check {
        let exchanging = matches!(
            self.state.shadows[account].sign_in,
            SignIn::Exchanging { .. }
        );
        must(exchanging, Invariant::SignIn, "an exchange of nothing")
    }

    pub fn must_discover(&self, account: usize) -> Check {
        let discovers = matches!(
            self.state.shadows[account].sign_in,
            SignIn::Discovering { .. }
        );
        must(discovers, Invariant::SignIn, "nothing is discovered")
    }

    fn must_ask_for_code(&self, account: usize) -> Check {
        let asks = match &self.state.shadows[account].sign_in {
            SignIn::Pending {
                browser: None,
                device,
                ..
            } => match device {
                Device::Wanted | Device::Asking(_) => true,
                Device::None | Device::Code { .. } | Device::Over => false,
            },
            SignIn::None
            | SignIn::Discovering { .. }
            | SignIn::Pending { .. }
            | SignIn::Exchanging { .. } => false,
        };
        must(asks, Invariant::Device, "nobody asks for a code")
    }

    /// The user was told to open this URI.
    fn must_sign_in(&mut self, account: usize, uri: &str, device: Option<&DeviceView>) -> Check {
        let verification = format!("https://iss{}.example/device", self.origin(account).issuer);
        let browser = Some(uri).filter(|uri| *uri != verification);
        self.asked(account, browser, device)
    }

    /// The user was given this URI to open in a browser, and this code.
    pub fn asked(
        &mut self,
        account: usize,
        uri: Option<&str>,
        device: Option<&DeviceView>,
    ) -> Check {
        let origin = self.origin(account);
        let shown = uri.map(|uri| read_uri(uri, origin)).transpose()?;
        let SignIn::Pending { browser, .. } = &self.state.shadows[account].sign_in else {
            let text = "a sign-in is shown that isn't pending";
            return fail(Invariant::SignIn, text.into());
        };
        must(
            shown.map(|(state, _)| state) == *browser,
            Invariant::SignIn,
            "another sign-in is shown",
        )?;
        self.judge_code(account, device)
    }

    /// Takes notice of the sign-ins that have begun.
    pub fn notice_sign_ins(&mut self) -> Check {
        self.take_notices()?;
        let begins = self.people.begins.take();
        self.people.asks = begins;
        for (account, name) in NAMES.iter().enumerate().take(self.state.shadows.len()) {
            let under_way = self.sut.under_way(name);
            let waits = self
                .people
                .waits
                .values()
                .any(|wait| wait.account == account);
            let shadow = &self.state.shadows[account];
            let noticed = shadow.ending.noticed == Some(self.now.instant);
            let may_begin = begins == Some(account) || (waits && shadow.needs_person());
            if under_way.discovering {
                self.notice_discovering(account, may_begin)?;
                continue;
            }
            let Some((attempt, uri)) = under_way.pending else {
                continue;
            };
            must(
                self.is_located(account),
                Invariant::Origin,
                "a sign-in where the issuer hasn't said",
            )?;
            let mut by_itself = false;
            match &shadow.sign_in {
                SignIn::Pending { attempt: known, .. } if *known == attempt => continue,
                SignIn::None => by_itself = !may_begin && !noticed,
                SignIn::Discovering { .. } => {}
                SignIn::Pending { .. } | SignIn::Exchanging { .. } => {
                    let text = "a sign-in was given up for a new one";
                    return fail(Invariant::SignIn, text.into());
                }
            }
            must(!by_itself, Invariant::SignIn, "a sign-in began by itself")?;
            self.begin_sign_in(account, attempt, uri.as_deref())?;
        }
        Ok(())
    }

    fn begin_sign_in(&mut self, account: usize, attempt: AttemptId, uri: Option<&str>) -> Check {
        let origin = self.origin(account);
        let read = uri.map(|uri| read_uri(uri, origin)).transpose()?;
        must(
            read.is_some() == (origin.client != DEVICE_ONLY),
            Invariant::SignIn,
            "a sign-in by another way than configured",
        )?;
        let browser = read.as_ref().map(|(state, _)| state.clone());
        if let Some((state, challenge)) = read {
            self.people.tabs.push_front(Tab {
                origin,
                state,
                challenge,
                code: None,
            });
            self.people.tabs.truncate(MAX_KEPT);
        }
        self.state.shadows[account].ending.begin(self.now.instant);
        self.state.shadows[account].sign_in = SignIn::Pending {
            attempt,
            browser,
            device: match self.setup.accounts[account].has_device() {
                true => Device::Over,
                false => Device::None,
            },
            since: self.now.instant,
            reminded: None,
            told: None,
        };
        Ok(())
    }

    // ---- browsers -----------------------------------------------------------------------------

    pub fn browser(&mut self, pick: usize, back: Back) -> Check {
        let count = self.people.tabs.len();
        if count == 0 {
            return Ok(());
        }
        let tab = &mut self.people.tabs[pick % count];
        let known = tab.code.filter(|_| back == Back::Again);
        let (origin, challenge) = (tab.origin, tab.challenge.clone());
        let code = known.unwrap_or_else(|| self.provider.authorize(origin, &challenge));
        let tab = &mut self.people.tabs[pick % count];
        tab.code = Some(code);
        if let Back::Bare | Back::Named = back {
            let state = tab.state.clone();
            return self.paste(&state, code, back == Back::Named);
        }
        let state = match back {
            Back::Forged => "f".repeat(64),
            _ => tab.state.clone(),
        };
        let waiter = self.people.waiter();
        let callback = Callback {
            state: Secret::new(state.clone()),
            iss: match back {
                Back::OtherIssuer => Some("https://evil.example".into()),
                _ => (code % 2 == 0).then(|| format!("https://iss{}.example", origin.issuer)),
            },
            result: match back {
                Back::Refused => CallbackResult::Error {
                    error: "access_denied".into(),
                    description: None,
                    uri: None,
                },
                _ => CallbackResult::Code(Secret::new(self.provider.text(code))),
            },
        };
        let path = if back == Back::Elsewhere { "evil" } else { "" };
        let at = match origin.ends_elsewhere() {
            true => format!("https://login.example/{path}"),
            false => format!("http://localhost:1/{path}"),
        };
        let at = Url::parse(&at).expect("an address");
        let answer = self.feed(|sut, cx| sut.callback(cx, &at, callback, waiter));
        let said = self.called_back(&state, back, code, waiter, &answer)?;
        self.expect(said)?;
        self.look(Doing::Other)
    }

    /// The user copies the code that the last page of this sign-in shows.
    fn paste(&mut self, state: &str, code: usize, named: bool) -> Check {
        let pending = |account: &usize| {
            let sign_in = &self.state.shadows[*account].sign_in;
            matches!(
                sign_in,
                SignIn::Pending {
                    browser: Some(_),
                    ..
                }
            )
        };
        let accounts = 0..self.state.shadows.len();
        let open = accounts.filter(pending);
        let ours = |account: &usize| self.state.shadows[*account].sign_in.waits_for(state);
        let Some(account) = open.clone().find(ours) else {
            return Ok(());
        };
        let open: Vec<_> = open
            .filter(|it| self.origin(*it).ends_elsewhere())
            .collect();
        let clear = match named {
            true => open.contains(&account),
            false => open == [account],
        };
        if !clear && !named && open.len() == 1 {
            // It can't be known that it is for another one.
            return Ok(());
        }
        let waiter = self.people.waiter();
        let text = Secret::new(self.provider.text(code));
        let name = named.then_some(NAMES[account]);
        let answer = self.feed(|sut, cx| sut.pasted_code(cx, name, text, waiter));
        must(
            answer.is_some() == clear,
            Invariant::Pasting,
            "a code is taken that may be another sign-in's, or isn't taken",
        )?;
        let said = answer.map(|answer| self.called_back(state, Back::Code, code, waiter, &answer));
        self.expect(said.transpose()?.unwrap_or_default())?;
        self.look(Doing::Other)
    }

    fn called_back(
        &mut self,
        state: &str,
        back: Back,
        code: usize,
        waiter: Waiter,
        answer: &CallbackAnswer,
    ) -> Result<Said, Violation> {
        let spent = self.state.spent.iter().find(|(spent, _)| spent == state);
        if let Some((_, ok)) = spent {
            let already =
                matches!(answer, CallbackAnswer::Over { result, .. } if result.is_ok() == *ok);
            must(already, Invariant::SignIn, "a state was good twice")?;
            return Ok(Said::default());
        }
        let now = self.now.instant;
        let waits = |shadow: &Shadow| shadow.sign_in.waits_for(state);
        let Some(account) = self.state.shadows.iter().position(waits) else {
            let stale = matches!(answer, CallbackAnswer::Stale);
            must(stale, Invariant::SignIn, "a stale state was taken")?;
            return Ok(Said::default());
        };
        if matches!(back, Back::OtherIssuer | Back::Elsewhere) {
            let other = match answer {
                CallbackAnswer::OtherProvider { account: name } => **name == *NAMES[account],
                _ => false,
            };
            must(
                other,
                Invariant::Origin,
                "another provider's response was taken",
            )?;
            return Ok(Said::default());
        }
        let mut said = Said::default();
        let pending = matches!(self.state.shadows[account].sign_in, SignIn::Pending { .. });
        if pending && back == Back::Refused {
            self.pending_ends(account, false, &mut said);
            said.errors.push(account);
            let refused = match answer {
                CallbackAnswer::Over {
                    account: name,
                    result: Err(_),
                } => **name == *NAMES[account],
                _ => false,
            };
            must(refused, Invariant::SignIn, "a refusal was lost")?;
            return Ok(said);
        }
        if pending {
            said.notify_ends = 1;
            self.code_settles(account, &mut said);
            self.state.shadows[account].sign_in = SignIn::Exchanging {
                state: state.into(),
                since: now,
                code,
                attempt: None,
                last: None,
                told: false,
            };
        }
        self.state.shadows[account].watchers.push(waiter);
        let wait =
            matches!(answer, CallbackAnswer::Wait { account: name } if **name == *NAMES[account]);
        must(wait, Invariant::SignIn, "a good response wasn't taken")?;
        Ok(said)
    }

    pub fn spend(&mut self, state: String, ok: bool) {
        self.state.spent.push_front((state, ok));
        self.state.spent.truncate(SPENT);
    }

    // ---- the end of tokens --------------------------------------------------------------------

    pub fn revoke(&mut self, account: usize, tell: bool) -> Check {
        let waiter = self.people.waiter();
        let told = self.feed(|sut, cx| sut.revoke(cx, NAMES[account], tell.then_some(waiter)));
        let text = "who is that?";
        must(
            told.is_some() == self.present(account),
            Invariant::Events,
            text,
        )?;
        let valid = self.state.shadows[account].valid(self.now.instant);
        let tags: Vec<_> = self.state.shadows[account]
            .refresh_token()
            .into_iter()
            .chain(valid)
            .collect();
        // While the endpoints aren't known, there may be one for it.
        let can = self.setup.accounts[account].can_revoke() || !self.is_located(account);
        let tells = tell && !tags.is_empty() && can;
        must(
            !self.present(account) || told == Some(tells),
            Invariant::Revoked,
            "whether the provider is told isn't true",
        )?;
        if tells && self.present(account) {
            self.begin_revocation(account, waiter, tags);
        }
        let mut said = Said::default();
        let before = self.state.shadows[account].clone();
        self.ends(account, "token_revoked", &mut said);
        let shadow = &mut self.state.shadows[account];
        (shadow.secret, shadow.last_code) = (before.secret, before.last_code);
        (shadow.pause, shadow.works) = (before.pause, before.works);
        self.expect(said)?;
        self.look(Doing::Ending)
    }

    /// Everything that `account` has is over.
    pub fn ends(&mut self, account: usize, event: &'static str, said: &mut Said) {
        let shadow = self.state.shadows[account].clone();
        if shadow.held.is_some() && self.setup.has(EVENT) {
            said.announced.push((account, event.to_owned()));
        }
        match shadow.sign_in {
            SignIn::None | SignIn::Discovering { .. } => {}
            SignIn::Pending { .. } => said.notify_ends += 1,
            SignIn::Exchanging { state, .. } => self.spend(state, false),
        }
        self.code_settles(account, said);
        self.watchers_settle(account, false, said);
        self.state.shadows[account] = Shadow::new();
        self.state.shadows[account].last_request = shadow.last_request;
        self.notice_unattended();
    }

    pub fn reload(&mut self, account: usize, change: Change) -> Check {
        let before = self.setup.clone();
        let one = &mut self.setup.accounts[account];
        match change {
            Change::Nothing => {}
            Change::Policy(policy) => one.policy = policy,
            Change::Global(global) => self.setup.global = global % GLOBALS,
            Change::File(file) => one.file = file,
            Change::ClientSecret => one.client_secret = one.client_secret.wrapping_add(1),
            Change::Issuer(issuer) => one.origin.issuer = issuer % ISSUERS,
            Change::ClientId(client) => one.origin.client = client % CLIENTS,
            Change::Presence => one.present = !one.present,
            Change::Device => one.device = !one.device,
            Change::Revocation => one.revocation = !one.revocation,
        }
        if self.setup.accounts.iter().all(|one| !one.present) {
            // A config without accounts is none.
            self.setup = before.clone();
        }
        if self.setup.has(SAVE) != (before.global & SAVE != 0) {
            self.saves_elsewhere();
        }
        self.notice_unattended();
        let config = self.config();
        self.feed(|sut, cx| sut.reload(cx, config));
        let mut said = Said::default();
        for account in self.in_order_of_ending(&before) {
            let (old, new) = (before.accounts[account], self.setup.accounts[account]);
            if !old.present {
                continue;
            }
            if new.present && new.origin == old.origin {
                let shadow = &mut self.state.shadows[account];
                if shadow.renewal == Renewal::Idle && shadow.trouble.is_some() {
                    shadow.wanted |= shadow.stopped() || shadow.valid(self.now.instant).is_none();
                    if shadow.stopped() {
                        shadow.trouble = None;
                    }
                }
                if new.client_secret != old.client_secret {
                    shadow.works = false;
                    let waits = matches!(shadow.secret, ClientSecret::Fetching(_));
                    shadow.secret = ClientSecret::Unknown;
                    if waits && !new.asks_for_secret() {
                        self.code_can_be_asked_for(account, &mut said);
                    }
                }
                continue;
            }
            self.ends(account, "token_invalidated", &mut said);
            if self.people.waits.values().any(|it| it.account == account) {
                // They wait for its successor.
                self.begin(account);
            }
            if !new.present {
                self.state.shadows[account].last_request = None;
            }
        }
        self.expect(said)?;
        self.look(Doing::Ending)
    }

    /// Accounts that stay come first, in the order of the config; then those that go, by name.
    fn in_order_of_ending(&self, before: &Setup) -> Vec<usize> {
        let mut order: Vec<usize> = (0..before.accounts.len()).collect();
        order.sort_by_key(|account| match self.present(*account) {
            true => (0, *account, ""),
            false => (1, 0, NAMES[*account]),
        });
        order
    }

    // ---- dumps --------------------------------------------------------------------------------

    pub fn dump(&mut self) -> Check {
        let bytes = self.feed(|sut, cx| sut.dump(cx));
        self.must_tell_lives(&bytes)?;
        self.people.dumps.push_front(bytes);
        self.people.dumps.truncate(MAX_KEPT);
        self.people.dumped.push_front(self.state.held());
        self.people.dumped.truncate(MAX_KEPT);
        self.look(Doing::Other)
    }

    pub fn restore(&mut self, pick: usize) -> Check {
        let count = self.people.dumps.len();
        if count == 0 {
            return Ok(());
        }
        let Ok(dump) = dump::open(&self.people.dumps[pick % count]) else {
            return fail(Invariant::Restore, "a dump doesn't open".into());
        };
        let (mut taken, mut said) = (0, Said::default());
        for saved in &dump.grants {
            taken += usize::from(self.must_take(saved, &mut said)?);
        }
        let told = self.feed(|sut, cx| sut.restore(cx, dump));
        must(
            told == taken,
            Invariant::Restore,
            "a dump's tokens weren't taken, or too many",
        )?;
        self.expect(said)?;
        self.look(Doing::Restoring)
    }

    /// Whether the core must take `saved`; if so it is held from now on.
    pub fn must_take(&mut self, saved: &Saved, said: &mut Said) -> Result<bool, Violation> {
        let account = index_of(&saved.account)?;
        let access = saved
            .access
            .as_ref()
            .and_then(|access| read_tag(access.token.expose()));
        let refresh = saved
            .refresh_token
            .as_ref()
            .and_then(|token| read_tag(token.expose()));
        let origin = self.origin_of(access.or(refresh));
        let ours = self.origin(account).registered();
        if !self.present(account) || origin.map(Origin::registered) != Some(ours) {
            return Ok(false);
        }
        let now = self.now;
        let asked = now.instant_at(saved.obtained);
        let shadow = &mut self.state.shadows[account];
        let live = shadow.valid(now.instant).is_some()
            || (shadow.can_renew() && shadow.renewal != Renewal::Rejected);
        let ahead = asked > now.instant && live;
        if (shadow.held.as_ref()).is_some_and(|held| held.obtained >= asked || ahead) {
            return Ok(false);
        }
        let old = shadow.refresh_token();
        let life = saved.access.as_ref().and_then(|access| access.expires);
        let before = shadow.held.clone();
        shadow.succeed(refresh);
        shadow.held = Some(Held {
            access: access.map(|tag| (tag, life.map(|_| Instant::from_millis(u64::MAX)))),
            refresh: refresh.or(old),
            obtained: now.instant,
            loaded: Some(Loaded {
                obtained: saved.obtained,
                expires: life,
                ends: saved.refresh_ends,
            }),
            ends: before.filter(|_| refresh.is_none()).and_then(|it| it.ends),
            usable: None,
            other_user: saved.other_user.is_some(),
            id_token: (saved.access.as_ref())
                .and_then(|access| read_id_token(access.id_token.as_ref()?.expose())),
        });
        shadow.tell_times(now);
        (shadow.ending.began, shadow.ending.noticed) = (None, None);
        shadow.begun |= shadow.unattended;
        // The clock is wrong, so nobody knows how old they are.
        let renews = shadow.can_renew() && shadow.renewal == Renewal::Idle;
        shadow.wanted |= asked > now.instant && renews;
        self.waiting_ask(account);
        let shadow = &self.state.shadows[account];
        if shadow.unattended && shadow.valid(now.instant).is_some() {
            self.watchers_settle(account, true, said);
        }
        self.keeps_from_strangers(account, said);
        Ok(true)
    }

    fn origin_of(&self, tag: Option<usize>) -> Option<Origin> {
        Some(self.provider.get(tag?)?.origin)
    }

    pub fn kill(&mut self, kill: Kill) -> Check {
        if kill == Kill::Handover {
            self.dump()?;
        }
        let knew = NAMES.map(|name| !self.sut.lives(name).is_empty());
        let before = self.state.shadows.clone();
        // Some requests are with the issuer already.
        for index in 0..self.state.flights.len() {
            if self.state.flights[index].attempt.0 % 2 == 0 {
                self.arrive(index, Some(3600))?;
            }
        }
        if kill == Kill::Shutdown {
            return self.shut_down();
        }
        let in_step = !self.setup.has(LOAD) || self.is_saved();
        self.renew();
        let how = self.steps as u8;
        self.start(if kill == Kill::Handover { 0 } else { how })?;
        match kill {
            Kill::Bare | Kill::Shutdown => self.look(Doing::Ending),
            Kill::Crash(pick) => self.restore(pick.into()),
            Kill::Handover => {
                self.restore(0)?;
                let mut knows = knew.iter().zip(NAMES.map(|name| self.sut.lives(name)));
                let stays = knows.all(|(knew, lives)| !knew || !lives.is_empty());
                must(stays, Invariant::Ending, "a dump restored unlearns")?;
                let dumped = |it: &Shadow| it.held.as_ref().map(|held| held.dumped(self.now));
                let same = |(old, new): (&Shadow, &Shadow)| dumped(old) == dumped(new);
                must(
                    !in_step || before.iter().zip(&self.state.shadows).all(same),
                    Invariant::Restore,
                    "a dump restored isn't what was dumped",
                )
            }
        }
    }

    // ---- calm ---------------------------------------------------------------------------------

    /// Faults stop. Within one retry interval, whoever can be valid must be.
    pub fn calm(&mut self) -> Check {
        self.release()?;
        let now = self.now.instant;
        let retry = |account: usize| self.setup.policy(account).refresh_retry;
        let retries = (0..self.state.shadows.len()).map(retry);
        let longest = retries.fold(MAX_RETRY_DELAY, Duration::max);
        let shadows = self.state.shadows.iter();
        let stops = shadows.clone().any(Shadow::stopped);
        let busy = self
            .state
            .pauses
            .iter()
            .flatten()
            .flat_map(BTreeMap::values);
        let pauses = busy.chain(shadows.filter_map(|shadow| shadow.pause.as_ref()));
        let pauses = pauses.map(|until| until.since(now));
        let pause = pauses.max().unwrap_or_default();
        let stopped = if stops { STOPPED_RETRY } else { Duration::ZERO };
        let end = now.after(longest.max(pause).max(stopped) + FLOOR);
        self.all_answered()?;
        while let Some(at) = self.sut.poll_timeout(self.now).filter(|at| *at <= end) {
            self.forward(at.since(self.now.instant));
            self.tick()?;
            self.all_answered()?;
        }
        self.forward(end.since(self.now.instant));
        self.tick()?;
        self.all_answered()?;
        for account in 0..self.state.shadows.len() {
            let shadow = &self.state.shadows[account];
            must(
                !matches!(shadow.sign_in, SignIn::Exchanging { .. }),
                Invariant::SignIn,
                "an exchange has no end",
            )?;
            let token = shadow.refresh_token().filter(|_| shadow.renewable());
            let able = token.is_some_and(|token| self.provider.would_refresh(token))
                || (shadow.begun && shadow.renewable());
            must(
                !able || shadow.valid(self.now.instant).is_some(),
                Invariant::Liveness,
                "a renewable account isn't valid after a calm",
            )?;
        }
        Ok(())
    }

    fn all_answered(&mut self) -> Check {
        for at in 0..self.people.codes.len() {
            // Nobody is left to poll for an answer.
            self.enter(at, self.steps % 2 == 0)?;
        }
        loop {
            if self.provider.asks_issuers() {
                self.found(0, Found::Honest)?;
            } else if !self.state.flights.is_empty() {
                self.reply(0, Fault::Honest, Some(7200))?;
            } else if !self.state.probes.is_empty() {
                self.probe(0, true)?;
            } else if self.state.keeping.is_busy() {
                self.kept(0)?;
            } else if !self.state.fetches.is_empty() {
                self.secret(0, true)?;
            } else {
                return Ok(());
            }
        }
    }
}

/// The state and code_challenge of an authorization request that must be `origin`'s.
fn read_uri(uri: &str, origin: Origin) -> Result<(String, String), Violation> {
    let prefix = format!("https://{}/auth?", host(origin.issuer, origin.place));
    let client = format!("client_id=client-{}-{}", origin.account, origin.client);
    let query = uri.strip_prefix(&prefix).unwrap_or_default();
    let ours = query.split('&').any(|pair| pair == client);
    must(ours, Invariant::Origin, "a sign-in at another issuer")?;
    let field = |name: &str| {
        let value = query.split('&').find_map(|pair| pair.strip_prefix(name));
        value.unwrap_or_default().to_owned()
    };
    must(!uri.contains(MARK), Invariant::Secrecy, "a secret in a URI")?;
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let redirect = pairs.find_map(|(name, value)| (name == "redirect_uri").then_some(value));
    let text = "a redirect that isn't as the config has it";
    let same = redirect.is_some_and(|redirect| *redirect == *origin.redirect_uri());
    must(same, Invariant::Pasting, text)?;
    Ok((field("state="), field("code_challenge=")))
}

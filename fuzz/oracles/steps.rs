//! Arbitrary events for the core, two bytes each: what is done, and to what. A small world of
//! providers remembers every token and what may become of it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use pizauth::{
    config::{self, Config},
    core::{
        AttemptId, Core, Cx, Effect, Entropy, Ports, Progress, ShowAnswer, ShowRequest, Waiter,
        dump, hook::Hook,
    },
    hook::HookKind,
    oauth::{
        authorization,
        token::{Outcome, Reply},
    },
    time::{Instant, Now, Wall},
};

/// How close two token requests of one account may come, unless somebody signed in between.
const MIN_GAP: Duration = Duration::from_secs(10);

/// How many events one input has: the core's states are reached in a dozen.
const MAX_STEPS: usize = 400;

/// Everybody who may have an account; `a` has another registration in the second config, `c` is
/// only in the third.
const NAMES: [&str; 4] = ["a", "b", "c", "nobody"];

const CONFIGS: [(&str, &[(&str, &str)]); 3] = [
    (
        "auth_notify_cmd = \"n\"; token_event_cmd = \"t\";",
        &[("a", "a0.example"), ("b", "b.example")],
    ),
    (
        "transient_error_if_cmd = \"p\"; refresh_retry = 1s; error_notify_cmd = \"e\";",
        &[("a", "a1.example"), ("b", "b.example")],
    ),
    (
        "refresh_at_least = 1s; refresh_before_expiry = 1d;",
        &[("b", "b.example"), ("c", "c.example")],
    ),
];

/// How long the provider says that a token lives, in the words of its reply.
const LIVES: [(&str, Option<u64>); 5] = [
    ("", None),
    (",\"expires_in\":1", Some(1)),
    (",\"expires_in\":\"60\"", Some(60)),
    (",\"expires_in\":3599.0", Some(3599)),
    (",\"expires_in\":100000000", Some(100_000_000)),
];

const REFUSALS: [(u16, &str); 6] = [
    (
        400,
        r#"{"error":"invalid_grant","error_description":"over"}"#,
    ),
    (401, r#"{"error":"invalid_client"}"#),
    (503, "<html>portal</html>"),
    (429, r#"{"error":"slow_down"}"#),
    (200, r#"{"access_token":"two words"}"#),
    (302, ""),
];

/// Seconds that pass.
const SPANS: [u64; 8] = [0, 1, 9, 60, 600, 3_600, 86_400, 40_000_000];

/// Whatever happens in whatever order: no expired, revoked or foreign token is shown, nothing is
/// sent to another endpoint than its own, no code twice, no requests in a tight loop, no secret in
/// anything that is written down.
pub fn step_sequence(data: &[u8]) {
    let mut world = World::new();
    for step in data.chunks_exact(2).take(MAX_STEPS) {
        if let &[what, which] = step {
            world.step(what, usize::from(which));
            world.settle();
        }
    }
}

struct Counter(u64);

impl Entropy for Counter {
    fn bytes32(&mut self) -> [u8; 32] {
        self.0 = self.0.wrapping_add(1);
        let mut bytes = [0; 32];
        for (byte, value) in bytes.iter_mut().zip(self.0.to_le_bytes()) {
            *byte = value;
        }
        bytes
    }
}

/// An access token that a provider has given.
struct Minted {
    account: Arc<str>,
    host: String,
    expires: Option<Instant>,
    /// It was revoked, or the registration that it was issued under is gone.
    over: bool,
}

/// A request that waits for its outcome.
struct Asked {
    account: Arc<str>,
    attempt: AttemptId,
    sent: Instant,
    host: String,
    code: Option<String>,
    over: bool,
}

struct World {
    core: Core,
    entropy: Counter,
    now: Now,
    asked: Vec<Asked>,
    probes: Vec<(Arc<str>, AttemptId)>,
    uris: Vec<String>,
    minted: HashMap<String, Minted>,
    /// Codes that a provider may have seen.
    spent: HashSet<String>,
    last_request: HashMap<Arc<str>, Instant>,
    /// Each with the tokens that weren't over when it was made.
    dumps: Vec<(Vec<u8>, Vec<String>)>,
    count: usize,
}

fn config(which: usize) -> Config {
    let (options, accounts) = CONFIGS[which % CONFIGS.len()];
    let mut text = options.to_owned();
    for (name, host) in accounts {
        text.push_str(&format!(
            "account \"{name}\" {{ auth_uri = \"https://{host}/auth\"; \
             token_uri = \"https://{host}/token\"; client_id = \"i\"; scopes = [\"mail\"]; }}"
        ));
    }
    config::parse("steps", &text).unwrap()
}

fn pick<T>(list: &[T], which: usize) -> Option<&T> {
    list.get(which.checked_rem(list.len())?)
}

impl World {
    fn new() -> Self {
        let ports = Ports {
            http: Some(4_000),
            https: None,
        };
        World {
            core: Core::new(config(0), ports),
            entropy: Counter(0),
            now: Now {
                // Well after the clock's zero, as the daemon's is.
                instant: Instant::from_millis(400_000_000_000),
                wall: Wall::from_millis(1_700_000_000_000),
            },
            asked: Vec::new(),
            probes: Vec::new(),
            uris: Vec::new(),
            minted: HashMap::new(),
            spent: HashSet::new(),
            last_request: HashMap::new(),
            dumps: Vec::new(),
            count: 0,
        }
    }

    fn with<T>(&mut self, event: impl FnOnce(&mut Core, &mut Cx) -> T) -> T {
        let mut cx = Cx {
            now: self.now,
            entropy: &mut self.entropy,
        };
        event(&mut self.core, &mut cx)
    }

    fn step(&mut self, what: u8, which: usize) {
        let name = NAMES[which % NAMES.len()];
        match what % 12 {
            0 => self.show(name),
            1 => match self.with(|core, cx| core.on(cx, name, |it, env| it.refresh(env))) {
                Some(Progress::SignIn { ways, .. }) => self.uris.extend(ways.browser_uri),
                Some(
                    Progress::Discovering { .. }
                    | Progress::Refreshing { .. }
                    | Progress::Deferred { .. }
                    | Progress::AskingForCode
                    | Progress::Exchanging { .. }
                    | Progress::Parked(_),
                )
                | None => {}
            },
            2 => self.revoke(name),
            3 => self.pass(Duration::from_secs(SPANS[which % SPANS.len()])),
            4 => {
                if let Some(at) = self.core.poll_timeout() {
                    self.pass(at.since(self.now.instant));
                }
                self.tick();
            }
            5 => self.callback(which, true),
            6 => self.callback(which, false),
            7 => self.grant(which),
            8 => self.refuse(which),
            9 => {
                if let Some((account, attempt)) = self.take_probe(which) {
                    self.with(|core, cx| {
                        core.on(cx, &account, |it, env| {
                            it.probe_outcome(env, attempt, which & 1 == 0)
                        })
                    });
                }
            }
            10 => self.reload(which),
            _ => self.carry(which),
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now = Now {
            instant: self.now.instant.after(span),
            wall: self.now.wall.after(span),
        };
    }

    fn tick(&mut self) {
        self.with(|core, cx| core.tick(cx));
        let now = self.now.instant;
        let next = self.core.poll_timeout();
        assert!(next.is_none_or(|at| at > now), "the timer would spin");
    }

    fn host(&self, name: &str) -> Option<String> {
        let account = self
            .core
            .config()
            .accounts
            .iter()
            .find(|a| *a.name == *name)?;
        let uri = account.registration.token_uri.as_ref()?;
        uri.host_str().map(str::to_owned)
    }

    fn show(&mut self, name: &str) {
        match self.with(|core, cx| core.ask(cx, name, ShowRequest::default())) {
            Some(ShowAnswer::Token(handed)) => {
                let known = self.minted.get(handed.token.expose());
                let minted = known.expect("a token that nobody gave");
                assert_eq!(&*minted.account, name, "another account's token");
                assert_eq!(Some(&minted.host), self.host(name).as_ref());
                assert!(!minted.over, "a token that was ended");
                assert!(
                    minted.expires.is_none_or(|at| self.now.instant < at),
                    "expired"
                );
            }
            Some(ShowAnswer::Not {
                progress: Progress::SignIn { ways, .. },
                ..
            }) => self.uris.extend(ways.browser_uri),
            Some(_) | None => {}
        }
    }

    fn revoke(&mut self, name: &str) {
        self.with(|core, cx| core.on(cx, name, |it, env| it.revoke(env, None)));
        self.end(|account, _| account == name);
    }

    /// Ends the tokens, and those to come, of accounts and hosts.
    fn end(&mut self, whose: impl Fn(&str, &str) -> bool) {
        for minted in self.minted.values_mut() {
            minted.over |= whose(&minted.account, &minted.host);
        }
        for asked in &mut self.asked {
            asked.over |= whose(&asked.account, &asked.host);
        }
    }

    fn callback(&mut self, which: usize, agrees: bool) {
        let Some(uri) = pick(&self.uris, which) else {
            return;
        };
        let state = uri
            .split('&')
            .find_map(|field| field.strip_prefix("state="));
        let state = state.expect("a state in the URI").to_owned();
        let host = uri
            .strip_prefix("https://")
            .and_then(|uri| uri.split('/').next());
        let host = host.expect("a host in the URI").to_owned();
        self.count += 1;
        let result = match agrees {
            true => format!("code=CODE_{host}_{}", self.count),
            false => "error=access_denied".into(),
        };
        let callback = authorization::parse_callback(&format!("state={state}&{result}"));
        let callback = callback.expect("an authorization response");
        let waiter = Waiter(u64::try_from(which).unwrap_or(0));
        let at = url::Url::parse("http://localhost/").expect("an address");
        let _ = self.with(|core, cx| core.callback(cx, &at, callback, waiter));
    }

    fn take_asked(&mut self, which: usize) -> Option<Asked> {
        let at = which.checked_rem(self.asked.len())?;
        Some(self.asked.remove(at))
    }

    fn take_probe(&mut self, which: usize) -> Option<(Arc<str>, AttemptId)> {
        let at = which.checked_rem(self.probes.len())?;
        Some(self.probes.remove(at))
    }

    fn answer(&mut self, asked: &Asked, outcome: &Outcome) {
        if let (Some(code), false) = (&asked.code, matches!(outcome, Outcome::NotSent(_))) {
            self.spent.insert(code.clone());
        }
        let (account, attempt, sent) = (asked.account.clone(), asked.attempt, asked.sent);
        self.with(|core, cx| {
            core.on(cx, &account, |it, env| {
                it.token_outcome(env, attempt, sent, outcome)
            })
        });
    }

    fn grant(&mut self, which: usize) {
        let Some(asked) = self.take_asked(which) else {
            return;
        };
        self.count += 1;
        let (host, count) = (&asked.host, self.count);
        let (said, secs) = LIVES[which % LIVES.len()];
        let access = format!("ACCESS_{host}_{count}");
        let refresh = match which & 1 {
            0 => format!(",\"refresh_token\":\"REFRESH_{host}_{count}\""),
            _ => String::new(),
        };
        let body =
            format!("{{\"token_type\":\"Bearer\",\"access_token\":\"{access}\"{said}{refresh}}}");
        self.minted.insert(
            access,
            Minted {
                account: asked.account.clone(),
                host: host.clone(),
                expires: secs.map(|secs| asked.sent.after(Duration::from_secs(secs))),
                over: asked.over,
            },
        );
        self.answer(&asked, &reply(200, None, &body));
    }

    fn refuse(&mut self, which: usize) {
        let Some(asked) = self.take_asked(which) else {
            return;
        };
        let outcome = match (which % 8, REFUSALS.get(which % 8)) {
            (_, Some((status, body))) => {
                let retry_after = (which & 8 != 0).then(|| "120".to_owned());
                reply(*status, retry_after, body)
            }
            (6, None) => Outcome::NotSent("no route".into()),
            (_, None) => Outcome::Lost("reset".into()),
        };
        self.answer(&asked, &outcome);
    }

    fn reload(&mut self, which: usize) {
        let before: HashMap<Arc<str>, Option<String>> = self.hosts();
        self.with(|core, cx| core.reload(cx, config(which)));
        let after = self.hosts();
        let changed = |name: &str| before.get(name) != after.get(name);
        self.end(|account, _| changed(account));
        self.last_request.retain(|account, _| !changed(account));
    }

    fn hosts(&self) -> HashMap<Arc<str>, Option<String>> {
        let accounts = self.core.config().accounts.iter();
        accounts
            .map(|account| (account.name.clone(), self.host(&account.name)))
            .collect()
    }

    /// A dump now, or an older one restored.
    fn carry(&mut self, which: usize) {
        if which & 1 == 0 {
            let bytes =
                self.with(|core, cx| dump::seal(&core.unsealed_dump(cx.now), cx.entropy.bytes32()));
            let live = self.minted.iter().filter(|(_, minted)| !minted.over);
            let live = live.map(|(token, _)| token.clone()).collect();
            self.dumps.push((bytes, live));
            return;
        }
        let Some((bytes, live)) = pick(&self.dumps, which >> 1).cloned() else {
            return;
        };
        let dump = dump::open(&bytes).expect("our own dump");
        self.with(|core, cx| core.restore(cx, dump));
        for token in live {
            if let Some(minted) = self.minted.get_mut(&token) {
                minted.over = false;
            }
        }
    }

    /// Has done what the core wants done.
    fn settle(&mut self) {
        while let Some(effect) = self.core.next_effect() {
            let written = format!("{effect:?}");
            for secret in ["ACCESS_", "REFRESH_", "CODE_"] {
                assert!(!written.contains(secret), "{written}");
            }
            match effect {
                Effect::Request {
                    account,
                    attempt,
                    request,
                } => self.ask(account, attempt, &request),
                Effect::Hook(Hook {
                    kind: HookKind::Probe,
                    account,
                    attempt: Some(attempt),
                    ..
                }) => self.probes.push((account, attempt)),
                _ => {}
            }
        }
        let said = format!("{:?}", self.core.status(self.now));
        assert!(!said.contains("ACCESS_") && !said.contains("REFRESH_"));
    }

    fn ask(
        &mut self,
        account: Arc<str>,
        attempt: AttemptId,
        request: &pizauth::oauth::token::Request,
    ) {
        let form = request.form.expose();
        let host = request.endpoint.host_str().unwrap_or_default().to_owned();
        let field = |name: &str| {
            let mut fields = form.split('&');
            fields
                .find_map(|field| field.strip_prefix(name))
                .map(str::to_owned)
        };
        let code = field("code=");
        let secret = code.clone().or(field("refresh_token="));
        let secret = secret.expect("a code or a refresh token");
        let owner = secret.split('_').nth(1).unwrap_or_default();
        assert_eq!(owner, host, "a secret on its way to another endpoint");
        assert_eq!(Some(&host), self.host(&account).as_ref());
        let now = self.now.instant;
        match &code {
            Some(code) => assert!(!self.spent.contains(code), "a code twice"),
            None => {
                let last = self.last_request.get(&account);
                assert!(
                    last.is_none_or(|last| now.since(*last) >= MIN_GAP),
                    "too soon"
                );
            }
        }
        self.last_request.insert(account.clone(), now);
        self.asked.push(Asked {
            account,
            attempt,
            sent: now,
            host,
            code,
            over: false,
        });
    }
}

fn reply(status: u16, retry_after: Option<String>, body: &str) -> Outcome {
    Outcome::Reply(Reply {
        status,
        retry_after,
        date: None,
        location: None,
        body: pizauth::secret::SecretBytes::new(body.as_bytes().to_vec()),
        ..Reply::default()
    })
}

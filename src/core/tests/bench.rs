//! A core on a bench: a clock and random numbers of the test's own, and everything that comes out
//! of it as lines of text, so that a test compares all of it and nothing goes unseen.

use std::time::Duration;

use url::Url;

use crate::{
    config,
    core::{
        AttemptId, CallbackAnswer, Core, Cx, Effect, Entropy, Ports, Progress, ShowAnswer,
        ShowRequest, Waiter,
        dump::{self, Dump, Saved, SignIns},
        hook::{Hook, HookInput},
    },
    hook::HookKind,
    oauth::{
        authorization::{Callback, CallbackResult},
        token::{Outcome, Refusal, Reply, Request},
    },
    secret::Secret,
    time::{Instant, Now, Wall},
    view::{AccountView, RenewalView, SignInView},
};

/// The global options of [`config`].
pub const HOOKS: &str = r#"
    auth_notify_cmd = "notify"; error_notify_cmd = "error"; token_event_cmd = "event";
"#;

/// A config of `accounts`, each a name and the host of its issuer.
pub fn config(globals: &str, accounts: &[(&str, &str)]) -> config::Config {
    let account = |(name, host): &(&str, &str)| {
        format!(
            r#"account "{name}" {{ auth_uri = "https://{host}/auth"; client_id = "id";
                token_uri = "https://{host}/token"; scopes = ["mail"]; }}"#
        )
    };
    let accounts: String = accounts.iter().map(account).collect();
    config::parse("test.conf", &format!("{globals}{accounts}")).expect("a config")
}

/// Random numbers that count; the first byte makes the jitter.
#[derive(Clone)]
struct Counting {
    count: u8,
    jitter: u8,
}

impl Entropy for Counting {
    fn bytes32(&mut self) -> [u8; 32] {
        self.count = self.count.wrapping_add(1);
        let mut bytes = [0; 32];
        (bytes[0], bytes[31]) = (self.jitter, self.count);
        bytes
    }
}

#[derive(Clone)]
pub struct Bench {
    pub core: Core,
    pub now: Now,
    entropy: Counting,
    /// What the last request, the last probe and the last request for a document were named.
    pub attempt: AttemptId,
    pub probe: AttemptId,
    pub discovery: AttemptId,
    /// The state of the last sign-in.
    pub state: String,
    /// When the last request was made.
    pub sent: Instant,
    /// Whether the log is among the effects.
    pub log: bool,
}

impl Bench {
    pub fn new(config: config::Config) -> Self {
        let ports = Ports {
            http: Some(14204),
            https: None,
        };
        Bench {
            core: Core::new(config, ports),
            now: Now {
                instant: Instant::from_millis(1_000_000_000),
                wall: Wall::from_millis(1_750_000_000_000),
            },
            entropy: Counting {
                count: 0,
                jitter: 0,
            },
            attempt: AttemptId(0),
            probe: AttemptId(0),
            discovery: AttemptId(0),
            state: String::new(),
            sent: Instant::from_millis(0),
            log: true,
        }
    }

    pub fn feed<T>(&mut self, event: impl FnOnce(&mut Core, &mut Cx) -> T) -> T {
        let mut cx = Cx {
            now: self.now,
            entropy: &mut self.entropy,
        };
        self.core.compare_clocks(&mut cx);
        event(&mut self.core, &mut cx)
    }

    /// From now on, retries have so much of it.
    pub fn jitter(&mut self, jitter: u8) {
        self.entropy.jitter = jitter;
    }

    /// So many seconds pass; nothing hears of it.
    pub fn pass(&mut self, secs: u64) {
        let span = Duration::from_secs(secs);
        self.now.instant = self.now.instant.after(span);
        self.now.wall = self.now.wall.after(span);
    }

    /// Up to the next deadline, and a tick; how many seconds that took, and the effects.
    pub fn deadline(&mut self) -> (u64, Vec<String>) {
        let at = self.core.poll_timeout().expect("a deadline");
        let secs = at.since(self.now.instant).as_secs();
        self.pass(secs);
        self.feed(|core, cx| core.tick(cx));
        (secs, self.effects())
    }

    pub fn show(&mut self, name: &str) -> String {
        match self.feed(|core, cx| core.ask(cx, name, ShowRequest::default())) {
            Some(ShowAnswer::Gone) => "no such account".into(),
            Some(ShowAnswer::Token(handed)) => format!("token {}", handed.token.expose()),
            Some(ShowAnswer::Not { progress, .. }) => self.progress(&progress),
            other => panic!("{other:?}"),
        }
    }

    pub fn refresh(&mut self, name: &str) -> String {
        match self.feed(|core, cx| core.on(cx, name, |it, env| it.refresh(env))) {
            None => "no such account".into(),
            Some(progress) => self.progress(&progress),
        }
    }

    fn progress(&mut self, progress: &Progress) -> String {
        let (what, why) = match progress {
            Progress::SignIn { ways, reason } => {
                let uri = ways.uri().expect("an address");
                self.state = state_of(uri);
                (format!("sign in with {}", number_of(uri)), reason.as_ref())
            }
            Progress::Discovering { trouble } => ("discovering".into(), trouble.as_ref()),
            Progress::AskingForCode => ("asking for a code".into(), None),
            Progress::Exchanging { trouble } => ("exchanging".into(), trouble.as_ref()),
            Progress::Refreshing { trouble } => ("refreshing".into(), trouble.as_ref()),
            Progress::Parked(refusal) => ("parked".into(), Some(refusal)),
            Progress::Deferred { delay, trouble } => {
                let what = format!("refreshing in {}s", delay.as_secs());
                (what, trouble.as_ref())
            }
        };
        format!("{what}{}", because(why))
    }

    pub fn callback(&mut self, state: &str, iss: Option<&str>, result: CallbackResult) -> String {
        self.callback_at("http://localhost/", state, iss, result)
    }

    /// The user comes back to this address.
    fn callback_at(
        &mut self,
        at: &str,
        state: &str,
        iss: Option<&str>,
        result: CallbackResult,
    ) -> String {
        let at = Url::parse(at).unwrap();
        let callback = Callback {
            state: Secret::new(state.into()),
            iss: iss.map(str::to_owned),
            result,
        };
        match self.feed(|core, cx| core.callback(cx, &at, callback, Waiter(7))) {
            CallbackAnswer::Wait { account } => format!("wait for {account}"),
            CallbackAnswer::Over { account, result } => {
                let result = result.map_or_else(|why| because(Some(&why)), |()| ": done".into());
                format!("{account} over{result}")
            }
            CallbackAnswer::OtherProvider { account } => format!("{account}: other issuer"),
            CallbackAnswer::Stale => "stale".into(),
        }
    }

    /// The user comes back with a code.
    pub fn code(&mut self) -> String {
        self.code_at("http://localhost/")
    }

    /// The user comes back with a code, to this address.
    pub fn code_at(&mut self, at: &str) -> String {
        let code = CallbackResult::Code(Secret::new("code".into()));
        self.callback_at(at, &self.state.clone(), None, code)
    }

    /// The user comes back without.
    pub fn denied(&mut self) -> String {
        let error = CallbackResult::Error {
            error: "access_denied".into(),
            description: None,
            uri: None,
        };
        self.callback(&self.state.clone(), None, error)
    }

    /// The last request of `name` ends.
    pub fn outcome(&mut self, name: &str, outcome: &Outcome) {
        let (attempt, sent) = (self.attempt, self.sent);
        self.feed(|core, cx| {
            core.on(cx, name, |it, env| {
                it.token_outcome(env, attempt, sent, outcome)
            })
        });
    }

    /// The last request for an issuer's document ends.
    pub fn discovered(&mut self, outcome: &Outcome) {
        let attempt = self.discovery;
        self.feed(|core, cx| core.discovery_outcome(cx, attempt, outcome));
    }

    /// The last probe of `name` ends.
    pub fn probed(&mut self, name: &str, transient: bool) {
        let attempt = self.probe;
        self.feed(|core, cx| {
            core.on(cx, name, |it, env| {
                it.probe_outcome(env, attempt, transient)
            })
        });
    }

    /// Everything that the core wants done, a line each.
    pub fn effects(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(effect) = self.core.next_effect() {
            match &effect {
                Effect::Request { attempt, .. } => {
                    (self.attempt, self.sent) = (*attempt, self.now.instant);
                }
                Effect::Discover { attempt, .. } => self.discovery = *attempt,
                Effect::Hook(Hook {
                    kind: HookKind::Probe,
                    attempt: Some(attempt),
                    ..
                }) => self.probe = *attempt,
                Effect::Log { .. } if !self.log => continue,
                _ => {}
            }
            lines.push(line(&effect));
        }
        lines
    }

    /// What is held and under way, as `status` knows it, and the next deadline.
    pub fn condition(&self, name: &str) -> String {
        let views = self.core.status(self.now);
        let view = views.iter().find(|view| view.account == name);
        let next = match self.core.poll_timeout() {
            None => "no deadline".into(),
            Some(at) => format!("next in {}s", at.since(self.now.instant).as_secs()),
        };
        match view {
            None => format!("nothing; {next}"),
            Some(view) => format!("{}; {next}", condition(view)),
        }
    }

    pub fn dump(&mut self) -> Dump {
        let bytes =
            self.feed(|core, cx| dump::seal(&core.unsealed_dump(cx.now), cx.entropy.bytes32()));
        dump::open(&bytes).expect("a dump")
    }

    pub fn restore(&mut self, dump: Dump) -> usize {
        self.feed(|core, cx| core.restore(cx, dump))
    }

    /// A dump of tokens of `name` that were asked for at `obtained`.
    pub fn saved(&self, name: &str, refresh_token: Option<&str>, obtained: Instant) -> Dump {
        let config = self.core.config();
        let mut accounts = config.accounts.iter();
        let account = accounts.find(|account| *account.name == *name);
        let obtained = self.now.wall_at(obtained);
        let secret = |text: &str| Secret::new(text.into()).into();
        Dump {
            grants: vec![Saved {
                account: name.into(),
                registration: account.expect("an account").registration.clone(),
                access: Some(dump::Access {
                    token: secret("restored"),
                    expires: Some(obtained.after(Duration::from_secs(3600))),
                    origins: None,
                    scopes: None,
                    id_token: None,
                }),
                refresh_token: refresh_token.map(secret),
                refresh_origins: None,
                refresh_ends: None,
                sign_ins: SignIns::default(),
                other_user: None,
                obtained,
                original: false,
            }],
            changed: None,
        }
    }
}

fn because(refusal: Option<&Refusal>) -> String {
    refusal.map_or_else(String::new, |refusal| format!(": {}", refusal.text))
}

pub fn state_of(uri: &str) -> String {
    let query = uri.split_once("&state=").map(|(_, state)| state);
    query.unwrap_or_default().to_owned()
}

/// Which random number made the state in `uri`.
fn number_of(uri: &str) -> String {
    let state = state_of(uri);
    format!("state {}", state.trim_start_matches('0'))
}

fn hook_line(hook: &Hook) -> String {
    let Hook {
        kind,
        account,
        attempt,
        command,
        input,
    } = hook;
    let attempt = attempt.map_or(0, |attempt| attempt.0);
    match (kind, input) {
        (
            HookKind::Notify,
            HookInput::SignIn {
                ways,
                requester,
                limit,
                expiring,
            },
        ) => {
            let number = number_of(ways.uri().expect("an address"));
            let expiring = if *expiring { ", expiring" } else { "" };
            let limit = limit.as_secs();
            let by = requester.as_ref().map(|it| format!(", by {it}"));
            let by = by.unwrap_or_default();
            format!("notify {account}/{attempt} `{command}` {number} for {limit}s{expiring}{by}")
        }
        (HookKind::Error, HookInput::Message(message)) => {
            format!("error {account} `{command}` {message}")
        }
        (HookKind::Event, HookInput::Event(event)) => {
            format!("announce {account} `{command}` {}", event.name())
        }
        (HookKind::Save, HookInput::State { .. }) => format!("save {attempt}"),
        (HookKind::Load, HookInput::None) => format!("load {attempt}"),
        (HookKind::Probe, HookInput::None) => format!("probe {account}/{attempt} `{command}`"),
        (HookKind::Secret | HookKind::Token, HookInput::None) => "fetch".into(),
        (HookKind::Requester, HookInput::None) => format!("look up {command}"),
        _ => panic!("{kind:?} is told {input:?}"),
    }
}

fn line(effect: &Effect) -> String {
    match effect {
        Effect::Request {
            account,
            attempt,
            request,
        } => format!("request {account}/{} {}", attempt.0, request_line(request)),
        Effect::Hook(hook) => hook_line(hook),
        Effect::NotifyEnd { attempt } => format!("notify end {}", attempt.0),
        Effect::Error { account, message } => format!("error {account} `` {message}"),
        Effect::Discover { attempt, url } => format!("discover/{} {url}", attempt.0),
        Effect::TokenFile {
            account,
            path,
            content,
            ..
        } => token_file(account, path, content.as_deref()),
        Effect::Settled {
            waiters,
            account,
            result,
            ..
        } => settled(waiters, account, result),
        Effect::Answer {
            request,
            account,
            answer,
        } => {
            let answer = super::waiting::told(answer);
            format!("answer {account} {}: {answer}", request.waiter.0)
        }
        Effect::Log {
            level,
            account,
            message,
        } => format!("log {level} {account}: {message}"),
    }
}

fn request_line(request: &Request) -> String {
    let form = request.form.expose().replace('&', " ");
    format!("{} {form}", request.endpoint)
}

fn token_file(account: &str, path: &str, content: Option<&Secret>) -> String {
    match content {
        Some(content) => format!(
            "token file {account} {path} {}",
            content.expose().trim_end()
        ),
        None => format!("no token file {account} {path}"),
    }
}

fn settled(waiters: &[Waiter], account: &str, result: &Result<(), Refusal>) -> String {
    let waiters: Vec<u64> = waiters.iter().map(|waiter| waiter.0).collect();
    let result = result
        .as_ref()
        .map_or_else(|why| because(Some(why)), |()| ": done".into());
    format!("settled {account} {waiters:?}{result}")
}

fn condition(view: &AccountView) -> String {
    let access = match view.obtained {
        None => "no token",
        Some(_) if view.valid => "valid",
        Some(_) => "expired",
    };
    let renewal = match &view.renewal {
        RenewalView::NoTokens { lost: None } => "".into(),
        RenewalView::NoTokens { lost: Some(_) } => ", lost".into(),
        RenewalView::Impossible => ", no refresh token".into(),
        RenewalView::OnRequest => "on request".into(),
        RenewalView::Scheduled { .. } => ", scheduled".into(),
        RenewalView::UnderWay => ", under way".into(),
        RenewalView::Failing { failures, .. } => format!(", failing {failures}"),
        RenewalView::Rejected { .. } => ", rejected".into(),
        RenewalView::Parked { .. } => ", parked".into(),
        RenewalView::Other => ", unheard of".into(),
    };
    let sign_in = match &view.sign_in {
        SignInView::None => "",
        SignInView::Failed { .. } => ", sign-in failed",
        SignInView::Discovering { .. } => ", discovering",
        SignInView::Pending { failed: None, .. } => ", pending",
        SignInView::Pending { .. } => ", pending again",
        SignInView::Exchanging { trouble: None, .. } => ", exchanging",
        SignInView::Exchanging { .. } => ", exchanging in vain",
        SignInView::Other => ", unheard of",
    };
    format!("{access}{renewal}{sign_in}")
}

/// A reply of the token endpoint.
pub fn reply(status: u16, body: &str) -> Outcome {
    Outcome::Reply(Reply {
        status,
        retry_after: None,
        date: None,
        location: None,
        body: body.as_bytes().to_vec().into(),
        ..Reply::default()
    })
}

/// A reply that asks to be left alone for so many seconds.
pub fn busy(secs: u64) -> Outcome {
    Outcome::Reply(Reply {
        status: 429,
        retry_after: Some(secs.to_string()),
        date: None,
        location: None,
        body: Vec::new().into(),
        ..Reply::default()
    })
}

/// Tokens numbered `n` that live for so many seconds.
pub fn tokens(n: u32, life: u32) -> Outcome {
    reply(
        200,
        &format!(
            r#"{{"access_token":"access{n}","refresh_token":"refresh{n}","token_type":"bearer","expires_in":{life}}}"#
        ),
    )
}

/// An access token numbered `n` and no refresh token.
pub fn access_only(n: u32, life: u32) -> Outcome {
    reply(
        200,
        &format!(r#"{{"access_token":"access{n}","token_type":"bearer","expires_in":{life}}}"#),
    )
}

/// The provider's definite word.
pub fn invalid_grant() -> Outcome {
    reply(400, r#"{"error":"invalid_grant"}"#)
}

/// The config is wrong.
pub fn invalid_client() -> Outcome {
    reply(401, r#"{"error":"invalid_client"}"#)
}

/// Nothing was sent.
pub fn not_sent() -> Outcome {
    Outcome::NotSent("no route to host".into())
}

/// Nothing came back.
pub fn lost() -> Outcome {
    Outcome::Lost("connection reset".into())
}

//! An account on its way to the program's successor: all that would be lost otherwise, sign-ins
//! under way included. Unlike a dump it stays on the machine, so points of its clock mean the same
//! at the other end.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Access, Account, Browser, Discovering, ExchangePhase, Exchanging, Grant, Held, Origins,
    Pending, Phase, Renewal, SignIn, Trouble,
    device::{CarriedDevice, Device},
    lost_by_change,
};
use crate::{
    config::{self, Client, Policy, Registration, TokenFile, TokenFormat},
    core::{
        AttemptId, Effect, dump,
        env::Env,
        revoking::{CarriedRevocation, Revocation},
    },
    oauth::{authorization, token::Refusal},
    secret::Secret,
    time::{Instant, Now, Wall},
};

/// One account.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    pub account: Arc<str>,
    registration: Arc<Registration>,
    grant: Option<CarriedGrant>,
    /// Why there is none any more.
    lost: Option<Words>,
    sign_in: CarriedSignIn,
    last_request: Option<u64>,
    last_device_request: Option<u64>,
    revocations: Vec<CarriedRevocation>,
    /// Where the predecessor has written the access token to, if anywhere.
    token_file: Option<Arc<str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CarriedGrant {
    #[serde(with = "dump::optional_secret")]
    access_token: Option<Arc<Secret>>,
    expires: Option<u64>,
    scopes: Option<Arc<[String]>>,
    origins: Origins,
    #[serde(with = "dump::optional_secret")]
    refresh_token: Option<Arc<Secret>>,
    refresh_origins: Origins,
    obtained: Both,
    phase: CarriedPhase,
}

/// A reading of both clocks.
type Both = (u64, Wall);

/// A refusal and its hint.
type Words = (String, Option<String>);

#[derive(Serialize, Deserialize)]
enum CarriedPhase {
    Waiting,
    Wanted,
    Failing {
        since: Both,
        failures: u32,
        unexplained: u32,
        lost: bool,
        refusal: Words,
        told: bool,
        failed: u64,
        jitter: u8,
        wanted: bool,
    },
    Rejected(Words, Wall),
    Parked(Words, Wall),
}

#[derive(Serialize, Deserialize)]
enum CarriedSignIn {
    None(Option<Words>),
    Discovering {
        since: Both,
        failed: Option<Words>,
    },
    Pending {
        attempt: u64,
        failed: Option<Words>,
        browser: Option<CarriedBrowser>,
        device: CarriedDevice,
        since: Both,
        reminded: Option<Both>,
    },
    Exchanging {
        browser: CarriedBrowser,
        #[serde(with = "dump::secret")]
        code: Arc<Secret>,
        since: Both,
        /// When it is to be sent, if it isn't outstanding.
        retry_at: Option<u64>,
        trouble: Option<Words>,
        told: bool,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CarriedBrowser {
    #[serde(with = "dump::secret")]
    state: Arc<Secret>,
    #[serde(with = "dump::secret")]
    verifier: Arc<Secret>,
    redirect_uri: String,
    uri: String,
}

impl CarriedBrowser {
    fn of(browser: &Browser) -> Self {
        CarriedBrowser {
            state: browser.state.clone(),
            verifier: browser.verifier.clone(),
            redirect_uri: browser.redirect_uri.clone(),
            uri: browser.uri.clone(),
        }
    }

    fn adopt(self) -> Browser {
        Browser {
            state: self.state,
            verifier: self.verifier,
            redirect_uri: self.redirect_uri,
            uri: self.uri,
        }
    }
}

impl Account {
    /// All that the successor needs.
    pub fn carried(&self, now: Now) -> Carried {
        Carried {
            account: self.name.clone(),
            registration: self.registration.clone(),
            grant: match &self.held {
                Held::Nothing { .. } => None,
                Held::Grant(grant) => Some(carried_grant(grant, now)),
            },
            lost: self.lost().map(words),
            sign_in: carried_sign_in(&self.sign_in),
            last_request: self.last_request.map(Instant::millis),
            last_device_request: self.last_device_request.map(Instant::millis),
            revocations: self.revocations.iter().map(Revocation::carried).collect(),
            token_file: self.token_file.as_ref().map(|file| file.path.clone()),
        }
    }

    /// Goes on where the predecessor's account was. If that had another registration, it ends, and
    /// this one starts anew.
    pub fn adopt(&mut self, env: &mut Env, carried: Carried) {
        if carried.registration != self.registration {
            let lost = match &carried.grant {
                Some(_) => Some(lost_by_change()),
                None => carried.lost.clone().map(refusal),
            };
            self.held = Held::Nothing { lost };
            self.last_request = carried.last_request.map(Instant::from_millis);
            return carried.end(env);
        }
        let written = carried.token_file.clone();
        if let Some(path) = written.filter(|path| !self.writes_to(path)) {
            env.emit(Effect::TokenFile {
                account: self.name.clone(),
                path,
                content: None,
            });
        }
        self.take(carried, env.now);
        self.cancel_unreachable(env);
        self.locate(env);
        self.begin_discovered(env);
        if self.sign_in_waits_for_endpoints() {
            self.discover_for_sign_in(env);
        }
    }

    /// The pending sign-in's reminder is due.
    pub fn remind_again(&mut self) {
        if let SignIn::Pending(pending) = &mut self.sign_in {
            pending.reminded = None;
        }
    }

    /// Cancels a sign-in whose redirect would arrive nowhere: the predecessor had another port.
    fn cancel_unreachable(&mut self, env: &mut Env) {
        let SignIn::Pending(Pending {
            browser: Some(browser),
            ..
        }) = &self.sign_in
        else {
            return;
        };
        let wanted = &self.registration.redirect_uri;
        let port = env.common.ports.of(wanted);
        if browser.redirect_uri != authorization::redirect_uri(wanted, port) {
            let why = Refusal {
                text: "the server listens on another port now".into(),
                hint: None,
            };
            self.cancel_sign_in(env, why);
        }
    }

    fn writes_to(&self, path: &str) -> bool {
        let file = self.token_file.as_ref();
        file.is_some_and(|file| *file.path == *path)
    }

    fn take(&mut self, carried: Carried, now: Now) {
        carried.bind();
        self.last_request = carried.last_request.map(Instant::from_millis);
        self.last_device_request = carried.last_device_request.map(Instant::from_millis);
        let revocations = carried.revocations.into_iter();
        self.revocations = revocations
            .map(|it| Revocation::adopt(it, now.instant))
            .collect();
        self.held = match carried.grant {
            Some(grant) => Held::Grant(adopted_grant(grant)),
            None => Held::Nothing {
                lost: carried.lost.map(refusal),
            },
        };
        self.sign_in = adopted_sign_in(carried.sign_in, now);
    }
}

impl Carried {
    /// Ends what the configuration has no more, as a reload would: it is told, and its file goes.
    pub fn end(self, env: &mut Env) {
        let mut account = Account::new(&config::Account {
            name: self.account.clone(),
            registration: self.registration.clone(),
            client: Arc::new(Client::default()),
            device_auth_uri: None,
            revocation_uri: None,
            // It refreshes nothing any more.
            policy: Policy {
                refresh_at_least: Duration::ZERO,
                refresh_before_expiry: Duration::ZERO,
                refresh_retry: Duration::ZERO,
            },
            token_file: self.token_file.clone().map(|path| {
                let format = TokenFormat::Raw;
                Arc::new(TokenFile { path, format })
            }),
        });
        account.take(self, env.now);
        account.end(env);
    }

    /// What was written is gone by the time that this is adopted.
    pub fn forget_token_file(&mut self) {
        self.token_file = None;
    }

    /// Says of each secret what it was issued under.
    fn bind(&self) {
        let mark = self.registration.mark();
        if let Some(grant) = &self.grant {
            let tokens = [&grant.access_token, &grant.refresh_token];
            tokens.into_iter().flatten().for_each(|it| it.bind(mark));
        }
        self.revocations.iter().for_each(|it| it.bind(mark));
        match &self.sign_in {
            CarriedSignIn::None(_) | CarriedSignIn::Discovering { .. } => {}
            CarriedSignIn::Pending {
                browser, device, ..
            } => {
                browser.iter().for_each(|it| it.verifier.bind(mark));
                device.bind(mark);
            }
            CarriedSignIn::Exchanging { browser, code, .. } => {
                browser.verifier.bind(mark);
                code.bind(mark);
            }
        }
    }
}

fn both(now: Now) -> Both {
    (now.instant.millis(), now.wall)
}

fn now((instant, wall): Both) -> Now {
    Now {
        instant: Instant::from_millis(instant),
        wall,
    }
}

fn words(refusal: &Refusal) -> Words {
    (refusal.text.clone(), refusal.hint.clone())
}

fn refusal((text, hint): Words) -> Refusal {
    Refusal { text, hint }
}

fn carried_grant(grant: &Grant, now: Now) -> CarriedGrant {
    let (refresh_token, refresh_origins, phase) = match &grant.renewal {
        Renewal::Impossible => (None, None, CarriedPhase::Waiting),
        Renewal::With {
            refresh_token,
            origins,
            phase,
        } => (
            Some(refresh_token.clone()),
            origins.clone(),
            carried_phase(phase, now),
        ),
    };
    let access = grant.access.as_ref();
    CarriedGrant {
        access_token: access.map(|access| access.token.clone()),
        expires: access.and_then(|access| Some(access.expires?.millis())),
        scopes: access.and_then(|access| access.scopes.clone()),
        origins: access.and_then(|access| access.origins.clone()),
        refresh_token,
        refresh_origins,
        obtained: both(grant.obtained),
        phase,
    }
}

fn carried_phase(phase: &Phase, now: Now) -> CarriedPhase {
    let failing = |trouble: &Trouble, failed: Instant, jitter, wanted| CarriedPhase::Failing {
        since: both(trouble.since),
        failures: trouble.failures,
        unexplained: trouble.unexplained,
        lost: trouble.lost,
        refusal: words(&trouble.refusal),
        told: trouble.told,
        failed: failed.millis(),
        jitter,
        wanted,
    };
    match phase {
        Phase::Waiting => CarriedPhase::Waiting,
        Phase::Failing {
            trouble,
            failed,
            jitter,
            wanted,
        } => failing(trouble, *failed, *jitter, *wanted),
        // Whoever was asked can't answer the successor: it asks again.
        Phase::InFlight { trouble, .. } | Phase::Probing { trouble, .. } => match trouble {
            Some(trouble) => failing(trouble, now.instant, 0, true),
            None => CarriedPhase::Wanted,
        },
        Phase::Wanted => CarriedPhase::Wanted,
        Phase::Rejected { refusal, since } => CarriedPhase::Rejected(words(refusal), *since),
        Phase::Parked { refusal, since } => CarriedPhase::Parked(words(refusal), *since),
    }
}

fn carried_sign_in(sign_in: &SignIn) -> CarriedSignIn {
    match sign_in {
        SignIn::None { failed } => CarriedSignIn::None(failed.as_ref().map(words)),
        SignIn::Discovering(discovering) => CarriedSignIn::Discovering {
            since: both(discovering.since),
            failed: discovering.failed.as_ref().map(words),
        },
        SignIn::Pending(pending) => CarriedSignIn::Pending {
            attempt: pending.attempt.0,
            failed: pending.failed.as_ref().map(words),
            browser: pending.browser.as_ref().map(CarriedBrowser::of),
            device: pending.device.carried(),
            since: both(pending.since),
            reminded: pending.reminded.map(both),
        },
        SignIn::Exchanging(exchanging) => CarriedSignIn::Exchanging {
            browser: CarriedBrowser::of(&exchanging.browser),
            code: exchanging.code.clone(),
            since: both(exchanging.since),
            retry_at: match exchanging.phase {
                ExchangePhase::InFlight(_) => None,
                ExchangePhase::RetryAt(at) => Some(at.millis()),
            },
            trouble: exchanging.trouble.as_ref().map(words),
            told: exchanging.told,
        },
    }
}

fn adopted_grant(carried: CarriedGrant) -> Grant {
    let expires = carried.expires.map(Instant::from_millis);
    Grant {
        access: carried.access_token.map(|token| Access {
            token,
            expires,
            scopes: carried.scopes,
            origins: carried.origins,
        }),
        renewal: match carried.refresh_token {
            None => Renewal::Impossible,
            Some(refresh_token) => Renewal::With {
                refresh_token,
                origins: carried.refresh_origins,
                phase: adopted_phase(carried.phase),
            },
        },
        obtained: now(carried.obtained),
    }
}

fn adopted_phase(carried: CarriedPhase) -> Phase {
    match carried {
        CarriedPhase::Waiting => Phase::Waiting,
        CarriedPhase::Wanted => Phase::Wanted,
        CarriedPhase::Failing {
            since,
            failures,
            unexplained,
            lost,
            refusal: words,
            told,
            failed,
            jitter,
            wanted,
        } => Phase::Failing {
            trouble: Trouble {
                since: now(since),
                failures,
                unexplained,
                lost,
                refusal: refusal(words),
                told,
            },
            failed: Instant::from_millis(failed),
            jitter,
            wanted,
        },
        CarriedPhase::Rejected(words, since) => Phase::Rejected {
            refusal: refusal(words),
            since,
        },
        CarriedPhase::Parked(words, since) => Phase::Parked {
            refusal: refusal(words),
            since,
        },
    }
}

fn adopted_sign_in(carried: CarriedSignIn, present: Now) -> SignIn {
    match carried {
        CarriedSignIn::None(failed) => SignIn::None {
            failed: failed.map(refusal),
        },
        CarriedSignIn::Discovering { since, failed } => {
            SignIn::Discovering(Discovering::new(now(since), failed.map(refusal)))
        }
        CarriedSignIn::Pending {
            attempt,
            failed,
            browser,
            device,
            since,
            reminded,
        } => SignIn::Pending(Pending {
            attempt: AttemptId(attempt),
            failed: failed.map(refusal),
            browser: browser.map(CarriedBrowser::adopt),
            device: Device::adopt(device, present),
            since: now(since),
            reminded: reminded.map(now),
            waiters: Vec::new(),
            code_waiters: Vec::new(),
        }),
        CarriedSignIn::Exchanging {
            browser,
            code,
            since,
            retry_at,
            trouble,
            told,
        } => SignIn::Exchanging(Exchanging {
            browser: browser.adopt(),
            code,
            since: now(since),
            waiters: Vec::new(),
            // Nothing of it has been sent: it was held back for the successor, or failed before.
            phase: ExchangePhase::RetryAt(retry_at.map_or(present.instant, Instant::from_millis)),
            trouble: trouble.map(refusal),
            told,
        }),
    }
}

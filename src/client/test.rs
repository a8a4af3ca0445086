//! `pizauth test`: a real sign-in at mail servers with the account's token.

use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;

use super::{
    print, programs, status,
    token::{self, Held},
};
use crate::error::{Exit, Failure};
use crate::mail::hints::{self, Case, Programs, TokenFacts};
use crate::mail::{Claims, Goal, Server};
use crate::relay::dial::{self, Attempt};
use crate::{cli::TestOptions, providers::Provider, text::sanitize, time::humane};

pub(super) fn run(options: &TestOptions) -> Result<(), Failure> {
    let named = options.urls.iter().map(|url| server(url));
    let named = named.collect::<Result<Vec<Server>, Failure>>()?;
    let held = token::fetch_to_use(options.token.clone())?;
    let user = options.token.user().or(held.login_hint.as_deref());
    let host = held.provider.as_deref();
    let provider = host.and_then(|host| Provider::at(host, user));
    let servers = match named.is_empty() {
        true => known(provider, &held)?,
        false => named,
    };
    let token = TokenFacts {
        length: held.token.expose().len(),
        scopes: held.scopes.clone(),
        claims: Claims::of(&held.token),
        provider,
    };
    let now = status::now().secs();
    print(headline(&options.token.account, &held, &token, now).as_bytes())?;
    let tls = dial::tls()?;
    let mut failed = Vec::new();
    for server in &servers {
        let trial = Trial {
            server,
            user: server.user(options.token.user(), held.login_hint.as_deref()),
            held: &held,
            token: &token,
            tls: &tls,
            verbose: options.verbose,
            now,
        };
        failed.extend(trial.run()?);
    }
    let programs = Programs {
        mbsync: programs::is_installed("mbsync"),
        sasl_plugin: programs::has_sasl_plugin(),
        neomutt: programs::is_installed("neomutt"),
    };
    for hint in hints::of_programs(programs, token.length) {
        print(format!("note: {hint}\n").as_bytes())?;
    }
    conclude(&failed, servers.len())
}

fn conclude(failed: &[Exit], count: usize) -> Result<(), Failure> {
    match (failed.first(), count) {
        (None, _) => Ok(()),
        (Some(exit), 1) => Err(Failure::new(*exit, "the sign-in failed")),
        (Some(exit), _) => {
            let what = format!("{} of {count} sign-ins failed", failed.len());
            Err(Failure::new(*exit, what))
        }
    }
}

/// The server that a URL names.
pub(super) fn server(url: &str) -> Result<Server, Failure> {
    Server::parse(url).map_err(|why| {
        Failure::new(Exit::Usage, format!("a URL names no mail server: {why}"))
            .hint("as in imaps://mail.example.com or smtp://mail.example.com:587")
    })
}

/// The servers of the account's provider.
fn known(provider: Option<&Provider>, held: &Held) -> Result<Vec<Server>, Failure> {
    let urls = provider.map(|provider| provider.servers(&held.scopes));
    let urls = urls.filter(|urls| !urls.is_empty());
    let urls = urls.ok_or_else(|| {
        let what = "the mail servers of this provider aren't known";
        Failure::new(Exit::Usage, what)
            .hint("name them, as in imaps://mail.example.com and smtp://mail.example.com:587")
    })?;
    urls.into_iter().map(server).collect()
}

fn headline(account: &str, held: &Held, token: &TokenFacts, now: i64) -> String {
    let mut text = format!("{}: a token of {} bytes", sanitize(account), token.length);
    if let Some(expiry) = held.expiry_unix {
        let left = u64::try_from(expiry.saturating_sub(now)).unwrap_or(0);
        text += &format!(", valid for {}", humane(Duration::from_secs(left)));
    }
    if !held.scopes.is_empty() {
        text += &format!(", scopes {}", sanitize(&held.scopes.join(" ")));
    }
    text + "\n"
}

/// One sign-in.
struct Trial<'a> {
    server: &'a Server,
    user: Option<&'a str>,
    held: &'a Held,
    token: &'a TokenFacts,
    tls: &'a Arc<ClientConfig>,
    verbose: bool,
    now: i64,
}

impl Trial<'_> {
    /// Tries, and tells; gives the exit status if it failed.
    fn run(&self) -> Result<Option<Exit>, Failure> {
        let name = self.server.to_string();
        if self.verbose {
            print(format!("-- {name}\n").as_bytes())?;
        }
        let (text, hints, exit) = match self.talk() {
            Ok(text) => (text, None, None),
            Err(failure) => (failure.what, failure.hint, Some(failure.exit)),
        };
        let hints = hints.iter().flat_map(|hints| hints.lines());
        let hints: String = hints.map(|hint| format!("  hint: {hint}\n")).collect();
        print(format!("{name}: {text}\n{hints}").as_bytes())?;
        Ok(exit)
    }

    /// What came of it, in words.
    ///
    /// # Errors
    /// It failed; there may be several hints, a line each.
    fn talk(&self) -> Result<String, Failure> {
        let show = |lines: Vec<String>| {
            let mut lines = lines.iter().filter(|_| self.verbose);
            lines.try_for_each(|line| print(format!("{line}\n").as_bytes()))
        };
        let (server, user) = (self.server, self.user);
        let found = dial::look_up(server)?;
        let token = &self.held.token;
        let mut attempt = Attempt::make(server, &found, self.tls, user, token, Goal::Trial, show)?;
        let farewell = attempt.sign_in.farewell();
        show(vec![format!("C: {farewell}")])?;
        // Whether it is heard is of no importance.
        let _ = (attempt.connection).send(format!("{farewell}\r\n").as_bytes());
        let sign_in = &attempt.sign_in;
        let session = attempt.outcome.map_err(|refusal| {
            let hints = hints::of(&Case {
                server,
                verdict: &refusal.verdict,
                greeting: sign_in.greeting.as_deref().unwrap_or_default(),
                user,
                token: self.token,
                now: self.now,
            });
            let hints = Some(sign_in.scrub(&hints.join("\n"))).filter(|it| !it.is_empty());
            Failure::new(dial::exit(&refusal), refusal.reason).with_hint(hints)
        })?;
        let user = user.map_or(String::new(), |user| format!(" as {}", sanitize(user)));
        let mechanism = session.mechanism.name();
        Ok(format!("signed in{user} with {mechanism}"))
    }
}

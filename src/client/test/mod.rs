//! `pizauth test`: a real sign-in at mail servers with the account's token.

mod dial;

use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;

use self::dial::Connection;
use super::{
    print, programs,
    token::{self, Held},
};
use crate::error::{Exit, Failure};
use crate::mail::hints::{self, Case, Programs, TokenFacts};
use crate::mail::{Claims, Dialogue, MailStep, MailVerdict, Mechanism, Server, Situation, Tls};
use crate::{
    cli::TestOptions,
    oauth::sasl,
    providers::Provider,
    secret::{Scrubber, Secret},
    text::sanitize,
    time::humane,
    wire::ShowArgs,
};

/// What stands where the token was: nothing that is shown may have it, whatever a server says.
const TOKEN: &str = "[token]";

pub(super) fn run(options: &TestOptions) -> Result<(), Failure> {
    let named = options.urls.iter().map(|url| server(url));
    let named = named.collect::<Result<Vec<Server>, Failure>>()?;
    let held = token::fetch_to_use(ShowArgs {
        account: options.account.clone(),
        no_url: options.no_url,
        ..ShowArgs::default()
    })?;
    let user = options.user.as_deref().or(held.login_hint.as_deref());
    let host = held.provider.as_deref();
    let provider = host.and_then(|host| Provider::at(host, user));
    let servers = if named.is_empty() {
        known(provider, &held)?
    } else {
        named
    };
    let token = TokenFacts {
        length: held.token.expose().len(),
        scopes: held.scopes.clone(),
        claims: Claims::of(&held.token),
        provider,
    };
    let now = dial::now();
    print(headline(&options.account, &held, &token, now).as_bytes())?;
    let tls = dial::tls()?;
    let mut failed = Vec::new();
    for server in &servers {
        let user = options.user.as_deref().or(server.user.as_deref());
        let trial = Trial {
            server,
            user: user.or(held.login_hint.as_deref()),
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

fn server(url: &str) -> Result<Server, Failure> {
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
        Failure::new(
            Exit::Usage,
            "the mail servers of this provider aren't known",
        )
        .hint("name them, as in imaps://mail.example.com and smtp://mail.example.com:587")
    })?;
    urls.into_iter().map(server).collect()
}

fn headline(account: &str, held: &Held, token: &TokenFacts, now: i64) -> String {
    let life = held.expiry_unix.map(|expiry| {
        let left = u64::try_from(expiry.saturating_sub(now)).unwrap_or(0);
        format!(", valid for {}", humane(Duration::from_secs(left)))
    });
    let scopes = if held.scopes.is_empty() {
        String::new()
    } else {
        format!(", scopes {}", sanitize(&held.scopes.join(" ")))
    };
    format!(
        "{}: a token of {} bytes{}{scopes}\n",
        sanitize(account),
        token.length,
        life.unwrap_or_default()
    )
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

/// A server's greeting, and what came of it.
struct Outcome {
    greeting: String,
    verdict: MailVerdict,
}

impl Trial<'_> {
    /// Tries, and tells; gives the exit status if it failed.
    fn run(&self) -> Result<Option<Exit>, Failure> {
        let name = self.server.to_string();
        // A response that can't be made isn't needed: it lacks the user.
        let responses = [Mechanism::Oauthbearer, Mechanism::Xoauth2]
            .map(|mechanism| (mechanism, self.response(mechanism).ok()));
        let mut scrubber = Scrubber::default();
        scrubber.add(self.held.token.expose());
        for response in responses
            .iter()
            .filter_map(|(_, response)| response.as_ref())
        {
            scrubber.add(response.expose());
        }
        if self.verbose {
            print(format!("-- {name}\n").as_bytes())?;
        }
        let (text, hints, exit) = match self.talk(&responses, &scrubber) {
            Err(failure) => (
                failure.what,
                failure.hint.into_iter().collect(),
                Some(failure.exit),
            ),
            Ok(outcome) => {
                let hints = hints::of(&Case {
                    server: self.server,
                    verdict: &outcome.verdict,
                    greeting: &outcome.greeting,
                    user: self.user,
                    token: self.token,
                    now: self.now,
                });
                (
                    describe(&outcome.verdict, self.user),
                    hints,
                    exit(&outcome.verdict),
                )
            }
        };
        let mut report = format!("{name}: {}\n", scrubber.scrub(&text, TOKEN));
        for hint in hints {
            report.push_str(&format!("  hint: {}\n", scrubber.scrub(&hint, TOKEN)));
        }
        print(report.as_bytes())?;
        Ok(exit)
    }

    fn response(&self, mechanism: Mechanism) -> Result<Secret, sasl::Unfit> {
        let token = &self.held.token;
        match mechanism {
            Mechanism::Xoauth2 => sasl::xoauth2(self.user.unwrap_or_default(), token),
            Mechanism::Oauthbearer => {
                let host = Some(self.server.host.as_str());
                sasl::oauthbearer(self.user, host, Some(self.server.port), token)
            }
        }
    }

    fn talk(
        &self,
        responses: &[(Mechanism, Option<Secret>); 2],
        scrubber: &Scrubber,
    ) -> Result<Outcome, Failure> {
        let server = self.server;
        let mut connection = Connection::open(&server.host, server.port)?;
        if server.tls == Tls::AtOnce {
            connection = connection.secure(&server.host, self.tls)?;
        }
        let situation = Situation {
            secure: server.tls == Tls::AtOnce,
            loopback: connection.loopback,
            has_user: self.user.is_some(),
        };
        let mut dialogue = Dialogue::new(server.protocol, situation);
        let mut greeting = None;
        let mut step = MailStep::Read;
        loop {
            match step {
                MailStep::Read => {}
                MailStep::Send(line) => {
                    self.show('C', &line)?;
                    connection.send(&line)?;
                }
                MailStep::Respond(mechanism) => {
                    let mut responses = responses.iter();
                    let found = responses.find(|(own, _)| *own == mechanism);
                    let response = found.and_then(|(_, response)| response.as_ref());
                    let response = response.ok_or_else(|| {
                        Failure::new(Exit::Usage, "the user has control characters")
                    })?;
                    self.show('C', TOKEN)?;
                    connection.send(response.expose())?;
                }
                MailStep::StartTls => {
                    connection = connection.secure(&server.host, self.tls)?;
                    self.show('=', "TLS")?;
                    step = dialogue.secured();
                    continue;
                }
                MailStep::End(verdict) => {
                    self.show('C', dialogue.farewell())?;
                    // Whether it is heard is of no importance.
                    let _ = connection.send(dialogue.farewell());
                    return Ok(Outcome {
                        greeting: greeting.unwrap_or_default(),
                        verdict,
                    });
                }
            }
            let line = connection.receive()?;
            self.show('S', &scrubber.scrub(&line, TOKEN))?;
            greeting.get_or_insert_with(|| line.clone());
            step = dialogue.line(&line);
        }
    }

    fn show(&self, who: char, line: &str) -> Result<(), Failure> {
        if self.verbose {
            print(format!("{who}: {}\n", sanitize(line)).as_bytes())
        } else {
            Ok(())
        }
    }
}

/// What came of it, in words.
fn describe(verdict: &MailVerdict, user: Option<&str>) -> String {
    match verdict {
        MailVerdict::SignedIn(mechanism) => match user {
            Some(user) => format!("signed in as {} with {}", sanitize(user), mechanism.name()),
            None => format!("signed in with {}", mechanism.name()),
        },
        MailVerdict::NoMailbox { text } => {
            format!("signed in, but the mailbox can't be opened: {text}")
        }
        MailVerdict::Refused {
            mechanism,
            challenge,
            text,
            ..
        } => {
            let challenge = challenge.as_ref().map(|it| format!(" ({it})"));
            format!(
                "refused the token, sent with {}: {text}{}",
                mechanism.name(),
                challenge.unwrap_or_default()
            )
        }
        MailVerdict::NotOffered { offered, .. } if offered.is_empty() => {
            "offers no way to sign in".into()
        }
        MailVerdict::NotOffered { offered, .. } => {
            let offered = offered.join(", ");
            format!("offers neither OAUTHBEARER nor XOAUTH2, but {offered}")
        }
        MailVerdict::NoUser => "offers XOAUTH2 alone, which needs a user".into(),
        MailVerdict::NoTls { text } if text.is_empty() => "offers no TLS".into(),
        MailVerdict::NoTls { text } => format!("has no TLS now: {text}"),
        MailVerdict::Unavailable { text } => format!("doesn't want to talk: {text}"),
        MailVerdict::Nonsense { text } => format!("says what isn't expected: {text}"),
    }
}

/// The exit status of a failure.
fn exit(verdict: &MailVerdict) -> Option<Exit> {
    match verdict {
        MailVerdict::SignedIn(_) => None,
        MailVerdict::Refused { passing: true, .. } | MailVerdict::Unavailable { .. } => {
            Some(Exit::TryLater)
        }
        MailVerdict::Refused { .. } | MailVerdict::NoMailbox { .. } => {
            Some(Exit::AuthorisationNeeded)
        }
        MailVerdict::NoUser => Some(Exit::Usage),
        MailVerdict::NotOffered { .. }
        | MailVerdict::NoTls { .. }
        | MailVerdict::Nonsense { .. } => Some(Exit::Protocol),
    }
}

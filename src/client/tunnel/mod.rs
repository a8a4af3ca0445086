//! `pizauth tunnel`: a sign-in for a program that knows no OAuth2, which then talks to the server
//! through this one.

mod pump;

use self::pump::Pump;
use super::{
    dial::{self, Attempt},
    print,
    test::server,
    token,
};
use crate::{
    cli::TunnelOptions,
    error::{Exit, Failure},
    mail::{Front, Goal, Server, Session, refuse},
};

pub(super) fn run(options: &TunnelOptions) -> Result<(), Failure> {
    let server = server(&options.url)?;
    let (connection, session) = sign_in(options, &server).inspect_err(|failure| {
        // The program may have left.
        let reason = failure.what.lines().next().unwrap_or_default();
        let _ = print(refuse(server.protocol, reason).as_bytes());
        pump::linger();
    })?;
    let front = Front::new(&server, &session);
    let copied = Pump::new(connection, front, &session.rest).run();
    copied.map_err(|error| {
        let what = format!("the connection broke: {error}");
        of(&server, Failure::new(Exit::TryLater, what))
    })
}

/// A connection on which somebody is signed in. The token is gone then.
fn sign_in(
    options: &TunnelOptions,
    server: &Server,
) -> Result<(dial::Connection, Session), Failure> {
    let held = token::fetch_to_use(token::args(&options.token))?;
    let tls = dial::tls()?;
    let user = server.user(options.token.user.as_deref(), held.login_hint.as_deref());
    let attempt = Attempt::make(server, &tls, user, &held.token, Goal::Session, |_| Ok(()));
    let attempt = attempt.map_err(|failure| of(server, failure))?;
    let session = attempt.outcome.map_err(|refusal| {
        let failure = Failure::new(dial::exit(&refusal), refusal.reason);
        of(server, failure).hint("`pizauth test` has more to say")
    })?;
    Ok((attempt.connection, session))
}

fn of(server: &Server, failure: Failure) -> Failure {
    Failure {
        what: format!("{server}: {}", failure.what),
        ..failure
    }
}

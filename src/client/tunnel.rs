//! `pizauth tunnel`: a sign-in for a program that knows no OAuth2, which then talks to the server
//! through this one.

use std::{io, os::fd::AsFd, sync::Arc};

use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::socket::{getsockopt, sockopt},
};

use super::{SAID, complain, print, test::server, token, with_names};
use crate::{
    cli::TunnelOptions,
    error::{Exit, Failure},
    mail::{Front, Goal, Server, Session, refuse},
    relay::{
        dial::{self, Attempt},
        end::End,
        pump::Pump,
    },
};

/// How long a program behind a socket may take to read why there is no session, in milliseconds: longer
/// than one takes to say its first line.
const LINGER_MS: u16 = 1000;

pub(super) fn run(options: &TunnelOptions) -> Result<(), Failure> {
    let server = server(&options.url)?;
    let (connection, session) =
        sign_in(options, &server).map_err(|failure| refused(&server, failure))?;
    let front = Front::new(&server, &session);
    let copied = program().and_then(|mut program| {
        program.tell(front.greeting().as_bytes());
        program.tell(&session.rest);
        Pump::new(program, connection.into_end(), Some(front)).run()
    });
    copied.map_err(|error| {
        let what = format!("the connection broke: {error}");
        of(&server, Failure::new(Exit::TryLater, what))
    })
}

/// Says why there is no session: on stderr first, of which a program such as fdm(1) reads no more when it
/// has been refused.
fn refused(server: &Server, failure: Failure) -> Failure {
    let failure = with_names(failure);
    complain(&failure);
    let reason = failure.what.lines().next().unwrap_or_default();
    // The program may have left.
    let _ = print(refuse(server.protocol, reason).as_bytes());
    linger();
    Failure::new(failure.exit, SAID)
}

/// The program at stdin and stdout.
fn program() -> io::Result<End> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    Ok(End::new(Arc::new(input.into()), Arc::new(output.into())))
}

/// Waits until the program has hung up, or is sure to have read what it was told last: a relay such as
/// socat(1) drops that if it can't pass on what the program says.
fn linger() {
    let stdin = io::stdin();
    if getsockopt(&stdin, sockopt::SockType).is_ok() {
        let hangup = PollFd::new(stdin.as_fd(), PollFlags::empty());
        let _ = poll(&mut [hangup], LINGER_MS);
    }
}

/// A connection on which somebody is signed in. The token is gone then.
fn sign_in(
    options: &TunnelOptions,
    server: &Server,
) -> Result<(dial::Connection, Session), Failure> {
    let held = token::fetch_to_use(options.token.clone())?;
    let tls = dial::tls()?;
    let user = server.user(options.token.user(), held.login_hint.as_deref());
    let attempt = dial::look_up(server).and_then(|found| {
        Attempt::make(
            server,
            &found,
            &tls,
            user,
            &held.token,
            Goal::Session,
            |_| Ok(()),
        )
    });
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

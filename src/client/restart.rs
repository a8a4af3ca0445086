//! `pizauth restart`: asks the server to become the program that is there now, and waits for it.

use std::time::{Duration, Instant};

use super::{ask, older, patience, read, takeover};
use crate::error::{Exit, Failure};
use crate::{view::ServerInfo, wire::Request};

/// How long a server may take to become another program: it finishes what it does before.
const RESTART_TIMEOUT: Duration = Duration::from_secs(90);

/// How long it may not be found: somebody has removed its socket, and it makes another.
const MEND_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn run() -> Result<(), Failure> {
    let before = match server() {
        Err(failure) if older::is_here(&failure) => return takeover::run(),
        outcome => generation(&outcome?),
    };
    ask(&Request::Restart)?;
    let mut found = Instant::now();
    for () in patience::tries(RESTART_TIMEOUT) {
        match server() {
            Ok(server) if generation(&server) != before => return Ok(()),
            Ok(server) => {
                if let Some(why) = server.restart_failure {
                    let what = format!("the server was not restarted and goes on: {why}");
                    return Err(Failure::other(what));
                }
                found = Instant::now();
            }
            Err(failure) if failure.exit == Exit::NoServer && found.elapsed() < MEND_TIMEOUT => {}
            Err(failure) => return Err(failure),
        }
    }
    let what = "the server goes on as before; its log says why";
    Err(Failure::other(what))
}

/// What changes with each start of the program, also when something has killed a process meanwhile.
fn generation(server: &ServerInfo) -> (u32, u32) {
    (server.restarts, server.token_holder)
}

fn server() -> Result<ServerInfo, Failure> {
    read(&ask(&Request::Info)?)
}

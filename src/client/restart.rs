//! `pizauth restart`: asks the server to become the program that is there now, and waits for it.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{ask, older, read, takeover};
use crate::error::{Exit, Failure};
use crate::{view::ServerInfo, wire::Request};

/// How long a server may take to become another program: it finishes what it does before.
const RESTART_TIMEOUT: Duration = Duration::from_secs(90);

/// How often to look whether it has.
const RESTART_POLL: Duration = Duration::from_millis(20);

/// How long it may not be found: somebody has removed its socket, and it makes another.
const MEND_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn run() -> Result<(), Failure> {
    let before = match server() {
        Err(failure) if older::is_here(&failure) => return takeover::run(),
        outcome => outcome?.restarts,
    };
    ask(&Request::Restart)?;
    let give_up = Instant::now() + RESTART_TIMEOUT;
    let mut found = Instant::now();
    loop {
        match server() {
            Ok(server) if server.restarts != before => return Ok(()),
            Ok(server) => {
                if let Some(why) = server.restart_failure {
                    let what = format!("the server was not restarted and goes on: {why}");
                    return Err(Failure::new(Exit::Other, what));
                }
                found = Instant::now();
            }
            Err(failure) if failure.exit == Exit::NoServer && found.elapsed() < MEND_TIMEOUT => {}
            Err(failure) => return Err(failure),
        }
        if Instant::now() >= give_up {
            let what = "the server goes on as before; its log says why";
            return Err(Failure::new(Exit::Other, what));
        }
        thread::sleep(RESTART_POLL);
    }
}

fn server() -> Result<ServerInfo, Failure> {
    read(&ask(&Request::Info)?)
}

//! How long a client waits for a server, and how it finds out that there is nothing to wait for.

use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use std::{iter, thread};

use crate::error::Failure;
use crate::{paths, secret::SecretBytes, wire};

/// How long a server may be silent before a client looks whether it does anything at all, at first.
const LOOK_AFTER: Duration = Duration::from_secs(5);

/// The same later on, when it was found well several times: who waits for hours should cost little.
const MAX_LOOK_AFTER: Duration = Duration::from_secs(60);

/// How long a server may take for a client that asks nothing: with [`LOOK_AFTER`] and what comes
/// before, a stopped one is given up after 15 seconds.
const LOOK_TIMEOUT: Duration = Duration::from_secs(9);

/// How often to try again what nothing tells the time for.
const POLL: Duration = Duration::from_millis(20);

/// Looks now and then whether a server that is being waited for still does anything.
pub(super) struct Patience {
    next: Instant,
    pause: Duration,
}

impl Patience {
    pub(super) fn new() -> Self {
        Patience {
            next: Instant::now() + LOOK_AFTER,
            pause: LOOK_AFTER,
        }
    }

    /// Looks, if that is due.
    ///
    /// # Errors
    /// When the server has been stopped, or hangs.
    pub(super) fn look(&mut self) -> Result<(), Failure> {
        if Instant::now() < self.next {
            return Ok(());
        }
        if !is_alive() {
            return Err(wire::silence());
        }
        self.pause = self.pause.saturating_mul(2).min(MAX_LOOK_AFTER);
        self.next = Instant::now() + self.pause;
        Ok(())
    }

    /// How long until it is due.
    fn left(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }
}

/// Times to try something: at once, and every 20 milliseconds for so long.
pub(super) fn tries(limit: Duration) -> impl Iterator<Item = ()> {
    let give_up = Instant::now() + limit;
    iter::once(()).chain(iter::from_fn(move || {
        thread::sleep(POLL);
        (Instant::now() < give_up).then_some(())
    }))
}

/// Goes on reading a reply of which `heard` is here already, for at most so long.
pub(super) fn receive(
    server: &mut UnixStream,
    mut heard: SecretBytes,
    limit: Option<Duration>,
) -> Result<SecretBytes, Failure> {
    let give_up = limit.and_then(|limit| Instant::now().checked_add(limit));
    let mut patience = Patience::new();
    loop {
        let left = give_up.map(|at| at.saturating_duration_since(Instant::now()));
        let pause = left.map_or(patience.left(), |left| left.min(patience.left()));
        let _ = server.set_read_timeout(Some(pause.max(Duration::from_millis(1))));
        match wire::receive(server, &mut heard) {
            Err(failure) if wire::is_silence(&failure) => match left {
                Some(Duration::ZERO) => return Err(failure),
                _ => patience.look()?,
            },
            outcome => return outcome,
        }
    }
}

/// Whether the server hears a client that says nothing: it hangs up. One that can't be reached at
/// all, or has gone, will be noticed by who waits.
fn is_alive() -> bool {
    let Ok(address) = paths::client_address() else {
        return true;
    };
    let heard = paths::connect(&address.socket, LOOK_TIMEOUT).and_then(|mut server| {
        server.set_read_timeout(Some(LOOK_TIMEOUT))?;
        server.shutdown(Shutdown::Write)?;
        server.read(&mut [0])
    });
    !heard.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

//! The system calls that OpenBSD lets a process give up (pledge(2)).

use crate::server::base::rights;

/// As `info` shows it.
pub const NAME: &str = "pledge";

/// Sockets, name lookup and its files, the trust store, the lock, descriptors on their way from
/// and to the monitor. With `error`, what breaks a promise fails: a token holder that is killed for
/// it loses every token.
pub fn deny() -> Result<bool, String> {
    let promises = c"error stdio rpath flock unix inet dns sendfd recvfd";
    rights::pledge(promises)
        .map(|()| true)
        .map_err(|error| error.to_string())
}

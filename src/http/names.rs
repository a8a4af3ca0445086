//! Looking names up. Every lookup takes a thread or a process, since the C library's may take longer
//! than a request. The addresses come in the order in which they are tried (RFC 8305, 4).

use std::{
    fmt,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use ureq::{
    Error,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

/// Asks for the addresses of a host: its name, the port that goes with them, and how
/// long that may take.
pub type LookUp = Arc<dyn Fn(&str, u16, Duration) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// How many addresses of a name are tried: as many as ureq has room for.
const MAX_ADDRESSES: usize = 16;

/// Looks names up, or has somebody do it, and says which failures are of that: nothing was sent
/// then.
#[derive(Clone)]
pub struct Names(pub LookUp);

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

/// No connection came about: why. Nothing was sent.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotConnected(pub(super) String);

impl From<NotConnected> for Error {
    fn from(error: NotConnected) -> Self {
        Error::Other(Box::new(error))
    }
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
            Some("http") => 80,
            Some(scheme) if scheme.starts_with("socks") => 1080,
            _ => 443,
        });
        let found = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            // An address of numbers takes nobody's time.
            Ok(address) => vec![(address, port).into()],
            Err(_) => (self.0)(host, port, *timeout.after)
                .map_err(|error| NotConnected(error.to_string()))?,
        };
        let mut addresses = self.empty();
        for address in ordered(&found).into_iter().take(MAX_ADDRESSES) {
            addresses.push(address);
        }
        Ok(addresses)
    }
}

impl Default for Names {
    fn default() -> Self {
        Names(Arc::new(look_up))
    }
}

/// The address families in turn, the resolver's first one first, each in its order (RFC 8305, 4).
fn ordered(found: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_ipv6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let of = |ipv6| found.iter().filter(move |it| it.is_ipv6() == ipv6);
    let (mut first, mut second) = (of(first_is_ipv6), of(!first_is_ipv6));
    let in_turn = found.iter().flat_map(|_| [first.next(), second.next()]);
    in_turn.flatten().copied().collect()
}

/// The addresses of `host`. The C library has no time limit for that, so a thread of its own asks, and
/// is left behind when it takes too long.
///
/// # Errors
/// When there is no such name, no thread, or no answer in time.
pub fn look_up(host: &str, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let (sender, receiver) = mpsc::channel();
    let asked = host.to_owned();
    thread::Builder::new().spawn(move || {
        let found = (asked.as_str(), port).to_socket_addrs();
        // The caller may have given up.
        let _ = sender.send(found.map(Iterator::collect));
    })?;
    let late = "the name server doesn't answer";
    let found = receiver.recv_timeout(limit);
    found.unwrap_or_else(|_| Err(io::Error::new(ErrorKind::TimedOut, late)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_families_take_turns() {
        let addresses = |text: &str| -> Vec<SocketAddr> {
            let each = text.split(' ').map(|host| format!("{host}:1"));
            each.map(|it| it.parse().unwrap()).collect()
        };
        for (found, ordered) in [
            ("[::1] [::2] [::3] 0.0.0.1", "[::1] 0.0.0.1 [::2] [::3]"),
            ("0.0.0.1 0.0.0.2 [::1]", "0.0.0.1 [::1] 0.0.0.2"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(super::ordered(&addresses(found)), addresses(ordered));
        }
    }
}

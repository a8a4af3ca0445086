//! Looking names up: each name once at a time, for all who want it just then. Every lookup takes a
//! thread or a process, since the C library's may take longer than a request, and accounts that are
//! due together mostly ask the same server. The addresses come in the order in which they are tried
//! (RFC 8305, 4).

use std::{
    collections::HashMap,
    fmt,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, OnceLock, Weak, mpsc},
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

use crate::lock::Lock;

/// A lookup that is under way; whoever comes meanwhile waits for its end.
type Lookup = OnceLock<Result<Vec<SocketAddr>, NotConnected>>;

/// Asks for the addresses of a host: its name, the port that goes with them, and how
/// long that may take.
pub type LookUp = Arc<dyn Fn(&str, u16, Duration) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// How many addresses of a name are tried: as many as ureq has room for.
const MAX_ADDRESSES: usize = 16;

/// Looks names up, or has somebody do it, and says which failures are of that: nothing was sent
/// then. Clones share what is under way.
#[derive(Clone)]
pub struct Names {
    look_up: LookUp,
    /// By name and port.
    under_way: Arc<Lock<HashMap<String, Weak<Lookup>>>>,
}

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
            Err(_) => self.once(&format!("{host}:{port}"), || {
                let found = (self.look_up)(host, port, *timeout.after);
                found.map_err(|error| NotConnected(error.to_string()))
            })?,
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
        Names::asking(Arc::new(look_up))
    }
}

impl Names {
    /// Has this look names up.
    pub fn asking(look_up: LookUp) -> Self {
        let under_way = Arc::default();
        Names { look_up, under_way }
    }

    /// What `look_up` says, or what somebody hears just then who has asked for the same name.
    fn once(
        &self,
        name: &str,
        look_up: impl FnOnce() -> Result<Vec<SocketAddr>, NotConnected>,
    ) -> Result<Vec<SocketAddr>, NotConnected> {
        let lookup = self.under_way.with(|under_way| {
            // Whoever comes after its end wants to know it anew.
            under_way.retain(|_, lookup| lookup.strong_count() > 0);
            let found = under_way.get(name).and_then(Weak::upgrade);
            let lookup = found.unwrap_or_default();
            under_way.insert(name.to_owned(), Arc::downgrade(&lookup));
            lookup
        });
        lookup.get_or_init(look_up).clone()
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
    use std::{
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc::channel,
        },
        thread,
    };

    use super::*;

    #[test]
    fn those_who_want_the_same_name_at_once_share_one_lookup() {
        let names = Names::default();
        let (lookups, address) = (AtomicUsize::new(0), SocketAddr::from(([127, 0, 0, 1], 1)));
        let (begun, has_begun) = channel();
        let (end, may_end) = channel();
        thread::scope(|scope| {
            let (names, lookups) = (&names, &lookups);
            let first = scope.spawn(move || {
                names.once("a", || {
                    lookups.fetch_add(1, Ordering::Relaxed);
                    begun.send(()).unwrap();
                    may_end.recv().unwrap();
                    Ok(vec![address])
                })
            });
            has_begun.recv().unwrap();
            // Another name waits for nobody.
            let other = names.once("b", || Err(NotConnected("none".into())));
            assert_eq!(other.unwrap_err().to_string(), "none");
            let second = scope.spawn(move || {
                names.once("a", || {
                    lookups.fetch_add(1, Ordering::Relaxed);
                    Err(NotConnected("a second one".into()))
                })
            });
            // It has the first one's lookup in hand, and can't begin its own.
            while names
                .under_way
                .with(|under_way| under_way["a"].strong_count())
                < 2
            {
                thread::yield_now();
            }
            end.send(()).unwrap();
            assert_eq!(first.join().unwrap().unwrap(), [address]);
            assert_eq!(second.join().unwrap().unwrap(), [address]);
        });
        assert_eq!(lookups.load(Ordering::Relaxed), 1);
        // It isn't remembered.
        assert!(
            names
                .once("a", || Err(NotConnected("gone".into())))
                .is_err()
        );
    }

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

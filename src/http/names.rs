//! Looking names up: each name once at a time, for all who want it just then. Every lookup takes a
//! thread or a process, since the C library's may take longer than a request, and accounts that are
//! due together mostly ask the same server.

use std::{
    collections::HashMap,
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use ureq::{
    Error,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

/// A lookup that is under way, or has just ended; whoever comes meanwhile waits for its end.
type Lookup = Arc<OnceLock<Result<Vec<SocketAddr>, NoAddress>>>;

/// Asks somebody else for the addresses of a host: its name, the port that goes with them, and how
/// long that may take.
pub type LookUp = Arc<dyn Fn(&str, u16, Duration) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// How many addresses of a name are tried: as many as ureq has room for.
const MAX_ADDRESSES: usize = 16;

/// Looks names up as ureq does, or has somebody do it, and says which failures are of that: nothing
/// was sent then.
#[derive(Default)]
pub struct Names {
    /// Who does it; else the C library, in a thread.
    elsewhere: Option<LookUp>,
    /// By scheme and authority, which say the port.
    under_way: Mutex<HashMap<String, Lookup>>,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

/// A name couldn't be looked up.
#[derive(Clone, Debug)]
pub struct NoAddress(String);

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAddress {}

impl From<NoAddress> for Error {
    fn from(error: NoAddress) -> Self {
        Error::Other(Box::new(error))
    }
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let scheme = uri.scheme_str().unwrap_or_default();
        let name = format!("{scheme} {}", uri.authority().map_or("", |it| it.as_str()));
        let found = self.once(&name, || match (&self.elsewhere, host_and_port(uri)) {
            (Some(look_up), Some((host, port))) => {
                look_up(host, port, *timeout.after).map_err(|error| NoAddress(error.to_string()))
            }
            _ => look_up(uri, config, timeout),
        })?;
        let mut addresses = self.empty();
        for address in found.into_iter().take(MAX_ADDRESSES) {
            addresses.push(address);
        }
        Ok(addresses)
    }
}

impl Names {
    /// Has `elsewhere` look names up, if there is one.
    pub fn asking(elsewhere: Option<LookUp>) -> Self {
        Names {
            elsewhere,
            ..Names::default()
        }
    }

    /// What `look_up` says, or what somebody hears just then who has asked for the same name.
    fn once(
        &self,
        name: &str,
        look_up: impl FnOnce() -> Result<Vec<SocketAddr>, NoAddress>,
    ) -> Result<Vec<SocketAddr>, NoAddress> {
        let lookup = self.with(|under_way| under_way.entry(name.into()).or_default().clone());
        let outcome = lookup.get_or_init(look_up).clone();
        self.with(|under_way| {
            // Whoever comes now wants to know it anew.
            if under_way
                .get(name)
                .is_some_and(|it| Arc::ptr_eq(it, &lookup))
            {
                under_way.remove(name);
            }
        });
        outcome
    }

    fn with<T>(&self, look: impl FnOnce(&mut HashMap<String, Lookup>) -> T) -> T {
        let under_way = self.under_way.lock();
        look(&mut under_way.unwrap_or_else(PoisonError::into_inner))
    }
}

/// What there is to look up; an address of numbers is none, and takes nobody's time.
fn host_and_port(uri: &Uri) -> Option<(&str, u16)> {
    let host = uri.host()?;
    let is_address = host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok();
    let usual = match uri.scheme_str() {
        Some("http") => 80,
        _ => 443,
    };
    (!is_address).then(|| (host, uri.port_u16().unwrap_or(usual)))
}

fn look_up(uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<Vec<SocketAddr>, NoAddress> {
    // It takes a thread for it, and panics when there is none.
    let looked_up = catch_unwind(AssertUnwindSafe(|| {
        DefaultResolver::default().resolve(uri, config, timeout)
    }));
    match looked_up {
        Ok(Ok(addresses)) => Ok(addresses.to_vec()),
        Ok(Err(Error::Io(error))) => Err(NoAddress(error.to_string())),
        Ok(Err(error)) => Err(NoAddress(error.to_string())),
        Err(_) => Err(NoAddress("no thread to look the name up with".into())),
    }
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
            let other = names.once("b", || Err(NoAddress("none".into())));
            assert_eq!(other.unwrap_err().to_string(), "none");
            let second = scope.spawn(move || {
                names.once("a", || {
                    lookups.fetch_add(1, Ordering::Relaxed);
                    Err(NoAddress("a second one".into()))
                })
            });
            // It has the first one's lookup in hand, and can't begin its own.
            while names.with(|under_way| Arc::strong_count(&under_way["a"])) < 3 {
                thread::yield_now();
            }
            end.send(()).unwrap();
            assert_eq!(first.join().unwrap().unwrap(), [address]);
            assert_eq!(second.join().unwrap().unwrap(), [address]);
        });
        assert_eq!(lookups.load(Ordering::Relaxed), 1);
        // It isn't remembered.
        assert!(names.once("a", || Err(NoAddress("gone".into()))).is_err());
    }
}

//! Taking the port that a redirect comes back to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use nix::errno::Errno;

use crate::serve::lengthen_backlog;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// How many ports are tried until one is free on both loopback addresses. The system gives
/// another each time; even with half of them taken on one side, the chance to fail is 2^-32.
const MAX_TRIES: usize = 32;

/// Sockets that listen already, of which those that fit are taken.
pub type Open<'a> = &'a mut Vec<TcpListener>;

/// The sockets of one port, where it listens from now on: that of `host` (a name or an address, with
/// or without brackets) and `port`, or another if that is 0.
///
/// A loopback host stands for both loopback addresses, because a browser may take either for
/// `localhost`; if a stranger listened on the other one, the authorization code would be his. So
/// it is an error when that one is taken, but none when the machine doesn't have it.
///
/// # Errors
/// Names the address and the cause.
pub fn bind(host: &str, port: u16, open: Open) -> io::Result<Vec<TcpListener>> {
    let name = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    match name.parse::<IpAddr>() {
        Ok(V4) => bind_pair(V4, V6, port, open),
        Ok(V6) => bind_pair(V6, V4, port, open),
        Ok(address) => Ok(vec![listen(SocketAddr::new(address, port), open)?]),
        Err(_) if name.eq_ignore_ascii_case("localhost") => bind_pair(V4, V6, port, open),
        Err(_) => bind_name(name, port, open),
    }
}

/// A name that isn't ours to know: the first address of it that can be taken.
fn bind_name(name: &str, port: u16, open: Open) -> io::Result<Vec<TcpListener>> {
    let explain = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
    let mut outcome = Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("{name}: no such host"),
    ));
    for address in (name, port).to_socket_addrs().map_err(explain)? {
        outcome = listen(address, open).map(|it| vec![it]);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Both loopback addresses on one port, of which the machine must have the first.
fn bind_pair(first: IpAddr, second: IpAddr, port: u16, open: Open) -> io::Result<Vec<TcpListener>> {
    let mut tries: usize = if port == 0 { MAX_TRIES } else { 1 };
    loop {
        tries -= 1;
        let one = listen(SocketAddr::new(first, port), open)?;
        let chosen = one.local_addr()?.port();
        let address = SocketAddr::new(second, chosen);
        match take_or_bind(address, open) {
            Ok(other) => return Ok(vec![one, other]),
            Err(error) if is_absent(&error) => return Ok(vec![one]),
            Err(error) if tries == 0 => {
                let error = named(address, &error);
                let why = format!("{error} (and a browser may take it for localhost)");
                return Err(io::Error::new(error.kind(), why));
            }
            Err(_) => {}
        }
    }
}

/// The standard library's bind: close-on-exec, and SO_REUSEADDR, so that connections of a daemon
/// that has just ended don't keep its port from the next one.
fn listen(address: SocketAddr, open: Open) -> io::Result<TcpListener> {
    let listener = take_or_bind(address, open);
    let listener = listener.and_then(|it| lengthen_backlog(&it).map(|()| it));
    listener.map_err(|error| named(address, &error))
}

fn take_or_bind(address: SocketAddr, open: Open) -> io::Result<TcpListener> {
    let is_there = |it: &TcpListener| it.local_addr().is_ok_and(|at| at == address);
    match open.iter().position(is_there) {
        Some(at) => Ok(open.swap_remove(at)),
        None => TcpListener::bind(address),
    }
}

fn named(address: SocketAddr, error: &io::Error) -> io::Error {
    let cause = match error.raw_os_error() {
        Some(code) => Errno::from_raw(code).desc().to_lowercase(),
        None => error.to_string(),
    };
    io::Error::new(error.kind(), format!("can't listen on {address}: {cause}"))
}

/// Whether the machine lacks this address, or its whole family.
fn is_absent(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(bound: &[TcpListener]) -> Vec<IpAddr> {
        let addresses = bound.iter().map(|socket| socket.local_addr().unwrap().ip());
        addresses.collect()
    }

    fn port(socket: &TcpListener) -> u16 {
        socket.local_addr().unwrap().port()
    }

    fn has_v6() -> bool {
        TcpListener::bind((V6, 0)).is_ok()
    }

    // Covers: H9
    #[test]
    fn a_loopback_host_is_both_addresses_on_one_port() {
        for host in ["127.0.0.1", "localhost", "LOCALHOST", "::1", "[::1]"] {
            if !has_v6() {
                continue;
            }
            let bound = bind(host, 0, &mut Vec::new()).unwrap();
            let mut found = addresses(&bound);
            found.sort();
            assert_eq!(found, [V4, V6], "{host}");
            for socket in &bound {
                assert_eq!(port(socket), port(&bound[0]));
            }
        }
    }

    #[test]
    fn another_address_is_itself_only() {
        let bound = bind("0.0.0.0", 0, &mut Vec::new()).unwrap();
        assert_eq!(addresses(&bound), [IpAddr::V4(Ipv4Addr::UNSPECIFIED)]);
    }

    #[test]
    fn a_port_that_is_taken_on_either_address_is_an_error_that_names_it() {
        let taken = bind("127.0.0.1", 0, &mut Vec::new()).unwrap();
        let error = bind("localhost", port(&taken[0]), &mut Vec::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "can't listen on 127.0.0.1:{}: address already in use",
                port(&taken[0])
            )
        );
        if has_v6() {
            let stranger = TcpListener::bind((V6, 0)).unwrap();
            let port = port(&stranger);
            let error = bind("127.0.0.1", port, &mut Vec::new())
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(&format!(":{port}: address already in use")),
                "{error}"
            );
        }
    }

    #[test]
    fn an_address_of_another_machine_is_an_error_that_names_it() {
        let error = bind("192.0.2.1", 0, &mut Vec::new())
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("can't listen on 192.0.2.1:0: "),
            "{error}"
        );
    }
}

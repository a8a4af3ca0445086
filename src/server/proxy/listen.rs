//! Taking the addresses of the proxies.

use std::os::{fd::OwnedFd, unix::net::UnixListener};
use std::{io, net::TcpListener, path::PathBuf};

use crate::config::Proxy;
use crate::server::base::{activation, error::other, runtime_files};
use crate::{error::Failure, paths, redirect, serve::Listener};

/// Listens at the addresses of `proxies`; each listener comes with the number of its proxy. Sockets
/// that are `open` already are taken.
///
/// # Errors
/// When one can't be listened on.
pub fn listen(proxies: &[Proxy], open: Vec<OwnedFd>) -> Result<Vec<(usize, Listener)>, Failure> {
    let (mut ports, mut paths) = (Vec::new(), Vec::new());
    for fd in open {
        let port = TcpListener::from(fd);
        match port.local_addr() {
            Ok(_) => ports.push(port),
            Err(_) => paths.extend(activation::listener(port.into())),
        }
    }
    let mut listeners = Vec::new();
    for (number, proxy) in proxies.iter().enumerate() {
        let address = &proxy.address;
        let made = at(address, &mut ports, &mut paths);
        let made = made.map_err(|failure| other(&format!("proxy {address}: {}", failure.what)))?;
        listeners.extend(made.into_iter().map(|listener| (number, listener)));
    }
    Ok(listeners)
}

fn at(
    address: &str,
    ports: &mut Vec<TcpListener>,
    open: &mut Vec<(PathBuf, UnixListener)>,
) -> Result<Vec<Listener>, Failure> {
    let port = address.rsplit_once(':').filter(|_| !address.contains('/'));
    if let Some((host, port)) = port.and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        let bound = redirect::bind(host, port, ports)?;
        let listeners = bound.into_iter().map(Listener::new);
        return Ok(listeners.collect::<io::Result<_>>()?);
    }
    let path = paths::expand(address).ok_or_else(|| other("there is no home directory"))?;
    let listener = match open.iter().position(|(known, _)| *known == path) {
        Some(at) => open.swap_remove(at).1,
        None => runtime_files::listen(&path)?.0,
    };
    Ok(vec![Listener::new(listener)?])
}

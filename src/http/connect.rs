//! Connecting to a provider, by way of a proxy if there is one. Addresses are raced (RFC 8305), TCP
//! and TLS have time limits of their own, and every failure here says that nothing was sent.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use socket2::{Domain, Socket, Type};
use ureq::{
    Error, Timeout,
    unversioned::transport::{
        Buffers, ConnectProxyConnector, ConnectionDetails, Connector, LazyBuffers, NextTimeout,
        RustlsConnector, SocksConnector, Transport,
    },
};

use super::{
    head::ShortHead,
    names::NotConnected,
    trust::{tls_error, tls_failure},
};

use crate::oauth::token::Refusal;

/// How long the first address may be silent before the second is tried as well: what RFC 8305, 5
/// recommends.
const FIRST_DELAY: Duration = Duration::from_millis(250);

/// How long each further address may be silent before the next is tried as well: the least that
/// RFC 8305, 5 recommends, so that a name with eight dead addresses costs less than a second.
const NEXT_DELAY: Duration = Duration::from_millis(100);

/// How long a step of connecting may take, until one of all the addresses has taken the connection,
/// and then until TLS is agreed on with it: three lost packets and their repetitions, so that a second
/// address gets its turn within the time of a request.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes connections for ureq.
#[derive(Debug)]
pub(super) struct Connect {
    step: Duration,
    tls: RustlsConnector,
}

impl Connect {
    /// A step takes `step` at most.
    pub(super) fn new(step: Duration) -> Self {
        Connect {
            step,
            tls: RustlsConnector::default(),
        }
    }

    /// Tries one address after the other until one takes the connection and agrees on TLS.
    fn directly(&self, details: &ConnectionDetails) -> Result<Box<dyn Transport>, Error> {
        let mut addresses = details.addrs.to_vec();
        // One budget for all of them: ureq has computed it when connecting began.
        let began = Instant::now();
        let left = || details.timeout.after.saturating_sub(began.elapsed());
        loop {
            let (stream, address) = race(&addresses, self.step.min(left()))?;
            addresses.retain(|it| *it != address);
            match self.secure(details, Box::new(Tcp::new(stream, details)), left()) {
                // Another address may do better, unless it is about certificates.
                Err(error) if !addresses.is_empty() && is_silence(&error) => {}
                outcome => return outcome,
            }
        }
    }

    /// Agrees on TLS if the URL wants that, within what is `left` of the time to connect.
    fn secure(
        &self,
        details: &ConnectionDetails,
        stream: Box<dyn Transport>,
        left: Duration,
    ) -> Result<Box<dyn Transport>, Error> {
        let limited = ConnectionDetails {
            uri: details.uri,
            addrs: details.addrs.clone(),
            config: details.config,
            request_level: details.request_level,
            resolver: details.resolver,
            now: (details.current_time)(),
            timeout: NextTimeout {
                after: self.step.min(left).into(),
                ..details.timeout
            },
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        match self.tls.connect(&limited, Some(stream)) {
            Ok(Some(secured)) => Ok(Box::new(secured)),
            Ok(None) => Err(Error::ConnectionFailed),
            Err(Error::Timeout(_)) => {
                let what = "the connection was taken, but TLS got no answer";
                Err(io::Error::new(ErrorKind::TimedOut, what).into())
            }
            Err(error) => Err(error),
        }
    }
}

impl Connector<()> for Connect {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        let connected = through_proxy(details).and_then(|tunnel| match tunnel {
            Some(tunnel) => self.secure(details, tunnel, *details.timeout.after),
            None => self.directly(details),
        });
        let short = |inner| Some(ShortHead::new(inner).boxed());
        connected.map(short).map_err(|error| match error {
            // The way to a proxy is connected to by this, too.
            Error::Other(why) if why.is::<NotConnected>() => Error::Other(why),
            error => NotConnected(words(&error)).into(),
        })
    }
}

/// A connection by way of the proxy that the environment names, if there is one for this host.
fn through_proxy(details: &ConnectionDetails) -> Result<Option<Box<dyn Transport>>, Error> {
    let socks = SocksConnector::default();
    if let Some(tunnel) = Connector::<()>::connect(&socks, details, None)? {
        return Ok(Some(tunnel.boxed()));
    }
    let tunnel = Connector::<()>::connect(&ConnectProxyConnector::default(), details, None)?;
    Ok(tunnel.map(Transport::boxed))
}

/// Whether this address doesn't answer, though it has taken the connection.
fn is_silence(error: &Error) -> bool {
    // What rustls has wrapped is an answer.
    matches!(error, Error::Io(error) if tls_error(error).is_none())
}

/// Why there is no connection.
fn words(error: &Error) -> String {
    let of_tls = match error {
        Error::Rustls(error) => Some(error),
        Error::Io(error) => tls_error(error),
        _ => None,
    };
    if let Some(Refusal { text, hint }) = of_tls.map(tls_failure) {
        return hint.map_or(text.clone(), |hint| format!("{text}: {hint}"));
    }
    match error {
        Error::Timeout(_) => "the connection took too long".into(),
        // Without ureq's "io: ", which tells a user nothing.
        Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// The first of the addresses that takes a connection. Each gets a little time to itself; then the
/// next one is tried beside it.
///
/// # Errors
/// Why the last of them failed, or that none has answered within `limit`.
pub fn race(addresses: &[SocketAddr], limit: Duration) -> io::Result<(TcpStream, SocketAddr)> {
    let end = Instant::now() + limit;
    let mut untried = addresses.iter();
    let mut delays = [FIRST_DELAY]
        .into_iter()
        .chain(std::iter::repeat(NEXT_DELAY));
    let mut under_way: Vec<(TcpStream, SocketAddr)> = Vec::new();
    let mut next_at = Instant::now();
    let mut failed = io::Error::new(ErrorKind::NotFound, "the name has no address");
    loop {
        let now = Instant::now();
        if now >= end {
            return Err(io::Error::new(ErrorKind::TimedOut, "no address answered"));
        }
        if now >= next_at || under_way.is_empty() {
            match untried.next() {
                Some(address) => {
                    match begin(*address) {
                        Ok(stream) => under_way.push((stream, *address)),
                        Err(error) => {
                            failed = error;
                            continue;
                        }
                    }
                    next_at = now + delays.next().unwrap_or(NEXT_DELAY);
                }
                None if under_way.is_empty() => return Err(failed),
                None => next_at = end,
            }
        }
        for at in ready(&under_way, next_at.min(end).saturating_duration_since(now))? {
            let (stream, address) = under_way.swap_remove(at);
            match connected(&stream) {
                Ok(()) => return Ok((stream, address)),
                Err(error) => {
                    failed = error;
                    next_at = now;
                }
            }
        }
    }
}

/// Begins to connect.
fn begin(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let under_way = [Errno::EINPROGRESS, Errno::EINTR].map(|it| Some(it as i32));
    match socket.connect(&address.into()) {
        Err(error) if !under_way.contains(&error.raw_os_error()) => Err(error),
        Ok(()) | Err(_) => Ok(socket.into()),
    }
}

/// Which of the connections under way have come to something within `limit`, the last one first.
fn ready(under_way: &[(TcpStream, SocketAddr)], limit: Duration) -> io::Result<Vec<usize>> {
    let mut waiting: Vec<PollFd> = under_way
        .iter()
        .map(|(stream, _)| PollFd::new(stream.as_fd(), PollFlags::POLLOUT))
        .collect();
    match poll(&mut waiting, poll_timeout(limit)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let ready = waiting.iter().enumerate().rev();
    let ready = ready.filter(|(_, fd)| fd.any().unwrap_or_default());
    Ok(ready.map(|(at, _)| at).collect())
}

/// So long as poll(2) has it, and a millisecond more, so that the time is over when poll says so.
pub fn poll_timeout(limit: Duration) -> PollTimeout {
    PollTimeout::try_from(limit.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX)
}

/// What has come of connecting.
fn connected(stream: &TcpStream) -> io::Result<()> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)
}

/// A connection as ureq wants it; its own can't be made of a socket.
#[derive(Debug)]
struct Tcp {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl Tcp {
    fn new(stream: TcpStream, details: &ConnectionDetails) -> Self {
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Tcp { stream, buffers }
    }
}

/// A time limit for the next step on a socket.
fn limit(timeout: NextTimeout) -> Result<Option<Duration>, Error> {
    match timeout.after.is_not_happening() {
        true => Ok(None),
        false if timeout.after.is_zero() => Err(Error::Timeout(timeout.reason)),
        false => Ok(Some(*timeout.after)),
    }
}

/// What a time limit of the system's is called depends on the system.
fn outcome<T>(outcome: io::Result<T>, reason: Timeout) -> Result<T, Error> {
    outcome.map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout(reason),
        _ => Error::Io(error),
    })
}

impl Transport for Tcp {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_write_timeout(limit(timeout)?)?;
        let output = self.buffers.output();
        let output = output.get(..amount).unwrap_or(output);
        outcome(self.stream.write_all(output), timeout.reason)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.set_read_timeout(limit(timeout)?)?;
        let input = self.buffers.input_append_buf();
        let read = loop {
            match self.stream.read(input) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break outcome(read, timeout.reason)?,
            }
        };
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    /// Never for another request: what a server sends unasked would be taken for the answer to that.
    fn is_open(&mut self) -> bool {
        false
    }
}

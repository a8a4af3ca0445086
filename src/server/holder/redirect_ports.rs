//! The redirect listeners: their ports, which browsers know and which stay as they are for as long as
//! a server runs, and through a restart.

use std::{io, net::TcpListener, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::config::{Config, Listen};
use crate::redirect::{self, Bound, Identity, Site};
use crate::server::base::error::other;
use crate::server::ipc::slots::{Slot, SlotReader, SlotWriter};
use crate::{core::Ports, error::Failure};

/// All of them.
#[derive(Default)]
pub struct RedirectPorts {
    /// The ports' numbers.
    pub ports: Ports,
    /// What the https listener shows to browsers.
    pub identity: Option<Arc<Identity>>,
    sockets: Vec<PortSockets>,
}

/// The sockets of one port, and the certificate with which it is https.
struct PortSockets {
    port: u16,
    sockets: Vec<Arc<TcpListener>>,
    identity: Option<Arc<Identity>>,
}

/// The listeners of one port, for a successor.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortState {
    port: u16,
    sockets: Vec<Slot>,
    identity: Option<IdentityState>,
}

/// A certificate and its key. (Whatever is freed is wiped, see sys/alloc.rs.)
pub type IdentityState = (Vec<u8>, Vec<u8>);

/// A certificate for a successor.
pub fn identity_state(identity: &Identity) -> IdentityState {
    (identity.certificate().to_vec(), identity.key().to_vec())
}

/// The certificate of a predecessor.
///
/// # Errors
/// When it makes no sense.
pub fn identity_of((certificate, key): &IdentityState) -> io::Result<Identity> {
    Identity::from_der(certificate.clone(), key)
}

impl RedirectPorts {
    /// As the configuration says; where that doesn't name a port, on that of a predecessor, which
    /// requests that are pending name.
    ///
    /// # Errors
    /// When a port is taken.
    pub fn bind(
        config: &Config,
        before: Ports,
        identity: Option<Identity>,
    ) -> Result<Self, Failure> {
        let mut ports = RedirectPorts::default();
        if let Listen::On { host, port } = &config.http_listen {
            let bound = bind("http_listen", host, *port, before.http)?;
            ports.add(bound.port, bound.sockets, None);
        }
        if let Listen::On { host, port } = &config.https_listen {
            let bound = bind("https_listen", host, *port, before.https)?;
            let identity = identity.map_or_else(|| Identity::generate(&https_hosts(config)), Ok);
            let identity =
                identity.map_err(|error| other(&format!("can't make a certificate: {error}")))?;
            ports.add(bound.port, bound.sockets, Some(Arc::new(identity)));
        }
        Ok(ports)
    }

    /// Those of a predecessor.
    ///
    /// # Errors
    /// When a socket is missing, or the certificate makes no sense.
    pub fn adopt(states: Vec<PortState>, fds: &mut SlotReader) -> io::Result<Self> {
        let mut ports = RedirectPorts::default();
        for state in states {
            let identity = state.identity()?.map(Arc::new);
            let sockets = state.sockets.into_iter();
            let sockets = sockets.map(|slot| fds.take(slot).map(TcpListener::from));
            let sockets = sockets.collect::<io::Result<_>>()?;
            ports.add(state.port, sockets, identity);
        }
        Ok(ports)
    }

    fn add(&mut self, port: u16, sockets: Vec<TcpListener>, identity: Option<Arc<Identity>>) {
        if identity.is_some() {
            self.ports.https = Some(port);
            self.identity.clone_from(&identity);
        } else {
            self.ports.http = Some(port);
        }
        self.sockets.push(PortSockets {
            port,
            sockets: sockets.into_iter().map(Arc::new).collect(),
            identity,
        });
    }

    /// The same sockets once more, to be served.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn sites(&self) -> io::Result<Vec<Site>> {
        let ports = self.sockets.iter();
        ports
            .map(|it| {
                let sockets = it.sockets.iter().map(|socket| socket.try_clone());
                Ok(Site {
                    bound: Bound {
                        sockets: sockets.collect::<io::Result<_>>()?,
                        port: it.port,
                    },
                    identity: it.identity.clone(),
                })
            })
            .collect()
    }

    /// What a successor needs; the sockets go along.
    pub fn state(&self, fds: &mut SlotWriter) -> Vec<PortState> {
        let ports = self.sockets.iter();
        ports
            .map(|it| PortState {
                port: it.port,
                sockets: it.sockets.iter().map(|it| fds.put(it.clone())).collect(),
                identity: it.identity.as_deref().map(identity_state),
            })
            .collect()
    }

    /// Lets the ports go.
    pub fn release(&mut self) {
        self.sockets.clear();
    }
}

impl PortState {
    /// The certificate, if there is one.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn identity(&self) -> io::Result<Option<Identity>> {
        self.identity.as_ref().map(identity_of).transpose()
    }
}

/// What doesn't change of the redirect listeners as long as a server runs.
pub struct RedirectInfo {
    /// Their ports.
    pub ports: Ports,
    /// What the https listener shows to browsers.
    pub identity: Option<Arc<Identity>>,
    /// The configuration of both ([`listeners`]).
    pub listeners: String,
}

impl RedirectInfo {
    /// Of these, as this configuration has them.
    pub fn of(redirects: &RedirectPorts, config: &Config) -> Self {
        RedirectInfo {
            ports: redirects.ports,
            identity: redirects.identity.clone(),
            listeners: listeners(config),
        }
    }
}

/// What of the configuration needs other listeners: that is more than a reload or a restart in place
/// can do.
pub fn listeners(config: &Config) -> String {
    format!("{:?} {:?}", config.http_listen, config.https_listen)
}

fn bind(option: &str, host: &str, port: u16, before: Option<u16>) -> Result<Bound, Failure> {
    let again = before.filter(|_| port == 0);
    if let Some(Ok(bound)) = again.map(|port| redirect::bind(host, port)) {
        return Ok(bound);
    }
    redirect::bind(host, port).map_err(|error| other(&format!("{option}: {error}")))
}

/// The hosts that https redirects go to, beside the loopback's names.
fn https_hosts(config: &Config) -> Vec<&str> {
    let accounts = config.accounts.iter();
    let listened = accounts.filter(|account| account.pasted_redirect.is_none());
    let uris = listened
        .map(|account| &account.registration)
        .filter(|it| it.auth_uri.is_some() || it.issuer.is_some())
        .map(|it| &it.redirect_uri);
    let mut hosts: Vec<&str> = uris
        .filter(|uri| uri.scheme() == "https")
        .filter_map(|uri| uri.host_str())
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

//! The redirect listeners: their ports, which browsers know and which stay as they are for as long as
//! a server runs, and through a restart.

use std::{io, net::TcpListener, sync::Arc};

use serde::{Deserialize, Serialize};

use super::fdstore::StoredState;
use crate::config::{Config, Listen};
use crate::redirect::{self, Identity, IdentityDer, Open, Site};
use crate::server::base::error::other;
use crate::server::ipc::slots::{Slot, SlotReader, SlotWriter};
use crate::{core::Ports, error::Failure};

/// All of them.
pub struct RedirectPorts(Vec<Site>);

/// The listeners of one port, for a successor.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortState {
    port: u16,
    sockets: Vec<Slot>,
    identity: Option<IdentityDer>,
}

impl RedirectPorts {
    /// As the configuration says; where that doesn't name a port, on that of a predecessor, which
    /// requests that are pending name. Sockets that are `open` already are taken.
    ///
    /// # Errors
    /// When a port is taken.
    pub fn bind(
        config: &Config,
        before: Option<&StoredState>,
        open: Open,
    ) -> Result<Self, Failure> {
        let (before, identity) =
            before.map_or_else(Default::default, |it| (it.ports(), it.identity()));
        let mut sites = Vec::new();
        if let Listen::On { host, port } = &config.http_listen {
            sites.push(Site {
                sockets: bind("http_listen", host, *port, before.http, open)?,
                identity: None,
            });
        }
        if let Listen::On { host, port } = &config.https_listen {
            let sockets = bind("https_listen", host, *port, before.https, open)?;
            let identity = identity.map_or_else(|| Identity::generate(&https_hosts(config)), Ok);
            let identity =
                identity.map_err(|error| other(&format!("can't make a certificate: {error}")))?;
            let identity = Some(Arc::new(identity));
            sites.push(Site { sockets, identity });
        }
        Ok(RedirectPorts(sites))
    }

    /// Those of a predecessor.
    ///
    /// # Errors
    /// When a socket is missing, or the certificate makes no sense.
    pub fn adopt(states: Vec<PortState>, fds: &mut SlotReader) -> io::Result<Self> {
        let sites = states.into_iter().map(|state| {
            let identity = state.identity()?.map(Arc::new);
            let sockets = state.sockets.into_iter();
            let sockets = sockets.map(|slot| fds.take(slot).map(TcpListener::from));
            let sockets = sockets.collect::<io::Result<_>>()?;
            Ok(Site { sockets, identity })
        });
        sites.collect::<io::Result<_>>().map(RedirectPorts)
    }

    /// The same sockets once more, to be served.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn sites(&self) -> io::Result<Vec<Site>> {
        self.0.iter().map(Site::try_clone).collect()
    }

    /// What a successor needs; the sockets go along.
    ///
    /// # Errors
    /// As [`RedirectPorts::sites`].
    pub fn state(&self, fds: &mut SlotWriter) -> io::Result<Vec<PortState>> {
        let sites = self.sites()?.into_iter();
        let states = sites.map(|site| {
            Ok(PortState {
                port: site.port()?,
                sockets: site.sockets.into_iter().map(|it| fds.put(it)).collect(),
                identity: site.identity.as_deref().map(|it| it.der.clone()),
            })
        });
        states.collect()
    }

    /// Lets the ports go.
    pub fn release(&mut self) {
        self.0.clear();
    }
}

impl PortState {
    /// The certificate, if there is one.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn identity(&self) -> io::Result<Option<Identity>> {
        self.identity.as_ref().map(Identity::from_der).transpose()
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
        let RedirectPorts(sites) = redirects;
        let port = |secure| {
            let site = sites.iter().find(|it| it.identity.is_some() == secure);
            site.and_then(|it| it.port().ok())
        };
        RedirectInfo {
            ports: Ports {
                http: port(false),
                https: port(true),
            },
            identity: sites.iter().find_map(|it| it.identity.clone()),
            listeners: listeners(config),
        }
    }
}

/// What of the configuration needs other listeners: that is more than a reload or a restart in place
/// can do.
pub fn listeners(config: &Config) -> String {
    format!("{:?} {:?}", config.http_listen, config.https_listen)
}

fn bind(
    option: &str,
    host: &str,
    port: u16,
    before: Option<u16>,
    open: Open,
) -> Result<Vec<TcpListener>, Failure> {
    let again = before.filter(|_| port == 0);
    if let Some(Ok(sockets)) = again.map(|port| redirect::bind(host, port, open)) {
        return Ok(sockets);
    }
    redirect::bind(host, port, open).map_err(|error| other(&format!("{option}: {error}")))
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

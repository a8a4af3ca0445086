//! Restart in place: the monitor becomes a new version of the program by execve(2), which forks its
//! own token holder, and that goes on. The sockets stay open, so clients wait a moment instead of failing;
//! the monitor's process stays the same, so its supervisor notices nothing; the state goes
//! through memory that has no name, and through the monitor as a descriptor only.
//!
//! Before the point of no return the new program is tried as a process of its own, with the same
//! state and the same configuration: what it doesn't understand is refused, and nothing has happened.
//! It has understood when it says so in the words of [`memfd::proof`]; that it ends well is no sign.

use std::io::{self, Read, Seek};
use std::{fs::File, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    hooks::HooksState,
    proxies::ProxiesState,
    redirect_ports::{PortState, listeners},
};
use crate::core::{CoreState, STATE_VERSION};
use crate::server::base::config_file::{self, ConfigText};
use crate::server::base::error::other;
use crate::server::ipc::capability::Capabilities;
use crate::server::ipc::{memfd, slots::Slot};
use crate::{config::Config, error::Failure, secret::SecretBytes};

/// What the state starts with.
const MAGIC: &str = "pizauth handover ";

/// All that the successor needs.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// The configuration as its text, so that what was tried is what will be in force.
    pub config: ConfigText,
    /// The capabilities of what it names, and those of the configuration before.
    pub grants: Capabilities,
    pub old_grants: Capabilities,
    /// Which listeners there are, in the words of [`listeners`].
    pub listeners: String,
    pub restarts: u32,
    pub lock: Slot,
    pub control: Slot,
    /// The control socket's file is a service manager's.
    pub given: bool,
    pub redirects: Vec<PortState>,
    pub restricted: Vec<Slot>,
    pub hooks: HooksState,
    #[serde(default)]
    pub proxies: ProxiesState,
    /// `None` where checkpoints have it.
    pub core: Option<CoreState>,
}

/// What a successor is to go by.
#[derive(Clone)]
pub struct NewConfig {
    /// The configuration.
    pub text: ConfigText,
    /// The capabilities of what it names.
    pub capabilities: Capabilities,
}

impl Handover {
    /// Memory that holds it, without a name, closed on exec.
    pub fn memory(&self) -> io::Result<File> {
        memfd::write(MAGIC, STATE_VERSION, self)
    }

    /// What a predecessor wrote.
    pub fn read(file: &mut impl Read) -> Result<Self, Failure> {
        memfd::read(MAGIC, STATE_VERSION, file).map_err(|why| {
            other(&format!(
                "the running server's state can't be taken over: {why}"
            ))
        })
    }
}

/// Reads and checks what a predecessor has left in `state`.
pub fn take(config_file: &Path, mut state: &File) -> Result<(Handover, Config), Failure> {
    let rewound = state.rewind();
    rewound.map_err(|error| other(&format!("there is no state: {error}")))?;
    let handover = Handover::read(&mut state)?;
    check(handover, config_file)
}

/// Reads and checks what may be handed over, from standard input: what shows that it was understood.
pub fn try_out(config_file: &Path) -> Result<String, Failure> {
    let mut bytes = SecretBytes::default();
    let read = io::stdin().read_to_end(&mut bytes);
    read.map_err(|error| other(&format!("there is no state: {error}")))?;
    check(Handover::read(&mut bytes.as_slice())?, config_file)?;
    Ok(memfd::proof(&bytes))
}

/// What a successor is given, if it can go by it: the configuration goes with the listeners that
/// there are.
pub fn check(handover: Handover, config_file: &Path) -> Result<(Handover, Config), Failure> {
    let config = config_file::parse(config_file, &handover.config)?;
    if listeners(&config) != handover.listeners {
        return Err(other(
            "http_listen or https_listen was changed, which needs a stop and a start",
        ));
    }
    for port in &handover.redirects {
        let identity = port.identity();
        identity.map_err(|error| other(&format!("the certificate makes no sense: {error}")))?;
    }
    Ok((handover, config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_another_version_or_of_no_kind_is_refused() {
        let refused = |text: &str| {
            let outcome = Handover::read(&mut text.as_bytes());
            outcome
                .err()
                .map(|failure| failure.what)
                .unwrap_or_default()
        };
        let cant = "the running server's state can't be taken over: ";
        for (text, why) in [
            ("", "it is none"),
            ("pizauth dump 1\nx", "it is none"),
            ("pizauth handover 2", "it is none"),
            (
                "pizauth handover 1\n{}",
                "it is of version 1, and this program knows version 15",
            ),
        ] {
            assert_eq!(refused(text), format!("{cant}{why}"));
        }
        assert!(refused("pizauth handover 7\n{}").starts_with(cant));
    }
}

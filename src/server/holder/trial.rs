//! The trial of the program that a restart would run, with the very state that it would get.

use std::io::{self, Read, Seek};
use std::{os::fd::AsFd, sync::Arc};

use super::handover::{Handover, NewConfig};
use super::{helpers, hooks::HooksState, state::Holder};
use crate::server::base::{config_file, error::other};
use crate::server::ipc::{helper_messages::HelperKind, memfd, slots::SlotWriter};
use crate::{error::Failure, secret::SecretBytes};

/// Has the program tried that is there now, and asks the main thread to become it. May wait for a
/// disk.
///
/// # Errors
/// Why it wouldn't do.
pub fn prepare(holder: &Arc<Holder>) -> Result<(), Failure> {
    config_file::check_readable_again()?;
    try_program(holder)?;
    holder.restart.with(|restart| restart.wanted = true);
    holder.effects.alarm.ring();
    Ok(())
}

/// Reads the configuration, and has the program that is there now look at it and at the state as it
/// is now.
///
/// # Errors
/// Why it wouldn't do.
pub fn try_program(holder: &Holder) -> Result<NewConfig, Failure> {
    let (_, text, capabilities) = helpers::read_config(&holder.monitor, &holder.config_file)?;
    let config = NewConfig { text, capabilities };
    try_out(holder, &config)?;
    Ok(config)
}

fn try_out(holder: &Holder, config: &NewConfig) -> Result<(), Failure> {
    let cant = |error: io::Error| other(&format!("the state can't be handed over: {error}"));
    // What goes along is only counted.
    let mut fds = SlotWriter::default();
    let memory = describe(holder, config, &mut fds)
        .and_then(|state| state.memory())
        .map_err(cant)?;
    let mut bytes = SecretBytes::default();
    let read = (&memory)
        .read_to_end(&mut bytes)
        .and_then(|_| (&memory).rewind());
    let outcome = read.map_err(cant).and_then(|()| {
        let mut helper = holder.monitor.helper(HelperKind::Trial)?;
        helper.try_program(memory.as_fd())
    });
    memfd::discard(&memory);
    match outcome? == memfd::proof(&bytes) {
        true => Ok(()),
        // Any program may end well.
        false => Err(
            other("the new program doesn't show that it has read the state")
                .hint("is the file at the server's path pizauth, and whole?"),
        ),
    }
}

/// The state as it is now, and what it counts.
///
/// # Errors
/// When the server is just ending, or its hooks can't be handed over.
pub fn describe(holder: &Holder, config: &NewConfig, fds: &mut SlotWriter) -> io::Result<Handover> {
    Ok(Handover {
        hooks: holder.effects.hooks.state(fds)?,
        core: Some(holder.engine.with(|core, cx| core.state(cx.now))),
        ..describe_sockets(holder, config, fds)?
    })
}

/// The same without what changes all the time.
///
/// # Errors
/// When the server is just ending.
pub fn describe_sockets(
    holder: &Holder,
    config: &NewConfig,
    fds: &mut SlotWriter,
) -> io::Result<Handover> {
    let ending = || io::Error::other("the server is just ending");
    let (lock, control, given) = holder.socket.parts().ok_or_else(ending)?;
    let restricted = holder.restricted.sockets().into_iter();
    Ok(Handover {
        config: config.text.clone(),
        grants: config.capabilities.clone(),
        old_grants: holder.monitor.capabilities(),
        listeners: holder.redirect_info.listeners.clone(),
        restarts: holder.restarts,
        lock: fds.put(lock),
        control: fds.put(control),
        given,
        redirects: holder.redirects.with(|redirects| redirects.state(fds))?,
        restricted: restricted.map(|socket| fds.put(socket)).collect(),
        hooks: HooksState::default(),
        proxies: holder.proxies.state(fds),
        core: None,
    })
}

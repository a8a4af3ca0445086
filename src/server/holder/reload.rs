//! Reading the configuration again: all of it, or nothing.

use std::sync::Arc;

use sd_notify::NotifyState;

use super::{checkpoints, fdstore, helpers, redirect_ports::listeners, state::Holder};
use crate::{error::Failure, server::base::config_file, sys};

/// The ports that browsers know don't change while the server runs.
const LISTENERS_STAY: &str = "http_listen and https_listen stay as they were until you run \
                              `pizauth shutdown` and `pizauth server`\n";

/// Reads the config again; the service manager hears of it from its beginning to its end. The remark
/// says what needs a restart. May wait for a disk.
///
/// # Errors
/// Why nothing has changed.
pub fn reload(holder: &Arc<Holder>) -> Result<String, Failure> {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        fdstore::notify(&holder.monitor, &[NotifyState::Reloading, now]);
    }
    let outcome = try_reload(holder);
    fdstore::notify(&holder.monitor, &[NotifyState::Ready]);
    outcome
}

fn try_reload(holder: &Arc<Holder>) -> Result<String, Failure> {
    #[cfg(all(debug_assertions, target_os = "linux"))]
    super::intruder::visit(holder);
    config_file::check_readable_again()?;
    let monitor = &holder.monitor;
    let (config, text, capabilities) = helpers::read_config(monitor, &holder.config_file)?;
    let sockets = (holder.restricted).prepare(&config.sockets, &capabilities)?;
    // Nothing fails from here on.
    holder.proxies.replace(&config.proxies)?;
    monitor.learn(capabilities);
    let listeners = listeners(&config);
    // With 10,000 accounts, letting go of it takes as long as the event.
    let before = holder.engine.with(|core, _| core.config().clone());
    holder.engine.with(|core, cx| core.reload(cx, config));
    drop(before);
    holder.restricted.commit(sockets);
    holder.effects.alarm.ring();
    holder.effects.keeper.learn(text);
    checkpoints::guard(holder);
    checkpoints::store(holder)?;
    sys::trim();
    log::info!("the configuration was reloaded");
    if listeners == holder.redirect_info.listeners {
        Ok(String::new())
    } else {
        Ok(LISTENERS_STAY.into())
    }
}

//! `pizauth info`: this program, its files, and the server if one runs.

use serde::Serialize;

use super::{ask, print, read};
use crate::{
    error::{Exit, Failure},
    paths,
    view::ServerInfo,
    wire::{self, Request},
};

/// Raised when a script that reads `info -j` would have to change.
const FORMAT_VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Info {
    cache_directory: String,
    config_file: String,
    executed_as: String,
    info_format_version: u32,
    pizauth_version: &'static str,
    server_running: bool,
    socket: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_info: Option<ServerInfo>,
}

pub(super) fn run(json: bool) -> Result<(), Failure> {
    let info = gather()?;
    if json {
        let mut text = serde_json::to_string(&info)
            .map_err(|error| Failure::new(Exit::Other, error.to_string()))?;
        text.push('\n');
        return print(text.as_bytes());
    }
    print(render(&info).as_bytes())
}

fn gather() -> Result<Info, Failure> {
    let (server_running, server_info) = match ask(&Request::Info) {
        Ok(body) => (true, Some(read(&body)?)),
        Err(failure) if failure.exit == Exit::NoServer => (false, None),
        // A restricted socket says no more than that.
        Err(failure) if failure.what == wire::NOT_ALLOWED => (true, None),
        Err(failure) => return Err(failure),
    };
    let address = paths::address()?;
    let executed_as = std::env::args_os().next().unwrap_or_default();
    Ok(Info {
        cache_directory: address.dir.display().to_string(),
        config_file: paths::config().map_or(String::new(), |path| path.display().to_string()),
        executed_as: executed_as.to_string_lossy().into_owned(),
        info_format_version: FORMAT_VERSION,
        pizauth_version: env!("CARGO_PKG_VERSION"),
        server_running,
        server_info,
        socket: address.socket.display().to_string(),
    })
}

fn render(info: &Info) -> String {
    let mut text = format!(
        "pizauth version {}\n  executed as: {}\n  config file: {}\n  cache directory: {}\n  socket: {}\n",
        info.pizauth_version, info.executed_as, info.config_file, info.cache_directory, info.socket
    );
    let Some(server) = &info.server_info else {
        text.push_str(match info.server_running {
            true => "server: running, and this socket tells no more of it\n",
            false => "server: not running\n",
        });
        return text;
    };
    let port = |port: Option<u16>| port.map_or("none".into(), |port| port.to_string());
    let or_none = |text: &Option<String>| text.clone().unwrap_or("none".into());
    text.push_str(&format!(
        "server: running, process {}\n  version: {}\n  config file: {}\n  http port: {}\n  \
         https port: {}\n  https public key: {}\n  https certificate (SHA-256): {}\n  \
         token holder: process {}\n  sandbox: {}\n  hook runner: {}\n",
        server.pid,
        server.pizauth_version,
        server.config_file,
        port(server.http_port),
        port(server.https_port),
        or_none(&server.https_pub_key),
        or_none(&server.https_fingerprint),
        server.token_holder,
        server.sandbox.join(", "),
        hook_runner(server),
    ));
    text
}

fn hook_runner(server: &ServerInfo) -> String {
    let runner = match server.hook_runner {
        Some(process) => format!("process {process}"),
        None => "none".into(),
    };
    match server.hook_runner_losses {
        0 => runner,
        losses => format!("{runner} ({losses} killed before)"),
    }
}

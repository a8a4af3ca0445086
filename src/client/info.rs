//! `pizauth info`: this program, its files, and the server if one runs.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::{ask, older, print, read};
use crate::error::{Exit, Failure};
use crate::wire::{self, Request};
use crate::{cli::InfoOptions, paths, text::sanitize};

/// Raised when a script that reads `info -j` would have to change.
const FORMAT_VERSION: u32 = 2;

/// What people see of the server: the members in order, and what they are called.
const SERVER: [(&str, &str); 10] = [
    ("http_port", "http port"),
    ("https_port", "https port"),
    ("https_pub_key", "https public key"),
    ("https_pub_key_sha256", "https public key (SHA-256)"),
    ("https_fingerprint", "https certificate (SHA-256)"),
    ("pizauth_version", "server version"),
    ("pid", "server process"),
    ("token_holder", "token holder process"),
    ("sandbox", "sandbox"),
    ("hook_runner", "hook runner process"),
];

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
    server_info: Option<Value>,
}

pub(super) fn run(options: &InfoOptions) -> Result<(), Failure> {
    let config = options.config.as_deref();
    let info = gather(config)?;
    if options.json {
        let mut text =
            serde_json::to_string(&info).map_err(|error| Failure::other(error.to_string()))?;
        text.push('\n');
        return print(text.as_bytes());
    }
    print(render(&info, config.is_some()).as_bytes())
}

fn gather(config: Option<&Path>) -> Result<Info, Failure> {
    let (server_running, server_info) = match ask(&Request::Info) {
        Ok(body) => (true, Some(read(&body)?)),
        Err(failure) if older::is_here(&failure) => {
            (true, Some(read(&older::ask(&Request::Info)?)?))
        }
        Err(failure) if failure.exit == Exit::NoServer => (false, None),
        // A restricted socket says no more than that.
        Err(failure) if failure.what == wire::NOT_ALLOWED => (true, None),
        Err(failure) => return Err(failure),
    };
    let address = paths::client_address()?;
    let executed_as = std::env::args_os().next().unwrap_or_default();
    let config = config.map(Path::to_owned).map_or_else(paths::config, Ok);
    Ok(Info {
        cache_directory: address.dir.display().to_string(),
        config_file: config.map_or(String::new(), |path| path.display().to_string()),
        executed_as: executed_as.to_string_lossy().into_owned(),
        info_format_version: FORMAT_VERSION,
        pizauth_version: env!("CARGO_PKG_VERSION"),
        server_running,
        server_info,
        socket: address.socket.display().to_string(),
    })
}

/// Each key is there once, as scripts want it: the configuration is the one that was `named`, or
/// else the server's.
fn render(info: &Info, named: bool) -> String {
    let member = |name: &str| info.server_info.as_ref()?.get(name);
    let servers = member("config_file").and_then(Value::as_str);
    let config = servers.filter(|_| !named).unwrap_or(&info.config_file);
    let mut text = format!(
        "pizauth version {}:\n  cache directory: {}\n  config file: {config}\n  \
         executed as: {}\n  socket: {}\n  server: {}\n",
        info.pizauth_version,
        info.cache_directory,
        info.executed_as,
        info.socket,
        match (info.server_running, &info.server_info) {
            (true, Some(_)) => "running",
            (true, None) => "running, and this socket tells no more of it",
            (false, _) => "not running",
        }
    );
    for (name, label) in SERVER {
        // An older server has fewer.
        if let Some(value) = member(name) {
            text.push_str(&format!("  {label}: {}\n", shown(value)));
        }
    }
    let refused = member("sandbox_refused").and_then(Value::as_array);
    for refused in refused.into_iter().flatten() {
        text.push_str(&format!("  not in force: {}\n", shown(refused)));
    }
    if let Some(losses) = member("hook_runner_losses").filter(|losses| **losses != 0) {
        text.push_str(&format!("  hook runners killed before: {losses}\n"));
    }
    text
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => sanitize(text),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(shown).collect();
            values.join(", ")
        }
        other => sanitize(&other.to_string()),
    }
}

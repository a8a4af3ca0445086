//! Makes the capabilities of what the configuration has other processes do.

use crate::config::{ClientSecret, Config, TokenSource};
use crate::server::ipc::capability::{Capabilities, Key, SOCKET, TOKEN_FILE};
use crate::server::ipc::hook_messages::HookKind;

/// One for each command, token file and restricted socket.
pub fn grants(key: &Key, config: &Config) -> Capabilities {
    let accounts = || config.accounts.iter();
    let files = accounts().filter_map(|it| it.token_file.as_ref());
    let files = files.map(|file| (TOKEN_FILE, &*file.path));
    let sockets = config.sockets.iter().map(|socket| (SOCKET, &*socket.path));
    Capabilities::of(key, commands(config).chain(files).chain(sockets))
}

fn commands(config: &Config) -> impl Iterator<Item = (&'static str, &str)> {
    let global = [
        (HookKind::Load, &config.state_load_cmd),
        (HookKind::Save, &config.state_save_cmd),
        (HookKind::Startup, &config.startup_cmd),
        (HookKind::Event, &config.token_event_cmd),
        (HookKind::Error, &config.error_notify_cmd),
        (HookKind::Probe, &config.transient_error_if_cmd),
        (HookKind::Notify, &config.auth_notify_cmd),
    ];
    let global = global
        .into_iter()
        .filter_map(|(kind, command)| Some((kind, command.as_deref()?)));
    let secrets = config
        .accounts
        .iter()
        .filter_map(|it| match &it.client.secret {
            ClientSecret::Command(command) => Some((HookKind::Secret, command.as_str())),
            ClientSecret::None | ClientSecret::Given(_) => None,
        });
    let accounts = config.accounts.iter();
    let tokens = accounts.filter_map(|it| match &it.registration.source {
        TokenSource::Command(command) => Some((HookKind::Token, command.as_str())),
        TokenSource::Person | TokenSource::ClientCredentials | TokenSource::JwtBearer { .. } => {
            None
        }
    });
    global
        .chain(secrets)
        .chain(tokens)
        .map(|(kind, command)| (kind.option(), command))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Covers: sandbox
    #[test]
    fn what_the_configuration_has_others_do_is_granted() {
        let mut text = String::new();
        for option in [
            "auth_notify_cmd",
            "error_notify_cmd",
            "startup_cmd",
            "state_load_cmd",
            "state_save_cmd",
            "token_event_cmd",
            "transient_error_if_cmd",
        ] {
            text.push_str(&format!("{option} = \"run {option}\";\n"));
        }
        text.push_str(
            "account \"a\" {\n  auth_uri = \"https://a/\";\n  token_uri = \"https://t/\";\n  \
             client_id = \"c\";\n  client_secret_cmd = \"run s\";\n  token_file = \"/t\";\n}\n\
             account \"b\" { token_cmd = \"run t\"; }\n\
             socket \"/s\" { accounts = [\"a\"]; allow = [\"show\"]; }\n",
        );
        let config = crate::config::parse("x", &text).unwrap();
        let key = Key::of([1; 32]);
        let found = grants(&key, &config);
        let all = [
            "auth_notify_cmd",
            "client_secret_cmd",
            "error_notify_cmd",
            "socket",
            "startup_cmd",
            "state_load_cmd",
            "state_save_cmd",
            "token_cmd",
            "token_event_cmd",
            "token_file",
            "transient_error_if_cmd",
        ];
        assert_eq!(found.options(), all);
        for (option, value) in [
            ("auth_notify_cmd", "run auth_notify_cmd"),
            ("client_secret_cmd", "run s"),
            ("socket", "/s"),
            ("token_cmd", "run t"),
            ("token_file", "/t"),
        ] {
            let capability = found.find(option, value).unwrap();
            assert!(key.allows(option, value, &capability), "{option}");
        }
        assert_eq!(found.find("token_event_cmd", "something else"), None);
    }
}

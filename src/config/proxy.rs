//! `proxy "address" { … }`: where programs sign in that know only a user and a password.

use std::{collections::HashMap, sync::Arc};

use super::{
    Config, Listen, Protocol, Proxy, ProxyTls, Server,
    ast::Block,
    error::{ConfigError, Source},
    lower::Warning,
    options::Level,
    section::Section,
    socket,
    value::{self, Text},
};

/// The proxies that `blocks` describe, each for an account that there is. Those that other machines
/// can reach get a warning.
pub(super) fn proxies(
    source: &Source,
    blocks: &[&Block],
    config: &Config,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<Proxy>, ConfigError> {
    let mut seen = HashMap::new();
    let mut proxies = Vec::new();
    for block in blocks {
        let address = value::string(source, block.name)?;
        let address = value::one_line(source, "a proxy's address", address)?;
        let is_path = address.value.contains('/');
        let twice = || "there are two proxies of this address".into();
        value::once(source, &mut seen, &address, twice)?;
        let mut sockets = config.sockets.iter();
        if sockets.any(|socket| *socket.path == *address.value) {
            return Err(source.error(address.span, "there is a `socket` of this path"));
        }
        let section = Section::new(source, &block.settings, Level::Proxy)?;
        let proxy = proxy(&section, block, &address, config)?;
        let allowed = section.flag("allow_network")?;
        if is_path {
            value::absolute_file(source, "a proxy's path", &address)?;
        } else if !is_local(source, &address, allowed)? {
            let mut what = String::from("this proxy can be reached from other machines");
            if proxy.tls.is_none() {
                what += ", and passwords and mail pass in clear: set `certificate` and `key`";
            }
            warnings.push((address.span, what));
        }
        if proxy.password_cmd.is_none() && !is_path {
            let what = "a proxy at a port needs `password_cmd`, since any user can connect to it";
            let error = source.error(address.span, what);
            return Err(error.hint("the path of a Unix socket does without"));
        }
        proxies.push(proxy);
    }
    Ok(proxies)
}

fn proxy(
    section: &Section,
    block: &Block,
    address: &Text,
    config: &Config,
) -> Result<Proxy, ConfigError> {
    let source = section.source;
    let needed = |name| {
        let missing = || source.error(block.name, format!("a proxy needs `{name}`"));
        section.filled(name)?.ok_or_else(missing)
    };
    let account = socket::account(source, &needed("account")?, &config.accounts)?;
    let url = needed("server")?;
    let server = Server::parse(&url.value).map_err(|why| {
        let error = source.error(url.span, format!("`server` isn't a server's URL: {why}"));
        error.hint("it looks like \"imaps://mail.example.com\"")
    })?;
    let password_cmd = section.filled_command("password_cmd")?;
    Ok(Proxy {
        address: Arc::from(&*address.value),
        account,
        tls: tls(section, block, server.protocol)?,
        server,
        password_cmd: password_cmd.map(|text| text.value.into_owned()),
        user: section.filled("user")?.map(|text| text.value.into_owned()),
    })
}

/// Whether only this machine can reach the address; others must be allowed to.
fn is_local(source: &Source, address: &Text, allowed: bool) -> Result<bool, ConfigError> {
    let error = |what| source.error(address.span, what);
    let listen = value::listen(source, "proxy", address).map_err(|error| {
        error.hint("it is \"host:port\", as in \"127.0.0.1:1143\", or a socket's path")
    })?;
    match listen {
        Listen::On { port: 0, .. } | Listen::None => {
            Err(error("a proxy needs a port that its programs know"))
        }
        Listen::On { host, .. } if value::is_loopback_host(&host) => Ok(true),
        Listen::On { .. } if allowed => Ok(false),
        Listen::On { .. } => {
            let hint = "on a network that you trust, `allow_network = true;` allows it";
            Err(error("this proxy could be reached from other machines").hint(hint))
        }
    }
}

fn tls(
    section: &Section,
    block: &Block,
    protocol: Protocol,
) -> Result<Option<ProxyTls>, ConfigError> {
    let is_implicit = section.word("tls", &[("implicit", true), ("starttls", false)])?;
    let file = |name| Ok(section.file(name)?.map(|path| Arc::from(&*path.value)));
    match (file("certificate")?, file("key")?, is_implicit) {
        (None, None, None) => Ok(None),
        (Some(_), Some(_), Some((false, span))) if protocol == Protocol::Irc => {
            let what = "`tls = starttls` isn't for IRC: leave it out";
            Err(section.source.error(span, what))
        }
        (Some(certificate), Some(key), _) => Ok(Some(ProxyTls {
            implicit: is_implicit.is_none_or(|(is_implicit, _)| is_implicit),
            certificate,
            key,
        })),
        _ => {
            let what = "a proxy with TLS needs both `certificate` and `key`";
            Err(section.source.error(block.name, what))
        }
    }
}

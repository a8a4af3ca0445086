//! `socket "path" { … }`: a second way in, to some of the accounts and for some of the commands.

use std::{collections::HashMap, sync::Arc};

use super::{
    Account, Allowed, RestrictedSocket,
    ast::Block,
    error::{ConfigError, Source, quoted},
    options::Level,
    section::Section,
    value::{self, Text, absolute_file},
};
use crate::text::nearest;

/// The restricted sockets that `blocks` describe. Each names accounts that there are.
pub(super) fn sockets(
    source: &Source,
    blocks: &[&Block],
    accounts: &[Account],
) -> Result<Vec<RestrictedSocket>, ConfigError> {
    let mut paths = HashMap::new();
    let mut sockets = Vec::new();
    for block in blocks {
        let path = value::string(source, block.name)?;
        let path = value::one_line(source, "a socket's path", path)?;
        absolute_file(source, "a socket's path", &path)?;
        let twice = || "there are two sockets of this path".into();
        value::once(source, &mut paths, &path, twice)?;
        let section = Section::new(source, &block.settings, Level::Socket)?;
        sockets.push(RestrictedSocket {
            path: Arc::from(&*path.value),
            accounts: named(&section, accounts, block)?,
            allow: allowed(&section)?,
        });
    }
    Ok(sockets)
}

fn named(
    section: &Section,
    accounts: &[Account],
    block: &Block,
) -> Result<Vec<Arc<str>>, ConfigError> {
    let source = section.source;
    let texts = section.texts("accounts")?;
    let names = texts.iter().map(|text| account(source, text, accounts));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        let what = "a socket without `accounts` is of no use";
        let error = source.error(section.place("accounts", block.name), what);
        return Err(error.hint("add the accounts that it is for: accounts = [\"name\"];"));
    }
    Ok(names)
}

/// The account that `name` names.
pub(super) fn account(
    source: &Source,
    name: &Text,
    accounts: &[Account],
) -> Result<Arc<str>, ConfigError> {
    let names = accounts.iter().map(|account| &account.name);
    if let Some(name) = names.clone().find(|known| ***known == *name.value) {
        return Ok(name.clone());
    }
    let what = format!("there is no account {}", quoted(&name.value));
    let near = nearest(&name.value, names.map(|name| &**name));
    let hint = near.map(|near| format!("did you mean {}?", quoted(near)));
    Err(source.error(name.span, what).maybe_hint(hint))
}

fn allowed(section: &Section) -> Result<Vec<Allowed>, ConfigError> {
    let mut allow = Vec::new();
    for text in section.texts("allow")? {
        let Some(command) = Allowed::ALL
            .into_iter()
            .find(|known| known.name() == text.value)
        else {
            let what = format!("a socket can't allow {}", quoted(&text.value));
            let names = Allowed::ALL.map(|known| format!("`{}`", known.name()));
            let hint = format!("what can be allowed: {}", names.join(", "));
            return Err(section.source.error(text.span, what).hint(hint));
        };
        allow.push(command);
    }
    if allow.is_empty() {
        allow.push(Allowed::Show);
    }
    Ok(allow)
}

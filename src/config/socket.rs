//! `socket "path" { … }`: a second way in, to some of the accounts and for some of the commands.

use std::{collections::HashMap, sync::Arc};

use cfgrammar::Span;

use super::{
    Account, Allowed, RestrictedSocket,
    ast::Block,
    error::{ConfigError, Source, quoted},
    options::Level,
    section::Section,
    value::{self, absolute_file},
};
use crate::text::nearest;

/// The restricted sockets that `blocks` describe. Each names accounts that there are.
pub(super) fn sockets(
    source: &Source,
    blocks: &[&Block],
    accounts: &[Account],
) -> Result<Vec<RestrictedSocket>, ConfigError> {
    let mut paths: HashMap<Arc<str>, Span> = HashMap::new();
    let mut sockets = Vec::new();
    for block in blocks {
        let path = value::string(source, block.name)?;
        let path = value::one_line(source, "a socket's path", path)?;
        absolute_file(source, "a socket's path", &path)?;
        let path_text: Arc<str> = Arc::from(&*path.value);
        if let Some(first) = paths.insert(path_text.clone(), path.span) {
            let line = source.line(first);
            let what = format!("there are two sockets of this path, the first on line {line}");
            return Err(source.error(path.span, what));
        }
        let section = Section::new(source, &block.settings, Level::Socket)?;
        sockets.push(RestrictedSocket {
            path: path_text,
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
    let known = |name: &str| accounts.iter().find(|account| &*account.name == name);
    let mut names = Vec::new();
    for text in section.texts("accounts")? {
        let Some(account) = known(&text.value) else {
            let what = format!("there is no account {}", quoted(&text.value));
            let near = nearest(&text.value, accounts.iter().map(|account| &*account.name));
            let hint = near.map(|near| format!("did you mean {}?", quoted(near)));
            return Err(source.error(text.span, what).maybe_hint(hint));
        };
        names.push(account.name.clone());
    }
    if names.is_empty() {
        let what = "a socket without `accounts` is of no use";
        let error = source.error(section.place("accounts", block.name), what);
        return Err(error.hint("add the accounts that it is for: accounts = [\"name\"];"));
    }
    Ok(names)
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
        Ok(vec![Allowed::Show])
    } else {
        Ok(allow)
    }
}

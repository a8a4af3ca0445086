//! Where token files are, by what is there rather than by how it is written: directories and files
//! have many names.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs};

use super::error::other;
use super::runtime_files::{FileId, id_of};
use crate::{config::Config, error::Failure, paths};

/// What the scripts in examples/persistence save to, below the user's directory for state, unless
/// they are told another place.
const SAVED: [&str; 3] = ["tokens.age", "tokens.cred", "tokens.gpg"];

/// What two paths have in common that name the same file.
#[derive(PartialEq, Eq, Hash)]
enum Place {
    /// A name in a directory, which need not be there yet.
    Entry(FileId, OsString),
    /// What is there now.
    File(FileId),
    /// A path without a directory.
    Nowhere(PathBuf),
}

/// Makes sure that no account's token file is another one's, or something that isn't to be
/// overwritten: the configuration, a socket, the lock, or what the examples save to.
///
/// # Errors
/// What is written to twice.
pub fn check(config: &Config, config_file: &Path) -> Result<(), Failure> {
    let files = config.accounts.iter().filter_map(|account| {
        let file = account.token_file.as_ref()?;
        Some((account, paths::expand(&file.path)?))
    });
    let files: Vec<_> = files.collect();
    if files.is_empty() {
        return Ok(());
    }
    let mut taken = HashMap::new();
    let mut take = |path: &Path, what: String| {
        for place in places(path).into_iter().chain(places(&beside(path))) {
            if let Some(old) = taken.insert(place, what.clone()).filter(|old| *old != what) {
                return Err(other(&format!("{what} ({}) is {old}", path.display()))
                    .hint("give it a path of its own"));
            }
        }
        Ok(())
    };
    for (path, what) in others(config, config_file) {
        // Two of these may be the same, which isn't for here.
        let _ = take(&path, what.into());
    }
    for (account, path) in &files {
        let what = format!("the token_file of account {}", account.name);
        take(path, what)?;
    }
    Ok(())
}

/// The name that a token file has while it is written. Nothing else uses it; what is there was left
/// by a server that was killed.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".pizauth");
    path.with_file_name(name)
}

/// What isn't to be written to.
fn others(config: &Config, config_file: &Path) -> Vec<(PathBuf, &'static str)> {
    let mut others = vec![(config_file.to_owned(), "the configuration")];
    if let Ok(address) = paths::address() {
        others.push((address.lock_file(), "the server's lock"));
        others.push((address.socket, "the control socket"));
    }
    let sockets = config.sockets.iter();
    let sockets = sockets.filter_map(|socket| paths::expand(&socket.path));
    others.extend(sockets.map(|path| (path, "a restricted socket")));
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".local/state"));
    let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(home).unwrap_or_default().join("pizauth");
    let commands = [&config.state_save_cmd, &config.state_load_cmd];
    let words = commands.into_iter().flatten();
    let words = words.flat_map(|command| command.split(|c: char| " \n'\"<>;|&()".contains(c)));
    let named = words.filter(|word| word.starts_with('/') || word.starts_with("~/"));
    let saved = SAVED.map(|name| state.join(name)).into_iter();
    for path in saved.chain(named.filter_map(paths::expand)) {
        let mut new = path.clone().into_os_string();
        new.push(".new");
        others.extend([path, new.into()].map(|path| (path, "the saved state")));
    }
    others
}

fn places(path: &Path) -> Vec<Place> {
    let id = |path: &Path| fs::metadata(path).ok().map(|found| id_of(&found));
    let name = path.file_name().unwrap_or_default();
    let directory = path.parent().and_then(id);
    let entry = match directory {
        Some(directory) => Place::Entry(directory, name.to_owned()),
        None => Place::Nowhere(path.to_owned()),
    };
    let file = id(path).map(Place::File);
    [entry].into_iter().chain(file).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_known_by_every_name() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("real/sub")).unwrap();
        symlink(at("real"), at("link")).unwrap();
        for name in ["real/config", "real/token"] {
            fs::write(at(name), "").unwrap();
        }
        fs::hard_link(at("real/config"), at("real/hard")).unwrap();
        symlink(at("real/config"), at("real/soft")).unwrap();
        let account = |name: &str, file: &str| {
            format!(
                "account \"{name}\" {{ auth_uri = \"https://a/\"; token_uri = \"https://t/\";\n\
                 client_id = \"c\"; token_file = \"{}\"; }}\n",
                at(file).display()
            )
        };
        let socket = at("real/socket");
        let socket = format!(
            "socket \"{}\" {{ accounts = [\"a\"]; allow = [\"show\"]; }}\n",
            socket.display()
        );
        for (a, b, what) in [
            ("real/token", "real/other", None),
            ("real/token", "new/token", None),
            (
                "real/token",
                "link/token",
                Some("the token_file of account a"),
            ),
            (
                "real/token",
                "real/sub/../token",
                Some("the token_file of account a"),
            ),
            ("new/token", "new/token/../token", None),
            ("real/new", "link/new", Some("the token_file of account a")),
            (
                "real/.new.pizauth",
                "link/new",
                Some("the token_file of account a"),
            ),
            ("real/token", "link/config", Some("the configuration")),
            ("real/token", "real/hard", Some("the configuration")),
            ("real/token", "link/soft", Some("the configuration")),
            ("real/token", "link/socket", Some("a restricted socket")),
            ("real/token", "link/saved", Some("the saved state")),
            ("real/token", "link/own.new", Some("the saved state")),
            ("real/token", "link/loaded", Some("the saved state")),
        ] {
            let real = dir.path().join("real");
            let real = real.display();
            let commands = format!(
                "state_save_cmd = \"x.sh save {real}/own && tee {real}/x >{real}/saved\";\n\
                 state_load_cmd = \"cat <'{real}/loaded'\";\n"
            );
            let text = commands + &account("a", a) + &account("b", b) + &socket;
            let config = crate::config::parse("x", &text).unwrap();
            let refused = check(&config, &at("real/config"));
            let found = refused.err().map(|failure| failure.what);
            let whole = at(b);
            let wanted = what.map(|what| {
                format!(
                    "the token_file of account b ({}) is {what}",
                    whole.display()
                )
            });
            assert_eq!(found, wanted, "{a} {b}");
        }
    }

    #[test]
    fn what_belongs_to_the_server_and_the_examples_is_no_token_file() {
        let address = paths::address().unwrap();
        let state = Path::new(&env::var_os("HOME").unwrap()).join(".local/state");
        let state = env::var_os("XDG_STATE_HOME").map_or(state, PathBuf::from);
        for path in [
            address.lock_file(),
            address.socket.clone(),
            state.join("pizauth/tokens.age"),
            state.join("pizauth/tokens.gpg.new"),
        ] {
            let text = format!(
                "account \"a\" {{ auth_uri = \"https://a/\"; token_uri = \"https://t/\";\n\
                 client_id = \"c\"; token_file = \"{}\"; }}\n",
                path.display()
            );
            let config = crate::config::parse("x", &text).unwrap();
            assert!(
                check(&config, Path::new("/x")).is_err(),
                "{}",
                path.display()
            );
        }
    }
}

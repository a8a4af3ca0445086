//! Seals: what the configuration names, in the hand of whoever has read it there. The daemon orders
//! commands and files from processes that have all of the user's rights; they do what bears a seal,
//! so that code which somebody smuggles into the daemon can order no more than the user has written
//! down. A hand (hand.rs) seals what it reads; the hook runner and the hands check. The key is the
//! monitor's, which makes it when the daemon has been forked, and theirs.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
};

use ring::hmac::{self, HMAC_SHA256};
use serde::{Deserialize, Serialize};

use super::{
    job::Lane,
    pipe::{PipeReader, pipe},
};
use crate::config::{ClientSecret, Config};

/// The options that aren't a lane's, as seals name them.
pub const TOKEN_FILE: &str = "token_file";
pub const SOCKET: &str = "socket";

/// How long a key is, in bytes: as long as what it makes.
const KEY_BYTES: usize = 32;

/// Proves that the configuration had something; nothing without the key makes one (RFC 2104).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal(String);

/// A value of the configuration: under which option, and its seal.
pub type Sealed = (String, String, Seal);

/// What makes and checks seals.
#[derive(Clone)]
pub struct Key {
    bytes: [u8; KEY_BYTES],
    key: hmac::Key,
}

impl Key {
    /// From random bytes.
    pub fn of(bytes: [u8; KEY_BYTES]) -> Self {
        let key = hmac::Key::new(HMAC_SHA256, &bytes);
        Key { bytes, key }
    }

    /// A pipe with the key in it, for the program that this process is about to become.
    ///
    /// # Errors
    /// When there can't be one.
    pub fn lay_down(&self) -> io::Result<PipeReader> {
        let (reader, mut writer) = pipe()?;
        writer.write_all(&self.bytes)?;
        Ok(reader)
    }

    /// Takes the key out of such a pipe.
    ///
    /// # Errors
    /// When it isn't there.
    pub fn take_up(mut pipe: PipeReader) -> io::Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        pipe.read_exact(&mut bytes)?;
        Ok(Key::of(bytes))
    }

    /// Seals a value of this option.
    pub fn seal(&self, option: &str, value: &str) -> Seal {
        let tag = hmac::sign(&self.key, &words(option, value));
        Seal(
            tag.as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        )
    }

    /// Whether this is the value's seal.
    pub fn fits(&self, option: &str, value: &str, seal: &Seal) -> bool {
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let tag: Option<Vec<u8>> = seal.0.as_bytes().chunks(2).map(byte).collect();
        tag.is_some_and(|tag| hmac::verify(&self.key, &words(option, value), &tag).is_ok())
    }

    /// Seals what others are to do.
    pub fn seal_all(&self, config: &Config) -> Vec<Sealed> {
        let files = config
            .accounts
            .iter()
            .filter_map(|it| it.token_file.as_ref());
        let files = files.map(|file| (TOKEN_FILE, &*file.path));
        let sockets = config.sockets.iter().map(|socket| (SOCKET, &*socket.path));
        commands(config)
            .chain(files)
            .chain(sockets)
            .map(|(option, value)| (option.into(), value.into(), self.seal(option, value)))
            .collect()
    }
}

/// No option has a zero in its name, so that nothing else is written the same.
fn words(option: &str, value: &str) -> Vec<u8> {
    [option.as_bytes(), &[0], value.as_bytes()].concat()
}

fn commands(config: &Config) -> impl Iterator<Item = (&'static str, &str)> {
    let global = [
        (Lane::Load, &config.state_load_cmd),
        (Lane::Save, &config.state_save_cmd),
        (Lane::Startup, &config.startup_cmd),
        (Lane::Event, &config.token_event_cmd),
        (Lane::Error, &config.error_notify_cmd),
        (Lane::Probe, &config.transient_error_if_cmd),
        (Lane::Notify, &config.auth_notify_cmd),
    ];
    let global = global
        .into_iter()
        .filter_map(|(lane, command)| Some((lane, command.as_deref()?)));
    let secrets = config
        .accounts
        .iter()
        .filter_map(|it| match &it.client.secret {
            ClientSecret::Command(command) => Some(command.as_str()),
            ClientSecret::None | ClientSecret::Given(_) => None,
        });
    global
        .chain(secrets.map(|command| (Lane::Secret, command)))
        .map(|(lane, command)| (lane.option(), command))
}

/// The seals of one reading of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Seals(HashMap<(String, String), Seal>);

impl Seals {
    /// All of these.
    pub fn new(sealed: Vec<Sealed>) -> Self {
        let sealed = sealed.into_iter();
        Seals(
            sealed
                .map(|(option, value, seal)| ((option, value), seal))
                .collect(),
        )
    }

    /// The seal of this value.
    pub fn find(&self, option: &str, value: &str) -> Option<Seal> {
        self.0.get(&(option.to_owned(), value.to_owned())).cloned()
    }

    /// What there is to hand over.
    pub fn state(&self) -> Vec<Sealed> {
        let sealed = self.0.iter();
        sealed
            .map(|((option, value), seal)| (option.clone(), value.clone(), seal.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_fits_one_value_of_one_option_under_one_key() {
        let key = Key::of([1; KEY_BYTES]);
        let seal = key.seal("token_event_cmd", "dump | age");
        assert!(key.fits("token_event_cmd", "dump | age", &seal));
        assert!(!key.fits("token_event_cmd", "dump", &seal));
        assert!(!key.fits("error_notify_cmd", "dump | age", &seal));
        let other = Key::of([2; KEY_BYTES]);
        assert!(!other.fits("token_event_cmd", "dump | age", &seal));
        for forged in ["", "00", "é", "zz", &"0".repeat(64)] {
            let forged = Seal(forged.into());
            assert!(!key.fits("token_event_cmd", "dump | age", &forged));
        }
        let handed = Key::take_up(key.lay_down().unwrap()).unwrap();
        assert!(handed.fits("token_event_cmd", "dump | age", &seal));
    }

    #[test]
    fn what_the_configuration_has_others_do_is_sealed() {
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
             socket \"/s\" { accounts = [\"a\"]; allow = [\"show\"]; }\n",
        );
        let config = crate::config::parse("x", &text).unwrap();
        let key = Key::of([1; KEY_BYTES]);
        let sealed = key.seal_all(&config);
        let mut options: Vec<_> = sealed.iter().map(|(option, ..)| option.as_str()).collect();
        options.sort_unstable();
        options.dedup();
        let all = [
            "auth_notify_cmd",
            "client_secret_cmd",
            "error_notify_cmd",
            "socket",
            "startup_cmd",
            "state_load_cmd",
            "state_save_cmd",
            "token_event_cmd",
            "token_file",
            "transient_error_if_cmd",
        ];
        assert_eq!(options, all);
        assert!(
            sealed
                .iter()
                .all(|(option, value, seal)| key.fits(option, value, seal))
        );
        let seals = Seals::new(sealed.clone());
        for (option, value, seal) in sealed {
            assert_eq!(seals.find(&option, &value), Some(seal));
        }
        assert_eq!(seals.find("token_event_cmd", "something else"), None);
    }
}

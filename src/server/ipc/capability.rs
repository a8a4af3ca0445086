//! Capabilities: stateless permissions for what the configuration names. The token holder has
//! commands run and files written by processes that have all of the user's rights. Those do only
//! what comes with a capability (an HMAC, RFC 2104), so code that an intruder smuggles into the
//! holder can't order more than the user has written down. The helper that reads the configuration
//! makes the capabilities; the hook runner and the helpers check them. The key is the monitor's, who
//! makes it after the holder has been forked, and theirs.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
};

use ring::hmac::{self, HMAC_SHA256};
use serde::{Deserialize, Serialize};

use crate::server::base::pipe::{PipeReader, pipe};

/// The options whose values aren't commands.
pub const TOKEN_FILE: &str = "token_file";
pub const SOCKET: &str = "socket";

/// How long a key is, in bytes: as long as what it makes.
const KEY_BYTES: usize = 32;

/// Proves that the configuration had a value; nothing without the key makes one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability(String);

/// Makes and checks capabilities.
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
    pub fn to_pipe(&self) -> io::Result<PipeReader> {
        let (reader, mut writer) = pipe()?;
        writer.write_all(&self.bytes)?;
        Ok(reader)
    }

    /// Takes the key out of such a pipe.
    ///
    /// # Errors
    /// When it isn't there.
    pub fn from_pipe(mut pipe: PipeReader) -> io::Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        pipe.read_exact(&mut bytes)?;
        Ok(Key::of(bytes))
    }

    /// The capability for a value of this option.
    pub fn grant(&self, option: &str, value: &str) -> Capability {
        let tag = hmac::sign(&self.key, &message(option, value));
        let digits = tag.as_ref().iter().map(|byte| format!("{byte:02x}"));
        Capability(digits.collect())
    }

    /// Whether this is the value's capability.
    pub fn allows(&self, option: &str, value: &str, capability: &Capability) -> bool {
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let tag: Option<Vec<u8>> = capability.0.as_bytes().chunks(2).map(byte).collect();
        tag.is_some_and(|tag| hmac::verify(&self.key, &message(option, value), &tag).is_ok())
    }
}

/// No option has a zero in its name, so that nothing else is written the same.
fn message(option: &str, value: &str) -> Vec<u8> {
    [option.as_bytes(), &[0], value.as_bytes()].concat()
}

/// The capabilities of one reading of the configuration, by option and value.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Capabilities(HashMap<String, HashMap<String, Capability>>);

impl Capabilities {
    /// Of these options and their values, made with `key`.
    pub fn of<'a>(key: &Key, values: impl Iterator<Item = (&'static str, &'a str)>) -> Self {
        let mut made = Capabilities::default();
        for (option, value) in values {
            let of_option = made.0.entry(option.into()).or_default();
            of_option.insert(value.into(), key.grant(option, value));
        }
        made
    }

    /// That of this value.
    pub fn find(&self, option: &str, value: &str) -> Option<Capability> {
        self.0.get(option)?.get(value).cloned()
    }

    /// The options, in order.
    #[cfg(test)]
    pub fn options(&self) -> Vec<&str> {
        let mut options: Vec<_> = self.0.keys().map(String::as_str).collect();
        options.sort_unstable();
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_fits_one_value_of_one_option_under_one_key() {
        let key = Key::of([1; KEY_BYTES]);
        let capability = key.grant("token_event_cmd", "dump | age");
        assert!(key.allows("token_event_cmd", "dump | age", &capability));
        assert!(!key.allows("token_event_cmd", "dump", &capability));
        assert!(!key.allows("error_notify_cmd", "dump | age", &capability));
        let other = Key::of([2; KEY_BYTES]);
        assert!(!other.allows("token_event_cmd", "dump | age", &capability));
        for forged in ["", "00", "é", "zz", &"0".repeat(64)] {
            let forged = Capability(forged.into());
            assert!(!key.allows("token_event_cmd", "dump | age", &forged));
        }
        let passed_on = Key::from_pipe(key.to_pipe().unwrap()).unwrap();
        assert!(passed_on.allows("token_event_cmd", "dump | age", &capability));
    }
}

//! Secrets: what must not reach a log, an error, a terminal or a core file by accident.

use std::{
    fmt,
    hint::black_box,
    mem::MaybeUninit,
    ops::{Deref, DerefMut},
};

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A token, an authorization code, a code_verifier, a state or a client secret.
///
/// It can't be printed, copied or serialised; it is compared in constant time and wiped when
/// dropped. Share one through [`std::sync::Arc`]. [`Secret::expose`] is the only way in, named so
/// that a search finds every place where a secret leaves (tests/tidy.rs lists the files that may).
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes `text` over; its allocation becomes the secret's own.
    pub fn new(text: String) -> Self {
        Secret(Zeroizing::new(text))
    }

    /// The secret itself, for the one place that must send or print it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

/// Bytes on their way, with secrets among them: a request, a reply, a dump. Wiped when dropped, all
/// of their allocation in one go: a dump of many accounts is long, and a byte at a time takes long.
#[derive(Default, PartialEq, Eq)]
pub struct Wiped(Vec<u8>);

impl Wiped {
    /// Takes `bytes` over; their allocation becomes its own.
    pub fn new(bytes: Vec<u8>) -> Self {
        Wiped(bytes)
    }
}

impl Deref for Wiped {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Wiped {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.clear();
        let all = self.0.spare_capacity_mut();
        all.fill(MaybeUninit::new(0));
        // Somebody might look, as far as the compiler knows.
        black_box(all);
    }
}

impl fmt::Debug for Wiped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_is_redacted_and_equality_is_by_value() {
        let secret = Secret::new("hunter2".into());
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(secret, Secret::new("hunter2".into()));
        assert_ne!(secret, Secret::new("hunter3".into()));
        assert_ne!(secret, Secret::new("hunter22".into()));
    }

    #[test]
    fn bytes_are_as_before_until_they_go() {
        let mut bytes = Wiped::new(vec![1, 2]);
        bytes.push(3);
        assert_eq!(bytes[..], [1, 2, 3]);
        assert_eq!(format!("{bytes:?}"), "[redacted]");
    }
}

//! Secrets: what must not reach a log, an error, a terminal or a core file by accident.

pub(crate) mod plain;
mod scrub;

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::OnceLock,
};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub use self::scrub::Scrubber;
use crate::sys::LockedText;

/// A token, an authorization code, a code_verifier, a state or a client secret.
///
/// It can't be printed, copied or serialised, and is compared in constant time. When it is dropped,
/// the allocator wipes it, as it wipes all that is freed. The server keeps it out of swap while there
/// is memory for that. Share one through [`std::sync::Arc`]. [`Secret::expose`] is the only way in, named so
/// that a search finds every place where a secret leaves (tests/tidy.rs lists the files that may).
/// It may know to whom it belongs: then a request takes it nowhere else.
///
/// ```
/// let secret = pizauth::secret::Secret::new("at-1".into());
/// assert_eq!(format!("{secret:?}"), "[redacted]");
/// // What the others must not do compiles with what is inside.
/// let another = secret.expose().to_owned().clone();
/// assert_eq!(format!("{another}"), "at-1");
/// assert_eq!(serde_json::to_string(&another).unwrap(), "\"at-1\"");
/// ```
/// ```compile_fail,E0277
/// let secret = pizauth::secret::Secret::new("at-1".into());
/// format!("{secret}");
/// ```
/// ```compile_fail,E0599
/// let secret = pizauth::secret::Secret::new("at-1".into());
/// let another = secret.clone();
/// ```
/// ```compile_fail,E0277
/// let secret = pizauth::secret::Secret::new("at-1".into());
/// serde_json::to_string(&secret);
/// ```
pub struct Secret {
    text: Text,
    mark: OnceLock<Mark>,
}

/// Where it is.
enum Text {
    /// Where a process has it that was told nothing else, or that has no more locked memory.
    Heap(String),
    /// Out of swap's way.
    Locked(LockedText),
}

/// Names a registration, to which secrets belong that were issued under it; equal for equal ones
/// only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark([u8; 32]);

impl Mark {
    /// The mark of whatever these bytes describe.
    pub fn of(description: &[u8]) -> Self {
        Mark(Sha256::digest(description).into())
    }
}

impl Secret {
    /// Moves `text` into locked memory or, if there is none, keeps it where it is.
    pub fn new(text: String) -> Self {
        let text = match LockedText::copy_of(&text) {
            Some(locked) => Text::Locked(locked),
            None => Text::Heap(text),
        };
        Secret {
            text,
            mark: OnceLock::new(),
        }
    }

    /// It was issued under this registration. The first call counts; later ones change nothing.
    pub fn bind(&self, mark: Mark) {
        let _ = self.mark.set(mark);
    }

    /// Whether it was issued under this registration; an unbound one wasn't.
    pub fn belongs_to(&self, mark: Mark) -> bool {
        self.mark.get() == Some(&mark)
    }

    /// The secret itself, for the one place that must send or print it.
    pub fn expose(&self) -> &str {
        match &self.text {
            Text::Heap(text) => text,
            Text::Locked(text) => text,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        let [ours, theirs] = [self, other].map(|it| it.expose().as_bytes());
        ours.ct_eq(theirs).into()
    }
}

impl Eq for Secret {}

/// Bytes with secrets among them: a request, a reply, a dump. They can't be printed, and the
/// allocator wipes them when they are dropped.
#[derive(Default, PartialEq, Eq)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes `bytes` over; their allocation becomes its own.
    pub fn new(bytes: Vec<u8>) -> Self {
        SecretBytes(bytes)
    }
}

impl Deref for SecretBytes {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for SecretBytes {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What tests make up.
    impl From<Vec<u8>> for SecretBytes {
        fn from(bytes: Vec<u8>) -> Self {
            SecretBytes::new(bytes)
        }
    }

    // Covers: H16
    #[test]
    fn a_secret_belongs_to_one_registration_for_good() {
        let (ours, theirs) = (Mark::of(b"ours"), Mark::of(b"theirs"));
        assert_eq!(ours, Mark::of(b"ours"));
        let secret = Secret::new("hunter2".into());
        assert!(!secret.belongs_to(ours));
        secret.bind(ours);
        secret.bind(theirs);
        assert!(secret.belongs_to(ours) && !secret.belongs_to(theirs));
    }

    // Covers: H16
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
        let mut bytes = SecretBytes::new(vec![1, 2]);
        bytes.push(3);
        assert_eq!(bytes[..], [1, 2, 3]);
        assert_eq!(format!("{bytes:?}"), "[redacted]");
    }
}

//! Secrets: what must not reach a log, an error, a terminal or a core file by accident.

use std::{
    fmt,
    hint::black_box,
    mem::{MaybeUninit, take},
    ops::{Deref, DerefMut},
    sync::OnceLock,
};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::sys::LockedText;

/// A token, an authorization code, a code_verifier, a state or a client secret.
///
/// It can't be printed, copied or serialised; it is compared in constant time and wiped when
/// dropped. In the daemon it is kept out of swap, as far as there is memory for that. Share one
/// through [`std::sync::Arc`]. [`Secret::expose`] is the only way in, named so
/// that a search finds every place where a secret leaves (tests/tidy.rs lists the files that may).
/// It may know to whom it belongs: then a request takes it nowhere else.
///
/// ```
/// let secret = pizauth::secret::Secret::new("at-1".into());
/// assert_eq!(format!("{secret:?}"), "[redacted]");
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

impl Text {
    fn as_str(&self) -> &str {
        match self {
            Text::Heap(text) => text,
            Text::Locked(text) => text,
        }
    }
}

impl Secret {
    /// Takes `text` over: into locked memory, or its allocation becomes the secret's own.
    pub fn new(text: String) -> Self {
        let text = match LockedText::copy_of(&text) {
            Some(locked) => {
                drop(Wiped::new(text.into_bytes()));
                Text::Locked(locked)
            }
            None => Text::Heap(text),
        };
        Secret {
            text,
            mark: OnceLock::new(),
        }
    }

    /// It was issued under this registration. Said once, it is so for good: whoever says it again
    /// of another one changes nothing.
    pub fn bind(&self, mark: Mark) {
        let _ = self.mark.set(mark);
    }

    /// Whether it was issued under this registration; one that nobody has bound wasn't.
    pub fn belongs_to(&self, mark: Mark) -> bool {
        self.mark.get() == Some(&mark)
    }

    /// The secret itself, for the one place that must send or print it.
    pub fn expose(&self) -> &str {
        self.text.as_str()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        // Locked memory wipes itself.
        if let Text::Heap(text) = &mut self.text {
            drop(Wiped::new(take(text).into_bytes()));
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
        let [ours, theirs] = [self, other].map(|it| it.text.as_str().as_bytes());
        ours.ct_eq(theirs).into()
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
    fn a_secret_belongs_to_one_registration_for_good() {
        let (ours, theirs) = (Mark::of(b"ours"), Mark::of(b"theirs"));
        assert_eq!(ours, Mark::of(b"ours"));
        let secret = Secret::new("hunter2".into());
        assert!(!secret.belongs_to(ours));
        secret.bind(ours);
        secret.bind(theirs);
        assert!(secret.belongs_to(ours) && !secret.belongs_to(theirs));
    }

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

//! Secrets: what must not reach a log, an error, a terminal or a core file by accident.

use std::fmt;

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
}

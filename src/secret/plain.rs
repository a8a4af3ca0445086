//! The one place that serialises secrets: for dumps, for the program's successor, and for the control
//! socket.

use std::{borrow::Borrow, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Secret;

/// A secret as a string.
pub fn serialize<T: Borrow<Secret>, S: Serializer>(secret: &T, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(secret.borrow().expose())
}

/// The inverse of [`serialize`].
pub fn deserialize<'de, T: From<Secret>, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
    String::deserialize(d).map(|text| Secret::new(text).into())
}

/// A secret as a string, or null.
pub mod optional {
    use super::*;

    /// The secret, or null.
    pub fn serialize<S: Serializer>(secret: &Option<Arc<Secret>>, s: S) -> Result<S::Ok, S::Error> {
        secret.as_ref().map(|secret| secret.expose()).serialize(s)
    }

    /// The inverse of [`serialize`].
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Arc<Secret>>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        Ok(text.map(|text| Arc::new(Secret::new(text))))
    }
}

//! The one place that serialises secrets: for dumps and for the program's successor.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::secret::Secret;

/// A secret as a string.
pub fn serialize<S: Serializer>(secret: &Arc<Secret>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(secret.expose())
}

/// The inverse of [`serialize`].
pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Arc<Secret>, D::Error> {
    String::deserialize(d).map(|text| Arc::new(Secret::new(text)))
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

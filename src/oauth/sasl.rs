//! What mail programs say to a server with an access token (SASL).

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// The initial response of the mechanism XOAUTH2, as Google and Microsoft describe it, in base64.
pub fn xoauth2(user: &str, token: &Secret) -> Secret {
    let token = token.expose();
    // Reserved at once: a string that grows leaves copies of a token behind.
    let mut plain = Zeroizing::new(String::with_capacity(user.len() + token.len() + 32));
    for part in ["user=", user, "\x01auth=Bearer ", token, "\x01\x01"] {
        plain.push_str(part);
    }
    Secret::new(STANDARD.encode(plain.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xoauth2_is_as_google_shows_it() {
        let token = Secret::new("ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg".into());
        assert_eq!(
            xoauth2("someuser@example.com", &token).expose(),
            "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52\
             YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0Q2cBAQ=="
        );
    }
}

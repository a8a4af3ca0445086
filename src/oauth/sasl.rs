//! What a mail client sends to a mail server to sign in with an access token: the initial
//! responses of SASL's OAUTHBEARER (RFC 7628) and of XOAUTH2, which Google defined before it.
//! Both come base64-encoded, as IMAP, POP and SMTP carry them (RFC 4954, 4; RFC 4959, 3).

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::secret::Secret;

/// What separates key-value pairs in both (RFC 7628, 3.1).
const KVSEP: char = '\x01';

/// A user or host that can't be put into a message of SASL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit;

/// XOAUTH2: `user=<user>^Aauth=Bearer <token>^A^A`.
///
/// # Errors
/// When `user` is empty or has a control character.
pub fn xoauth2(user: &str, token: &Secret) -> Result<Secret, Unfit> {
    let user = fit(user)?;
    let token = token.expose();
    Ok(encode(&format!(
        "user={user}{KVSEP}auth=Bearer {token}{KVSEP}{KVSEP}"
    )))
}

/// OAUTHBEARER: `n,a=<user>,^A[host=<host>^A][port=<port>^A]auth=Bearer <token>^A^A` (RFC 7628,
/// 3.1). Without a user the server takes the token's own.
///
/// # Errors
/// When `user` or `host` is empty or has a control character.
pub fn oauthbearer(
    user: Option<&str>,
    host: Option<&str>,
    port: Option<u16>,
    token: &Secret,
) -> Result<Secret, Unfit> {
    let user = user.map(fit).transpose()?;
    let host = host.map(fit).transpose()?;
    let user = user.map_or(String::new(), |user| format!("a={}", saslname(user)));
    let host = host.map_or(String::new(), |host| format!("host={host}{KVSEP}"));
    let port = port.map_or(String::new(), |port| format!("port={port}{KVSEP}"));
    let token = token.expose();
    Ok(encode(&format!(
        "n,{user},{KVSEP}{host}{port}auth=Bearer {token}{KVSEP}{KVSEP}"
    )))
}

/// A name in a GS2 header (RFC 5801, 4): a comma would end it, and `=` starts an escape.
fn saslname(user: &str) -> String {
    user.replace('=', "=3D").replace(',', "=2C")
}

/// Text that can't end its field early.
fn fit(text: &str) -> Result<&str, Unfit> {
    if text.is_empty() || text.contains(char::is_control) {
        Err(Unfit)
    } else {
        Ok(text)
    }
}

fn encode(message: &str) -> Secret {
    Secret::new(STANDARD.encode(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(secret: Result<Secret, Unfit>) -> String {
        let bytes = STANDARD.decode(secret.unwrap().expose()).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn token() -> Secret {
        Secret::new("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==".into())
    }

    #[test]
    fn oauthbearer_has_what_the_rfcs_example_has() {
        // RFC 7628, 4.1.
        let text = oauthbearer(
            Some("user@example.com"),
            Some("server.example.com"),
            Some(143),
            &token(),
        );
        assert_eq!(
            text.unwrap().expose(),
            "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9QmVhcm\
             VyIHZGOWRmdDRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
        );
    }

    #[test]
    fn parts_that_may_be_left_out_are() {
        let token = Secret::new("t".into());
        assert_eq!(
            plain(oauthbearer(None, None, None, &token)),
            "n,,\x01auth=Bearer t\x01\x01"
        );
        assert_eq!(
            plain(oauthbearer(Some("a=b,c"), None, Some(993), &token)),
            "n,a=a=3Db=2Cc,\x01port=993\x01auth=Bearer t\x01\x01"
        );
    }

    #[test]
    fn xoauth2_is_googles() {
        assert_eq!(
            plain(xoauth2("someuser@example.com", &token())),
            "user=someuser@example.com\x01auth=Bearer \
             vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
        );
    }

    #[test]
    fn nothing_can_end_its_field_early() {
        for text in ["", "a\x01auth=Bearer x", "a\nb", "a\0"] {
            assert_eq!(xoauth2(text, &token()), Err(Unfit));
            assert_eq!(oauthbearer(Some(text), None, None, &token()), Err(Unfit));
            assert_eq!(oauthbearer(None, Some(text), None, &token()), Err(Unfit));
        }
    }
}

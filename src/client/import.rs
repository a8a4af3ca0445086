//! `pizauth import`: hands a refresh token that another program has obtained to the server.

use serde_json::Value;

use super::{ask, input, print, tell};
use crate::{
    error::{Exit, Failure},
    secret::Secret,
    wire::{self, ImportArgs, Request},
};

pub(super) fn run(account: &str) -> Result<(), Failure> {
    let input = input(wire::MAX_REQUEST_BYTES / 2, "read the token")?;
    let body = ask(&Request::Import(ImportArgs {
        account: account.to_owned(),
        refresh_token: refresh_token(&input)?,
    }))?;
    print(&body)?;
    tell("the program that the token comes from must not use it any more: remove it there\n");
    Ok(())
}

/// The refresh token of a JSON object.
fn refresh_token(input: &[u8]) -> Result<Secret, Failure> {
    const WANTED: &str = "standard input takes a JSON object with a refresh_token";
    let fault = |what: &str, hint: &str| Err(Failure::new(Exit::Usage, what).hint(hint));
    let mut object: Value = match serde_json::from_slice(input) {
        Ok(object) => object,
        Err(_) if input.starts_with(b"-----BEGIN") || std::str::from_utf8(input).is_err() => {
            return fault(
                "this is encrypted",
                "decrypt it on the way, as with `gpg -d`",
            );
        }
        Err(error) if !error.is_eof() => return fault("this is not one JSON object", WANTED),
        Err(_) => return fault("this is empty, or cut short", WANTED),
    };
    let Some(Value::String(token)) = object.get_mut("refresh_token").map(Value::take) else {
        return fault("there is no refresh_token in it", WANTED);
    };
    match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(Secret::new(token)),
        false => fault("the refresh_token isn't one that a provider gives", WANTED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refresh_token_is_taken() {
        let read = |input: &[u8]| match refresh_token(input) {
            Ok(token) => token.expose().to_owned(),
            Err(failure) => failure.what,
        };
        for (input, wanted) in [
            (r#"{"refresh_token":"r"}"#, "r"),
            (r#"{"access_token":"a","refresh_token":"r","x":{}}"#, "r"),
            ("", "this is empty, or cut short"),
            (" \n", "this is empty, or cut short"),
            ("{\"refresh_token\":\"r", "this is empty, or cut short"),
            ("refresh", "this is not one JSON object"),
            ("-----BEGIN PGP MESSAGE-----\n", "this is encrypted"),
            ("[]", "there is no refresh_token in it"),
            ("{}", "there is no refresh_token in it"),
            (r#"{"refresh_token":5}"#, "there is no refresh_token in it"),
            (
                r#"{"refresh_token":""}"#,
                "the refresh_token isn't one that a provider gives",
            ),
            (
                r#"{"refresh_token":"a b"}"#,
                "the refresh_token isn't one that a provider gives",
            ),
        ] {
            assert_eq!(read(input.as_bytes()), wanted, "{input}");
        }
        assert_eq!(read(&[0x8c, 0xff]), "this is encrypted");
    }
}

//! Dumps of the original pizauth, 0.2.2 to 1.1.0, so that its users keep their tokens.
//!
//! Layout: a nonce; ChaCha20-Poly1305 (RFC 8439) under a key that every copy knows. The plain text
//! is little-endian, of fixed width, with nothing between the fields: a version, and for each
//! account its name, its registration and perhaps tokens. A length in it is only ever compared with
//! what there is.

use std::sync::Arc;

use ring::aead;
use url::Url;

use super::{Access, Dump, DumpError, NONCE_BYTES, Saved, SignIns, is_sound};
use crate::{
    config::{Registration, TokenSource},
    secret::Secret,
    time::Wall,
};

/// The key that every copy of the original knows.
const KEY: [u8; 32] = [
    0x66, 0xa2, 0x47, 0xa8, 0x5e, 0x48, 0xcf, 0xec, 0xaa, 0xed, 0x9b, 0x36, 0xeb, 0xa9, 0x7d, 0x53,
    0x50, 0xd4, 0x28, 0x63, 0x75, 0x09, 0x7a, 0x44, 0xee, 0xff, 0xb9, 0xc4, 0x54, 0x6b, 0x65, 0xa3,
];

/// The one version that was ever written.
const VERSION: u64 = 1;

/// What the original has sealed into `bytes`; of no use afterwards.
///
/// # Errors
/// [`DumpError::Foreign`] when this isn't the original's, or no longer as it was written.
pub(super) fn open_in_place(bytes: &mut [u8]) -> Result<Dump, DumpError> {
    let (nonce, body) = bytes
        .split_first_chunk_mut::<NONCE_BYTES>()
        .ok_or(DumpError::Foreign)?;
    let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &KEY);
    let nonce = aead::Nonce::assume_unique_for_key(*nonce);
    let plain = key
        .and_then(|key| aead::LessSafeKey::new(key).open_in_place(nonce, aead::Aad::empty(), body))
        .map_err(|ring::error::Unspecified| DumpError::Foreign)?;
    let mut fields = Fields(plain);
    match fields.number() {
        Some(VERSION) => {}
        Some(_) => return Err(DumpError::Newer),
        None => return Err(DumpError::Damaged),
    }
    let grants = fields.list(Fields::account).ok_or(DumpError::Damaged)?;
    let dump = Dump {
        grants: grants.into_iter().flatten().collect(),
        changed: None,
    };
    match fields.0.is_empty() && is_sound(&dump) {
        true => Ok(dump),
        false => Err(DumpError::Damaged),
    }
}

/// Whether the original would take `theirs`, which it wrote, for `ours`: a `login_hint` option, which
/// is the last of our fields, isn't among those that it writes.
pub fn is_same(theirs: &Registration, ours: &Registration) -> bool {
    let hint = ours.auth_uri_fields.last();
    let hint = hint.filter(|(key, _)| key == "login_hint");
    let with_hint = hint.map(|hint| {
        let mut theirs = theirs.clone();
        theirs.auth_uri_fields.push(hint.clone());
        theirs
    });
    theirs == ours || with_hint.as_ref() == Some(ours)
}

/// What of the plain text is still to be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.bytes(length)?).ok()
    }

    fn secret(&mut self) -> Option<Arc<Secret>> {
        Some(Arc::new(Secret::new(self.text()?.to_owned())))
    }

    /// No room is made by a count: each element takes some of the bytes that there are.
    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        (0..self.number()?).map(|_| read(self)).collect()
    }

    fn option<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.array()? {
            [0] => Some(None),
            [1] => read(self).map(Some),
            _ => None,
        }
    }

    fn time(&mut self) -> Option<Wall> {
        let secs = i64::try_from(self.number()?).ok()?;
        let nanos = self.array().map(u32::from_le_bytes)?;
        let millis = i64::from(nanos / 1_000_000);
        Some(Wall::from_millis(
            secs.checked_mul(1000)?.checked_add(millis)?,
        ))
    }

    /// An account; `None` inside when it has no tokens, or addresses that can be nobody's.
    fn account(&mut self) -> Option<Option<Saved>> {
        let account = Arc::from(self.text()?);
        let auth_uri = self.text()?;
        let pair = |fields: &mut Self| Some((fields.text()?.to_owned(), fields.text()?.to_owned()));
        let auth_uri_fields = self.list(pair)?;
        let client_id = self.text()?.to_owned();
        // A secret says nothing about whose the tokens are, here as in our own dumps.
        self.option(Fields::text)?;
        let redirect_uri = self.text()?;
        let scopes = self.list(|fields| fields.text().map(str::to_owned))?;
        let token_uri = self.text()?;
        let tokens = match u32::from_le_bytes(self.array()?) {
            0 => return Some(None),
            1 => self.secret()?,
            _ => return None,
        };
        let (obtained, expires) = (self.time()?, self.time()?);
        let refresh_token = self.option(Fields::secret)?;
        let uris = [auth_uri, redirect_uri, token_uri].map(|uri| Url::parse(uri).map(Arc::new));
        let [Ok(auth_uri), Ok(redirect_uri), Ok(token_uri)] = uris else {
            return Some(None);
        };
        Some(Some(Saved {
            account,
            registration: Arc::new(Registration {
                source: TokenSource::Person,
                issuer: None,
                auth_uri: Some(auth_uri),
                token_uri: Some(token_uri),
                client_id,
                redirect_uri,
                scopes,
                auth_uri_fields,
                token_uri_fields: Vec::new(),
            }),
            access: Some(Access {
                token: tokens,
                expires: Some(expires),
                origins: None,
                scopes: None,
                id_token: None,
            }),
            refresh_token,
            refresh_origins: None,
            refresh_ends: None,
            other_user: None,
            sign_ins: SignIns::default(),
            obtained,
            original: true,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by the original.
    const DUMP: &[u8] = include_bytes!("../../../tests/data/original.dump");

    fn open(bytes: &[u8]) -> Result<Dump, DumpError> {
        super::super::open(bytes)
    }

    /// What it says, in clear.
    fn plain() -> Vec<u8> {
        let mut bytes = DUMP.to_vec();
        let (nonce, body) = bytes.split_first_chunk_mut::<NONCE_BYTES>().unwrap();
        let nonce = aead::Nonce::assume_unique_for_key(*nonce);
        let opened = key().open_in_place(nonce, aead::Aad::empty(), body);
        opened.unwrap().to_vec()
    }

    fn key() -> aead::LessSafeKey {
        aead::LessSafeKey::new(aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &KEY).unwrap())
    }

    /// What a forger could make.
    fn seal(plain: &[u8]) -> Vec<u8> {
        let mut body = plain.to_vec();
        let nonce = aead::Nonce::assume_unique_for_key([7; NONCE_BYTES]);
        let sealed = key().seal_in_place_append_tag(nonce, aead::Aad::empty(), &mut body);
        sealed.unwrap();
        [&[7; NONCE_BYTES][..], &body].concat()
    }

    #[test]
    fn what_the_original_wrote_is_understood() {
        let dump = open(DUMP).unwrap();
        let [work, other] = &dump.grants[..] else {
            panic!("{dump:?}");
        };
        let (work, other) = match &*work.account {
            "work" => (work, other),
            _ => (other, work),
        };
        let access = work.access.as_ref().unwrap();
        assert_eq!(access.token.expose(), "an-access-token");
        assert_eq!(access.expires, Some(Wall::from_millis(1_900_003_600_999)));
        assert_eq!(work.obtained, Wall::from_millis(1_900_000_000_000));
        assert_eq!(
            work.refresh_token.as_ref().unwrap().expose(),
            "a-refresh-token"
        );
        let registration = &work.registration;
        assert_eq!(
            registration.auth_uri.as_ref().unwrap().as_str(),
            "https://login.example.com/authorize"
        );
        assert_eq!(
            registration.token_uri.as_ref().unwrap().as_str(),
            "https://login.example.com/token"
        );
        assert_eq!(registration.client_id, "1234");
        assert_eq!(registration.redirect_uri.as_str(), "http://localhost/");
        assert_eq!(registration.scopes, ["mail", "offline_access"]);
        let fields = [("login_hint", "you@example.com"), ("prompt", "consent")];
        let fields = fields.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(registration.auth_uri_fields, fields);
        assert_eq!(&*other.account, "no refresh");
        assert_eq!(other.refresh_token, None);
        assert_eq!(
            other.registration.redirect_uri.as_str(),
            "https://localhost:8443/cb"
        );
    }

    #[test]
    fn a_login_hint_option_is_no_difference_and_a_field_is_one() {
        let dump = open(DUMP).unwrap();
        let theirs = &dump.grants[0].registration;
        let with = |key: &str| {
            let mut ours = (**theirs).clone();
            ours.auth_uri_fields.push((key.into(), "me".into()));
            ours
        };
        assert!(is_same(theirs, theirs));
        assert!(is_same(theirs, &with("login_hint")));
        assert!(!is_same(theirs, &with("hint")));
        assert!(!is_same(&with("login_hint"), theirs));
        assert!(!is_same(&with("x"), &with("login_hint")));
    }

    #[test]
    fn whatever_is_cut_or_altered_is_refused() {
        for at in 0..DUMP.len() {
            let mut altered = DUMP.to_vec();
            altered[at] ^= 1;
            assert_eq!(open(&altered), Err(DumpError::Foreign), "byte {at}");
            assert!(open(&DUMP[..at]).is_err(), "cut at {at}");
        }
        // As a forger would who knows the key.
        let plain = plain();
        assert!(open(&seal(&plain)).is_ok());
        for at in 0..plain.len() {
            assert!(open(&seal(&plain[..at])).is_err(), "cut at {at}");
        }
        assert_eq!(
            open(&seal(&[&plain[..], &[0]].concat())),
            Err(DumpError::Damaged)
        );
        let newer = [&2_u64.to_le_bytes(), &plain[8..]].concat();
        assert_eq!(open(&seal(&newer)), Err(DumpError::Newer));
    }

    #[test]
    fn lengths_and_counts_that_lie_cost_nothing() {
        let plain = plain();
        for lie in [1 << 30, u64::MAX, u64::MAX / 2] {
            // The count, and every length behind it, wherever it stands.
            for at in 8..plain.len() - 8 {
                let mut lying = plain.clone();
                lying[at..at + 8].copy_from_slice(&lie.to_le_bytes());
                // Where it is a text's own bytes they may be anything in UTF-8.
                let _ = open(&seal(&lying));
            }
            let count = [&1_u64.to_le_bytes()[..], &lie.to_le_bytes()].concat();
            assert_eq!(open(&seal(&count)), Err(DumpError::Damaged));
        }
    }

    #[test]
    fn tokens_that_break_their_line_and_names_twice_are_refused() {
        let plain = plain();
        let at = plain
            .windows(15)
            .position(|part| part == b"an-access-token")
            .unwrap();
        let mut broken = plain.clone();
        broken[at] = b'\n';
        assert_eq!(open(&seal(&broken)), Err(DumpError::Damaged));
        let accounts = &plain[16..];
        let twice = [&1_u64.to_le_bytes()[..], &6_u64.to_le_bytes()].concat();
        let twice = [&twice, accounts, accounts].concat();
        assert_eq!(open(&seal(&twice)), Err(DumpError::Damaged));
    }

    #[test]
    fn ten_thousand_accounts_are_read() {
        let mut plain = [&1_u64.to_le_bytes()[..], &10_000_u64.to_le_bytes()].concat();
        let text = |plain: &mut Vec<u8>, text: &str| {
            plain.extend((text.len() as u64).to_le_bytes());
            plain.extend(text.as_bytes());
        };
        for number in 0..10_000 {
            text(&mut plain, &format!("account {number}"));
            text(&mut plain, "https://a.example/a");
            plain.extend(0_u64.to_le_bytes());
            text(&mut plain, "c");
            plain.push(0);
            text(&mut plain, "http://localhost/");
            plain.extend(0_u64.to_le_bytes());
            text(&mut plain, "https://a.example/t");
            plain.extend(1_u32.to_le_bytes());
            text(&mut plain, "token");
            plain.extend([0; 24]);
            plain.push(0);
        }
        assert_eq!(open(&seal(&plain)).unwrap().grants.len(), 10_000);
    }
}

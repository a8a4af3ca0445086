//! The dump: every account's tokens, to be restored later or elsewhere. Sealed under a key that
//! is part of the program: a dump can't be searched or altered by accident, but its bearer has
//! the tokens. It is not encryption.
//!
//! Layout: [`MAGIC`], the version in decimal, a newline; a nonce; ChaCha20-Poly1305 (RFC 8439)
//! over canonical JSON, with the first line as associated data.

pub(super) mod original;

use std::{collections::HashSet, sync::Arc};

use ring::aead;
use serde::{Deserialize, Serialize};

use super::plain;
pub use super::{forecast::SignIns, grant::Access};
use crate::{
    config::Registration,
    secret::{Secret, SecretBytes},
    time::Wall,
};

/// What every dump starts with.
const MAGIC: &[u8] = b"pizauth dump ";

/// The layout written by this program; bumped by hand when it changes. It reads those before, too:
/// what they don't have is optional.
pub const VERSION: u32 = 3;

/// How large a dump may be, in bytes: 10,000 accounts with Microsoft's long tokens fit. It is what
/// `restore` takes, too.
pub const MAX_DUMP_BYTES: usize = 64 << 20;

/// How long the nonce behind the first line is, in bytes (RFC 8439, 2.8).
const NONCE_BYTES: usize = aead::NONCE_LEN;

/// The key that every copy of the program knows.
const KEY: &[u8; 32] = b"known to all: this hides nothing";

/// The tokens of some accounts at some time.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dump {
    /// One entry an account.
    pub grants: Vec<Saved>,
    /// When tokens last changed, if that is known: two dumps can be told apart by it. A dump without
    /// is as it was before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Wall>,
}

impl Dump {
    /// The same in pieces of at most `size` accounts, to be restored one after the other: no event
    /// has to take all accounts then. An account is in one piece only, so the result is the same.
    pub fn pieces(self, size: usize) -> impl Iterator<Item = Dump> {
        let mut rest = self.grants.into_iter();
        std::iter::from_fn(move || {
            let grants: Vec<Saved> = rest.by_ref().take(size).collect();
            let changed = self.changed;
            (!grants.is_empty()).then_some(Dump { grants, changed })
        })
    }
}

/// One account's tokens, or only what was learned of its sign-ins.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// The account's name.
    pub account: Arc<str>,
    /// What the tokens were issued under.
    pub registration: Arc<Registration>,
    /// The access token, unless a probe has ended it.
    pub access: Option<Access<Wall>>,
    /// The refresh token, if the provider gave one.
    #[serde(with = "plain::optional")]
    pub refresh_token: Option<Arc<Secret>>,
    /// The origins that the issuer named when it was issued, if the issuer named them: it goes to no
    /// other. A dump without is as it was before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_origins: Option<Arc<[String]>>,
    /// When the refresh token ends, if the provider said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_ends: Option<Wall>,
    /// Who has signed in, if that is somebody else than the config's login_hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_user: Option<String>,
    /// What is known of the sign-ins' ends.
    #[serde(default, skip_serializing_if = "SignIns::is_empty")]
    pub sign_ins: SignIns,
    /// When the tokens were asked for.
    pub obtained: Wall,
    /// It is out of a dump of the [`original`].
    #[serde(skip)]
    pub original: bool,
}

/// Why bytes aren't a dump that can be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// Nothing at all: most likely the command that should have printed a dump failed.
    #[error("the dump is empty")]
    Empty,
    /// Larger than [`MAX_DUMP_BYTES`].
    #[error("the dump is too large")]
    TooLarge,
    /// Something else, or a dump of another program. One of the original's that was cut off or altered
    /// looks so, too.
    #[error("this is not a pizauth dump, or one that was damaged")]
    Foreign,
    /// Made by a version that this one doesn't know.
    #[error("the dump was made by a newer version of pizauth")]
    Newer,
    /// Cut off or altered.
    #[error("the dump is truncated or corrupted")]
    Damaged,
}

/// The dump as bytes. `random` makes two dumps of the same state differ.
pub fn seal(dump: &Dump, random: [u8; 32]) -> Vec<u8> {
    seal_written(length(dump), random, |sealed| {
        // Plain structs of strings and numbers always serialise.
        let _ = serde_json::to_writer(sealed, dump);
    })
}

/// Any text sealed as [`seal`] does it, which is what a forger could make.
pub fn seal_text(body: &[u8], random: [u8; 32]) -> Vec<u8> {
    seal_written(body.len(), random, |sealed| sealed.extend_from_slice(body))
}

/// Seals what `write` appends, of about so many bytes; only the first [`NONCE_BYTES`] of `random` are
/// used. All is done in one buffer: of 10,000 accounts every copy takes as long as the rest.
fn seal_written(length: usize, random: [u8; 32], write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let first_line = header(VERSION);
    let Some((nonce, _)) = random.split_first_chunk::<NONCE_BYTES>() else {
        return Vec::new();
    };
    let around = [first_line.len(), NONCE_BYTES, aead::MAX_TAG_LEN];
    let expected = around.into_iter().fold(length, usize::saturating_add);
    let mut sealed = Vec::with_capacity(expected);
    sealed.extend_from_slice(&first_line);
    sealed.extend_from_slice(nonce);
    let start = sealed.len();
    write(&mut sealed);
    let aad = aead::Aad::from(&first_line);
    let nonce = aead::Nonce::assume_unique_for_key(*nonce);
    let body = sealed.get_mut(start..).unwrap_or_default();
    match key().map(|key| key.seal_in_place_separate_tag(nonce, aad, body)) {
        Some(Ok(tag)) => sealed.extend_from_slice(tag.as_ref()),
        // Only a body of more than 64 GiB can't be sealed; an empty dump restores nothing.
        Some(Err(ring::error::Unspecified)) | None => return Vec::new(),
    }
    sealed
}

/// About how long the dump will be: the tokens as they are, and the rest of an account, which is
/// seldom longer than this.
fn length(dump: &Dump) -> usize {
    const REST: usize = 1024;
    let one = |saved: &Saved| {
        let access = saved.access.iter().flat_map(Access::secrets);
        let tokens = access.chain(&saved.refresh_token);
        let lengths = tokens.map(|token| token.expose().len());
        lengths.fold(REST, usize::saturating_add)
    };
    dump.grants.iter().map(one).sum()
}

/// The inverse of [`seal`], for the dumps of earlier versions and the [`original`]'s, too.
pub fn open(bytes: &[u8]) -> Result<Dump, DumpError> {
    open_in_place(&mut SecretBytes::new(bytes.to_vec()))
}

/// The same, for bytes that are of no use afterwards.
pub fn open_in_place(bytes: &mut [u8]) -> Result<Dump, DumpError> {
    if bytes.is_empty() {
        return Err(DumpError::Empty);
    }
    if bytes.len() > MAX_DUMP_BYTES {
        return Err(DumpError::TooLarge);
    }
    let version = match version(bytes) {
        Err(DumpError::Foreign) => return original::open_in_place(bytes),
        outcome => outcome?,
    };
    let first_line = header(version);
    let sealed = bytes.get_mut(first_line.len()..);
    let (nonce, body) = sealed
        .and_then(|sealed| sealed.split_first_chunk_mut::<NONCE_BYTES>())
        .ok_or(DumpError::Damaged)?;
    let plain = key()
        .ok_or(DumpError::Damaged)?
        .open_in_place(
            aead::Nonce::assume_unique_for_key(*nonce),
            aead::Aad::from(&first_line),
            body,
        )
        .map_err(|ring::error::Unspecified| DumpError::Damaged)?;
    let dump: Dump = serde_json::from_slice(plain).map_err(|_| DumpError::Damaged)?;
    match is_sound(&dump) {
        true => Ok(dump),
        false => Err(DumpError::Damaged),
    }
}

/// The version whose [`header`] `bytes` start with.
fn version(bytes: &[u8]) -> Result<u32, DumpError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| {
        // A dump that was cut off within its first word is still one.
        if MAGIC.starts_with(bytes) {
            DumpError::Damaged
        } else {
            DumpError::Foreign
        }
    })?;
    let end = rest.iter().position(|byte| *byte == b'\n');
    let version = end.and_then(|end| rest.get(..end));
    let version = version.ok_or(DumpError::Damaged)?;
    let number: u32 = std::str::from_utf8(version)
        .ok()
        .and_then(|version| version.parse().ok())
        .ok_or(DumpError::Damaged)?;
    match number {
        0 => Err(DumpError::Foreign),
        1..=VERSION => Ok(number),
        _ => Err(DumpError::Newer),
    }
}

/// Whether it has no name twice and no token that would break the line it is printed on, as only a
/// forger's could who knows the key.
fn is_sound(dump: &Dump) -> bool {
    let mut names = HashSet::new();
    let printable =
        |token: &Arc<Secret>| token.expose().bytes().all(|byte| byte.is_ascii_graphic());
    dump.grants.iter().all(|saved| {
        let access = saved.access.as_ref();
        names.insert(&*saved.account) && access.is_none_or(|it| it.secrets().all(printable))
    })
}

fn header(version: u32) -> Vec<u8> {
    [MAGIC, version.to_string().as_bytes(), b"\n"].concat()
}

fn key() -> Option<aead::LessSafeKey> {
    let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, KEY).ok()?;
    Some(aead::LessSafeKey::new(key))
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn dump() -> Dump {
        Dump {
            grants: vec![Saved {
                account: "work".into(),
                registration: Arc::new(Registration {
                    source: crate::config::TokenSource::Person,
                    issuer: None,
                    auth_uri: Url::parse("https://a.example/auth").ok().map(Arc::new),
                    token_uri: Url::parse("https://a.example/token").ok().map(Arc::new),
                    client_id: "id".into(),
                    redirect_uri: Arc::new(Url::parse("http://localhost/").unwrap()),
                    scopes: vec!["mail".into()],
                    auth_uri_fields: vec![("login_hint".into(), "a@b".into())],
                    token_uri_fields: vec![("resource".into(), "r".into())],
                }),
                access: Some(Access {
                    token: Arc::new(Secret::new("access".into())),
                    expires: Some(Wall::from_millis(2_000)),
                    origins: None,
                    scopes: Some(["mail".to_owned()].into()),
                    id_token: Some(Arc::new(Secret::new("e30.e30.id".into()))),
                }),
                refresh_token: Some(Arc::new(Secret::new("refresh".into()))),
                refresh_origins: None,
                refresh_ends: Some(Wall::from_millis(3_000)),
                sign_ins: SignIns::default(),
                other_user: Some("other@a.example".into()),
                obtained: Wall::from_millis(1_000),
                original: false,
            }],
            changed: Some(Wall::from_millis(4_000)),
        }
    }

    #[test]
    fn what_is_sealed_opens_and_cannot_be_searched() {
        let sealed = seal(&dump(), [7; 32]);
        assert_eq!(open(&sealed), Ok(dump()));
        for word in ["access", "refresh", "work", "a.example"] {
            assert!(
                !sealed
                    .windows(word.len())
                    .any(|part| part == word.as_bytes())
            );
        }
        assert_ne!(seal(&dump(), [8; 32]), sealed);
    }

    // Covers: H25
    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let sealed = seal(&dump(), [7; 32]);
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(open(&altered).is_err(), "byte {at}");
            assert!(open(&sealed[..at]).is_err(), "cut at {at}");
        }
        let mut longer = sealed.clone();
        longer.push(0);
        assert_eq!(open(&longer), Err(DumpError::Damaged));
    }

    #[test]
    fn what_is_no_dump_is_told_apart() {
        for (bytes, error) in [
            (&b""[..], DumpError::Empty),
            (b"hello", DumpError::Foreign),
            (b"pizauth du", DumpError::Damaged),
            (b"pizauth dump 4\nxyz", DumpError::Newer),
            (b"pizauth dump 3\nxyz", DumpError::Damaged),
            (b"pizauth dump 2\nxyz", DumpError::Damaged),
            (b"pizauth dump 1\nxyz", DumpError::Damaged),
            (b"pizauth dump one\nxyz", DumpError::Damaged),
            (b"pizauth dump +1\nxyz", DumpError::Damaged),
            (b"pizauth dump 02\nxyz", DumpError::Damaged),
        ] {
            assert_eq!(open(bytes), Err(error));
        }
    }

    /// A dump as a program wrote it that knew this version.
    fn sealed_as(version: u32, body: &[u8]) -> Vec<u8> {
        let (first_line, nonce) = (header(version), [7; NONCE_BYTES]);
        let mut body = body.to_vec();
        let aad = aead::Aad::from(&first_line);
        let nonce_once = aead::Nonce::assume_unique_for_key(nonce);
        let sealed = key().unwrap();
        sealed
            .seal_in_place_append_tag(nonce_once, aad, &mut body)
            .unwrap();
        [&first_line[..], &nonce, &body].concat()
    }

    #[test]
    fn dumps_of_earlier_versions_are_read_as_they_were_written() {
        let goldens = [
            (1, include_str!("tests/dump-1.json")),
            (2, include_str!("tests/dump-2.json")),
        ];
        for (version, golden) in goldens {
            let before: Dump = serde_json::from_str(golden).unwrap();
            let body = serde_json::to_vec(&before).unwrap();
            assert_eq!(seal(&before, [7; 32]), sealed_as(VERSION, &body));
            assert_eq!(open(&sealed_as(version, &body)), Ok(before));
            let mut relabelled = sealed_as(version, &body);
            relabelled[MAGIC.len()] = b'0' + u8::try_from(VERSION).unwrap();
            assert_eq!(open(&relabelled), Err(DumpError::Damaged));
            assert_eq!(open(&sealed_as(VERSION + 1, &body)), Err(DumpError::Newer));
            assert_eq!(open(&sealed_as(0, &body)), Err(DumpError::Foreign));
        }
    }

    #[test]
    fn a_forged_dump_with_a_name_twice_or_a_broken_token_is_refused() {
        let mut twice = dump();
        twice.grants.extend(dump().grants);
        assert_eq!(open(&seal(&twice, [0; 32])), Err(DumpError::Damaged));
        let mut broken = dump();
        broken.grants[0].access = Some(Access {
            token: Arc::new(Secret::new("two\nlines".into())),
            expires: None,
            origins: None,
            scopes: None,
            id_token: None,
        });
        assert_eq!(open(&seal(&broken, [0; 32])), Err(DumpError::Damaged));
    }
}

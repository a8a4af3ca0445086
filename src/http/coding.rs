//! Content codings (RFC 9110, 8.4.1): none is asked for, but some servers and proxies use one all the
//! same.

use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::MAX_READ;
use crate::{oauth::token::MAX_BODY_BYTES, secret::SecretBytes};

/// How many codings may be on top of each other: two are already odd.
const MAX_CODINGS: usize = 3;

/// The body without its codings, which `Content-Encoding` names in the order in which they were
/// applied. At most [`MAX_READ`] bytes, however little they were before.
///
/// # Errors
/// Which coding isn't known, or what is wrong with the body.
pub(super) fn decode(codings: &str, body: SecretBytes) -> Result<SecretBytes, String> {
    let named = codings
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let named: Vec<_> = named.collect();
    if named.len() > MAX_CODINGS {
        return Err("too many content codings".into());
    }
    let mut body = body;
    for name in named.into_iter().rev() {
        if body.len() > MAX_BODY_BYTES {
            // It isn't understood anyway.
            return Ok(body);
        }
        body = match name.to_ascii_lowercase().as_str() {
            "identity" => body,
            // A proxy may have decoded it and kept the header.
            "gzip" | "x-gzip" if !is_gzip(&body) => body,
            "gzip" | "x-gzip" => expand(MultiGzDecoder::new(body.as_slice()))?,
            // Many servers leave the frame of zlib out.
            "deflate" if is_zlib(&body) => expand(ZlibDecoder::new(body.as_slice()))?,
            "deflate" => match expand(DeflateDecoder::new(body.as_slice())) {
                Err(_) if body.is_ascii() => body,
                expanded => expanded?,
            },
            _ => return Err(format!("the content coding \"{name}\" is not supported")),
        };
    }
    match is_gzip(&body) && body.len() <= MAX_BODY_BYTES {
        true => expand(MultiGzDecoder::new(body.as_slice())),
        false => Ok(body),
    }
}

fn expand(reader: impl Read) -> Result<SecretBytes, String> {
    let mut expanded = SecretBytes::default();
    match reader.take(MAX_READ).read_to_end(&mut expanded) {
        Ok(_) => Ok(expanded),
        Err(error) => Err(format!("the compressed reply can't be read: {error}")),
    }
}

/// RFC 1952, 2.3.1; no JSON, form or page begins so.
fn is_gzip(body: &[u8]) -> bool {
    body.starts_with(&[0x1f, 0x8b, 8])
}

/// RFC 1950, 2.2.
fn is_zlib(body: &[u8]) -> bool {
    match body {
        [method, flags, ..] => {
            method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn codings_are_undone_or_named() {
        const TEXT: &[u8] = b"{\"access_token\":\"a\"}";
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(TEXT).unwrap();
        let zlib = zlib.finish().unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(TEXT).unwrap();
        let raw = raw.finish().unwrap();
        let cut = &gzip(TEXT)[..20];
        for (codings, body, expected) in [
            ("", TEXT.to_vec(), Ok(TEXT)),
            ("", gzip(TEXT), Ok(TEXT)),
            ("gzip", gzip(TEXT), Ok(TEXT)),
            ("X-GZip", gzip(TEXT), Ok(TEXT)),
            ("gzip", TEXT.to_vec(), Ok(TEXT)),
            ("gzip", Vec::new(), Ok(&b""[..])),
            ("deflate", zlib, Ok(TEXT)),
            ("deflate", raw, Ok(TEXT)),
            ("deflate", TEXT.to_vec(), Ok(TEXT)),
            ("identity, gzip", gzip(TEXT), Ok(TEXT)),
            ("gzip,gzip", gzip(&gzip(TEXT)), Ok(TEXT)),
            (
                "br",
                vec![0x0b, 0x02],
                Err("the content coding \"br\" is not supported"),
            ),
            (
                "gzip",
                cut.to_vec(),
                Err("the compressed reply can't be read"),
            ),
            (
                "deflate",
                vec![0xff; 9],
                Err("the compressed reply can't be read"),
            ),
            (
                "gzip,gzip,gzip,gzip",
                gzip(TEXT),
                Err("too many content codings"),
            ),
        ] {
            match (decode(codings, SecretBytes::new(body)), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.as_slice(), expected, "{codings}"),
                (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{found}"),
                (found, _) => panic!("{codings}: {found:?}"),
            }
        }
    }

    /// What expands to a thousand times as much costs no more than the longest reply.
    // Covers: 83
    #[test]
    fn a_bomb_is_no_longer_than_the_limit() {
        let bomb = gzip(&vec![b'a'; 64 << 20]);
        assert!(bomb.len() < 128 << 10);
        for codings in ["", "gzip"] {
            let expanded = decode(codings, SecretBytes::new(bomb.clone())).unwrap();
            assert_eq!(expanded.len(), MAX_BODY_BYTES + 1);
        }
    }
}

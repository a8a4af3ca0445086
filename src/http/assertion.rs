//! JSON Web Tokens that prove who asks by a private key (RFC 7521 and 7523; JWS, RFC 7515). Each
//! request gets its own, right before it is sent.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::{
    CertificateError, Error, RootCertStore, SignatureScheme,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::ParsedCertificate,
    sign::Signer,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::{Url, form_urlencoded::Serializer};

use super::trust;
use crate::{
    oauth::{client::Assertion, token::Request},
    secret::Secret,
};

/// How long an assertion is valid: long enough for a slow network and a clock that is a little wrong.
/// Google allows an hour.
const LIFE_SECS: i64 = 300;

/// What to do with a key that is encrypted.
const DECRYPT: &str = "`openssl pkcs8 -topk8 -nocrypt -in key.pem` writes one that isn't";

/// What to do with a certificate that has expired.
const RENEW: &str = "register a new one with the provider and name it as `client_certificate`, or set \
                     the clock if it is wrong";

/// A private key, and what its file says about it.
struct Key {
    signer: Box<dyn Signer>,
    /// The JWS header: the algorithm, and the key as the provider knows it.
    header: Vec<(&'static str, Value)>,
    /// The service account to which it belongs.
    account: Option<Value>,
}

impl Key {
    /// Reads a key in PEM, perhaps with its certificate, or a service account's JSON.
    fn read(text: &str) -> Result<Self, String> {
        if !text.trim_start().starts_with('{') {
            return Self::of_pem(text);
        }
        let file: Value = serde_json::from_str(text)
            .map_err(|_| "the file is not complete JSON; download it again")?;
        let pem = file.get("private_key").and_then(Value::as_str);
        let missing = "the file isn't a service account's key: it has no `private_key`";
        let mut key = Self::of_pem(pem.ok_or(missing)?)?;
        key.account = file.get("client_email").cloned();
        let id = file.get("private_key_id").cloned();
        key.header.extend(id.map(|id| ("kid", id)));
        Ok(key)
    }

    /// RSA signs with PS256 beside a certificate, as Microsoft wants it, otherwise with RS256.
    fn of_pem(text: &str) -> Result<Self, String> {
        if text.contains("ENCRYPTED") {
            return Err(format!("the key is encrypted; {DECRYPT}"));
        }
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| "there is no private key in it (PEM, \"BEGIN PRIVATE KEY\")")?;
        let certificate = CertificateDer::from_pem_slice(text.as_bytes()).ok();
        let rsa = match &certificate {
            Some(_) => (SignatureScheme::RSA_PSS_SHA256, "PS256"),
            None => (SignatureScheme::RSA_PKCS1_SHA256, "RS256"),
        };
        let schemes = [rsa, (SignatureScheme::ECDSA_NISTP256_SHA256, "ES256")];
        let key = any_supported_type(&key).ok();
        let signs = |(scheme, name)| Some((key.as_ref()?.choose_scheme(&[scheme])?, name));
        let (signer, alg) = (schemes.into_iter().find_map(signs))
            .ok_or("the key can't be used: it must be RSA of 2048 bits or more, or P-256")?;
        let print = certificate.map(|it| URL_SAFE_NO_PAD.encode(Sha256::digest(&it)));
        let mut header = vec![("alg", alg.into()), ("typ", "JWT".into())];
        header.extend(print.map(|print| ("x5t#S256", print.into())));
        Ok(Key {
            signer,
            header,
            account: None,
        })
    }

    /// A JWT of `claims`.
    fn sign(&self, claims: Value) -> Option<String> {
        let parts = [Value::from_iter(self.header.clone()), claims].map(|part| part.to_string());
        let message = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let mut signature = self.signer.sign(message.as_bytes()).ok()?;
        if self.signer.scheme() == SignatureScheme::ECDSA_NISTP256_SHA256 {
            signature = fixed(&signature)?;
        }
        Some(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// What to do if the certificate beside a key has expired: no provider takes it.
fn expired(text: &str, now: i64) -> Option<String> {
    let certificate = CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
    let certificate = ParsedCertificate::try_from(&certificate).ok()?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.try_into().ok()?));
    // Its end is looked at before its issuer, which nobody here can know.
    let roots = RootCertStore::empty();
    match verify_server_cert_signed_by_trust_anchor(&certificate, &roots, &[], now, &[]) {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            let date = trust::date(&not_after);
            Some(format!("the certificate expired on {date}; {RENEW}"))
        }
        _ => None,
    }
}

/// A P-256 signature with both numbers in 32 bytes (RFC 7518, 3.4), from its DER (RFC 3279, 2.2.3).
fn fixed(der: &[u8]) -> Option<Vec<u8>> {
    let (r, rest) = der.get(4..)?.split_at_checked((*der.get(3)?).into())?;
    [r, rest.get(2..)?]
        .iter()
        .try_fold(Vec::new(), |all, number| {
            // DER leaves out zeros at the start, and has one before a first bit that is set.
            let zeros = 32_usize.saturating_sub(number.len());
            let digits = number.get(number.len().saturating_sub(32)..)?;
            Some([all, vec![0; zeros], digits.to_vec()].concat())
        })
}

/// `request` with its assertion in the form; `now` is in seconds since 1970 (RFC 7519, 2: NumericDate).
///
/// # Errors
/// Why the assertion can't be made.
pub fn signed(request: &Request, now: i64) -> Result<Request, String> {
    let mut signed = request.clone();
    if let Some(assertion) = signed.assertion.take() {
        let jwt = jwt(&assertion, &request.endpoint, now)?;
        let mut form = Serializer::new(request.form.expose().to_owned());
        let form = Secret::new(form.append_pair(assertion.field, &jwt).finish());
        if request.may_be_sent() {
            form.bind(request.under);
        }
        signed.form = Arc::new(form);
    }
    Ok(signed)
}

/// The assertion for `endpoint`.
fn jwt(assertion: &Assertion, endpoint: &Url, now: i64) -> Result<String, String> {
    let key = Key::read(assertion.key.expose())?;
    expired(assertion.key.expose(), now).map_or(Ok(()), Err)?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| format!("no random numbers: {error}"))?;
    let own = ["iss", "sub"].map(|name| Some((name, key.account.clone()?)));
    let mut claims: Vec<_> = own.into_iter().flatten().collect();
    claims.extend(
        assertion
            .claims
            .iter()
            .map(|(name, text)| (*name, text.as_str().into())),
    );
    if !claims.iter().any(|(name, _)| *name == "iss") {
        return Err("the key's file has no `client_email`".into());
    }
    claims.extend([
        ("aud", endpoint.as_str().into()),
        ("iat", now.into()),
        ("exp", now.saturating_add(LIFE_SECS).into()),
        ("jti", URL_SAFE_NO_PAD.encode(id).into()),
    ]);
    // Of two with a name, the later one counts.
    let jwt = key.sign(Value::from_iter(claims));
    Ok(jwt.ok_or("the key can't sign")?)
}

#[cfg(test)]
mod tests {
    use ring::signature::{self, EcdsaKeyPair, KeyPair, RsaKeyPair, UnparsedPublicKey};
    use ring::{rand::SystemRandom, signature::VerificationAlgorithm};

    use serde_json::json;

    use super::*;

    /// The certificate's SHA-256 in base64url, by openssl(1).
    const PRINT: &str = "aWnDNuqdekvZ2EjUhoa_0Ez4Y4LJgPkryd0X48bOmrY";

    macro_rules! key {
        ($name:literal) => {
            include_str!(concat!("../../tests/data/keys/", $name))
        };
    }

    fn jwt_of(key: &str, claims: &[(&'static str, &str)], now: i64) -> Result<String, String> {
        let claims = claims
            .iter()
            .map(|(name, text)| (*name, (*text).to_owned()));
        let assertion = Assertion {
            key: Arc::new(Secret::new(key.to_owned())),
            field: "assertion",
            claims: claims.collect(),
        };
        let url = Url::parse("https://id.example/token").unwrap();
        jwt(&assertion, &url, now)
    }

    /// The public halves of the keys, by another reader than the one that is tested.
    fn public(pem: &str, is_rsa: bool) -> Vec<u8> {
        let json: Option<Value> = serde_json::from_str(pem).ok();
        let pem = json
            .as_ref()
            .map_or(pem, |it| it["private_key"].as_str().unwrap());
        match (
            PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap(),
            is_rsa,
        ) {
            (PrivateKeyDer::Pkcs1(key), true) => {
                let pair = RsaKeyPair::from_der(key.secret_pkcs1_der()).unwrap();
                pair.public_key().as_ref().to_vec()
            }
            (key, true) => {
                let pair = RsaKeyPair::from_pkcs8(key.secret_der()).unwrap();
                pair.public_key().as_ref().to_vec()
            }
            (_, false) => {
                let key = PrivateKeyDer::from_pem_slice(key!("ec.pem").as_bytes()).unwrap();
                let curve = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
                let random = SystemRandom::new();
                let pair = EcdsaKeyPair::from_pkcs8(curve, key.secret_der(), &random).unwrap();
                pair.public_key().as_ref().to_vec()
            }
        }
    }

    /// The parts of a JWT that this key has signed.
    fn parts(key: &str, jwt: &str) -> (Value, Value) {
        let parts: Vec<_> = jwt.split('.').collect();
        let [header, claims, signature] = parts[..] else {
            panic!("{jwt}");
        };
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
        let json = |part: &str| -> Value { serde_json::from_slice(&decode(part)).unwrap() };
        let message = format!("{header}.{claims}");
        let (header, claims) = (json(header), json(claims));
        let algorithm: &dyn VerificationAlgorithm = match header["alg"].as_str().unwrap() {
            "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
            "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
            "ES256" => &signature::ECDSA_P256_SHA256_FIXED,
            other => panic!("{other}"),
        };
        let public = public(key, header["alg"] != "ES256");
        UnparsedPublicKey::new(algorithm, public)
            .verify(message.as_bytes(), &decode(signature))
            .unwrap();
        (header, claims)
    }

    #[test]
    fn each_kind_of_key_signs_for_its_client() {
        let certified = concat!(key!("rsa.pem"), key!("certificate.pem"));
        for (key, algorithm) in [
            (key!("rsa.pem"), "RS256"),
            (key!("rsa-pkcs1.pem"), "RS256"),
            (key!("ec.pem"), "ES256"),
            (key!("ec-sec1.pem"), "ES256"),
            (certified, "PS256"),
        ] {
            let client = [("iss", "cl\"ient"), ("sub", "cl\"ient")];
            let sign = || jwt_of(key, &client, 1_700_000_000).unwrap();
            let (header, mut claims) = parts(key, &sign());
            assert_eq!(
                (&header["alg"], &header["typ"]),
                (&json!(algorithm), &json!("JWT"))
            );
            let print = (algorithm == "PS256").then_some(PRINT);
            assert_eq!(header["x5t#S256"].as_str(), print);
            // No two are the same.
            let (_, other) = parts(key, &sign());
            assert_eq!(claims["jti"].as_str().map(str::len), Some(22));
            assert_ne!(claims["jti"], other["jti"]);
            claims["jti"].take();
            let wanted = json!({
                "iss": "cl\"ient", "sub": "cl\"ient", "aud": "https://id.example/token",
                "iat": 1_700_000_000, "exp": 1_700_000_300, "jti": null,
            });
            assert_eq!(claims, wanted);
        }
    }

    #[test]
    fn numbers_of_a_signature_have_32_bytes_each() {
        let bytes = |first: u8, count: usize| [&[first][..], &vec![7; count - 1]].concat();
        let der = |r: &[u8], s: &[u8]| {
            let length = |it: &[u8]| u8::try_from(it.len()).unwrap();
            let (r, s) = ([&[2, length(r)], r].concat(), [&[2, length(s)], s].concat());
            [&[0x30, length(&r) + length(&s)], &r[..], &s].concat()
        };
        let (short, long) = ([&[0; 2][..], &bytes(1, 30)].concat(), bytes(0x80, 32));
        let signed = [&[0][..], &long].concat();
        assert_eq!(
            fixed(&der(&signed, &bytes(1, 30))),
            Some([&long[..], &short].concat())
        );
        assert_eq!(
            fixed(&der(&bytes(1, 30), &signed)),
            Some([&short[..], &long].concat())
        );
        assert_eq!(fixed(&der(&signed, &signed)[..20]), None);
        assert_eq!(fixed(&[]), None);
        // Each length comes within some hundred signatures.
        for _ in 0..300 {
            parts(
                key!("ec.pem"),
                &jwt_of(key!("ec.pem"), &[("iss", "c")], 0).unwrap(),
            );
        }
    }

    #[test]
    fn a_service_account_asks_for_itself_or_for_a_person() {
        let key = key!("service-account.json");
        let account = "mail@p.iam.gserviceaccount.com";
        for (subject, sub) in [
            (None, account),
            (Some("you@example.com"), "you@example.com"),
        ] {
            let scope = ("scope", "https://mail.google.com/");
            let claims: Vec<_> = subject
                .map(|it| ("sub", it))
                .into_iter()
                .chain([scope])
                .collect();
            let (header, claims) = parts(key, &jwt_of(key, &claims, 0).unwrap());
            assert_eq!(
                (&header["alg"], &header["kid"]),
                (&json!("RS256"), &json!("id-1"))
            );
            assert_eq!(
                (&claims["iss"], &claims["sub"]),
                (&json!(account), &json!(sub))
            );
            assert_eq!(claims["scope"], "https://mail.google.com/");
        }
    }

    #[test]
    fn a_certificate_that_has_expired_signs_nothing() {
        let certified = concat!(key!("rsa.pem"), key!("certificate.pem"));
        let sign = |now| jwt_of(certified, &[("iss", "c")], now);
        // Its notAfter, by openssl(1): Nov 6 11:18:15 2126 GMT.
        let end = 4_949_637_495;
        assert!(sign(end).is_ok());
        let error = sign(end + 1).unwrap_err();
        assert!(
            error.starts_with("the certificate expired on 2126-11-06"),
            "{error}"
        );
        // A clock that is late is the provider's to judge.
        assert!(sign(0).is_ok());
    }

    #[test]
    fn what_is_no_key_says_what_to_do() {
        let json = key!("service-account.json");
        for (key, why) in [
            (
                key!("encrypted.pem"),
                "the key is encrypted; `openssl pkcs8",
            ),
            (key!("short.pem"), "RSA of 2048 bits or more"),
            (
                key!("p384.pem"),
                "must be RSA of 2048 bits or more, or P-256",
            ),
            (key!("certificate.pem"), "no private key in it"),
            ("", "no private key in it"),
            ("hush", "no private key in it"),
            (&key!("rsa.pem")[..900], "no private key in it"),
            (&json[..900], "not complete JSON"),
            ("{}", "isn't a service account's key"),
            (r#"{"private_key": "x"}"#, "no private key in it"),
        ] {
            let error = Key::read(key).err().unwrap();
            assert!(error.contains(why), "{why}: {error}");
        }
        // A key of that kind is one, but doesn't say whose it is.
        let error = jwt_of(key!("rsa.pem"), &[("scope", "")], 0).unwrap_err();
        assert!(error.contains("client_email"), "{error}");
    }
}

//! An authorization server's honest half: what RFC 6749, 7636 and 9700 say that it must check and
//! answer. No sockets here; provider.rs has those, and the faults.

use std::collections::HashMap;

use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use url::Url;

use super::http::{Pairs, Request, Response};

/// How the server behaves; a test may change it at any time.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `expires_in` of the tokens minted from now on, in seconds; `None` leaves it out.
    pub expires_in: Option<u64>,
    /// Whether tokens come with a refresh token at all.
    pub refresh_tokens: bool,
    /// Whether a refresh gives a new refresh token.
    pub rotate: bool,
    /// Whether the second use of a rotated refresh token ends the whole grant (RFC 9700, 4.14.2).
    /// Without it, older refresh tokens stay good.
    pub reuse_detection: bool,
    /// The client secret that the token endpoint asks for, in the form or as Basic.
    pub client_secret: Option<String>,
    /// `expires_in` of device codes, in seconds.
    pub device_expires_in: u64,
    /// The initial access token that the registration endpoint asks for.
    pub initial_access_token: Option<String>,
    /// What a redirect must start with that the registration endpoint accepts.
    pub redirects: Option<String>,
    /// Added to what the registration endpoint answers, and replacing what has its name.
    pub registration_extras: Vec<(String, serde_json::Value)>,
    /// Whether authorization requests have to be pushed (RFC 9126).
    pub pushed_only: bool,
    /// Added to every callback, for instance `iss`.
    pub callback_extras: Vec<(String, String)>,
    /// Added to the metadata, and replacing what has their name; null takes it away.
    pub metadata_extras: Vec<(String, serde_json::Value)>,
    /// Added to every successful reply of the token endpoint, and replacing what has their name.
    pub token_extras: Vec<(String, serde_json::Value)>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            expires_in: Some(3600),
            refresh_tokens: true,
            rotate: true,
            reuse_detection: true,
            client_secret: None,
            device_expires_in: 600,
            initial_access_token: None,
            redirects: None,
            registration_extras: Vec::new(),
            pushed_only: false,
            callback_extras: Vec::new(),
            metadata_extras: Vec::new(),
            token_extras: Vec::new(),
        }
    }
}

/// What one authorisation by the user became.
#[derive(Debug)]
struct Grant {
    client_id: String,
    scope: Option<String>,
    live: bool,
}

#[derive(Debug)]
struct Code {
    grant: usize,
    redirect_uri: String,
    challenge: String,
    used: bool,
}

#[derive(Debug)]
struct RefreshToken {
    grant: usize,
    replaced: bool,
}

/// A device code (RFC 8628).
#[derive(Debug)]
struct DeviceCode {
    grant: usize,
    user_code: String,
    /// What the user has said.
    decision: Option<bool>,
    used: bool,
}

/// The server's memory.
#[derive(Debug, Default)]
pub struct Issuer {
    pub settings: Settings,
    /// Before every token and code, so that those of two servers can be told apart.
    tag: String,
    grants: Vec<Grant>,
    codes: HashMap<String, Code>,
    access_tokens: HashMap<String, usize>,
    refresh_tokens: HashMap<String, RefreshToken>,
    device_codes: HashMap<String, DeviceCode>,
    pushed: HashMap<String, Pairs>,
    minted_codes: usize,
    minted_access: usize,
    minted_refresh: usize,
}

/// An error reply of the token endpoint (RFC 6749, 5.2).
pub fn token_error(error: &str, description: &str) -> Response {
    let body = serde_json::json!({ "error": error, "error_description": description });
    Response::new(400, "application/json", body.to_string())
}

/// Where the user's browser goes with `pairs` added to the query of `redirect_uri`.
pub fn callback(redirect_uri: &str, pairs: &[(String, String)]) -> Response {
    match Url::parse(redirect_uri) {
        Ok(mut url) => {
            url.query_pairs_mut().extend_pairs(pairs);
            Response::redirect(303, url.as_str())
        }
        Err(error) => bad_request(&format!("redirect_uri: {error}")),
    }
}

fn bad_request(why: &str) -> Response {
    Response::new(400, "text/plain", format!("{why}\n"))
}

impl Issuer {
    pub fn new(tag: &str) -> Self {
        Issuer {
            tag: tag.into(),
            ..Issuer::default()
        }
    }

    /// The metadata of the server at `host` (RFC 8414, 3.2).
    pub fn metadata(&self, host: &str) -> Response {
        let base = format!("http://{host}");
        let at = |path: &str| serde_json::Value::from(format!("{base}{path}"));
        let mut document = serde_json::Map::new();
        document.insert("issuer".into(), base.as_str().into());
        for (name, path) in [
            ("authorization_endpoint", "/authorize"),
            ("token_endpoint", "/token"),
            ("device_authorization_endpoint", "/device_authorization"),
            ("revocation_endpoint", "/revoke"),
            ("registration_endpoint", "/register"),
        ] {
            document.insert(name.into(), at(path));
        }
        if self.settings.pushed_only {
            let endpoint = "pushed_authorization_request_endpoint";
            document.insert(endpoint.into(), at("/par"));
            document.insert("require_pushed_authorization_requests".into(), true.into());
        }
        for (name, value) in &self.settings.metadata_extras {
            document.insert(name.clone(), value.clone());
        }
        document.retain(|_, value| !value.is_null());
        let body = serde_json::Value::Object(document).to_string();
        Response::new(200, "application/json", body)
    }

    /// The registration endpoint (RFC 7591, 3).
    pub fn register(&self, request: &Request) -> Response {
        let token = &self.settings.initial_access_token;
        let wanted = token.as_ref().map(|token| format!("Bearer {token}"));
        if wanted.is_some() && request.headers.header("Authorization") != wanted.as_deref() {
            return Response::new(401, "text/plain", "");
        }
        let Ok(serde_json::Value::Object(mut client)) = serde_json::from_slice(&request.body)
        else {
            return token_error("invalid_client_metadata", "no object");
        };
        let redirect = client["redirect_uris"][0].as_str().unwrap_or_default();
        let accepted = self.settings.redirects.as_deref().unwrap_or_default();
        if !redirect.starts_with(accepted) {
            return token_error("invalid_redirect_uri", "not this one");
        }
        client.insert("client_id".into(), "registered-1".into());
        client.extend(self.settings.registration_extras.clone());
        let body = serde_json::Value::Object(client).to_string();
        Response::new(201, "application/json", body)
    }

    /// The endpoint for pushed authorization requests (RFC 9126, 2).
    pub fn push(&mut self, request: &Request) -> Response {
        let form = request.form();
        let client = self.authenticate(request, &form);
        let checked = client.and_then(|_| {
            let checked = check_authorization_request(&form);
            checked.map_err(|why| token_error("invalid_request", &why))
        });
        if let Err(refusal) = checked {
            return refusal;
        }
        let name = format!("urn:ietf:params:oauth:request_uri:{}", self.pushed.len());
        let body = serde_json::json!({ "request_uri": name, "expires_in": 60 });
        self.pushed.insert(name, form);
        Response::new(201, "application/json", body.to_string())
    }

    /// The authorization endpoint, with a user who agrees at once.
    pub fn authorize(&mut self, query: &Pairs) -> Response {
        let pushed = query.get("request_uri").and_then(|it| self.pushed.get(it));
        let pushed = pushed
            .filter(|it| it.get("client_id") == query.get("client_id"))
            .cloned();
        let query = match pushed {
            Some(pushed) => &pushed.clone(),
            None if self.settings.pushed_only => return bad_request("it has to be pushed"),
            None => query,
        };
        let (redirect_uri, state) = match check_authorization_request(query) {
            Ok(found) => found,
            Err(why) => return bad_request(&why),
        };
        self.minted_codes += 1;
        let code = format!("{}code-{}", self.tag, self.minted_codes);
        self.grants.push(Grant {
            client_id: query.get("client_id").unwrap_or_default().into(),
            scope: query.get("scope").map(str::to_owned),
            live: true,
        });
        self.codes.insert(
            code.clone(),
            Code {
                grant: self.grants.len() - 1,
                redirect_uri: redirect_uri.clone(),
                challenge: query.get("code_challenge").unwrap_or_default().into(),
                used: false,
            },
        );
        let mut pairs = vec![("code".into(), code), ("state".into(), state)];
        pairs.extend(self.settings.callback_extras.clone());
        callback(&redirect_uri, &pairs)
    }

    /// The authorization endpoint, with a user (or a policy) that refuses.
    pub fn refuse(&self, query: &Pairs, error: &str, description: &str) -> Response {
        let (redirect_uri, state) = match check_authorization_request(query) {
            Ok(found) => found,
            Err(why) => return bad_request(&why),
        };
        let mut pairs = vec![
            ("error".into(), error.into()),
            ("error_description".into(), description.into()),
            ("state".into(), state),
        ];
        pairs.extend(self.settings.callback_extras.clone());
        callback(&redirect_uri, &pairs)
    }

    /// The token endpoint.
    pub fn token(&mut self, request: &Request) -> Response {
        let form = request.form();
        let result =
            self.authenticate(request, &form)
                .and_then(|client_id| match form.get("grant_type") {
                    Some("authorization_code") => self.exchange(&form, &client_id),
                    Some("refresh_token") => self.refresh(&form, &client_id),
                    Some("client_credentials") => self.own(&form, &client_id),
                    Some("urn:ietf:params:oauth:grant-type:device_code") => {
                        self.poll(&form, &client_id)
                    }
                    _ => Err(token_error("unsupported_grant_type", "no such grant type")),
                });
        result.unwrap_or_else(|refusal| refusal)
    }

    /// Ends every grant: from now on each code and refresh token is an `invalid_grant`.
    pub fn end_grants(&mut self) {
        for grant in &mut self.grants {
            grant.live = false;
        }
    }

    /// The same for one client.
    pub fn end_grants_of(&mut self, client_id: &str) {
        for grant in &mut self.grants {
            grant.live &= grant.client_id != client_id;
        }
    }

    /// Whether a resource server would accept `access_token`; its expiry is left to the caller.
    pub fn accepts(&self, access_token: &str) -> bool {
        self.access_tokens
            .get(access_token)
            .and_then(|grant| self.grants.get(*grant))
            .is_some_and(|grant| grant.live)
    }

    /// Checks the client's secret, if one is asked for, and gives its id.
    fn authenticate(&self, request: &Request, form: &Pairs) -> Result<String, Response> {
        let basic = request.headers.header("Authorization").and_then(read_basic);
        let (client_id, secret) = match basic {
            Some((client_id, secret)) => (Some(client_id), Some(secret)),
            None => (
                form.get("client_id").map(str::to_owned),
                form.get("client_secret").map(str::to_owned),
            ),
        };
        if self.settings.client_secret.is_some() && self.settings.client_secret != secret {
            return Err(token_error("invalid_client", "the client secret is wrong"));
        }
        client_id.ok_or_else(|| token_error("invalid_client", "no client_id"))
    }

    /// The device authorization endpoint (RFC 8628, 3.1).
    pub fn authorize_device(&mut self, request: &Request) -> Response {
        let form = request.form();
        let client_id = match self.authenticate(request, &form) {
            Ok(client_id) => client_id,
            Err(refusal) => return refusal,
        };
        self.grants.push(Grant {
            client_id,
            scope: form.get("scope").map(str::to_owned),
            live: true,
        });
        let number = self.device_codes.len() + 1;
        let (code, user_code) = (format!("{}dc-{number}", self.tag), format!("USER-{number}"));
        self.device_codes.insert(
            code.clone(),
            DeviceCode {
                grant: self.grants.len() - 1,
                user_code: user_code.clone(),
                decision: None,
                used: false,
            },
        );
        let host = request.headers.header("Host").unwrap_or_default();
        let uri = format!("http://{host}/device");
        let body = serde_json::json!({
            "device_code": code,
            "user_code": user_code,
            "verification_uri": uri,
            "verification_uri_complete": format!("{uri}?user_code={user_code}"),
            "expires_in": self.settings.device_expires_in,
            "interval": 1,
        });
        Response::new(200, "application/json", body.to_string())
    }

    /// The page where the user enters a code, and agrees unless it says `deny`.
    pub fn enter_device_code(&mut self, query: &Pairs) -> Response {
        let user_code = query.get("user_code").unwrap_or_default();
        let mut codes = self.device_codes.values_mut();
        match codes.find(|code| code.user_code == user_code) {
            Some(code) => {
                code.decision = Some(query.get("deny").is_none());
                Response::new(200, "text/plain", "you can go back to your device\n")
            }
            None => bad_request("no such code"),
        }
    }

    fn poll(&mut self, form: &Pairs, client_id: &str) -> Result<Response, Response> {
        let code = form.get("device_code").unwrap_or_default();
        let Some(code) = self.device_codes.get_mut(code) else {
            return Err(token_error("invalid_grant", "no such device code"));
        };
        match code.decision {
            None => Err(token_error("authorization_pending", "not yet")),
            Some(false) => Err(token_error("access_denied", "the user said no")),
            Some(true) if code.used => Err(token_error("invalid_grant", "used before")),
            Some(true) => {
                code.used = true;
                let grant = code.grant;
                self.mint(grant, client_id, self.settings.refresh_tokens)
            }
        }
    }

    /// The revocation endpoint (RFC 7009): either token ends the whole grant.
    pub fn revoke(&mut self, request: &Request) -> Response {
        let form = request.form();
        if let Err(refusal) = self.authenticate(request, &form) {
            return refusal;
        }
        let token = form.get("token").unwrap_or_default();
        let refresh = self.refresh_tokens.get(token).map(|token| token.grant);
        if let Some(grant) = refresh.or(self.access_tokens.get(token).copied()) {
            self.end(grant);
        }
        Response::new(200, "text/plain", "")
    }

    fn exchange(&mut self, form: &Pairs, client_id: &str) -> Result<Response, Response> {
        let refuse = |why| Err(token_error("invalid_grant", why));
        let Some(code) = form.get("code").and_then(|code| self.codes.get_mut(code)) else {
            return refuse("no such code");
        };
        let grant = code.grant;
        if code.used {
            self.end(grant);
            return refuse("the code was used before");
        }
        code.used = true;
        if form.get("redirect_uri") != Some(&code.redirect_uri) {
            return refuse("redirect_uri is not that of the authorization request");
        }
        let verifier = form.get("code_verifier").unwrap_or_default();
        if !is_verifier(verifier) || challenge_of(verifier) != code.challenge {
            return refuse("code_verifier does not match");
        }
        self.mint(grant, client_id, self.settings.refresh_tokens)
    }

    fn refresh(&mut self, form: &Pairs, client_id: &str) -> Result<Response, Response> {
        let refuse = |why| Err(token_error("invalid_grant", why));
        let Some(token) = form
            .get("refresh_token")
            .and_then(|token| self.refresh_tokens.get_mut(token))
        else {
            return refuse("no such refresh token");
        };
        let grant = token.grant;
        if token.replaced && self.settings.reuse_detection {
            self.end(grant);
            return refuse("the refresh token was used before");
        }
        token.replaced = self.settings.rotate;
        self.mint(grant, client_id, self.settings.rotate)
    }

    /// A token of the client's own (RFC 6749, 4.4).
    fn own(&mut self, form: &Pairs, client_id: &str) -> Result<Response, Response> {
        self.grants.push(Grant {
            client_id: client_id.into(),
            scope: form.get("scope").map(str::to_owned),
            live: true,
        });
        self.mint(self.grants.len() - 1, client_id, false)
    }

    /// The tokens of `grant` (RFC 6749, 5.1).
    fn mint(
        &mut self,
        grant: usize,
        client_id: &str,
        with_refresh_token: bool,
    ) -> Result<Response, Response> {
        let granted = match self.grants.get(grant) {
            Some(granted) if !granted.live => {
                return Err(token_error("invalid_grant", "the grant has ended"));
            }
            Some(granted) if granted.client_id == client_id => granted,
            _ => return Err(token_error("invalid_grant", "another client's grant")),
        };
        let mut reply = serde_json::Map::new();
        reply.insert("token_type".into(), "Bearer".into());
        if let Some(scope) = &granted.scope {
            reply.insert("scope".into(), scope.as_str().into());
        }
        if let Some(secs) = self.settings.expires_in {
            reply.insert("expires_in".into(), secs.into());
        }
        self.minted_access += 1;
        let access = format!("{}at-{}", self.tag, self.minted_access);
        self.access_tokens.insert(access.clone(), grant);
        reply.insert("access_token".into(), access.into());
        if with_refresh_token {
            self.minted_refresh += 1;
            let refresh = format!("{}rt-{}", self.tag, self.minted_refresh);
            let replaced = false;
            self.refresh_tokens
                .insert(refresh.clone(), RefreshToken { grant, replaced });
            reply.insert("refresh_token".into(), refresh.into());
        }
        reply.extend(self.settings.token_extras.clone());
        let body = serde_json::Value::Object(reply).to_string();
        Ok(Response::new(200, "application/json", body))
    }

    fn end(&mut self, grant: usize) {
        if let Some(grant) = self.grants.get_mut(grant) {
            grant.live = false;
        }
    }
}

/// The redirect_uri and the state of an authorization request that has all it needs, each once.
fn check_authorization_request(query: &Pairs) -> Result<(String, String), String> {
    let one = |name: &str| match query.all(name).collect::<Vec<_>>()[..] {
        [value] if !value.is_empty() => Ok(value.to_owned()),
        [] => Err(format!("{name} is missing")),
        _ => Err(format!("{name} is empty or repeated")),
    };
    if one("response_type")? != "code" {
        return Err("response_type is not code".into());
    }
    if one("code_challenge_method")? != "S256" {
        return Err("code_challenge_method is not S256".into());
    }
    let challenge = one("code_challenge")?;
    if !matches!(BASE64_URL_SAFE_NO_PAD.decode(challenge), Ok(hash) if hash.len() == 32) {
        return Err("code_challenge is not a SHA-256 in base64url".into());
    }
    one("client_id")?;
    if query.all("scope").count() > 1 {
        return Err("scope is repeated".into());
    }
    let redirect_uri = one("redirect_uri")?;
    Url::parse(&redirect_uri).map_err(|error| format!("redirect_uri: {error}"))?;
    Ok((redirect_uri, one("state")?))
}

/// PKCE's S256 (RFC 7636, 4.2).
pub fn challenge_of(verifier: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

/// RFC 7636, 4.1.
fn is_verifier(text: &str) -> bool {
    (43..=128).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
}

/// The client's id and secret in an `Authorization: Basic`, form-decoded (RFC 6749, 2.3.1).
fn read_basic(header: &str) -> Option<(String, String)> {
    let decoded = BASE64_STANDARD
        .decode(header.strip_prefix("Basic ")?)
        .ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decode = |part: &str| {
        Some(
            Pairs::decode(format!("x={part}").as_bytes())
                .get("x")?
                .to_owned(),
        )
    };
    Some((decode(id)?, decode(secret)?))
}

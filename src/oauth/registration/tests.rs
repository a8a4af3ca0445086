use super::*;
use crate::oauth::metadata;

const SCOPES: [&str; 2] = ["mail", "offline_access"];

fn known(more: &str) -> Metadata {
    let document = format!(
        r#"{{"issuer":"https://op.example",{more}
            "authorization_endpoint":"https://op.example/auth",
            "device_authorization_endpoint":"https://op.example/device",
            "token_endpoint":"https://op.example/token"}}"#
    );
    metadata::parse(document.as_bytes(), "https://op.example").unwrap()
}

fn asked(metadata: &Metadata, scopes: &[String], device: bool) -> Value {
    let wanted = Wanted {
        redirect_uri: REDIRECTS[0],
        scopes,
        device,
    };
    serde_json::from_str(&request(metadata, &wanted)).unwrap()
}

#[test]
fn a_public_client_is_asked_for() {
    let scopes = SCOPES.map(str::to_owned);
    assert_eq!(
        asked(&known(""), &scopes, true),
        json!({
            "client_name": "pizauth",
            "application_type": "native",
            "redirect_uris": ["http://127.0.0.1/"],
            "grant_types": ["authorization_code", "refresh_token", device::GRANT],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            "scope": "mail offline_access",
        })
    );
    let few = known(r#""grant_types_supported":["authorization_code"],"#);
    let least = asked(&few, &[], false);
    assert_eq!(least["grant_types"], json!(["authorization_code"]));
    assert_eq!(least.get("scope"), None);
}

#[test]
fn device_codes_are_asked_for_where_there_are_some() {
    let listed = format!(r#""grant_types_supported":["{}"],"#, device::GRANT);
    for (more, offers) in [
        ("", true),
        (listed.as_str(), true),
        (r#""grant_types_supported":["authorization_code"],"#, false),
    ] {
        assert_eq!(offers_device_codes(&known(more)), offers, "{more}");
    }
}

fn answered(status: u16, body: &str) -> Result<Registered, Refused> {
    let endpoint = Url::parse("https://op.example/register").unwrap();
    let outcome = Outcome::Reply(Reply {
        status,
        retry_after: None,
        date: None,
        location: None,
        body: Vec::from(body).into(),
        ..Reply::default()
    });
    judge(&endpoint, &outcome)
}

#[test]
fn a_client_is_read_with_all_that_matters() {
    let client = answered(201, r#"{"client_id":"id","client_secret":"","x":[]}"#).unwrap();
    assert_eq!(client.client_id, "id");
    assert_eq!((client.client_secret, client.management), (None, None));
    let body = r#"{"client_id":"id","client_secret":"s","client_secret_expires_at":7,
        "token_endpoint_auth_method":"client_secret_basic","scope":"a b",
        "registration_client_uri":"https://op.example/r/id","registration_access_token":"t"}"#;
    let client = answered(200, body).unwrap();
    let secret = |text: &str| Some(Secret::new(text.into()));
    assert_eq!(client.client_secret, secret("s"));
    assert_eq!(client.secret_expires, Some(7));
    assert_eq!(client.scopes, Some(vec!["a".into(), "b".into()]));
    let management = ("https://op.example/r/id".into(), secret("t"));
    assert_eq!(client.management, Some(management));
}

#[test]
fn refusals_say_what_may_help() {
    let error = |code: &str, description: &str| {
        format!(r#"{{"error":"{code}","error_description":"{description}"}}"#)
    };
    let text = |status: u16, words: &str| format!("op.example answered {status}{words}");
    for (status, body, refused) in [
        (
            400,
            error("invalid_redirect_uri", "no"),
            Refused::Redirect(text(400, ": invalid_redirect_uri: no")),
        ),
        (
            400,
            error("invalid_client_metadata", "Redirect must be https"),
            Refused::Redirect(text(
                400,
                ": invalid_client_metadata: Redirect must be https",
            )),
        ),
        (
            400,
            error("invalid_client_metadata", "no such grant"),
            Refused::Metadata(text(400, ": invalid_client_metadata: no such grant")),
        ),
        (401, String::new(), Refused::Token(text(401, ""))),
        (
            403,
            error("insufficient_scope", "x"),
            Refused::Token(text(403, ": insufficient_scope: x")),
        ),
        (
            403,
            error("unapproved_software_statement", "x"),
            Refused::Other(text(403, ": unapproved_software_statement: x")),
        ),
        (404, "<html>".into(), Refused::Other(text(404, ""))),
        (503, String::new(), Refused::Passing(text(503, ""))),
        (302, String::new(), Refused::Other(text(302, ""))),
    ] {
        assert_eq!(answered(status, &body), Err(refused));
    }
    for (body, why) in [
        ("<html>", "is no JSON object"),
        ("[]", "has no usable client_id"),
        ("{}", "has no usable client_id"),
        (r#"{"client_id":7}"#, "has no usable client_id"),
        (r#"{"client_id":"a\nb"}"#, "has no usable client_id"),
        (
            r#"{"client_id":"a","client_secret":"a\u0007"}"#,
            "has a client_secret that can't be written down",
        ),
    ] {
        let text = format!("op.example registered a client, but its answer {why}");
        assert_eq!(answered(201, body), Err(Refused::Other(text)), "{body}");
    }
}

/// The account that is printed, which the program itself must understand.
fn printed(metadata: &Metadata, wanted: &Wanted, client: &Registered) -> String {
    let block = block("my \"op\"", metadata, wanted, client);
    let text = block.expose().to_owned();
    let config = crate::config::parse("x", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(&*config.accounts[0].name, "my \"op\"");
    assert_eq!(config.warnings, [""; 0]);
    text
}

#[test]
fn the_account_is_complete_and_understood() {
    let scopes = ["openid".to_owned(), "offline_access".to_owned()];
    let wanted = Wanted {
        redirect_uri: REDIRECTS[2],
        scopes: &scopes,
        device: false,
    };
    let client = Registered {
        client_id: "i\\d".into(),
        client_secret: Some(Secret::new("s\"x".into())),
        secret_expires: Some(7),
        auth_method: Some("client_secret_post".into()),
        scopes: None,
        management: Some((
            "https://op.example/r".into(),
            Some(Secret::new("t0".into())),
        )),
    };
    let metadata = known(r#""scopes_supported":["openid","offline_access","mail"],"#);
    assert_eq!(
        printed(&metadata, &wanted, &client),
        r#"// Registered at https://op.example.
// To change or end the registration (RFC 7592): https://op.example/r
// with the token t0
account "my \"op\"" {
    issuer = "https://op.example";
    client_id = "i\\d";
    // Good until 7, in seconds since 1970.
    client_secret = "s\"x";
    client_auth = body;

    // the provider lists these scopes: openid offline_access mail
    scopes = ["openid", "offline_access"];

    // Without this, there is no refresh token.
    auth_uri_fields = { "prompt": "consent" };

    // No program listens there: paste the address into `pizauth redirect`, or see
    // examples/desktop for a handler of its scheme.
    redirect_uri = "localhost.pizauth:/callback";
}
"#
    );
}

#[test]
fn the_least_account_says_what_else_there_is() {
    let wanted = Wanted {
        redirect_uri: REDIRECTS[0],
        scopes: &[],
        device: false,
    };
    let client = Registered {
        client_id: "id".into(),
        client_secret: None,
        secret_expires: None,
        auth_method: Some("none".into()),
        scopes: None,
        management: None,
    };
    assert_eq!(
        printed(&known(""), &wanted, &client),
        r#"// Registered at https://op.example.
account "my \"op\"" {
    issuer = "https://op.example";
    client_id = "id";
    // scopes = ["…"];
    redirect_uri = "http://127.0.0.1/";
}
"#
    );
    let many: Vec<String> = (0..30).map(|n| format!("\"scope-{n}\"")).collect();
    let metadata = known(&format!("\"scopes_supported\":[{}],", many.join(",")));
    let text = printed(&metadata, &wanted, &client);
    assert!(
        text.contains(" scope-19") && text.contains(" …\n") && !text.contains("scope-20"),
        "{text}"
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
}

use super::*;
use crate::oauth::token::{MAX_BODY_BYTES, Reply};

const ISSUER: &str = "https://op.example";

/// A good document with `more` members in it.
fn document(more: &str) -> String {
    format!(
        r#"{{"issuer":"https://op.example",{more}
            "authorization_endpoint":"https://op.example/auth",
            "token_endpoint":"https://op.example/token","x":[{{"deep":[[]]}}]}}"#
    )
}

fn why(body: &str) -> String {
    let served = parse(body.as_bytes(), ISSUER).and_then(|it| Gaps::ALL.filled_by(&it));
    match served {
        Ok(()) => "good".into(),
        Err(fault) => fault.text,
    }
}

/// What the configuration has needn't be in the document, and may be there in any shape; what
/// it doesn't have is missed by its name, and by what is wrong with it.
#[test]
fn what_is_overridden_is_not_missed() {
    let url = Url::parse("https://op.example/.well-known/x").unwrap();
    let shapes = [
        (None, None),
        (Some("null".into()), None),
        (Some("7".into()), Some("is no string")),
        (
            Some("[\"https://op.example/x\"]".into()),
            Some("is no string"),
        ),
        (Some("{}".into()), Some("is no string")),
        (Some("\"\"".into()), Some("is no URL")),
        (Some("\"/x\"".into()), Some("is no URL")),
        (Some("\"http://op.example/x\"".into()), Some("is not https")),
        (Some("\"http://127.0.0.1/x\"".into()), Some("is not https")),
        (
            Some("\"https://op.example/x#y\"".into()),
            Some("has a fragment"),
        ),
        (
            Some("\"javascript:alert(1)\"".into()),
            Some("is neither https nor http"),
        ),
        (
            Some(format!("\"https://op.example/{}\"", "x".repeat(9000))),
            Some("is too long"),
        ),
        (Some("\"https://op.example/x\"".into()), Some("")),
    ];
    let members = [
        "authorization_endpoint",
        "token_endpoint",
        "device_authorization_endpoint",
        "revocation_endpoint",
        "registration_endpoint",
    ];
    for gaps in [(true, true), (true, false), (false, true), (false, false)] {
        for odd in members {
            for (shape, wrong) in &shapes {
                let document = members.iter().filter_map(|member| {
                    let good = "\"https://op.example/good\"".to_owned();
                    let value = match *member == odd {
                        true => shape.clone(),
                        // Else it would do in its place.
                        false if *member == "device_authorization_endpoint" => None,
                        false => Some(good),
                    };
                    Some(format!("\"{member}\":{}", value?))
                });
                let document: Vec<String> = document.collect();
                let document = format!(r#"{{"issuer":"{ISSUER}",{}}}"#, document.join(","));
                let (token_uri, beginning) = gaps;
                let gaps = Gaps {
                    token_uri,
                    beginning,
                };
                let judged = judge(ISSUER, &url, &reply(200, &document), [gaps]);
                let is_needed = match odd {
                    "authorization_endpoint" => beginning,
                    "token_endpoint" => token_uri,
                    _ => false,
                };
                let missed = match wrong {
                    Some("") => None,
                    Some(wrong) => Some(format!("op.example has a document whose {odd} {wrong}")),
                    None => Some(format!("op.example has a document without a usable {odd}")),
                };
                let said = judged.as_ref().err().map(|miss| miss.text.clone());
                assert_eq!(said, missed.filter(|_| is_needed), "{document}");
                if let Ok(metadata) = judged {
                    let warned = wrong.filter(|wrong| !wrong.is_empty());
                    let warned = warned.map(|wrong| format!("a document whose {odd} {wrong}"));
                    assert_eq!(metadata.warnings, Vec::from_iter(warned), "{document}");
                }
            }
        }
    }
}

/// A sign-in may begin at either of them.
#[test]
fn a_device_code_is_a_beginning() {
    let at = "\"https://op.example/x\"";
    for (authorization, device, begins) in [
        (at, at, true),
        (at, "7", true),
        ("\"http://op.example/x\"", at, true),
        ("7", "7", false),
    ] {
        let document = format!(
            r#"{{"issuer":"{ISSUER}","token_endpoint":{at},
                "authorization_endpoint":{authorization},
                "device_authorization_endpoint":{device}}}"#
        );
        assert_eq!(why(&document) == "good", begins, "{document}");
    }
}

#[test]
fn documents_are_where_the_specifications_say() {
    for (issuer, inserted, appended) in [
        (
            "https://op.example",
            "https://op.example/.well-known/oauth-authorization-server",
            "https://op.example/.well-known/openid-configuration",
        ),
        (
            "https://op.example/",
            "https://op.example/.well-known/oauth-authorization-server",
            "https://op.example/.well-known/openid-configuration",
        ),
        (
            "https://op.example:8443/realms/a%20b/",
            "https://op.example:8443/.well-known/oauth-authorization-server/realms/a%20b",
            "https://op.example:8443/realms/a%20b/.well-known/openid-configuration",
        ),
        (
            "http://127.0.0.1:9/t",
            "http://127.0.0.1:9/.well-known/oauth-authorization-server/t",
            "http://127.0.0.1:9/t/.well-known/openid-configuration",
        ),
    ] {
        let urls: Vec<String> = well_known(issuer).iter().map(Url::to_string).collect();
        assert_eq!(urls, [inserted, appended], "{issuer}");
    }
    for none in [
        "op.example",
        "http://op.example",
        "ftp://op.example",
        "https://me@op.example",
        "https://op.example/#x",
        "https://op.example/?x",
        "data:x",
        "",
    ] {
        assert_eq!(well_known(none), [], "{none}");
    }
}

#[test]
fn issuers_are_the_same_letter_by_letter_but_for_one_slash() {
    for (one, other, same) in [
        ("https://op.example", "https://op.example", true),
        ("https://op.example", "https://op.example/", true),
        ("https://op.example/t/", "https://op.example/t", true),
        ("https://op.example//", "https://op.example/", false),
        ("https://op.example//", "https://op.example", false),
        ("https://op.example", "https://OP.example", false),
        ("https://op.example", "https://op.example:443", false),
        ("https://op.example", "http://op.example", false),
        ("https://op.example/t", "https://op.example/T", false),
        ("https://op.example/t", "https://op.example/t?", false),
    ] {
        assert_eq!(is_same_issuer(one, other), same, "{one} {other}");
        assert_eq!(is_same_issuer(other, one), same, "{other} {one}");
    }
}

#[test]
fn a_document_that_will_not_do_says_why() {
    let swapped = |from: &str, to: &str| document("").replace(from, to);
    for (body, said) in [
        (document(""), "good"),
        (format!("\u{feff} {} \n", document("")), "good"),
        (String::new(), "an empty document"),
        (" \r\n".into(), "an empty document"),
        ("<!DOCTYPE html>".into(), "a web page instead of JSON"),
        ("[]".into(), "something that is not a JSON object"),
        ("null".into(), "something that is not a JSON object"),
        (
            document("").replace("]}", "]"),
            "something that is not a JSON object",
        ),
        (
            document("\"issuer\":\"https://evil.example\","),
            "something that is not a JSON object",
        ),
        ("{}".into(), "a document without a usable issuer"),
        (
            r#"{"issuer":7}"#.into(),
            "a document without a usable issuer",
        ),
        (
            r#"{"issuer":""}"#.into(),
            "a document without a usable issuer",
        ),
        (
            swapped("\"https://op.example\"", "\"https://evil.example\""),
            "the document of the issuer https://evil.example, not of https://op.example",
        ),
        (
            swapped("\"https://op.example\"", "\"https://op.example/\""),
            "good",
        ),
        (
            swapped("token_endpoint", "other_endpoint"),
            "a document without a usable token_endpoint",
        ),
        (
            swapped("\"https://op.example/token\"", "null"),
            "a document without a usable token_endpoint",
        ),
        (
            swapped("authorization_endpoint", "other_endpoint"),
            "a document without a usable authorization_endpoint",
        ),
        (
            swapped("https://op.example/token", "http://op.example/token"),
            "a document whose token_endpoint is not https",
        ),
        (
            swapped("https://op.example/token", "http://127.0.0.1:8/token"),
            "a document whose token_endpoint is not https",
        ),
        (
            swapped("https://op.example/auth", "ftp://op.example/auth"),
            "a document whose authorization_endpoint is neither https nor http",
        ),
        (
            swapped("https://op.example/auth", "javascript:alert(1)"),
            "a document whose authorization_endpoint is neither https nor http",
        ),
        (
            swapped("https://op.example/token", "https://u:p@op.example/token"),
            "a document whose token_endpoint has a user name or a password in it",
        ),
        (
            swapped("https://op.example/token", "https://op.example/token#x"),
            "a document whose token_endpoint has a fragment",
        ),
        (
            swapped("https://op.example/token", "https://op.example:0/token"),
            "a document whose token_endpoint has the port 0",
        ),
        (
            swapped("https://op.example/token", "/token"),
            "a document whose token_endpoint is no URL",
        ),
        (
            swapped("\"https://op.example/token\"", "[\"x\"]"),
            "a document whose token_endpoint is no string",
        ),
    ] {
        assert_eq!(why(&body), said, "{body}");
    }
    let huge = document("") + &" ".repeat(MAX_BODY_BYTES);
    assert_eq!(why(&huge), "a document of more than 1 MiB");
    let fault = parse(b"{\"issuer\":\"\xff\"}", ISSUER).unwrap_err();
    assert_eq!(fault.text, "something that is not a JSON object");
}

#[test]
fn only_a_provider_on_this_machine_has_endpoints_there_without_tls() {
    for (issuer, endpoint, good) in [
        ("http://127.0.0.1:7", "http://127.0.0.1:8/token", true),
        ("http://localhost:7", "http://[::1]:8/token", true),
        ("https://localhost:7", "http://localhost:8/token", true),
        ("http://127.0.0.1:7", "http://op.example/token", false),
        ("https://op.example", "http://127.0.0.1:8/token", false),
        ("https://op.example", "https://127.0.0.1:8/token", true),
    ] {
        let body = document("");
        let body = body.replace("https://op.example/token", endpoint);
        let body = body.replace("\"https://op.example\"", &format!("\"{issuer}\""));
        let parsed = parse(body.as_bytes(), issuer).unwrap();
        assert_eq!(parsed.token_endpoint.is_some(), good, "{issuer} {endpoint}");
    }
}

#[test]
fn all_that_is_of_use_is_read() {
    let body = document(
        r#""device_authorization_endpoint":"https://op.example/device",
           "revocation_endpoint":"https://api.example/revoke",
           "registration_endpoint":"https://op.example/register",
           "pushed_authorization_request_endpoint":"https://op.example/par",
           "require_pushed_authorization_requests":true,
           "authorization_response_iss_parameter_supported":true,
           "token_endpoint_auth_methods_supported":["none","client_secret_post",7],
           "code_challenge_methods_supported":["S256"],
           "grant_types_supported":["authorization_code"],
           "scopes_supported":["openid","ma\u001bil"],"#,
    );
    let url = |text: &str| Url::parse(text).ok();
    let wanted = Metadata {
        issuer: ISSUER.into(),
        authorization_endpoint: url("https://op.example/auth"),
        token_endpoint: url("https://op.example/token"),
        device_authorization_endpoint: url("https://op.example/device"),
        revocation_endpoint: url("https://api.example/revoke"),
        registration_endpoint: url("https://op.example/register"),
        push_endpoint: url("https://op.example/par"),
        iss_in_responses: true,
        auth_methods: vec!["none".into(), "client_secret_post".into()],
        grant_types: Some(vec!["authorization_code".into()]),
        scopes: Some(vec!["openid".into(), "ma il".into()]),
        warnings: Vec::new(),
    };
    assert_eq!(parse(body.as_bytes(), "https://op.example/"), Ok(wanted));
}

#[test]
fn what_is_odd_but_not_needed_is_left_out_with_a_remark() {
    let body = document(
        r#""device_authorization_endpoint":"http://op.example/device",
           "revocation_endpoint":false,"registration_endpoint":null,
           "pushed_authorization_request_endpoint":"https://op.example/par",
           "authorization_response_iss_parameter_supported":"true",
           "token_endpoint_auth_methods_supported":"none",
           "grant_types_supported":"authorization_code","claims_supported":{"a":[1e400]},
           "code_challenge_methods_supported":["plain"],
           "scopes_supported":{},"#,
    );
    let metadata = parse(body.as_bytes(), ISSUER).unwrap();
    assert_eq!(metadata.device_authorization_endpoint, None);
    assert_eq!(metadata.revocation_endpoint, None);
    // It needn't be used.
    assert_eq!(metadata.push_endpoint, None);
    assert!(!metadata.iss_in_responses);
    assert_eq!(metadata.scopes, None);
    assert_eq!(
        metadata.warnings,
        [
            "a document that doesn't list S256 among its code_challenge_methods; it is used all the \
             same",
            "a document whose device_authorization_endpoint is not https",
            "a document whose revocation_endpoint is no string",
        ]
    );
}

#[test]
fn the_method_of_authentication_is_one_that_the_provider_takes() {
    for (said, auth) in [
        (
            r#"["client_secret_post","client_secret_basic"]"#,
            ClientAuth::Basic,
        ),
        (r#"["client_secret_post"]"#, ClientAuth::Body),
        (r#"["none","client_secret_post"]"#, ClientAuth::Body),
        (r#"["none"]"#, ClientAuth::None),
        (r#"["private_key_jwt"]"#, ClientAuth::Body),
        ("null", ClientAuth::Basic),
    ] {
        let body = document(&format!(
            "\"token_endpoint_auth_methods_supported\":{said},"
        ));
        let metadata = parse(body.as_bytes(), ISSUER).unwrap();
        assert_eq!(metadata.client_auth(), auth, "{said}");
    }
}

fn reply(status: u16, body: &str) -> Outcome {
    Outcome::Reply(Reply {
        status,
        retry_after: None,
        date: None,
        location: Some("https://portal.example/\u{1b}x".into()),
        body: Vec::from(body).into(),
        ..Reply::default()
    })
}

#[test]
fn misses_say_what_happened_and_how_much_that_means() {
    let url = Url::parse("https://op.example:8443/.well-known/x").unwrap();
    let page = "<html>";
    for (outcome, kind, text) in [
        (
            reply(404, page),
            MissKind::Absent,
            "op.example:8443 answered 404",
        ),
        (
            reply(410, ""),
            MissKind::Absent,
            "op.example:8443 answered 410",
        ),
        (
            reply(200, page),
            MissKind::Wrong,
            "op.example:8443 has a web page instead of JSON",
        ),
        (
            reply(302, ""),
            MissKind::Wrong,
            "op.example:8443 answered 302, with another address: https://portal.example/ x",
        ),
        (
            reply(503, ""),
            MissKind::Wrong,
            "op.example:8443 answered 503",
        ),
        (
            reply(204, ""),
            MissKind::Wrong,
            "op.example:8443 answered 204",
        ),
        (
            Outcome::NotSent("no\nroute".into()),
            MissKind::Unreachable,
            "op.example:8443: no route",
        ),
        (
            Outcome::Lost("timeout".into()),
            MissKind::Unreachable,
            "op.example:8443: the reply was lost: timeout",
        ),
    ] {
        let miss = judge(ISSUER, &url, &outcome, []).unwrap_err();
        assert_eq!((miss.kind, miss.text.as_str()), (kind, text));
    }
    let good = judge(ISSUER, &url, &reply(200, &document("")), []);
    assert_eq!(good.map(|it| it.issuer), Ok(ISSUER.into()));
}

#[test]
fn a_template_of_an_issuer_has_a_hint_of_its_own() {
    let hint = |found: &str| {
        let body = document("").replace("\"https://op.example\"", &format!("\"{found}\""));
        parse(body.as_bytes(), ISSUER).unwrap_err().hint.unwrap()
    };
    assert!(hint("https://op.example/{tenantid}/v2.0").contains("your own tenant"));
    assert!(hint("https://op.example/t").contains("as the provider writes it"));
}

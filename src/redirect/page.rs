//! What the browser shows. Pure; everything foreign is escaped.

use std::time::Duration;

use crate::text::{escape_html, sanitize, shell_word};

use super::{http::StatusCode, pages::AGAIN};

/// The page that says what became of a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignInPage {
    /// The account has its tokens.
    Authorised {
        /// The account's name.
        account: String,
        /// What the user should know of them.
        remarks: Vec<String>,
    },
    /// There are no tokens, and this sign-in can't be completed any more.
    Refused {
        /// The account's name.
        account: String,
        /// What went wrong, in the provider's words where there are some.
        reason: String,
        /// What the user can do about it.
        hint: Option<String>,
    },
    /// The callback names another issuer (RFC 9207) and was ignored: the sign-in is still pending.
    OtherProvider {
        /// The account's name.
        account: String,
    },
    /// Nothing waits for this callback. The page says no more than that.
    Stale,
    /// There are no tokens yet: [`waiting`].
    Waiting {
        /// The account's name.
        account: String,
    },
    /// The daemon is being stopped before the sign-in was completed.
    Stopping,
}

/// The page about an outcome, and the status to send it with. One of a failed sign-in asks for
/// another one with `again`.
pub fn of(page: &SignInPage, again: Option<&str>) -> (StatusCode, String) {
    match page {
        SignInPage::Authorised { account, remarks } => {
            (StatusCode::OK, authorised(account, remarks))
        }
        SignInPage::Refused {
            account,
            reason,
            hint,
        } => (
            StatusCode::FORBIDDEN,
            refused(account, reason, hint.as_deref(), again),
        ),
        SignInPage::OtherProvider { account } => (StatusCode::BAD_REQUEST, other_issuer(account)),
        SignInPage::Stale => (StatusCode::NOT_FOUND, fixed("stale")),
        SignInPage::Waiting { account } => {
            let page = waiting(account, None, None, Duration::ZERO);
            (StatusCode::ACCEPTED, page)
        }
        SignInPage::Stopping => (StatusCode::SERVICE_UNAVAILABLE, fixed("stopping")),
    }
}

fn authorised(account: &str, remarks: &[String]) -> String {
    let title = format!("Account {} is authorised", quoted(account));
    let close = "You can close this window.".to_owned();
    let paragraphs: Vec<String> = remarks.iter().map(|it| safe(it)).chain([close]).collect();
    render(GOOD, &title, &paragraphs)
}

fn refused(account: &str, reason: &str, hint: Option<&str>, again: Option<&str>) -> String {
    let title = format!("Account {} was not authorised", quoted(account));
    let reason = format!("<strong>Reason:</strong> {}", safe(reason));
    let button = again.map(|token| {
        format!(
            "<form method=\"post\" action=\"{AGAIN}\"><input type=\"hidden\" name=\"token\" \
             value=\"{token}\"><button>Try again</button></form>"
        )
    });
    let command = format!(
        "In a terminal, <code>pizauth auth {}</code> does the same.",
        safe(&shell_word(account))
    );
    let hint = hint.map(|hint| format!("<strong>Hint:</strong> {}", safe(hint)));
    let paragraphs = [Some(reason), hint, button, Some(command)];
    let paragraphs: Vec<String> = paragraphs.into_iter().flatten().collect();
    render(BAD, &title, &paragraphs)
}

fn other_issuer(account: &str) -> String {
    let title = format!("Account {} was not authorised", quoted(account));
    render(BAD, &title, &texts("other_provider").collect::<Vec<_>>())
}

/// For a browser that has brought a code for which there are no tokens yet, after `waited`: what
/// `host` is asked for, and the `trouble` so far. It is loaded again and again ([`http::reply`]).
///
/// [`http::reply`]: super::http::reply
pub fn waiting(
    account: &str,
    host: Option<&str>,
    trouble: Option<&str>,
    waited: Duration,
) -> String {
    let title = format!("Account {} is still being authorised", quoted(account));
    let host = host.map_or_else(|| "the provider".into(), safe);
    let asked = format!(
        "Your part is done. pizauth is asking <strong>{host}</strong> for the tokens. This page \
         will show the outcome."
    );
    let trying = "pizauth goes on trying for ten minutes. You can close this window and run \
                  <code>pizauth status</code> to see the outcome.";
    let reason = match trouble {
        Some(trouble) => format!("<strong>Reason:</strong> {}", safe(trouble)),
        None if waited >= SLOW_AFTER => {
            "<strong>Reason:</strong> there is no answer yet. Can this machine reach it?".into()
        }
        None => return render(NEUTRAL, &title, &[&asked]),
    };
    render(NEUTRAL, &title, &[&asked, &reason, trying])
}

/// After what time a page says that the provider is slow; it is looked at every two seconds.
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// The pages that say the same to everybody: of each its title and its paragraphs, one a line.
/// - `going_on`: for a browser that is on its way to another sign-in.
/// - `gone`: for a page that isn't kept any more: it was there for the browser that had just signed in.
/// - `use_https`: for plain http on the port of https.
/// - `idle`: for a visit to the right address without an authorization response. Some providers put it
///   into the fragment (`response_mode=fragment`), which browsers keep to themselves: the script moves
///   it to the query. Only that: a token has no business in a query.
const TEXTS: &str = include_str!("page.txt");

/// The base64 of that script's SHA-256, for the page's policy.
pub const SCRIPT_HASH: &str = "o9lSw3QKS0p4afQtNOg7ncMDmSVBYksmeu/HuFLG9qY=";

/// What [`TEXTS`] has under a name.
fn texts(name: &str) -> impl Iterator<Item = &'static str> {
    let all = TEXTS.lines().filter_map(|line| line.split_once(": "));
    all.filter(move |(whose, _)| *whose == name)
        .map(|(_, text)| text)
}

/// The page in [`TEXTS`] of this name.
pub fn fixed(name: &str) -> String {
    let mut texts = texts(name);
    let title = texts.next().unwrap_or_default();
    render(NEUTRAL, title, &texts.collect::<Vec<_>>())
}

/// For a request that isn't served. It says nothing that the status doesn't, but what to do after a
/// sign-in whose redirect has come under another name, as through a forwarded port.
pub fn refusal(status: StatusCode) -> String {
    let phrase = status.canonical_reason().unwrap_or_default();
    let mut paragraphs = vec!["pizauth does not serve this request."];
    if status == StatusCode::MISDIRECTED_REQUEST {
        paragraphs.push(
            "If you have just signed in, copy the whole address of this page, run \
             <code>pizauth redirect</code> and paste it there.",
        );
    }
    render(NEUTRAL, phrase, &paragraphs)
}

fn quoted(account: &str) -> String {
    format!("“{}”", safe(account))
}

fn safe(foreign: &str) -> String {
    escape_html(&sanitize(foreign))
}

// The names of the colours below.
const GOOD: &str = "good";
const BAD: &str = "bad";
const NEUTRAL: &str = "neutral";

const STYLE: &str = include_str!("page.css");

/// One page. `title` and `paragraphs` are HTML already.
fn render(tone: &str, title: &str, paragraphs: &[impl AsRef<str>]) -> String {
    let text: String = paragraphs
        .iter()
        .map(AsRef::as_ref)
        .map(|html| match html.starts_with("<form") {
            true => format!("{html}\n"),
            false => format!("<p>{html}</p>\n"),
        })
        .collect();
    format!(
        include_str!("page.html"),
        title = title,
        style = STYLE,
        tone = tone,
        text = text
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_page() -> Vec<String> {
        let account = || "work <b>&\"\u{1b}[31m\u{202e}".to_owned();
        let reason = || "<script>alert('x')</script>\u{7}".to_owned();
        let outcomes = [
            SignInPage::Authorised {
                account: account(),
                remarks: vec![reason(), reason()],
            },
            SignInPage::Refused {
                account: account(),
                reason: reason(),
                hint: Some(reason()),
            },
            SignInPage::Refused {
                account: account(),
                reason: reason(),
                hint: None,
            },
            SignInPage::OtherProvider { account: account() },
            SignInPage::Stale,
            SignInPage::Waiting { account: account() },
            SignInPage::Stopping,
        ];
        let pages = outcomes.iter().map(|known| of(known, Some("token")).1);
        let mut pages: Vec<String> = pages.collect();
        let host = Some("login.example");
        let slow = waiting(&account(), host, Some(&reason()), SLOW_AFTER);
        pages.extend([slow, fixed("going_on")]);
        pages.extend([
            fixed("gone"),
            refusal(StatusCode::NOT_FOUND),
            fixed("use_https"),
        ]);
        pages
    }

    #[test]
    fn every_page_is_well_formed_and_holds_nothing_foreign_unescaped() {
        for page in every_page() {
            for part in [
                "<title>",
                "<h1>",
                "</html>",
                "lang=\"en\"",
                "viewport",
                "prefers-color-scheme",
            ] {
                assert_eq!(page.matches(part).count(), 1, "{part} in {page}");
            }
            for nothing in ["<h1></h1>", "</h1>\n<footer>", "<p></p>"] {
                assert!(!page.contains(nothing), "{nothing} in {page}");
            }
            // Not what runs a script, which the last of these is to find.
            let page = page.replace(" action=\"/pizauth/again\"", "");
            for part in [
                "<script",
                "<b>",
                "http-equiv",
                "src=",
                "href=",
                "url(",
                "@import",
                "on=\"",
            ] {
                assert!(!page.contains(part), "{part} in {page}");
            }
            assert!(!page.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'));
            for tag in [
                "html", "head", "title", "style", "body", "main", "h1", "p", "code", "footer",
                "strong", "form", "button",
            ] {
                let opened = page.matches(&format!("<{tag}>")).count()
                    + page.matches(&format!("<{tag} ")).count();
                assert_eq!(
                    opened,
                    page.matches(&format!("</{tag}>")).count(),
                    "{tag} in {page}"
                );
            }
        }
    }

    /// A page with another script than the one that its policy names would do nothing.
    #[test]
    fn the_policy_names_the_script() {
        use base64::{Engine, engine::general_purpose::STANDARD};
        use sha2::{Digest, Sha256};
        let page = fixed("idle");
        let (_, script) = page.split_once("<script>").unwrap();
        let (script, _) = script.split_once("</script>").unwrap();
        assert_eq!(SCRIPT_HASH, STANDARD.encode(Sha256::digest(script)));
        assert_eq!(page.matches("<script").count(), 1);
        for part in ["src=", "href=", "on=\"", "style=", "http"] {
            assert!(!page.contains(part), "{part} in {page}");
        }
    }

    #[test]
    fn pages_say_what_happened_and_what_to_do() {
        let outcome = SignInPage::Authorised {
            account: "work".into(),
            remarks: vec!["Signed in as you@example.com.".into()],
        };
        let (status, page) = of(&outcome, None);
        assert_eq!(status, StatusCode::OK);
        for part in [
            "Account “work” is authorised",
            "close this window",
            "<p>Signed in as you@example.com.</p>",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        let outcome = SignInPage::Refused {
            account: "work".into(),
            reason: "access_denied: no".into(),
            hint: Some("ask the administrator".into()),
        };
        let (status, page) = of(&outcome, Some("TOKEN"));
        assert_eq!(status, StatusCode::FORBIDDEN);
        for part in [
            "was not authorised",
            "access_denied: no",
            "<strong>Hint:</strong> ask the administrator",
            "pizauth auth work",
            "<form method=\"post\" action=\"/pizauth/again\">",
            "value=\"TOKEN\"",
        ] {
            assert!(page.contains(part), "{part}");
        }
        let (none, long) = (Duration::ZERO, SLOW_AFTER);
        for (trouble, waited, reason) in [
            (None, none, None),
            (None, long, Some("there is no answer yet")),
            (Some("no route to host"), none, Some("no route to host")),
        ] {
            let page = waiting("work", Some("login.example"), trouble, waited);
            assert!(page.contains("Your part is done") && page.contains("login.example"));
            let said = page
                .split_once("<strong>Reason:</strong> ")
                .map(|(_, said)| said);
            assert_eq!(said.is_some(), reason.is_some(), "{page}");
            assert!(
                said.unwrap_or_default()
                    .starts_with(reason.unwrap_or_default())
            );
            assert_eq!(page.contains("pizauth status"), reason.is_some());
        }
    }
}

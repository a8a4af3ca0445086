//! What the browser shows. Pure; everything foreign is escaped.

use crate::text::{escape_html, sanitize, shell_word};

use super::http::StatusLine;

/// The page that says what became of a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignInPage {
    /// The account has its tokens.
    Authorised {
        /// The account's name.
        account: String,
        /// What the user should know of these tokens.
        warning: Option<String>,
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
    /// The page was loaded again after the sign-in had ended.
    Already {
        /// The account's name.
        account: String,
        /// Why it was refused; `None` when it was authorised.
        refused: Option<String>,
    },
    /// The callback names another issuer (RFC 9207) and was ignored: the sign-in is still pending.
    OtherProvider {
        /// The account's name.
        account: String,
    },
    /// Nothing waits for this callback. The page says no more than that.
    Stale,
    /// There are no tokens yet; the daemon goes on without the browser.
    TimedOut {
        /// The account's name.
        account: String,
        /// What has gone wrong so far; `None` when the token endpoint just hasn't answered.
        reason: Option<String>,
    },
    /// The daemon is being stopped before the sign-in was completed.
    Stopping,
}

/// The page about an outcome, and the status to send it with.
pub fn of(page: &SignInPage) -> (StatusLine, String) {
    match page {
        SignInPage::Authorised { account, warning } => {
            let warning = warning.as_deref().map(safe);
            let warning = warning.map(|text| format!("<strong>Warning:</strong> {text}."));
            (StatusLine::OK, authorised(account, warning.as_deref()))
        }
        SignInPage::Already {
            account,
            refused: None,
        } => (StatusLine::OK, authorised(account, Some(ALREADY))),
        SignInPage::Refused {
            account,
            reason,
            hint,
        } => (
            StatusLine::FORBIDDEN,
            refused(account, reason, hint.as_deref()),
        ),
        SignInPage::Already {
            account,
            refused: Some(reason),
        } => (StatusLine::OK, refused(account, reason, None)),
        SignInPage::OtherProvider { account } => (StatusLine::BAD_REQUEST, other_issuer(account)),
        SignInPage::Stale => (StatusLine::NOT_FOUND, stale()),
        SignInPage::TimedOut { account, reason } => {
            (StatusLine::ACCEPTED, timed_out(account, reason.as_deref()))
        }
        SignInPage::Stopping => (StatusLine::SERVICE_UNAVAILABLE, stopping()),
    }
}

/// For a page that is loaded again.
const ALREADY: &str = "It already was, so nothing has changed.";

/// `remark` is HTML already.
fn authorised(account: &str, remark: Option<&str>) -> String {
    let title = format!("Account {} is authorised", quoted(account));
    let close = "You can close this window.";
    let paragraphs = remark.into_iter().chain([close]);
    render(Tone::Good, &title, &paragraphs.collect::<Vec<_>>())
}

fn refused(account: &str, reason: &str, hint: Option<&str>) -> String {
    let title = format!("Account {} was not authorised", quoted(account));
    let reason = format!("<strong>Reason:</strong> {}", safe(reason));
    let again = format!(
        "To try again, run <code>pizauth refresh {}</code>, or let your mail program ask for a token.",
        safe(&shell_word(account))
    );
    let hint = hint.map(|hint| format!("<strong>Hint:</strong> {}", safe(hint)));
    let paragraphs = [Some(&reason), hint.as_ref(), Some(&again)];
    let paragraphs: Vec<&str> = paragraphs
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    render(Tone::Bad, &title, &paragraphs)
}

fn other_issuer(account: &str) -> String {
    let title = format!("Account {} was not authorised", quoted(account));
    let paragraphs = [
        "<strong>Warning:</strong> this answer comes from another provider than the one that was \
         asked, or doesn't say whose it is, so it was ignored. Somebody may be trying to mix up your \
         accounts.",
        "The sign-in is still pending: open the address that pizauth gave you again.",
    ];
    render(Tone::Bad, &title, &paragraphs)
}

fn stale() -> String {
    let paragraphs = [
        "It may have been used before, or a newer request may have taken its place.",
        "<code>pizauth status</code> shows how your accounts stand.",
    ];
    render(Tone::Neutral, "This link is no longer valid", &paragraphs)
}

fn timed_out(account: &str, reason: Option<&str>) -> String {
    let title = format!("Account {} is still being authorised", quoted(account));
    let outcome =
        "You can close this window and run <code>pizauth status</code> to see the outcome.";
    let Some(reason) = reason else {
        let waiting = "Your part is done. The provider has not answered yet; pizauth keeps at it.";
        return render(Tone::Neutral, &title, &[waiting, outcome]);
    };
    let trying =
        "Your part is done, but pizauth has no tokens yet. It goes on trying for ten minutes.";
    let reason = format!("<strong>Reason:</strong> {}", safe(reason));
    render(Tone::Neutral, &title, &[trying, &reason, outcome])
}

fn stopping() -> String {
    let paragraph =
        "Start it again and run <code>pizauth status</code> to see how your accounts stand.";
    render(Tone::Neutral, "pizauth is being stopped", &[paragraph])
}

/// For a page that isn't kept any more: it was there for the browser that had just signed in.
pub fn gone() -> String {
    let paragraphs = [
        "It told how a sign-in ended, for a while.",
        "<code>pizauth status</code> shows how your accounts stand.",
    ];
    render(Tone::Neutral, "This page is no longer there", &paragraphs)
}

/// Moves an authorization response from the address's fragment, which browsers keep to themselves,
/// to its query. Only that: a token has no business in a query.
const SCRIPT: &str = "var f=location.hash.slice(1);\
if(/(^|&)(code|error)=/.test(f))location.replace(location.pathname+'?'+f)";

/// The base64 of [`SCRIPT`]'s SHA-256, for the page's policy.
pub const SCRIPT_HASH: &str = "o9lSw3QKS0p4afQtNOg7ncMDmSVBYksmeu/HuFLG9qY=";

/// For a visit to the right address without an authorization response. Some
/// providers put it into the fragment (`response_mode=fragment`), where only a script can see it.
pub fn idle() -> String {
    let script = format!(
        "<noscript>If you have just signed in and the address of this page has \
         <code>#code=</code> or <code>#error=</code> in it, copy the whole address, run \
         <code>pizauth redirect</code> and paste it there.</noscript><script>{SCRIPT}</script>"
    );
    let paragraphs = [
        "This is the address to which a sign-in returns. There is nothing to do here.",
        "To sign in, open the address that pizauth gave you.",
        &script,
    ];
    render(Tone::Neutral, "pizauth is listening", &paragraphs)
}

/// For a request that isn't served. It says nothing that the status doesn't, but what to do after a
/// sign-in whose redirect has come under another name, as through a forwarded port.
pub fn refusal(status: StatusLine) -> String {
    let phrase = status.0.split_once(' ').map_or("", |(_, phrase)| phrase);
    let paragraphs = [
        "pizauth does not serve this request.",
        "If you have just signed in, copy the whole address of this page, run \
         <code>pizauth redirect</code> and paste it there.",
    ];
    let count = if status == StatusLine::MISDIRECTED_REQUEST {
        2
    } else {
        1
    };
    let paragraphs = paragraphs.get(..count).unwrap_or_default();
    render(Tone::Neutral, phrase, paragraphs)
}

/// For plain http on the port of https.
pub fn use_https() -> String {
    let paragraph = "Change <code>http://</code> at the start of the address to <code>https://</code>, \
        and accept the certificate if its fingerprint is the one that <code>pizauth info</code> shows.";
    render(Tone::Neutral, "This address needs https", &[paragraph])
}

fn quoted(account: &str) -> String {
    format!("“{}”", safe(account))
}

fn safe(foreign: &str) -> String {
    escape_html(&sanitize(foreign))
}

#[derive(Clone, Copy)]
enum Tone {
    Good,
    Bad,
    Neutral,
}

const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#f6f5f2;--card:#fff;--ink:#1d1d1f;--quiet:#5a5a62;--line:#dddbd5;\
--good:#1a7f37;--bad:#b3261e;--neutral:#3b5b92}\
@media(prefers-color-scheme:dark){:root{--paper:#17181a;--card:#212327;--ink:#ececee;--quiet:#a9abb2;\
--line:#36383d;--good:#5bd07f;--bad:#ff8a80;--neutral:#9db8ee}}\
*{box-sizing:border-box}\
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.25rem;background:var(--paper);\
color:var(--ink);font:1.0625rem/1.55 system-ui,sans-serif}\
main{width:100%;max-width:36rem;padding:2rem;background:var(--card);border:1px solid var(--line);\
border-top:.3rem solid var(--tone);border-radius:.6rem;overflow-wrap:anywhere}\
h1{margin:0 0 1rem;font-size:1.45rem;line-height:1.25;color:var(--tone)}\
p{margin:.75rem 0 0}\
footer{margin-top:1.75rem;color:var(--quiet);font-size:.875rem}\
code{font:.92em ui-monospace,monospace;padding:.1em .35em;border-radius:.3em;background:var(--paper)}";

/// One page. `title` and `paragraphs` are HTML already.
fn render(tone: Tone, title: &str, paragraphs: &[&str]) -> String {
    let tone = match tone {
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Neutral => "neutral",
    };
    let text: String = paragraphs
        .iter()
        .map(|html| format!("<p>{html}</p>\n"))
        .collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
        <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
        <meta name=\"color-scheme\" content=\"light dark\">\n\
        <title>{title} - pizauth</title>\n<style>{STYLE}:root{{--tone:var(--{tone})}}</style>\n\
        </head>\n<body>\n<main>\n<h1>{title}</h1>\n{text}<footer>pizauth</footer>\n</main>\n\
        </body>\n</html>\n"
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
                warning: Some(reason()),
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
            SignInPage::Already {
                account: account(),
                refused: None,
            },
            SignInPage::Already {
                account: account(),
                refused: Some(reason()),
            },
            SignInPage::Stale,
            SignInPage::TimedOut {
                account: account(),
                reason: None,
            },
            SignInPage::TimedOut {
                account: account(),
                reason: Some(reason()),
            },
            SignInPage::Stopping,
        ];
        let mut pages: Vec<String> = outcomes.iter().map(|known| of(known).1).collect();
        pages.extend([gone(), refusal(StatusLine::NOT_FOUND), use_https()]);
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
                "strong",
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
        assert_eq!(SCRIPT_HASH, STANDARD.encode(Sha256::digest(SCRIPT)));
        let page = idle();
        assert!(page.contains(&format!("<script>{SCRIPT}</script>")));
        assert_eq!(page.matches("<script").count(), 1);
        for part in ["src=", "href=", "on=\"", "style=", "http"] {
            assert!(!page.contains(part), "{part} in {page}");
        }
    }

    #[test]
    fn pages_say_what_happened_and_what_to_do() {
        let (status, page) = of(&SignInPage::Authorised {
            account: "work".into(),
            warning: None,
        });
        assert_eq!(status, StatusLine::OK);
        assert!(
            page.contains("Account “work” is authorised") && page.contains("close this window")
        );
        let (status, page) = of(&SignInPage::Refused {
            account: "work".into(),
            reason: "access_denied: no".into(),
            hint: Some("ask the administrator".into()),
        });
        assert_eq!(status, StatusLine::FORBIDDEN);
        for part in [
            "was not authorised",
            "access_denied: no",
            "<strong>Hint:</strong> ask the administrator",
            "pizauth refresh work",
        ] {
            assert!(page.contains(part), "{part}");
        }
        for reason in [None, Some("no route to host".to_owned())] {
            let account = "work".into();
            let (status, page) = of(&SignInPage::TimedOut {
                account,
                reason: reason.clone(),
            });
            assert_eq!(status, StatusLine::ACCEPTED);
            assert!(page.contains("Your part is done") && page.contains("pizauth status"));
            assert_eq!(
                page.contains("<strong>Reason:</strong> no route to host"),
                reason.is_some()
            );
        }
    }
}

//! `pizauth status`: one line an account, for people.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use super::{ask, print};
use crate::{
    error::{Exit, Failure},
    time::{Wall, humane},
    view::{AccessView, AccountView, ReasonView, RenewalView, SignInView},
    wire::Request,
};

pub(super) fn run() -> Result<(), Failure> {
    let body = ask(&Request::Status)?;
    let views: Vec<AccountView> = serde_json::from_slice(&body).map_err(|error| {
        Failure::new(
            Exit::Other,
            format!("the server's answer makes no sense: {error}"),
        )
    })?;
    let now = Wall::from_millis(Timestamp::now().as_millisecond());
    let zone = TimeZone::system();
    let lines: Vec<String> = views
        .iter()
        .map(|view| {
            format!(
                "{}: {}\n",
                crate::text::sanitize(&view.account),
                line(view, now, &zone)
            )
        })
        .collect();
    print(lines.concat().as_bytes())
}

/// What there is to say of one account.
fn line(view: &AccountView, now: Wall, zone: &TimeZone) -> String {
    let access = view.access.as_ref();
    let mut parts = vec![match (access, &view.renewal) {
        (Some(access), _) if access.valid => valid(access, now, zone),
        (Some(access), _) => format!(
            "access token expired{}",
            access.expires.map(|at| ago(at, now)).unwrap_or_default()
        ),
        (None, _) => "no access token".into(),
    }];
    if let Some(renewal) = &view.renewal {
        parts.extend(renewed(renewal, now));
    }
    parts.extend(signing_in(&view.sign_in, view.renewal.is_some(), now));
    parts.join("; ")
}

fn valid(access: &AccessView, now: Wall, zone: &TimeZone) -> String {
    match access.expires {
        Some(at) => format!(
            "access token valid for {} (until {})",
            humane(at.since(now)),
            moment(at, zone)
        ),
        None => format!(
            "access token obtained {}, valid until the provider says otherwise",
            moment(access.obtained, zone)
        ),
    }
}

fn renewed(renewal: &RenewalView, now: Wall) -> Option<String> {
    match renewal {
        RenewalView::Impossible => Some("no refresh token: sign in again when it expires".into()),
        RenewalView::Scheduled { .. } => None,
        RenewalView::UnderWay => Some("refresh under way".into()),
        RenewalView::Failing {
            since,
            failures,
            at,
            reason,
        } => Some(format!(
            "refresh failing since {} ({failures} times, next try in {}): {}",
            humane(now.since(*since)),
            humane(at.since(now)),
            why(reason)
        )),
        RenewalView::Rejected { since, reason } => Some(format!(
            "refused by the provider{}, sign in again with `pizauth refresh`: {}",
            ago(*since, now),
            why(reason)
        )),
        RenewalView::Parked { since, reason } => Some(format!(
            "refreshing stopped{}, correct the config and `pizauth reload`: {}",
            ago(*since, now),
            why(reason)
        )),
    }
}

fn signing_in(sign_in: &SignInView, held: bool, now: Wall) -> Option<String> {
    match sign_in {
        SignInView::None { failed: None } if held => None,
        SignInView::None { failed: None } => Some("sign in with `pizauth show`".into()),
        SignInView::None {
            failed: Some(reason),
        } => Some(format!("the last authorisation failed: {}", why(reason))),
        SignInView::Pending { since, reminded } => Some(format!(
            "authorisation pending{}{}",
            ago(*since, now),
            match reminded {
                Some(at) => format!(" (last reminder{})", ago(*at, now)),
                None => String::new(),
            }
        )),
        SignInView::Exchanging { .. } => Some("authorisation being completed".into()),
    }
}

fn why(reason: &ReasonView) -> String {
    match &reason.hint {
        Some(hint) => format!("{} ({hint})", reason.text),
        None => reason.text.clone(),
    }
}

fn ago(at: Wall, now: Wall) -> String {
    match now.since(at) {
        Duration::ZERO => " just now".into(),
        span => format!(" {} ago", humane(span)),
    }
}

/// A moment in the user's own time; with the day when it isn't today.
fn moment(at: Wall, zone: &TimeZone) -> String {
    let Ok(at) = Timestamp::from_millisecond(at.millis()) else {
        return "a time out of range".into();
    };
    at.to_zoned(zone.clone())
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}

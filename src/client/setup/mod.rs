//! `pizauth setup`: from an address or a provider to a configuration, for pizauth and for the mail
//! programs that are there. On a terminal it is a guide; asked to print, it writes no file.

mod discover;
mod guide;
mod plan;
mod programs;

use url::Url;

use std::io::{self, IsTerminal};

use self::plan::Plan;
use super::{is_terminal, print, register::unknown, tell, test::server};
use crate::error::{Exit, Failure};
use crate::http::mail_exchangers;
use crate::providers::{PROVIDERS, Provider, without_oauth};
use crate::{cli::SetupOptions, oauth::metadata::MissKind, paths, text::sanitize};

pub(super) fn run(options: &SetupOptions) -> Result<(), Failure> {
    let prints = options.print.is_some() || !options.clients.is_empty();
    if !prints && (options.target.is_empty() || is_terminal() && io::stdin().is_terminal()) {
        return guide::run(options);
    }
    if options.target.is_empty() {
        return Err(Failure::new(Exit::Usage, "no address given")
            .hint("as in `pizauth setup you@example.com`"));
    }
    let programs = programs::chosen(&options.clients).map_err(no_program)?;
    let mut plan = plan(&options.target, options.user.as_deref())?;
    if let Some(name) = &options.name {
        plan.account.clone_from(name);
    }
    let file = paths::config()?.display().to_string();
    let mut text = plan.config(&sanitize(&file));
    match options.print.as_deref() {
        None | Some("config") => {}
        Some(name) => text = programs::only(name, &plan).ok_or_else(|| no_program(name))??,
    }
    // What goes into a file is a configuration, and nothing else.
    if !options.clients.is_empty() {
        let sections = programs::sections(&programs, &plan).into_iter();
        text.extend(sections.map(|(_, text)| text));
    }
    print(text.as_bytes())?;
    if text.contains(".example.com") {
        tell("the mail servers aren't known: replace those of example.com with yours\n");
    }
    if !prints {
        let names: Vec<&str> = programs.iter().map(|it| it.name).collect();
        let names = match names.is_empty() {
            true => "none that pizauth knows".into(),
            false => names.join(", "),
        };
        tell(&format!(
            "mail programs: {names}; `--print NAME` prints what one needs\n"
        ));
    }
    Ok(())
}

fn no_program(name: &str) -> Failure {
    let names: Vec<&str> = programs::PROGRAMS.iter().map(|it| it.name).collect();
    let what = format!("`{}` is no mail program that is known here", sanitize(name));
    Failure::new(Exit::Usage, what)
        .hint(format!("known are {}; and all, and none", names.join(", ")))
}

/// What there is to say about an address, a provider or an issuer; the latter two can have a user.
fn plan(target: &str, user: Option<&str>) -> Result<Plan, Failure> {
    if let Some(user) = user.filter(|user| address(user).is_none()) {
        return Err(no_address(user));
    }
    if let Some(provider) = Provider::named(target) {
        return Ok(Plan::of(provider, user));
    }
    if target.starts_with("https://") {
        return of_issuer(target, user);
    }
    if target.starts_with("ircs://") {
        let irc = server(target)?;
        // An IRC server publishes nothing itself: the web server beside it does.
        let plan = of_issuer(&format!("https://{}", irc.host), user)?;
        return Ok(Plan {
            servers: vec![irc],
            ..plan
        });
    }
    match (address(target), user) {
        (Some((_, domain)), None) => of_domain(domain, Some(target)),
        (None, None) if is_domain(target) => of_domain(target, None),
        (_, Some(_)) => {
            let what = format!("`{}` is no provider", sanitize(target));
            Err(Failure::new(Exit::Usage, what).hint(known()))
        }
        (None, None) => Err(no_address(target)),
    }
}

fn no_address(text: &str) -> Failure {
    let what = format!("`{}` is no address and no provider", sanitize(text));
    Failure::new(Exit::Usage, what).hint(known())
}

fn of_issuer(target: &str, user: Option<&str>) -> Result<Plan, Failure> {
    let issuer = Url::parse(target).map_err(|error| {
        let what = format!("`{}` is no address: {error}", sanitize(target));
        Failure::new(Exit::Usage, what)
    })?;
    let found = discover::issuer(&issuer, user)
        .or_else(|miss| discover::resource(&issuer, user).unwrap_or(Err(miss)));
    found.map_err(|miss| {
        let failure = unknown(target, miss);
        match (&failure.hint, failure.exit) {
            (None, Exit::Other) => failure.hint(
                "if it is an issuer (RFC 8414), is it written as the provider writes it? If not, its \
                 documentation names auth_uri and token_uri",
            ),
            _ => failure,
        }
    })
}

fn of_domain(domain: &str, user: Option<&str>) -> Result<Plan, Failure> {
    let domain = domain.to_ascii_lowercase();
    if let Some(plan) = of_provider(&domain, user) {
        return plan;
    }
    if is_terminal() {
        tell(&format!("asking {domain} about its mail servers\n"));
    }
    // A provider takes the mail of its customers' own domains, too.
    let mut hosts = mail_exchangers(&domain).into_iter();
    if let Some(plan) = hosts.find_map(|host| of_provider(&host, user)) {
        return plan;
    }
    discover::domain(&domain, user).map_err(|miss| {
        let failure = match miss.kind {
            MissKind::Absent => {
                Failure::other(format!("nothing is known of {domain}, and it says nothing of itself"))
            }
            MissKind::Wrong | MissKind::Unreachable => unknown(&domain, miss),
        };
        let user = sanitize(user.unwrap_or("you@example.com"));
        failure.hint(format!(
            "if one of the big providers serves it, name that: `pizauth setup microsoft {user}`; {}",
            known()
        ))
    })
}

/// What the tables have for a domain, or for a host that takes mail.
fn of_provider(domain: &str, user: Option<&str>) -> Option<Result<Plan, Failure>> {
    if let Some(provider) = Provider::of_domain(domain) {
        return Some(Ok(Plan::of(provider, user)));
    }
    let (name, instead) = without_oauth(domain)?;
    let what = format!("{name} has no OAuth2 for mail programs");
    Some(Err(Failure::other(what).hint(format!("it takes {instead}"))))
}

fn known() -> String {
    let names: Vec<&str> = PROVIDERS.iter().map(|provider| provider.name).collect();
    format!("known are {}", names.join(", "))
}

/// Both sides of an address that needs no quotes anywhere.
fn address(text: &str) -> Option<(&str, &str)> {
    let (local, domain) = text.rsplit_once('@')?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "._+-=~".contains(c);
    let is_local = !local.is_empty() && local.chars().all(fits);
    (is_local && is_domain(domain)).then_some((local, domain))
}

fn is_domain(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let mut labels = text.split('.');
    text.contains('.') && labels.all(|label| !label.is_empty() && label.chars().all(fits))
}

//! What mail programs need in their own configurations: the examples of this project, with the
//! account, user and servers filled in.

use super::plan::{NOBODY, Plan};
use crate::error::Failure;
use crate::{
    client::programs::is_installed,
    mail::{Protocol, Tls},
};

/// A program and its example.
pub(super) struct Program {
    /// For `--client`.
    pub name: &'static str,
    /// What it is called in `PATH`.
    binary: &'static str,
    /// Where it looks for its configuration.
    file: &'static str,
    example: &'static str,
    /// Which servers it is of use for.
    needs: &'static [Protocol],
    /// What stands there for TLS that begins later, and what for TLS at once.
    smtp_tls: &'static [(&'static str, &'static str)],
}

/// A table of programs: for each its name, its binary, its needs, where its configuration is, the
/// example below examples/clients, and what to replace there for TLS at once.
macro_rules! programs {
    ($($name:literal $binary:literal $($needs:ident)+ $file:literal $example:literal
       [$($later:literal => $at_once:literal),*];)*) => {
        &[$(Program {
            name: $name,
            binary: $binary,
            file: $file,
            example: include_str!(concat!("../../../examples/clients/", $example)),
            needs: &[$(Protocol::$needs),+],
            smtp_tls: &[$(($later, $at_once)),*],
        }),*]
    };
}

/// All there are, by name.
pub(super) const PROGRAMS: &[Program] = programs! {
    "aerc" "aerc" Imap Smtp "~/.config/aerc/accounts.conf" "aerc/accounts.conf"
        ["smtp+xoauth2://" => "smtps+xoauth2://"];
    "emacs" "emacs" Smtp "~/.emacs.d/init.el" "emacs/pizauth.el" ["'starttls" => "'ssl"];
    "fdm" "fdm" Imap "~/.fdm.conf" "fdm/fdm.conf" [];
    "getmail" "getmail" Imap "~/.config/getmail/getmailrc" "getmail/getmailrc" [];
    "git-send-email" "git" Smtp "~/.gitconfig" "git-send-email/gitconfig"
        ["smtpEncryption = tls" => "smtpEncryption = ssl"];
    "goimapnotify" "goimapnotify" Imap "~/.config/goimapnotify/goimapnotify.yaml" "goimapnotify/goimapnotify.yaml"
        [];
    "himalaya" "himalaya" Imap Smtp "~/.config/himalaya/config.toml" "himalaya/config.toml"
        ["\"smtp://" => "\"smtps://", "smtp.starttls = true\n" => ""];
    "mbsync" "mbsync" Imap "~/.mbsyncrc" "mbsync/mbsyncrc" [];
    "meli" "meli" Imap Smtp "~/.config/meli/config.toml" "meli/config.toml"
        ["\"STARTTLS\"" => "\"TLS\""];
    "mpop" "mpop" Pop3 "~/.mpoprc" "mpop/mpoprc" [];
    "msmtp" "msmtp" Smtp "~/.msmtprc" "msmtp/msmtprc" ["tls_starttls on" => "tls_starttls off"];
    "mutt" "mutt" Imap Smtp "~/.muttrc" "mutt/muttrc" ["\"smtp://" => "\"smtps://"];
    "neomutt" "neomutt" Imap Smtp "~/.config/neomutt/neomuttrc" "neomutt/neomuttrc"
        ["\"smtp://" => "\"smtps://"];
    "offlineimap" "offlineimap" Imap "~/.offlineimaprc" "offlineimap/offlineimaprc" [];
    "s-nail" "s-nail" Imap Smtp "~/.mailrc" "s-nail/mailrc"
        ["mta=smtp://" => "mta=smtps://", " smtp-use-starttls" => ""];
};

/// A further file that offlineimap needs, and where it belongs.
const OFFLINEIMAP_SCRIPT: (&str, &str) = (
    "~/.config/offlineimap/pizauth.py",
    include_str!("../../../examples/clients/offlineimap/pizauth.py"),
);

/// The example for a credential helper, which isn't about mail.
const GIT: &str = include_str!("../../../examples/clients/git/gitconfig");

/// The programs that are meant, in the table's order.
///
/// # Errors
/// The name of one that isn't known.
pub(super) fn chosen(names: &[String]) -> Result<Vec<&'static Program>, &str> {
    let known = |name: &&String| {
        let name = name.as_str();
        matches!(name, "all" | "none") || PROGRAMS.iter().any(|program| program.name == name)
    };
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        return Err(unknown);
    }
    let is_named = |program: &Program| {
        let mut names = names.iter();
        names.any(|name| name == "all" || *name == program.name)
    };
    let is_chosen =
        |program: &&Program| is_named(program) || names.is_empty() && is_installed(program.binary);
    Ok(PROGRAMS.iter().filter(is_chosen).collect())
}

impl Program {
    /// What its configuration needs; `None` when it has no use for these servers. Those that nothing is
    /// known of are left as the example has them.
    fn text(&self, plan: &Plan) -> Option<String> {
        let mut needs = self.needs.iter();
        let useful = needs.all(|protocol| plan.server(*protocol).is_some());
        (useful || plan.lacks_servers()).then(|| fill(self.example, plan, self.smtp_tls))
    }

    /// The same below a heading.
    fn snippet(&self, plan: &Plan) -> Option<String> {
        let mut text = section(self.name, self.file, &self.text(plan)?);
        if self.name == "offlineimap" {
            let (place, script) = OFFLINEIMAP_SCRIPT;
            text.push_str(&section(self.name, place, script));
        }
        Some(text)
    }
}

/// What these programs need, and git, each by its name and below a heading.
pub(super) fn sections(programs: &[&Program], plan: &Plan) -> Vec<(&'static str, String)> {
    let snippets = programs.iter().map(|it| Some((it.name, it.snippet(plan)?)));
    let mut sections: Vec<_> = snippets.flatten().collect();
    if !programs.is_empty() {
        let git = git(plan).map(|text| section("git", "~/.gitconfig", &text));
        sections.extend(git.map(|text| ("git", text)));
    }
    sections
}

/// What one program needs, and nothing else; `None` if it isn't known. It can be appended to a file: in
/// some, such as mbsync's, an empty line ends what was before.
pub(super) fn only(name: &str, plan: &Plan) -> Option<Result<String, Failure>> {
    let text = match name {
        "git" => git(plan),
        name => PROGRAMS.iter().find(|it| it.name == name)?.text(plan),
    };
    Some(text.map(|text| format!("\n{text}")).ok_or_else(|| {
        let what = format!("{name} has no use for the servers of {}", plan.title);
        Failure::other(what)
    }))
}

/// The lines for git, for a provider that has repositories instead of mail.
fn git(plan: &Plan) -> Option<String> {
    let text = GIT.replace("git.example.com", plan.provider?.git?);
    Some(word(&text, "work", &plan.account))
}

fn section(name: &str, place: &str, text: &str) -> String {
    let text = text.trim_end();
    format!("\n==== {name}: {place}, or the file that you have ====\n\n{text}\n")
}

fn fill(example: &str, plan: &Plan, smtp_tls: &[(&str, &str)]) -> String {
    let user = plan.user.as_deref().unwrap_or(NOBODY);
    let mut text = word(example, "work", &plan.account)
        .replace(NOBODY, user)
        .replace(&NOBODY.replace('@', "%40"), &user.replace('@', "%40"));
    let smtp = plan.server(Protocol::Smtp);
    let tls_at_once = smtp.is_some_and(|it| it.tls == Tls::AtOnce);
    for (later, at_once) in smtp_tls.iter().filter(|_| tls_at_once) {
        text = text.replace(later, at_once);
    }
    for (protocol, port, host) in [
        (Protocol::Smtp, "587", "smtp.example.com"),
        (Protocol::Pop3, "995", "pop.example.com"),
        (Protocol::Imap, "993", "imap.example.com"),
    ] {
        if let Some(server) = plan.server(protocol) {
            text = word(&text, port, &server.port.to_string()).replace(host, &server.host);
        }
    }
    text
}

/// `text` with each `old` that is a whole word replaced.
fn word(text: &str, old: &str, new: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(old) {
        let part = |c: char| c.is_alphanumeric();
        let whole = !before.ends_with(part) && !after.starts_with(part);
        result.push_str(before);
        result.push_str(if whole { new } else { old });
        rest = after;
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::Provider;

    #[test]
    fn only_whole_words_are_replaced() {
        let text = "work works network work-remote :work: Work rework work";
        let wanted = "x works network x-remote :x: Work rework x";
        assert_eq!(word(text, "work", "x"), wanted);
        assert_eq!(word("h:587/ 5870 587", "587", "465"), "h:465/ 5870 465");
    }

    #[test]
    fn nothing_of_an_example_is_left() {
        for (provider, absent) in [("google", "587"), ("microsoft", "465")] {
            let provider = Provider::named(provider).unwrap();
            let plan = Plan::of(provider, Some("me@mail.test"));
            for program in PROGRAMS {
                let text = program.snippet(&plan).unwrap();
                for word in ["example.com", "%40example", " work", absent] {
                    let quirk = text
                        .lines()
                        .find(|line| !line.starts_with('#') && line.contains(word));
                    assert_eq!(quirk, None, "{}", program.name);
                }
                let filled = text.contains(provider.name);
                assert!(filled, "{text}");
            }
        }
    }

    /// In a home where there is nothing yet.
    #[test]
    fn an_example_makes_the_directory_that_it_is_for() {
        for Program { file, example, .. } in PROGRAMS {
            let (directory, _) = file.rsplit_once('/').unwrap();
            let made = example.lines().any(|line| {
                let mut words = line.split_whitespace();
                words.any(|it| it == "mkdir") && words.any(|it| it == directory)
            });
            assert!(made || directory == "~", "{file}");
        }
    }

    #[test]
    fn every_difference_in_tls_is_in_its_example() {
        for program in PROGRAMS {
            for (later, at_once) in program.smtp_tls {
                assert!(program.example.contains(later), "{}", program.name);
                let there = !at_once.is_empty() && program.example.contains(at_once);
                assert!(!there, "{}", program.name);
            }
        }
    }
}

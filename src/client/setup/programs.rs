//! What mail programs need in their own configurations: the examples of this project, with the
//! account, user and servers filled in.

use super::plan::{NOBODY, Plan};
use crate::{client::programs::is_installed, mail::Tls};

/// A program and its example.
pub(super) struct Program {
    /// For `--client`.
    pub name: &'static str,
    /// What it is called in `PATH`.
    binary: &'static str,
    /// Where it looks for its configuration.
    file: &'static str,
    example: &'static str,
    needs: Needs,
    /// What stands there for TLS that begins later, and what for TLS at once.
    smtp_tls: &'static [(&'static str, &'static str)],
    /// A further file that it needs, and where that belongs.
    script: Option<(&'static str, &'static str)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Imap,
    Pop3,
    Smtp,
    Both,
}

/// All there are, by name.
pub(super) const PROGRAMS: &[Program] = &[
    Program {
        name: "aerc",
        binary: "aerc",
        file: "~/.config/aerc/accounts.conf",
        example: include_str!("../../../examples/clients/aerc/accounts.conf"),
        needs: Needs::Both,
        smtp_tls: &[("smtp+xoauth2://", "smtps+xoauth2://")],
        script: None,
    },
    Program {
        name: "emacs",
        binary: "emacs",
        file: "~/.emacs.d/init.el",
        example: include_str!("../../../examples/clients/emacs/pizauth.el"),
        needs: Needs::Smtp,
        smtp_tls: &[("'starttls", "'ssl")],
        script: None,
    },
    Program {
        name: "fdm",
        binary: "fdm",
        file: "~/.fdm.conf",
        example: include_str!("../../../examples/clients/fdm/fdm.conf"),
        needs: Needs::Imap,
        smtp_tls: &[],
        script: None,
    },
    Program {
        name: "getmail",
        binary: "getmail",
        file: "~/.config/getmail/getmailrc",
        example: include_str!("../../../examples/clients/getmail/getmailrc"),
        needs: Needs::Imap,
        smtp_tls: &[],
        script: None,
    },
    Program {
        name: "git-send-email",
        binary: "git",
        file: "~/.gitconfig",
        example: include_str!("../../../examples/clients/git-send-email/gitconfig"),
        needs: Needs::Smtp,
        smtp_tls: &[("smtpEncryption = tls", "smtpEncryption = ssl")],
        script: None,
    },
    Program {
        name: "goimapnotify",
        binary: "goimapnotify",
        file: "~/.config/goimapnotify/goimapnotify.yaml",
        example: include_str!("../../../examples/clients/goimapnotify/goimapnotify.yaml"),
        needs: Needs::Imap,
        smtp_tls: &[],
        script: None,
    },
    Program {
        name: "himalaya",
        binary: "himalaya",
        file: "~/.config/himalaya/config.toml",
        example: include_str!("../../../examples/clients/himalaya/config.toml"),
        needs: Needs::Both,
        smtp_tls: &[],
        script: None,
    },
    Program {
        name: "mbsync",
        binary: "mbsync",
        file: "~/.mbsyncrc",
        example: include_str!("../../../examples/clients/mbsync/mbsyncrc"),
        needs: Needs::Imap,
        smtp_tls: &[],
        script: None,
    },
    Program {
        name: "meli",
        binary: "meli",
        file: "~/.config/meli/config.toml",
        example: include_str!("../../../examples/clients/meli/config.toml"),
        needs: Needs::Both,
        smtp_tls: &[("\"STARTTLS\"", "\"TLS\"")],
        script: None,
    },
    Program {
        name: "mpop",
        binary: "mpop",
        file: "~/.mpoprc",
        example: include_str!("../../../examples/clients/mpop/mpoprc"),
        needs: Needs::Pop3,
        smtp_tls: &[],
        script: None,
    },
    Program {
        name: "msmtp",
        binary: "msmtp",
        file: "~/.msmtprc",
        example: include_str!("../../../examples/clients/msmtp/msmtprc"),
        needs: Needs::Smtp,
        smtp_tls: &[("tls_starttls on", "tls_starttls off")],
        script: None,
    },
    Program {
        name: "mutt",
        binary: "mutt",
        file: "~/.muttrc",
        example: include_str!("../../../examples/clients/mutt/muttrc"),
        needs: Needs::Both,
        smtp_tls: &[("\"smtp://", "\"smtps://")],
        script: None,
    },
    Program {
        name: "neomutt",
        binary: "neomutt",
        file: "~/.config/neomutt/neomuttrc",
        example: include_str!("../../../examples/clients/neomutt/neomuttrc"),
        needs: Needs::Both,
        smtp_tls: &[("\"smtp://", "\"smtps://")],
        script: None,
    },
    Program {
        name: "offlineimap",
        binary: "offlineimap",
        file: "~/.offlineimaprc",
        example: include_str!("../../../examples/clients/offlineimap/offlineimaprc"),
        needs: Needs::Imap,
        smtp_tls: &[],
        script: Some((
            "~/.config/offlineimap/pizauth.py",
            include_str!("../../../examples/clients/offlineimap/pizauth.py"),
        )),
    },
    Program {
        name: "s-nail",
        binary: "s-nail",
        file: "~/.mailrc",
        example: include_str!("../../../examples/clients/s-nail/mailrc"),
        needs: Needs::Both,
        smtp_tls: &[("mta=smtp://", "mta=smtps://"), (" smtp-use-starttls", "")],
        script: None,
    },
];

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
    let is_chosen = |program: &&Program| match names.is_empty() {
        true => is_installed(program.binary),
        false => names
            .iter()
            .any(|name| name == "all" || *name == program.name),
    };
    Ok(PROGRAMS.iter().filter(is_chosen).collect())
}

impl Program {
    /// What belongs into its configuration; `None` when it has no use for these servers.
    pub(super) fn snippet(&self, plan: &Plan) -> Option<String> {
        let (imap, smtp) = (plan.imap.is_some(), plan.smtp.is_some());
        let useful = match self.needs {
            Needs::Imap => imap,
            Needs::Pop3 => plan.pop3.is_some(),
            Needs::Smtp => smtp,
            Needs::Both => imap && smtp,
        };
        if !useful {
            return None;
        }
        let text = fill(self.example, plan, self.smtp_tls);
        let mut text = section(self.name, self.file, &text);
        if let Some((place, script)) = self.script {
            text.push_str(&section(self.name, place, script));
        }
        Some(text)
    }
}

/// The lines for git, for a provider that has repositories instead of mail.
pub(super) fn git(plan: &Plan) -> Option<String> {
    let text = GIT.replace("git.example.com", plan.git?);
    let text = word(&text, "work", &plan.account);
    Some(section("git", "~/.gitconfig", &text))
}

fn section(name: &str, place: &str, text: &str) -> String {
    format!("\n==== {name}: {place} ====\n\n{}\n", text.trim_end())
}

fn fill(example: &str, plan: &Plan, smtp_tls: &[(&str, &str)]) -> String {
    let user = plan.user.as_deref().unwrap_or(NOBODY);
    let mut text = word(example, "work", &plan.account)
        .replace(NOBODY, user)
        .replace(&NOBODY.replace('@', "%40"), &user.replace('@', "%40"));
    if let Some(smtp) = &plan.smtp {
        if smtp.tls == Tls::AtOnce {
            for (later, at_once) in smtp_tls {
                text = text.replace(later, at_once);
            }
        }
        let port = smtp.port.to_string();
        text = word(&text, "587", &port).replace("smtp.example.com", &smtp.host);
    }
    if let Some(pop3) = &plan.pop3 {
        let port = pop3.port.to_string();
        text = word(&text, "995", &port).replace("pop.example.com", &pop3.host);
    }
    if let Some(imap) = &plan.imap {
        let port = imap.port.to_string();
        text = word(&text, "993", &port).replace("imap.example.com", &imap.host);
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

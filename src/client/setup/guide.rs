//! `pizauth setup` as a guide: questions and answers, from an address to a mailbox that has been read. It
//! writes nothing before the user agrees, so that an interrupt leaves nothing half done; the answers may
//! come through a pipe.

use std::io::{self, ErrorKind, IsTerminal};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use super::plan::Plan;
use super::programs;
use crate::cli::{AuthOptions, RegisterOptions, SetupOptions, TestOptions};
use crate::client::programs::is_installed;
use crate::client::{auth, connect, dump, print, register, say, test};
use crate::config::{self, Account, Config, quoted};
use crate::error::Failure;
use crate::mail::{Protocol, Server};
use crate::oauth::registration;
use crate::providers::SecretUse;
use crate::{paths, secret::Secret, text::sanitize, wire::Request, wire::ShowArgs};

/// The option for notifications, as in examples/pizauth.conf.
const NOTIFY: &str = r#"auth_notify_cmd = "notify-send -- \"Sign in: $PIZAUTH_ACCOUNT\" \"$PIZAUTH_URL\"";
"#;

/// From nothing to a mailbox.
///
/// # Errors
/// There are no more answers, or the configuration can't be read or written.
pub(super) fn run(options: &SetupOptions) -> Result<(), Failure> {
    tell("Enter takes the answer in brackets. You can stop at any time, and run this again.\n")?;
    let mut plan = mailbox(options)?;
    servers(&mut plan)?;
    let Some(account) = account(&mut plan, options.name.as_deref())? else {
        return tell("Nothing was written. Run `pizauth setup` again when you have a client id.\n");
    };
    step(
        "Start the server, or have it read the configuration?",
        serve,
    )?;
    step("Sign in now?", || {
        let options = AuthOptions {
            account: account.clone(),
            ..AuthOptions::default()
        };
        // What a pipe has are the answers.
        auth::run(&options, io::stdin().is_terminal())
    })?;
    step("Test the mail servers?", || {
        test::run(&TestOptions {
            token: ShowArgs {
                account: account.clone(),
                ..ShowArgs::default()
            },
            urls: plan.urls(),
            ..TestOptions::default()
        })
    })?;
    mail_programs(&plan)?;
    tell(&format!(
        "Done: `pizauth show {account}` prints the token.\n"
    ))
}

fn tell(text: &str) -> Result<(), Failure> {
    print(text.as_bytes())
}

/// The answer to a question, or `default`.
fn ask(question: &str, default: &str) -> Result<String, Failure> {
    match default {
        "" => tell(&format!("{question}: "))?,
        default => tell(&format!("{question} [{default}]: "))?,
    }
    let line = line()?;
    Ok(match sanitize(line.trim()).as_str() {
        "" => default.to_owned(),
        answer => answer.to_owned(),
    })
}

fn line() -> Result<String, Failure> {
    let mut line = String::new();
    let stdin = io::stdin();
    let read = stdin.read_line(&mut line);
    if !stdin.is_terminal() {
        tell("\n")?;
    }
    match read {
        Ok(1..) => Ok(line),
        _ => Err(Failure::other("the answers ended before the questions")
            .hint("run `pizauth setup` again to go on")),
    }
}

/// The same, without showing what is typed. The shell sees to the terminal, after an interrupt, too.
fn ask_secret(question: &str) -> Result<Secret, Failure> {
    tell(&format!("{question}: "))?;
    let typed = if io::stdin().is_terminal() {
        let script =
            "trap 'stty echo' EXIT INT; stty -echo; IFS= read -r line; printf '%s' \"$line\"";
        let shell = Command::new("/bin/sh")
            .arg("-c")
            .arg(script)
            .stdin(Stdio::inherit())
            .stderr(Stdio::inherit())
            .output();
        tell("\n")?;
        String::from_utf8_lossy(&shell?.stdout).into_owned()
    } else {
        line()?
    };
    Ok(Secret::new(typed.trim().to_owned()))
}

fn agrees(question: &str) -> Result<bool, Failure> {
    loop {
        match ask(&format!("{question} (y/n)"), "y")?.as_str() {
            "y" | "Y" | "yes" => return Ok(true),
            "n" | "N" | "no" => return Ok(false),
            _ => {}
        }
    }
}

/// Offers a step, and again when it fails: what was wrong may have been mended.
fn step(question: &str, act: impl Fn() -> Result<(), Failure>) -> Result<(), Failure> {
    let mut question = question;
    while agrees(question)? {
        match act() {
            Ok(()) => break,
            Err(failure) => complain(&failure)?,
        }
        question = "Try again?";
    }
    Ok(())
}

fn complain(failure: &Failure) -> Result<(), Failure> {
    tell(&format!("ERROR - {failure}\n"))
}

fn mailbox(options: &SetupOptions) -> Result<Plan, Failure> {
    let (mut target, mut user) = (options.target.clone(), options.user.clone());
    loop {
        while target.is_empty() {
            target = ask(
                "Your mail address, or the provider's name, or the https address of its issuer",
                "",
            )?;
        }
        match super::plan(&target, user.as_deref()) {
            Ok(plan) => return Ok(plan),
            Err(failure) => complain(&failure)?,
        }
        // Who serves a domain is often known to its user alone.
        user = Some(target).filter(|it| it.contains('@')).or(user);
        target = String::new();
    }
}

/// Whose mailbox, and its servers, where the provider doesn't say.
fn servers(plan: &mut Plan) -> Result<(), Failure> {
    if plan.user.is_none() && (plan.server(Protocol::Imap).is_some() || plan.provider.is_none()) {
        plan.user = Some(ask("The mail address", "")?).filter(|user| !user.is_empty());
    }
    if !plan.lacks_servers() {
        return Ok(());
    }
    let question = "Its mail servers, as in imaps://mail.example.com smtps://mail.example.com";
    for url in ask(question, "")?.split_whitespace() {
        match Server::parse(url) {
            Ok(server) => {
                plan.servers.retain(|it| it.protocol != server.protocol);
                plan.servers.push(server);
            }
            Err(_) => tell(&format!(
                "`{url}` is left out: it is no mail server's URL\n"
            ))?,
        }
    }
    plan.servers.sort_by_key(|server| server.protocol);
    Ok(())
}

/// Prints what the user's mail programs need, one at a time.
fn mail_programs(plan: &Plan) -> Result<(), Failure> {
    let installed = programs::chosen(&[]).unwrap_or_default();
    let sections = programs::sections(&installed, plan);
    let names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
    while let [_, ..] = *names {
        let names = names.join(", ");
        let question = format!("\nMail programs here: {names}. Name one to see what it needs");
        let word = ask(&question, "none")?;
        match sections.iter().find(|(name, _)| *name == word) {
            Some((_, text)) => tell(text)?,
            None if ["none", "n"].contains(&&*word) => break,
            None => {}
        }
    }
    Ok(())
}

/// The configuration as it is.
struct Old {
    path: PathBuf,
    /// The path as it may be shown.
    file: String,
    text: String,
    /// None if there is nothing in it.
    config: Option<Config>,
}

impl Old {
    fn read() -> Result<Self, Failure> {
        let path = paths::config()?;
        let file = sanitize(&path.display().to_string());
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
            read => read.map_err(|error| Failure::other(format!("can't read {file}: {error}"))),
        }?;
        let is_empty = text.trim().is_empty();
        let config = (!is_empty).then(|| parsed(&file, &text)).transpose()?;
        Ok(Old {
            path,
            file,
            text,
            config,
        })
    }

    fn accounts(&self) -> &[Account] {
        self.config.as_ref().map_or(&[], |config| &config.accounts)
    }

    fn has(&self, option: impl Fn(&Config) -> bool) -> bool {
        self.config.as_ref().is_some_and(option)
    }

    /// The new text, and what `state` in it is tried by: what is written is good, or isn't written.
    fn with(&self, head: &str, block: &Secret) -> Result<(String, Option<String>), Failure> {
        let parts = [head, &self.text, block.expose()].map(str::trim);
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let text = parts.join("\n\n") + "\n";
        let trial = parsed(&self.file, &text)?.state_trial;
        Ok((text, trial.map(|(_, trial)| trial)))
    }

    /// Puts the new text in the place of this, and this beside it.
    fn replace(&self, text: &str) -> io::Result<()> {
        make_directory(&self.path)?;
        if !self.text.is_empty() {
            let mut copy = self.path.clone().into_os_string();
            copy.push("~");
            dump::save(copy.as_ref(), self.text.as_bytes())?;
        }
        dump::save(&self.path, text.as_bytes())
    }
}

fn parsed(file: &str, text: &str) -> Result<Config, Failure> {
    config::parse(file, text).map_err(|error| Failure::other(error.to_string()))
}

/// The name of the account, when the configuration has it.
fn account(plan: &mut Plan, name: Option<&str>) -> Result<Option<String>, Failure> {
    let old = Old::read()?;
    let there = old.accounts().iter().find(|it| plan.is_for(it));
    if let (Some(there), None) = (there, name) {
        let name = &there.name;
        if agrees(&format!(
            "The account `{name}` is for this mailbox. Go on with it?"
        ))? {
            return Ok(Some(name.to_string()));
        }
    }
    let is_taken = |name: &str| old.accounts().iter().any(|it| *it.name == *name);
    match (name, &plan.user) {
        (Some(name), _) => plan.account = name.to_owned(),
        // A second mailbox at one provider.
        (None, Some(user)) if is_taken(&plan.account) => plan.account.clone_from(user),
        (None, _) => {}
    }
    let name = &plan.account;
    if is_taken(name) {
        return Err(Failure::other(format!(
            "there is an account `{name}` already"
        )));
    }
    let Some(block) = client(plan)? else {
        return Ok(None);
    };
    let keeper = keeper(&old)?;
    let mut head = keeper.map_or(String::new(), |it| format!("state = {};\n", quoted(it)));
    head += notification(&old)?;
    let (mut text, trial) = old.with(&head, &block)?;
    tell(&format!(
        "\nThis is for {}:\n\n{head}{}\n",
        old.file,
        hidden(block.expose())
    ))?;
    if !agrees("Write it?")? {
        return Ok(None);
    }
    if let (Some(keeper), Some(trial)) = (keeper, trial) {
        if let Err(failure) = prepare(keeper, &trial) {
            complain(&failure)?;
            tell("So nothing keeps the tokens.\n")?;
            head = head.lines().skip(1).collect();
            (text, _) = old.with(&head, &block)?;
        }
    }
    let written = old.replace(&text);
    written.map_err(|error| Failure::other(format!("can't write {}: {error}", old.file)))?;
    Ok(Some(name.clone()))
}

/// The account's block, with a client id that was registered now or given.
fn client(plan: &Plan) -> Result<Option<Secret>, Failure> {
    tell(&format!("\n{}\n", plan.about()))?;
    if let Some((issuer, scopes)) = &plan.registers {
        while agrees("Register pizauth there now?")? {
            let scopes = ask("Scopes to ask for, with spaces between", &scopes.join(" "))?;
            let registered = register::block(&RegisterOptions {
                issuer: issuer.clone(),
                scopes: scopes.split_whitespace().map(str::to_owned).collect(),
                name: Some(plan.account.clone()),
                token_cmd: None,
            });
            match registered {
                Ok(block) => return Ok(Some(plan.addressed(&block))),
                Err(failure) => complain(&failure)?,
            }
        }
    }
    let page = plan.provider.and_then(|provider| provider.page);
    if let Some(page) = page.filter(|_| auth::has_desktop()) {
        if agrees(&format!("Open {page} in the browser?"))? {
            auth::open(page);
        }
    }
    let id = ask("The client id", "")?;
    if id.is_empty() {
        return Ok(None);
    }
    let secret = match plan.provider.map(|it| it.secret) {
        Some(SecretUse::Never) => None,
        _ => Some(ask_secret("The client secret, which isn't shown")?),
    };
    let secret = secret.filter(|it| !it.expose().is_empty());
    Ok(Some(plan.block(&id, secret.as_ref())))
}

/// What is to keep the tokens, unless the configuration says.
fn keeper(old: &Old) -> Result<Option<&'static str>, Failure> {
    let is_set = old.has(|it| it.state_save_cmd.is_some() || it.state_load_cmd.is_some());
    let mut there: Vec<&str> = config::keepers().to_vec();
    there.retain(|name| is_installed(name));
    let Some(first) = there.first().filter(|_| !is_set) else {
        return Ok(None);
    };
    let question = format!(
        "\nKeep the tokens over a reboot with {}, or none",
        there.join(", ")
    );
    loop {
        let word = ask(&question, first)?;
        let keeper = there.iter().find(|name| **name == word);
        if keeper.is_some() || word == "none" {
            return Ok(keeper.copied());
        }
    }
}

/// The option for notifications, where there is a desktop.
fn notification(old: &Old) -> Result<&'static str, Failure> {
    let can = auth::has_desktop() && is_installed("notify-send");
    let is_set = old.has(|it| it.auth_notify_cmd.is_some());
    let wanted = can && !is_set && agrees("Show a notification when you have to sign in?")?;
    Ok(if wanted { NOTIFY } else { "" })
}

/// The block without what must not be seen over a shoulder.
fn hidden(block: &str) -> String {
    let line = |line: &str| {
        let mut marks = ["client_secret = ", registration::TOKEN].into_iter();
        match marks.find_map(|mark| Some((line.split_once(mark)?.0, mark))) {
            Some((before, mark)) => format!("{before}{mark}(not shown)\n"),
            None => format!("{line}\n"),
        }
    };
    block.lines().map(line).collect()
}

/// Makes the key that the keeper needs, unless it is there, and runs its trial.
fn prepare(keeper: &str, trial: &str) -> Result<(), Failure> {
    let key = paths::expand("~/.config/pizauth-age.key");
    let key = key.filter(|key| keeper == "age" && !key.exists());
    if let Some(key) = key {
        make_directory(&key)?;
        ran(Command::new("age-keygen")
            .arg("-o")
            .arg(&key)
            .stderr(Stdio::null()))?;
        let key = key.display();
        tell(&format!(
            "Made {key}. Without it, a copy of the tokens is of no use.\n"
        ))?;
    }
    ran(Command::new("/bin/sh").arg("-c").arg(trial))
}

/// Makes the directory of a file, for the user alone.
fn make_directory(file: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    file.parent().map_or(Ok(()), |it| builder.create(it))
}

/// Has the server that runs read its configuration, or starts one, by the unit if that is installed.
fn serve() -> Result<(), Failure> {
    if connect().is_ok() {
        return say(Request::Reload);
    }
    let mut unit = Command::new("systemctl");
    unit.args(["--user", "--quiet", "enable", "--now", "pizauth.service"]);
    if ran(unit.stderr(Stdio::null())).is_ok() {
        return tell(
            "Enabled pizauth.service. `loginctl enable-linger` keeps it without a login.\n",
        );
    }
    let program = env::current_exe()?;
    ran(Command::new(program).arg("server"))?;
    tell("Put `pizauth server` into ~/.profile, to have it after a reboot, too.\n")
}

/// Runs a program to its end.
fn ran(command: &mut Command) -> Result<(), Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::other(format!("{name} failed: {status}"))),
        Err(error) => Err(Failure::other(format!("can't run {name}: {error}"))),
    }
}

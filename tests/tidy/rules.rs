//! The rules about code. Each is a function over files, so that its own test can plant a
//! violation; what it returns is one line for each place, with the reason.

use super::tree::{File, code, indent, shipped};

/// Which module may name which; `daemon` is where they all meet. Whoever adds an arrow adds it
/// here, and turns none around.
const ARROWS: [(&str, &[&str]); 24] = [
    // The leaves: words that all share.
    ("alarm", &[]),
    ("error", &[]),
    ("form", &[]),
    ("text", &[]),
    ("time", &[]),
    ("view", &["time"]),
    // Where its bytes are is the process's business.
    ("secret", &["sys"]),
    // What is promised to scripts.
    ("report", &["time", "view"]),
    // Pure: texts and numbers in, texts and numbers out.
    ("config", &["secret", "text"]),
    ("oauth", &["config", "secret", "text", "time"]),
    ("providers", &[]),
    ("mail", &["providers", "secret", "text", "time"]),
    (
        "core",
        &["config", "form", "oauth", "secret", "text", "time", "view"],
    ),
    // HTTP, for the daemon's workers and for commands that ask a provider themselves.
    ("http", &["config", "oauth", "secret"]),
    // The client, and what both ends share.
    ("cli", &["error", "form", "text", "time"]),
    ("paths", &["error"]),
    ("wire", &["error", "form", "secret"]),
    (
        "client",
        &[
            "cli",
            // What `setup` prints is written in its language; nobody reads one.
            "config",
            "error",
            "form",
            "http",
            "mail",
            "oauth",
            "paths",
            "providers",
            "report",
            "secret",
            "text",
            "time",
            "view",
            "wire",
        ],
    ),
    // The servers. They know no core, and take closures.
    ("serve", &["alarm", "secret"]),
    ("control", &["error", "paths", "serve", "wire"]),
    ("redirect", &["serve", "text"]),
    (
        "daemon",
        &[
            "alarm", "cli", "config", "control", "core", "error", "form", "http", "oauth", "paths",
            "redirect", "report", "secret", "serve", "sys", "text", "time", "view", "wire",
        ],
    ),
    // The allocator, locked memory and the entry, below everything.
    ("sys", &[]),
    ("main", &["cli", "client", "daemon", "error", "sys"]),
];

/// Uses between modules that [`ARROWS`] has no arrow for.
pub fn arrows(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in shipped(files) {
        let path = file.path.trim_start_matches("src/").trim_end_matches(".rs");
        let module = path.split('/').next().unwrap_or_default();
        if module == "lib" {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module) else {
            found.push(format!(
                "{}: a new module: say in ARROWS what it may use, so that arrows stay one-way",
                file.path
            ));
            continue;
        };
        let root = if module == "main" { "pizauth" } else { "crate" };
        let mut used = children(&file.text, root);
        if path == module || path == format!("{module}/mod") {
            used.extend(children(&file.text, "super"));
        }
        let depth = path.split('/').filter(|part| *part != "mod").count();
        for (name, line) in used {
            if name != module && !allowed.contains(&name.as_str()) {
                found.push(format!(
                    "{}:{line}: {module} must not use {name}: arrows point one way, from the \
                     shells to the core and from all to the leaves",
                    file.path
                ));
            }
        }
        if depth <= 2 && file.text.contains("super::super::") {
            found.push(format!(
                "{}: super::super:: hides an arrow: write crate::",
                file.path
            ));
        }
    }
    found
}

/// The names below `root`, as in `root::name` and `root::{name, other::{self, more}}`, and their
/// lines.
fn children(code: &str, root: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for at in places(code, &format!("{root}::")) {
        let rest = &code[at + root.len() + 2..];
        let line = 1 + code[..at].matches('\n').count();
        let Some(group) = rest.strip_prefix('{') else {
            found.push((word(rest), line));
            continue;
        };
        let mut depth = 0;
        let mut wanted = true;
        for (at, char) in group.char_indices() {
            match char {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => wanted = true,
                _ if wanted && !char.is_whitespace() => {
                    found.push((word(&group[at..]), line));
                    wanted = false;
                }
                _ => {}
            }
        }
    }
    found.retain(|(name, _)| !name.is_empty() && name != "self");
    found
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// The identifier that `rest` starts with.
fn word(rest: &str) -> String {
    rest.chars().take_while(|char| is_word(*char)).collect()
}

/// Where `pattern` stands in `code`, other than behind a part of a word.
fn places<'a>(code: &'a str, pattern: &'a str) -> impl Iterator<Item = usize> + 'a {
    let starts_word = pattern.starts_with(is_word);
    code.match_indices(pattern)
        .map(|(at, _)| at)
        .filter(move |at| !(starts_word && code[..*at].ends_with(is_word)))
}

/// Modules that decide and do nothing.
const PURE: [&str; 13] = [
    "cli",
    "config",
    "core",
    "error",
    "form",
    "mail",
    "oauth",
    "providers",
    "report",
    "secret",
    "text",
    "time",
    "view",
];

/// What a pure module has no business with, below `std`.
const IMPURE_STD: [&str; 6] = ["env", "fs", "io", "os", "process", "thread"];

/// Crates and types that act.
const ACTORS: [&str; 13] = [
    "Condvar",
    "Mutex",
    "RwLock",
    "TcpListener",
    "TcpStream",
    "ToSocketAddrs",
    "UdpSocket",
    "getrandom::",
    "nix::",
    "rustls::",
    "sd_notify::",
    "ureq::",
    "wait_timeout::",
];

/// Input, output, threads and locks in the pure modules.
pub fn purity(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in shipped(files) {
        let path = file.path.trim_start_matches("src/").trim_end_matches(".rs");
        if !PURE.contains(&path.split('/').next().unwrap_or_default()) {
            continue;
        }
        let std = children(&file.text, "std");
        let std = std.into_iter().map(|(name, _)| name);
        let acts = std.filter(|name| IMPURE_STD.contains(&name.as_str()));
        let actors = ACTORS
            .into_iter()
            .filter(|name| places(&file.text, name).next().is_some());
        for what in acts.chain(actors.map(str::to_owned)) {
            found.push(format!(
                "{}: uses {what}: this module is pure, so that all it decides can be simulated",
                file.path
            ));
        }
    }
    found
}

/// Something that only a few files may do.
pub struct Ban {
    /// What it looks like.
    pub patterns: &'static [&'static str],
    /// Why it is banned elsewhere.
    pub why: &'static str,
    /// The files of src/ that may, and what for.
    pub only_in: &'static [(&'static str, &'static str)],
}

pub const BANS: [Ban; 7] = [
    Ban {
        patterns: &[".lock(", ".try_lock(", "RwLock"],
        why: "one lock holds the core, and no input or output happens under it",
        only_in: &[
            ("src/daemon/shared.rs", "the core's"),
            ("src/daemon/outbox.rs", "what follows, in order"),
            (
                "src/daemon/provider.rs",
                "the queue of requests that wait for a worker",
            ),
            ("src/daemon/hooks.rs", "the queue of jobs for the runner"),
            ("src/http/names.rs", "which lookups of names are under way"),
            (
                "src/daemon/mod.rs",
                "the control socket's file, which the main thread makes again and `shutdown` removes",
            ),
            ("src/daemon/files.rs", "the queue of token files"),
            (
                "src/daemon/broker.rs",
                "one order after the other; what the configuration's seals are",
            ),
            ("src/daemon/doors.rs", "which restricted sockets are open"),
            (
                "src/redirect/pages.rs",
                "the pages that browsers were sent on to",
            ),
            ("src/sys/locked.rs", "which locked memory is free"),
        ],
    },
    Ban {
        patterns: &[
            "Instant::now",
            ".elapsed(",
            "SystemTime",
            "UNIX_EPOCH",
            "clock_gettime",
            "Timestamp::now",
            "Zoned::now",
        ],
        why: "the time is an argument: a simulator must be able to set it",
        only_in: &[
            ("src/daemon/clock.rs", "both clocks, for the core"),
            ("src/client/auth.rs", "how long the user has been waiting"),
            (
                "src/serve.rs",
                "how long a peer may take, which the core never learns",
            ),
            ("src/serve/poller.rs", "how long it may sleep until then"),
            (
                "src/redirect/pages.rs",
                "how long a page is kept, which the core never learns",
            ),
            (
                "src/daemon/runner.rs",
                "the hooks' deadlines, in a process without a core",
            ),
            (
                "src/daemon/process.rs",
                "how long to wait for room for the daemon's process",
            ),
            (
                "src/daemon/monitor.rs",
                "when the next runner may be started, in a process without a core",
            ),
            (
                "src/daemon/place.rs",
                "how long to wait for a server that is just ending",
            ),
            ("src/daemon/mod.rs", "how long the last save may take"),
            (
                "src/daemon/restart.rs",
                "how long to wait for what is under way",
            ),
            (
                "src/client/restart.rs",
                "how long to wait for the server: the client has no core",
            ),
            (
                "src/client/show.rs",
                "what is left of a wait when the server was restarted: the client has no core",
            ),
            (
                "src/daemon/presence.rs",
                "when to look after the control socket, which the core never learns",
            ),
            (
                "src/client/status.rs",
                "how long ago: the client has no core",
            ),
            (
                "src/client/test/dial.rs",
                "how long a mail server may take, and whether its clock is right",
            ),
        ],
    },
    Ban {
        patterns: &["getrandom", "rcgen", "SystemRandom", "rand::"],
        why: "randomness is an argument: a simulator must be able to repeat it",
        only_in: &[
            ("src/daemon/clock.rs", "the kernel's, for the core"),
            (
                "src/redirect/tls.rs",
                "the key of the certificate for https redirects",
            ),
        ],
    },
    Ban {
        patterns: &[".expose(", "Secret::expose"],
        why: "every place where a secret leaves its wrapper is a place to check",
        only_in: &[
            (
                "src/oauth/token.rs",
                "the form that is sent, and the check of a token's characters",
            ),
            ("src/oauth/client.rs", "the client's proof, and the form"),
            ("src/daemon/sign_in.rs", "the pasted address, to be read"),
            (
                "src/core/account/signing_in.rs",
                "the state in the authorisation URL, the verifier's hash",
            ),
            (
                "src/core/dump.rs",
                "how long a dump will be, and the check of its tokens",
            ),
            ("src/core/account/token_file.rs", "the line in a token file"),
            ("src/core/plain.rs", "dumps, and what a successor gets"),
            (
                "src/daemon/broker.rs",
                "the token file, on its way to the disk",
            ),
            ("src/http.rs", "the body and headers of the request"),
            (
                "src/oauth/registration.rs",
                "the secrets of a new client, in the account that is printed",
            ),
            (
                "src/client/register.rs",
                "the account, on its way to stdout",
            ),
            (
                "src/wire.rs",
                "the token, on its way to the client; the pasted address, to the server",
            ),
            ("src/daemon/show.rs", "the token in a header or an object"),
            ("src/client/credential.rs", "the token in the answer to git"),
            ("src/client/test/mod.rs", "the response to a mail server"),
            ("src/client/test/scrub.rs", "the token, to cut it out"),
            ("src/mail/claims.rs", "what a token says of itself"),
            ("src/oauth/sasl.rs", "the token in a SASL response"),
        ],
    },
    Ban {
        patterns: &[
            "print!(",
            "println!(",
            "eprint!(",
            "eprintln!(",
            "stdout()",
            "stderr()",
            "Stdout",
            "Stderr",
        ],
        why: "a daemon has no terminal, and stdout belongs to the token",
        only_in: &[
            ("src/client/mod.rs", "a command's output, and its one error"),
            (
                "src/daemon/check.rs",
                "the warnings of `check`, which is no server",
            ),
            ("src/daemon/log.rs", "the log of `server -d`"),
        ],
    },
    Ban {
        patterns: &[
            "unsafe {",
            "unsafe fn",
            "unsafe impl",
            "unsafe extern",
            "allow(unsafe_code)",
        ],
        why: "what the compiler can't check, a reader must; keep it in few",
        only_in: &[
            ("src/daemon/process.rs", "fork(2)"),
            ("src/main.rs", "the entry's name"),
            ("src/sys/alloc.rs", "the allocator that wipes"),
            (
                "src/sys/entry.rs",
                "what the standard library would have done",
            ),
            ("src/sys/heap.rs", "what the C library's allocator keeps"),
            (
                "src/sys/locked.rs",
                "memory that isn't swapped out, and the secrets in it",
            ),
            ("src/sys/mod.rs", "its modules"),
        ],
    },
    Ban {
        patterns: &["sleep("],
        why: "poll(2) waits for what is to happen, and wakes when it does",
        only_in: &[
            (
                "src/serve.rs",
                "a pause when descriptors have run out: no event tells when there are more",
            ),
            (
                "src/daemon/place.rs",
                "a lock of another process that is just ending: nothing tells when",
            ),
            (
                "src/client/restart.rs",
                "a server that becomes another program: nothing tells when",
            ),
        ],
    },
];

/// Places that do what `ban` bans, and files that may and don't: a list of exceptions must be
/// true.
pub fn banned(ban: &Ban, files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    let mut using = Vec::new();
    for file in shipped(files) {
        for pattern in ban.patterns {
            for at in places(&file.text, pattern) {
                using.push(file.path.clone());
                if !ban.only_in.iter().any(|(path, _)| *path == file.path) {
                    let line = 1 + file.text[..at].matches('\n').count();
                    found.push(format!("{}:{line}: `{pattern}`: {}", file.path, ban.why));
                }
            }
        }
    }
    for (path, _) in ban.only_in {
        if !using.iter().any(|used| used == path) {
            found.push(format!(
                "{path} no longer has any of {:?}: take it off the list",
                ban.patterns
            ));
        }
    }
    found
}

/// How far above unsafe code the comment on it may stand, in lines.
const SAFETY_LINES: usize = 4;

/// Unsafe code without its `SAFETY`.
pub fn unexplained_unsafe(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let code = code(&file.text);
        let lines: Vec<&str> = file.text.lines().collect();
        for (at, line) in code.lines().enumerate() {
            let uses = ["unsafe {", "unsafe impl", "unsafe("];
            let explained = &lines[at.saturating_sub(SAFETY_LINES)..=at];
            if uses.iter().any(|it| places(line, it).next().is_some())
                && !explained.iter().any(|line| line.contains("// SAFETY:"))
            {
                found.push(format!(
                    "{}:{}: unsafe: say above it why it is sound: // SAFETY: ...",
                    file.path,
                    at + 1
                ));
            }
        }
    }
    found
}

/// How long a function may be: about a screen.
pub const MAX_FUNCTION_LINES: usize = 70;

/// Functions that don't fit on a screen. A test may be longer: its table of cases is data.
pub fn long_functions(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let code = code(&file.text);
        let lines: Vec<&str> = code.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let is_test = at > 0
                && lines[..at]
                    .iter()
                    .rev()
                    .take(3)
                    .any(|it| it.trim() == "#[test]");
            if is_test || places(line, "fn ").next().is_none() || line.trim_end().ends_with(';') {
                continue;
            }
            let end = format!("{}}}", indent(line));
            let length = 1 + lines[at..]
                .iter()
                .position(|line| line.trim_end() == end)
                .unwrap_or(0);
            if length > MAX_FUNCTION_LINES {
                found.push(format!(
                    "{}:{}: a function of {length} lines: at most {MAX_FUNCTION_LINES}, so that \
                     one sees it whole",
                    file.path,
                    at + 1
                ));
            }
        }
    }
    found
}

/// The longest line of code.
pub const MAX_COLUMNS: usize = 110;

/// Lines that are cut off in a window beside another. A literal alone on its line may go on, so
/// that a search finds it whole.
pub fn long_lines(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    let sources = files.iter().filter(|file| file.is_rust());
    for file in sources.filter(|file| file.path.starts_with("src/")) {
        for (at, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            let literal = ["\"", "r\"", "r#\""]
                .iter()
                .any(|start| line.trim_start().starts_with(start));
            if columns > MAX_COLUMNS && !literal {
                found.push(format!(
                    "{}:{}: {columns} columns: at most {MAX_COLUMNS}, for windows side by side",
                    file.path,
                    at + 1
                ));
            }
        }
    }
    found
}

/// Left-overs: what was put off, and tests that nobody runs.
pub fn leftovers(files: &[File]) -> Vec<String> {
    // In two pieces, so that this file passes.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("HA", "CK:"),
    ];
    let macros = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("dbg", "!("),
    ];
    let ignored = concat!("#[ig", "nore]");
    let mut found = Vec::new();
    for file in files {
        for (at, line) in file.text.lines().enumerate() {
            let mut say = |what: &str, why: &str| {
                found.push(format!("{}:{}: {what}: {why}", file.path, at + 1));
            };
            for word in words
                .iter()
                .filter(|word| places(line, word).next().is_some())
            {
                say(
                    word,
                    "do it, or open an issue; a note in the code is neither",
                );
            }
            for name in macros.iter().filter(|_| file.is_rust()) {
                if places(line, name).next().is_some() {
                    say(name, "unfinished work isn't committed");
                }
            }
            if file.is_rust() && line.contains(ignored) {
                say(
                    ignored,
                    "say why the test isn't run, as in #[ignore = \"a measurement\"]",
                );
            }
        }
    }
    found
}

/// Tests that hope that something will have happened by then.
pub fn hopeful_sleeps(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    let tests = files
        .iter()
        .filter(|file| file.is_rust() && file.path.starts_with("tests/"));
    for file in tests {
        let code = code(&file.text);
        let lines: Vec<&str> = file.text.lines().collect();
        for (at, line) in code.lines().enumerate() {
            let explained = at.checked_sub(1).into_iter().chain([at]);
            let explained = explained
                .map(|at| lines[at])
                .any(|line| line.contains("// why:"));
            if places(line, "sleep(").next().is_some() && !explained {
                found.push(format!(
                    "{}:{}: sleep: wait for the condition itself (support::wait), or give the \
                     reason in a comment `// why: …`",
                    file.path,
                    at + 1
                ));
            }
        }
    }
    found
}

/// What is only true of the machine that it was written on.
pub fn machine_paths(files: &[File]) -> Vec<String> {
    // In two pieces, so that this file passes.
    let places_of_one_machine = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("/tmp/", "wt"),
        concat!("/tmp/", "target"),
        concat!("shared/", "reference"),
        concat!("BEHAV", "IOUR.md"),
        concat!("DES", "IGN.md"),
    ];
    let mut found = Vec::new();
    for file in files {
        for (at, line) in file.text.lines().enumerate() {
            for place in places_of_one_machine
                .iter()
                .filter(|place| line.contains(**place))
            {
                found.push(format!(
                    "{}:{}: {place}: nobody else has that",
                    file.path,
                    at + 1
                ));
            }
            let foreign = line.starts_with("source = ")
                && !line.contains("//github.com/rust-lang/crates.io-index\"");
            if foreign && file.path.ends_with("Cargo.lock") {
                found.push(format!(
                    "{}:{}: crates come from crates.io",
                    file.path,
                    at + 1
                ));
            }
            if file.path.ends_with("package-lock.json") && line.contains("\"resolved\":") {
                found.push(format!(
                    "{}:{}: the registry is whoever runs npm's choice: omit-lockfile-registry-resolved",
                    file.path,
                    at + 1
                ));
            }
        }
    }
    found
}

/// Scripts that can't be run, and files that can and are no scripts.
pub fn scripts(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let script = file.text.starts_with("#!") && !file.is_rust();
        let why = match (script, file.executable) {
            _ if file.path.ends_with(".sh") && !script => "a script starts with #!",
            (true, false) => "is not executable: run chmod +x",
            (false, true) => "is executable and no script: run chmod -x",
            _ => continue,
        };
        found.push(format!("{}: {why}", file.path));
    }
    found
}

/// Dependencies that don't say what they are for, in a comment right above.
pub fn dependencies(manifest: &File) -> Vec<String> {
    let mut found = Vec::new();
    let mut section = "";
    let mut above = "";
    for line in manifest.text.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && !line.starts_with('#')
            && line.contains('=')
            && !above.starts_with("# ")
        {
            found.push(format!(
                "{}: `{line}`: say above it which question it answers: every dependency is a risk",
                manifest.path
            ));
        }
        above = line;
    }
    found
}

//! What Linux lets a process give up: the file system, ports and signals (landlock(7)).

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use nix::sys::prctl;

use super::done;

/// As `info` shows it.
pub const NAME: &str = "landlock";

/// No program that is run has more rights than this one; a seccomp filter needs it.
pub fn no_new_privs() -> Result<bool, String> {
    done(prctl::set_no_new_privs())
}

/// Where the system keeps what it takes to look up names and to check certificates, and the
/// libraries that do it, in the hierarchies that are in use; whatever isn't there is left out.
const SYSTEM: &str = "\
    /etc /usr /lib /lib32 /lib64 /libx32 /gnu/store /nix/store /run/NetworkManager \
    /run/current-system /run/nscd /run/resolvconf /run/systemd/resolve \
    /var/lib/ca-certificates /var/lib/sss /var/run/nscd /dev/random /dev/urandom";

/// Files of the same kind that are often links to somewhere else.
const LINKS: [&str; 4] = [
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/etc/ssl/certs",
];

/// Opens no file but the system's own, and those only for reading; runs no program; listens on
/// no further TCP port; signals only its own threads; connects to no abstract Unix socket:
/// as far as the kernel knows how (landlock(7)). What was opened before stays open, and what a
/// helper opens may be used.
pub fn confine(_socket: &Path) -> Result<bool, String> {
    let status = restrict().map_err(|error| error.to_string())?;
    if status == RulesetStatus::NotEnforced {
        return Err("the kernel has no Landlock, or a filter denies it".into());
    }
    Ok(true)
}

fn restrict() -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::Signal | Scope::AbstractUnixSocket)?
        .create()?;
    for path in readable() {
        // What isn't there needs no rule.
        if let Ok(fd) = PathFd::new(path) {
            rules = rules.add_rule(PathBeneath::new(fd, read))?;
        }
    }
    if let Ok(fd) = PathFd::new("/dev/null") {
        rules = rules.add_rule(PathBeneath::new(fd, read | AccessFs::WriteFile))?;
    }
    #[cfg(debug_assertions)]
    if let Some(fd) = crate::server::base::drills::dir().and_then(|dir| PathFd::new(dir).ok()) {
        rules = rules.add_rule(PathBeneath::new(fd, AccessFs::RemoveFile))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// The system's own files. A link may lead out of them, and the file at its end may be replaced
/// by another: so the directory around it is readable, unless that would be the user's home.
fn readable() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = SYSTEM.split(' ').map(PathBuf::from).collect();
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let trust = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(std::env::var_os);
    let mut links: Vec<PathBuf> = trust.into_iter().flatten().map(PathBuf::from).collect();
    links.extend(LINKS.iter().map(PathBuf::from));
    let certificates: Vec<_> = links.iter().flat_map(|dir| links_in(dir)).collect();
    for link in links.into_iter().chain(certificates) {
        let Ok(end) = link.canonicalize() else {
            continue;
        };
        let around = end.parent().filter(|_| end.is_file());
        let around = around.filter(|dir| home.as_ref().is_none_or(|it| !it.starts_with(dir)));
        let place = around.map(Path::to_owned).unwrap_or(end);
        // The root isn't the system's own alone.
        let is_root = place.parent().is_none();
        if !is_root && !places.iter().any(|known| place.starts_with(known)) {
            places.push(place);
        }
    }
    places
}

/// The links in a directory that may lead out of the system's own. It is quick, since there are
/// hundreds of links to certificates and no client is served before that.
fn links_in(dir: &Path) -> Vec<PathBuf> {
    let entries = dir.read_dir().into_iter().flatten().flatten();
    let is_below = |end: &[u8], place: &str| {
        let rest = end.strip_prefix(place.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"/"))
    };
    let leads_out = |link: &PathBuf| {
        let end = link.read_link().unwrap_or_default().into_os_string();
        let end = end.as_bytes();
        end.len() > 1 && end.contains(&b'/') && !SYSTEM.split(' ').any(|place| is_below(end, place))
    };
    entries
        .map(|entry| entry.path())
        .filter(leads_out)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_that_stay_in_place_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        for (name, end) in [
            ("beside", "ca.pem"),
            ("system", "/usr/share/ca.pem"),
            ("root", "/"),
            ("own", "/opt/ca.pem"),
            ("like-system", "/usrlocal/ca.pem"),
            ("relative", "../ca.pem"),
        ] {
            symlink(end, dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("ca.pem"), "").unwrap();
        let mut found = links_in(dir.path());
        found.sort();
        let out = ["like-system", "own", "relative"].map(|it| dir.path().join(it));
        assert_eq!(found, out);
    }
}

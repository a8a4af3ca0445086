//! Which program asks, for a person who wonders why there is to be a sign-in. The token holder can't
//! look into /proc, since environments are there too; and each program chooses its name in any case.

use std::fs;

use crate::text::sanitize;

/// This program and the one that has started it, as the system calls them; `None` where it doesn't.
pub(super) fn name() -> Option<String> {
    of("self")
}

fn of(pid: &str) -> Option<String> {
    let (program, parent) = stat(pid)?;
    Some(match stat(&parent) {
        Some((parent, _)) => format!("{program}, started by {parent}"),
        None => program,
    })
}

/// A process's name, and the number of its parent (proc_pid_stat(5)).
fn stat(pid: &str) -> Option<(String, String)> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (start, rest) = stat.rsplit_once(')')?;
    let (_, name) = start.split_once('(')?;
    let parent = rest.split_whitespace().nth(1)?;
    Some((sanitize(name), parent.to_owned()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{os::unix::fs::PermissionsExt, process::Command};

    use super::*;

    #[test]
    fn a_program_is_named_with_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(") 1 (\u{1b}\u{202e}x");
        fs::copy("/bin/sleep", &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let mut child = Command::new(&path).arg("60").spawn().unwrap();
        let pid = child.id().to_string();
        let ours = stat("self").unwrap();
        let named = of(&pid);
        child.kill().unwrap();
        child.wait().unwrap();
        let wanted = format!(") 1 ( x, started by {}", ours.0);
        assert_eq!(named.as_deref(), Some(&*wanted));
        assert_eq!(ours.1, std::os::unix::process::parent_id().to_string());
        assert_eq!(of(&pid), None);
        assert_eq!(of("0"), None);
    }
}

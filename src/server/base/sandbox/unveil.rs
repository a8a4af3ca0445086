//! What OpenBSD lets a process give up: the file system (unveil(2)). Other systems have nothing.

use std::path::Path;

#[cfg(target_os = "openbsd")]
use crate::server::base::rights;

/// As `info` shows it.
pub const NAME: &str = "unveil";

/// What name lookup and the trust store need, and what is opened by its name.
#[cfg(target_os = "openbsd")]
const SYSTEM: [(&str, &std::ffi::CStr); 5] = [
    ("/dev/null", c"rw"),
    ("/etc", c"r"),
    ("/usr/lib", c"r"),
    ("/usr/local", c"r"),
    ("/usr/share", c"r"),
];

pub fn no_new_privs() -> Result<bool, String> {
    Ok(false)
}

/// Sees nothing but the system's own files, the trust store that the environment names, and
/// what is around the control socket's directory, which may be made again.
#[cfg(target_os = "openbsd")]
pub fn confine(socket: &Path) -> Result<bool, String> {
    let trust = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(std::env::var_os);
    let trust = trust.iter().flatten().map(Path::new);
    let around = socket.parent().and_then(Path::parent);
    let named = trust.chain(around).map(|path| (path, c"r"));
    let system = SYSTEM
        .iter()
        .map(|(path, rights)| (Path::new(path), *rights));
    for (path, rights) in system.chain(named) {
        // What isn't there needs no veil.
        let _ = rights::unveil(path, rights);
    }
    rights::seal_veil().map_err(|error| error.to_string())?;
    Ok(true)
}

#[cfg(not(target_os = "openbsd"))]
pub fn confine(_socket: &Path) -> Result<bool, String> {
    Ok(false)
}

//! Memory without a name, by which one server passes its state to the next: it is in no directory,
//! and gone with the last process that has it open.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
};

use serde::{Serialize, de::DeserializeOwned};

/// How much is wiped at a time, in bytes.
const PIECE: usize = 64 << 10;

/// Memory that holds `value` behind a line that says what it is. Closed on exec; of fixed size.
pub fn write(kind: &str, version: u32, value: &impl Serialize) -> io::Result<File> {
    let mut file = sys::create()?;
    let json = serde_json::to_vec(value)?;
    file.write_all(format!("{kind}{version}\n").as_bytes())?;
    file.write_all(&json)?;
    sys::seal(&file)?;
    file.rewind()?;
    Ok(file)
}

/// What [`write`] wrote.
///
/// # Errors
/// Why it can't be taken over.
pub fn read<T: DeserializeOwned>(
    kind: &str,
    known: u32,
    file: &mut impl Read,
) -> Result<T, String> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    let rest = bytes.strip_prefix(kind.as_bytes());
    let end = rest.and_then(|rest| rest.iter().position(|byte| *byte == b'\n'));
    let (Some(rest), Some(end)) = (rest, end) else {
        return Err("it is none".into());
    };
    let (version, json) = rest.split_at(end);
    if version != known.to_string().as_bytes() {
        let version = crate::text::sanitize(&String::from_utf8_lossy(version));
        return Err(format!(
            "it is of version {version}, and this program knows version {known}"
        ));
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

/// Overwrites all of it, for everybody who has it open.
pub fn wipe(mut file: &File) -> io::Result<()> {
    let mut left = file.metadata()?.len();
    file.seek(SeekFrom::Start(0))?;
    while left > 0 {
        let piece = left.min(PIECE as u64);
        let zeros = vec![0; piece as usize];
        file.write_all(&zeros)?;
        left = left.saturating_sub(piece);
    }
    Ok(())
}

/// Makes sure that `file` is such memory, this user's own, of a fixed size, and that isn't more than
/// `max_bytes`.
///
/// # Errors
/// What it is not.
pub fn check(file: &File, max_bytes: u64) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !sys::is_sealed(file) {
        return Err("it is no sealed memory".into());
    }
    if found.uid() != nix::unistd::geteuid().as_raw() {
        return Err("it is somebody else's".into());
    }
    if found.len() > max_bytes {
        return Err("it is too large".into());
    }
    Ok(())
}

/// What was in such memory is of no more use.
pub fn discard(file: &File) {
    if let Err(error) = wipe(file) {
        log::warn!("a state that was handed over can't be wiped: {error}");
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
mod sys {
    use std::{fs::File, io, os::unix::fs::PermissionsExt};

    use nix::{
        fcntl::{FcntlArg, SealFlag, fcntl},
        sys::memfd::{MFdFlags, memfd_create},
    };

    /// What stays as it is: how large it is, and that it can be wiped.
    const SEALS: SealFlag = SealFlag::F_SEAL_GROW
        .union(SealFlag::F_SEAL_SHRINK)
        .union(SealFlag::F_SEAL_SEAL);

    pub fn create() -> io::Result<File> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = File::from(memfd_create(c"pizauth", flags)?);
        // A process that finds it in /proc opens it anew, and that asks for its mode.
        file.set_permissions(PermissionsExt::from_mode(0o600))?;
        Ok(file)
    }

    pub fn seal(file: &File) -> io::Result<()> {
        fcntl(file, FcntlArg::F_ADD_SEALS(SEALS))?;
        Ok(())
    }

    pub fn is_sealed(file: &File) -> bool {
        let seals = fcntl(file, FcntlArg::F_GET_SEALS).unwrap_or(0);
        SealFlag::from_bits_retain(seals).contains(SEALS)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
mod sys {
    use std::{fs::File, io};

    pub fn create() -> io::Result<File> {
        Err(io::Error::other(
            "this system has no memory without a name: stop the server and start it",
        ))
    }

    pub fn seal(_file: &File) -> io::Result<()> {
        Ok(())
    }

    pub fn is_sealed(_file: &File) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_checked_and_wiped() {
        let Ok(mut file) = write("kind ", 1, &["a", "b"]) else {
            // A system without it.
            return;
        };
        assert_eq!(check(&file, 64), Ok(()));
        assert_eq!(check(&file, 10), Err("it is too large".into()));
        assert!(file.set_len(0).is_err() && file.set_len(1 << 20).is_err());
        let read_again = |file: &mut File| {
            file.rewind().unwrap();
            read::<Vec<String>>("kind ", 1, file)
        };
        assert_eq!(read_again(&mut file), Ok(vec!["a".into(), "b".into()]));
        wipe(&file).unwrap();
        assert_eq!(read_again(&mut file), Err("it is none".into()));
        let length = file.metadata().unwrap().len();
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, vec![0; length as usize]);
    }

    #[test]
    fn what_anybody_could_have_made_is_refused() {
        let plain = tempfile::tempfile().unwrap();
        assert_eq!(check(&plain, 64), Err("it is no sealed memory".into()));
        let pipe = File::from(std::os::fd::OwnedFd::from(
            std::os::unix::net::UnixStream::pair().unwrap().0,
        ));
        assert_eq!(check(&pipe, 64), Err("it is no sealed memory".into()));
        if let Ok(open) = sys::create() {
            assert_eq!(check(&open, 64), Err("it is no sealed memory".into()));
        }
    }
}

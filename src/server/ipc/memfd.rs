//! Memory without a name, by which one server passes its state to the next: it is in no directory,
//! and gone with the last process that has it open.

use std::os::unix::fs::FileExt;
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
};

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

/// How large a state may be, in bytes: what a dump may have, and as much again beside it. Nothing that
/// one process leaves makes another one take more memory.
pub const MAX_STATE_BYTES: u64 = 128 << 20;

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

/// How many bytes a number takes in [`counts`].
const COUNT_BYTES: u64 = 8;

/// Memory for so many numbers, each of which one process sets and another may look at. All are 0.
///
/// # Errors
/// When there is none.
pub fn counts(count: usize) -> io::Result<File> {
    let file = sys::create()?;
    file.set_len(COUNT_BYTES.saturating_mul(count as u64))?;
    Ok(file)
}

/// Sets one of them.
///
/// # Errors
/// When it isn't there.
pub fn set_count(counts: &File, number: usize, to: usize) -> io::Result<()> {
    let at = COUNT_BYTES.saturating_mul(number as u64);
    counts.write_all_at(&(to as u64).to_ne_bytes(), at)
}

/// One of them; 0 where there is none.
pub fn count(counts: &File, number: usize) -> u64 {
    let mut bytes = [0; COUNT_BYTES as usize];
    let at = COUNT_BYTES.saturating_mul(number as u64);
    let read = counts.read_exact_at(&mut bytes, at);
    read.map_or(0, |()| u64::from_ne_bytes(bytes))
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
    file.take(MAX_STATE_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    parse(kind, known, &bytes)
}

fn parse<T: DeserializeOwned>(kind: &str, known: u32, bytes: &[u8]) -> Result<T, String> {
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

/// How long the head of a checkpoint is, in bytes: its number and its length, and the SHA-256 of
/// both and of what follows.
const HEAD: usize = 8 + 8 + 32;

/// A value that changes, in two pieces of memory: at any time one of them has it whole, wherever a
/// process that writes is killed.
pub struct Checkpoints {
    files: [File; 2],
    /// How many there have been.
    count: u64,
    /// How long the last one was, in bytes; the next one is about as long.
    length: usize,
}

impl Checkpoints {
    /// Memory for a value that is still to come.
    ///
    /// # Errors
    /// When this system has none.
    pub fn create() -> io::Result<Self> {
        let files = [sys::create()?, sys::create()?];
        // What is written may grow; nothing else can be sealed.
        for file in &files {
            sys::close(file)?;
        }
        let (count, length) = (0, 0);
        Ok(Checkpoints {
            files,
            count,
            length,
        })
    }

    /// Both pieces.
    pub fn files(&self) -> &[File; 2] {
        &self.files
    }

    /// The value is `value` from now on, and the one before is wiped.
    ///
    /// # Errors
    /// When it can't be written: then the one before counts.
    pub fn write(&mut self, kind: &str, version: u32, value: &impl Serialize) -> io::Result<()> {
        // When it must grow, all of it is copied and wiped.
        let mut bytes = Vec::with_capacity(self.length.saturating_add(self.length / 8));
        bytes.resize(HEAD, 0);
        bytes.extend_from_slice(format!("{kind}{version}\n").as_bytes());
        serde_json::to_writer(&mut bytes, value)?;
        let count = self.count.wrapping_add(1);
        let [first, second] = &self.files;
        let (next, last) = if count % 2 == 0 {
            (first, second)
        } else {
            (second, first)
        };
        let length = bytes.len().saturating_sub(HEAD) as u64;
        if let Some((head, body)) = bytes.split_first_chunk_mut::<HEAD>() {
            *head = head_of(count, length, body);
        }
        next.write_all_at(&bytes, 0)?;
        (self.count, self.length) = (count, bytes.len());
        wipe(last)
    }
}

/// The head of a checkpoint.
pub fn head_of(count: u64, length: u64, body: &[u8]) -> [u8; HEAD] {
    let [count, length] = [count, length].map(u64::to_le_bytes);
    let digest = Sha256::new()
        .chain_update(count)
        .chain_update(length)
        .chain_update(body)
        .finalize();
    let parts = [count.as_slice(), length.as_slice(), digest.as_slice()];
    parts.concat().try_into().unwrap_or([0; HEAD])
}

/// The last value that [`Checkpoints::write`] wrote into one of these; `None` when there is none.
///
/// # Errors
/// Why it can't be taken over.
pub fn last_checkpoint<T: DeserializeOwned>(
    kind: &str,
    known: u32,
    files: &[File],
) -> Result<Option<T>, String> {
    let mut last: Option<(u64, Vec<u8>)> = None;
    for file in files {
        let newer = |it: &(u64, Vec<u8>)| last.as_ref().is_none_or(|(count, _)| it.0 > *count);
        last = whole_checkpoint(file)?.filter(newer).or(last);
    }
    last.map(|(_, body)| parse(kind, known, &body)).transpose()
}

/// The number and the bytes of what is there, if all of it is.
fn whole_checkpoint(file: &File) -> Result<Option<(u64, Vec<u8>)>, String> {
    let Some((head, count, length)) = head_at(file) else {
        return Ok(None);
    };
    let mut body = Vec::new();
    // Without the memory for it another try may do, and an older one won't.
    body.try_reserve_exact(length)
        .map_err(|error| error.to_string())?;
    body.resize(length, 0);
    let whole = file.read_exact_at(&mut body, HEAD as u64).is_ok()
        && head == head_of(count, length as u64, &body);
    Ok(whole.then_some((count, body)))
}

/// The head of what is there, with its number and its length, if there can be so much.
fn head_at(file: &File) -> Option<([u8; HEAD], u64, usize)> {
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, 0).ok()?;
    let (count, rest) = head.split_first_chunk::<8>()?;
    let (length, _) = rest.split_first_chunk::<8>()?;
    let (count, length) = (u64::from_le_bytes(*count), u64::from_le_bytes(*length));
    let there = file.metadata().ok()?.len().checked_sub(HEAD as u64)?;
    let possible = length > 0 && length <= there.min(MAX_STATE_BYTES);
    Some((head, count, usize::try_from(length).ok()?)).filter(|_| possible)
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

/// What only a program can say that has read all of these bytes as what they are, in hexadecimal.
pub fn proof(bytes: &[u8]) -> String {
    let digest = Sha256::new_with_prefix("pizauth can go on from ").chain_update(bytes);
    let digits = digest.finalize().into_iter();
    digits.map(|byte| format!("{byte:02x}")).collect()
}

/// Makes sure that `file` is such memory, this user's own, that nobody can seal any more, and of no
/// more than `max_bytes`.
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
        return Err("it belongs to another program".into());
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

    /// Nobody can seal it any more.
    pub fn close(file: &File) -> io::Result<()> {
        fcntl(file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SEAL))?;
        Ok(())
    }

    pub fn is_sealed(file: &File) -> bool {
        let seals = fcntl(file, FcntlArg::F_GET_SEALS).unwrap_or(0);
        SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_SEAL)
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

    pub fn close(_file: &File) -> io::Result<()> {
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

    /// As whoever runs code in a token holder may leave it.
    #[test]
    fn a_length_that_is_claimed_takes_no_memory() {
        let Ok(file) = sys::create() else {
            // A system without it.
            return;
        };
        let length = 1_u64 << 46;
        file.set_len(length + HEAD as u64).unwrap();
        file.write_all_at(&head_of(1, length, b""), 0).unwrap();
        assert_eq!(last_checkpoint::<u32>("kind ", 1, &[file]), Ok(None));
    }

    #[test]
    fn the_last_whole_checkpoint_counts_wherever_a_write_ended() {
        let Ok(mut checkpoints) = Checkpoints::create() else {
            // A system without it.
            return;
        };
        let last = |files: &[File]| last_checkpoint::<Vec<u32>>("kind ", 1, files);
        assert_eq!(last(checkpoints.files()), Ok(None));
        for count in 1..=5_u32 {
            checkpoints.write("kind ", 1, &vec![count; 100]).unwrap();
            assert_eq!(last(checkpoints.files()), Ok(Some(vec![count; 100])));
        }
        // The one before is gone.
        let [first, second] = checkpoints.files();
        let wiped = |file: &File| {
            let mut bytes = vec![1; file.metadata().unwrap().len() as usize];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes.iter().all(|byte| *byte == 0)
        };
        assert!(wiped(first) && !wiped(second));
        // A write that ends at any byte, before the other one is wiped.
        let mut bytes = vec![0; second.metadata().unwrap().len() as usize];
        second.read_exact_at(&mut bytes, 0).unwrap();
        checkpoints.write("kind ", 1, &vec![6_u32; 100]).unwrap();
        let [first, second] = checkpoints.files();
        let mut newer = vec![0; first.metadata().unwrap().len() as usize];
        first.read_exact_at(&mut newer, 0).unwrap();
        second.write_all_at(&bytes, 0).unwrap();
        for end in 0..newer.len() {
            first.write_all_at(&vec![0; newer.len()], 0).unwrap();
            first.write_all_at(&newer[..end], 0).unwrap();
            let files = checkpoints.files();
            assert_eq!(last(files), Ok(Some(vec![5; 100])), "{end}");
        }
        checkpoints.files[0].write_all_at(&newer, 0).unwrap();
        assert_eq!(last(checkpoints.files()), Ok(Some(vec![6; 100])));
        let other = last_checkpoint::<Vec<u32>>("kind ", 2, checkpoints.files());
        assert!(other.unwrap_err().contains("version 1"));
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

//! `pizauth dump`: the sealed tokens, on stdout or in a file that is whole or isn't there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{ask, is_terminal, print};
use crate::error::{Exit, Failure};
use crate::{cli::DumpOptions, wire::Request};

pub(super) fn run(options: &DumpOptions) -> Result<(), Failure> {
    match &options.file {
        Some(file) => {
            let dump = ask(&Request::Dump)?;
            save(file, &dump).map_err(|error| {
                let what = format!("can't write the dump to {}: {error}", file.display());
                Failure::other(what)
            })
        }
        None if is_terminal() && !options.force => Err(Failure::new(
            Exit::Usage,
            "a dump holds tokens: not writing it to a terminal",
        )
        .hint("give a file with `-o`, or redirect the output into a command")),
        None => print(&ask(&Request::Dump)?),
    }
}

/// Puts `bytes` into `file`, readable by its owner alone. Whatever happens meanwhile, the file is
/// the old one or the new one, on the disk too.
pub(super) fn save(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = destination(file)?;
    let name = file.file_name().ok_or(ErrorKind::IsADirectory)?;
    let directory = match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    let beside = directory.join(hidden);
    let outcome = write(&beside, bytes)
        .and_then(|()| fs::rename(&beside, &file))
        // The name is on the disk when its directory is.
        .and_then(|()| File::open(directory)?.sync_all());
    if outcome.is_err() {
        // It may be there or not; either way it isn't the dump.
        let _ = fs::remove_file(&beside);
    }
    outcome
}

/// What `file` stands for: a link is followed, and only a regular file is replaced.
fn destination(file: &Path) -> io::Result<PathBuf> {
    match fs::metadata(file) {
        Ok(found) if found.is_file() => fs::canonicalize(file),
        Ok(_) => Err(io::Error::other("it is there and no regular file")),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Err(_) if file.is_symlink() => Err(io::Error::other("it is a link to nothing")),
        Err(_) => Ok(file.to_owned()),
    }
}

fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    // A new file, so that its mode is ours and nobody has it open.
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    file.write_all(bytes)?;
    file.sync_all()
}

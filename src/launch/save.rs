//! Writing `lpm.toml`, for who wants a running stack's change to stay.
//!
//! Beside the file first, then in its place: whatever happens, there is a whole one.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::error::{Error, tell, words};

/// Has `amend` change the text of the file at `path`, which need not be there, and says so.
///
/// # Errors
/// The file cannot be read, amended or written; it is as it was then, though the stack is changed.
pub fn into(path: &str, amend: impl FnOnce(&str) -> Result<String, String>) -> Result<(), Error> {
    let refused =
        |why: String| Error::new(format!("{path}: {why}; the running stack is changed, the file is not"));
    // What is neither may keep us waiting, or be nobody's to replace: with /dev/null people mask a file.
    if std::fs::metadata(path).is_ok_and(|data| !data.is_file() && !data.is_dir()) {
        return Err(refused("is no file".to_owned()));
    }
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(refused(format!("cannot be read: {}", words(error)))),
    };
    let text = amend(&text).map_err(refused)?;
    replace(Path::new(path), &text)
        .map_err(|error| refused(format!("cannot be written: {}", words(error))))?;
    tell(format_args!("lpm: written to {path}"));
    Ok(())
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    // Where it is a link, what it leads to is replaced, not the link.
    let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let beside = place.with_extension(format!("toml.{}", std::process::id()));
    let written = File::options().write(true).create_new(true).open(&beside).and_then(|mut file| {
        if let Ok(data) = std::fs::metadata(&place) {
            file.set_permissions(data.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let replaced = written.and_then(|()| std::fs::rename(&beside, &place));
    if replaced.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    replaced
}

//! Writing `lpm.toml`, for who wants a running stack's change to stay.

use std::path::Path;

use crate::error::{Error, tell, words};
use crate::launch::replace::Target;

/// Has `amend` change the text of the file at `path`, which need not be there, and says so.
///
/// # Errors
/// The file cannot be read, amended or written; it is as it was then, though the stack is changed.
pub fn into(path: &str, amend: impl FnOnce(&str) -> Result<String, String>) -> Result<(), Error> {
    let refused =
        |why: String| Error::new(format!("{path}: {why}; the running stack is changed, the file is not"));
    let unwritable = |why: String| refused(format!("cannot be written: {why}"));
    // With /dev/null people mask a file, and a pipe would keep us waiting.
    if std::fs::metadata(path).is_ok_and(|data| !data.is_file() && !data.is_dir()) {
        return Err(refused("is no file".to_owned()));
    }
    let target = Target::at(Path::new(path)).map_err(unwritable)?;
    if !target.is_regular() {
        return Err(refused("is no file".to_owned()));
    }
    // Another `--save` amends what this one has written.
    let _lock = target.lock().map_err(unwritable)?;
    let text = target.read().map_err(|error| refused(format!("cannot be read: {}", words(error))))?;
    let text = amend(&text).map_err(refused)?;
    target.write(text.as_bytes()).map_err(unwritable)?;
    tell(format_args!("lpm: written to {path}"));
    Ok(())
}

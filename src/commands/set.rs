//! `lpm set`.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;

use crate::cli::{Origins, Set};
use crate::config::{self, Assignment};
use crate::control::interface::{Changed, SetParameters};
use crate::error::{Error, tell, words};
use crate::launch::gather::Surroundings;
use crate::launch::{look, print, reach};
use crate::supervisor::Ending;
use crate::view;

/// Changes the running stack, and with `--save` also `lpm.toml`.
///
/// # Errors
/// A setting that is none; there is no such stack or process; a ceiling that cannot be enforced; the file cannot be
/// written (the stack is changed by then, and that is said).
pub fn set(around: &Surroundings, arguments: Set, origins: &Origins) -> Result<Ending, Error> {
    let Set { whom: name, settings, target, save, json } = arguments;
    let assignments = config::assignments(&name, &settings).map_err(Error::new)?;
    let mut client = reach::reach(around, &target, origins)?;
    let settings = assignments.iter().map(|one| (one.key.clone(), one.value.clone())).collect();
    let reply: Value = client.call("Set", &SetParameters { name, settings }).map_err(reach::told)?;
    if save {
        let status: Value =
            client.call("Status", &Value::Object(serde_json::Map::new())).map_err(reach::told)?;
        let manifest = status["stack"]["manifest"].as_str().unwrap_or_default().to_owned();
        write_down(Path::new(&manifest), &assignments)?;
        tell(format_args!("lpm: written to {manifest}"));
    }
    if json {
        return print(&format!("{reply:#}\n"));
    }
    let Changed { changes } = reach::understood(reply)?;
    print(&view::changes(&changes, &look::of_terminal(around)))
}

/// Beside the file first, then in its place: whatever happens, there is a whole one.
fn write_down(path: &Path, assignments: &[Assignment]) -> Result<(), Error> {
    let refused = |why: String| {
        Error::new(format!("{}: {why}; the running stack is changed, the file is not", path.display()))
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(refused(format!("cannot be read: {}", words(error)))),
    };
    let text = config::amend::save(&text, assignments).map_err(refused)?;
    replace(path, &text).map_err(|error| refused(format!("cannot be written: {}", words(error))))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    // Where it is a link, what it leads to is replaced, not the link.
    let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let beside = place.with_extension(format!("toml.{}", std::process::id()));
    let result = File::options()
        .write(true)
        .create_new(true)
        .open(&beside)
        .and_then(|mut file| {
            if let Ok(data) = std::fs::metadata(&place) {
                file.set_permissions(data.permissions())?;
            }
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&beside, &place));
    if result.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    result
}

//! Why a program that is there cannot be executed: the interpreter that its first line names is missing, for which the
//! kernel has the same errno as for a missing program (execve(2), `ENOENT`).

use std::ffi::{CStr, OsStr};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::config::Instance;
use crate::linux::birth::Environment;

/// The kernel reads no more of a script (BINPRM_BUF_SIZE).
const FIRST_LINE: u64 = 256;

/// The interpreter of a program that is there, if it is not. Reads files, so that it may block.
pub(super) fn missing(program: &CStr, instance: &Instance, environment: &Environment) -> Option<String> {
    let directories = environment.value("PATH").unwrap_or(b"/usr/bin:/bin");
    let file = find(program.to_bytes(), &instance.working_directory, directories)?;
    let interpreter = interpreter(&first_line(&file)?)?;
    let path = instance.working_directory.join(OsStr::from_bytes(&interpreter));
    let missing = matches!(path.metadata(), Err(error) if error.kind() == std::io::ErrorKind::NotFound);
    missing.then(|| String::from_utf8_lossy(&interpreter).into_owned())
}

/// The program as execvp(3) finds it.
fn find(program: &[u8], directory: &Path, path: &[u8]) -> Option<PathBuf> {
    if program.contains(&b'/') {
        return Some(directory.join(OsStr::from_bytes(program)));
    }
    let mut candidates = path
        .split(|&byte| byte == b':')
        .map(|dir| directory.join(OsStr::from_bytes(dir)).join(OsStr::from_bytes(program)));
    candidates.find(|candidate| candidate.is_file())
}

fn first_line(file: &Path) -> Option<Vec<u8>> {
    // A FIFO would be waited for.
    if !file.is_file() {
        return None;
    }
    let mut text = Vec::new();
    std::fs::File::open(file).ok()?.take(FIRST_LINE).read_to_end(&mut text).ok()?;
    text.split(|&byte| byte == b'\n').next().map(<[u8]>::to_vec)
}

/// `/bin/sh` of `#! /bin/sh -e`.
fn interpreter(line: &[u8]) -> Option<Vec<u8>> {
    let rest = line.strip_prefix(b"#!")?;
    let mut words = rest.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    words.next().map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_is_the_first_word_of_a_script() {
        assert_eq!(interpreter(b"#!/bin/sh"), Some(b"/bin/sh".to_vec()));
        assert_eq!(interpreter(b"#! \t/usr/bin/env  ruby"), Some(b"/usr/bin/env".to_vec()));
        assert_eq!(interpreter(b"#!"), None);
        assert_eq!(interpreter(b"\x7fELF"), None);
    }

    #[test]
    fn a_program_is_found_as_the_kernel_does_it() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("bin")).unwrap();
        std::fs::write(temp.path().join("bin/tool"), "#!/nonexistent -x\n").unwrap();
        let file = temp.path().join("bin/tool");
        assert_eq!(find(b"bin/tool", temp.path(), b""), Some(file.clone()));
        assert_eq!(find(b"tool", temp.path(), b"/nowhere:bin"), Some(file.clone()));
        assert_eq!(find(b"other", temp.path(), b"/nowhere:bin"), None);
        assert_eq!(first_line(&file), Some(b"#!/nonexistent -x".to_vec()));
        assert_eq!(first_line(temp.path()), None);
    }
}

//! placeholder
pub const GUARD: &str = "LPM_SCOPE";
pub fn execute_again(_argv: &[std::ffi::OsString], _environment: &[(std::ffi::OsString, std::ffi::OsString)], _name: &str, _user: bool, _stdin: Option<&[u8]>) -> std::io::Error { std::io::Error::other("no") }

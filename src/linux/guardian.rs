//! placeholder
use std::os::fd::{BorrowedFd, AsFd, OwnedFd};
pub const ARGUMENT: &str = "__guard";
pub fn main(_: &[std::ffi::OsString]) -> std::process::ExitCode { std::process::ExitCode::SUCCESS }
pub struct Guardian { fd: OwnedFd }
impl Guardian {
    pub fn spawn(_tree: &super::tier::Tree) -> std::io::Result<Guardian> { Ok(Guardian { fd: super::pidfd::PidFd::open(rustix::process::getpid()).unwrap().unwrap().into() }) }
    pub fn pidfd(&self) -> BorrowedFd<'_> { self.fd.as_fd() }
    pub fn pid(&self) -> u32 { 0 }
    pub fn replace(self) -> std::io::Result<Guardian> { Ok(self) }
    pub fn dismiss(self) {}
}

//! Extended attributes and access control lists, given from a file to the one that takes its place (xattr(7), acl(5)).
//!
//! All of them are given but for signatures and privileges of the old content. A list that the new file has from its
//! directory is taken away where the old file had none: it would let in others than the old file did.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr, getxattr, listxattr};
use rustix::io::Errno;

/// The most bytes of an attribute's value and of the list of their names (xattr(7), XATTR_SIZE_MAX, XATTR_LIST_MAX).
const LONGEST: usize = 64 * 1024;

/// An access control list, as the kernel has it.
const ACCESS_LIST: &CStr = c"system.posix_acl_access";

/// What belongs to the old content: a privilege of a program, which lpm does not write, and signatures.
const OF_THE_CONTENT: [&CStr; 3] = [c"security.capability", c"security.ima", c"security.evm"];

/// An attribute that could not be given.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// Which; `None` where they cannot be listed.
    pub name: Option<String>,
    pub errno: Errno,
}

/// Gives `new` the attributes of `old`, which may be open as a mere path.
///
/// # Errors
/// The first attribute that cannot be given.
pub(super) fn give(old: &OwnedFd, new: impl AsFd) -> Result<(), Lost> {
    // A file that is open as a mere path is refused by fgetxattr(2).
    let old = format!("/proc/self/fd/{}", old.as_raw_fd());
    let list = names(&old).map_err(|errno| Lost { name: None, errno })?;
    let names: Vec<&CStr> = list
        .split_inclusive(|&byte| byte == 0)
        .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
        .collect();
    for &name in names.iter().filter(|name| !OF_THE_CONTENT.contains(name)) {
        give_one(&old, &new, name)
            .map_err(|errno| Lost { name: Some(name.to_string_lossy().into_owned()), errno })?;
    }
    if names.contains(&ACCESS_LIST) {
        return Ok(());
    }
    match fremovexattr(&new, ACCESS_LIST) {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(errno) => Err(Lost { name: Some(ACCESS_LIST.to_string_lossy().into_owned()), errno }),
    }
}

/// The names, each with a NUL behind it.
fn names(path: &str) -> Result<Vec<u8>, Errno> {
    let mut list = vec![0; LONGEST];
    match listxattr(path, &mut list) {
        Ok(length) => list.truncate(length),
        // A file system without attributes.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => list.clear(),
        Err(errno) => return Err(errno),
    }
    Ok(list)
}

fn give_one(old: &str, new: impl AsFd, name: &CStr) -> Result<(), Errno> {
    let (mut value, mut there) = (vec![0; LONGEST], vec![0; LONGEST]);
    match getxattr(old, name, &mut value) {
        Ok(length) => value.truncate(length),
        // It went meanwhile.
        Err(Errno::NODATA) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    // What every file has (a label, the list of a network file system) may be the same already, and need not be ours
    // to set.
    if fgetxattr(&new, name, &mut there).is_ok_and(|length| there[..length] == value) {
        return Ok(());
    }
    fsetxattr(&new, name, &value, XattrFlags::empty())
}

//! A tree whose owner was killed, and its guardian too: end what runs in it, remove it.

use std::path::Path;

use rustix::io::Errno;

use super::cgroup::Cgroup;
use super::tier::{APP, SUPERVISOR};

/// How long killed processes may take to be gone, ms between two changes.
const PATIENCE: i64 = 5000;

/// Ends and removes what is left of the tree at `path`; how many processes were in it. `None`: nothing is
/// there any more. `own`: the whole directory was made by lpm; otherwise only what lpm made in it is.
///
/// # Errors
/// `EBUSY` if somebody does not die, `EACCES` if it is not ours after all.
pub fn remove(path: &Path, own: bool) -> Result<Option<usize>, Errno> {
    let root = match Cgroup::open(path) {
        // Whatever is there now, it is not what was recorded.
        Err(Errno::NOENT | Errno::NODEV | Errno::XDEV | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        root => root?,
    };
    let app = match root.child(APP) {
        Err(Errno::NOENT | Errno::NODEV) if !own => return Ok(None),
        Err(Errno::NOENT | Errno::NODEV) => None,
        app => Some(app?),
    };
    let mut ended = 0;
    for part in app.iter().chain(root.child(SUPERVISOR).iter()) {
        ended += population(part)?;
        part.kill()?;
        match part.events() {
            Ok(events) if events.wait_empty(Some(PATIENCE))? => {}
            Ok(_) => return Err(Errno::BUSY),
            // Its owner was faster: systemd removes a scope once nobody is in it.
            Err(Errno::NOENT | Errno::NODEV) => {}
            Err(errno) => return Err(errno),
        }
    }
    root.remove(APP)?;
    root.remove(SUPERVISOR)?;
    if let (true, Some(parent), Some(name)) = (own, path.parent(), path.file_name().and_then(|n| n.to_str()))
    {
        Cgroup::open(parent)?.remove(name)?;
    }
    Ok(Some(ended))
}

/// How many processes are in it and below.
fn population(cgroup: &Cgroup) -> Result<usize, Errno> {
    let mut count = cgroup.procs()?.len();
    for name in cgroup.children()? {
        count += cgroup.child(&name).map_or(Ok(0), |child| population(&child))?;
    }
    Ok(count)
}

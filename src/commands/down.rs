//! `lpm down`.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;
use serde_json::Value;

use crate::cli::{Down, Origins};
use crate::client::reach;
use crate::control::interface::DownParameters;
use crate::error::Error;
use crate::launch::gather::Surroundings;
use crate::launch::print_json;
use crate::linux::pidfd::PidFd;
use crate::supervisor::Ending;

/// How long lpm may take to end after it hung up.
const LAST: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Has the stack torn down, and returns when lpm itself is gone too: then it can be started again.
///
/// # Errors
/// There is no such stack; lpm itself does not end.
pub fn down(around: &Surroundings, arguments: Down, origins: &Origins) -> Result<Ending, Error> {
    let Down { target, no_wait, json } = arguments;
    let mut client = reach::reach(around, &target, origins)?;
    // Before anything is asked, while the number is its.
    let owner = client.owner().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let lpm = owner.and_then(|pid| PidFd::open(pid).ok().flatten());
    let reply: Value = client.call("Down", &DownParameters { wait: Some(!no_wait) }).map_err(reach::told)?;
    if !no_wait {
        client.wait_for_the_end().map_err(reach::told)?;
        if let (Some(lpm), Some(pid)) = (lpm, owner)
            && poll(&mut [PollFd::new(&lpm, PollFlags::IN)], Some(&LAST)) == Ok(0)
        {
            let pid = pid.as_raw_pid();
            return Err(Error::new(format!("the stack is down, but lpm (pid {pid}) does not end")));
        }
    }
    if json { print_json(&reply) } else { Ok(Ending::Code(0)) }
}

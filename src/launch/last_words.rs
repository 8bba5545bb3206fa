//! What lpm says and writes when everything is over: strays, the table, failures, the report, the summary, and to the
//! launcher whether the stack was ever up.

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::gather::Surroundings;
use super::recorder::{self, Recorder};
use super::replace::Target;
use super::{ground, look};
use crate::driver::{Failed, Launcher, News, Run, Stray};
use crate::error::{Error, tell, tell_drawn, words};
use crate::linux::tier::Tier;
use crate::supervisor::{Ending, policy};
use crate::wording::summary::{self, Row, Summary};
use crate::{escape, report, view};

/// What is to be said and written.
pub(super) struct LastWords {
    /// What the machine offered.
    pub tier: Tier,
    /// A table of the instances.
    pub table: bool,
    /// The summary.
    pub summary_file: Option<LastWord>,
    /// The report, and what recorded it.
    pub report_file: Option<LastWord>,
    /// As above.
    pub recorder: Option<Recorder>,
    /// The process that waits for the stack to be up.
    pub launcher: Option<Launcher>,
}

impl LastWords {
    /// Says and writes all of it. Nothing of the stack is left by now, except what is said.
    pub(super) fn tell(self, run: Run) {
        tell_strays(&run.strays);
        let mut rows: Vec<Row<'_>> = summary::rows(&run.stack, run.core.instances());
        for row in &mut rows {
            let failed = run.failed.iter().find(|failed| failed.name == row.name);
            row.failure = failed.map(|failed| failed.failure.cause().to_owned());
        }
        if self.table {
            tell(summary::table(&rows).trim_end());
            tell_failures(run.failed);
        }
        let exit_code = match run.ending {
            Ending::Code(code) => code,
            Ending::Signal(signal) => policy::signal_code(signal),
        };
        if let (Some(recorder), Some(file)) = (self.recorder, self.report_file) {
            let ended =
                recorder::Ended { stack: &run.stack, tier: &ground::told(self.tier), exit_code, rows: &rows };
            write_report(recorder, file, &ended);
        }
        if let Some(file) = self.summary_file {
            let summary = Summary {
                stack: &run.stack.name,
                tier: &self.tier.to_string(),
                seconds: run.took.as_secs_f64(),
                exit_code,
                strays: run.strays.len(),
                instances: rows,
            };
            let text = serde_json::to_string_pretty(&summary).expect("a summary is plain data") + "\n";
            file.write(escape::json(&text).into_owned());
        }
        // Last of all: whoever hears of it may count on nothing being left.
        if let (Some(launcher), Some(mut lines)) = (&self.launcher, run.never_up) {
            lines.push(format!("lpm: stack {} did not come up", run.stack.name));
            launcher.tell(&News::Failed { code: exit_code, lines });
        }
    }
}

/// Processes outside of every cgroup of the stack.
fn tell_strays(strays: &[Stray]) {
    for Stray { pid, name, lives } in strays {
        let name = name.escape_debug();
        match lives {
            None => tell(format_args!(
                "lpm: {pid} ({name}) was outside every cgroup of the stack, and was killed"
            )),
            Some(why) => {
                tell(format_args!("lpm: {pid} ({name}) is still running and cannot be killed: {why}"))
            }
        }
    }
}

fn write_report(recorder: Recorder, file: LastWord, ended: &recorder::Ended<'_>) {
    let as_data = file.path.extension().is_some_and(|end| end == "json");
    match recorder.finish(ended) {
        Some(report) if as_data => file.write(escape::json(&report::json(&report)).into_owned()),
        Some(report) => file.write(report::html(&report, &look::zone())),
        None => {
            tell(format_args!("lpm: {}: no report: the last look at the stack hangs", file.path.display()));
        }
    }
}

/// The most failures that are told at the end.
const MOST_FAILURES: usize = 5;

/// Why instances failed, a block for each. Where there were many, the first of them brought the others with it more
/// often than not.
fn tell_failures(failed: Vec<Failed>) {
    let look = look::of_stderr();
    let more = failed.len().saturating_sub(MOST_FAILURES);
    for one in failed.into_iter().take(MOST_FAILURES) {
        let block = view::failure(&one.name, &one.command, &one.failure.look(), &look);
        tell_drawn(format_args!("\n{}", block.trim_end()));
    }
    if more > 0 {
        tell(format_args!("\nand {more} more, in the table above"));
    }
}

/// A file that is written when all is over. Whether it can be written is tried before anything runs, so that what is wrong
/// is found in time.
pub(super) struct LastWord {
    target: Target,
    path: PathBuf,
    what: &'static str,
}

impl LastWord {
    pub(super) fn open(around: &Surroundings, path: &Path, what: &'static str) -> Result<LastWord, Error> {
        let path = around.directory.join(path);
        let found = Target::at(&path).and_then(|target| target.probe().map(|()| target));
        match found {
            Ok(target) => Ok(LastWord { target, path, what }),
            Err(why) => Err(Error::new(format!("{}: the {what} cannot be written: {why}", path.display()))),
        }
    }

    /// Writes on a thread of its own: clients that wait for the end of the stack wait for this too, and a disk may hang.
    fn write(self, text: String) {
        /// Enough for a slow disk, and for a reader of a pipe that thinks about each page.
        const PATIENCE: Duration = Duration::from_secs(5);
        let LastWord { target, path, what } = self;
        let (done, written) = channel();
        let write = move || drop(done.send(target.write(text.as_bytes())));
        let thread = std::thread::Builder::new().name("lpm-last-word".into()).spawn(write);
        let trouble = match thread.map(|_| written.recv_timeout(PATIENCE)) {
            Ok(Ok(Ok(()))) => return,
            Ok(Ok(Err(why))) => format!("cannot be written: {why}"),
            Ok(Err(_)) => format!("is not written after {} s, lpm ends without it", PATIENCE.as_secs()),
            Err(error) => format!("cannot be written: {}", words(error)),
        };
        tell(format_args!("lpm: {}: the {what} {trouble}", path.display()));
    }
}

//! The instances' own terminals (`--pty`): a screen for each, and their sizes.
//!
//! A screen is kept over the lives of its instance; the terminal itself belongs to one life. A program's lines
//! stand behind a prefix, so its terminal is narrower than lpm's own by that; where lpm's lines go to no
//! terminal, it has the size that terminals had first. Whoever views a screen decides its size instead, until he
//! leaves.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Driver;
use crate::linux::pty::{self, Size};
use crate::output::screen::Screen;
use crate::output::{Layout, Stream};
use crate::supervisor::{InstanceId, Life};

/// Where there is no terminal to take the size from.
const FIRST: Size = Size { rows: 24, columns: 80 };

/// Programs break where a line has less room than this.
const NARROWEST: u16 = 20;

/// The screens, and what they take their size from.
pub(super) struct Terminals {
    /// lpm's own terminal, where its lines go.
    window: Option<OwnedFd>,
    layout: Layout,
    screens: HashMap<InstanceId, Arc<Screen>>,
}

impl Terminals {
    /// `output`: where lpm's lines go, looked at only if there are instances with terminals.
    pub(super) fn new(output: &OwnedFd, layout: Layout, wanted: bool) -> std::io::Result<Terminals> {
        let is_window = wanted && rustix::termios::isatty(output);
        let window = is_window.then(|| output.try_clone()).transpose()?;
        Ok(Terminals { window, layout, screens: HashMap::new() })
    }

    /// The size for those that nobody views.
    fn size(&self) -> Size {
        match self.window.as_ref().and_then(pty::size_of) {
            Some(Size { rows, columns }) => {
                let prefix = u16::try_from(self.layout.columns_before_text()).unwrap_or(u16::MAX);
                Size { rows, columns: columns.saturating_sub(prefix).max(NARROWEST) }
            }
            None => FIRST,
        }
    }

    /// The instance's screen, made if it is the first time.
    fn screen(&mut self, id: InstanceId) -> &Arc<Screen> {
        let Size { rows, columns } = self.size();
        self.screens.entry(id).or_insert_with(|| Screen::new(rows, columns))
    }
}

impl Driver {
    /// The size of the terminal that an instance's next life is to have, if it is to have one.
    pub(super) fn terminal_for(&mut self, id: InstanceId) -> Option<Size> {
        // Without streams of its own it shares ours, terminal and all.
        let wanted = self.stack.instances[id.0 as usize].pty && !self.streams.is_empty();
        wanted.then(|| size_of(self.terminals.screen(id)))
    }

    /// A new life's terminal is read from now on, if it has one.
    pub(super) fn open_terminal(&mut self, life: Life) {
        let Some((screen, master)) = self.terminal_of(life.instance) else { return };
        // It may have changed while the birth was under way.
        let _ = pty::set_size(&master, size_of(&screen));
        self.open(life, master, Stream::Merged, Some(screen));
    }

    /// The screen and the terminal of an instance that has one and lives.
    pub(super) fn terminal_of(&self, id: InstanceId) -> Option<(Arc<Screen>, Arc<OwnedFd>)> {
        let master = self.lives[id.0 as usize].as_ref()?.terminal.as_ref()?;
        Some((Arc::clone(self.terminals.screens.get(&id)?), Arc::clone(master)))
    }

    /// Gives lpm's own size, less the prefix, to all that nobody views. To be called when that changes, and when
    /// a viewer has left.
    pub(super) fn fit_terminals(&self) {
        let Size { rows, columns } = self.terminals.size();
        for (&id, screen) in self.terminals.screens.iter().filter(|(_, screen)| !screen.is_viewed()) {
            screen.resize(rows, columns);
            if let Some((screen, master)) = self.terminal_of(id) {
                // One that was hung up needs no size any more.
                let _ = pty::set_size(&master, size_of(&screen));
            }
        }
    }
}

/// Gives a terminal and its screen another size, within the screen's bounds.
pub(super) fn resize(master: &OwnedFd, screen: &Screen, rows: u16, columns: u16) {
    screen.resize(rows, columns);
    // One that was hung up needs no size any more.
    let _ = pty::set_size(master, size_of(screen));
}

/// A terminal has the size of its screen, which has bounds.
fn size_of(screen: &Screen) -> Size {
    let (rows, columns) = screen.size();
    Size { rows, columns }
}

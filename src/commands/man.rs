//! `lpm man`: the manual pages, made of the same text as `--help`.

use std::path::Path;

use clap_mangen::Man as Page;

use crate::cli::{self, Man};
use crate::error::{Error, words};
use crate::launch::gather::Surroundings;
use crate::launch::replace::Target;
use crate::launch::{print, say};
use crate::supervisor::Ending;

/// Prints lpm.1, or writes it and a page for each subcommand into a directory.
///
/// # Errors
/// The directory cannot be written to.
pub fn man(around: &Surroundings, arguments: &Man) -> Result<Ending, Error> {
    let command = cli::command();
    let Some(directory) = &arguments.directory else { return print(&page(command, "lpm")?) };
    let directory = around.directory.join(directory);
    let refused = |path: &Path, error| Error::new(format!("{}: {}", path.display(), words(error)));
    std::fs::create_dir_all(&directory).map_err(|error| refused(&directory, error))?;
    let of = |subcommand: &clap::Command| (format!("lpm-{}", subcommand.get_name()), subcommand.clone());
    let pages = command.get_subcommands().map(of).chain([("lpm".to_owned(), command.clone())]);
    let mut written = 0;
    for (name, command) in pages {
        let path = directory.join(format!("{name}.1"));
        let text = page(command, &name)?;
        let replaced = Target::at(&path).and_then(|target| target.write(text.as_bytes()));
        replaced.map_err(|why| Error::new(format!("{}: {why}", path.display())))?;
        written += 1;
    }
    say(&format!("wrote {written} pages to {} (man -l {0}/lpm.1)\n", directory.display()))
}

fn page(command: clap::Command, name: &str) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let unwritable = |error: std::io::Error| Error::new(format!("the page cannot be made: {}", words(error)));
    // What is typed has a blank where the page's name has a dash.
    let command = command.bin_name(name.replacen('-', " ", 1)).display_name(name);
    let source = concat!("lpm ", env!("CARGO_PKG_VERSION"));
    Page::new(command)
        .title(name)
        .source(source)
        .manual("User commands")
        .render(&mut bytes)
        .map_err(unwritable)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

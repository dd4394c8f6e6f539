//! What comes with a packaged program: completions for shells, and the manual, both made from the flags.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// For this shell; the text goes to standard output
    shell: Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder for the pages, activitystreamer.1 and one for each command
    folder: PathBuf,
}

/// Prints a shell's completions.
pub fn completions(args: &CompletionArgs) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "activitystreamer", &mut text);
    print(&text)
}

/// Writes what was asked for to standard output. That somebody has read enough of it is no failure.
pub fn print(text: &[u8]) -> ExitCode {
    match io::stdout().write_all(text).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        written => over(written, "standard output"),
    }
}

/// Writes the manual's pages.
pub fn man(args: &ManArgs) -> ExitCode {
    let written = std::fs::create_dir_all(&args.folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.folder));
    over(written, &args.folder.display().to_string())
}

fn over(result: io::Result<()>, place: &str) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {place} cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

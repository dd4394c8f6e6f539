//! The client on the command line: its flags, and whether it takes the screen.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::PORT;
use super::values::{host, server_at};
use crate::client;

/// What its help says at the end.
pub const HELP: &str = "\
A line of input that is a JSON object is said as it is; any other text becomes {\"message\": text}. Each \
activity heard, one's own too, is one line of JSON on standard output. At the end of input the client logs \
out, prints what it is still owed, and ends.

On a terminal the client takes the whole screen: what is said, a line on how the connection is, and one to write on. \
/help shows its keys, /quit leaves. When the connection breaks it looks for another server by itself. In a pipe, with \
--plain, --listen or --count it does not: it ends, unless it has a --memory.

With --memory nothing is lost, repeated or swapped, whatever breaks, not even when the client itself is killed: run it \
again with the same file and name. What was said and not yet safe is said first. In a pipe, too, a broken connection \
is made again, until the server has all of the input. The line that was being printed when it was killed may be printed again.

With -u alone the name is registered with a secret made here, which is shown once and remembered in \
$XDG_CONFIG_HOME/activitystreamer/secrets (~/.config/activitystreamer/secrets) for that host and name; from then on -u \
alone logs in. With -u and -s it logs in; with neither it is anonymous. The flags -rh, -rp and -lp may be written with one dash.

Exit codes: 0 all was said and heard; 1 no connection, or it was lost; 2 wrong command line; 3 name or secret \
refused; 4 a message refused, or input that cannot be read; 5 the output cannot be written.";

/// The flags of `client`.
#[derive(Debug, Args)]
pub struct ClientArgs {
    /// The server's host name or address [-rh]
    #[arg(long, alias = "rh", value_name = "HOST", default_value = "localhost", value_parser = host)]
    pub remote_host: String,
    /// The server's port [-rp]
    #[arg(long, alias = "rp", value_name = "PORT", default_value_t = PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub remote_port: u16,
    /// Another server, tried when that one is not there (on a terminal, and with --memory); may be given again
    #[arg(long, value_name = "HOST:PORT", value_parser = server_at)]
    pub also: Vec<(String, u16)>,
    /// User name
    #[arg(short, long, value_name = "NAME")]
    pub username: Option<String>,
    /// The secret the name was registered with
    #[arg(short, long, value_name = "SECRET", requires = "username")]
    pub secret: Option<String>,
    /// Port to connect from [-lp]
    #[arg(long, alias = "lp", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub local_port: Option<u16>,
    /// Only listen: standard input is not read, and its end does not end the client
    #[arg(long)]
    pub listen: bool,
    /// End after so many activities were heard
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Say and hear everything once, over all connections and runs: what is needed for that is in this file
    #[arg(long, value_name = "FILE")]
    pub memory: Option<PathBuf>,
    /// Take no terminal for itself, as in a pipe
    #[arg(long)]
    pub plain: bool,
}

impl ClientArgs {
    /// Whether it takes the whole screen.
    pub fn on_screen(&self) -> bool {
        let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let is_dumb = std::env::var_os("TERM").is_none_or(|kind| kind == "dumb");
        let wanted = !self.plain && !self.listen && self.count.is_none();
        cfg!(feature = "terminal") && wanted && is_terminal && !is_dumb
    }
}

/// Runs a client.
pub fn run(args: ClientArgs) -> ExitCode {
    #[cfg(feature = "terminal")]
    let on_screen = args.on_screen();
    let options = client::Options {
        host: args.remote_host,
        port: args.remote_port,
        others: args.also,
        name: args.username,
        secret: args.secret,
        local_port: args.local_port,
        listen: args.listen,
        count: args.count,
        memory: args.memory,
        keys: client::Keyring::of_the_user(),
    };
    #[cfg(feature = "terminal")]
    if on_screen {
        return client::terminal::run(&options).into();
    }
    client::run(&options, std::io::stdin(), std::io::stdout()).into()
}

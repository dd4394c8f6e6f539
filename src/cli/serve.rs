//! Runs a server from its settings, and reads them anew.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use super::config::{Change, Settings, environment};
use super::{ServerArgs, logging, pages};
use crate::base::limits::Limits;
use crate::server::group::SHARING;
use crate::server::secret::Source;
use crate::server::{Options, Server};

/// Runs a server until it is stopped, or says what its settings are; `given` are its own flags.
pub fn run(args: &[OsString], given: &ServerArgs) -> ExitCode {
    let read = Settings::read(args, environment()).and_then(|settings| {
        let options = settings.flags()?.options()?;
        Ok((settings, options))
    });
    let (settings, options) = match read {
        Ok(read) => read,
        Err(why) => return wrong(&why),
    };
    if given.print_config {
        return pages::print(settings.print().as_bytes());
    }
    if given.check_config {
        return check(&options);
    }
    if let Err(why) = has_memory(&options) {
        return failed(&why);
    }
    set_log(&settings);
    match settings.group(given, &options) {
        Ok(None) => {}
        Ok(Some(group)) => {
            drop(options);
            return group.run().map_or_else(|why| failed(&why), |()| ExitCode::SUCCESS);
        }
        Err(why) => return failed(&why),
    }
    let shared_port = options.shared_port;
    // Its log goes where that of the others goes.
    let is_one_of_several = shared_port.is_some() || options.limits.spawned.is_some();
    let mut server = match Server::new(&options) {
        Ok(server) => server,
        Err(error) => return failed(&error.to_string()),
    };
    // The server has its keys; the secret is wiped.
    drop(options);
    if is_one_of_several && let Some(own) = server.addresses().next() {
        logging::name(own.port().to_string());
    }
    // For scripts; that nobody reads it is no reason to stop.
    for address in server.addresses().filter(|address| Some(address.port()) != shared_port) {
        let _ = writeln!(std::io::stdout(), "listening on {address}");
    }
    if let Some(address) = server.http_address() {
        let _ = writeln!(std::io::stdout(), "status on http://{address}/");
    }
    if let Some(port) = shared_port {
        let _ = writeln!(std::io::stdout(), "{SHARING}{port}");
    }
    let (args, mut settings) = (args.to_vec(), settings);
    server.on_reload(Box::new(move || reload(&args, &mut settings)));
    match server.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&format!("the event loop failed: {error}")),
    }
}

fn failed(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::FAILURE
}

fn wrong(why: &str) -> ExitCode {
    let why = why.trim_start_matches("error: ").trim_end();
    eprintln!("error: {why}");
    ExitCode::from(2)
}

/// Whether the system would give what is reserved for the talk: without it a start would end half-way.
fn has_memory(options: &Options) -> Result<(), String> {
    let bytes = options.limits.feed_bytes;
    Vec::<u8>::new()
        .try_reserve_exact(bytes.next_power_of_two())
        .map_err(|_| format!("--feed-bytes {bytes} is more memory than this machine gives; choose less"))
}

/// What a start would find, as far as it can be seen without one.
fn check(options: &Options) -> ExitCode {
    if let Err(why) = has_memory(options) {
        return wrong(&why);
    }
    if let Source::File(_) = options.secret
        && let Err(why) = options.secret.obtain(options.join.is_some())
    {
        return wrong(&why);
    }
    pages::print(b"the settings are good\n")
}

fn set_log(settings: &Settings) {
    if let Ok(ServerArgs { log: Some(level), .. }) = settings.flags() {
        logging::set(level);
    }
}

/// Reads the settings anew. Nothing changes if they are not good.
fn reload(args: &[OsString], settings: &mut Settings) -> Option<Limits> {
    let read = Settings::read(args, environment()).and_then(|new| {
        let Change { settings, changed, restart } = settings.change(&new);
        let limits = settings.flags()?.options()?.limits;
        Ok((settings, changed, restart, limits))
    });
    let (new, changed, restart, limits) = match read {
        Ok(read) => read,
        Err(why) => {
            log::error!("the settings stay as they are: {}", why.trim_start_matches("error: ").trim_end());
            return None;
        }
    };
    *settings = new;
    set_log(settings);
    let list = |keys: &[String]| if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
    log::info!(
        "settings read anew; changed: {}; to change it needs a restart: {}",
        list(&changed),
        list(&restart)
    );
    Some(limits)
}

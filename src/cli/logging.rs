//! The log on standard error, whose level may change while the program runs.

use std::sync::{OnceLock, PoisonError, RwLock};

use env_logger::{Builder, Env, Logger};
use log::{LevelFilter, Log, Metadata, Record};

struct Changing(RwLock<Logger>);

static LOG: OnceLock<Changing> = OnceLock::new();
/// What stands before each line.
static NAME: OnceLock<String> = OnceLock::new();

/// Begins to log what `RUST_LOG` names, or what is `usual`.
pub fn start(usual: &str) {
    change(Builder::from_env(Env::default().default_filter_or(usual)).build());
}

/// Logs this from now on.
pub fn set(level: LevelFilter) {
    change(Builder::new().filter_level(level).build());
}

/// Puts this before each line from now on: several processes write to one place.
pub fn name(name: String) {
    let _ = NAME.set(name);
}

fn change(logger: Logger) {
    log::set_max_level(logger.filter());
    let mut new = Some(logger);
    let log = LOG.get_or_init(|| Changing(RwLock::new(new.take().expect("it is there until it is used"))));
    match new {
        Some(logger) => *log.0.write().unwrap_or_else(PoisonError::into_inner) = logger,
        // Another logger would be one of this process's own tests.
        None => drop(log::set_logger(log)),
    }
}

impl Log for Changing {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let logger = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match NAME.get() {
            Some(name) => logger.log(
                &Record::builder()
                    .metadata(record.metadata().clone())
                    .module_path(record.module_path())
                    .args(format_args!("{name}: {}", record.args()))
                    .build(),
            ),
            None => logger.log(record),
        }
    }

    fn flush(&self) {
        self.0.read().unwrap_or_else(PoisonError::into_inner).flush();
    }
}

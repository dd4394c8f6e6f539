//! Every bound of the load generator and of the demonstration: its value, its unit and its reason.

use std::time::Duration;

/// Clients of one run: some more than the ports of a few servers' worth of descriptors.
pub const CLIENTS_MAX: u32 = 1_000_000;
/// Processes that generate load; each has its own source addresses, 127.64.0.0/16 and up.
pub const PROCESSES_MAX: u32 = 64;
/// Descriptors of a process that are no clients: standard streams, the poll, the alarm.
pub const RESERVED_DESCRIPTORS: u64 = 32;
/// Clients that share one source address of loopback: Linux has 28,000 ports for each by default.
pub const SOURCE_CLIENTS: usize = 10_000;
/// Messages a second of all talkers: above it the schedule itself is what is measured.
pub const RATE_MAX: f64 = 1_000_000.0;
/// Messages of one talker on their way at a time.
pub const WINDOW_MAX: u32 = 65_536;
/// Bytes of an activity: what a server takes by default, less the rest of the line.
pub const SIZE_MAX: usize = 1_000_000;
/// Bytes of the counters of one process, 4 for each of its clients and each talker.
pub const TALLY_BYTES_MAX: u64 = 4 << 30;
/// Places where messages are missing that one process tells apart; what is missing beyond them is lost for good.
pub const HOLES_MAX: usize = 65_536;
/// Logins under way at a time, of one process: enough to keep a server busy, far from its queue of 4,096.
pub const AT_ONCE: usize = 64;
/// Bytes asked for by one read: several times what a socket usually has ready. A longer line doubles it.
pub const READ_BYTES: usize = 256 << 10;
/// The longest line taken: the longest a server can be set to, with room for what a broadcast puts around it.
pub const LINE_BYTES_MAX: usize = 65 << 20;
/// Events taken from one poll: what a thousand clients have, who hear the same message.
pub const EVENTS: usize = 1024;
/// Bytes that a slow client's kernel takes for it, about, so that a server feels it soon.
pub const SLOW_KERNEL_BYTES: usize = 16 << 10;
/// How often slow clients are read, and deadlines looked at.
pub const TICK: Duration = Duration::from_millis(50);
/// How often a process tells how far it is.
pub const TELL: Duration = Duration::from_millis(200);
/// How often the terminal shows it.
pub const DRAW: Duration = Duration::from_millis(250);
/// How long nobody may have been sent on before the talk begins, where servers share clients: they place who has
/// just come within a second.
pub const SETTLE: Duration = Duration::from_millis(1_500);
/// For how long that is waited for: a network that never comes to rest is measured as it is.
pub const SETTLE_MAX: Duration = Duration::from_secs(60);
/// How long no login, or no delivery that is still owed, may come before the rest is given up: longer than any
/// server waits for another.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long is listened for repeats after everything was heard.
pub const LINGER: Duration = Duration::from_millis(250);
/// How long clients may take to log out.
pub const LEAVE: Duration = Duration::from_secs(2);
/// From the word to talk to the first message: every process has read it by then.
pub const LEAD: Duration = Duration::from_millis(50);
/// How long a client whose connection broke waits before it tries another server.
pub const RETRY: Duration = Duration::from_millis(50);
/// Reasons kept for what went wrong, in words: the first ones say it.
pub const REASONS_MAX: usize = 8;
/// The largest time a histogram tells apart, in µs: an hour.
pub const TIME_US_MAX: u64 = 3_600_000_000;
/// Significant digits of a time in a histogram.
pub const TIME_DIGITS: u8 = 3;

/// The demonstration's clients; all of them talk.
pub const DEMO_CLIENTS: u32 = 50;
/// How often each of them says something, if it has heard what it said before: 10,000 deliveries a second.
pub const DEMO_SAYS: Duration = Duration::from_millis(250);
/// Bytes of an activity.
pub const DEMO_SIZE: usize = 128;
/// Servers.
pub const DEMO_SERVERS: usize = 3;
/// Lines of a log that say why a server did not start.
pub const DEMO_LOG_LINES: usize = 5;
/// The server that is killed.
pub const DEMO_VICTIM: usize = 1;
/// How many of the clients move at least, when the server is back: a part in so many.
pub const DEMO_MOVED_PART: u64 = 6;
/// How long the talk is looked at before something happens to it, and after.
pub const DEMO_CALM: Duration = Duration::from_secs(2);
/// How long a client that is logged in waits to hear itself before it says it again: far longer than servers take to
/// tell what a dead one had told them.
pub const DEMO_DOUBT: Duration = Duration::from_secs(2);
/// How long anything may take.
pub const DEMO_PATIENCE: Duration = Duration::from_secs(30);
/// How long is listened for repeats after everything was heard.
pub const DEMO_LINGER: Duration = Duration::from_millis(300);
/// A turn of the clients' poll at most.
pub const DEMO_TURN: Duration = Duration::from_millis(20);
/// How often servers are asked how they stand.
pub const DEMO_ASK: Duration = Duration::from_millis(100);
/// How often the picture is drawn, on a terminal and as a line.
pub const DEMO_DRAW: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

const _: () = assert!(PROCESSES_MAX <= 128, "127.64.0.0 and up");

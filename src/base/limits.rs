//! Every bound of the system: its value, its unit and its reason.
//!
//! [`Limits`] holds those a person may want to change; each is a flag of `server`. The constants are
//! those that only a programmer should touch. What ties them together is asserted at the end.

use std::time::Duration;

/// The bounds that can be set when a server starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one line from a client, without its line end, and of the broadcast made from it.
    /// Existing clients send up to 200 kB and take lines of 1 MB.
    pub line_bytes: usize,
    /// Bytes of the feed's ring, rounded up to a power of two: how far a reader may fall behind, and
    /// how much an absent user may miss. 64 MiB is six seconds of a feed at 10 MB/s, minutes of talk.
    pub feed_bytes: usize,
    /// How long a registered user whose connection broke is owed what is said meanwhile.
    pub away: Duration,
    /// How long a stopping server may take to send its clients to other servers; 0: none is sent. It is what
    /// process managers give a server to stop; half of it does for all, the rest is for those who linger.
    pub drain: Duration,
    /// How often a server tells the others of its network its load; 0: only at the begin of a link. Twice in the
    /// ten seconds after which a server's silence about it is noticed.
    pub announce: Duration,
    /// Clients are sent to servers that have fewer.
    pub balance: bool,
    /// Clients a server should have at most. Who comes when all have so many is let in all the same.
    pub max_clients: Option<u64>,
    /// Servers that may have been started because all were full, in the whole network; 0: this one starts none.
    pub spawn_max: usize,
    /// This server was started so, under that number, and ends when it is not needed.
    pub spawned: Option<u64>,
    /// After how long without a client. Starting one takes a second, so a minute makes no burst wait twice.
    pub retire: Duration,
    /// How long a connection may take to log in; one that never does must not hold a descriptor.
    pub login: Duration,
    /// Failed logins a minute for one address and name, against guessing.
    pub failed_logins: u8,
    /// Names that can be registered, at most 160 bytes each up to 24 bytes of name; bounds the registry's memory.
    pub names: usize,
    /// KiB of memory one password hash takes. 19,456 with two passes is the usual floor for Argon2id.
    pub hash_kib: u32,
    /// Passes over that memory.
    pub hash_passes: u32,
    /// Threads that hash passwords. Each has one hash in work, so this bounds their memory too.
    pub hash_threads: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            line_bytes: 1 << 20,
            feed_bytes: 64 << 20,
            away: Duration::from_secs(600),
            drain: Duration::from_secs(30),
            announce: Duration::from_secs(5),
            balance: true,
            max_clients: None,
            spawn_max: 0,
            spawned: None,
            retire: Duration::from_secs(60),
            login: Duration::from_secs(10),
            failed_logins: 10,
            names: 4 << 20,
            hash_kib: 19_456,
            hash_passes: 2,
            hash_threads: 2,
        }
    }
}

/// Bytes a line may have before its connection is logged in: strangers get little memory.
pub const STRANGER_LINE_BYTES: usize = 64 << 10;
/// Nested objects and arrays in a line, the line's own object counted. Real activities stay below 10.
pub const JSON_DEPTH: usize = 32;
/// Characters of a user name.
pub const NAME_CHARS: usize = 64;
/// Bytes of a secret. Existing clients make 26; a hash must not be fed megabytes.
pub const SECRET_BYTES: usize = 256;

/// Bytes read from one link in one turn: the size of the one read buffer, so that nobody starves.
pub const TURN_READ_BYTES: usize = 64 << 10;
/// Lines taken from one link in one turn, for the same reason when lines are short.
pub const TURN_LINES: usize = 256;
/// Connections accepted in one turn: a storm of connects must not stop the talk.
pub const TURN_ACCEPTS: usize = 256;
/// Bytes offered to one link in one write; larger than a kernel buffer takes at once.
pub const WRITE_BYTES: u64 = 256 << 10;
/// Bytes of half-received lines all links together may hold; above it long lines come one at a time.
pub const INPUT_BYTES: usize = 64 << 20;
/// Bytes of a half-received line that always fit, also above [`INPUT_BYTES`].
pub const INPUT_FREE_BYTES: usize = 4 << 10;
/// How long one long line may take to arrive when input memory is short and others wait for theirs.
pub const INPUT_TURN: Duration = Duration::from_secs(1);
/// Empty line buffers kept for the next half-received line, so that steady traffic allocates nothing.
pub const SPARE_BUFFERS: usize = 64;

/// Bytes of private answers a link may have unread; a client that asks and never reads is closed.
pub const CONTROL_BYTES: usize = 64 << 10;
/// Turns of which it is remembered when they were said, 16 bytes each: above it every other of the older ones.
pub const LAG_MARKS: usize = 4096;
/// Ranges one reader's spans may have; beyond it the closest are joined (repeats, never loss).
pub const SPANS_MAX: usize = 64;
/// Broken sessions of one name that a mailbox tells apart; beyond it the oldest two are joined.
pub const MAILBOX_ENTRIES: usize = 64;
/// Older sessions of a name that a login looks at before it starts; the newest are taken. Looking
/// costs three system calls each, so a shared name with thousands of sessions must not cost them all.
pub const SETTLED_SESSIONS: usize = 64;
/// Breaks in a link's stream of feed bytes that are remembered to find what was not acknowledged.
pub const RUNS_MAX: usize = 16;
/// Bytes a kernel may hold of one link, received by nobody. The shell asks for [`KERNEL_SEND_ASK`];
/// Linux doubles that for its own books and takes somewhat more in one write.
pub const KERNEL_SEND_BYTES: u64 = 4 << 20;
/// What the shell sets as SO_SNDBUF: 256 KiB is 2.5 MB/s over a 100 ms path, and 18,000 stalled
/// clients hold 9 GB of kernel memory at most, not 72.
pub const KERNEL_SEND_ASK: usize = 256 << 10;

/// How long a session after REGISTER_SUCCESS, or after an activity without LOGIN, waits for its LOGIN
/// before broadcasts go to it. Existing clients send it within 5 ms or never.
pub const SILENT: Duration = Duration::from_secs(1);
/// When a refused login is answered, counted from its arrival; the same for wrong and unknown names.
pub const REFUSAL: Duration = Duration::from_millis(250);
/// The window in which failed logins are counted.
pub const FAILED_LOGIN_WINDOW: Duration = Duration::from_secs(60);
/// (address, name) pairs whose failed logins are counted, 32 bytes each; the oldest give way.
pub const FAILED_LOGIN_PAIRS: usize = 65_536;
/// How often a closing link must take bytes of what it is still owed before it is given up.
pub const CLOSING: Duration = Duration::from_secs(5);
/// How long a half-closed link may take to say EOF before its socket goes.
pub const DRAIN: Duration = Duration::from_secs(1);
/// How long the kernel of a registered client that has said all is given to confirm the last bytes, so
/// that they do not count as owed: more than nearly all ways take.
pub const CONFIRM: Duration = Duration::from_millis(200);
/// How long the fast check of a name's secret outlives its last session. Later the slow hash decides.
pub const VERIFIER: Duration = Duration::from_secs(3600);

/// Pending connects the kernel may queue; it cuts this to net.core.somaxconn.
pub const BACKLOG: i32 = 4096;
/// Descriptors kept back from clients: listener, signals, log, store, peers.
pub const RESERVED_DESCRIPTORS: u64 = 128;
/// Silence on a connection after which the kernel asks whether the client is still there: often enough that a
/// dead one is gone within 75 s; for 18,000 silent ones that takes the kernel 0.4 % of a core.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
/// Time between two such questions.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the kernel tries to get bytes or such a question answered before it gives a client up.
pub const USER_TIMEOUT: Duration = Duration::from_secs(60);
/// Retransmitting this long without an answer is *stalled*: the path is gone, not the reader slow.
pub const STALLED: Duration = Duration::from_secs(1);
/// How long a stopping server goes on writing what it owes.
pub const STOP: Duration = Duration::from_secs(2);
/// How long after that the last is still written to other servers.
pub const STOP_PEERS: Duration = Duration::from_millis(500);
/// For so long after the signal to stop another is the same one: who stops a service tells each of its processes,
/// and the one that looks after a group passes it on. A hurried second Ctrl-C may come as fast, a third does not.
pub const STOP_AGAIN: Duration = Duration::from_millis(500);
/// Sessions that a draining server sends away in a second, at least; more where else half of its time would not
/// do for all. Each is a login elsewhere, which costs some tens of microseconds there.
pub const SEND_AWAY_RATE: u64 = 200;
/// How often some of them are sent: two at a time at that rate.
pub const SEND_AWAY_TICK: Duration = Duration::from_millis(10);
/// How long a server without clients stays for what others may still ask: two of their FRONTIER.
pub const DRAINED: Duration = Duration::from_millis(500);
const _: () = assert!(DRAINED.as_millis() >= 2 * FRONTIER.as_millis());
/// The least time between two announces of the load: ten a second are little, and a burst of logins is told in
/// one of them.
pub const ANNOUNCE_LEAST: Duration = Duration::from_millis(100);
/// Writes of one turn. A write takes some microseconds, so with very many clients who reads, heartbeats and other
/// servers wait for some ten milliseconds and not for the whole flush.
pub const TURN_WRITES: usize = 4096;
/// Servers of one group, at most: a network of more than 64 is not what links between all of them are made for.
pub const GROUP_MOST: u16 = 64;
/// After what wait a server of a group that ended is started again: at first, and at most. One crash is not
/// noticed; one that happens at every start does not keep the machine busy.
pub const AGAIN_LEAST: Duration = Duration::from_millis(100);
/// See [`AGAIN_LEAST`].
pub const AGAIN_MOST: Duration = Duration::from_secs(30);
/// How long it must have been there for the wait to be the first again.
pub const AGAIN_RESET: Duration = Duration::from_secs(60);
/// For how long ahead room is granted where users come fast: what was told is up to one announce old, and the grant
/// that follows must last until the next one comes, on a path of some milliseconds.
pub const FORESEEN: Duration = ANNOUNCE_LEAST.saturating_mul(3);
/// How long what was granted or sent counts as a client of the target before it is given up. A client takes
/// some hundred milliseconds from REDIRECT to LOGIN, rarely seconds.
pub const CREDIT: Duration = Duration::from_secs(5);
/// How much longer than two announces what a server said of its load is believed.
pub const LOAD_BELIEVED: Duration = Duration::from_secs(1);
/// A client is sent from one server to another only if this has so many fewer: with one, two servers would
/// send it to and fro.
pub const GAIN: u64 = 2;
/// How long a session counts as one that just logged in: it is sent on as soon as there is a place. A burst of
/// logins is told of, and answered by credits, within two announces.
pub const JUST_CAME: Duration = Duration::from_secs(1);
/// Such sessions that are remembered, 16 bytes each; above it the oldest wait for their turn.
pub const JUST_CAME_MAX: usize = 65_536;
/// Users that are moved in a second when loads differ, at least, and the part of the load (one in so many) that
/// is moved where that is more. Who is moved sees a new connection; nobody needs it at once.
pub const MOVED_LEAST: u64 = 2;
/// See [`MOVED_LEAST`].
pub const MOVED_PART: u64 = 10;
/// How often some of them are.
pub const MOVED_TICK: Duration = Duration::from_millis(100);
/// Sessions that are tried in vain to be sent on at one time, because the other servers do not have their names
/// yet: the talk must go on.
pub const TRIES_MAX: usize = 256;
/// How long a user who was sent on is not sent on again.
pub const SPARED: Duration = Duration::from_secs(10);
/// Names of which it is remembered which servers have them, before registries agree on all.
pub const STORED_NAMES: usize = 65_536;
/// How long a server that wants another one waits for those that want one, too: some round trips of a wide
/// network.
pub const SPAWN_ASK: Duration = Duration::from_millis(250);
/// How long a server that was started may take to join: an orchestrator may have to find a machine first.
pub const SPAWN_WAIT: Duration = Duration::from_secs(60);
/// How long after one has come no other is asked for: all others must have met it, and clients be on their way.
pub const SPAWN_REST: Duration = Duration::from_secs(1);
/// After a start that failed the next one waits so long, after each further one twice as long, to this most.
pub const SPAWN_RETRY: Duration = Duration::from_secs(1);
/// See [`SPAWN_RETRY`].
pub const SPAWN_RETRY_MAX: Duration = Duration::from_secs(300);
/// One in so many places must be free on the other servers before one ends: else it would soon be started again.
pub const SPARE_PART: u64 = 5;
/// Status requests that are served at once; the oldest gives way. Probes and a scraper are a handful.
pub const HTTP_CONNECTIONS: usize = 16;
/// Bytes of such a request, which has no body: curl's has 80, a browser's 1,000.
pub const HTTP_HEAD_BYTES: usize = 8 << 10;
/// Header fields of such a request.
pub const HTTP_FIELDS: usize = 64;
/// How long such a request may take to arrive, and then its answer to leave.
pub const HTTP_TIME: Duration = Duration::from_secs(5);
/// How old the numbers of a status page may be: to count 100,000 mailboxes costs 10 ms.
pub const STATUS_FRESH: Duration = Duration::from_secs(1);
/// Names whose mailboxes are counted in one turn, for which everybody else waits: half a millisecond.
pub const TURN_CENSUS: usize = 4096;
/// When accepting is tried again after the machine as a whole ran out of descriptors or memory.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Bytes of one frame between servers: the longest line and its header.
pub const FRAME_BYTES: usize = LINE_BYTES_MAX + 1024;
/// Stamps a sender's first message after a move carries: the last servers it spoke on.
pub const PREV_MAX: usize = 8;
/// How far ahead of our wall clock a stamp may be and still move our clock. A minute is more than clocks
/// that are kept by anything differ.
pub const CLOCK_AHEAD_MS: u64 = 60_000;
/// Servers of one network: each is linked to each, so links grow with the square.
pub const SERVERS_MAX: usize = 64;
/// How often a sign of life goes over a link between servers.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// Silence after which a peer is suspected: it is not waited for.
pub const SUSPECT: Duration = Duration::from_secs(3);
/// Silence after which a link between servers is closed.
pub const SILENCE: Duration = Duration::from_secs(6);
/// Links that may be proving at once that they are a server's; the oldest gives way. Each costs 3 KiB, and
/// a server that is one needs no longer than a round trip.
pub const HANDSHAKES_MAX: usize = 256;
/// Links whose proof is looked at in one turn: each takes up to 0.2 ms, and the talk must go on while
/// strangers begin proofs.
pub const TURN_PROOFS: usize = 8;
/// How long one address of a name may take to connect before the next is tried.
pub const DIAL_ADDRESS: Duration = Duration::from_secs(1);
/// Names that may wait to be looked up: all addresses that are dialled.
pub const LOOKUPS_MAX: usize = 4 * SERVERS_MAX;
/// Bytes read from all peers in one turn, but for [`TURN_READ_BYTES`] of each, for which everybody else waits: as
/// 1,000 names or sessions that a newcomer is told they take 5 ms. More than from a client: many speak through them.
pub const PEER_TURN_BYTES: usize = 256 << 10;
/// What the shell asks for as send and receive buffer of a link between servers: 40 MB/s over 100 ms. The
/// system cuts it to net.core.wmem_max and rmem_max.
pub const KERNEL_PEER_ASK: usize = 4 << 20;
/// How often the same trouble with the same address is logged.
pub const QUIET: Duration = Duration::from_secs(60);
/// Such troubles that are remembered; what comes above that in a minute is not logged.
pub const QUIET_MAX: usize = 256;
/// How long a link between servers may take from connect to its first frame.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// The first wait before a server is dialled again; it doubles, by chance half more or less.
pub const REDIAL_MIN: Duration = Duration::from_millis(100);
/// The longest such wait.
pub const REDIAL_MAX: Duration = Duration::from_secs(5);
/// How long an address that was only heard of is dialled without success.
pub const REDIAL_FORGET: Duration = Duration::from_secs(3600);
/// How long an own message waits for a second copy before it is shown all the same.
pub const SECOND_COPY: Duration = Duration::from_millis(50);
/// Bytes of own messages that wait so; above it clients are not read.
pub const UNEXPOSED_BYTES: usize = 4 << 20;
/// How old what servers tell each other of themselves gets at most: a crash repeats no more talk than that.
/// A little is left for the way.
pub const FRONTIER: Duration = Duration::from_millis(240);
/// How long a client's kernel has to confirm before its session is named there as behind: nearly all have
/// a shorter way.
pub const FRONTIER_LAG: Duration = Duration::from_millis(50);
/// Sessions that are named in one FRONTIER because they moved and are still behind. Where more are, because a
/// flush takes long, all count as no further than those: a FRONTIER costs some 10 KiB however many clients there are.
pub const BEHIND_MAX: usize = 64;
/// Clients with ids whose numbers a server remembers, some 150 bytes each. Above it the eighth of them that spoke
/// longest ago is forgotten: what those have not seen confirmed may be shown twice.
pub const CLIENTS_MAX: usize = 65_536;
/// Streams that a client's position may name: 32 KiB of a LOGIN.
pub const AT_MAX: usize = 1_024;
/// Streams by which a client has heard its own messages that it names at LOGIN, 3 KiB. It spoke through more servers?
/// Those that it spoke through before the last 64 have told the others long ago.
pub const OWN_MAX: usize = 64;
/// Runs of one stream that a NEXT names, 10 KiB; the next broadcasts have their own.
pub const NEXT_RUNS: usize = 256;
/// How long a message waits for what its sender said before on another server.
pub const PREV_WAIT: Duration = Duration::from_secs(2);
/// The same while that is coming in, as to a server that was started again and has much to fetch.
pub const PREV_WAIT_MAX: Duration = Duration::from_secs(10);
/// Bytes of one stream that wait for such; above it they are applied all the same.
pub const PENDING_BYTES: usize = 16 << 20;
/// How long a request for a part of a stream may bring nothing before another peer is asked.
pub const FETCH_WAIT: Duration = Duration::from_millis(300);
/// How long frames that no linked server has are waited for while a server that was met is not linked: about as
/// long as it takes to have all links again after a cut.
pub const LOST_WAIT: Duration = Duration::from_secs(7);
/// Bytes kept ready for one peer's socket; more is made when these are gone.
pub const PEER_OUT_BYTES: usize = 256 << 10;
/// How long LOGIN_SUCCESS waits for the first answer to its claim.
pub const CLAIM_STORED: Duration = Duration::from_millis(50);
/// How long a login waits for all answers to its claim.
pub const CLAIM: Duration = Duration::from_millis(250);
/// How long a login waits for what its name has said elsewhere to be applied here.
pub const CLAIM_APPLIED: Duration = Duration::from_secs(2);
/// How long a claim waits for a session that was sent away to be read to its end.
pub const CLAIM_DRY: Duration = Duration::from_millis(100);
/// How long a server that was told of a peer holds logins until it is in step.
pub const FIRST_SYNC: Duration = Duration::from_secs(2);
/// How long a registration waits for the verdicts of all servers, and then for one to keep it.
pub const REGISTRATION: Duration = Duration::from_millis(500);
/// How long a claim to a name is remembered of which nothing more was heard: ten times as long as the
/// server that made it waits for anything.
pub const REGISTRATION_KEPT: Duration = Duration::from_secs(5);
/// How long a login of an unknown name waits for servers that may know it: no longer than [`REFUSAL`], so
/// that its refusal comes no later than that of a wrong secret.
pub const LOOKUP: Duration = Duration::from_millis(250);
const _: () = assert!(LOOKUP.as_millis() <= REFUSAL.as_millis());
/// Registrations of one name that lost and are remembered, 24 bytes each; the lowest are kept.
pub const LOSERS_MAX: usize = 4;
/// Bytes of registrations, of their digests or of sessions in one frame: small against [`PEER_OUT_BYTES`], so
/// that messages go between them.
pub const SYNC_BYTES: usize = 64 << 10;
/// The same, made ready for all peers in one turn: 400 registrations or sessions, or 6,000 digests, take a
/// millisecond, for which everybody else waits.
pub const TURN_SYNC_BYTES: usize = 128 << 10;
/// Signs of life after which a registry's digest is told though nothing changed.
pub const DIGEST_BEATS: u32 = 5;
/// The least time between two looks at what one name was owed.
pub const AWAY_MIN: Duration = Duration::from_millis(100);
/// How long a connection that was sent to another server may go on talking.
pub const REDIRECTED: Duration = Duration::from_secs(5);

/// Bytes of one file of the journal; a larger block has one for itself. Retention goes by whole files, so it
/// is small against 256 MiB; a new one takes 20 µs of the loop, every 16 MiB of talk.
pub const SEGMENT_BYTES: u64 = 16 << 20;
/// Bytes of a journal's file between blocks whose place is remembered, 16 bytes each: what a reader reads in
/// vain at most, but for the block it is in.
pub const MARK_BYTES: u64 = 64 << 10;
/// Bytes of lines in one block of the journal: far above what one turn says. A length above it is damage.
pub const BLOCK_BYTES: usize = 1 << 30;
/// Bytes a reader of the journal keeps for the next block: longer ones are rare.
pub const BLOCK_KEPT_BYTES: usize = 2 << 20;
/// Bytes of the feed read from disk at a time, which is what one write to a link offers.
pub const CHUNK_BYTES: usize = 256 << 10;
const _: () = assert!(CHUNK_BYTES as u64 == WRITE_BYTES);
/// How long after the journal took nothing it is tried again.
pub const JOURNAL_RETRY: Duration = Duration::from_secs(1);
/// How often what is too old is dropped from the journal when nobody speaks.
pub const JOURNAL_EXPIRY: Duration = Duration::from_secs(60);
/// Rows of one kind in one commit: they are written in one turn, which takes some 10 ms.
pub const COMMIT_ROWS: usize = 4_096;
/// How long after a commit that failed the next is tried: a full disk is asked gently.
pub const COMMIT_RETRY: Duration = Duration::from_secs(1);
/// Such pieces kept in memory, 16 MiB in all. Readers that are as far behind share one.
pub const CHUNKS: usize = 64;
/// Requests the store may have in work, and answers that wait to be taken; above it a request comes back.
pub const STORE_REQUESTS: usize = 256;
/// Files of the journal that may wait for the store's thread at once, to be synced or removed; more wait
/// where they are.
pub const STORE_CHORES: usize = 64;
/// How old the journal's last sync gets under `--fsync interval`, and so what the machine's end may cost. One
/// sync takes 1 to 10 ms, and other servers hold what is lost.
pub const FSYNC_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of memory the records' database uses to cache its pages: rows are read at the start only.
pub const RECORDS_CACHE_BYTES: usize = 8 << 20;

/// The smallest [`Limits::line_bytes`]: the client commands must fit.
pub const LINE_BYTES_MIN: usize = 4 << 10;
/// The largest [`Limits::line_bytes`]; offsets in a line are 32 bits wide with room to spare.
pub const LINE_BYTES_MAX: usize = 64 << 20;

// A feed must hold the longest frame several times over (checked again when flags are read), a
// stranger's read must fit the read buffer, and every answer the control buffer.
const _: () = assert!(TURN_READ_BYTES >= STRANGER_LINE_BYTES);
const _: () = assert!(CONTROL_BYTES >= 16 << 10);
const _: () = assert!(LINE_BYTES_MIN > NAME_CHARS * 12 + SECRET_BYTES * 6 + 256);
const _: () = assert!(KERNEL_SEND_BYTES >= 8 * KERNEL_SEND_ASK as u64);
const _: () = assert!(SPANS_MAX >= RUNS_MAX);
// Each server has a link, some are dialled, some ask for the status; a dozen descriptors are neither's.
const _: () = assert!(RESERVED_DESCRIPTORS >= (SERVERS_MAX + HTTP_CONNECTIONS) as u64 + 48);

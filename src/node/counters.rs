//! What is counted, each with the text that explains it, and why links are closed.

/// Declares the counters with their help texts, and lists them.
macro_rules! counters {
    ($($(#[doc = $help:literal])+ $name:ident,)+) => {
        /// Totals since the start.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[doc = $help])+ pub $name: u64,)+
            /// Links closed, by reason.
            pub closed: [u64; CloseReason::ALL.len()],
        }

        impl Counters {
            /// Every plain counter: name, help text, value.
            pub fn list(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($help),+).trim_start(), self.$name),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Connections accepted.
    connections,
    /// Lines taken from clients.
    lines,
    /// Bytes of those lines.
    lines_bytes,
    /// Activities accepted, each one broadcast.
    activities,
    /// Bytes of broadcasts appended to the feed.
    feed_bytes,
    /// Broadcasts the kernel took for clients: each line for each client.
    deliveries,
    /// Bytes of broadcasts the kernel took for clients.
    sent_bytes,
    /// Bytes of frames taken from other servers.
    peer_bytes,
    /// Bytes of frames handed to links to other servers.
    peer_sent_bytes,
    /// Times that frames were handed to such a link: each is a write, about.
    peer_sends,
    /// Names registered.
    registrations,
    /// Registrations that went on though a server had not answered.
    registrations_unanswered,
    /// Registrations answered though no other server had said in time that it keeps them.
    registrations_single_copy,
    /// Registrations of other servers learnt here.
    registrations_learnt,
    /// Registrations that lost against another server's of the same name.
    registrations_lost,
    /// Questions to other servers about names that are not known here.
    names_asked,
    /// Registries of other servers found to differ from this one.
    registries_differed,
    /// Sessions sent to another server.
    redirects,
    /// Registrations refused.
    registrations_refused,
    /// Of those: because the disk does not take them.
    registrations_unkept,
    /// Commits of rows to the disk.
    commits,
    /// Commits that failed.
    commits_failed,
    /// Turns whose messages the journal did not take.
    journal_failed,
    /// Pieces of the feed read from disk for readers who were behind.
    disk_reads,
    /// Of those: gone, or not readable.
    disk_reads_failed,
    /// LOGIN_SUCCESS answers.
    logins,
    /// Logins refused: wrong name or secret.
    logins_refused,
    /// Logins refused because the address failed too often with that name.
    logins_limited,
    /// Password hashes made.
    hashes,
    /// Sessions that took over what an earlier one was owed.
    resumed,
    /// Bytes owed to absent users that were delivered to their next session.
    resumed_bytes,
    /// Bytes owed to absent users that had left the feed when they came back.
    lost_bytes,
    /// Mailboxes given up because their user stayed away too long.
    mailboxes_expired,
    /// Older sessions of a name that a login did not look at, because the name has too many.
    sessions_unsettled,
    /// INVALID_MESSAGE lines that clients sent.
    complaints,
    /// Links to other servers that were proven.
    peers_joined,
    /// Links whose other end could not be proven to be a server of this network.
    peers_unproven,
    /// Times that a linked server was heard again after nothing came from it for two signs of life.
    peers_late,
    /// Times that a linked server was silent for so long that nobody waits for it.
    peers_suspected,
    /// Own messages shown though no other server had confirmed to hold them in time.
    exposed_single_copy,
    /// Messages of other servers applied here.
    relayed,
    /// Messages of other servers that nobody has any more.
    frames_lost,
    /// Messages of other servers that are longer than this server's feed can hold.
    frames_too_long,
    /// Parts of streams asked for from a server that is not their origin.
    fetches,
    /// Logins that went on before all servers had answered.
    claims_unanswered,
    /// Logins that went on before all that their name had said elsewhere was here.
    claims_unapplied,
    /// Sessions that were taken over elsewhere though they lived.
    sessions_renewed,
    /// Living sessions that heard late of a broken one before them and read what it was owed.
    sessions_late,
    /// Clients sent to servers that have fewer, at their login or a moment later.
    placed,
    /// Users sent to servers that have fewer later.
    moved,
    /// Servers that were started because all were full.
    spawned,
    /// Of those that were to be: did not start, or did not join.
    spawns_failed,
    /// Messages applied without what their sender said before elsewhere, because that did not come.
    prev_unmet,
    /// Messages of clients with ids that came again and were known: they were dropped.
    messages_known,
    /// Messages of clients with ids that two servers took: the second copy was not shown.
    messages_repeated,
    /// Messages of clients with ids that were shown before one that came before them, which did not come in time.
    messages_unordered,
    /// Clients with ids of whom nothing is known any more, because there are too many.
    clients_forgotten,
    /// MESSAGE_ACK lines written.
    acks,
    /// Broadcasts that clients with ids came back for and that are not there any more.
    resumed_lost,
    /// Times the machine had no descriptor or memory for a connection that waits.
    accepts_failed,
    /// Syncs of messages to the disk that failed.
    syncs_failed,
    /// Status pages asked for.
    http_requests,
    /// Of those: not answered, because the request was bad, late, or one too many.
    http_refused,
    /// Times the limits were read anew.
    reloads,
}

/// Why a link was closed. The name is its log text and its metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client logged out.
    Logout,
    /// The client ended its side of the connection.
    Eof,
    /// The connection broke.
    Broken,
    /// No login within the time for it.
    NoLogin,
    /// A line that is no message: answered INVALID_MESSAGE.
    Invalid,
    /// A wrong name or secret: answered LOGIN_FAILED.
    LoginFailed,
    /// A name that cannot be had: answered REGISTER_FAILED.
    RegisterFailed,
    /// Its name is another's: answered LOGIN_FAILED.
    NameLost,
    /// An activity under a wrong name or secret: answered AUTHENTICATION_FAIL.
    AuthenticationFail,
    /// The reader fell behind the feed's oldest byte.
    SlowReader,
    /// Answers piled up unread.
    AnswersUnread,
    /// A newer session of the name found this one's path gone.
    Stalled,
    /// A closing link did not take what it was still owed.
    CloseTimedOut,
    /// The server stops.
    Stopping,
    /// Sent to another server.
    Redirected,
    /// A server's link that leads back to itself.
    PeerSelf,
    /// A second link to the same server.
    PeerTwice,
    /// One server more than a network can have.
    PeerTooMany,
    /// A server sent what is no frame.
    PeerBad,
    /// A server was silent for too long.
    PeerSilent,
    /// The other end could not be proven to be a server of this network.
    PeerUnproven,
    /// A server that was dialled could not be reached.
    PeerUnreached,
}

impl CloseReason {
    /// All reasons, in the order of [`Counters::closed`].
    pub const ALL: [CloseReason; 22] = [
        CloseReason::Logout,
        CloseReason::Eof,
        CloseReason::Broken,
        CloseReason::NoLogin,
        CloseReason::Invalid,
        CloseReason::LoginFailed,
        CloseReason::RegisterFailed,
        CloseReason::NameLost,
        CloseReason::AuthenticationFail,
        CloseReason::SlowReader,
        CloseReason::AnswersUnread,
        CloseReason::Stalled,
        CloseReason::CloseTimedOut,
        CloseReason::Stopping,
        CloseReason::Redirected,
        CloseReason::PeerSelf,
        CloseReason::PeerTwice,
        CloseReason::PeerTooMany,
        CloseReason::PeerBad,
        CloseReason::PeerSilent,
        CloseReason::PeerUnproven,
        CloseReason::PeerUnreached,
    ];

    /// The label in logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            CloseReason::Logout => "logout",
            CloseReason::Eof => "eof",
            CloseReason::Broken => "broken",
            CloseReason::NoLogin => "no_login",
            CloseReason::Invalid => "invalid_message",
            CloseReason::LoginFailed => "login_failed",
            CloseReason::RegisterFailed => "register_failed",
            CloseReason::NameLost => "name_lost",
            CloseReason::AuthenticationFail => "authentication_fail",
            CloseReason::SlowReader => "slow_reader",
            CloseReason::AnswersUnread => "answers_unread",
            CloseReason::Stalled => "stalled",
            CloseReason::CloseTimedOut => "close_timed_out",
            CloseReason::Stopping => "stopping",
            CloseReason::Redirected => "redirected",
            CloseReason::PeerSelf => "peer_self",
            CloseReason::PeerTwice => "peer_twice",
            CloseReason::PeerTooMany => "peer_too_many",
            CloseReason::PeerBad => "peer_bad",
            CloseReason::PeerSilent => "peer_silent",
            CloseReason::PeerUnproven => "peer_unproven",
            CloseReason::PeerUnreached => "peer_unreached",
        }
    }
}

impl Counters {
    /// Everything that is counted, each with its value; of closes one for each reason.
    pub fn all(&self) -> impl Iterator<Item = (String, u64)> {
        let closed =
            CloseReason::ALL.iter().map(|r| (format!("closed_{}", r.label()), self.closed[*r as usize]));
        self.list().map(|(name, _, n)| (name.to_owned(), n)).chain(closed)
    }

    /// Counts a close.
    pub fn close(&mut self, reason: CloseReason) {
        self.closed[reason as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_index_their_counter_and_helps_are_sentences() {
        assert!(CloseReason::ALL.iter().enumerate().all(|(i, r)| *r as usize == i));
        let counters = Counters { logins: 3, ..Counters::default() };
        assert!(counters.list().any(|(name, _, n)| name == "logins" && n == 3));
        assert!(counters.list().all(|(_, help, _)| help.ends_with('.') && !help.starts_with(' ')));
    }
}

//! Deliberate bugs, to prove that the simulator sees them. Without the crate's feature `mutations`, which
//! only tests turn on, there are none and nothing is asked.

/// One rule broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A sender's first message after a move does not say what came before.
    NoPrev,
    /// A login does not wait for the answers to its claim.
    NoClaimWait,
    /// Peers do not keep the claims they hear.
    ClaimsNotStored,
    /// A claim is answered before older sessions' sockets were read.
    NotReadDry,
    /// LOGOUT after a REDIRECT ends what the user is owed.
    MovedIsLogout,
    /// All broken sessions of a name share one entry.
    OneEntry,
    /// A peer drops an entry when it answers a claim with it.
    EntryDroppedEarly,
    /// Messages are shown before a second copy exists.
    NoSecondCopy,
    /// A server goes on with its stream's numbers after a boot.
    StreamContinued,
    /// A link is closed at once, without being read to its end.
    CloseNotDrain,
    /// Generations are counted by each server for itself.
    LocalGenerations,
    /// DATA is acknowledged before it is held.
    AckBeforeHold,
    /// Of two claims to a name the later wins.
    WrongWinner,
    /// Late answers to a claim are ignored.
    LateAnswersIgnored,
    /// What a client with an id said twice is shown twice.
    RepeatsShown,
    /// A client with an id is told at once that its message is safe.
    AckedAtOnce,
    /// A client with an id is not asked for what this server lacks of it.
    GapsIgnored,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Mutation; 17] = [
        Mutation::NoPrev,
        Mutation::NoClaimWait,
        Mutation::ClaimsNotStored,
        Mutation::NotReadDry,
        Mutation::MovedIsLogout,
        Mutation::OneEntry,
        Mutation::EntryDroppedEarly,
        Mutation::NoSecondCopy,
        Mutation::StreamContinued,
        Mutation::CloseNotDrain,
        Mutation::LocalGenerations,
        Mutation::AckBeforeHold,
        Mutation::WrongWinner,
        Mutation::LateAnswersIgnored,
        Mutation::RepeatsShown,
        Mutation::AckedAtOnce,
        Mutation::GapsIgnored,
    ];
}

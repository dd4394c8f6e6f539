//! A hybrid logical clock: as close to wall time as may be, and always above what was heard.
//!
//! It orders what different servers do to one name: generations of sessions, claims of a registration.
//! Nothing waits by it, and no timer uses it.

use serde::{Deserialize, Serialize};

use super::id::ServerId;
use super::limits::CLOCK_AHEAD_MS;

/// A stamp: 48 bits of milliseconds since 1970, 16 bits that count within one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The wall time in it, in milliseconds since 1970.
    pub fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// The same, above all that are drawn: of what may never have been.
    #[must_use]
    pub fn doubted(self) -> Hlc {
        Hlc(self.0 | 1 << 63)
    }

    /// True for what [`Hlc::doubted`] gives.
    pub fn is_doubted(self) -> bool {
        self.0 >> 63 == 1
    }
}

/// A stamp and who drew it: unique, and ordered the same everywhere. Each session has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "(Hlc, ServerId)", into = "(Hlc, ServerId)")]
pub struct Generation {
    /// When.
    pub at: Hlc,
    /// By whom.
    pub by: ServerId,
}

impl From<(Hlc, ServerId)> for Generation {
    fn from((at, by): (Hlc, ServerId)) -> Generation {
        Generation { at, by }
    }
}

impl From<Generation> for (Hlc, ServerId) {
    fn from(generation: Generation) -> (Hlc, ServerId) {
        (generation.at, generation.by)
    }
}

/// The clock of one server. Invariant: stamps it draws rise, whatever the wall clock does.
#[derive(Debug)]
pub struct Clock {
    by: ServerId,
    wall_ms: u64,
    last: Hlc,
    /// The last stamp drawn above another that was far ahead: none is drawn twice.
    far: Hlc,
}

impl Clock {
    /// A clock that has drawn nothing.
    pub fn new(by: ServerId) -> Clock {
        Clock { by, wall_ms: 0, last: Hlc(0), far: Hlc(0) }
    }

    /// The wall clock says so many milliseconds since 1970. It may jump.
    pub fn set_wall(&mut self, ms: u64) {
        self.wall_ms = ms.min((1 << 48) - 1);
    }

    /// A new stamp, above every one drawn or heard.
    pub fn draw(&mut self) -> Generation {
        self.hear(self.far);
        self.last = Hlc((self.last.0 + 1).max(self.wall_ms << 16));
        Generation { at: self.last, by: self.by }
    }

    /// A stamp of another server was heard: later ones of ours are above it. One far ahead of our wall
    /// clock does not move ours, so that one wrong clock cannot push all others away.
    pub fn hear(&mut self, stamp: Hlc) {
        if !self.is_far(stamp) {
            self.last = self.last.max(stamp);
        }
    }

    /// True for a stamp that is too far ahead of our clock to move it.
    pub fn is_far(&self, stamp: Hlc) -> bool {
        stamp.ms() > self.wall_ms.max(self.last.ms()) + CLOCK_AHEAD_MS
    }

    /// A new stamp of ours above this one, however far ahead it is. It does not move our clock.
    pub fn draw_above(&mut self, other: Generation) -> Generation {
        let drawn = self.draw();
        if drawn > other {
            return drawn;
        }
        self.far = Hlc(self.far.max(other.at).0.saturating_add(1));
        Generation { at: self.far, by: self.by }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_though_the_wall_clock_goes_back_and_others_are_ahead() {
        let mut clock = Clock::new(ServerId([1; 16]));
        clock.set_wall(5000);
        let a = clock.draw();
        clock.set_wall(10);
        let b = clock.draw();
        assert!(b > a && a.at.ms() == 5000);
        clock.hear(Hlc(6000 << 16));
        assert!(clock.draw().at.ms() == 6000);
        let far = Hlc((6000 + CLOCK_AHEAD_MS + 1) << 16);
        clock.hear(far);
        assert!(clock.draw().at < far);
        let other = Generation { at: far, by: ServerId([9; 16]) };
        let above = clock.draw_above(other);
        assert!(above > other && clock.draw().at < far && clock.draw_above(other) > above);
        // The clock comes near what was drawn far ahead of it: it is not drawn again.
        clock.set_wall(far.ms() - 10);
        assert!(clock.draw().at > clock.far);
    }
}

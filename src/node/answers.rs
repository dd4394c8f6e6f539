//! Private lines to one client.

use super::Node;
use super::counters::CloseReason;
use super::link::{Answers, Phase};
use crate::base::id::LinkId;
use crate::base::limits::CONTROL_BYTES;
use crate::base::vector::Vector;
use crate::wire::{encode, ids};

impl Node {
    /// Queues a private answer to the link.
    pub(super) fn answer(&mut self, link_id: LinkId, command: &str, info: &str) {
        self.put_answer(link_id, |bytes| encode::answer(bytes, command, info));
    }

    /// The same where the client is in. One with an id is told more: what is known of it, and where what it is
    /// sent begins, which is at `begin` unless it brought a position.
    pub(super) fn answer_in(&mut self, link_id: LinkId, command: &str, info: &str, begin: &Vector) {
        match self.welcome(link_id, begin) {
            Some(welcome) => self.put_answer(link_id, |bytes| ids::success(bytes, command, info, &welcome)),
            None => self.answer(link_id, command, info),
        }
    }

    fn put_answer(&mut self, link_id: LinkId, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(link) = self.link_mut(link_id) else { return };
        let is_last = matches!(link.phase, Phase::Refusing | Phase::Closing);
        let answers = link.answers.get_or_insert_with(|| {
            let last_from = if is_last { 0 } else { usize::MAX };
            Box::new(Answers { last_from, ..Answers::default() })
        });
        write(&mut answers.bytes);
        if answers.bytes.len() - answers.at > CONTROL_BYTES {
            self.abort(link_id, CloseReason::AnswersUnread);
        } else {
            self.enqueue(link_id);
        }
    }
}

//! Sessions across servers.

use super::Node;
use super::mesh::PeerId;
use crate::base::hlc::Generation;
use crate::base::id::LinkId;
use crate::wire::peer::{Claim, Frontier, Release, Table, Update};

impl Node {
    pub(super) fn on_claim(&mut self, _from: PeerId, _claim: Claim) {}
    pub(super) fn on_release(&mut self, _from: PeerId, _release: Release) {}
    pub(super) fn on_update(&mut self, _from: PeerId, _update: Update) {}
    pub(super) fn on_table(&mut self, _from: PeerId, _table: Table) {}
    pub(super) fn on_frontier(&mut self, from: PeerId, frontier: Frontier) {
        self.on_held(from, &frontier.held);
    }
    pub(super) fn tell_sessions(&mut self, _to: PeerId) {}
    pub(super) fn claims_peer_up(&mut self, _peer: PeerId) {}
    pub(super) fn claims_peer_down(&mut self, _peer: PeerId) {}
    pub(super) fn claims_progress(&mut self) {}
    pub(super) fn in_step(&mut self) {}
    pub(super) fn on_frontier_timer(&mut self) {}
    pub(super) fn on_claim_timer(&mut self, _claim: Generation) {}
    pub(super) fn on_confirmed(&mut self, _session: LinkId, _unacknowledged: u64) {}
    pub(super) fn load(&self) -> u64 {
        0
    }
}

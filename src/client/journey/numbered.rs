//! The journey of a client with an id.

use super::Journey;
use crate::client::ids::Ids;

impl Journey {
    /// From now on the client has an id: what it says is kept until it is safe, and what it hears it hears once.
    /// To be called before anything else.
    pub fn number(&mut self, ids: Ids) {
        self.client.number(ids);
    }

    /// What a client with an id knows.
    pub fn ids_mut(&mut self) -> Option<&mut Ids> {
        self.client.ids_mut()
    }
}

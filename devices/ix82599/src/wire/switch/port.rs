//! The side of a switch where a device is plugged in.

use super::{Claim, Direction, Dropped, Switch, Wire, WireError};

/// A function's port: the wire that its device is plugged into.
#[derive(Debug)]
pub struct SwitchPort<U> {
    pub(super) switch: Switch<U>,
    pub(super) number: usize,
}

impl<U: Wire> Wire for SwitchPort<U> {
    fn send(&mut self, frame: &[u8]) -> Result<(), WireError> {
        let mut fabric = self.switch.0.borrow_mut();
        if let Some(reason) = fabric.enter_by_function(self.number, frame) {
            fabric.functions[self.number].note(Direction::Outbound, frame, reason);
        }
        Ok(())
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, WireError> {
        Ok(self.switch.0.borrow_mut().take(self.number, frame))
    }

    /// Of the switch: functions reach each other without an uplink.
    fn link_up(&self) -> bool {
        true
    }

    fn claim(&mut self, claim: Claim) -> bool {
        self.switch.0.borrow_mut().claim(self.number, claim)
    }

    fn request(&mut self, what: &str, _argument: &str) -> Option<Result<String, String>> {
        if what != "switch" {
            return None;
        }
        let status = serde_json::to_string(&self.switch.0.borrow().status());
        Some(status.map_err(|error| error.to_string()))
    }

    fn watch(&mut self, watched: bool) {
        self.switch.0.borrow_mut().functions[self.number].is_watched = watched;
    }

    fn next_dropped(&mut self) -> Option<Dropped> {
        self.switch.0.borrow_mut().functions[self.number]
            .dropped
            .pop()
    }
}

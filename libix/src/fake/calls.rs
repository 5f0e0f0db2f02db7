//! Execution of batched calls, with every check that the ABI asks for.

use std::vec::Vec;

use ix_abi::area::{CALL_COUNT, CALLS, SCATTER_GATHER};
use ix_abi::{CALL_CAPACITY, CallNumber, Error, SCATTER_GATHER_CAPACITY, SENDV_MAX, call};

use super::FakeKernel;
use super::connection::FakeConnection;

impl FakeKernel {
    pub(super) fn execute_calls(&mut self) {
        let count = self.area.load(CALL_COUNT) as usize;
        assert!(count <= CALL_CAPACITY, "{count} calls overflow the array");
        self.area.store(CALL_COUNT, 0);
        self.calls.clear();
        for index in 0..count {
            let base = CALLS + index * call::WORDS;
            let words = [0, 1, 2, 3].map(|offset| self.area.load(base + offset));
            let number = CallNumber::from_raw(words[0] as u32).expect("a known call");
            self.calls.push(number);
            let result = self.execute(number, (words[0] >> 32) as u32, words);
            let result = result.unwrap_or_else(|error| {
                self.refused.push((number, error));
                error.to_result()
            });
            self.area.store(base + call::RESULT, result as u64);
        }
    }

    fn execute(
        &mut self,
        number: CallNumber,
        small: u32,
        words: [u64; call::WORDS],
    ) -> Result<i64, Error> {
        let [_, handle, argument, last] = words;
        match number {
            CallNumber::Listen => match self.listening.insert(small as u16) {
                true => Ok(0),
                false => Err(Error::InUse),
            },
            CallNumber::Unlisten => match self.listening.remove(&(small as u16)) {
                true => Ok(0),
                false => Err(Error::BadState),
            },
            CallNumber::UdpBind => self.udp_bind(small as u16, true),
            CallNumber::UdpUnbind => self.udp_bind(small as u16, false),
            CallNumber::UdpSend => self.udp_send(small, handle, argument, last),
            CallNumber::UdpRecvDone => self.udp_recv_done(handle),
            CallNumber::Connect => self.execute_connect(handle),
            CallNumber::Accept => {
                let rounds = self.handshake_rounds;
                match self.accept_error {
                    Some(error) => Err(error),
                    None => self.find(handle)?.accept(argument, rounds),
                }
            }
            CallNumber::Sendv => {
                let entries = self.entries(argument, small)?;
                let window = self.send_window;
                match self.sendv_result {
                    Some(result) => result,
                    None => self.find(handle)?.send(&entries, window),
                }
            }
            CallNumber::RecvDone => self.find(handle)?.recv_done(argument),
            CallNumber::Shutdown => self.find(handle)?.shutdown_by_application(),
            CallNumber::Close => self.find(handle)?.close(),
            CallNumber::Abort => self.find(handle)?.abort(),
        }
    }

    fn execute_connect(&mut self, cookie: u64) -> Result<i64, Error> {
        if let Err(error @ (Error::NoPort | Error::Exhausted | Error::Unreachable)) =
            self.connect_outcome
        {
            return Err(error);
        }
        let mut connection = FakeConnection::new(self.moving.thread, self.connections.len());
        connection.connect(cookie, self.handshake_rounds, self.connect_outcome);
        let handle = connection.handle;
        self.connections.push(connection);
        Ok(handle as i64)
    }

    fn find(&mut self, handle: u64) -> Result<&mut FakeConnection, Error> {
        let is_it = |connection: &&mut FakeConnection| {
            connection.handle == handle && !connection.is_released()
        };
        self.connections
            .iter_mut()
            .find(is_it)
            .ok_or(Error::BadHandle)
    }

    pub(super) fn entries(&self, first: u64, count: u32) -> Result<Vec<(u64, u64)>, Error> {
        let (first, count) = (first as usize, count as usize);
        assert!(count <= SENDV_MAX && first + count <= SCATTER_GATHER_CAPACITY);
        let entry = |index| {
            let base = SCATTER_GATHER + (first + index) * 2;
            (self.area.load(base), self.area.load(base + 1))
        };
        let entries: Vec<_> = (0..count).map(entry).collect();
        match entries
            .iter()
            .all(|&(address, bytes)| address != 0 && bytes != 0)
        {
            true if count > 0 => Ok(entries),
            _ => Err(Error::Invalid),
        }
    }
}

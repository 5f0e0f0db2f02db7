//! Execution of batched calls: one call in, one result out, and no way to harm anybody but the
//! caller. The copy of a call is checked here; the engine checks handles and states.

use ix_abi::{CALL_CAPACITY, CallNumber, Error, Handle, SCATTER_GATHER_CAPACITY};
use ix_abi::{SENDV_MAX, UDP_SEND_MAX};
use ix_hal::{Fragment, MbufId, Nic};
use ix_net::{Context, Endpoint, Engine, IpAddress};

use crate::area::{Area, EventWriter, RawCall};
use crate::statistics::ThreadCounters;
use crate::user::Sendable;

/// Executes the calls of the application's last round, in order, and overwrites each with its
/// result. Returns whether one was refused that would have caused an event.
#[inline]
pub(crate) fn execute<N: Nic>(
    area: Area,
    engine: &mut Engine,
    sendable: &Sendable,
    cx: &mut Context<'_, N, EventWriter>,
    counters: &mut ThreadCounters,
) -> bool {
    let mut nothing_follows = false;
    let claimed = area.take_call_count();
    let count = claimed.min(CALL_CAPACITY as u64) as usize;
    counters.calls += count as u64;
    counters.calls_beyond_capacity += claimed - count as u64;
    for index in 0..count {
        let call = area.call(index);
        let result = match dispatch(area, engine, sendable, cx, call) {
            Ok(value) => value,
            Err(error) => {
                counters.calls_refused += 1;
                nothing_follows |= begins_something(call.number);
                error.to_result()
            }
        };
        area.set_result(index, result);
    }
    nothing_follows
}

/// Whether the application waits for an event, such as `connected` or a knock, that comes only if
/// the call succeeds.
#[cold]
fn begins_something(number: u32) -> bool {
    matches!(
        CallNumber::from_raw(number),
        Some(CallNumber::Listen | CallNumber::Connect | CallNumber::Accept | CallNumber::UdpBind)
    )
}

/// What seldom runs gets what it needs word by word, so that the copy of the call stays in
/// registers for what runs often.
#[inline]
fn dispatch<N: Nic>(
    area: Area,
    engine: &mut Engine,
    sendable: &Sendable,
    cx: &mut Context<'_, N, EventWriter>,
    call: RawCall,
) -> Result<i64, Error> {
    let handle = Handle(call.handle);
    match CallNumber::from_raw(call.number).ok_or(Error::Invalid)? {
        CallNumber::Sendv => sendv(area, engine, sendable, cx, call),
        CallNumber::RecvDone => engine.recv_done(cx, handle, call.argument).map(|()| 0),
        CallNumber::Accept => engine.accept(cx, handle, call.argument).map(|()| 0),
        CallNumber::Close => engine.close(cx, handle).map(|()| 0),
        CallNumber::Shutdown => engine.shutdown(cx, handle).map(|()| 0),
        CallNumber::Abort => engine.abort(cx, handle).map(|()| 0),
        CallNumber::Connect => {
            let remote = Endpoint {
                address: IpAddress::from_words(call.argument, call.last),
                port: port(call.small)?,
            };
            connect(engine, cx, call.handle, remote)
        }
        CallNumber::Listen => engine.listen(port(call.small)?).map(|()| 0),
        CallNumber::Unlisten => engine.unlisten(port(call.small)?).map(|()| 0),
        CallNumber::UdpSend => {
            let remote = Endpoint {
                address: IpAddress::from_words(call.argument, call.last),
                port: (call.small >> 16) as u16,
            };
            let local_port = call.small as u16;
            udp_send(area, engine, sendable, cx, call.handle, local_port, remote).map(|()| 0)
        }
        CallNumber::UdpRecvDone => udp_recv_done(engine, cx, call.handle).map(|()| 0),
        CallNumber::UdpBind => engine.udp_bind(port(call.small)?).map(|()| 0),
        CallNumber::UdpUnbind => engine.udp_unbind(port(call.small)?).map(|()| 0),
    }
}

/// All entries are checked before the first byte is taken, so that a refused call has no effect.
#[inline]
fn sendv<N: Nic>(
    area: Area,
    engine: &mut Engine,
    sendable: &Sendable,
    cx: &mut Context<'_, N, EventWriter>,
    call: RawCall,
) -> Result<i64, Error> {
    let entries = call.small as usize;
    let first = usize::try_from(call.argument).map_err(|_| Error::Invalid)?;
    if entries == 0 || entries > SENDV_MAX || first > SCATTER_GATHER_CAPACITY - entries {
        return Err(Error::Invalid);
    }
    let handle = Handle(call.handle);
    if entries != 1 {
        return send_several(area, engine, sendable, cx, handle, first, entries);
    }
    let (address, len) = area.scatter_gather(first);
    let fragment = sendable.translate(address, len).ok_or(Error::BadAddress)?;
    let accepted = engine.send(cx, handle, &[fragment])?;
    Ok(i64::from(accepted))
}

/// The same for more entries than one, at most [`SENDV_MAX`]. Apart, because filling the array costs
/// more than all else about a call with one entry.
#[inline(never)]
fn send_several<N: Nic>(
    area: Area,
    engine: &mut Engine,
    sendable: &Sendable,
    cx: &mut Context<'_, N, EventWriter>,
    handle: Handle,
    first: usize,
    entries: usize,
) -> Result<i64, Error> {
    let mut fragments = [Fragment::default(); SENDV_MAX];
    let fragments = gather(area, sendable, first, &mut fragments[..entries])?;
    let accepted = engine.send(cx, handle, fragments)?;
    Ok(i64::from(accepted))
}

fn gather<'a>(
    area: Area,
    sendable: &Sendable,
    first: usize,
    fragments: &'a mut [Fragment],
) -> Result<&'a [Fragment], Error> {
    for (index, fragment) in fragments.iter_mut().enumerate() {
        let (address, len) = area.scatter_gather(first + index);
        *fragment = sendable.translate(address, len).ok_or(Error::BadAddress)?;
    }
    Ok(fragments)
}

fn connect<N: Nic>(
    engine: &mut Engine,
    cx: &mut Context<'_, N, EventWriter>,
    cookie: u64,
    remote: Endpoint,
) -> Result<i64, Error> {
    let handle = engine.connect(cx, cookie, remote)?;
    // Handles keep their top bit clear, so that a result tells them from errors.
    i64::try_from(handle.0).map_err(|_| Error::Exhausted)
}

/// Sends one datagram, whole or not at all. `payload` names the entries: their number in the low
/// half, the first one in the high half.
#[inline(never)]
fn udp_send<N: Nic>(
    area: Area,
    engine: &mut Engine,
    sendable: &Sendable,
    cx: &mut Context<'_, N, EventWriter>,
    payload: u64,
    local_port: u16,
    remote: Endpoint,
) -> Result<(), Error> {
    let entries = payload as u32 as usize;
    let first = (payload >> 32) as usize;
    if entries > UDP_SEND_MAX || first > SCATTER_GATHER_CAPACITY - entries {
        return Err(Error::Invalid);
    }
    let mut fragments = [Fragment::default(); UDP_SEND_MAX];
    let fragments = gather(area, sendable, first, &mut fragments[..entries])?;
    engine.udp_send(cx, local_port, remote, fragments)
}

/// An address outside of the pool names no buffer, just as one of a buffer that is not held.
fn udp_recv_done<N: Nic>(
    engine: &mut Engine,
    cx: &mut Context<'_, N, EventWriter>,
    address: u64,
) -> Result<(), Error> {
    let geometry = cx.pool.geometry();
    let index = address.wrapping_sub(geometry.user) >> geometry.size_shift;
    let index = u32::try_from(index).map_err(|_| Error::BadHandle)?;
    engine.udp_recv_done(cx, MbufId(index))
}

fn port(small: u32) -> Result<u16, Error> {
    u16::try_from(small)
        .ok()
        .filter(|&port| port != 0)
        .ok_or(Error::Invalid)
}

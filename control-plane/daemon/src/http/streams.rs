//! What does not end: events as they happen, and logs as they are written.

use std::convert::Infallible;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use ix_api::{Event, Lagged, Refusal, State as Phase};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::wrappers::{BroadcastStream, ReceiverStream};
use tokio_stream::{Stream, StreamExt};
use utoipa::IntoParams;

use super::{Refused, Shared};
use crate::journal::Ids;

/// Name of the server-sent event that stands for those that a listener has missed.
const LAGGED: &str = "lagged";
/// How often a log is looked at for more.
const LOG_PERIOD: Duration = Duration::from_millis(200);
/// Most bytes of a log that are read at once; of one that was not followed so far, the last so many.
const LOG_BYTES: u64 = 256 << 10;

/// Which events.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
pub struct EventQuery {
    /// Those after this number.
    after: u64,
    /// Only those that have happened, as JSON; otherwise also those to come, as server-sent events.
    past: bool,
}

/// What has happened and what happens. Who does not take events as fast as they come is told how many are
/// left out, by an event named `lagged`.
#[utoipa::path(get, path = "/v1/events", params(EventQuery), responses(
    (status = 200, body = Vec<Event>, content_type = "text/event-stream")
))]
pub async fn events(
    State(shared): State<Shared>,
    Query(query): Query<EventQuery>,
    headers: HeaderMap,
) -> Response {
    // A client that lost its connection says what it saw last, perhaps from the daemon before this one.
    let seen = headers.get("last-event-id").and_then(|it| it.to_str().ok());
    let seen = seen.map(str::to_owned);
    let (ids, past, future) = shared
        .with(move |controller| {
            let journal = &controller.journal;
            let after = seen.map_or(query.after, |id| journal.ids().number(&id));
            let (past, future) = journal.listen(after);
            (journal.ids(), past, future)
        })
        .await;
    if query.past {
        return Json(past).into_response();
    }
    let past = tokio_stream::iter(past).map(Ok);
    let all = past.chain(BroadcastStream::new(future));
    let all = all.map(move |event| to_sse(&ids, event));
    Sse::new(all)
        .keep_alive(KeepAlive::default())
        .into_response()
}

fn to_sse(
    ids: &Ids,
    event: Result<Event, BroadcastStreamRecvError>,
) -> Result<sse::Event, axum::Error> {
    let message = sse::Event::default();
    match event {
        Ok(event) => message.id(ids.id(event.number)).json_data(event),
        Err(BroadcastStreamRecvError::Lagged(missed)) => {
            message.event(LAGGED).json_data(Lagged { missed })
        }
    }
}

/// Which part of a log.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
pub struct LogQuery {
    /// Also what will be written, until the dataplane is gone.
    follow: bool,
    /// What its keeper says instead of what kernel and application say.
    keeper: bool,
}

/// The console of a dataplane.
#[utoipa::path(get, path = "/v1/dataplanes/{name}/logs",
    params(("name" = String, Path,), LogQuery), responses(
    (status = 200, body = String, content_type = "text/plain"), (status = 404, body = Refusal)
))]
pub async fn logs(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Response, Refused> {
    let file = if query.keeper {
        "keeper.log"
    } else {
        "console.log"
    };
    let looked_up = name.clone();
    let path = shared
        .with(move |controller| Ok::<_, Refusal>(controller.get(&looked_up)?.folder.file(file)))
        .await?;
    let chunks = follow(shared, name, path, query.follow);
    let body = Body::from_stream(chunks.map(Ok::<Bytes, Infallible>));
    let text = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((text, body).into_response())
}

/// The end of a file, and with `follow` what is written behind it.
fn follow(shared: Shared, name: String, path: PathBuf, follow: bool) -> impl Stream<Item = Bytes> {
    let (chunks, stream) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut position = None;
        loop {
            let looked_up = name.clone();
            let is_alive = shared.with(move |controller| {
                let managed = controller.get(&looked_up);
                managed.is_ok_and(|managed| managed.state != Phase::Ended)
            });
            // Before the file is read, so that nothing written before the end is missed.
            let is_alive = is_alive.await;
            // A file that is not there yet has nothing to say.
            if let Ok(Some((bytes, end))) = read_from(&path, position) {
                position = Some(end);
                if chunks.send(bytes).await.is_err() {
                    return;
                }
                continue;
            }
            if !follow || !is_alive || chunks.is_closed() {
                return;
            }
            tokio::time::sleep(LOG_PERIOD).await;
        }
    });
    ReceiverStream::new(stream)
}

/// What lies behind `position`, and where it ends; `None` if there is nothing.
fn read_from(
    path: &std::path::Path,
    position: Option<u64>,
) -> std::io::Result<Option<(Bytes, u64)>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let start = position.unwrap_or(length.saturating_sub(LOG_BYTES));
    if start >= length {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut bytes)?;
    let end = start + bytes.len() as u64;
    Ok(Some((bytes.into(), end)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use axum::body::to_bytes;
    use ix_api::EventKind;

    #[tokio::test]
    async fn a_listener_that_lags_is_told_how_many_it_missed() {
        let mut journal = Journal::default();
        let (_, future) = journal.listen(0);
        for number in 1..=300 {
            journal.record(EventKind::Granted, "a", format!("grant {number}"));
        }
        let ids = journal.ids();
        drop(journal);
        let all = BroadcastStream::new(future).map(move |event| to_sse(&ids, event));
        let body = to_bytes(Sse::new(all).into_response().into_body(), usize::MAX);
        let text = String::from_utf8(body.await.unwrap().to_vec()).unwrap();
        let (first, rest) = text.split_once("\n\n").unwrap();
        assert_eq!(first, "event: lagged\ndata: {\"missed\":44}");
        let second = rest.split_once("\n\n").unwrap().0;
        assert!(second.contains("\"number\":45,"), "{second}");
        assert!(!rest.contains("lagged"));
    }

    #[test]
    fn a_log_is_read_in_pieces_and_only_its_end_at_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert!(read_from(&path, None).is_err());
        std::fs::write(&path, b"one\n").unwrap();
        let (bytes, end) = read_from(&path, None).unwrap().unwrap();
        assert_eq!((&bytes[..], end), (&b"one\n"[..], 4));
        assert!(read_from(&path, Some(4)).unwrap().is_none());
        std::fs::write(&path, b"one\ntwo\n").unwrap();
        let (bytes, _) = read_from(&path, Some(4)).unwrap().unwrap();
        assert_eq!(&bytes[..], b"two\n");
        std::fs::write(&path, vec![b'x'; LOG_BYTES as usize + 9]).unwrap();
        let (bytes, end) = read_from(&path, None).unwrap().unwrap();
        assert_eq!((bytes.len() as u64, end), (LOG_BYTES, LOG_BYTES + 9));
    }
}

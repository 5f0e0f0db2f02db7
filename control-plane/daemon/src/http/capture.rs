//! Frames of a dataplane as they pass, in the pcapng format. The NIC model hands them over on a socket,
//! and leaves out, and counts, what nobody takes in time; so a slow client costs itself alone.

use std::convert::Infallible;
use std::io;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use ix_api::{Kind, Refusal};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;

use super::{Refused, Shared};

/// Longest answer of the NIC model to a request.
const ANSWER_BYTES: usize = 1024;
/// Bytes that are read at once.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that wait for the client.
const PIECES: usize = 4;

/// Which frames.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
pub struct CaptureQuery {
    /// Like `tcp and port 7`, `host 10.9.0.1 or arp`, `not icmp`; all frames unless given.
    filter: String,
}

/// Frames of a dataplane as they pass, for as long as the client stays.
#[utoipa::path(get, path = "/v1/dataplanes/{name}/capture",
    params(("name" = String, Path,), CaptureQuery), responses(
    (status = 200, body = Vec<u8>, content_type = "application/x-pcapng"),
    (status = 400, body = Refusal), (status = 404, body = Refusal), (status = 409, body = Refusal)
))]
pub async fn capture(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Query(query): Query<CaptureQuery>,
) -> Result<Response, Refused> {
    let looked_up = name.clone();
    let socket = shared.with(move |controller| controller.get(&looked_up)?.wire_socket());
    let mut stream = UnixStream::connect(socket.await?)
        .await
        .map_err(|error| broken(&name, &error))?;
    let answer = ask(&mut stream, &format!("capture {}", query.filter)).await;
    let answer = answer.map_err(|error| broken(&name, &error))?;
    if let Some(reason) = answer.strip_prefix("refused ") {
        let remedy = "use arp, ip, ip6, icmp, icmp6, tcp, udp, proto N, [src|dst] host A, \
            [src|dst] port N, with not, and, or, ( and )";
        return Err(Refusal::new(Kind::Invalid, format!("filter: {reason}"), remedy).into());
    }
    let (pieces, received) = mpsc::channel(PIECES);
    tokio::spawn(forward(stream, pieces));
    let body = Body::from_stream(ReceiverStream::new(received).map(Ok::<Bytes, Infallible>));
    let kind = [(header::CONTENT_TYPE, "application/x-pcapng")];
    Ok((kind, body).into_response())
}

/// Says what is wanted of the wire, and returns the answer. What follows it is left in the stream.
pub(super) async fn ask(stream: &mut UnixStream, request: &str) -> io::Result<String> {
    // A line is the whole request.
    let line = request.replace(['\n', '\r'], " ") + "\n";
    stream.write_all(line.as_bytes()).await?;
    let mut answer = Vec::new();
    while answer.len() < ANSWER_BYTES {
        match stream.read_u8().await? {
            b'\n' => break,
            byte => answer.push(byte),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Until either side leaves.
async fn forward(mut stream: UnixStream, pieces: mpsc::Sender<Bytes>) {
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        tokio::select! {
            // The client may leave while no frame passes.
            () = pieces.closed() => return,
            count = stream.read_buf(&mut piece) => {
                if !matches!(count, Ok(1..)) || pieces.send(piece.into()).await.is_err() {
                    return;
                }
            }
        }
    }
}

pub(super) fn broken(name: &str, error: &io::Error) -> Refused {
    Refusal::new(
        Kind::Failed,
        format!("{name}: its card does not answer: {error}"),
        format!("`ixctl ps` shows whether {name} still runs"),
    )
    .into()
}

//! What the wire of a dataplane does to frames, asked of its NIC model and changed there.

use axum::Json;
use axum::extract::{Path, State};
use ix_api::{Impairment, Kind, Refusal, Wire};
use tokio::net::UnixStream;

use super::capture::{ask, broken};
use super::routes::Body;
use super::{Answer, Shared};

/// What the wire of a dataplane does to frames, and has done.
#[utoipa::path(get, path = "/v1/dataplanes/{name}/wire", params(("name" = String, Path,)), responses(
    (status = 200, body = Wire), (status = 404, body = Refusal), (status = 409, body = Refusal)
))]
pub async fn wire(State(shared): State<Shared>, Path(name): Path<String>) -> Answer<Wire> {
    request(&shared, name, "impair".to_owned()).await
}

/// Has the wire of a dataplane harm frames from now on; what is left out is good.
#[utoipa::path(put, path = "/v1/dataplanes/{name}/wire", params(("name" = String, Path,)),
    request_body = Impairment, responses(
    (status = 200, body = Wire), (status = 400, body = Refusal), (status = 404, body = Refusal),
    (status = 409, body = Refusal)
))]
pub async fn impair(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Body(impairment): Body<Impairment>,
) -> Answer<Wire> {
    let text = serde_json::to_string(&impairment).map_err(|error| {
        let remedy = "send numbers as /openapi.json describes them";
        Refusal::new(Kind::Invalid, error.to_string(), remedy)
    })?;
    request(&shared, name, format!("impair {text}")).await
}

/// The NIC model knows which numbers make sense.
async fn request(shared: &Shared, name: String, request: String) -> Answer<Wire> {
    let looked_up = name.clone();
    let socket = shared.with(move |controller| controller.get(&looked_up)?.wire_socket());
    let stream = UnixStream::connect(socket.await?).await;
    let mut stream = stream.map_err(|error| broken(&name, &error))?;
    let answer = ask(&mut stream, &request).await;
    let answer = answer.map_err(|error| broken(&name, &error))?;
    if let Some(reason) = answer.strip_prefix("refused ") {
        let remedy = "`ixctl impair --help` says what a wire can do";
        return Err(Refusal::new(Kind::Invalid, format!("impairment: {reason}"), remedy).into());
    }
    let wire = answer.strip_prefix("ok ").map(serde_json::from_str);
    match wire {
        Some(Ok(wire)) => Ok(Json(wire)),
        _ => {
            let remedy = "is `ixnicd` of another version? stop the dataplane and run it again";
            let reason = format!("{name}: its card answers `{answer}`");
            Err(Refusal::new(Kind::Failed, reason, remedy).into())
        }
    }
}

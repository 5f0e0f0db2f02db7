//! Paths and what they do. Each handler's description is also its part of `/openapi.json`.

use std::time::{Duration, Instant};

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use ix_api::{
    CoreMap, Dataplane, Decision, Definition, FlowGroup, GrantRequest, History, Kind, Lagged,
    MigrateRequest, Moved, Policy, Refusal, RevokeRequest, Stats,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::{IntoParams, OpenApi};

use super::{Answer, Refused, Shared, capture, metrics, streams, wire};

/// How long a machine may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How often that is looked for.
const STOP_PERIOD: Duration = Duration::from_millis(20);

/// All paths.
pub fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/dataplanes", get(list).post(start))
        .route("/v1/dataplanes/{name}", get(view).delete(stop))
        .route("/v1/dataplanes/{name}/grant", post(grant))
        .route("/v1/dataplanes/{name}/revoke", post(revoke))
        .route("/v1/dataplanes/{name}/groups", get(groups))
        .route("/v1/dataplanes/{name}/migrate", post(migrate))
        .route("/v1/dataplanes/{name}/stats", get(stats))
        .route("/v1/dataplanes/{name}/history", get(history))
        .route("/v1/dataplanes/{name}/policy", get(policy).put(set_policy))
        .route("/v1/dataplanes/{name}/decisions", get(decisions))
        .route("/v1/dataplanes/{name}/logs", get(streams::logs))
        .route("/v1/dataplanes/{name}/capture", get(capture::capture))
        .route(
            "/v1/dataplanes/{name}/wire",
            get(wire::wire).put(wire::impair),
        )
        .route("/v1/cores", get(cores))
        .route("/v1/events", get(streams::events))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(description))
        .fallback(nothing_there)
        .with_state(shared)
}

/// The description of the interface.
#[derive(OpenApi)]
#[openapi(
    info(title = "ixcpd", description = "Control plane of IX dataplanes"),
    paths(
        list,
        start,
        view,
        stop,
        grant,
        revoke,
        groups,
        migrate,
        stats,
        history,
        policy,
        set_policy,
        decisions,
        cores,
        capture::capture,
        wire::wire,
        wire::impair,
        streams::logs,
        streams::events,
        metrics::metrics
    ),
    components(schemas(Lagged, Refusal))
)]
pub struct Description;

/// A body of JSON; one that cannot be read is refused in the interface's own words.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Body(value)),
            Err(rejection) => Err(unreadable(&rejection)),
        }
    }
}

fn unreadable(rejection: &JsonRejection) -> Refused {
    let remedy = "send JSON as /openapi.json describes it";
    Refusal::new(Kind::Invalid, rejection.body_text(), remedy).into()
}

/// All dataplanes.
#[utoipa::path(get, path = "/v1/dataplanes", responses((status = 200, body = Vec<Dataplane>)))]
async fn list(State(shared): State<Shared>) -> Answer<Vec<Dataplane>> {
    let sights = shared.look();
    Ok(Json(
        sights.dataplanes.iter().map(|it| it.view.clone()).collect(),
    ))
}

/// Starts a dataplane, and answers before it serves.
#[utoipa::path(post, path = "/v1/dataplanes", request_body = Definition, responses(
    (status = 200, body = Dataplane), (status = 400, body = Refusal), (status = 409, body = Refusal)
))]
async fn start(
    State(shared): State<Shared>,
    Body(definition): Body<Definition>,
) -> Answer<Dataplane> {
    Ok(Json(
        shared
            .with(|controller| controller.start(definition))
            .await?,
    ))
}

/// A dataplane.
#[utoipa::path(get, path = "/v1/dataplanes/{name}", params(("name" = String, Path,)), responses(
    (status = 200, body = Dataplane), (status = 404, body = Refusal)
))]
async fn view(State(shared): State<Shared>, Path(name): Path<String>) -> Answer<Dataplane> {
    Ok(Json(shared.look().get(&name)?.view.clone()))
}

/// Stops a dataplane, and answers when nothing of it is left.
#[utoipa::path(delete, path = "/v1/dataplanes/{name}", params(("name" = String, Path,)), responses(
    (status = 204), (status = 404, body = Refusal), (status = 500, body = Refusal)
))]
async fn stop(
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refused> {
    let stopped = name.clone();
    shared
        .with(move |controller| controller.begin_stop(&stopped))
        .await?;
    let deadline = Instant::now() + STOP_PATIENCE;
    loop {
        let stopped = name.clone();
        match shared
            .with(move |controller| controller.is_gone(&stopped))
            .await
        {
            Ok(true) => return Ok(StatusCode::NO_CONTENT),
            // Somebody else has stopped it at the same time.
            Err(refusal) if refusal.kind == Kind::Absent => return Ok(StatusCode::NO_CONTENT),
            Err(refusal) => return Err(refusal.into()),
            Ok(false) if Instant::now() > deadline => {
                let reason = format!("{name} did not end in {} s", STOP_PATIENCE.as_secs());
                let remedy =
                    format!("`ixctl logs {name}` may say why; kill its keeper as a last resort");
                return Err(Refusal::new(Kind::Failed, reason, remedy).into());
            }
            Ok(false) => tokio::time::sleep(STOP_PERIOD).await,
        }
    }
}

/// Grants hardware threads to a dataplane.
#[utoipa::path(post, path = "/v1/dataplanes/{name}/grant", params(("name" = String, Path,)),
    request_body = GrantRequest, responses(
    (status = 200, body = Dataplane), (status = 404, body = Refusal), (status = 409, body = Refusal)
))]
async fn grant(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Body(request): Body<GrantRequest>,
) -> Answer<Dataplane> {
    let answer = shared.with(move |controller| controller.grant(&name, &request));
    Ok(Json(answer.await?))
}

/// Takes hardware threads back from a dataplane.
#[utoipa::path(post, path = "/v1/dataplanes/{name}/revoke", params(("name" = String, Path,)),
    request_body = RevokeRequest, responses(
    (status = 200, body = Dataplane), (status = 404, body = Refusal), (status = 409, body = Refusal)
))]
async fn revoke(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Body(request): Body<RevokeRequest>,
) -> Answer<Dataplane> {
    let answer = shared.with(move |controller| controller.revoke(&name, &request));
    Ok(Json(answer.await?))
}

/// The flow groups of a dataplane: who serves them, and what has come for them.
#[utoipa::path(get, path = "/v1/dataplanes/{name}/groups", params(("name" = String, Path,)), responses(
    (status = 200, body = Vec<FlowGroup>), (status = 404, body = Refusal)
))]
async fn groups(State(shared): State<Shared>, Path(name): Path<String>) -> Answer<Vec<FlowGroup>> {
    Ok(Json(shared.look().get(&name)?.groups()))
}

/// Moves flow groups to a thread.
#[utoipa::path(post, path = "/v1/dataplanes/{name}/migrate", params(("name" = String, Path,)),
    request_body = MigrateRequest, responses(
    (status = 200, body = Moved), (status = 404, body = Refusal), (status = 409, body = Refusal)
))]
async fn migrate(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Body(request): Body<MigrateRequest>,
) -> Answer<Moved> {
    let answer = shared.with(move |controller| controller.migrate(&name, &request));
    Ok(Json(answer.await?))
}

/// What each thread of a dataplane says of itself.
#[utoipa::path(get, path = "/v1/dataplanes/{name}/stats", params(("name" = String, Path,)), responses(
    (status = 200, body = Stats), (status = 404, body = Refusal)
))]
async fn stats(State(shared): State<Shared>, Path(name): Path<String>) -> Answer<Stats> {
    Ok(Json(shared.look().get(&name)?.stats()))
}

/// Which part of the past.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
struct HistoryQuery {
    /// Samples taken later than this, in milliseconds since 1970.
    after: u64,
}

/// What a dataplane did over the last minutes.
#[utoipa::path(get, path = "/v1/dataplanes/{name}/history",
    params(("name" = String, Path,), HistoryQuery), responses(
    (status = 200, body = History), (status = 404, body = Refusal)
))]
async fn history(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Query(query): Query<HistoryQuery>,
) -> Answer<History> {
    Ok(Json(shared.look().get(&name)?.history(query.after)))
}

/// The policy of a dataplane.
#[utoipa::path(get, path = "/v1/dataplanes/{name}/policy", params(("name" = String, Path,)), responses(
    (status = 200, body = Policy), (status = 404, body = Refusal)
))]
async fn policy(State(shared): State<Shared>, Path(name): Path<String>) -> Answer<Policy> {
    let answer = shared.with(move |controller| Ok(controller.get(&name)?.policy().clone()));
    Ok(Json(answer.await.map_err(|refusal: Refusal| refusal)?))
}

/// Changes the policy of a dataplane.
#[utoipa::path(put, path = "/v1/dataplanes/{name}/policy", params(("name" = String, Path,)),
    request_body = Policy, responses(
    (status = 200, body = Policy), (status = 400, body = Refusal), (status = 404, body = Refusal)
))]
async fn set_policy(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Body(policy): Body<Policy>,
) -> Answer<Policy> {
    let answer = shared.with(move |controller| controller.set_policy(&name, policy));
    Ok(Json(answer.await?))
}

/// What the policy of a dataplane decided, and why.
#[utoipa::path(get, path = "/v1/dataplanes/{name}/decisions", params(("name" = String, Path,)), responses(
    (status = 200, body = Vec<Decision>), (status = 404, body = Refusal)
))]
async fn decisions(
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> Answer<Vec<Decision>> {
    let answer = shared.with(move |controller| Ok(controller.get(&name)?.reasons.all()));
    Ok(Json(answer.await.map_err(|refusal: Refusal| refusal)?))
}

/// The machine's hardware threads and who holds them.
#[utoipa::path(get, path = "/v1/cores", responses((status = 200, body = CoreMap)))]
async fn cores(State(shared): State<Shared>) -> Answer<CoreMap> {
    Ok(Json(shared.look().cores.clone()))
}

async fn description() -> Json<utoipa::openapi::OpenApi> {
    Json(Description::openapi())
}

async fn nothing_there() -> Refused {
    let remedy = "/openapi.json describes what there is";
    Refusal::new(Kind::Absent, "there is nothing at this path", remedy).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{Controller, Parts};
    use crate::store::Store;
    use ix_machine::Artifacts;
    use ix_policy::{Assignment, Topology};
    use std::sync::{Arc, Mutex};

    #[test]
    fn who_looks_does_not_wait_for_who_changes() {
        let folder = tempfile::tempdir().unwrap();
        let parts = Parts {
            store: Store::open(folder.path()).unwrap(),
            artifacts: Artifacts::at("/nowhere"),
            program: "/nowhere/ixcpd".into(),
            assignment: Assignment::new(Topology::emulated(3), vec![0]),
            emulated: true,
            records_loads: false,
        };
        let controller = Arc::new(Mutex::new(Controller::new(parts).unwrap()));
        let shared = Shared::new(Arc::clone(&controller));
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        // As during a long grant.
        let held = controller.lock().unwrap();
        let looks = async {
            let map = cores(State(shared.clone())).await;
            let dataplanes = list(State(shared.clone())).await;
            let missing = stats(State(shared), Path("kv".to_owned())).await;
            (map, dataplanes, missing)
        };
        let looks =
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), looks).await });
        let (map, dataplanes, missing) = looks.expect("nobody waits");
        assert_eq!(map.map_err(|_| "refused").unwrap().0.threads.len(), 3);
        assert!(dataplanes.map_err(|_| "refused").unwrap().0.is_empty());
        assert!(missing.is_err());
        drop(held);
    }
}

//! The interface: HTTP with JSON over a Unix socket, and over a loopback address for whoever has the
//! token; and the dashboard, a page that is a client of it.
//!
//! Operations block, so they run on threads for that ([`Shared::with`]); the controller does them one
//! at a time. Who only looks does not wait for them ([`Shared::look`]).

mod access;
mod capture;
mod dashboard;
mod metrics;
mod routes;
mod streams;
mod wire;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, middleware};
use ix_api::{Kind, Refusal};
use tokio::net::{TcpListener, UnixListener};

use crate::controller::Controller;
use crate::sight::{Board, Sights};
pub use access::{Access, Token};

/// What all handlers share.
#[derive(Clone)]
pub struct Shared {
    controller: Arc<Mutex<Controller>>,
    board: Board,
}

impl Shared {
    /// Handlers of that controller.
    pub fn new(controller: Arc<Mutex<Controller>>) -> Shared {
        let board = lock(&controller).board.clone();
        Shared { controller, board }
    }

    /// How things stand.
    pub(crate) fn look(&self) -> Arc<Sights> {
        self.board.look()
    }

    /// Does something with the controller, on a thread that may block.
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Controller) -> T + Send + 'static,
    ) -> T {
        let controller = Arc::clone(&self.controller);
        let worker = tokio::task::spawn_blocking(move || {
            let mut controller = lock(&controller);
            let result = work(&mut controller);
            // Who gets the answer sees what it has led to.
            controller.show();
            result
        });
        match worker.await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

fn lock(controller: &Mutex<Controller>) -> MutexGuard<'_, Controller> {
    controller.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An answer, or a refusal with the status that fits it.
pub(crate) type Answer<T> = Result<Json<T>, Refused>;

/// A refusal as a response.
pub(crate) struct Refused(Refusal);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused(refusal)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self.0.kind {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Absent => StatusCode::NOT_FOUND,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self.0)).into_response()
    }
}

/// Serves local users on a Unix socket until the process ends.
pub async fn serve_socket(
    shared: Shared,
    listener: UnixListener,
    access: Access,
) -> io::Result<()> {
    let access = Arc::new(access);
    let router = routes::router(shared)
        .merge(dashboard::router())
        .layer(middleware::from_fn_with_state(access, access::check_peer));
    let service = router.into_make_service_with_connect_info::<access::Peer>();
    axum::serve(listener, service).await
}

/// Serves whoever has the token, on a loopback address, until the process ends.
pub async fn serve_tcp(shared: Shared, listener: TcpListener, token: Token) -> io::Result<()> {
    let token = Arc::new(token);
    let router: Router = routes::router(shared)
        .layer(middleware::from_fn_with_state(token, access::check_token))
        .merge(dashboard::router());
    axum::serve(listener, router).await
}

/// Listens on a socket that its owner and its group may use. There must be no other daemon: what is
/// there is a dead one's.
pub fn bind_socket(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    if group.is_some() {
        std::os::unix::fs::chown(path, None, group)?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

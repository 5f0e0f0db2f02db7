//! The dashboard: a page, its style and its script, which are part of the program. They hold no secret, so
//! everybody who reaches the interface gets them; what they show they ask for like any other client.

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::IntoResponse;
use axum::routing::get;

/// Nothing is loaded, run or asked for but what this daemon serves, and nobody frames the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// The paths of the dashboard.
pub fn router() -> Router {
    let mut router = Router::new();
    for asset in &ASSETS {
        router = router.route(asset.path, get(async || answer(asset)));
    }
    router
}

struct Asset {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

const ASSETS: [Asset; 6] = [
    html("/", include_str!("../../assets/index.html")),
    style(
        "/dashboard/style.css",
        include_str!("../../assets/style.css"),
    ),
    script("/dashboard/main.js", include_str!("../../assets/main.js")),
    script(
        "/dashboard/client.js",
        include_str!("../../assets/client.js"),
    ),
    script("/dashboard/chart.js", include_str!("../../assets/chart.js")),
    image("/dashboard/icon.svg", include_str!("../../assets/icon.svg")),
];

const fn html(path: &'static str, text: &'static str) -> Asset {
    asset(path, "text/html; charset=utf-8", text)
}

const fn style(path: &'static str, text: &'static str) -> Asset {
    asset(path, "text/css; charset=utf-8", text)
}

const fn script(path: &'static str, text: &'static str) -> Asset {
    asset(path, "text/javascript; charset=utf-8", text)
}

const fn image(path: &'static str, text: &'static str) -> Asset {
    asset(path, "image/svg+xml", text)
}

const fn asset(path: &'static str, kind: &'static str, text: &'static str) -> Asset {
    Asset { path, kind, text }
}

fn answer(asset: &Asset) -> impl IntoResponse + use<> {
    let headers = [
        (CONTENT_TYPE, asset.kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // The next daemon may have another page.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, asset.text)
}

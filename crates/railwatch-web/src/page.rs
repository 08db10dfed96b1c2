//! The dashboard's files, part of the program: no build step, nothing from elsewhere.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

/// Path, media type, content.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("assets/index.html")),
    ("/ui/app.css", "text/css; charset=utf-8", include_str!("assets/app.css")),
    ("/ui/app.js", JS, include_str!("assets/app.js")),
    ("/ui/dom.js", JS, include_str!("assets/dom.js")),
    ("/ui/format.js", JS, include_str!("assets/format.js")),
    ("/ui/charts.js", JS, include_str!("assets/charts.js")),
    ("/ui/store.js", JS, include_str!("assets/store.js")),
    ("/ui/fleet.js", JS, include_str!("assets/fleet.js")),
    ("/ui/agent.js", JS, include_str!("assets/agent.js")),
    ("/ui/alerts.js", JS, include_str!("assets/alerts.js")),
    ("/ui/system.js", JS, include_str!("assets/system.js")),
    ("/favicon.svg", "image/svg+xml", include_str!("assets/favicon.svg")),
];
const HTML: &str = "text/html; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// Adds the files, and the page at each of its own addresses.
pub(crate) fn routes(mut app: Router) -> Router {
    for (path, media, content) in FILES {
        app = app.route(path, get(|| async { ([(header::CONTENT_TYPE, *media)], *content).into_response() }));
    }
    let page = || {
        get(|| async { ([(header::CONTENT_TYPE, HTML)], include_str!("assets/index.html")).into_response() })
    };
    for path in [
        "/agents",
        "/agents/{agent}",
        "/alerts",
        "/alerts/{alert}",
        "/reviews",
        "/rules",
        "/rails",
        "/reloads",
    ] {
        app = app.route(path, page());
    }
    app
}

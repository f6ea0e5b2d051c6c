//! stub
use crate::service::Services;
pub fn router(_: Services, _: crate::http::BodyBound) -> axum::Router {
    axum::Router::new()
}
pub fn metrics_router(_: Services) -> axum::Router {
    axum::Router::new()
}

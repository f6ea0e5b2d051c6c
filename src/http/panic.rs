//! A panic in a handler is a 500 to one client, not a dead connection; its text goes nowhere.

use crate::http::{EdgeRefusal, Problem};
use axum::response::{IntoResponse, Response};
use std::any::Any;
use tower_http::catch_panic::CatchPanicLayer;

/// Answers 500 where a handler panics. The panic's text, which may hold anything, is neither answered nor logged here.
pub fn catch_panic() -> CatchPanicLayer<fn(Box<dyn Any + Send>) -> Response> {
    CatchPanicLayer::custom(answer)
}

fn answer(_text: Box<dyn Any + Send>) -> Response {
    tracing::error!("a request handler panicked");
    let mut response = Problem::from(EdgeRefusal::Fault).into_response();
    // The listener may have other words for it.
    response.extensions_mut().insert(EdgeRefusal::Fault);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    #[tokio::test]
    async fn a_panic_is_a_500_without_its_text() {
        let boom = || async { assert_eq!("canary sk-live-1", "") };
        let app = Router::new().route("/", get(boom)).layer(catch_panic());
        let answer = app.oneshot(http::Request::new(Body::empty())).await.unwrap();
        assert_eq!(answer.status(), 500);
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains("internal_error") && !body.contains("canary"), "{body}");
    }
}

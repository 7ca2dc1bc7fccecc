//! What goes wrong, as RFC 9457 problem details; browsers get a page (`server::dress`).

use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;

use crate::store::StoreError;
use crate::web::words::Phrase;

/// An answer that is no success. `detail` holds no patient data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub status: StatusCode,
    pub detail: Phrase,
    pub retry_after_s: Option<u64>,
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Failure {
    pub fn new(status: StatusCode, detail: impl Into<Phrase>) -> Failure {
        Failure { status, detail: detail.into(), retry_after_s: None }
    }

    pub fn bad_request(detail: impl Into<Phrase>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, detail)
    }

    pub fn not_found(detail: impl Into<Phrase>) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, detail)
    }

    pub fn forbidden(detail: impl Into<Phrase>) -> Failure {
        Failure::new(StatusCode::FORBIDDEN, detail)
    }

    /// `detail` for programs and logs.
    pub fn said(&self) -> String {
        self.detail.in_english()
    }

    pub fn method() -> Failure {
        Failure::new(StatusCode::METHOD_NOT_ALLOWED, "This address does not take that method.")
    }

    pub fn internal(detail: impl Into<Phrase>) -> Failure {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    pub fn busy(detail: impl Into<Phrase>, retry_after_s: u64) -> Failure {
        let retry_after_s = Some(retry_after_s);
        Failure { status: StatusCode::SERVICE_UNAVAILABLE, detail: detail.into(), retry_after_s }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        if let StoreError::Remaking { done, total } = error {
            let detail = Phrase::new("problem.index").with("done", done).with("total", total);
            return Failure::busy(detail, 10);
        }
        tracing::error!(%error, "a page could not read the store");
        Failure::busy(Phrase::new("problem.store"), 5)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let problem = Problem {
            r#type: "about:blank",
            title,
            status: self.status.as_u16(),
            detail: &self.said(),
        };
        let mut response = (self.status, axum::Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

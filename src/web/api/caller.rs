//! How often one caller may ask, and that a request that is sent twice is done once.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use axum::response::Response;
use sha2::Digest as _;
use sha2::Sha256;
use tokio::time::Instant;

use crate::dicom::access::Bucket;
use crate::web::Web;
use crate::web::access::Viewer;
use crate::web::api::intake;
use crate::web::problem::Failure;

const KEY: &str = "idempotency-key";
const KEY_CHARS_MAX: usize = 255;
const REPLAYED: &str = "idempotency-replayed";
/// How long the answer to a key is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);
const ANSWERS_MAX: usize = 4096;
const CALLERS_MAX: usize = 4096;
/// Bodies of requests that carry no file, and of all answers that are kept.
const BODY_BYTES_MAX: usize = 256 << 10;

/// What is remembered of callers.
#[derive(Default)]
pub struct Callers {
    buckets: Mutex<HashMap<String, Bucket>>,
    answers: Mutex<HashMap<Asked, Answered>>,
}

/// Who asked for what by which key.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Asked {
    caller: String,
    path: String,
    key: String,
}

struct Answered {
    of: [u8; 32],
    at: Instant,
    /// None while it is being worked on.
    answer: Option<(StatusCode, Option<HeaderValue>, Option<HeaderValue>, Bytes)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers 429 to one who asks more often than `http.requests_per_minute_max`.
pub async fn limit(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    request: Request,
    next: Next,
) -> Response {
    let each_minute = web.node.config.requests_per_minute_max;
    if each_minute > 0 && !may_ask(&web.callers, &viewer.name, each_minute, Instant::now()) {
        metrics::counter!("prelim_http_rate_limited_total").increment(1);
        return Failure {
            status: StatusCode::TOO_MANY_REQUESTS,
            detail: format!(
                "One caller may ask {each_minute} times a minute (http.requests_per_minute_max)."
            )
            .into(),
            retry_after_s: Some(60_u64.div_ceil(u64::from(each_minute))),
        }
        .into_response();
    }
    next.run(request).await
}

fn may_ask(callers: &Callers, name: &str, each_minute: u32, now: Instant) -> bool {
    let mut buckets = lock(&callers.buckets);
    if buckets.len() >= CALLERS_MAX && !buckets.contains_key(name) {
        buckets.clear();
    }
    let each_minute = f64::from(each_minute);
    let fresh = || Bucket::new(each_minute / 60.0, each_minute, now);
    buckets.entry(name.to_owned()).or_insert_with(fresh).try_take(now)
}

/// A change with an `Idempotency-Key` that was done is answered as it was the first time. The same
/// key with another body is a mistake of the caller. Uploads are told apart by their length alone:
/// the same file twice is one instance by itself.
pub async fn once(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    request: Request,
    next: Next,
) -> Response {
    let Some(key) = request.headers().get(KEY).filter(|_| *request.method() == Method::POST) else {
        return next.run(request).await;
    };
    let key = match key.to_str() {
        Ok(key) if (1..=KEY_CHARS_MAX).contains(&key.len()) => key.to_owned(),
        Ok(_) | Err(_) => {
            let detail = format!("Idempotency-Key: use 1 to {KEY_CHARS_MAX} characters of ASCII.");
            return Failure::bad_request(detail).into_response();
        }
    };
    let path = request.uri().path().to_owned();
    let (request, of) = match fingerprint(request, &path).await {
        Ok(read) => read,
        Err(failure) => return failure.into_response(),
    };
    let asked = Asked { caller: viewer.name, path, key };
    match begin(&web.callers, &asked, of, Instant::now()) {
        Begun::New => {}
        Begun::Known(answer) => return answer,
        Begun::Refused(failure) => return failure.into_response(),
    }
    // A caller that goes away takes its place in the list with it.
    let place = Place { web: web.clone(), asked };
    let answer = next.run(request).await;
    place.keep(answer).await
}

struct Place {
    web: Web,
    asked: Asked,
}

impl Place {
    /// Keeps an answer that a second try would not better.
    async fn keep(self, answer: Response) -> Response {
        let is_final = !answer.status().is_server_error()
            && !matches!(
                answer.status(),
                StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
            );
        if !is_final {
            return answer;
        }
        let (parts, body) = answer.into_parts();
        let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
            return Failure::internal("The answer cannot be given.").into_response();
        };
        let header = |name| parts.headers.get(name).cloned();
        let kept =
            (parts.status, header(header::CONTENT_TYPE), header(header::LOCATION), body.clone());
        if let Some(answered) = lock(&self.web.callers.answers).get_mut(&self.asked) {
            answered.answer = Some(kept);
        }
        Response::from_parts(parts, Body::from(body))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut answers = lock(&self.web.callers.answers);
        if answers.get(&self.asked).is_some_and(|answered| answered.answer.is_none()) {
            answers.remove(&self.asked);
        }
    }
}

enum Begun {
    New,
    Known(Response),
    Refused(Failure),
}

fn begin(callers: &Callers, asked: &Asked, of: [u8; 32], now: Instant) -> Begun {
    let mut answers = lock(&callers.answers);
    answers.retain(|_, answered| now.duration_since(answered.at) < KEPT);
    match answers.get(asked) {
        Some(known) if known.of != of => Begun::Refused(Failure::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "This Idempotency-Key was used for another request.",
        )),
        Some(Answered { answer: None, .. }) => Begun::Refused(Failure::new(
            StatusCode::CONFLICT,
            "The first request with this Idempotency-Key is still worked on.",
        )),
        Some(Answered { answer: Some((status, kind, location, body)), .. }) => {
            let mut response = (*status, body.clone()).into_response();
            let headers = response.headers_mut();
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
            let kept = [(header::CONTENT_TYPE, kind), (header::LOCATION, location)];
            for (name, value) in kept {
                value.as_ref().map(|value| headers.insert(name, value.clone()));
            }
            Begun::Known(response)
        }
        None => {
            if answers.len() >= ANSWERS_MAX {
                let oldest = answers.iter().min_by_key(|(_, answered)| answered.at);
                let oldest = oldest.map(|(asked, _)| asked.clone());
                oldest.map(|asked| answers.remove(&asked));
            }
            answers.insert(asked.clone(), Answered { of, at: now, answer: None });
            Begun::New
        }
    }
}

/// What a request asks for, to be told from another with the same key.
async fn fingerprint(request: Request, path: &str) -> Result<(Request, [u8; 32]), Failure> {
    let (parts, body) = request.into_parts();
    if intake::PATHS.contains(&path) {
        let length = parts.headers.get(header::CONTENT_LENGTH).map(HeaderValue::as_bytes);
        let of = Sha256::digest(length.unwrap_or_default()).into();
        return Ok((Request::from_parts(parts, body), of));
    }
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large, or ended early.")
    })?;
    let of = Sha256::digest(&body).into();
    Ok((Request::from_parts(parts, Body::from(body)), of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_that_asks_too_often_keeps_no_other_out() {
        let (callers, now) = (Callers::default(), Instant::now());
        assert!((0..3).all(|_| may_ask(&callers, "ris", 3, now)));
        assert!(!may_ask(&callers, "ris", 3, now));
        assert!(may_ask(&callers, "pacs", 3, now));
        assert!(may_ask(&callers, "ris", 3, now + Duration::from_secs(20)));
    }

    #[test]
    fn a_key_stands_for_one_request_of_one_caller() {
        let (callers, now) = (Callers::default(), Instant::now());
        let asked = |caller: &str, key: &str| Asked {
            caller: caller.into(),
            path: "/x".into(),
            key: key.into(),
        };
        let word = |begun: Begun| match begun {
            Begun::New => "new",
            Begun::Known(_) => "known",
            Begun::Refused(failure) if failure.status == StatusCode::CONFLICT => "in work",
            Begun::Refused(_) => "other",
        };
        let first = asked("ris", "1");
        let begin = |asked: &Asked, of: u8, at| word(begin(&callers, asked, [of; 32], at));
        assert_eq!(begin(&first, 1, now), "new");
        assert_eq!(begin(&first, 1, now), "in work");
        let answer = (StatusCode::OK, None, None, Bytes::new());
        lock(&callers.answers).get_mut(&first).unwrap().answer = Some(answer);
        assert_eq!(begin(&first, 1, now), "known");
        assert_eq!(begin(&first, 2, now), "other");
        assert_eq!(begin(&asked("pacs", "1"), 2, now), "new");
        assert_eq!(begin(&first, 2, now + KEPT), "new", "a day later it is forgotten");
    }
}

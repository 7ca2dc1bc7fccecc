//! Connections: how many, how slow, how long; and what every answer wears.
//!
//! Our own accept loop, because `axum::serve` sets no timer: a client that sends its head one
//! byte a minute would keep its place for ever (hyper's `header_read_timeout`).

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use axum::extract::MatchedPath;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use axum::response::Response;
use hyper::service::Service as _;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dicom::access::Addresses;
use crate::dicom::tls;
use crate::domain::in_force::InForce;
use crate::web::Shared;
use crate::web::Web;
use crate::web::WebState;
use crate::web::below;
use crate::web::page;
use crate::web::problem::Failure;
use crate::web::words::Phrase;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: &str = "x-forwarded-proto";
/// Size of a request's head.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// How long an answer that is being sent may take once the node stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Who asks: the other end of the connection. What a header claims counts from a proxy of the settings
/// alone.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Whether a request came over TLS, ours or a proxy's (X-Forwarded-Proto): `connection` notes it in the
/// header of RFC 7239, and takes away what stood there.
pub fn is_encrypted(headers: &HeaderMap) -> bool {
    headers.contains_key(header::FORWARDED)
}

/// Who asks through `proxies`: each of them puts the address that it sees at the end of
/// `X-Forwarded-For`, so the last that is none of theirs is the client's. What stands before it the
/// client may have written.
fn client(peer: SocketAddr, headers: &HeaderMap, proxies: &[Addresses]) -> SocketAddr {
    let is_proxy = |address: IpAddr| proxies.iter().any(|known| known.contains(address));
    let mut client = peer;
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let mut hops = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
    while is_proxy(client.ip().to_canonical()) {
        let hop = hops.next().map(str::trim).unwrap_or_default();
        let address = hop.parse::<IpAddr>().or_else(|_| hop.parse().map(|at: SocketAddr| at.ip()));
        let Ok(address) = address else { break };
        client = SocketAddr::new(address, 0);
    }
    client
}

/// Where browsers and programs come in.
pub struct Doors {
    pub plain: TcpListener,
    pub encrypted: Option<(TcpListener, Arc<tls::Server>)>,
}

/// The pages and the API, by settings that may become others.
pub struct Site {
    now: InForce<House>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What all connections share, by the settings in force.
struct House {
    web: Web,
    router: TowerToHyperService<axum::Router>,
    places: Arc<Semaphore>,
    header_timeout: Duration,
}

impl House {
    fn new(web: Web) -> House {
        let config = &web.node.config;
        House {
            places: Arc::new(Semaphore::new(config.connections_max)),
            header_timeout: Duration::from_secs(config.header_timeout_s),
            router: TowerToHyperService::new(crate::web::router(&web)),
            web,
        }
    }
}

impl Site {
    /// - `tasks`: where its connections and what it does beside them run, until `stop`.
    pub fn open(state: WebState, stop: CancellationToken, tasks: TaskTracker) -> Site {
        let web = Shared::open(state, None, &stop, &tasks);
        Site { now: InForce::new(House::new(web)), stop, tasks }
    }

    /// Goes on by another state, from the next request on: who is logged in stays.
    pub fn change(&self, by: impl FnOnce(&mut WebState)) {
        let before = &self.now.now().web;
        let mut state = before.node.clone();
        by(&mut state);
        let web = Shared::open(state, Some(before), &self.stop, &self.tasks);
        self.now.replace(House::new(web));
    }

    /// Serves until `stop`; then ends idle connections at once and busy ones within some seconds.
    pub async fn serve(self: Arc<Site>, doors: Doors) {
        let encrypted = async {
            if let Some((listener, server)) = doors.encrypted {
                tokio::join!(
                    accept(listener, Some(Arc::clone(&server)), &self),
                    renew(server, self.stop.clone())
                );
            }
        };
        tokio::join!(accept(doors.plain, None, &self), encrypted);
    }
}

/// Looks now and then whether the certificate is another one.
async fn renew(server: Arc<tls::Server>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(server.reload_pause()) => (),
        }
        let server = Arc::clone(&server);
        let _ = tokio::task::spawn_blocking(move || server.reload(false)).await;
    }
}

async fn accept(listener: TcpListener, tls: Option<Arc<tls::Server>>, site: &Arc<Site>) {
    loop {
        let places = Arc::clone(&site.now.now().places);
        let place = tokio::select! {
            () = site.stop.cancelled() => return,
            place = places.acquire_owned() => place,
        };
        let Ok(place) = place else { return };
        let (stream, peer) = tokio::select! {
            () = site.stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                // Out of file descriptors, mostly: others will give some back.
                Err(error) => {
                    tracing::warn!(%error, "no HTTP connection could be accepted");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        let (tls, of) = (tls.clone(), Arc::clone(site));
        site.tasks.spawn(async move {
            match tls {
                None => connection(stream, peer, false, of).await,
                Some(server) => {
                    let handshake = server.acceptor().accept(stream);
                    match tokio::time::timeout(server.handshake_limit(), handshake).await {
                        Ok(Ok(stream)) => connection(stream, peer, true, of).await,
                        // Scanners of ports and browsers that do not trust the certificate.
                        Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS was agreed on"),
                        Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
                    }
                }
            }
            drop(place);
        });
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    encrypted: bool,
    site: Arc<Site>,
) {
    let (header_timeout, stop) = (site.now.now().header_timeout, site.stop.clone());
    let service = hyper::service::service_fn(move |mut request| {
        let request_extensions: &mut axum::http::Request<hyper::body::Incoming> = &mut request;
        let house = site.now.now();
        let proxies = &house.web.node.config.trusted_proxies;
        let peer = client(peer, request_extensions.headers(), proxies);
        request_extensions.extensions_mut().insert(Peer(peer));
        let base_path = &house.web.node.config.base_path;
        if let Some(uri) = below::stripped(base_path, request_extensions.uri()) {
            *request_extensions.uri_mut() = uri;
        }
        let headers = request_extensions.headers_mut();
        headers.remove(header::FORWARDED);
        // Whoever claims it without a proxy in front gets a cookie that their browser keeps to itself.
        let is_said = headers.get(FORWARDED_PROTO).is_some_and(|value| {
            value
                .as_bytes()
                .split(|b| *b == b',')
                .next()
                .unwrap_or_default()
                .eq_ignore_ascii_case(b"https")
        });
        if encrypted || is_said {
            headers.insert(header::FORWARDED, HeaderValue::from_static("proto=https"));
        }
        house.router.call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // Resets and time-outs are the peer's business.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(DRAIN, connection).await;
}

/// Bounds the requests that are worked on at one time.
pub async fn places(State(web): State<Web>, request: Request, next: Next) -> Response {
    let Ok(_place) = web.requests.try_acquire() else {
        return Failure::busy(Phrase::new("problem.many"), 1).into_response();
    };
    next.run(request).await
}

const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; \
                      form-action 'self'; frame-ancestors 'self'";

/// Puts security headers on every answer, a page around errors that a browser shows, and counts.
pub async fn dress(State(web): State<Web>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let html = wants_html(request.headers());
    let encrypted = is_encrypted(request.headers());
    let in_pieces = request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut response = next.run(request).await;
    if html && let Some(failure) = response.extensions().get::<Failure>().cloned() {
        let page = web.pages.failure(&failure);
        let (parts, _) = response.into_parts();
        response = (parts.status, page).into_response();
        for name in [header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
            if let Some(value) = parts.headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
    }
    let headers = response.headers_mut();
    let mut default = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    default(header::CONTENT_SECURITY_POLICY, POLICY);
    default(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    default(header::REFERRER_POLICY, "same-origin");
    default(header::CACHE_CONTROL, "no-store");
    default(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    default(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    if encrypted {
        default(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    if in_pieces {
        // RFC 9112 6.1: whatever follows may be meant otherwise by a program in between.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    // The route, not the path: a path holds UIDs, and any path may be asked for.
    let route = route.unwrap_or_else(|| "none".into());
    let status = response.status().as_u16();
    let labels =
        [("method", page::method_label(&method)), ("route", route), ("status", status.to_string())];
    metrics::counter!("prelim_http_requests_total", &labels).increment(1);
    metrics::histogram!("prelim_http_request_seconds").record(started.elapsed().as_secs_f64());
    tracing::debug!(%method, route = labels[1].1, status, "http");
    response
}

/// Whether a person reads the answer: browsers name `text/html`, programs do not.
pub fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_what_a_proxy_of_ours_says_and_nobody_else() {
        let proxies: Vec<Addresses> =
            ["10.0.0.7", "10.1.0.0/16", "::1"].map(|text| text.parse().unwrap()).into();
        for (peer, lines, expected) in [
            ("10.0.0.9", &["192.0.2.1"][..], "10.0.0.9"),
            ("10.0.0.7", &[], "10.0.0.7"),
            ("10.0.0.7", &["192.0.2.1"], "192.0.2.1"),
            ("10.0.0.7", &["198.51.100.1, 192.0.2.1"], "192.0.2.1"),
            ("10.0.0.7", &["198.51.100.1", "192.0.2.1, 10.1.2.3"], "192.0.2.1"),
            ("10.0.0.7", &["10.1.2.3"], "10.1.2.3"),
            ("10.0.0.7", &["192.0.2.1, somebody"], "10.0.0.7"),
            ("10.0.0.7", &["192.0.2.1, "], "10.0.0.7"),
            ("::ffff:10.0.0.7", &["2001:db8::1"], "2001:db8::1"),
            ("::1", &["192.0.2.1:4711"], "192.0.2.1"),
            ("::1", &["[2001:db8::1]:4711"], "2001:db8::1"),
        ] {
            let headers = lines.iter().map(|line| (FORWARDED_FOR, line.parse().unwrap()));
            let peer = SocketAddr::new(peer.parse().unwrap(), 1);
            let found = client(peer, &headers.collect(), &proxies).ip().to_string();
            assert_eq!(found, expected, "{peer} {lines:?}");
        }
    }
}

//! The storage and verification acceptor: takes connections, limits them, hands each instance to
//! a [`StorageHandler`]. What is said on one association is in `scp_session`.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::dicom::config::Config;
use crate::dicom::scp_session;
use crate::dicom::service::ServiceHandler;
use crate::dicom::status::Status;
use crate::dicom::users::Users;

/// Decides what happens to one C-STORE.
#[async_trait]
pub trait StorageHandler: Send + Sync + 'static {
    /// Called with the command, before its data set. A refusal is answered after the data set.
    async fn begin(&self, request: StoreRequest) -> Result<Box<dyn InstanceSink>, Refusal>;

    /// Called before a release is answered: what was answered with success has to be durable.
    async fn releasing(&self) {}

    async fn association_ended(&self, _tally: &Tally) {}

    /// Who serves what is not storage; None: nobody does.
    fn services(&self) -> Option<Arc<dyn ServiceHandler>> {
        None
    }
}

/// Where one data set goes. Dropped unfinished it leaves nothing behind.
#[async_trait]
pub trait InstanceSink: Send {
    /// Takes the next bytes, in order. The sender waits while this does.
    async fn write(&mut self, chunk: Bytes) -> Result<(), Refusal>;

    /// The data set is whole. Success (0000) is answered after this returned Ok, never before.
    async fn finish(self: Box<Self>) -> Result<(), Refusal>;
}

/// A C-STORE-RQ and the association it came on. UIDs are as sent and not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreRequest {
    pub sop_class_uid: String,
    pub sop_instance_uid: String,
    pub transfer_syntax_uid: String,
    /// Printable: control characters escaped.
    pub calling_ae: String,
    pub called_ae: String,
    pub peer: SocketAddr,
    /// Number of the association in this node's life, as in the log.
    pub association: String,
}

/// Why an instance is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: Status,
    /// At most 64 characters reach the peer. No patient data: it is logged.
    pub comment: String,
}

impl Refusal {
    pub fn new(status: Status, comment: impl Into<String>) -> Refusal {
        Refusal { status, comment: comment.into() }
    }
}

/// What came over one association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    pub association: String,
    pub peer: SocketAddr,
    /// Printable; empty when no association was asked for.
    pub calling_ae: String,
    pub called_ae: String,
    /// The peer's Implementation Class UID and Version Name, as far as it says them.
    pub implementation: String,
    /// Name of the configured user that it is.
    pub user: String,
    /// C-STORE requests.
    pub offered: u64,
    pub stored: u64,
    /// Of the stored, those answered with a warning.
    pub warned: u64,
    pub stored_bytes: u64,
    pub echoes: u64,
    /// Requests of any kind that were answered with another status than success.
    pub refused: BTreeMap<Status, u64>,
    /// Of the offered, those answered with a failure.
    pub refused_instances: u64,
    /// Comment of the first refusal.
    pub first_refusal: String,
    /// `released`, `rejected: …`, or what broke it.
    pub ended: String,
}

impl Tally {
    pub fn new(association: u64, peer: SocketAddr) -> Tally {
        Tally {
            association: association.to_string(),
            peer,
            calling_ae: String::new(),
            called_ae: String::new(),
            implementation: String::new(),
            user: String::new(),
            offered: 0,
            stored: 0,
            warned: 0,
            stored_bytes: 0,
            echoes: 0,
            refused: BTreeMap::new(),
            refused_instances: 0,
            first_refusal: String::new(),
            ended: String::new(),
        }
    }

    /// Instances that were never answered, because the association ended before.
    pub fn failed(&self) -> u64 {
        self.offered.saturating_sub(self.stored + self.refused_instances)
    }
}

/// What all associations of one listener share.
pub struct Shared {
    pub config: Arc<Config>,
    pub handler: Arc<dyn StorageHandler>,
    pub stop: CancellationToken,
    pub users: Users,
    open: Mutex<HashMap<(IpAddr, String), usize>>,
    /// Connections without an association, the oldest first.
    waiting: Mutex<BTreeMap<u64, CancellationToken>>,
}

impl Shared {
    pub fn new(
        config: Arc<Config>,
        handler: Arc<dyn StorageHandler>,
        stop: CancellationToken,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            users: Users::new(config.users.clone()),
            config,
            handler,
            stop,
            open: Mutex::new(HashMap::new()),
            waiting: Mutex::new(BTreeMap::new()),
        })
    }

    /// A place for one association, given back when dropped. None when there is none left for
    /// this peer: an AE title at an address, so that one host's bad client does not lock out its
    /// good ones.
    pub fn enter(self: &Arc<Shared>, peer: IpAddr, calling_ae: &str) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (peer, calling_ae.to_owned());
        let here = open.get(&key).copied().unwrap_or(0);
        let all: usize = open.values().sum();
        if here >= self.config.associations_per_peer_max || all >= self.config.associations_max {
            return None;
        }
        open.insert(key.clone(), here + 1);
        metrics::gauge!("prelim_associations_open").increment(1.0);
        Some(Place { shared: Arc::clone(self), key })
    }

    /// Notes a connection without an association; the token is cancelled when it has to go.
    fn wait(&self, number: u64) -> CancellationToken {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.len() >= self.config.connections_max {
            let Some((_, oldest)) = waiting.pop_first() else { break };
            oldest.cancel();
        }
        let token = CancellationToken::new();
        waiting.insert(number, token.clone());
        token
    }

    pub fn no_longer_waiting(&self, number: u64) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }
}

/// See [`Shared::enter`].
pub struct Place {
    shared: Arc<Shared>,
    key: (IpAddr, String),
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
        metrics::gauge!("prelim_associations_open").decrement(1.0);
    }
}

/// Serves until `stop`, then lets open associations finish for `drain_s`, aborts the rest and
/// returns.
pub async fn serve(
    listener: TcpListener,
    config: Arc<Config>,
    handler: Arc<dyn StorageHandler>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let drain = Duration::from_secs(config.drain_s);
    let shared = Shared::new(config, handler, stop.clone());
    let sessions = TaskTracker::new();
    let mut number = 0;
    let mut trouble = AcceptTrouble::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                number += 1;
                let session = session(socket, peer, number, Arc::clone(&shared));
                tasks.spawn(sessions.track_future(session));
            }
            // Out of file descriptors or memory, or a connection that is gone already: the
            // listener itself is whole, so wait and go on (S10).
            Err(error) => {
                trouble.note(&error);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    sessions.close();
    // Sessions stop by themselves at the end of the drain; the rest is their last words.
    let _ = tokio::time::timeout(drain + Duration::from_secs(5), sessions.wait()).await;
}

async fn session(socket: TcpStream, peer: SocketAddr, number: u64, shared: Arc<Shared>) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
    let evicted = shared.wait(number);
    let span = tracing::info_span!(
        "association",
        id = number,
        %peer,
        calling = tracing::field::Empty,
        called = tracing::field::Empty,
    );
    let begun = Instant::now();
    let tally =
        scp_session::run(socket, peer, number, &shared, evicted).instrument(span.clone()).await;
    shared.no_longer_waiting(number);
    span.in_scope(|| log(&tally, begun.elapsed()));
    shared.handler.association_ended(&tally).await;
}

/// The one line that an association leaves in the log.
fn log(tally: &Tally, took: Duration) {
    let refused: Vec<String> =
        tally.refused.iter().map(|(status, count)| format!("{status} x {count}")).collect();
    tracing::info!(
        implementation = tally.implementation,
        user = tally.user,
        offered = tally.offered,
        stored = tally.stored,
        warned = tally.warned,
        failed = tally.failed(),
        bytes = tally.stored_bytes,
        echoes = tally.echoes,
        refused = refused.join(", "),
        first_refusal = tally.first_refusal,
        seconds = format!("{:.3}", took.as_secs_f64()),
        ended = tally.ended,
        "association ended"
    );
    let outcome = match tally.ended.split_once(':') {
        Some((kind, _)) => kind.to_owned(),
        None => tally.ended.clone(),
    };
    metrics::counter!("prelim_associations_total", "ended" => outcome).increment(1);
}

/// Errors of `accept`, one log line for many.
#[derive(Default)]
struct AcceptTrouble {
    count: u64,
    told: Option<Instant>,
}

impl AcceptTrouble {
    fn note(&mut self, error: &std::io::Error) {
        self.count += 1;
        metrics::counter!("prelim_accept_errors_total").increment(1);
        if self.told.is_none_or(|told| told.elapsed() > Duration::from_secs(10)) {
            tracing::error!(%error, count = self.count, "connections cannot be accepted");
            self.told = Some(Instant::now());
        }
    }
}

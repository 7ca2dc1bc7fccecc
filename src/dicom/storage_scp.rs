//! The storage and verification acceptor: takes connections, limits them, hands each instance to
//! a [`StorageHandler`]. What is said on one association is in `scp_session`.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::dicom::access::Access;
use crate::dicom::access::Peer;
use crate::dicom::config::Config;
use crate::dicom::negotiation::Rejection;
use crate::dicom::scp_session;
use crate::dicom::scp_session::CHUNK_BYTES;
use crate::dicom::service::ServiceHandler;
use crate::dicom::socket::Socket;
use crate::dicom::sources::Sources;
use crate::dicom::status::Status;
use crate::dicom::tls;
use crate::dicom::users::Users;
use crate::domain::aligned::Pool;
use crate::domain::clock::SystemClock;
use crate::domain::in_force::InForce;
use crate::domain::priority::Priority;
use crate::domain::uid::StudyUid;

/// Buffers that are kept while no data set comes.
const SPARE_BUFFERS: usize = 8;

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
    /// Only an instance of this study is wanted: another is refused with A900. C-STORE never says
    /// this; the store's sink has to keep to it.
    fn expect_study(&mut self, _study: &StudyUid) {}

    /// Bytes that the first chunk has to begin with, before those of the data set: what is kept
    /// stands in one piece of memory then.
    fn head(&self) -> &[u8] {
        &[]
    }

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
    /// How soon the sender wants it.
    pub priority: Priority,
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
    /// Name of the configured peer that it is; of the configured user that it named.
    pub peer_name: String,
    pub user: String,
    /// Version and suite of TLS, empty without; the subject of the peer's certificate.
    pub tls: String,
    pub certificate: String,
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
            peer_name: String::new(),
            user: String::new(),
            tls: String::new(),
            certificate: String::new(),
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

/// What all associations share.
pub struct Shared {
    pub config: InForce<Config>,
    pub handler: Arc<dyn StorageHandler>,
    pub stop: CancellationToken,
    /// Where data sets are gathered. A silent association has none of them.
    pub buffers: Arc<Pool>,
    pub users: InForce<Users>,
    pub access: Arc<Access>,
    pub sources: Arc<Sources>,
    open: Mutex<HashMap<Key, usize>>,
    /// Connections without an association, the oldest first.
    waiting: Mutex<BTreeMap<u64, CancellationToken>>,
    connections: AtomicU64,
}

/// Who shares a limit: a configured peer, or an AE title at an address, so that one host's bad
/// client does not lock out its good ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Peer(String),
    Caller(IpAddr, String),
}

impl Shared {
    /// A node that knows the peers of its settings and keeps no list of sources.
    pub fn new(
        config: Config,
        handler: Arc<dyn StorageHandler>,
        stop: CancellationToken,
    ) -> Arc<Shared> {
        let access = Arc::new(Access::new(config.peers.clone(), None));
        let sources = Arc::new(Sources::open(None, Arc::new(SystemClock)));
        Shared::with(config, handler, stop, access, sources)
    }

    pub fn with(
        config: Config,
        handler: Arc<dyn StorageHandler>,
        stop: CancellationToken,
        access: Arc<Access>,
        sources: Arc<Sources>,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            users: InForce::new(Users::new(config.users.clone())),
            config: InForce::new(config),
            handler,
            stop,
            buffers: Pool::new(CHUNK_BYTES, SPARE_BUFFERS),
            access,
            sources,
            open: Mutex::new(HashMap::new()),
            waiting: Mutex::new(BTreeMap::new()),
            connections: AtomicU64::new(0),
        })
    }

    /// Takes other settings: for associations and instances from now on.
    pub fn configure(&self, config: Config) {
        self.access.configure(config.peers.clone());
        if config.users != self.config.now().users {
            self.users.replace(Users::new(config.users.clone()));
        }
        self.config.replace(config);
    }

    /// A place for one association, given back when dropped.
    ///
    /// - `peer`: the configured peer that it is.
    ///
    /// # Errors
    /// There is none left for this peer, or it comes too fast.
    pub fn enter(
        self: &Arc<Shared>,
        tally: &Tally,
        peer: Option<Peer>,
    ) -> Result<Place, Rejection> {
        let key = match &peer {
            Some(_) => Key::Peer(tally.peer_name.clone()),
            None => Key::Caller(tally.peer.ip(), tally.calling_ae.clone()),
        };
        let own_max = peer.as_ref().map_or(0, |peer| peer.associations_max);
        let here_max =
            if own_max > 0 { own_max } else { self.config.now().associations_per_peer_max };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.get(&key).copied().unwrap_or(0);
        let all: usize = open.values().sum();
        if here >= here_max || all >= self.config.now().associations_max {
            return Err(Rejection::LocalLimit);
        }
        let too_fast = |peer: &Peer| !self.access.may_associate(&tally.peer_name, peer);
        if peer.as_ref().is_some_and(too_fast) {
            return Err(Rejection::Congestion);
        }
        open.insert(key.clone(), here + 1);
        metrics::gauge!("prelim_associations_open").increment(1.0);
        let limited = peer.filter(|peer| peer.bytes_per_second_max > 0);
        Ok(Place {
            shared: Arc::clone(self),
            key,
            slowed: limited.map(|peer| (tally.peer_name.clone(), peer)),
        })
    }

    /// Notes a connection without an association; the token is cancelled when it has to go.
    fn wait(&self, number: u64) -> CancellationToken {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.len() >= self.config.now().connections_max {
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
    key: Key,
    /// The peer, where it has to be slowed down.
    slowed: Option<(String, Peer)>,
}

/// Longest pause at a time: the association goes on, however far it is over its rate.
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl Place {
    /// Waits as long as the peer's rate wants after `bytes`.
    pub async fn pace(&self, bytes: usize) {
        let Some((name, peer)) = &self.slowed else { return };
        let pause = self.shared.access.pause(name, peer, bytes).min(PAUSE_MAX);
        if !pause.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shared.stop.cancelled() => {}
            }
        }
    }
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

/// How a listener is spoken to.
#[derive(Clone)]
pub enum Door {
    Plain,
    Tls(Arc<tls::Server>),
}

/// Serves until `stop`, then lets open associations finish for `drain_s`, aborts the rest and
/// returns.
pub async fn serve(listener: TcpListener, door: Door, shared: Arc<Shared>, tasks: TaskTracker) {
    let drain = Duration::from_secs(shared.config.now().drain_s);
    let sessions = TaskTracker::new();
    let mut trouble = AcceptTrouble::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                // In a box: it has some kilobytes, and a task is moved about until it runs.
                let session = Box::pin(session(socket, peer, door.clone(), Arc::clone(&shared)));
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

async fn session(socket: TcpStream, peer: SocketAddr, door: Door, shared: Arc<Shared>) {
    let socket = Socket::new(socket);
    let number = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
    let evicted = shared.wait(number);
    let span = tracing::info_span!(
        "association",
        id = number,
        %peer,
        calling = tracing::field::Empty,
        called = tracing::field::Empty,
    );
    let begun = Instant::now();
    let mut tally = Tally::new(number, peer);
    let talk = async {
        match door {
            Door::Plain => scp_session::run(socket, tally, number, &shared, evicted).await,
            // In a box: a plain connection is not as large as one with TLS.
            Door::Tls(server) => {
                Box::pin(async {
                    match handshake(socket, &server, &shared, &evicted).await {
                        Ok(stream) => {
                            let (tls, certificate) = tls::agreed(stream.get_ref().1);
                            tally.tls = tls;
                            tally.certificate = certificate.map(|c| c.subject).unwrap_or_default();
                            scp_session::run(stream, tally, number, &shared, evicted).await
                        }
                        Err(why) => {
                            metrics::counter!("prelim_tls_failures_total").increment(1);
                            Tally { ended: format!("no TLS: {why}"), ..tally }
                        }
                    }
                })
                .await
            }
        }
    };
    let tally = pin!(talk).instrument(span.clone()).await;
    shared.no_longer_waiting(number);
    span.in_scope(|| log(&tally, begun.elapsed()));
    shared.handler.association_ended(&tally).await;
}

/// In the connection's own task, so that nobody waits for one who says nothing.
async fn handshake(
    socket: Socket,
    server: &tls::Server,
    shared: &Shared,
    evicted: &CancellationToken,
) -> Result<TlsStream<Socket>, String> {
    tokio::select! {
        accepted = server.acceptor().accept(socket) => accepted.map_err(|error| error.to_string()),
        () = tokio::time::sleep(server.handshake_limit()) => Err("nothing came in time".to_owned()),
        () = evicted.cancelled() => Err("it made room for others".to_owned()),
        () = shared.stop.cancelled() => Err("the node stops".to_owned()),
    }
}

/// Looks now and then whether the peers file or a certificate has changed, and at once after
/// `wake`.
pub async fn watch(
    shared: Arc<Shared>,
    server: Option<Arc<tls::Server>>,
    wake: Arc<tokio::sync::Notify>,
) {
    let mut looked_at_tls = Instant::now();
    loop {
        let asked = tokio::select! {
            () = shared.stop.cancelled() => return,
            () = wake.notified() => true,
            () = tokio::time::sleep(Duration::from_secs(1)) => false,
        };
        let server = server
            .clone()
            .filter(|server| asked || looked_at_tls.elapsed() >= server.reload_pause());
        if server.is_some() {
            looked_at_tls = Instant::now();
        }
        let shared = Arc::clone(&shared);
        let look = move || {
            shared.access.reload();
            if let Some(server) = server {
                server.reload(asked);
            }
        };
        let _ = tokio::task::spawn_blocking(look).await;
    }
}

/// The one line that an association leaves in the log.
fn log(tally: &Tally, took: Duration) {
    let refused: Vec<String> =
        tally.refused.iter().map(|(status, count)| format!("{status} x {count}")).collect();
    tracing::info!(
        implementation = tally.implementation,
        peer = tally.peer_name,
        user = tally.user,
        tls = tally.tls,
        certificate = tally.certificate,
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

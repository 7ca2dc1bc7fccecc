//! Builds every part from the settings, starts them, drains them.

#[cfg(test)]
mod alert_faults;
pub mod handles;
mod intake;
pub mod listening;
mod parts;
pub mod reload;
mod trials;
pub mod workbench;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::listening::listen;
use crate::app::reload::Load;
use crate::app::reload::Reloader;
use crate::config::Settings;
use crate::dicom::access::Access;
use crate::dicom::peers_file;
use crate::dicom::sources;
use crate::dicom::sources::Sources;
use crate::dicom::storage_scp;
use crate::dicom::storage_scp::Door;
use crate::dicom::storage_scp::Shared;
use crate::dicom::tls;
use crate::domain::clock::SystemClock;
use crate::pipeline::alerting;
use crate::pipeline::audit;
use crate::pipeline::audit::Repository;
use crate::pipeline::canary;
use crate::pipeline::following;
use crate::pipeline::hearing;
use crate::pipeline::runner;
use crate::pipeline::services::Services;
use crate::pipeline::traces::Collector;
use crate::pipeline::way::Kits;
use crate::receive::Receiver;
use crate::store::Store;
use crate::web;
use crate::web::accounts::Live as Accounts;
use crate::web::local::NodeFile;
use crate::worker::Pool;

/// How long studies, pages and workers may take to come to rest once nothing new is taken.
const REST: Duration = Duration::from_secs(10);
/// How often a service manager hears that the store still works (systemd's watchdog).
const WATCHDOG: Duration = Duration::from_secs(10);

/// A running node.
pub struct App {
    /// The port without TLS, or the one with it where that is the only one.
    pub dicom: SocketAddr,
    pub http: SocketAddr,
    pub kits: Arc<Kits>,
    reloader: Arc<Reloader>,
    wake: Arc<tokio::sync::Notify>,
    stop_taking: CancellationToken,
    stop: CancellationToken,
    receiving: TaskTracker,
    tasks: TaskTracker,
    _metrics: PrometheusHandle,
}

impl App {
    /// Opens the data folder and starts everything. When it returns, both ports listen.
    ///
    /// - `program`: this program's own file, started again as the worker processes.
    /// - `load`: reads the settings again.
    ///
    /// # Errors
    /// The folder is in use or cannot be written, a port is taken, a profile or a token file is
    /// wrong: in words for whoever starts it.
    pub async fn start(
        settings: &Settings,
        data: &Path,
        program: &Path,
        metrics: PrometheusHandle,
        load: Load,
    ) -> anyhow::Result<App> {
        let clock = Arc::new(SystemClock);
        let (store, report) = {
            let (data, config, clock) = (data.to_owned(), settings.store.clone(), clock.clone());
            tokio::task::spawn_blocking(move || Store::open(&data, &config, clock)).await??
        };
        for line in report.alarms() {
            tracing::warn!("{line}");
        }
        let token = settings.http.token()?;
        let [tls, http_tls, hl7_tls] = parts::servers(settings)?;
        let dicom = listen_if(&settings.dicom.listen, "dicom.listen").await?;
        let dicom_tls = listen_if(&settings.dicom.tls.listen, "dicom.tls.listen").await?;
        let http = listen(&settings.http.listen.to_string(), "http.listen").await?;
        let https = listen_if(&settings.http.tls.listen, "http.tls.listen").await?;
        let https = https.zip(http_tls.clone());
        let accounts = Arc::new(Accounts::open(data).context("the accounts cannot be used")?);
        let at = |listener: &TcpListener| listener.local_addr();
        let (dicom_at, dicom_tls_at) =
            (dicom.as_ref().map(at).transpose()?, dicom_tls.as_ref().map(at).transpose()?);
        let http_at = http.local_addr()?;

        let (stop_taking, stop) = (CancellationToken::new(), CancellationToken::new());
        let (receiving, tasks) = (TaskTracker::new(), TaskTracker::new());
        let answers = data.join("answers");
        let kit = parts::kit(settings, &store, &answers, program, &tasks, None)?;
        let kits = Arc::new(Kits::new(kit));
        let (kit, retire) = (kits.now(), stop.child_token());
        tasks.spawn(runner::settle_what_was_left(Arc::clone(&kit)));
        runner::start(&kit, &retire, &stop, &tasks);

        let services = Arc::new(Services::new(Arc::clone(&kits)));
        let receiver = Arc::new(Receiver::new(store.clone(), clock.clone(), Some(services)));
        let access = Access::new(settings.dicom.peers.clone(), Some(data.join(peers_file::NAME)));
        let access = Arc::new(access);
        let sources =
            Arc::new(Sources::open(Some(data.join(sources::SOURCES_FILE)), clock.clone()));
        let shared = Shared::with(
            settings.dicom.clone(),
            receiver.clone(),
            stop_taking.clone(),
            Arc::clone(&access),
            Arc::clone(&sources),
        );
        let doors = [
            (dicom, Some(Door::Plain)),
            (dicom_tls, tls.as_ref().map(|server| Door::Tls(Arc::clone(server)))),
        ];
        for (listener, door) in doors {
            if let (Some(listener), Some(door)) = (listener, door) {
                let (shared, tracker) = (Arc::clone(&shared), receiving.clone());
                receiving.spawn(storage_scp::serve(listener, door, shared, tracker));
            }
        }
        let hl7_at = hearing(settings, hl7_tls.clone(), &kits, &stop_taking, &receiving).await?;
        tasks.spawn(hearing::forget(Arc::clone(&kits), stop.clone()));
        let wake = Arc::new(tokio::sync::Notify::new());
        tasks.spawn(storage_scp::watch(Arc::clone(&shared), tls.clone(), Arc::clone(&wake)));
        tasks.spawn(Arc::clone(&sources).keep(stop.clone()));
        let (told, traced) =
            (following::remembered::<Repository>(&kit), following::remembered::<Collector>(&kit));
        audit::note(&kit, audit::message::words::STARTED).await;
        let repository = Repository::new(&kit);
        let all = || Arc::clone(&kits);
        tasks.spawn(following::run_until_stopped(repository, all(), told, stop.clone()));
        tasks.spawn(following::run_until_stopped(Collector, all(), traced, stop.clone()));
        let refused = audit::watch_refusals(Arc::clone(&kit), Arc::clone(&sources), stop.clone());
        tasks.spawn(refused);
        tasks.spawn(audit::watch_peers(Arc::clone(&kit), Arc::clone(&access), stop.clone()));

        let viewers = Pool::start(&parts::viewers(settings), program.to_owned(), tasks.clone());
        let reloader = Arc::new(Reloader {
            load,
            settings: std::sync::Mutex::new(settings.clone()),
            kits: Arc::clone(&kits),
            shared: Arc::clone(&shared),
            retire: std::sync::Mutex::new(retire),
            stop: stop.clone(),
            tasks: tasks.clone(),
            answers,
            program: program.to_owned(),
            servers: [tls.clone(), http_tls, hl7_tls],
            viewers: viewers.clone(),
            site: OnceLock::new(),
        });

        let mut node = NodeFile::new(http_at);
        (node.dicom, node.dicom_tls) = (dicom_at, dicom_tls_at);
        (node.hl7, node.hl7_tls) = hl7_at;
        let dicomweb = web::dicomweb::Parts {
            receiver: receiver.clone(),
            pool: viewers,
            ae_title: settings.dicom.ae_title.to_string(),
            object_bytes_max: settings.dicom.object_bytes_max,
            listening: http_at,
        };
        let state = web::WebState {
            store: store.clone(),
            dicomweb,
            intake: Arc::new(intake::Uploads { receiver, kits: Arc::clone(&kits) }),
            config: Arc::new(settings.http.clone()),
            token,
            accounts: Arc::clone(&accounts),
            local_token: crate::domain::secret::Secret::new(node.token.clone()),
            metrics: metrics.clone(),
            not_ready: {
                let stopping = stop_taking.clone();
                Arc::new(move || match stopping.is_cancelled() {
                    true => vec!["the node is stopping".to_owned()],
                    false => Vec::new(),
                })
            },
            notes: {
                let (kits, shared, tls) = (Arc::clone(&kits), Arc::clone(&shared), tls.clone());
                let https = https.as_ref().map(|(_, server)| Arc::clone(server));
                Arc::new(move || {
                    let of_tls = tls.as_ref().and_then(|server| server.problem());
                    let of_tls = of_tls.map(|problem| format!("TLS certificate: {problem}"));
                    let of_https = https.as_ref().and_then(|server| server.problem());
                    let of_https =
                        of_https.map(|problem| format!("certificate of the web page: {problem}"));
                    let of_tls = of_tls.into_iter().chain(of_https).chain(accounts.problem());
                    let of_access = shared.access.problem().into_iter().chain(of_tls);
                    let kit = kits.now();
                    let of_canaries = canary::notes(&kit);
                    let of_workers = kit.pool.trouble();
                    let of_workers = of_workers.map(|why| format!("no study can be read: {why}"));
                    let lines = kit.attention.lines().into_iter().chain(of_workers);
                    lines.chain(of_access).chain(of_canaries).collect()
                })
            },
            missed: {
                let kits = Arc::clone(&kits);
                Arc::new(move || kits.now().attention.missed())
            },
            gateways: {
                let kits = Arc::clone(&kits);
                Arc::new(move || {
                    kits.now().providers.values().map(|gateway| gateway.view()).collect()
                })
            },
            canaries: {
                let kits = Arc::clone(&kits);
                Arc::new(move || canary::views(&kits.now()))
            },
            sources,
            access,
            clock,
            currency: settings.analysis.currency.clone(),
            trials: Arc::new(trials::Tried(Arc::clone(&kits))),
            settings: {
                let reloader = Arc::clone(&reloader);
                Arc::new(move || reloader.effective())
            },
            links: kit.links.clone(),
            alert_record: {
                let kits = Arc::clone(&kits);
                Arc::new(move |uid| {
                    alerting::addendum(&kits.now(), uid).map_err(|error| error.cause)
                })
            },
            services: {
                let kits = Arc::clone(&kits);
                Arc::new(move || kits.now().alert.services.keys().cloned().collect())
            },
            reload: {
                let (reloader, wake) = (Arc::clone(&reloader), Arc::clone(&wake));
                Arc::new(move || {
                    wake.notify_one();
                    reloader.reload()
                })
            },
        };
        let doors = web::Doors { plain: http, encrypted: https };
        let site = web::Site::open(state, stop.clone(), tasks.clone());
        let site = reloader.site.get_or_init(|| Arc::new(site));
        tasks.spawn(Arc::clone(site).serve(doors));
        node.write(data).context("node.json cannot be written in the data folder")?;
        tasks.spawn(tell_service_manager(store, stop.clone()));
        let show = |at: Option<SocketAddr>| at.map_or("off".to_owned(), |at| at.to_string());
        let (plain, with_tls) = (show(dicom_at), show(dicom_tls_at));
        let ae_title = &settings.dicom.ae_title;
        tracing::info!(dicom = plain, dicom_tls = with_tls, http = %http_at, %ae_title, "ready");
        let is_closed = shared.access.peers().is_empty() && settings.dicom.calling_aes.is_empty();
        let is_outside = |at: Option<SocketAddr>| at.is_some_and(|at| !at.ip().is_loopback());
        if is_closed && (is_outside(dicom_at) || is_outside(dicom_tls_at)) {
            tracing::warn!(
                "no peer is configured: only this machine may send; prelim peers shows who called, \
                 prelim peers add TITLE@ADDRESS lets one in"
            );
        }
        Ok(App {
            dicom: dicom_at.or(dicom_tls_at).unwrap_or(http_at),
            http: http_at,
            kits,
            reloader,
            wake,
            stop_taking,
            stop,
            receiving,
            tasks,
            _metrics: metrics,
        })
    }

    /// Looks at once whether peers and certificates have changed, and reads the settings again.
    pub fn reload(&self) {
        self.wake.notify_one();
        let reloader = Arc::clone(&self.reloader);
        self.tasks.spawn_blocking(move || reloader.reload());
    }

    /// Takes nothing new, lets associations finish or aborts them, then brings the rest to an
    /// end. What was not done is done by the next start.
    pub async fn stop(self) {
        tracing::info!("stopping");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        self.stop_taking.cancel();
        self.receiving.close();
        self.receiving.wait().await;
        audit::note(&self.kits.now(), audit::message::words::STOPPED).await;
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(REST, self.tasks.wait()).await.is_err() {
            tracing::warn!("some work did not come to rest in time; the next start does it again");
        }
        let store = self.kits.now().store.clone();
        NodeFile::remove(store.data());
        // Whoever holds it still, it is closed in order.
        if let Err(error) = tokio::task::spawn_blocking(move || store.close()).await {
            tracing::error!(%error, "the data folder was not closed in order");
        }
        tracing::info!("stopped");
    }
}

/// The listeners for HL7 messages, and where they are.
async fn hearing(
    settings: &Settings,
    tls: Option<Arc<tls::Server>>,
    kits: &Arc<Kits>,
    stop: &CancellationToken,
    tracker: &TaskTracker,
) -> anyhow::Result<(Option<SocketAddr>, Option<SocketAddr>)> {
    let config = &settings.hl7;
    let plain = listen_if(&config.listen, "hl7.listen").await?;
    let secured = listen_if(&config.tls.listen, "hl7.tls.listen").await?;
    let at = |listener: &TcpListener| listener.local_addr();
    let places = (plain.as_ref().map(at).transpose()?, secured.as_ref().map(at).transpose()?);
    for (listener, tls) in [(plain, None), (secured, tls)] {
        let Some(listener) = listener else { continue };
        let heard = hearing::serve(listener, tls, Arc::clone(kits), stop.clone());
        tracker.spawn(heard);
    }
    Ok(places)
}

/// No listener where there is no address.
async fn listen_if(address: &str, key: &str) -> anyhow::Result<Option<TcpListener>> {
    match address.is_empty() {
        true => Ok(None),
        false => Ok(Some(listen(address, key).await?)),
    }
}

/// READY once, then a sign of life as long as the store takes a real write.
async fn tell_service_manager(store: Store, stop: CancellationToken) {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(WATCHDOG) => (),
        }
        let asked = store.clone();
        // A full disk is no reason for a restart; a store that does not answer is, and a folder that
        // was away and is back.
        let answers = tokio::task::spawn_blocking(move || asked.health()).await.is_ok();
        if answers && !store.is_stuck() {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }
}

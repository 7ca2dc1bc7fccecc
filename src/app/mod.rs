//! Builds every part from the settings, starts them, drains them.

pub mod handles;
mod intake;
mod trials;
pub mod workbench;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alert;
use crate::analysis;
use crate::analysis::AnalyzeError;
use crate::analysis::config::Kind;
use crate::analysis::provider::Provider;
use crate::analysis::provider::cache::Cache;
use crate::analysis::provider::command::Program;
use crate::analysis::provider::keeper::Kept;
use crate::analysis::provider::onnx::Onnx;
use crate::analysis::provider::openai::OpenAi;
use crate::config::Settings;
use crate::dicom::access;
use crate::dicom::access::Access;
use crate::dicom::sources;
use crate::dicom::sources::Sources;
use crate::dicom::storage_scp;
use crate::dicom::storage_scp::Door;
use crate::dicom::storage_scp::Shared;
use crate::dicom::tls;
use crate::domain::clock::Clock as _;
use crate::domain::clock::SystemClock;
use crate::orders::worklist::Worklist;
use crate::pipeline::alerting;
use crate::pipeline::audit;
use crate::pipeline::canary;
use crate::pipeline::canary::Canaries;
use crate::pipeline::earlier::Marks;
use crate::pipeline::hearing;
use crate::pipeline::key_file;
use crate::pipeline::runner;
use crate::pipeline::services::Services;
use crate::pipeline::watch::Attention;
use crate::pipeline::way::Kit;
use crate::receive::Receiver;
use crate::store::Orders;
use crate::store::Store;
use crate::web;
use crate::web::accounts::Live as Accounts;
use crate::web::local::NodeFile;
use crate::worker::Pool;

/// How long studies, pages and workers may take to come to rest once nothing new is taken.
const REST: Duration = Duration::from_secs(10);
/// How often a service manager hears that the store still works (systemd's watchdog).
const WATCHDOG: Duration = Duration::from_secs(10);

/// The key of the links by which people answer alerts.
const ALERTS_KEY: &str = "alerts.key";

/// A running node.
pub struct App {
    /// The port without TLS, or the one with it where that is the only one.
    pub dicom: SocketAddr,
    pub http: SocketAddr,
    pub kit: Arc<Kit>,
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
    ///
    /// # Errors
    /// The folder is in use or cannot be written, a port is taken, a profile or a token file is
    /// wrong: in words for whoever starts it.
    pub async fn start(
        settings: &Settings,
        data: &Path,
        program: &Path,
        metrics: PrometheusHandle,
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
        let tls = match settings.dicom.tls.is_on() {
            true => {
                let server = tls::Server::new(&settings.dicom.tls);
                Some(Arc::new(server.context("dicom.tls cannot be used")?))
            }
            false => None,
        };
        let dicom = listen_if(&settings.dicom.listen, "dicom.listen").await?;
        let dicom_tls = listen_if(&settings.dicom.tls.listen, "dicom.tls.listen").await?;
        let http = listen(&settings.http.listen.to_string(), "http.listen").await?;
        let https = match listen_if(&settings.http.tls.listen, "http.tls.listen").await? {
            Some(listener) => {
                let server = tls::Server::new(&settings.http.tls);
                Some((listener, Arc::new(server.context("http.tls cannot be used")?)))
            }
            None => None,
        };
        let accounts = Arc::new(Accounts::open(data).context("the accounts cannot be used")?);
        let at = |listener: &TcpListener| listener.local_addr();
        let (dicom_at, dicom_tls_at) =
            (dicom.as_ref().map(at).transpose()?, dicom_tls.as_ref().map(at).transpose()?);
        let http_at = http.local_addr()?;

        let (stop_taking, stop) = (CancellationToken::new(), CancellationToken::new());
        let (receiving, tasks) = (TaskTracker::new(), TaskTracker::new());
        let kit = kit(settings, &store, &data.join("answers"), program, &tasks)?;
        let kit = Arc::new(kit);
        runner::start(Arc::clone(&kit), stop.clone(), &tasks);

        let services = Arc::new(Services::new(Arc::clone(&kit)));
        let receiver = Arc::new(Receiver::new(store.clone(), clock.clone(), Some(services)));
        let access = Access::new(settings.dicom.peers.clone(), Some(data.join(access::PEERS_FILE)));
        let sources =
            Arc::new(Sources::open(Some(data.join(sources::SOURCES_FILE)), clock.clone()));
        let shared = Shared::with(
            Arc::new(settings.dicom.clone()),
            receiver.clone(),
            stop_taking.clone(),
            access,
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
        let hl7_at = hearing(settings, &kit, &stop_taking, &receiving).await?;
        let days = settings.orders.keep_days;
        tasks.spawn(hearing::forget(Arc::clone(&kit), days, stop.clone()));
        let wake = Arc::new(tokio::sync::Notify::new());
        tasks.spawn(storage_scp::watch(Arc::clone(&shared), tls.clone(), Arc::clone(&wake)));
        tasks.spawn(Arc::clone(&sources).keep(stop.clone()));
        let place = audit::remembered(&kit);
        audit::note(&kit, audit::message::words::STARTED).await;
        tasks.spawn(audit::run_until_stopped(Arc::clone(&kit), place, stop.clone()));
        let refused = audit::watch_refusals(Arc::clone(&kit), Arc::clone(&sources), stop.clone());
        tasks.spawn(refused);

        let mut node = NodeFile::new(http_at);
        (node.dicom, node.dicom_tls) = (dicom_at, dicom_tls_at);
        (node.hl7, node.hl7_tls) = hl7_at;
        let viewers = crate::worker::Config {
            processes: settings.http.dicomweb.workers,
            ..settings.worker.clone()
        };
        let dicomweb = web::dicomweb::Parts {
            receiver: receiver.clone(),
            pool: Pool::start(&viewers, program.to_owned(), tasks.clone()),
            ae_title: settings.dicom.ae_title.to_string(),
            object_bytes_max: settings.dicom.object_bytes_max,
            listening: http_at,
        };
        let state = web::WebState {
            store: store.clone(),
            dicomweb,
            intake: Arc::new(intake::Uploads {
                receiver,
                kit: Arc::clone(&kit),
                ae_title: settings.dicom.ae_title.clone(),
            }),
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
                let (kit, shared, tls) = (Arc::clone(&kit), Arc::clone(&shared), tls.clone());
                let https = https.as_ref().map(|(_, server)| Arc::clone(server));
                Arc::new(move || {
                    let of_tls = tls.as_ref().and_then(|server| server.problem());
                    let of_tls = of_tls.map(|problem| format!("TLS certificate: {problem}"));
                    let of_https = https.as_ref().and_then(|server| server.problem());
                    let of_https =
                        of_https.map(|problem| format!("certificate of the web page: {problem}"));
                    let of_tls = of_tls.into_iter().chain(of_https).chain(accounts.problem());
                    let of_access = shared.access.problem().into_iter().chain(of_tls);
                    let of_canaries = canary::notes(&kit);
                    let lines = kit.attention.lines().into_iter();
                    lines.chain(of_access).chain(of_canaries).collect()
                })
            },
            gateways: {
                let kit = Arc::clone(&kit);
                Arc::new(move || kit.providers.values().map(|gateway| gateway.view()).collect())
            },
            canaries: {
                let kit = Arc::clone(&kit);
                Arc::new(move || canary::views(&kit))
            },
            sources,
            clock,
            currency: settings.analysis.currency.clone(),
            trials: Arc::new(trials::Tried(Arc::clone(&kit))),
            settings: Arc::new(settings.effective()),
            links: kit.links.clone(),
            alert_record: {
                let kit = Arc::clone(&kit);
                Arc::new(move |uid| alerting::addendum(&kit, uid).map_err(|error| error.cause))
            },
            services: settings.alert.services.keys().cloned().collect(),
        };
        let doors = web::Doors { plain: http, encrypted: https };
        tasks.spawn(web::serve(doors, state, stop.clone(), tasks.clone()));
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
            kit,
            wake,
            stop_taking,
            stop,
            receiving,
            tasks,
            _metrics: metrics,
        })
    }

    /// Looks at once whether peers and certificates have changed.
    pub fn reload(&self) {
        self.wake.notify_one();
    }

    /// Takes nothing new, lets associations finish or aborts them, then brings the rest to an
    /// end. What was not done is done by the next start.
    pub async fn stop(self) {
        tracing::info!("stopping");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        self.stop_taking.cancel();
        self.receiving.close();
        self.receiving.wait().await;
        audit::note(&self.kit, audit::message::words::STOPPED).await;
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(REST, self.tasks.wait()).await.is_err() {
            tracing::warn!("some work did not come to rest in time; the next start does it again");
        }
        NodeFile::remove(self.kit.store.data());
        tracing::info!("stopped");
    }
}

/// Everything the steps work with, and the workers that they share.
///
/// - `answers`: folder of the answers that are kept.
fn kit(
    settings: &Settings,
    store: &Store,
    answers: &Path,
    program: &Path,
    tasks: &TaskTracker,
) -> anyhow::Result<Kit> {
    let profiles = analysis::profile::load(settings.analysis.site_profiles())
        .context("the profiles cannot be used")?;
    let answers = Cache::open(answers, &settings.analysis.cache)
        .context("the folder of answers that are kept cannot be used")?;
    let pool = Pool::start(&settings.worker, program.to_owned(), tasks.clone());
    let marks = Marks::open(store.data()).context("the key of patients' marks cannot be made")?;
    Ok(Kit {
        providers: gateways(settings, store, &pool, program)?,
        pool,
        store: store.clone(),
        clock: Arc::new(SystemClock),
        profiles,
        canaries: Canaries::default(),
        answers,
        equipment: equipment(settings),
        pipeline: settings.pipeline.clone(),
        assemble: settings.assemble.clone(),
        analysis: settings.analysis.clone(),
        deid: settings.deid.clone(),
        report: settings.report.clone(),
        deliver: settings.deliver.clone(),
        alert: settings.alert.clone(),
        audit: settings.audit.clone(),
        commitment: settings.commitment.clone(),
        hl7: settings.hl7.clone(),
        orders: Orders::open(store.data()).context("the folder of orders cannot be used")?,
        worklist: Worklist::new(&settings.orders.worklist),
        ae_title: settings.dicom.ae_title.clone(),
        attention: Attention::default(),
        links: alert::Signer::new(
            key_file::open(store.data(), ALERTS_KEY, "links in earlier alerts do not hold")
                .context("the key of the links in alerts cannot be made")?,
        ),
        marks,
    })
}

async fn listen(address: &str, key: &str) -> anyhow::Result<TcpListener> {
    let bind = async {
        let mut last = None;
        for address in tokio::net::lookup_host(address).await? {
            match listen_at(address) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| std::io::Error::other("it is no address of this machine")))
    };
    bind.await
        .with_context(|| format!("cannot listen on {key} = {address}; is another program there?"))
}

fn listen_at(address: SocketAddr) -> std::io::Result<TcpListener> {
    /// Callers that wait to be accepted. Of a burst over the usual 128 the rest would come back
    /// after a second.
    const QUEUE: u32 = 4096;
    let socket = match address.is_ipv4() {
        true => TcpSocket::new_v4()?,
        false => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

/// The listeners for HL7 messages, and where they are.
async fn hearing(
    settings: &Settings,
    kit: &Arc<Kit>,
    stop: &CancellationToken,
    tracker: &TaskTracker,
) -> anyhow::Result<(Option<SocketAddr>, Option<SocketAddr>)> {
    let config = &settings.hl7;
    let tls = match config.tls.is_on() {
        true => Some(Arc::new(tls::Server::new(&config.tls).context("hl7.tls cannot be used")?)),
        false => None,
    };
    let plain = listen_if(&config.listen, "hl7.listen").await?;
    let secured = listen_if(&config.tls.listen, "hl7.tls.listen").await?;
    let at = |listener: &TcpListener| listener.local_addr();
    let places = (plain.as_ref().map(at).transpose()?, secured.as_ref().map(at).transpose()?);
    for (listener, tls) in [(plain, None), (secured, tls)] {
        let Some(listener) = listener else { continue };
        let heard = hearing::serve(listener, tls, Arc::clone(kit), stop.clone());
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

/// The gateways of the configuration, with what their keys were used for this month.
///
/// - `pool`: where models of the site run.
/// - `program`: this program, which sets the limits of programs of the site.
fn gateways(
    settings: &Settings,
    store: &Store,
    pool: &Pool,
    program: &Path,
) -> anyhow::Result<BTreeMap<String, Arc<Kept>>> {
    let today = SystemClock.now().to_zoned(jiff::tz::TimeZone::UTC).date();
    // An index that is being made anew knows later; quotas are then counted from now.
    let rows = store.usage(today.first_of_month(), today).unwrap_or_default();
    let mut gateways = BTreeMap::new();
    for (name, gateway) in &settings.analysis.gateways {
        let used = |key: &str| {
            let of_it = rows.iter().filter(|row| row.gateway == *name && row.key == key);
            of_it.map(|row| row.calls - row.cached).sum()
        };
        let provider: Result<Arc<dyn Provider>, AnalyzeError> = match gateway.kind {
            Kind::Openai => OpenAi::new(name, gateway, used).map(|one| Arc::new(one) as _),
            Kind::Onnx => {
                Onnx::new(name, gateway, Arc::new(pool.clone())).map(|one| Arc::new(one) as _)
            }
            Kind::Command => {
                let folder = store.data().join("readers").join(name);
                Program::new(name, gateway, program, &folder).map(|one| Arc::new(one) as _)
            }
        };
        let provider = provider.with_context(|| format!("the gateway {name} cannot be used"))?;
        let kept = Kept::new(provider, &gateway.limits);
        gateways.insert(name.clone(), Arc::new(kept));
    }
    Ok(gateways)
}

/// The node as General Equipment of what it writes.
fn equipment(settings: &Settings) -> crate::sr::Equipment {
    crate::sr::Equipment {
        station_name: settings.dicom.ae_title.to_string(),
        time_zone: settings.report.zone().unwrap_or(jiff::tz::TimeZone::UTC),
        ..crate::sr::Equipment::default()
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
        let store = store.clone();
        // A full disk is no reason for a restart; a store that does not answer is.
        if tokio::task::spawn_blocking(move || store.health()).await.is_ok() {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }
}

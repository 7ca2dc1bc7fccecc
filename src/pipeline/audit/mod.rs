//! Audit messages beside the ledger: DICOM PS3.15 A.5 to a syslog server.
//!
//! No message is lost over a restart or a server that is away; see [`following`].
//!
//! [`following`]: crate::pipeline::following

pub mod message;
mod syslog;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::dicom::access::Access;
use crate::dicom::access::Peer;
use crate::dicom::access::Peers;
use crate::dicom::sources::Sources;
use crate::domain::study::Study;
use crate::domain::uid::StudyUid;
use crate::pipeline::audit::message::Known;
use crate::pipeline::audit::message::Own;
use crate::pipeline::audit::message::words;
pub use crate::pipeline::audit::syslog::Transport;
use crate::pipeline::audit::syslog::Way;
use crate::pipeline::following::Listener;
use crate::pipeline::following::Metrics;
use crate::pipeline::record;
use crate::pipeline::way::Kit;
use crate::store::Written;
use crate::store::event::Event;

/// How long a server that has gone has to say so.
const HOLDS: Duration = Duration::from_millis(200);
/// Between two looks at who was refused; of each one event.
const REFUSALS: Duration = Duration::from_secs(30);
/// Between two looks at who may send.
const PEERS: Duration = Duration::from_secs(1);
/// Events of refused peers at one look.
const REFUSED_MAX: usize = 50;
const SENDERS_MAX: usize = 20;

/// Section `audit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub syslog: syslog::Config,
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        self.syslog.check(&format!("{at}.syslog"), problems);
    }
}

/// Whether the repository can be reached. Nothing is sent.
///
/// # Errors
/// In words: nobody answers there, or not the one of the certificate.
pub async fn reach(config: &Config) -> Result<(), String> {
    let mut way = Way::open(&config.syslog).await?;
    match way.holds(HOLDS).await {
        true => Ok(()),
        false => Err("the server ended the connection".to_owned()),
    }
}

/// Notes in the ledger what the node itself does.
pub async fn note(kit: &Kit, what: &str) {
    let (what, by, at) = (what.to_owned(), "node".to_owned(), kit.clock.now());
    commit(kit, vec![Event::Accessed { study_uid: None, what, by, at }], "this").await;
}

/// - `what`: for the log, where the ledger does not take it.
async fn commit(kit: &Kit, events: Vec<Event>, what: &str) {
    if events.is_empty() {
        return;
    }
    if let Err(error) = kit.store.commit(events).await {
        tracing::error!(%error, "{what} could not be noted in the ledger");
    }
}

/// Notes in the ledger who was not let in: of each sender one event for all its tries since the
/// last look.
pub async fn watch_refusals(kit: Arc<Kit>, sources: Arc<Sources>, stop: CancellationToken) {
    let count = |sources: &Sources| -> HashMap<(String, String), BTreeMap<String, u64>> {
        let of = |source: crate::dicom::sources::Source| {
            ((source.calling_ae, source.address.to_string()), source.rejections)
        };
        sources.list().into_iter().map(of).collect()
    };
    let mut before = count(&sources);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(REFUSALS) => (),
        }
        let (now, at) = (count(&sources), kit.clock.now());
        let mut events = Vec::new();
        for (who, reasons) in &now {
            for (why, times) in reasons {
                let known = before.get(who).and_then(|reasons| reasons.get(why)).copied();
                let new = times.saturating_sub(known.unwrap_or_default());
                if new > 0 && events.len() < REFUSED_MAX {
                    let ae: String = who.0.chars().filter(|c| !c.is_control()).take(16).collect();
                    let what = format!("{}: {why}, {new} times", words::NOT_LET_IN);
                    let by = format!("{ae} ({})", who.1);
                    events.push(Event::Accessed { study_uid: None, what, by, at });
                }
            }
        }
        before = now;
        commit(&kit, events, "refused peers").await;
    }
}

/// Notes in the ledger who may send from now on and who not any more, by whatever means.
pub async fn watch_peers(kit: Arc<Kit>, access: Arc<Access>, stop: CancellationToken) {
    let mut before = access.peers();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PEERS) => (),
        }
        let (now, at) = (access.peers(), kit.clock.now());
        let noted = changes_of_peers(&before, &now).into_iter().map(|what| {
            let by = "settings or peers file".to_owned();
            Event::Accessed { study_uid: None, what, by, at }
        });
        let events = noted.collect();
        before = now;
        commit(&kit, events, "other peers").await;
    }
}

fn changes_of_peers(before: &Peers, now: &Peers) -> Vec<String> {
    let who = |name: &str, peer: &Peer| {
        let title = peer.ae_title.as_ref().map_or("any title".to_owned(), ToString::to_string);
        let from: Vec<String> = peer.addresses.iter().map(ToString::to_string).collect();
        let from = if from.is_empty() { "anywhere".to_owned() } else { from.join(", ") };
        format!("{} peer {name}: {title} from {from}", words::CHANGED)
    };
    let come = now.iter().filter(|(name, peer)| before.get(*name) != Some(peer));
    let come = come.map(|(name, peer)| format!("{} may send", who(name, peer)));
    let gone = before.iter().filter(|(name, _)| !now.contains_key(*name));
    let gone = gone.map(|(name, peer)| format!("{} may not send any more", who(name, peer)));
    come.chain(gone).collect()
}

/// The hospital's audit record repository.
pub struct Repository {
    own: Own,
    way: Option<Way>,
}

impl Repository {
    pub fn new(kit: &Kit) -> Repository {
        let own = Own {
            ae_title: kit.ae_title.to_string(),
            host: std::fs::read_to_string("/proc/sys/kernel/hostname")
                .map_or_else(|_| String::new(), |name| name.trim().to_owned()),
            site: kit.audit.syslog.site.clone(),
        };
        Repository { own, way: None }
    }

    async fn send(&mut self, config: &syslog::Config, messages: &[String]) -> Result<(), String> {
        if !messages.is_empty() {
            let way = match &mut self.way {
                Some(way) => way,
                None => self.way.insert(Way::open(config).await?),
            };
            way.send(messages).await.map_err(|error| error.to_string())?;
        }
        // One who has gone says so within a round trip.
        if let Some(way) = &mut self.way
            && !way.holds(HOLDS).await
        {
            self.way = None;
            // Between messages a server may end an idle connection: what came before arrived.
            if !messages.is_empty() {
                return Err("the server ended the connection".to_owned());
            }
        }
        Ok(())
    }
}

impl Listener for Repository {
    const NAME: &'static str = "audit";
    const SENT: &'static str = "audit messages";
    const METRICS: Metrics = Metrics {
        sent: "prelim_audit_messages_total",
        failures: "prelim_audit_failures_total",
        behind: "prelim_audit_behind_records",
        behind_s: "prelim_audit_behind_seconds",
    };
    type State = ();

    fn server(kit: &Kit) -> Option<&str> {
        Some(kit.audit.syslog.address.as_str()).filter(|address| !address.is_empty())
    }

    fn take(&mut self, before: &Kit, now: &Kit) -> bool {
        let is_other = before.audit != now.audit;
        if is_other {
            self.way = None;
            self.own.site.clone_from(&now.audit.syslog.site);
        }
        is_other
    }

    async fn tell(
        &mut self,
        kit: &Kit,
        records: &[Written],
        _state: &mut (),
    ) -> Result<u64, String> {
        let process = std::process::id();
        let mut messages = Vec::new();
        for record in records {
            for event in &record.events {
                let known = |uid: &StudyUid, revision| known(kit, uid, revision);
                let message = message::of_event(event, record.at, &self.own, &known);
                messages.extend(message.map(|message| {
                    let xml = message.xml(&self.own);
                    syslog::message(record.at, &self.own.host, process, &xml)
                }));
            }
        }
        let sent = self.send(&kit.audit.syslog, &messages).await;
        if sent.is_err() {
            self.way = None;
        }
        sent.map(|()| messages.len() as u64)
    }
}

fn known(kit: &Kit, uid: &StudyUid, revision: Option<u32>) -> Known {
    let store = &kit.store;
    let mut known = Known::default();
    if let Some(revision) = revision {
        let mut senders = BTreeSet::new();
        for row in store.instances(uid).unwrap_or_default() {
            if row.revision != revision {
                continue;
            }
            let from = &row.receipt.from;
            let host = from.address.rsplit_once(':').map_or(&*from.address, |(host, _)| host);
            senders.insert((from.calling_ae.clone(), host.to_owned()));
            *known.classes.entry(row.receipt.sop_class_uid.to_string()).or_default() += 1;
        }
        known.senders = senders.into_iter().take(SENDERS_MAX).collect();
    }
    if kit.audit.syslog.patient_id {
        let revision = revision.or(store.study(uid).ok().flatten().map(|row| row.revision));
        let headers = revision
            .and_then(|revision| store.read_result(uid, revision, record::STUDY).ok().flatten())
            .and_then(|bytes| serde_json::from_slice::<Study>(&bytes).ok());
        known.patient_id = headers.map(|study| study.patient.id).filter(|id| !id.is_empty());
    }
    known
}

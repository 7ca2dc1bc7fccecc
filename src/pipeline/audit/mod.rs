//! Audit messages beside the ledger: DICOM PS3.15 A.5 to a syslog server.
//!
//! The ledger is followed from a place that is remembered, so that no message is lost over a
//! restart or a server that is away; after either, some may come twice.

pub mod message;
mod syslog;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use serde::Deserialize;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::dicom::sources::Sources;
use crate::domain::study::Study;
use crate::domain::uid::StudyUid;
use crate::pipeline::audit::message::Known;
use crate::pipeline::audit::message::Own;
use crate::pipeline::audit::message::words;
use crate::pipeline::audit::syslog::Way;
use crate::pipeline::record;
use crate::pipeline::way::Kit;
use crate::pipeline::way::Kits;
use crate::store::FollowPlace;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::event::Event;

const LOOK: Duration = Duration::from_secs(1);
/// Longest pause before a server that is away is called again.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Records of the ledger that are read and sent at one time.
const RECORDS_MAX: usize = 200;
/// From here on people are told that messages do not arrive.
const BEHIND_MAX: Duration = Duration::from_secs(300);
/// Between two looks at who was refused; of each one event.
const REFUSALS: Duration = Duration::from_secs(30);
/// Events of refused peers at one look.
const REFUSED_MAX: usize = 50;
const SENDERS_MAX: usize = 20;
/// In the data folder: how far the ledger has been told.
const PLACE_FILE: &str = "audit.place";

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

/// Notes in the ledger what the node itself does.
pub async fn note(kit: &Kit, what: &str) {
    let (what, by, at) = (what.to_owned(), "node".to_owned(), kit.clock.now());
    if let Err(error) =
        kit.store.commit(vec![Event::Accessed { study_uid: None, what, by, at }]).await
    {
        tracing::error!(%error, "this could not be noted in the ledger");
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
        if !events.is_empty()
            && let Err(error) = kit.store.commit(events).await
        {
            tracing::error!(%error, "refused peers could not be noted in the ledger");
        }
    }
}

/// Where the messages are.
struct Follower {
    kit: Arc<Kit>,
    own: Own,
    /// Sent, as far as the socket says.
    sent: FollowPlace,
    /// Arrived, as far as can be known: on disk.
    kept: FollowPlace,
    way: Option<Way>,
    failures: u32,
    /// Since when messages wait.
    behind_since: Option<Instant>,
    why: String,
}

/// - `place`: how far the ledger was told before, see [`remembered`].
pub async fn run_until_stopped(kits: Arc<Kits>, place: FollowPlace, stop: CancellationToken) {
    let kit = kits.now();
    let own = Own {
        ae_title: kit.ae_title.to_string(),
        host: std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map_or_else(|_| String::new(), |name| name.trim().to_owned()),
        site: kit.audit.syslog.site.clone(),
    };
    let mut follower = Follower {
        kit,
        own,
        sent: place,
        kept: place,
        way: None,
        failures: 0,
        behind_since: None,
        why: String::new(),
    };
    loop {
        let is_last = stop.is_cancelled();
        follower.take(kits.now());
        if is_last && follower.failures > 0 {
            return;
        }
        let more = follower.step().await;
        follower.tell();
        if is_last {
            return;
        }
        let pause = match (follower.failures, more) {
            (0, true) => continue,
            (0, false) => LOOK,
            (n, _) => PAUSE_MAX.min(LOOK * 2u32.saturating_pow(n.min(10))),
        };
        tokio::select! {
            () = stop.cancelled() => (),
            () = tokio::time::sleep(pause) => (),
        }
    }
}

impl Follower {
    /// Goes on by the settings in force.
    fn take(&mut self, kit: Arc<Kit>) {
        if kit.audit != self.kit.audit {
            (self.way, self.failures) = (None, 0);
            self.sent = self.kept;
            self.own.site.clone_from(&kit.audit.syslog.site);
        }
        self.kit = kit;
    }

    /// Sends what stands in the ledger now. True when there may be more.
    async fn step(&mut self) -> bool {
        match self.try_step().await {
            Ok(more) => {
                self.failures = 0;
                more
            }
            Err(why) => {
                if self.failures == 0 {
                    let server = &self.kit.audit.syslog.address;
                    tracing::warn!(server, why, "audit messages do not arrive; they are kept");
                }
                self.failures += 1;
                self.why = why;
                self.way = None;
                // What was written last may not have arrived.
                self.sent = self.kept;
                metrics::counter!("prelim_audit_failures_total").increment(1);
                false
            }
        }
    }

    async fn try_step(&mut self) -> Result<bool, String> {
        if self.kit.audit.syslog.address.is_empty() {
            // Nobody is told; who is told later is told from then on.
            self.kept = self.kit.store.followed_to();
            self.sent = self.kept;
            return Ok(false);
        }
        let records = {
            let (store, after) = (self.kit.store.clone(), self.sent);
            let read = move || store.follow(&after, RECORDS_MAX);
            let read =
                tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?;
            read.map_err(|error: StoreError| error.to_string())?
        };
        let mut messages = Vec::new();
        for record in &records {
            for event in &record.events {
                let known = |uid: &StudyUid, revision| self.known(uid, revision);
                let message = message::of_event(event, record.at, &self.own, &known);
                let process = std::process::id();
                messages.extend(message.map(|message| {
                    let xml = message.xml(&self.own);
                    syslog::message(record.at, &self.own.host, process, &xml)
                }));
            }
        }
        if !messages.is_empty() {
            let way = match &mut self.way {
                Some(way) => way,
                None => self.way.insert(Way::open(&self.kit.audit.syslog).await?),
            };
            way.send(&messages).await.map_err(|error| error.to_string())?;
        }
        if let Some(last) = records.last() {
            self.sent = last.end;
        }
        // One who has gone says so within a round trip.
        if let Some(way) = &mut self.way
            && !way.holds(Duration::from_millis(200)).await
        {
            // Between messages a server may end an idle connection: what came before arrived.
            if messages.is_empty() {
                self.way = None;
            } else {
                return Err("the server ended the connection".to_owned());
            }
        }
        if self.sent != self.kept {
            keep(&self.kit.store, &self.sent);
            self.kept = self.sent;
            let sent = messages.len() as u64;
            metrics::counter!("prelim_audit_messages_total").increment(sent);
        }
        Ok(records.len() >= RECORDS_MAX)
    }

    fn known(&self, uid: &StudyUid, revision: Option<u32>) -> Known {
        let store = &self.kit.store;
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
        if self.kit.audit.syslog.patient_id {
            let revision = revision.or(store.study(uid).ok().flatten().map(|row| row.revision));
            let headers = revision
                .and_then(|revision| store.read_result(uid, revision, record::STUDY).ok().flatten())
                .and_then(|bytes| serde_json::from_slice::<Study>(&bytes).ok());
            known.patient_id = headers.map(|study| study.patient.id).filter(|id| !id.is_empty());
        }
        known
    }

    /// How far behind, in metric and on the pages.
    fn tell(&mut self) {
        let behind = self.kit.store.followed_to().number.saturating_sub(self.kept.number);
        metrics::gauge!("prelim_audit_behind_records").set(behind as f64);
        let late = match (behind, self.failures) {
            (0, _) | (_, 0) => {
                self.behind_since = None;
                Duration::ZERO
            }
            _ => self.behind_since.get_or_insert_with(Instant::now).elapsed(),
        };
        metrics::gauge!("prelim_audit_behind_seconds").set(late.as_secs_f64());
        let told = (late > BEHIND_MAX).then(|| {
            let (minutes, why) = (late.as_secs() / 60, &self.why);
            format!(
                "audit messages have not reached {} for {minutes} minutes: {why}",
                self.kit.audit.syslog.address
            )
        });
        self.kit.attention.say("audit", told.into_iter().collect());
    }
}

/// How far the ledger was told by an earlier run; without one, its end: what was done before the
/// messages were switched on is not told. So is a place that the ledger does not have: it was made
/// anew.
pub fn remembered(kit: &Kit) -> FollowPlace {
    let end = kit.store.followed_to();
    if kit.audit.syslog.address.is_empty() {
        return end;
    }
    let bytes = std::fs::read(kit.store.data().join(PLACE_FILE)).ok();
    let place = bytes.and_then(|bytes| serde_json::from_slice::<FollowPlace>(&bytes).ok());
    if let Some(place) = place.filter(|place| place.number <= end.number) {
        return place;
    }
    if place.is_some() {
        tracing::error!("the ledger ends before what was told of it: audit messages begin anew");
    }
    keep(&kit.store, &end);
    end
}

fn keep(store: &Store, place: &FollowPlace) {
    let kept = serde_json::to_vec(place).map_err(std::io::Error::other);
    if let Err(error) = kept.and_then(|bytes| store.keep_beside(PLACE_FILE, &bytes)) {
        tracing::error!(%error, "how far audit messages are cannot be kept: some may come again");
    }
}

//! HL7 messages that are sent to us over MLLP: orders, which are kept until their images come, and
//! final reports, which are compared with our readings. AA is said when it is durable, and not before.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use serde::Deserialize;
use serde::Serialize;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::analysis::final_report;
use crate::dicom::access::Addresses;
use crate::dicom::tls;
use crate::domain::assessment::Assessment;
use crate::domain::priority::Priority;
use crate::domain::study::Patient;
use crate::domain::text;
use crate::domain::uid::StudyUid;
use crate::hl7::about;
use crate::hl7::ack;
use crate::hl7::ack::Code;
use crate::hl7::message;
use crate::hl7::message::Message;
use crate::hl7::mllp::Frames;
use crate::hl7::mllp::MllpError;
use crate::orders;
use crate::pipeline::comparing;
use crate::pipeline::comparing::CompareError;
use crate::pipeline::record;
use crate::pipeline::way::Kit;
use crate::pipeline::way::Kits;
use crate::store::StoreError;

/// Seconds for an answer to be taken.
const ANSWER: Duration = Duration::from_secs(30);
/// Between two lines of the log about what is wrong with one address, and of how many that is known.
const TELL_EVERY: Duration = Duration::from_secs(5);
const TOLD_MAX: usize = 1024;
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// Studies of one patient among which that of a report is looked for.
const STUDIES_MAX: usize = 100;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port; empty: none, or only with TLS.
    pub listen: String,
    /// Who may send. Empty: this machine alone.
    pub peers: Vec<Addresses>,
    pub connections_max: usize,
    pub message_bytes_max: usize,
    /// Seconds that a connection may say nothing, and that one message may take.
    pub idle_s: u64,
    /// Character set of senders that name none in MSH-18 and do not write UTF-8; empty: Latin-1.
    pub charset: String,
    pub tls: tls::Config,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: String::new(),
            peers: Vec::new(),
            connections_max: 32,
            message_bytes_max: 16 << 20,
            idle_s: 600,
            charset: String::new(),
            tls: tls::Config::default(),
        }
    }
}

impl Config {
    pub fn is_on(&self) -> bool {
        !self.listen.is_empty() || self.tls.is_on()
    }

    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        if !self.listen.is_empty() && self.listen.parse::<SocketAddr>().is_err() {
            problems.push(format!(
                "{at}.listen = {:?}: use address:port, e.g. \"0.0.0.0:2575\"; no order could be received",
                self.listen
            ));
        }
        for (key, found, (from, to), usual) in [
            ("connections_max", self.connections_max, (1, 1000), 32),
            ("message_bytes_max", self.message_bytes_max, (64 << 10, 256 << 20), 16 << 20),
            ("idle_s", usize::try_from(self.idle_s).unwrap_or(usize::MAX), (5, 86_400), 600),
        ] {
            if !(from..=to).contains(&found) {
                problems.push(format!(
                    "{at}.{key} = {found}: use {from} to {to} (default {usual}); senders would be refused, or could fill the memory"
                ));
            }
        }
        if !self.charset.is_empty() && self.usual_set().is_none() {
            problems.push(format!(
                "{at}.charset = {:?}: use a name of HL7 table 0211 or of the web, e.g. \"KS X 1001\", \
                 \"8859/1\", \"windows-1251\", \"gbk\"",
                self.charset
            ));
        }
        self.tls.check(&format!("{at}.tls"), problems);
    }

    fn usual_set(&self) -> Option<&'static encoding_rs::Encoding> {
        message::character_set(&self.charset)
    }

    fn may_send(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match self.peers.is_empty() {
            true => address.is_loopback(),
            false => self.peers.iter().any(|peers| peers.contains(address)),
        }
    }
}

/// Serves until `stop`; a message that is being worked on is still answered.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<tls::Server>>,
    kits: Arc<Kits>,
    stop: CancellationToken,
) {
    let sessions = TaskTracker::new();
    let places = Arc::new(Places::default());
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(%error, "HL7 connections cannot be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let kit = kits.now();
        if !kit.hl7.may_send(peer.ip()) {
            if places.may_tell(peer.ip()) {
                tracing::warn!(peer = %peer.ip(), "an HL7 sender that is no peer (hl7.peers)");
            }
            count("", "no_peer");
            continue;
        }
        let full = sessions.len() >= kit.hl7.connections_max;
        if full && !places.make_room() {
            tracing::debug!(peer = %peer.ip(), "every HL7 connection is at work");
            count("", "too_many");
            continue;
        }
        if let Some(server) = &tls {
            server.reload(false);
        }
        let (tls, place) = (tls.clone(), places.take(peer.ip(), stop.child_token()));
        sessions.spawn(async move {
            session(stream, peer, tls, &kit, &place).await;
        });
    }
    sessions.close();
    sessions.wait().await;
}

/// The connections that there are. One that waits for its sender yields to one that is new, of
/// the address that has most first: who is slow, or silent, keeps nobody else out.
#[derive(Default)]
struct Places(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    next: u64,
    places: BTreeMap<u64, Held>,
    /// When a line of what is wrong was last written about an address.
    told: HashMap<IpAddr, Instant>,
}

struct Held {
    peer: IpAddr,
    /// Since when it waits for a message, or for the rest of one; `None` while one is worked on.
    waits_since: Option<Instant>,
    close: CancellationToken,
}

/// A connection's own; gone with it.
struct Place {
    number: u64,
    peer: IpAddr,
    close: CancellationToken,
    of: Arc<Places>,
}

impl Places {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Places>, peer: IpAddr, close: CancellationToken) -> Place {
        let mut taken = self.taken();
        let number = taken.next;
        taken.next += 1;
        let held = Held { peer, waits_since: Some(Instant::now()), close: close.clone() };
        taken.places.insert(number, held);
        Place { number, peer, close, of: Arc::clone(self) }
    }

    /// Whether the log takes one more line of what is wrong with an address: it counts, and the
    /// metrics have the rest.
    fn may_tell(&self, peer: IpAddr) -> bool {
        let mut taken = self.taken();
        if taken.told.len() >= TOLD_MAX {
            taken.told.retain(|_, at| at.elapsed() < TELL_EVERY);
        }
        let is_new = taken.told.len() < TOLD_MAX || taken.told.contains_key(&peer);
        let may = is_new && taken.told.get(&peer).is_none_or(|at| at.elapsed() >= TELL_EVERY);
        if may {
            taken.told.insert(peer, Instant::now());
        }
        may
    }

    /// Ends the connection that waits. False: none does.
    fn make_room(&self) -> bool {
        let mut taken = self.taken();
        let of = |peer: IpAddr| taken.places.values().filter(|held| held.peer == peer).count();
        let waiting = taken.places.iter().filter_map(|(number, held)| {
            held.waits_since.map(|since| (of(held.peer), since.elapsed(), *number))
        });
        let Some((_, _, number)) = waiting.max() else { return false };
        if let Some(held) = taken.places.remove(&number) {
            held.close.cancel();
        }
        true
    }
}

impl Place {
    fn waits(&self, waits: bool) {
        if let Some(held) = self.of.taken().places.get_mut(&self.number) {
            held.waits_since = waits.then(Instant::now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.taken().places.remove(&self.number);
    }
}

async fn session(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<tls::Server>>,
    kit: &Kit,
    place: &Place,
) {
    let _ = stream.set_nodelay(true);
    let ended = match tls {
        None => talk(stream, kit, place).await,
        Some(server) => {
            let shaken = timeout(server.handshake_limit(), server.acceptor().accept(stream)).await;
            match shaken {
                Ok(Ok(stream)) => talk(stream, kit, place).await,
                Ok(Err(error)) => Err(format!("no TLS: {error}")),
                Err(_) => Err("no TLS: nothing came in time".into()),
            }
        }
    };
    if let Err(why) = ended
        && place.of.may_tell(peer.ip())
    {
        tracing::warn!(peer = %peer.ip(), why, "an HL7 connection ended");
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    kit: &Kit,
    place: &Place,
) -> Result<(), String> {
    let mut frames = Frames::new(stream, kit.hl7.message_bytes_max);
    let idle = Duration::from_secs(kit.hl7.idle_s);
    loop {
        place.waits(true);
        let came = tokio::select! {
            biased;
            () = place.close.cancelled() => return Ok(()),
            came = timeout(idle, frames.next()) => came,
        };
        place.waits(false);
        let block = match came {
            // A connection that is held open and not used is no fault.
            Err(_) | Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(block))) => block,
            Ok(Err(error @ MllpError::TooLarge { .. })) => {
                let words = error.to_string();
                answer(&mut frames, kit, place, None, (Code::Reject, words.clone())).await?;
                return Err(words);
            }
            Ok(Err(error)) => return Err(error.to_string()),
        };
        for bytes in message::split(&block) {
            let message = Message::read(bytes, kit.hl7.usual_set());
            let said = match &message {
                None => (Code::Reject, "this is no HL7 v2 message".to_owned()),
                Some(message) => take(kit, message).await,
            };
            answer(&mut frames, kit, place, message.as_ref(), said).await?;
        }
    }
}

/// Tells the sender of a message what was done with it, as often as it wants to hear it.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    frames: &mut Frames<S>,
    kit: &Kit,
    place: &Place,
    message: Option<&Message>,
    (code, words): (Code, String),
) -> Result<(), String> {
    let kind = message.map(Message::kind).unwrap_or_default();
    count(&kind, code.as_str());
    if code == Code::Accept || place.of.may_tell(place.peer) {
        let code = code.as_str();
        tracing::info!(kind = text::clean(&kind, 20), code, words, "HL7 message");
    }
    for code in ack::wanted(message, code) {
        let id = format!("{:020X}", rand::random::<u64>());
        let answer = ack::answer(message, code, &words, &id, kit.clock.now());
        let sent = timeout(ANSWER, frames.send(answer.as_bytes())).await;
        sent.map_err(|_| "the answer was not taken".to_owned())?.map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn count(kind: &str, outcome: &'static str) {
    let known =
        ["ORM^O01", "OMI^O23", "OMG^O19", "ORU^R01"].into_iter().find(|known| *known == kind);
    let labels = [("kind", known.unwrap_or("other")), ("outcome", outcome)];
    metrics::counter!("prelim_hl7_messages_total", &labels).increment(1);
}

/// What is done with a message, and what its sender is told: AE asks for another message, AR for
/// the same one later, or somewhere else.
async fn take(kit: &Kit, message: &Message) -> (Code, String) {
    if message.control_id().trim().is_empty() {
        return (Code::Error, "MSH-10 is missing: nothing could be acknowledged".into());
    }
    let purpose = message.header(11);
    if !purpose.is_empty() && !purpose.starts_with('P') {
        return (Code::Reject, "only messages of production (MSH-11 P) are taken".into());
    }
    match message.kind().as_str() {
        "ORM^O01" | "OMI^O23" | "OMG^O19" => order(kit, message).await,
        "ORU^R01" => report(kit, message).await,
        _ => (Code::Reject, "ORM^O01, OMI^O23, OMG^O19 and ORU^R01 are taken here".into()),
    }
}

async fn order(kit: &Kit, message: &Message) -> (Code, String) {
    let orders = match orders::message::orders(message, kit.clock.now()) {
        Ok(orders) => orders,
        Err(why) => return (Code::Error, why),
    };
    for order in &orders {
        let kept = tokio::task::block_in_place(|| kit.orders.keep(order));
        if let Err(error) = kept {
            tracing::error!(%error, "an order cannot be kept");
            return (Code::Reject, "it cannot be kept now".into());
        }
        // Of a study that is here already; one that comes later is told it by its first image.
        if let Ok(study_uid) = StudyUid::parse(&order.study_uid) {
            let (wanted, now) = (Priority::of_words(&order.priority), kit.clock.now());
            let said = kit.store.prioritise(&study_uid, wanted, "the order", now).await;
            if let Err(error) = said {
                tracing::warn!(%error, "how soon a study is wanted cannot be kept");
            }
        }
    }
    (Code::Accept, String::new())
}

/// A report of a study that was not read here, or that is not final, is nothing to compare, and no
/// fault of its sender.
async fn report(kit: &Kit, message: &Message) -> (Code, String) {
    let study_uid = match study_of(kit, message) {
        Ok(Some(study_uid)) => study_uid,
        Ok(None) => return (Code::Accept, "no reading of this study is here".into()),
        Err(error) => {
            tracing::error!(%error, "the study of a report cannot be looked up");
            return (Code::Reject, "it cannot be looked up now".into());
        }
    };
    let by = text::clean(&format!("HL7 {}", message.header(3)), 60);
    let of = final_report::Message::of(message);
    let compared = comparing::final_message(&kit.store, &study_uid, of, &by, kit.clock.now()).await;
    match compared {
        Ok(_) => (Code::Accept, String::new()),
        Err(CompareError::NoReading) => (Code::Accept, "no reading of this study is here".into()),
        Err(error @ CompareError::OtherPatient) => (Code::Error, error.to_string()),
        Err(CompareError::Wrong(why)) => (Code::Accept, why),
        Err(CompareError::Store(error)) => {
            tracing::error!(%error, "a final report cannot be kept");
            (Code::Reject, "it cannot be kept now".into())
        }
    }
}

/// The study that a report is about: by its UID, by that of its order, else by its accession number
/// among the studies of the patient.
fn study_of(kit: &Kit, message: &Message) -> Result<Option<StudyUid>, StoreError> {
    let segments: Vec<_> = message.segments().collect();
    let numbers = about::accession_numbers(&segments);
    let ids = about::patient_ids(message);
    let ordered = kit.orders.of(numbers.iter().map(String::as_str)).into_iter();
    let ordered = ordered
        .filter(|order| ids.iter().any(|id| order.patient_ids.contains(&id.id)))
        .map(|order| order.study_uid);
    for uid in about::study_uids(&segments).into_iter().chain(ordered) {
        if let Ok(uid) = StudyUid::parse(&uid)
            && kit.store.study(&uid)?.is_some()
        {
            return Ok(Some(uid));
        }
    }
    let birth_date = about::birth_date(message);
    for about::PatientId { id, issuer } in ids {
        // Scanners often do not say who gave the number.
        for (issuer_of_id, birth_date) in [
            (issuer.clone(), birth_date.clone()),
            (String::new(), birth_date.clone()),
            (issuer, String::new()),
            (String::new(), String::new()),
        ] {
            let patient =
                Patient { id: id.clone(), issuer_of_id, birth_date, ..Patient::default() };
            let Some(mark) = kit.marks.of(&patient) else { continue };
            let studies = kit.store.studies_of_patient(&mark)?;
            for uid in studies.into_iter().take(STUDIES_MAX) {
                let Some(revision) = kit.store.study(&uid)?.and_then(|row| row.assessed_revision)
                else {
                    continue;
                };
                let bytes = kit.store.read_result(&uid, revision, record::ASSESSMENT)?;
                let read =
                    bytes.and_then(|bytes| serde_json::from_slice::<Assessment>(&bytes).ok());
                let own = read.map(|a| a.study.accession_number().to_owned()).unwrap_or_default();
                if !own.is_empty() && numbers.contains(&own) {
                    return Ok(Some(uid));
                }
            }
        }
    }
    Ok(None)
}

/// Removes orders whose images did not come, until the node stops.
pub async fn forget(kits: Arc<Kits>, stop: CancellationToken) {
    loop {
        let kit = kits.now();
        let kept = jiff::SignedDuration::from_hours(24 * i64::from(kit.orders_keep_days));
        let before = kit.clock.now() - kept;
        let gone = tokio::task::block_in_place(|| kit.orders.forget_before(before));
        if gone > 0 {
            tracing::info!(gone, "orders that are older than orders.keep_days were removed");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(FORGET_EVERY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_send_is_named_and_without_a_name_it_is_this_machine() {
        let config = |peers: &[&str]| Config {
            peers: peers.iter().map(|one| one.parse().unwrap()).collect(),
            ..Config::default()
        };
        for (peers, address, may) in [
            (&[][..], "127.0.0.1", true),
            (&[], "::1", true),
            (&[], "10.0.0.5", false),
            (&["10.0.0.0/24"], "10.0.0.5", true),
            (&["10.0.0.0/24"], "::ffff:10.0.0.5", true),
            (&["10.0.0.0/24"], "10.0.1.5", false),
            (&["10.0.0.0/24"], "127.0.0.1", false),
        ] {
            assert_eq!(
                config(peers).may_send(address.parse().unwrap()),
                may,
                "{peers:?} {address}"
            );
        }
    }

    #[test]
    fn who_waits_in_the_middle_of_a_message_yields_to_who_is_new() {
        let places = Arc::new(Places::default());
        let [many, one]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap());
        let first = places.take(one, CancellationToken::new());
        let slow: Vec<Place> =
            (0..3).map(|_| places.take(many, CancellationToken::new())).collect();
        assert!(places.make_room());
        assert!(slow[0].close.is_cancelled(), "of the address that has most");
        assert!(!first.close.is_cancelled());
        first.waits(false);
        slow.iter().for_each(|place| place.waits(false));
        assert!(!places.make_room(), "a message that is worked on is answered");
        assert!(places.may_tell(one) && !places.may_tell(one) && places.may_tell(many));
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let mut problems = Vec::new();
        Config::default().check("hl7", &mut problems);
        assert_eq!(problems, [""; 0]);
        let listen = "2575".into();
        Config { listen, connections_max: 0, message_bytes_max: 1, idle_s: 0, ..Config::default() }
            .check("hl7", &mut problems);
        assert_eq!(problems.len(), 4, "{problems:#?}");
    }
}

//! Storage Commitment Push Model (PS3.4 J): what is asked for, what is reported, and the report on
//! an association of our own.

use std::collections::BTreeMap;
use std::time::Duration;

use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;
use serde::Deserialize;
use serde::Serialize;

use crate::dicom::command::Command;
use crate::dicom::command::field;
use crate::dicom::elements::Elements;
use crate::dicom::elements::Encoder;
use crate::dicom::elements::SYNTAXES;
use crate::dicom::service::Report;
use crate::dicom::status::Status;
use crate::dicom::storage_scu::Open;
use crate::dicom::storage_scu::ScuError;
use crate::dicom::storage_scu::Target;
use crate::dicom::storage_scu::Timeouts;
use crate::dicom::tls_client;
use crate::domain::ae_title::AeTitle;
use crate::domain::uid::SopClassUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::TransactionUid;

/// The instance that stands for the service (PS3.4 J.3.5).
pub const WELL_KNOWN_INSTANCE: &str = uids::STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE;
/// Action Type ID of a request.
pub const REQUEST: u16 = 1;
/// Of an answer or a report about one object.
const ANSWER_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where requesters are called with the result, by name: `[commitment.peers.ct1]`.
    pub peers: BTreeMap<String, Peer>,
    /// Reports on the requester's own association first, if it stays.
    pub same_association: bool,
    /// Hours for which a requester that cannot be reached is called again.
    pub give_up_hours: u64,
    /// Seconds to connect, and for each answer.
    pub timeout_s: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    pub ae_title: AeTitle,
    /// `host:port`.
    pub address: String,
    /// None: without TLS.
    pub tls: Option<tls_client::Config>,
}

impl Default for Config {
    fn default() -> Config {
        Config { peers: BTreeMap::new(), same_association: true, give_up_hours: 24, timeout_s: 30 }
    }
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        for (name, peer) in &self.peers {
            if !is_address(&peer.address) {
                problems.push(format!(
                    "{at}.peers.{name}.address = {:?}: use host:port, e.g. \"ct1.hospital.example:104\"; the requester could not be called",
                    peer.address
                ));
            }
            if let Some(tls) = &peer.tls {
                tls.check(&format!("{at}.peers.{name}.tls"), &peer.address, problems);
            }
            let twice = |other: &&Peer| other.ae_title == peer.ae_title;
            if self.peers.values().filter(twice).count() > 1 {
                problems.push(format!(
                    "{at}.peers.{name}.ae_title = \"{}\" stands twice; one of the two addresses would never be called",
                    peer.ae_title
                ));
            }
        }
        let hours = self.give_up_hours;
        if !(1..=720).contains(&hours) {
            let why = "a scanner deletes nothing before it knows, and may be off over a weekend";
            problems
                .push(format!("{at}.give_up_hours = {hours}: use 1 to 720 (default 24); {why}"));
        }
        let s = self.timeout_s;
        if !(1..=600).contains(&s) {
            let why = "a shorter wait fails on a slow requester, a longer one holds up others";
            problems.push(format!("{at}.timeout_s = {s}: use 1 to 600 (default 30); {why}"));
        }
    }

    /// Where a requester is called.
    pub fn address_of(&self, calling_ae: &str) -> Option<&Peer> {
        self.peers.values().find(|peer| peer.ae_title.as_str() == calling_ae)
    }

    pub fn timeouts(&self) -> Timeouts {
        let wait = Duration::from_secs(self.timeout_s);
        Timeouts { connect: wait, answer: wait, write: wait }
    }
}

/// Whether text is `host:port`.
pub fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_graphic())
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

/// One instance that a requester asks for: class and instance.
pub type Reference = (SopClassUid, SopInstanceUid);

/// What a requester wants to know (PS3.4 table J.3-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub transaction_uid: TransactionUid,
    pub references: Vec<Reference>,
}

impl Request {
    /// Reads the action information. An item whose UIDs are none refuses the whole: nothing could
    /// be reported of it.
    pub fn read(bytes: &[u8], transfer_syntax: &str) -> Result<Request, (Status, String)> {
        let data = Elements::read(bytes, transfer_syntax)
            .map_err(|error| (Status::INVALID_ARGUMENT, error.to_string()))?;
        let transaction_uid = TransactionUid::parse(&data.text(tags::TRANSACTION_UID))
            .map_err(|_| (Status::INVALID_ARGUMENT, "Transaction UID missing or bad".to_owned()))?;
        let mut references = Vec::new();
        for item in data.items(tags::REFERENCED_SOP_SEQUENCE) {
            let class = SopClassUid::parse(&item.text(tags::REFERENCED_SOP_CLASS_UID));
            let instance = SopInstanceUid::parse(&item.text(tags::REFERENCED_SOP_INSTANCE_UID));
            match (class, instance) {
                (Ok(class), Ok(instance)) => references.push((class, instance)),
                (_, _) => {
                    let why = format!("reference {} has no valid UIDs", references.len() + 1);
                    return Err((Status::INVALID_ARGUMENT, why));
                }
            }
        }
        match references.is_empty() {
            true => Err((Status::INVALID_ARGUMENT, "no instance is referenced".to_owned())),
            false => Ok(Request { transaction_uid, references }),
        }
    }
}

/// Why an instance is not committed: Failure Reason (0008,1197), PS3.3 C.14.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureReason {
    ProcessingFailure = 0x0110,
    NoSuchInstance = 0x0112,
    ClassInstanceConflict = 0x0119,
    DuplicateTransaction = 0x0131,
}

/// What is committed and what is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub transaction_uid: TransactionUid,
    pub committed: Vec<Reference>,
    pub failed: Vec<(Reference, FailureReason)>,
}

impl Outcome {
    /// The event (PS3.4 table J.3-2): type 1 when all are committed, else 2.
    pub fn report(&self, transfer_syntax: &str) -> Report {
        let mut data = Encoder::new(transfer_syntax);
        data.uid(tags::TRANSACTION_UID, self.transaction_uid.as_str());
        if !self.failed.is_empty() {
            data.sequence(tags::FAILED_SOP_SEQUENCE, &self.failed, |item, (reference, reason)| {
                item.uid(tags::REFERENCED_SOP_CLASS_UID, reference.0.as_str());
                item.uid(tags::REFERENCED_SOP_INSTANCE_UID, reference.1.as_str());
                item.number(tags::FAILURE_REASON, *reason as u16);
            });
        }
        if !self.committed.is_empty() {
            data.sequence(tags::REFERENCED_SOP_SEQUENCE, &self.committed, |item, reference| {
                item.uid(tags::REFERENCED_SOP_CLASS_UID, reference.0.as_str());
                item.uid(tags::REFERENCED_SOP_INSTANCE_UID, reference.1.as_str());
            });
        }
        Report {
            sop_class_uid: uids::STORAGE_COMMITMENT_PUSH_MODEL,
            sop_instance_uid: WELL_KNOWN_INSTANCE,
            event_type: if self.failed.is_empty() { 1 } else { 2 },
            data_set: data.finish(),
        }
    }
}

impl Outcome {
    /// Reads a report (PS3.4 table J.3-2). What stands in neither list is not known.
    pub fn read(bytes: &[u8], transfer_syntax: &str) -> Result<Outcome, (Status, String)> {
        let data = Elements::read(bytes, transfer_syntax)
            .map_err(|error| (Status::INVALID_ARGUMENT, error.to_string()))?;
        let transaction_uid = TransactionUid::parse(&data.text(tags::TRANSACTION_UID))
            .map_err(|_| (Status::INVALID_ARGUMENT, "Transaction UID missing or bad".to_owned()))?;
        let reference = |item: &Elements| {
            let class = SopClassUid::parse(&item.text(tags::REFERENCED_SOP_CLASS_UID));
            let instance = SopInstanceUid::parse(&item.text(tags::REFERENCED_SOP_INSTANCE_UID));
            class.ok().zip(instance.ok())
        };
        let committed =
            data.items(tags::REFERENCED_SOP_SEQUENCE).iter().filter_map(reference).collect();
        let failed = data.items(tags::FAILED_SOP_SEQUENCE);
        let failed = failed.iter().filter_map(|item| {
            let reason = match item.number(tags::FAILURE_REASON) {
                Some(0x0112) => FailureReason::NoSuchInstance,
                Some(0x0119) => FailureReason::ClassInstanceConflict,
                Some(0x0131) => FailureReason::DuplicateTransaction,
                _ => FailureReason::ProcessingFailure,
            };
            Some((reference(item)?, reason))
        });
        let failed = failed.collect();
        Ok(Outcome { transaction_uid, committed, failed })
    }
}

/// What came of asking an archive whether it keeps instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It answered on the same association.
    Answered(Outcome),
    /// It took the request and will call us.
    Later,
    /// It does not offer the service, or refuses the request.
    No,
}

/// Asks an archive to keep instances (N-ACTION) and waits a little for its report.
///
/// - `patience`: for the report on the same association.
pub async fn ask(
    target: &Target,
    timeouts: &Timeouts,
    request: &Request,
    patience: Duration,
) -> Result<Asked, ScuError> {
    let class = uids::STORAGE_COMMITMENT_PUSH_MODEL;
    let contexts = SYNTAXES.map(|syntax| (class.to_owned(), syntax.to_owned()));
    let mut open = Open::new(target, timeouts, &contexts).await?;
    let Some((context, transfer_syntax)) = open.first_of(&contexts) else {
        open.release().await;
        return Ok(Asked::No);
    };
    let mut data = Encoder::new(&transfer_syntax);
    data.uid(tags::TRANSACTION_UID, request.transaction_uid.as_str());
    data.sequence(tags::REFERENCED_SOP_SEQUENCE, &request.references, |item, reference| {
        item.uid(tags::REFERENCED_SOP_CLASS_UID, reference.0.as_str());
        item.uid(tags::REFERENCED_SOP_INSTANCE_UID, reference.1.as_str());
    });
    let id = open.next_message_id();
    let command = Command::action_request(id, class, WELL_KNOWN_INSTANCE, REQUEST);
    open.request(context, &command, &data.finish()).await?;
    let (answer, _) = open.response(field::N_ACTION_RSP, id, ANSWER_BYTES_MAX).await?;
    if answer.status != Some(Status::SUCCESS.0) {
        open.release().await;
        return Ok(Asked::No);
    }
    let mut asked = Asked::Later;
    if let Some((command, data)) = open.next_request(patience, ANSWER_BYTES_MAX).await?
        && command.field == field::N_EVENT_REPORT_RQ
    {
        let outcome = Outcome::read(&data, &transfer_syntax);
        let status = outcome.as_ref().map_or_else(|(status, _)| *status, |_| Status::SUCCESS);
        open.respond(context, &command, status).await?;
        asked = outcome.map_or(Asked::Later, Asked::Answered);
    }
    open.release().await;
    Ok(asked)
}

/// Calls the requester and reports. We ask for the association and are the SCP: role selection
/// says so (PS3.4 J.3.3, PS3.7 D.3.3.4).
pub async fn report(
    target: &Target,
    outcome: &Outcome,
    timeouts: &Timeouts,
) -> Result<Status, ScuError> {
    let class = uids::STORAGE_COMMITMENT_PUSH_MODEL;
    let contexts = SYNTAXES.map(|syntax| (class.to_owned(), syntax.to_owned()));
    let mut open = Open::as_scp(target, timeouts, &contexts, class).await?;
    let (context, transfer_syntax) = open.first_of(&contexts).ok_or(ScuError::NoContext)?;
    let answer = open.event_report(context, &outcome.report(&transfer_syntax)).await?;
    open.release().await;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(n: u32) -> Reference {
        let instance = SopInstanceUid::parse(&format!("1.2.3.{n}")).unwrap();
        (SopClassUid::parse(uids::CT_IMAGE_STORAGE).unwrap(), instance)
    }

    fn transaction() -> TransactionUid {
        TransactionUid::parse("1.2.9").unwrap()
    }

    #[test]
    fn a_request_is_read_and_a_broken_one_named() {
        for syntax in SYNTAXES {
            let request = |transaction: &str, instances: &[&str]| {
                let mut data = Encoder::new(syntax);
                data.uid(tags::TRANSACTION_UID, transaction);
                data.sequence(tags::REFERENCED_SOP_SEQUENCE, instances, |item, uid| {
                    item.uid(tags::REFERENCED_SOP_CLASS_UID, uids::CT_IMAGE_STORAGE);
                    item.uid(tags::REFERENCED_SOP_INSTANCE_UID, uid);
                });
                Request::read(&data.finish(), syntax)
            };
            let read = request("1.2.9", &["1.2.3.1", "1.2.3.2"]).unwrap();
            assert_eq!(read.transaction_uid, transaction());
            assert_eq!(read.references, [reference(1), reference(2)]);
            for (transaction, instances) in
                [("", &["1.2.3.1"][..]), ("1.2.9", &[]), ("1.2.9", &["../x"]), ("x", &["1.2"])]
            {
                let (status, _) = request(transaction, instances).unwrap_err();
                assert_eq!(status, Status::INVALID_ARGUMENT, "{transaction} {instances:?}");
            }
        }
    }

    #[test]
    fn a_report_names_what_failed_and_why() {
        let mut outcome = Outcome {
            transaction_uid: transaction(),
            committed: vec![reference(1)],
            failed: Vec::new(),
        };
        assert_eq!(outcome.report(SYNTAXES[0]).event_type, 1);
        let read = Outcome::read(&outcome.report(SYNTAXES[0]).data_set, SYNTAXES[0]);
        assert_eq!(read.unwrap(), outcome);
        outcome.failed.push((reference(2), FailureReason::NoSuchInstance));
        for syntax in SYNTAXES {
            let report = outcome.report(syntax);
            assert_eq!(report.event_type, 2);
            let data = Elements::read(&report.data_set, syntax).unwrap();
            assert_eq!(data.text(tags::TRANSACTION_UID), "1.2.9");
            let failed = &data.items(tags::FAILED_SOP_SEQUENCE)[0];
            assert_eq!(failed.number(tags::FAILURE_REASON), Some(0x0112));
            assert_eq!(failed.text(tags::REFERENCED_SOP_INSTANCE_UID), "1.2.3.2");
            assert_eq!(data.items(tags::REFERENCED_SOP_SEQUENCE).len(), 1);
            assert_eq!(Outcome::read(&report.data_set, syntax).unwrap(), outcome);
        }
        assert!(Outcome::read(b"no data set", SYNTAXES[0]).is_err());
    }

    #[test]
    fn an_address_that_cannot_be_called_is_named() {
        let ae_title = AeTitle::parse("CT1").unwrap();
        let peer = |address: &str| {
            let ae_title = ae_title.clone();
            Peer { ae_title, address: address.into(), tls: None }
        };
        let peers = [("a", peer("ct1")), ("b", peer("ct1:104"))];
        let peers = peers.map(|(name, peer)| (name.to_owned(), peer)).into();
        let mut problems = Vec::new();
        Config { peers, timeout_s: 0, ..Config::default() }.check("commitment", &mut problems);
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[0].starts_with("commitment.peers.a.address = \"ct1\": use host:port"));
    }
}

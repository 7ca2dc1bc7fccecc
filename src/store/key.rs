//! Keys of the rows: a letter, then parts with a NUL between them. UIDs hold digits and dots only.

use jiff::civil::Date;

use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::domain::uid::TransactionUid;

pub const MARK: &[u8] = b"!mark";
pub const STUDIES_BY_CHANGE: &[u8] = b"c";
pub const COMPARISONS: &[u8] = b"f";
pub const INSTANCES: &[u8] = b"i";
pub const OPEN_JOBS: &[u8] = b"o";
pub const OPEN_REVISIONS: &[u8] = b"p";
pub const SOURCES: &[u8] = b"q";
pub const DEFERRED: &[u8] = b"w";
pub const GOING: &[u8] = b"z";
pub const UNANSWERED: &[u8] = b"U";
pub const WAITING: &[u8] = b"W";
pub const DAMAGE: &[u8] = b"!damage";

/// A part of the ledger that was lost.
pub fn damage(order: u64, place: usize) -> Vec<u8> {
    [DAMAGE, &order.to_be_bytes(), &(place as u32).to_be_bytes()].concat()
}

/// A part of a key, for people and to be compared with.
pub fn text(part: &[u8]) -> String {
    part.escape_ascii().to_string()
}

fn of(letter: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![letter];
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            key.push(0);
        }
        key.extend(*part);
    }
    key
}

/// As a prefix of keys that go on with another part.
fn all(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

pub fn study(study: &StudyUid) -> Vec<u8> {
    of(b's', &[study.as_str().as_bytes()])
}

pub fn by_change(order: u64) -> Vec<u8> {
    of(b'c', &[&order.to_be_bytes()])
}

pub fn revisions(study: &StudyUid) -> Vec<u8> {
    all(of(b'r', &[study.as_str().as_bytes()]))
}

pub fn revision(study: &StudyUid, revision: u32) -> Vec<u8> {
    of(b'r', &[study.as_str().as_bytes(), &revision.to_be_bytes()])
}

pub fn open_revision(study: &StudyUid) -> Vec<u8> {
    of(b'p', &[study.as_str().as_bytes()])
}

/// Blocks of instances of a study (and of one whose hash is the same).
pub fn instances(study: [u8; 8]) -> Vec<u8> {
    [b"i", study.as_slice()].concat()
}

pub fn block(study: [u8; 8], number: u32) -> Vec<u8> {
    [b"i", study.as_slice(), &number.to_be_bytes()].concat()
}

/// Where the instances stand whose hash begins with these bytes.
pub fn places(bucket: [u8; 2]) -> Vec<u8> {
    [b"n", bucket.as_slice()].concat()
}

pub fn histories(study: &StudyUid) -> Vec<u8> {
    all(of(b'h', &[study.as_str().as_bytes()]))
}

pub fn history(study: &StudyUid, order: u64) -> Vec<u8> {
    of(b'h', &[study.as_str().as_bytes(), &order.to_be_bytes()])
}

pub fn artefacts(study: &StudyUid, revision: u32) -> Vec<u8> {
    all(of(b'a', &[study.as_str().as_bytes(), &revision.to_be_bytes()]))
}

pub fn artefact(study: &StudyUid, revision: u32, file: &str) -> Vec<u8> {
    of(b'a', &[study.as_str().as_bytes(), &revision.to_be_bytes(), file.as_bytes()])
}

pub fn deliveries(study: &StudyUid) -> Vec<u8> {
    all(of(b'd', &[study.as_str().as_bytes()]))
}

pub fn delivery(study: &StudyUid, revision: u32, artefact: &str, to: &str) -> Vec<u8> {
    let revision = revision.to_be_bytes();
    of(b'd', &[study.as_str().as_bytes(), &revision, artefact.as_bytes(), to.as_bytes()])
}

pub fn alerts(study: &StudyUid) -> Vec<u8> {
    all(of(b'l', &[study.as_str().as_bytes()]))
}

pub fn alert(study: &StudyUid, revision: u32, alert: &str) -> Vec<u8> {
    of(b'l', &[study.as_str().as_bytes(), &revision.to_be_bytes(), alert.as_bytes()])
}

/// Where the newest alert of this key stands.
pub fn alert_place(alert: &str) -> Vec<u8> {
    of(b'A', &[alert.as_bytes()])
}

/// Marks an alert that nobody has answered.
pub fn unanswered(study: &StudyUid, revision: u32, alert: &str) -> Vec<u8> {
    of(b'U', &[study.as_str().as_bytes(), &revision.to_be_bytes(), alert.as_bytes()])
}

/// Kinds of artefacts that a destination takes none of.
pub fn refusals(destination: &str) -> Vec<u8> {
    all(of(b'R', &[destination.as_bytes()]))
}

pub fn refusal(destination: &str, kind: &str) -> Vec<u8> {
    of(b'R', &[destination.as_bytes(), kind.as_bytes()])
}

/// A question to an archive whether it keeps an object.
pub fn proof(transaction: &TransactionUid) -> Vec<u8> {
    of(b'P', &[transaction.as_str().as_bytes()])
}

/// What one address was sent lately.
pub fn channel(address: &str) -> Vec<u8> {
    of(b'C', &[address.as_bytes()])
}

pub fn source(calling_ae: &str) -> Vec<u8> {
    of(b'q', &[calling_ae.as_bytes()])
}

pub fn commitments(transaction: &TransactionUid) -> Vec<u8> {
    all(of(b't', &[transaction.as_str().as_bytes()]))
}

pub fn commitment(transaction: &TransactionUid, request: &str) -> Vec<u8> {
    of(b't', &[transaction.as_str().as_bytes(), request.as_bytes()])
}

/// A performed procedure step.
pub fn step(step: &SopInstanceUid) -> Vec<u8> {
    of(b'm', &[step.as_str().as_bytes()])
}

/// The instances that it has made.
pub fn step_instances(step: &SopInstanceUid) -> Vec<u8> {
    of(b'm', &[step.as_str().as_bytes(), b"instances"])
}

/// Names the steps of a study.
pub fn steps_of(study: &StudyUid) -> Vec<u8> {
    all(of(b'e', &[study.as_str().as_bytes()]))
}

pub fn step_of(study: &StudyUid, step: &SopInstanceUid) -> Vec<u8> {
    of(b'e', &[study.as_str().as_bytes(), step.as_str().as_bytes()])
}

/// An archive's count of a study's instances.
pub fn count(study: &StudyUid) -> Vec<u8> {
    of(b'x', &[study.as_str().as_bytes()])
}

/// What doctors said of the readings of a study.
pub fn comparisons(study: &StudyUid) -> Vec<u8> {
    all(of(b'f', &[study.as_str().as_bytes()]))
}

pub fn comparison(study: &StudyUid, order: u64) -> Vec<u8> {
    of(b'f', &[study.as_str().as_bytes(), &order.to_be_bytes()])
}

/// The studies of a patient that were assessed.
pub fn patient_studies(patient: &str) -> Vec<u8> {
    all(of(b'b', &[patient.as_bytes()]))
}

pub fn patient_study(patient: &str, study: &StudyUid) -> Vec<u8> {
    of(b'b', &[patient.as_bytes(), study.as_str().as_bytes()])
}

/// Whose it is.
pub fn patient_of(study: &StudyUid) -> Vec<u8> {
    of(b'g', &[study.as_str().as_bytes()])
}

/// What went of a study.
pub fn removed(study: &StudyUid) -> Vec<u8> {
    of(b'y', &[study.as_str().as_bytes()])
}

/// A study whose files are being removed.
pub fn going(study: &StudyUid) -> Vec<u8> {
    of(b'z', &[study.as_str().as_bytes()])
}

pub fn artefacts_of(study: &StudyUid) -> Vec<u8> {
    all(of(b'a', &[study.as_str().as_bytes()]))
}

/// Marks of the open jobs of all its revisions.
pub fn study_jobs(study: &StudyUid) -> Vec<u8> {
    all(of(b'k', &[study.as_str().as_bytes()]))
}

/// Rows of all its jobs: their ids begin with it.
pub fn jobs_of(study: &StudyUid) -> Vec<u8> {
    of(b'j', &[format!("{study}/").as_bytes()])
}

/// An instance that was taken while the index was being made.
pub fn deferred(order: u64) -> Vec<u8> {
    of(b'w', &[&order.to_be_bytes()])
}

/// What the instances of a study are.
pub fn origins(study: &StudyUid) -> Vec<u8> {
    all(of(b'O', &[study.as_str().as_bytes()]))
}

pub fn origin(study: &StudyUid, sop: &SopInstanceUid) -> Vec<u8> {
    of(b'O', &[study.as_str().as_bytes(), sop.as_str().as_bytes()])
}

/// An instance that waits for a decision.
pub fn waiting(study: &StudyUid, sop: &SopInstanceUid) -> Vec<u8> {
    of(b'W', &[study.as_str().as_bytes(), sop.as_str().as_bytes()])
}

/// An artefact of ours by its SOP Instance UID.
pub fn own(sop: &SopInstanceUid) -> Vec<u8> {
    of(b'N', &[sop.as_str().as_bytes()])
}

pub fn job(id: &str) -> Vec<u8> {
    of(b'j', &[id.as_bytes()])
}

/// Marks a job that waits, runs or is dead.
pub fn open_job(id: &str) -> Vec<u8> {
    of(b'o', &[id.as_bytes()])
}

pub fn revision_jobs(study: &StudyUid, revision: u32) -> Vec<u8> {
    all(of(b'k', &[study.as_str().as_bytes(), &revision.to_be_bytes()]))
}

/// Marks the same job under its revision.
pub fn revision_job(study: &StudyUid, revision: u32, id: &str) -> Vec<u8> {
    of(b'k', &[study.as_str().as_bytes(), &revision.to_be_bytes(), id.as_bytes()])
}

pub fn canary(name: &str) -> Vec<u8> {
    of(b'v', &[name.as_bytes()])
}

/// What was asked of models on a day.
pub fn usages(day: Date) -> Vec<u8> {
    all(of(b'u', &[day.to_string().as_bytes()]))
}

/// - `kind`: what is counted apart, of any texts without NUL.
pub fn usage(day: Date, kind: &[&str]) -> Vec<u8> {
    let day = day.to_string();
    let kind = kind.iter().map(|part| part.as_bytes());
    of(b'u', &[day.as_bytes()].into_iter().chain(kind).collect::<Vec<_>>())
}

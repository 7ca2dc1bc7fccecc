//! What a check of the data folder can find.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;
use std::time::Instant;

use serde::Deserialize;
use serde::Serialize;

/// Gaps listed one by one; more are only counted.
const GAPS_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyMode {
    /// Names and sizes of the instances.
    Quick,
    /// Also the digest of each.
    Full,
}

/// How far a long walk is; `total` where it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub step: Cow<'static, str>,
    pub done: u64,
    pub total: Option<u64>,
}

/// Rests longer than was worked, so that a node that receives keeps its speed.
pub struct Pace {
    /// So many times as long.
    rest: u32,
    since: Instant,
}

impl Pace {
    /// - `gentle`: twice as long; else it does not rest.
    pub fn new(gentle: bool) -> Pace {
        Pace { rest: if gentle { 2 } else { 0 }, since: Instant::now() }
    }

    /// For what nobody waits for: a twentieth of the time.
    pub fn slow() -> Pace {
        Pace { rest: 19, since: Instant::now() }
    }

    /// To be called often.
    pub fn rest(&mut self) {
        const SHORT: Duration = Duration::from_millis(5);
        let worked = self.since.elapsed();
        if self.rest > 0 && worked > SHORT {
            std::thread::sleep((worked * self.rest).min(Duration::from_secs(5)));
            self.since = Instant::now();
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "gap")]
pub enum Gap {
    /// The worst: something that was acknowledged is not there.
    ReceiptWithoutObject {
        sop_instance_uid: String,
        object: String,
    },
    ObjectWithoutReceipt {
        object: String,
    },
    ObjectSize {
        object: String,
        expected_bytes: u64,
        found_bytes: u64,
    },
    ObjectDigest {
        object: String,
    },
    ObjectUnreadable {
        object: String,
        cause: String,
    },
    LedgerDamage {
        what: String,
    },
    /// Its last record is incomplete; the next start cuts it off.
    LedgerTorn {
        segment: u64,
        offset: u64,
        bytes: u64,
    },
    IndexUnusable {
        cause: String,
    },
    IndexRow {
        key: String,
        what: String,
    },
    ArtefactMissing {
        file: String,
    },
    ArtefactChanged {
        file: String,
    },
    /// It counts as delivered, and it is not known what was delivered.
    DeliveryWithoutArtefact {
        file: String,
        destination: String,
    },
    JobWithoutStudy {
        id: String,
    },
    /// The ledger has its receipt, the index does not show it.
    ReceiptWithoutRow {
        sop_instance_uid: String,
    },
    /// The index shows it, the ledger has no receipt of it.
    RowWithoutReceipt {
        sop_instance_uid: String,
    },
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gap::ReceiptWithoutObject { sop_instance_uid, object } => {
                write!(f, "instance {sop_instance_uid} was acknowledged and {object} is missing")
            }
            Gap::ObjectWithoutReceipt { object } => write!(f, "{object} has no receipt"),
            Gap::ObjectSize { object, expected_bytes, found_bytes } => {
                write!(f, "{object} has {found_bytes} bytes, {expected_bytes} were received")
            }
            Gap::ObjectDigest { object } => write!(f, "{object} is not what was received"),
            Gap::ObjectUnreadable { object, cause } => write!(f, "{object}: {cause}"),
            Gap::LedgerDamage { what } => f.write_str(what),
            Gap::LedgerTorn { segment, offset, bytes } => {
                write!(f, "ledger file {segment:08}.log: {bytes} bytes at {offset} are incomplete")
            }
            Gap::IndexUnusable { cause } => f.write_str(cause),
            Gap::IndexRow { key, what } => write!(f, "index row {key}: {what}"),
            Gap::ArtefactMissing { file } => write!(f, "{file} was written and is missing"),
            Gap::ArtefactChanged { file } => write!(f, "{file} is not what was written"),
            Gap::DeliveryWithoutArtefact { file, destination } => {
                write!(f, "{file} counts as delivered to {destination} and was never written")
            }
            Gap::JobWithoutStudy { id } => write!(f, "job {id} is of a study that is not known"),
            Gap::ReceiptWithoutRow { sop_instance_uid } => {
                write!(f, "instance {sop_instance_uid} was acknowledged and is not in the index")
            }
            Gap::RowWithoutReceipt { sop_instance_uid } => {
                write!(f, "instance {sop_instance_uid} is in the index and has no receipt")
            }
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct VerifyReport {
    pub records: u64,
    pub receipts: u64,
    pub objects: u64,
    pub rows: u64,
    pub artefacts: u64,
    pub deliveries: u64,
    pub jobs: u64,
    /// The node did not end in order: what stands in its journal is no gap, and gets its place
    /// with the next start.
    pub journal_in_use: bool,
    pub gaps: Vec<Gap>,
    /// All, also those that are not listed.
    pub gaps_total: u64,
}

impl VerifyReport {
    pub fn is_complete(&self) -> bool {
        self.gaps_total == 0
    }

    pub fn add(&mut self, gap: Gap) {
        self.gaps_total += 1;
        if self.gaps.len() < GAPS_MAX {
            self.gaps.push(gap);
        }
    }
}

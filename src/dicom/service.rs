//! Services beside storage: what an association hands on and what it sends back. Which service it
//! is, and what it keeps, is the handler's.

use std::net::SocketAddr;

use async_trait::async_trait;
use bytes::Bytes;
use dicom_dictionary_std::uids;

use crate::dicom::command::Command;
use crate::dicom::command::field;
use crate::dicom::status::Status;

/// Longest data set of these services. 30,000 references have 4 MiB.
pub const SERVICE_BYTES_MAX: usize = 4 << 20;

/// SOP classes served by a [`ServiceHandler`], with the peer as SCU; of storage commitment also as
/// the SCP that we have asked.
pub const SERVICES: [&str; 2] =
    [uids::STORAGE_COMMITMENT_PUSH_MODEL, uids::MODALITY_PERFORMED_PROCEDURE_STEP];

pub fn is_service(sop_class_uid: &str) -> bool {
    SERVICES.contains(&sop_class_uid)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// N-ACTION with its Action Type ID.
    Action { action_type: u16 },
    /// N-CREATE.
    Create,
    /// N-SET.
    Set,
    /// N-EVENT-REPORT with its Event Type ID: the peer is the SCP.
    EventReport { event_type: u16 },
}

impl Operation {
    /// None: no operation of a normalized service that is served here.
    pub fn of(command: &Command) -> Option<Operation> {
        match command.field {
            field::N_ACTION_RQ => {
                Some(Operation::Action { action_type: command.action_type.unwrap_or(0) })
            }
            field::N_EVENT_REPORT_RQ => {
                Some(Operation::EventReport { event_type: command.event_type.unwrap_or(0) })
            }
            field::N_CREATE_RQ => Some(Operation::Create),
            field::N_SET_RQ => Some(Operation::Set),
            _ => None,
        }
    }
}

/// A request with its data set. UIDs are as sent and not yet checked.
#[derive(Debug, Clone)]
pub struct ServiceRequest {
    pub operation: Operation,
    pub sop_class_uid: String,
    /// Empty where an N-CREATE leaves it to us.
    pub sop_instance_uid: String,
    pub transfer_syntax_uid: String,
    pub data_set: Bytes,
    /// Printable: control characters escaped.
    pub calling_ae: String,
    pub called_ae: String,
    pub peer: SocketAddr,
    /// Number of the association in this node's life, as in the log.
    pub association: String,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAnswer {
    pub status: Status,
    /// At most 64 characters reach the peer. No patient data: it is logged.
    pub comment: String,
    pub error_id: Option<u16>,
    /// SOP Instance UID that an N-CREATE was given here.
    pub sop_instance_uid: Option<String>,
    /// A report that follows, on this association if the peer stays: for
    /// [`ServiceHandler::report`].
    pub report: Option<String>,
}

impl ServiceAnswer {
    pub fn success() -> ServiceAnswer {
        ServiceAnswer::refused(Status::SUCCESS, "")
    }

    pub fn refused(status: Status, comment: impl Into<String>) -> ServiceAnswer {
        let comment = comment.into();
        ServiceAnswer { status, comment, error_id: None, sop_instance_uid: None, report: None }
    }
}

/// An N-EVENT-REPORT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub sop_class_uid: &'static str,
    pub sop_instance_uid: &'static str,
    pub event_type: u16,
    /// In the transfer syntax that was asked for.
    pub data_set: Vec<u8>,
}

#[async_trait]
pub trait ServiceHandler: Send + Sync + 'static {
    /// Decides on one request. What it says with success is durable when this returns.
    async fn serve(&self, request: ServiceRequest) -> ServiceAnswer;

    /// The report that an answer announced, for the association it was asked on. None: it is not
    /// to be sent there.
    async fn report(&self, id: &str, transfer_syntax_uid: &str) -> Option<Report>;

    /// What the peer said to it; None: nothing, or it left before.
    async fn reported(&self, id: &str, status: Option<Status>);
}

//! The storage and verification requestor: sends files as they are, or, to who takes nothing else, in
//! the default transfer syntax; pixels are never transcoded.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::SeekFrom;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use dicom_dictionary_std::uids;
use dicom_encoding::TransferSyntaxIndex as _;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use dicom_ul::pdu::AssociationRJ;
use dicom_ul::pdu::AssociationRJResult;
use dicom_ul::pdu::AssociationRQ;
use dicom_ul::pdu::Pdu;
use dicom_ul::pdu::PresentationContextProposed;
use dicom_ul::pdu::PresentationContextResultReason;
use dicom_ul::pdu::RequestorRoles;
use dicom_ul::pdu::UserVariableItem;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::dicom::association::Indication;
use crate::dicom::association::Link;
use crate::dicom::association::LinkError;
use crate::dicom::command::Answer;
use crate::dicom::command::COMMAND_BYTES_MAX;
use crate::dicom::command::Command;
use crate::dicom::command::field;
use crate::dicom::negotiation;
use crate::dicom::pdu;
use crate::dicom::pdu::Pdv;
use crate::dicom::scan::ScanLimits;
use crate::dicom::scan::scan;
use crate::dicom::service::Report;
use crate::dicom::socket::Socket;
use crate::dicom::status::Status;
use crate::dicom::tls_client;
use crate::dicom::tls_client::Client;
use crate::dicom::tls_client::ClientStream;
use crate::domain::ae_title::AeTitle;
use crate::domain::text;
use crate::domain::uid::SopClassUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::TransferSyntaxUid;

/// Whom to call, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub ae_title: AeTitle,
    pub calling_ae: AeTitle,
    /// `host:port`.
    pub address: String,
    /// None: without TLS.
    pub tls: Option<Client>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For the TCP connection.
    pub connect: Duration,
    /// For each answer: to the association, to each message.
    pub answer: Duration,
    /// For each write of up to a few hundred KiB.
    pub write: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        let s = Duration::from_secs;
        Timeouts { connect: s(10), answer: s(120), write: s(60) }
    }
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendOutcome {
    pub file: PathBuf,
    /// Empty when the file is no Part 10 file.
    pub sop_instance_uid: String,
    /// The peer's status; where it was never sent, 0122 (no context was accepted for it) or
    /// C000 (the file cannot be read).
    pub status: u16,
    /// The peer's Error Comment, or why it was not sent.
    pub comment: String,
    /// Whether the peer gave the status.
    pub answered: bool,
}

impl SendOutcome {
    /// Stored, with or without a warning.
    pub fn is_stored(&self) -> bool {
        use crate::dicom::status::StatusKind;
        self.answered
            && matches!(Status(self.status).kind(), StatusKind::Success | StatusKind::Warning)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ScuError {
    #[error("no connection to {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("TLS with {address} failed: {why}")]
    Tls { address: String, why: String },
    #[error(transparent)]
    TlsFile(#[from] tls_client::FileError),
    #[error("association rejected{}: {why}", if *.transient { " for now" } else { "" })]
    Rejected { transient: bool, why: String },
    #[error("the peer accepts none of the presentation contexts")]
    NoContext,
    #[error("association aborted by the peer (source {by}, reason {reason})")]
    Aborted { by: u8, reason: u8 },
    #[error("no answer in time: {what}")]
    TimedOut { what: &'static str },
    #[error("the connection ended: {what}")]
    Broken { what: String },
    #[error("the peer broke the protocol: {what}")]
    Protocol { what: &'static str },
    #[error("a file could not be read: {source}")]
    File { source: io::Error },
}

impl ScuError {
    /// Whether another try later can help. No `_` arm: a new case has to decide.
    pub fn is_transient(&self) -> bool {
        match self {
            ScuError::Connect { .. }
            // Certificates are renewed, here and there.
            | ScuError::Tls { .. }
            | ScuError::TlsFile(_)
            | ScuError::Aborted { .. }
            | ScuError::TimedOut { .. }
            | ScuError::Broken { .. } => true,
            ScuError::Rejected { transient, .. } => *transient,
            ScuError::NoContext | ScuError::Protocol { .. } | ScuError::File { .. } => false,
        }
    }
}

/// Sends a C-ECHO.
pub async fn echo(target: &Target, timeouts: &Timeouts) -> Result<(), ScuError> {
    let contexts = [(uids::VERIFICATION.to_owned(), uids::IMPLICIT_VR_LITTLE_ENDIAN.to_owned())];
    let mut open = Open::new(target, timeouts, &contexts).await?;
    let Some(&context) = open.contexts.values().next() else { return Err(ScuError::NoContext) };
    let mut pdus = BytesMut::new();
    pdu::put_data(&mut pdus, context, true, &Command::echo_request(1), true, open.pdu_bytes_max);
    open.send(&pdus).await?;
    let answer = open.answer(field::C_ECHO_RSP, 1).await?;
    open.release().await;
    match answer.status {
        Some(0) => Ok(()),
        _ => Err(ScuError::Protocol { what: "C-ECHO was answered with a failure" }),
    }
}

/// The presentation contexts for an object: its own transfer syntax, and the default one (PS3.5 10.1)
/// where its data set can be written in it without a look at the pixels.
pub fn offered(sop_class_uid: &str, transfer_syntax_uid: &str) -> Vec<(String, String)> {
    let own = (sop_class_uid.to_owned(), transfer_syntax_uid.to_owned());
    match PLAIN.contains(&transfer_syntax_uid) {
        true => vec![own, (sop_class_uid.to_owned(), DEFAULT.to_owned())],
        false => vec![own],
    }
}

/// The default transfer syntax, and those that can be written as it.
const DEFAULT: &str = uids::IMPLICIT_VR_LITTLE_ENDIAN;
const PLAIN: [&str; 3] = [
    uids::EXPLICIT_VR_LITTLE_ENDIAN,
    uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    "1.2.840.10008.1.2.2",
];
/// A data set that is written anew is in memory.
const REWRITTEN_BYTES_MAX: u64 = 512 << 20;

/// The data set of a file in the default transfer syntax.
fn as_default(path: &Path) -> Result<Vec<u8>, String> {
    let said = |error: &dyn std::fmt::Display| text::clean(&error.to_string(), 200);
    let object = dicom_object::open_file(path).map_err(|error| said(&error))?.into_inner();
    let syntax = TransferSyntaxRegistry.get(DEFAULT).ok_or("no default transfer syntax")?;
    let mut bytes = Vec::new();
    object.write_dataset_with_ts(&mut bytes, syntax).map_err(|error| said(&error))?;
    Ok(bytes)
}

/// Sends `files`: presentation contexts as [`offered`] says, one association for every 128 of these.
///
/// - `on_each`: called after each file, in order.
///
/// # Errors
/// [`ScuError`] when the association fails; `on_each` has told of the files before that.
pub async fn send(
    target: &Target,
    files: &[PathBuf],
    timeouts: &Timeouts,
    on_each: &mut (dyn FnMut(&SendOutcome) + Send),
) -> Result<Vec<SendOutcome>, ScuError> {
    let mut outcomes = Vec::with_capacity(files.len());
    let mut rest = files;
    while !rest.is_empty() {
        let (batch, contexts, after) = next_batch(rest).await;
        rest = after;
        let mut open = match contexts.is_empty() {
            true => None,
            false => Some(Open::new(target, timeouts, &contexts).await?),
        };
        if open.as_ref().is_some_and(|open| open.contexts.is_empty()) {
            return Err(ScuError::NoContext);
        }
        for (file, head) in batch {
            let outcome = match (head, &mut open) {
                (Ok(head), Some(open)) => open.store(file, head).await?,
                (Ok(_), None) => return Err(ScuError::NoContext),
                (Err(why), _) => SendOutcome {
                    file,
                    sop_instance_uid: String::new(),
                    status: Status::CANNOT_UNDERSTAND.0,
                    comment: why.to_string(),
                    answered: false,
                },
            };
            on_each(&outcome);
            outcomes.push(outcome);
        }
        if let Some(open) = open {
            open.release().await;
        }
    }
    Ok(outcomes)
}

/// Presentation context ids are odd numbers from 1 to 255.
const CONTEXTS_MAX: usize = 128;
/// Files looked at before they are sent.
const BATCH_FILES_MAX: usize = 10_000;

type Batch = Vec<(PathBuf, Result<Head, HeadError>)>;

/// The first files that one association can carry, its contexts, and the files after them.
async fn next_batch(files: &[PathBuf]) -> (Batch, Vec<(String, String)>, &[PathBuf]) {
    let (mut batch, mut contexts) = (Vec::new(), Vec::new());
    for (index, file) in files.iter().enumerate() {
        let path = file.clone();
        let head = tokio::task::spawn_blocking(move || Head::read(&path)).await;
        let head = head.unwrap_or(Err(HeadError::NotPart10));
        if let Ok(head) = &head {
            let mut offered = offered(&head.sop_class_uid, &head.transfer_syntax_uid);
            offered.retain(|context| !contexts.contains(context));
            if contexts.len() + offered.len() > CONTEXTS_MAX {
                return (batch, contexts, &files[index..]);
            }
            contexts.extend(offered);
        }
        batch.push((file.clone(), head));
        if batch.len() == BATCH_FILES_MAX {
            return (batch, contexts, &files[index + 1..]);
        }
    }
    (batch, contexts, &[])
}

/// An open association and what was agreed on.
pub struct Open {
    link: Link<ClientStream>,
    /// SOP class and transfer syntax to context id.
    contexts: BTreeMap<(String, String), u8>,
    pdu_bytes_max: u32,
    timeouts: Timeouts,
    message_id: u16,
    /// What came with the last message and belongs to the next.
    inbox: Bytes,
}

impl Open {
    /// Asks for an association with one context for each SOP class and transfer syntax.
    pub async fn new(
        target: &Target,
        timeouts: &Timeouts,
        contexts: &[(String, String)],
    ) -> Result<Open, ScuError> {
        Open::with(target, timeouts, contexts, Vec::new()).await
    }

    /// The same, but we are the SCP of `sop_class_uid` (PS3.7 D.3.3.4).
    pub async fn as_scp(
        target: &Target,
        timeouts: &Timeouts,
        contexts: &[(String, String)],
        sop_class_uid: &str,
    ) -> Result<Open, ScuError> {
        let roles = RequestorRoles { scu: false, scp: true };
        let item = UserVariableItem::ScuScpRoleSelectionSubItem(sop_class_uid.to_owned(), roles);
        Open::with(target, timeouts, contexts, vec![item]).await
    }

    async fn with(
        target: &Target,
        timeouts: &Timeouts,
        contexts: &[(String, String)],
        more: Vec<UserVariableItem>,
    ) -> Result<Open, ScuError> {
        let connect = |source| ScuError::Connect { address: target.address.clone(), source };
        let stream = timeout(timeouts.connect, TcpStream::connect(&target.address))
            .await
            .map_err(|_| connect(io::ErrorKind::TimedOut.into()))?
            .map_err(connect)?;
        let stream = secured(target, timeouts, Socket::new(stream)).await?;
        let mut link = Link::request(stream, OUR_PDU_BYTES_MAX, timeouts.write);
        let sent = link.send_request(&encode_request(target, contexts, more)).await;
        let answer = match (sent, &target.tls) {
            (Ok(()), _) => link.receive(Instant::now() + timeouts.answer).await,
            // Over TLS the peer may have said why before it closed.
            (Err(LinkError::Io(error)), Some(_)) => {
                match link.receive(Instant::now() + Duration::from_secs(1)).await {
                    Err(LinkError::TimedOut) => Err(LinkError::Io(error)),
                    said => said,
                }
            }
            (Err(error), _) => return Err(scu_error(error)),
        };
        let accept = match answer {
            Ok(Indication::Accepted(accept)) => accept,
            Ok(Indication::Rejected(reject)) => return Err(rejected(&reject)),
            Ok(_) => return Err(ScuError::Protocol { what: "unexpected answer" }),
            Err(LinkError::TimedOut) => {
                link.abort_as_user("no answer").await;
                return Err(ScuError::TimedOut { what: "to the association request" });
            }
            Err(error) => return Err(no_answer(target, error)),
        };
        let pdu_bytes_max = negotiation::pdu_bytes_max(&accept.user_variables);
        if (1..pdu::PEER_PDU_BYTES_MIN).contains(&pdu_bytes_max) {
            link.abort_as_user("maximum PDU length").await;
            return Err(ScuError::Protocol {
                what: "its maximum PDU length leaves no room for data",
            });
        }
        let mut accepted = BTreeMap::new();
        for result in &accept.presentation_contexts {
            let proposed = contexts.get(usize::from(result.id / 2));
            let is_ours =
                result.id % 2 == 1 && result.reason == PresentationContextResultReason::Acceptance;
            // An accept in a syntax that was not proposed is none: nobody could write in it.
            let said = result.transfer_syntax.trim_end_matches(['\0', ' ']);
            if let (Some(context), true) = (proposed, is_ours)
                && context.1 == said
            {
                accepted.insert(context.clone(), result.id);
            }
        }
        let timeouts = *timeouts;
        let inbox = Bytes::new();
        Ok(Open { link, contexts: accepted, pdu_bytes_max, timeouts, message_id: 0, inbox })
    }

    /// Sends one file and waits for its status.
    async fn store(&mut self, file: PathBuf, head: Head) -> Result<SendOutcome, ScuError> {
        let key = (head.sop_class_uid.clone(), head.transfer_syntax_uid.clone());
        let mut outcome = SendOutcome {
            file,
            sop_instance_uid: head.sop_instance_uid.clone(),
            status: Status::SOP_CLASS_NOT_SUPPORTED.0,
            comment: format!("not accepted: class {} as {}", key.0, key.1),
            answered: false,
        };
        let default = (key.0.clone(), DEFAULT.to_owned());
        let is_plain = PLAIN.contains(&key.1.as_str()) && head.data_bytes <= REWRITTEN_BYTES_MAX;
        let (context, rewritten) = match (self.context(&key), self.context(&default)) {
            (Some(context), _) => (context, None),
            (None, Some(context)) if is_plain => {
                let path = outcome.file.clone();
                let written = tokio::task::spawn_blocking(move || as_default(&path)).await;
                match written.unwrap_or_else(|stopped| Err(stopped.to_string())) {
                    Ok(bytes) => (context, Some(bytes)),
                    Err(why) => {
                        outcome.comment = format!("it takes {DEFAULT} alone: {why}");
                        return Ok(outcome);
                    }
                }
            }
            (None, _) => return Ok(outcome),
        };
        let message_id = self.next_message_id();
        let command =
            Command::store_request(message_id, &head.sop_class_uid, &head.sop_instance_uid);
        let mut pdus = BytesMut::new();
        pdu::put_data(&mut pdus, context, true, &command, true, self.pdu_bytes_max);
        let (mut reader, mut left) = match rewritten {
            None => (Reader::Closed(outcome.file.clone(), head.data_at), head.data_bytes),
            Some(bytes) => {
                let left = bytes.len() as u64;
                (Reader::Memory(Bytes::from(bytes)), left)
            }
        };
        while left > 0 {
            let chunk;
            (reader, chunk) = match reader.next(left.min(CHUNK_BYTES)).await {
                Ok(read) => read,
                Err(source) => {
                    // Half a data set is on its way: only an abort tells the peer so.
                    self.link.abort_as_user("file cannot be read").await;
                    return Err(ScuError::File { source });
                }
            };
            left -= chunk.len() as u64;
            pdu::put_data(&mut pdus, context, false, &chunk, left == 0, self.pdu_bytes_max);
            self.send(&pdus).await?;
            pdus.clear();
        }
        let answer = self.answer(field::C_STORE_RSP, message_id).await?;
        let Some(status) = answer.status else {
            return Err(ScuError::Protocol { what: "C-STORE-RSP without a status" });
        };
        outcome.status = status;
        outcome.comment = answer.error_comment;
        outcome.answered = true;
        Ok(outcome)
    }

    async fn send(&mut self, pdus: &[u8]) -> Result<(), ScuError> {
        let error = match self.link.send_data(pdus).await {
            Ok(()) => return Ok(()),
            Err(LinkError::TimedOut) => return Err(ScuError::TimedOut { what: "while sending" }),
            Err(error) => error,
        };
        // The peer may have said why before it closed.
        match self.link.receive(Instant::now() + Duration::from_secs(1)).await {
            Err(aborted @ LinkError::Aborted { .. }) => Err(scu_error(aborted)),
            Ok(_) | Err(_) => Err(scu_error(error)),
        }
    }

    /// The context that was accepted for a SOP class and a transfer syntax.
    pub fn context(&self, key: &(String, String)) -> Option<u8> {
        self.contexts.get(key).copied()
    }

    /// The first of these that was accepted: its context and its transfer syntax.
    pub fn first_of(&self, contexts: &[(String, String)]) -> Option<(u8, String)> {
        contexts.iter().find_map(|key| Some((self.context(key)?, key.1.clone())))
    }

    pub fn next_message_id(&mut self) -> u16 {
        self.message_id = self.message_id.checked_add(1).unwrap_or(1);
        self.message_id
    }

    /// Sends a command with its data set.
    pub async fn request(
        &mut self,
        context: u8,
        command: &[u8],
        data_set: &[u8],
    ) -> Result<(), ScuError> {
        let mut pdus = BytesMut::new();
        pdu::put_data(&mut pdus, context, true, command, true, self.pdu_bytes_max);
        pdu::put_data(&mut pdus, context, false, data_set, true, self.pdu_bytes_max);
        self.send(&pdus).await
    }

    /// Sends an N-EVENT-REPORT and waits for its status.
    pub async fn event_report(&mut self, context: u8, report: &Report) -> Result<Status, ScuError> {
        let id = self.next_message_id();
        let (class, instance) = (report.sop_class_uid, report.sop_instance_uid);
        let command = Command::event_report_request(id, class, instance, report.event_type);
        self.request(context, &command, &report.data_set).await?;
        let answer = self.answer(field::N_EVENT_REPORT_RSP, id).await?;
        let status = answer.status.map(Status);
        status.ok_or(ScuError::Protocol { what: "N-EVENT-REPORT-RSP without a status" })
    }

    /// SOP classes and transfer syntaxes that were accepted.
    pub fn accepted(&self) -> impl Iterator<Item = &(String, String)> {
        self.contexts.keys()
    }

    /// A request of the peer with its data set; `None` when none comes in time.
    pub async fn next_request(
        &mut self,
        wait: Duration,
        data_bytes_max: usize,
    ) -> Result<Option<(Command, Vec<u8>)>, ScuError> {
        let deadline = Instant::now() + wait;
        let (mut bytes, mut data) = (Vec::new(), Vec::new());
        let mut command: Option<Command> = None;
        loop {
            while let Some(pdv) = pdu::next_pdv(&mut self.inbox) {
                let broken = ScuError::Protocol { what: "a broken request" };
                let Some(pdv) = pdv else { return Err(broken) };
                let whole = if pdv.is_command { &mut bytes } else { &mut data };
                whole.extend_from_slice(&pdv.data);
                if bytes.len() > COMMAND_BYTES_MAX || data.len() > data_bytes_max {
                    return Err(ScuError::Protocol { what: "an endless request" });
                }
                if pdv.is_last && pdv.is_command {
                    command = Some(Command::parse(&bytes).map_err(|_| broken)?);
                }
                let has_all = |command: &mut Command| !command.has_data_set() || !pdv.is_command;
                if pdv.is_last
                    && let Some(command) = command.take_if(has_all)
                {
                    return Ok(Some((command, data)));
                }
            }
            self.inbox = match self.link.receive(deadline).await {
                Ok(Indication::Data(body)) => body,
                Ok(_) | Err(LinkError::TimedOut) => return Ok(None),
                Err(error) => return Err(scu_error(error)),
            };
        }
    }

    /// Answers a request of the peer.
    pub async fn respond(
        &mut self,
        context: u8,
        request: &Command,
        status: Status,
    ) -> Result<(), ScuError> {
        let answer = request.answer(&Answer {
            status,
            error_comment: "",
            error_id: None,
            sop_instance_uid: None,
        });
        let mut pdus = BytesMut::new();
        pdu::put_data(&mut pdus, context, true, &answer, true, self.pdu_bytes_max);
        self.send(&pdus).await
    }

    /// The response to a message.
    async fn answer(&mut self, expected: u16, message_id: u16) -> Result<Command, ScuError> {
        Ok(self.response(expected, message_id, 0).await?.0)
    }

    /// The next response to a message, with its data set of at most `data_bytes_max`.
    pub async fn response(
        &mut self,
        expected: u16,
        message_id: u16,
        data_bytes_max: usize,
    ) -> Result<(Command, Vec<u8>), ScuError> {
        let deadline = Instant::now() + self.timeouts.answer;
        let (mut bytes, mut data) = (Vec::new(), Vec::new());
        let mut command = None;
        loop {
            let problem = match self.fragment(deadline).await? {
                Some(pdv) if pdv.is_command && command.is_none() => {
                    if bytes.len() + pdv.data.len() > COMMAND_BYTES_MAX {
                        "endless command"
                    } else {
                        bytes.extend_from_slice(&pdv.data);
                        if !pdv.is_last {
                            continue;
                        }
                        match Command::parse(&bytes) {
                            Ok(answer)
                                if answer.field == expected
                                    && answer.responded_to == message_id =>
                            {
                                if !answer.has_data_set() {
                                    return Ok((answer, data));
                                }
                                command = Some(answer);
                                continue;
                            }
                            Ok(_) => "answer to another message",
                            Err(_) => "answer that cannot be read",
                        }
                    }
                }
                Some(pdv) if !pdv.is_command && command.is_some() => {
                    if data.len() + pdv.data.len() > data_bytes_max {
                        "data set where none is expected, or a longer one"
                    } else {
                        data.extend_from_slice(&pdv.data);
                        match command.take_if(|_| pdv.is_last) {
                            Some(answer) => return Ok((answer, data)),
                            None => continue,
                        }
                    }
                }
                Some(_) => "data or endless command instead of an answer",
                None => "broken presentation data value",
            };
            self.link.abort_as_user(problem).await;
            return Err(ScuError::Protocol { what: problem });
        }
    }

    /// The next value of a P-DATA-TF; None: it is broken.
    async fn fragment(&mut self, deadline: Instant) -> Result<Option<Pdv>, ScuError> {
        loop {
            if let Some(pdv) = pdu::next_pdv(&mut self.inbox) {
                return Ok(pdv);
            }
            self.inbox = match self.link.receive(deadline).await {
                Ok(Indication::Data(body)) => body,
                Ok(_) => {
                    self.link.abort_as_user("unexpected").await;
                    return Err(ScuError::Protocol { what: "released instead of an answer" });
                }
                Err(LinkError::TimedOut) => {
                    self.link.abort_as_user("no answer").await;
                    return Err(ScuError::TimedOut { what: "to a message" });
                }
                Err(error) => return Err(scu_error(error)),
            };
        }
    }

    /// Releases. Every message was answered before, so how it ends does not matter.
    pub async fn release(mut self) {
        let deadline = Instant::now() + self.timeouts.answer.min(Duration::from_secs(10));
        if self.link.send_release().await.is_err() {
            return;
        }
        loop {
            match self.link.receive(deadline).await {
                Ok(Indication::ReleaseRequest) => {
                    if self.link.answer_release().await.is_err() {
                        return;
                    }
                }
                Ok(Indication::Data(_)) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// What we take in answers.
const OUR_PDU_BYTES_MAX: u32 = 64 * 1024;
/// How much of a file is in memory.
const CHUNK_BYTES: u64 = 1 << 20;

/// A file that is read in chunks off the runtime's threads.
enum Reader {
    /// Not open yet: path, and where the data set begins.
    Closed(PathBuf, u64),
    Open(File),
    /// What was written anew.
    Memory(Bytes),
}

impl Reader {
    async fn next(self, bytes_wanted: u64) -> io::Result<(Reader, Vec<u8>)> {
        let read = move || {
            let mut file = match self {
                Reader::Memory(mut bytes) => {
                    let room = usize::try_from(bytes_wanted).unwrap_or(usize::MAX);
                    let chunk = bytes.split_to(room.min(bytes.len()));
                    return Ok((Reader::Memory(bytes), chunk.to_vec()));
                }
                Reader::Open(file) => file,
                Reader::Closed(path, at) => {
                    let mut file = File::open(path)?;
                    file.seek(SeekFrom::Start(at))?;
                    file
                }
            };
            let mut chunk = vec![0; usize::try_from(bytes_wanted).expect("a chunk is small")];
            file.read_exact(&mut chunk)?;
            Ok((Reader::Open(file), chunk))
        };
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
    }
}

fn encode_request(
    target: &Target,
    contexts: &[(String, String)],
    more: Vec<UserVariableItem>,
) -> Vec<u8> {
    let mut user_variables = negotiation::our_variables(OUR_PDU_BYTES_MAX);
    user_variables.extend(more);
    let proposed =
        contexts.iter().zip(0_u8..).map(|((class, syntax), index)| PresentationContextProposed {
            id: index * 2 + 1,
            abstract_syntax: class.clone(),
            transfer_syntaxes: vec![syntax.clone()],
        });
    pdu::encode(&Pdu::AssociationRQ(AssociationRQ {
        protocol_version: 1,
        calling_ae_title: target.calling_ae.as_str().to_owned(),
        called_ae_title: target.ae_title.as_str().to_owned(),
        application_context_name: negotiation::APPLICATION_CONTEXT.to_owned(),
        presentation_contexts: proposed.collect(),
        user_variables,
    }))
}

/// Speaks TLS where the target wants it.
async fn secured(
    target: &Target,
    timeouts: &Timeouts,
    stream: Socket,
) -> Result<ClientStream, ScuError> {
    let Some(tls) = &target.tls else { return Ok(ClientStream::Plain(stream)) };
    let why = match timeout(timeouts.connect, tls.connect(&target.address, stream)).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => tls_client::handshake_failed(&error),
        Err(_) => "no handshake in time; it may speak no TLS on this port".to_owned(),
    };
    Err(ScuError::Tls { address: target.address.clone(), why })
}

/// The connection ended in the place of an answer to the association request.
fn no_answer(target: &Target, error: LinkError) -> ScuError {
    let address = target.address.clone();
    let tls = |error| ScuError::Tls { address, why: tls_client::ended_after_handshake(error) };
    match (&target.tls, &error) {
        (Some(_), LinkError::Io(io)) => tls(Some(io)),
        (Some(_), LinkError::Closed) => tls(None),
        (_, _) => scu_error(error),
    }
}

fn rejected(reject: &AssociationRJ) -> ScuError {
    let transient = reject.result == AssociationRJResult::Transient;
    ScuError::Rejected { transient, why: reject.source.to_string() }
}

fn scu_error(error: LinkError) -> ScuError {
    match error {
        LinkError::Aborted { by, reason } => ScuError::Aborted { by, reason },
        LinkError::TimedOut => ScuError::TimedOut { what: "from the peer" },
        LinkError::Violation { what } => ScuError::Protocol { what },
        LinkError::Closed | LinkError::Io(_) => ScuError::Broken { what: error.to_string() },
    }
}

/// What the file meta information says (PS3.10 7.1), and where the data set begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub sop_class_uid: String,
    pub sop_instance_uid: String,
    pub transfer_syntax_uid: String,
    pub data_at: u64,
    pub data_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    #[error("not a DICOM Part 10 file")]
    NotPart10,
    #[error("its file meta information is broken or longer than 64 KiB")]
    BadMeta,
    #[error("it holds no data set")]
    Empty,
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Longest file meta information that is looked at.
const META_BYTES_MAX: u64 = 64 * 1024;
const PREAMBLE_BYTES: usize = 132;

impl Head {
    /// Reads the head of a file; at most 64 KiB of it. SOP class and instance are those of the
    /// data set where it can be scanned: receivers compare them with the command, and files are
    /// about whose meta information says something else.
    pub fn read(path: &Path) -> Result<Head, HeadError> {
        let mut file = File::open(path)?;
        let file_bytes = file.metadata()?.len();
        let mut bytes = Vec::new();
        file.by_ref().take(META_BYTES_MAX).read_to_end(&mut bytes)?;
        let meta = match Meta::parse(&bytes) {
            Err(HeadError::NotPart10) => return Head::bare(file, file_bytes),
            meta => meta?,
        };
        let data_bytes = file_bytes.saturating_sub(meta.data_at);
        if data_bytes == 0 {
            return Err(HeadError::Empty);
        }
        file.seek(SeekFrom::Start(meta.data_at))?;
        let reader = io::BufReader::with_capacity(64 * 1024, file);
        let facts =
            scan(reader, data_bytes, &meta.syntax, &ScanLimits::default()).unwrap_or_default();
        meta.head(&facts.sop_class_uid, &facts.sop_instance_uid, data_bytes)
    }

    /// The same of a file of which these are the first bytes: class and instance are those that
    /// the data set begins with, else those of the meta information. `data_bytes` counts `bytes`.
    pub fn of_bytes(bytes: &[u8]) -> Result<Head, HeadError> {
        let meta = Meta::parse(bytes)?;
        let data = bytes.get(meta.data_at as usize..).unwrap_or_default();
        if data.is_empty() {
            return Err(HeadError::Empty);
        }
        let (class, instance) = leading_uids(data, &meta.syntax);
        meta.head(&class, &instance, data.len() as u64)
    }
}

/// File meta information, not yet compared with the data set.
struct Meta {
    class: String,
    instance: String,
    syntax: TransferSyntaxUid,
    data_at: u64,
}

impl Meta {
    fn parse(head: &[u8]) -> Result<Meta, HeadError> {
        let mut at = match (head.get(128..PREAMBLE_BYTES), head.get(..4)) {
            (Some(b"DICM"), _) => PREAMBLE_BYTES,
            // File meta information without the preamble.
            (_, Some([2, 0, 0, 0])) => 0,
            (_, _) => return Err(HeadError::NotPart10),
        };
        let mut found: BTreeMap<u16, String> = BTreeMap::new();
        while let Some(element) = meta_element(head, at)? {
            at = element.end;
            let text: String = element.value.iter().take(66).map(|&b| char::from(b)).collect();
            found.insert(element.number, text.trim_matches(['\0', ' ']).to_owned());
        }
        let uid = |number: u16| found.get(&number).cloned().unwrap_or_default();
        let syntax = TransferSyntaxUid::parse(&uid(0x0010)).map_err(|_| HeadError::BadMeta)?;
        Ok(Meta { class: uid(0x0002), instance: uid(0x0003), syntax, data_at: at as u64 })
    }

    /// What the data set says of itself counts, where it says it.
    fn head(self, class: &str, instance: &str, data_bytes: u64) -> Result<Head, HeadError> {
        let class = SopClassUid::parse(class).or(SopClassUid::parse(&self.class));
        let instance = SopInstanceUid::parse(instance).or(SopInstanceUid::parse(&self.instance));
        match (class, instance) {
            (Ok(class), Ok(instance)) => Ok(Head {
                sop_class_uid: class.to_string(),
                sop_instance_uid: instance.to_string(),
                transfer_syntax_uid: self.syntax.to_string(),
                data_at: self.data_at,
                data_bytes,
            }),
            (_, _) => Err(HeadError::BadMeta),
        }
    }
}

impl Head {
    /// A data set alone, as old programs write it: of the plain syntaxes the one in which it says
    /// what it is.
    fn bare(mut file: File, data_bytes: u64) -> Result<Head, HeadError> {
        let plain = [uids::IMPLICIT_VR_LITTLE_ENDIAN, uids::EXPLICIT_VR_LITTLE_ENDIAN];
        for syntax in plain {
            let syntax = TransferSyntaxUid::parse(syntax).map_err(|_| HeadError::BadMeta)?;
            file.seek(SeekFrom::Start(0))?;
            let reader = io::BufReader::with_capacity(64 * 1024, &mut file);
            let Ok(facts) = scan(reader, data_bytes, &syntax, &ScanLimits::default()) else {
                continue;
            };
            let class = SopClassUid::parse(&facts.sop_class_uid);
            let instance = SopInstanceUid::parse(&facts.sop_instance_uid);
            if let (Ok(class), Ok(instance)) = (class, instance) {
                return Ok(Head {
                    sop_class_uid: class.to_string(),
                    sop_instance_uid: instance.to_string(),
                    transfer_syntax_uid: syntax.to_string(),
                    data_at: 0,
                    data_bytes,
                });
            }
        }
        Err(HeadError::NotPart10)
    }
}

/// SOP Class and SOP Instance UID of a data set of which these are the first bytes; empty where
/// they are not found. They stand in its first group, before any sequence that could be long.
fn leading_uids(data: &[u8], syntax: &TransferSyntaxUid) -> (String, String) {
    let (mut class, mut instance) = (String::new(), String::new());
    let implicit = syntax.as_str() == uids::IMPLICIT_VR_LITTLE_ENDIAN;
    let deflated = syntax.as_str() == uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN;
    if deflated || syntax.as_str() == negotiation::EXPLICIT_VR_BIG_ENDIAN {
        return (class, instance);
    }
    let mut at = 0;
    while let Some(head) = data.get(at..at + 8) {
        let word = |i: usize| u16::from_le_bytes([head[i], head[i + 1]]);
        let (group, number) = (word(0), word(2));
        let long = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        let is_long = matches!(&head[4..6], b"OB" | b"OW" | b"SQ" | b"UC" | b"UN" | b"UR" | b"UT");
        let (length, from) = match (implicit, is_long) {
            (true, _) => (long(&head[4..8]), at + 8),
            (false, false) => (word(6).into(), at + 8),
            (false, true) => match data.get(at + 8..at + 12) {
                Some(length) => (long(length), at + 12),
                None => break,
            },
        };
        let end = from.saturating_add(length as usize);
        let Some(value) = data.get(from..end).filter(|_| group <= 0x0008) else { break };
        let text = || String::from_utf8_lossy(value).trim_matches(['\0', ' ']).to_owned();
        match (group, number) {
            (0x0008, 0x0016) => class = text(),
            (0x0008, 0x0018) => instance = text(),
            _ => {}
        }
        at = end;
    }
    (class, instance)
}

struct MetaElement<'a> {
    number: u16,
    value: &'a [u8],
    end: usize,
}

/// The element of group 0002 at `at`; None where the group ends.
fn meta_element(head: &[u8], at: usize) -> Result<Option<MetaElement<'_>>, HeadError> {
    let word = |at: usize| head.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match word(at) {
        Some(0x0002) => {}
        Some(_) => return Ok(None),
        None if at == head.len() => return Ok(None),
        None => return Err(HeadError::BadMeta),
    }
    let number = word(at + 2).ok_or(HeadError::BadMeta)?;
    let vr = head.get(at + 4..at + 6).ok_or(HeadError::BadMeta)?;
    let (length, from) = match vr {
        b"OB" | b"UN" | b"OW" | b"UT" | b"SQ" | b"UC" | b"UR" => {
            let long = head.get(at + 8..at + 12).ok_or(HeadError::BadMeta)?;
            let long = u32::from_le_bytes([long[0], long[1], long[2], long[3]]);
            (usize::try_from(long).map_err(|_| HeadError::BadMeta)?, at + 12)
        }
        _ => (usize::from(word(at + 6).ok_or(HeadError::BadMeta)?), at + 8),
    };
    let end = from.checked_add(length).ok_or(HeadError::BadMeta)?;
    let value = head.get(from..end).ok_or(HeadError::BadMeta)?;
    Ok(Some(MetaElement { number, value, end }))
}

#[cfg(test)]
#[path = "storage_scu_tests.rs"]
mod tests;

//! One association, seen from the acceptor: requests in order, answers in order.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use metrics::Counter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::dicom::admission;
use crate::dicom::association::Indication;
use crate::dicom::association::Link;
use crate::dicom::association::LinkError;
use crate::dicom::command::Answer;
use crate::dicom::command::COMMAND_BYTES_MAX;
use crate::dicom::command::Command;
use crate::dicom::command::field;
use crate::dicom::negotiation::Context;
use crate::dicom::negotiation::Service;
use crate::dicom::pdu::AbortReason;
use crate::dicom::pdu::Gathered;
use crate::dicom::pdu::Pdv;
use crate::dicom::pdu::Transport;
use crate::dicom::pdu::next_pdv;
use crate::dicom::pdu::put_data;
use crate::dicom::service::Operation;
use crate::dicom::service::SERVICE_BYTES_MAX;
use crate::dicom::service::ServiceAnswer;
use crate::dicom::service::ServiceRequest;
use crate::dicom::sources::Counts;
use crate::dicom::status::Status;
use crate::dicom::status::StatusKind;
use crate::dicom::storage_scp::InstanceSink;
use crate::dicom::storage_scp::Place;
use crate::dicom::storage_scp::Refusal;
use crate::dicom::storage_scp::Shared;
use crate::dicom::storage_scp::StoreRequest;
use crate::dicom::storage_scp::Tally;
use crate::domain::priority::Priority;

/// Bytes of a data set that are gathered before the handler gets them.
pub const CHUNK_BYTES: usize = 1 << 20;
const NOT_ACCEPTED: &str = "presentation context was not accepted";
/// How much of a data set that was answered already (too large) is still read and thrown away.
const AFTERMATH_BYTES_MAX: u64 = 64 << 20;
/// A report goes on the requester's association if it has said nothing for this long after the
/// answer: one that means to leave does so at once, and is called later.
const REPORT_PAUSE: Duration = Duration::from_millis(200);
/// How long the requester may take to answer a report.
const REPORT_ANSWER: Duration = Duration::from_secs(10);
/// Reports that wait on one association; those after them go another way.
const REPORTS_MAX: usize = 64;
/// At a stop, an association between two messages is aborted after this.
const STOP_IDLE: Duration = Duration::from_secs(1);

/// Runs one association to its end and says what it brought.
///
/// - `evicted`: cancelled when this connection has to make room before it is an association.
pub async fn run<S: Transport>(
    stream: S,
    tally: Tally,
    number: u64,
    shared: &Arc<Shared>,
    evicted: CancellationToken,
) -> Tally {
    let config = shared.config.now();
    let link = Link::accept(stream, config.pdu_length_max, config.idle());
    let begun = Instant::now();
    let mut session = Session {
        link,
        shared,
        contexts: BTreeMap::new(),
        peer_pdu_bytes_max: 0,
        message: Message::None,
        message_deadline: None,
        stop_at: None,
        reports: VecDeque::new(),
        reports_sent: 0,
        tally,
        counts: None,
        meters: Meters::new(),
    };
    let Session { link, tally, .. } = &mut session;
    let ended = match admission::establish(link, shared, tally, number, evicted).await {
        Ok(Ok(agreed)) => {
            session.contexts = agreed.contexts;
            session.peer_pdu_bytes_max = agreed.peer_pdu_bytes_max;
            session.counts = Some(agreed.counts);
            session.serve(agreed.place).await
        }
        Ok(Err(rejection)) => Ok(format!("rejected: {}", rejection.as_str())),
        Err(error) => Err(error),
    };
    session.forget_reports().await;
    session.tally.ended = match ended {
        Ok(how) => how,
        Err(error) => reason(&error),
    };
    if let Some(counts) = &session.counts {
        counts.ended(&session.tally, begun.elapsed());
    }
    session.tally
}

/// `kind: detail`; the kind is a metric label, so it is one of few.
fn reason(error: &LinkError) -> String {
    match error {
        LinkError::Closed => "closed: by the peer without release".to_owned(),
        LinkError::Aborted { by, reason } => format!("aborted: by the peer ({by}, {reason})"),
        LinkError::Violation { what } => format!("refused: {what}"),
        LinkError::TimedOut => "timed out: nothing came in time".to_owned(),
        LinkError::Io(error) => format!("broken: {}", error.kind()),
    }
}

struct Session<'a, S> {
    link: Link<S>,
    shared: &'a Arc<Shared>,
    contexts: BTreeMap<u8, Context>,
    peer_pdu_bytes_max: u32,
    message: Message,
    /// When the message under way has to be whole.
    message_deadline: Option<Instant>,
    /// When everything has to end, once the node stops.
    stop_at: Option<Instant>,
    /// Reports that are to be sent here or wait for their answer, the oldest first.
    reports: VecDeque<PendingReport>,
    reports_sent: u16,
    tally: Tally,
    /// Once it is let in.
    counts: Option<Counts>,
    meters: Meters,
}

/// Metrics of each instance: looked up by name once.
struct Meters {
    offered: Counter,
    received: Counter,
    received_bytes: Counter,
}

impl Meters {
    fn new() -> Meters {
        Meters {
            offered: metrics::counter!("prelim_instances_offered_total"),
            received: metrics::counter!("prelim_instances_received_total"),
            received_bytes: metrics::counter!("prelim_received_bytes_total"),
        }
    }
}

/// A report of a service, see [`crate::dicom::service::ServiceHandler::report`].
struct PendingReport {
    id: String,
    context: u8,
    /// When it is sent, or, with a message id, when its answer must have come.
    at: Instant,
    message_id: Option<u16>,
}

/// What has come of the message under way.
enum Message {
    None,
    /// A command set, in part.
    Command {
        context: u8,
        bytes: Vec<u8>,
    },
    /// A command whose data set is coming.
    Data {
        context: u8,
        command: Command,
        received: u64,
        fate: Fate,
    },
}

/// What becomes of the data set that is coming.
enum Fate {
    Stored(Box<dyn InstanceSink>),
    /// The data set of another service, whole when it ends.
    Gathered(Operation, Vec<u8>),
    /// Read to its end, then answered.
    Refused(Refusal),
    /// Answered before its end, because it is too large; the rest is thrown away.
    Answered,
}

impl<S: Transport> Session<'_, S> {
    /// Handles messages until the association ends; the place is kept until then.
    async fn serve(&mut self, place: Place) -> Result<String, LinkError> {
        loop {
            let Some(indication) = self.next().await? else {
                self.report().await?;
                continue;
            };
            match indication {
                Indication::Data(mut body) => {
                    place.pace(body.len()).await;
                    while let Some(pdv) = next_pdv(&mut body) {
                        match pdv {
                            Some(pdv) => self.take(pdv).await?,
                            None => {
                                let why = "broken presentation data value";
                                return Err(self
                                    .link
                                    .abort(AbortReason::InvalidParameter, why)
                                    .await);
                            }
                        }
                    }
                }
                Indication::Gathered(gathered) => {
                    place.pace(gathered.bytes).await;
                    self.take_gathered(gathered).await?;
                }
                Indication::ReleaseRequest => {
                    let unfinished = !matches!(self.message, Message::None);
                    self.message = Message::None;
                    self.shared.handler.releasing().await;
                    self.link.answer_release().await?;
                    return Ok(match unfinished {
                        true => "released: in the middle of a message".to_owned(),
                        false => "released".to_owned(),
                    });
                }
                Indication::Request(_)
                | Indication::Accepted(_)
                | Indication::Rejected(_)
                | Indication::Released => return Err(LinkError::Closed),
            }
        }
    }

    /// The next indication; ends the association when the peer is too slow or the node stops.
    /// None: a report is due.
    async fn next(&mut self) -> Result<Option<Indication>, LinkError> {
        let shared: &Shared = self.shared;
        if self.stop_at.is_none() && shared.stop.is_cancelled() {
            self.stop_at = Some(self.drained_at());
        }
        let mut deadline = Instant::now() + shared.config.now().idle();
        let between = matches!(self.message, Message::None);
        let report_at = self.reports.front().filter(|_| between).map(|report| report.at);
        let report_at = report_at.filter(|at| *at < deadline);
        if let Some(message) = self.message_deadline {
            deadline = deadline.min(message);
        }
        loop {
            if let Some(stop_at) = self.stop_at {
                deadline = deadline.min(stop_at);
                if matches!(self.message, Message::None) {
                    deadline = deadline.min(Instant::now() + STOP_IDLE);
                }
            }
            let report_first = report_at.filter(|at| *at < deadline);
            let received = tokio::select! {
                // What is here already is taken without a look at anything else.
                biased;
                received = self.link.receive(report_first.unwrap_or(deadline)) => received,
                () = shared.stop.cancelled(), if self.stop_at.is_none() => {
                    self.stop_at = Some(self.drained_at());
                    continue;
                }
            };
            return match received {
                Err(LinkError::TimedOut) if report_first.is_some() => Ok(None),
                Err(LinkError::TimedOut) => {
                    // Drop the sink first: a half instance goes before the goodbye is waited for.
                    self.message = Message::None;
                    self.link.abort(AbortReason::NotSpecified, "").await;
                    match self.stop_at {
                        Some(_) => Err(LinkError::Violation { what: "the node stops" }),
                        None => Err(LinkError::TimedOut),
                    }
                }
                received => received.map(Some),
            };
        }
    }

    /// When an association that goes on at a stop has to end.
    fn drained_at(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.shared.config.now().drain_s)
    }

    /// Sends the oldest report, or gives up waiting for its answer.
    async fn report(&mut self) -> Result<(), LinkError> {
        let Some(mut report) = self.reports.pop_front() else { return Ok(()) };
        let Some(services) = self.shared.handler.services() else { return Ok(()) };
        if report.message_id.is_some() {
            services.reported(&report.id, None).await;
            return Ok(());
        }
        let syntax = &self.contexts[&report.context].transfer_syntax;
        let Some(wanted) = services.report(&report.id, syntax).await else { return Ok(()) };
        self.reports_sent = self.reports_sent.checked_add(1).unwrap_or(1);
        let (id, class, instance) =
            (self.reports_sent, wanted.sop_class_uid, wanted.sop_instance_uid);
        let command = Command::event_report_request(id, class, instance, wanted.event_type);
        let (context, bytes_max) = (report.context, self.peer_pdu_bytes_max);
        let mut pdus = BytesMut::new();
        put_data(&mut pdus, context, true, &command, true, bytes_max);
        put_data(&mut pdus, context, false, &wanted.data_set, true, bytes_max);
        report.message_id = Some(id);
        report.at = Instant::now() + REPORT_ANSWER;
        self.reports.push_front(report);
        self.link.send_data(&pdus.freeze()).await
    }

    /// The peer's answer to a report. False: it answers nothing that was asked.
    async fn take_report_answer(&mut self, command: &Command) -> bool {
        let answered = |report: &&PendingReport| report.message_id == Some(command.responded_to);
        let is_answer = command.field == field::N_EVENT_REPORT_RSP && !command.has_data_set();
        if !is_answer || self.reports.front().filter(answered).is_none() {
            return false;
        }
        if let (Some(report), Some(services)) =
            (self.reports.pop_front(), self.shared.handler.services())
        {
            services.reported(&report.id, command.status.map(Status)).await;
        }
        true
    }

    /// The association is over: what was not reported here goes another way.
    async fn forget_reports(&mut self) {
        let Some(services) = self.shared.handler.services() else { return };
        for report in std::mem::take(&mut self.reports) {
            services.reported(&report.id, None).await;
        }
    }

    /// Takes one fragment.
    async fn take(&mut self, pdv: Pdv) -> Result<(), LinkError> {
        if !self.contexts.contains_key(&pdv.context) {
            return Err(self.broken(AbortReason::InvalidParameter, NOT_ACCEPTED).await);
        }
        match (&mut self.message, pdv.is_command) {
            (Message::None, true) => {
                self.message_deadline =
                    Some(Instant::now() + Duration::from_secs(self.shared.config.now().message_s));
                self.message = Message::Command { context: pdv.context, bytes: Vec::new() };
                self.take_command(pdv).await
            }
            (Message::Command { context, .. }, true) if *context == pdv.context => {
                self.take_command(pdv).await
            }
            (Message::Data { context, .. }, false) if *context == pdv.context => {
                self.take_data(pdv).await
            }
            (Message::None, false) => Err(self
                .broken(AbortReason::UnexpectedParameter, "data set before a command")
                .await),
            (Message::Command { .. } | Message::Data { .. }, _) => {
                let why = "two messages interleaved";
                Err(self.broken(AbortReason::UnexpectedParameter, why).await)
            }
        }
    }

    async fn broken(&mut self, reason: AbortReason, why: &'static str) -> LinkError {
        self.message = Message::None;
        self.link.abort(reason, why).await
    }

    async fn take_command(&mut self, pdv: Pdv) -> Result<(), LinkError> {
        let Message::Command { context, bytes } = &mut self.message else { return Ok(()) };
        if bytes.len() + pdv.data.len() > COMMAND_BYTES_MAX {
            let why = "command set longer than 64 KiB";
            return Err(self.broken(AbortReason::InvalidParameter, why).await);
        }
        bytes.extend_from_slice(&pdv.data);
        if !pdv.is_last {
            return Ok(());
        }
        let (context, parsed) = (*context, Command::parse(bytes));
        self.message = Message::None;
        let Ok(command) = parsed else {
            return Err(self.link.abort_as_user("command set cannot be read").await);
        };
        if command.is_response() && self.take_report_answer(&command).await {
            self.message_deadline = None;
            return Ok(());
        }
        if command.is_response() || command.field == field::C_CANCEL_RQ {
            return Err(self
                .link
                .abort_as_user("a response or a cancel without its request")
                .await);
        }
        if command.field == field::C_STORE_RQ {
            self.tally.offered += 1;
            self.counts.iter().for_each(Counts::offered);
            self.meters.offered.increment(1);
        }
        if command.has_data_set()
            && let Some(operation) = self.service_operation(&command, context)
        {
            let fate = Fate::Gathered(operation, Vec::new());
            self.message = Message::Data { context, command, received: 0, fate };
            return Ok(());
        }
        if command.has_data_set() {
            let begun = match self.store_request(&command, context) {
                Ok(request) => {
                    let handler = Arc::clone(&self.shared.handler);
                    handler.begin(request).await
                }
                Err(refusal) => Err(refusal),
            };
            let fate = match begun {
                Ok(sink) => {
                    let mut buffer = self.shared.buffers.take();
                    buffer.push(sink.head());
                    self.link.wire().gather(buffer);
                    Fate::Stored(sink)
                }
                Err(refusal) => Fate::Refused(refusal),
            };
            self.message = Message::Data { context, command, received: 0, fate };
            return Ok(());
        }
        let answer = match command.field {
            field::C_ECHO_RQ => {
                self.tally.echoes += 1;
                Ok(())
            }
            field::C_STORE_RQ => {
                Err(Refusal::new(Status::CANNOT_UNDERSTAND, "C-STORE without a data set"))
            }
            _ => Err(unknown_operation()),
        };
        self.answer(context, &command, answer).await
    }

    /// The operation of a service that is served on this context.
    fn service_operation(&self, command: &Command, context: u8) -> Option<Operation> {
        let context = &self.contexts[&context];
        let served =
            context.service == Service::Normalized && self.shared.handler.services().is_some();
        let operation = Operation::of(command)?;
        (served && command.sop_class_uid == context.abstract_syntax).then_some(operation)
    }

    /// Answers a request of a service, and notes the report that follows.
    async fn serve_request(
        &mut self,
        context: u8,
        command: &Command,
        operation: Operation,
        data_set: Vec<u8>,
    ) -> Result<(), LinkError> {
        let request = ServiceRequest {
            operation,
            sop_class_uid: command.sop_class_uid.clone(),
            sop_instance_uid: command.sop_instance_uid.clone(),
            transfer_syntax_uid: self.contexts[&context].transfer_syntax.clone(),
            data_set: data_set.into(),
            calling_ae: self.tally.calling_ae.clone(),
            called_ae: self.tally.called_ae.clone(),
            peer: self.tally.peer,
            association: self.tally.association.clone(),
        };
        let answer = match self.shared.handler.services() {
            Some(services) => services.serve(request).await,
            None => ServiceAnswer::refused(Status::UNRECOGNIZED_OPERATION, "not served here"),
        };
        match (&answer.report, self.shared.handler.services()) {
            (Some(id), _) if self.reports.len() < REPORTS_MAX => {
                let (id, at) = (id.clone(), Instant::now() + REPORT_PAUSE);
                self.reports.push_back(PendingReport { id, context, at, message_id: None });
            }
            (Some(id), Some(services)) => services.reported(id, None).await,
            (_, _) => {}
        }
        self.answer_with(context, command, answer).await
    }

    /// Whether the data set of this command is wanted.
    fn store_request(&self, command: &Command, context: u8) -> Result<StoreRequest, Refusal> {
        if command.field != field::C_STORE_RQ {
            return Err(unknown_operation());
        }
        let context = &self.contexts[&context];
        if command.sop_class_uid != context.abstract_syntax || context.service != Service::Storage {
            let why = "SOP class is not that of the presentation context";
            return Err(Refusal::new(Status::SOP_CLASS_NOT_SUPPORTED, why));
        }
        Ok(StoreRequest {
            sop_class_uid: command.sop_class_uid.clone(),
            sop_instance_uid: command.sop_instance_uid.clone(),
            transfer_syntax_uid: context.transfer_syntax.clone(),
            calling_ae: self.tally.calling_ae.clone(),
            called_ae: self.tally.called_ae.clone(),
            peer: self.tally.peer,
            association: self.tally.association.clone(),
            priority: Priority::of_dimse(command.priority),
        })
    }

    async fn take_data(&mut self, pdv: Pdv) -> Result<(), LinkError> {
        let Message::Data { received, fate, .. } = &mut self.message else { return Ok(()) };
        *received += pdv.data.len() as u64;
        if let Fate::Gathered(_, bytes) = fate {
            match bytes.len() + pdv.data.len() <= SERVICE_BYTES_MAX {
                true => bytes.extend_from_slice(&pdv.data),
                false => {
                    let why = "data set is larger than 4 MiB";
                    *fate = Fate::Refused(Refusal::new(Status::RESOURCE_LIMITATION, why));
                }
            }
        }
        let nothing_yet = self.link.wire().gathered().is_none_or(|gathered| gathered.is_empty());
        if nothing_yet && pdv.is_last {
            // A data set in one fragment is handed on as it came.
            self.hand_on(pdv.data).await;
        } else {
            let mut rest = &pdv.data[..];
            while let Some(gathered) = self.link.wire().gathered().filter(|_| !rest.is_empty()) {
                rest = &rest[gathered.push(rest)..];
                if gathered.room() == 0 {
                    self.hand_on_gathered(false).await;
                }
            }
            if pdv.is_last {
                self.hand_on_gathered(true).await;
            }
        }
        self.data_came(pdv.is_last).await
    }

    /// Takes bytes that the link has put where they are gathered.
    async fn take_gathered(&mut self, came: Gathered) -> Result<(), LinkError> {
        let received = match &mut self.message {
            Message::Data { context, received, .. } if *context == came.context => received,
            Message::None | Message::Command { .. } | Message::Data { .. } => {
                let (reason, why) = match self.contexts.contains_key(&came.context) {
                    true => (AbortReason::UnexpectedParameter, "two messages interleaved"),
                    false => (AbortReason::InvalidParameter, NOT_ACCEPTED),
                };
                return Err(self.broken(reason, why).await);
            }
        };
        *received += came.bytes as u64;
        let is_full = self.link.wire().gathered().is_none_or(|gathered| gathered.room() == 0);
        if came.is_last || is_full {
            self.hand_on_gathered(came.is_last).await;
        }
        self.data_came(came.is_last).await
    }

    /// Hands on what is gathered, and begins anew unless the data set is over.
    async fn hand_on_gathered(&mut self, is_last: bool) {
        if let Some(gathered) = self.link.wire().take_gathered().filter(|full| !full.is_empty()) {
            self.hand_on(gathered.freeze()).await;
        }
        if !is_last {
            self.link.wire().gather(self.shared.buffers.take());
        }
    }

    /// Gives the handler the next bytes of the instance that comes, if it is wanted.
    async fn hand_on(&mut self, chunk: Bytes) {
        let bytes_max = self.shared.config.now().object_bytes_max;
        if let Message::Data { received, fate, .. } = &mut self.message
            && let Fate::Stored(sink) = fate
            && *received <= bytes_max
            && let Err(refusal) = sink.write(chunk).await
        {
            *fate = Fate::Refused(refusal);
        }
    }

    /// Looks at the limits, and answers when the data set is whole.
    async fn data_came(&mut self, is_last: bool) -> Result<(), LinkError> {
        let bytes_max = self.shared.config.now().object_bytes_max;
        let Message::Data { received, fate, .. } = &self.message else { return Ok(()) };
        let received = *received;
        if received > bytes_max && !matches!(fate, Fate::Answered) {
            // The end may never come (P99), so this is answered before it.
            let limit = bytes_max >> 20;
            let why = format!("data set is larger than the limit of {limit} MiB");
            let refusal = Refusal::new(Status::OUT_OF_RESOURCES, why);
            self.answer_data(Err(refusal), Fate::Answered).await?;
        }
        if received > bytes_max.saturating_add(AFTERMATH_BYTES_MAX) {
            self.message = Message::None;
            return Err(self.link.abort_as_user("endless data set").await);
        }
        if is_last { self.end_of_data().await } else { Ok(()) }
    }

    async fn end_of_data(&mut self) -> Result<(), LinkError> {
        let message = std::mem::replace(&mut self.message, Message::None);
        let Message::Data { context, command, received, fate, .. } = message else { return Ok(()) };
        let answer = match fate {
            Fate::Answered => return Ok(()),
            Fate::Gathered(operation, bytes) => {
                return self.serve_request(context, &command, operation, bytes).await;
            }
            Fate::Refused(refusal) => Err(refusal),
            Fate::Stored(sink) => sink.finish().await,
        };
        if answer.is_ok() {
            self.tally.stored += 1;
            self.tally.stored_bytes += received;
            self.counts.iter().for_each(|counts| counts.stored_bytes(received));
            self.meters.received.increment(1);
            self.meters.received_bytes.increment(received);
        }
        self.answer(context, &command, answer).await
    }

    /// Answers the data set under way and changes what becomes of the rest of it.
    async fn answer_data(
        &mut self,
        answer: Result<(), Refusal>,
        then: Fate,
    ) -> Result<(), LinkError> {
        let Message::Data { context, command, fate, .. } = &mut self.message else {
            return Ok(());
        };
        *fate = then;
        let (context, command) = (*context, command.clone());
        self.answer(context, &command, answer).await
    }

    async fn answer(
        &mut self,
        context: u8,
        command: &Command,
        answer: Result<(), Refusal>,
    ) -> Result<(), LinkError> {
        let answer = match answer {
            Ok(()) => ServiceAnswer::success(),
            Err(refusal) => ServiceAnswer::refused(refusal.status, refusal.comment),
        };
        self.answer_with(context, command, answer).await
    }

    async fn answer_with(
        &mut self,
        context: u8,
        command: &Command,
        answer: ServiceAnswer,
    ) -> Result<(), LinkError> {
        if matches!(self.message, Message::None) {
            self.message_deadline = None;
        }
        let ServiceAnswer { status, comment, error_id, sop_instance_uid, .. } = answer;
        if status != Status::SUCCESS {
            *self.tally.refused.entry(status).or_default() += 1;
            if self.tally.first_refusal.is_empty() {
                self.tally.first_refusal.clone_from(&comment);
            }
            metrics::counter!("prelim_refusals_total", "status" => status.to_string()).increment(1);
        }
        if command.field == field::C_STORE_RQ {
            self.counts.iter().for_each(|counts| counts.answered(status));
            match status.kind() {
                StatusKind::Success => {}
                StatusKind::Warning => self.tally.warned += 1,
                StatusKind::Pending | StatusKind::Cancelled | StatusKind::Failure => {
                    self.tally.refused_instances += 1;
                }
            }
        }
        let mut pdus = BytesMut::new();
        let response = command.answer(&Answer {
            status,
            error_comment: &comment,
            error_id,
            sop_instance_uid: sop_instance_uid.as_deref(),
        });
        put_data(&mut pdus, context, true, &response, true, self.peer_pdu_bytes_max);
        let pdus: Bytes = pdus.freeze();
        self.link.send_data(&pdus).await
    }
}

fn unknown_operation() -> Refusal {
    Refusal::new(Status::UNRECOGNIZED_OPERATION, "only C-STORE and C-ECHO are served here")
}

#[cfg(test)]
#[path = "scp_session_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "scp_services_tests.rs"]
mod services_tests;

//! The upper layer protocol (PS3.8 9.2): one pure table, and the link that acts by it.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use dicom_ul::pdu::AssociationAC;
use dicom_ul::pdu::AssociationRJ;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::dicom::pdu::AbortReason;
use crate::dicom::pdu::Gathered;
use crate::dicom::pdu::Pdu;
use crate::dicom::pdu::Request;
use crate::dicom::pdu::Transport;
use crate::dicom::pdu::Wire;
use crate::dicom::pdu::encode_abort;

/// States of PS3.8 9.2.1; the number is the standard's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Idle = 1,
    AwaitRequest = 2,
    AwaitLocalAnswer = 3,
    AwaitTransport = 4,
    AwaitAnswer = 5,
    Open = 6,
    AwaitReleaseReply = 7,
    AwaitLocalRelease = 8,
    CollisionRequestorLocal = 9,
    CollisionAcceptorReply = 10,
    CollisionRequestorReply = 11,
    CollisionAcceptorLocal = 12,
    AwaitClose = 13,
}

/// Events of PS3.8 table 9-10; the number is the standard's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "the table is the standard's, and whole"))]
pub enum Event {
    LocalRequest = 1,
    TransportConfirmed = 2,
    AcceptPdu = 3,
    RejectPdu = 4,
    TransportIndicated = 5,
    RequestPdu = 6,
    LocalAccept = 7,
    LocalReject = 8,
    LocalData = 9,
    DataPdu = 10,
    LocalRelease = 11,
    ReleaseRequestPdu = 12,
    ReleaseReplyPdu = 13,
    LocalReleaseReply = 14,
    LocalAbort = 15,
    AbortPdu = 16,
    TransportClosed = 17,
    ArtimExpired = 18,
    InvalidPdu = 19,
}

/// Actions of PS3.8 tables 9-6 to 9-9, by their names there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open the transport connection.
    Ae1,
    /// Send A-ASSOCIATE-RQ.
    Ae2,
    /// Tell the user: accepted.
    Ae3,
    /// Tell the user: rejected; close.
    Ae4,
    /// Start ARTIM.
    Ae5,
    /// Stop ARTIM; tell the user of the request.
    Ae6,
    /// Send A-ASSOCIATE-AC.
    Ae7,
    /// Send A-ASSOCIATE-RJ, start ARTIM.
    Ae8,
    /// Send P-DATA-TF.
    Dt1,
    /// Give the data to the user.
    Dt2,
    /// Send A-RELEASE-RQ.
    Ar1,
    /// Tell the user of the release request.
    Ar2,
    /// Tell the user that the release is done; close.
    Ar3,
    /// Send A-RELEASE-RP, start ARTIM.
    Ar4,
    /// Stop ARTIM.
    Ar5,
    /// Give late data to the user.
    Ar6,
    /// Send P-DATA-TF (the release is not answered yet).
    Ar7,
    /// Tell the user of a release collision.
    Ar8,
    /// Send A-RELEASE-RP (collision, requestor).
    Ar9,
    /// Tell the user that the release is done (collision, acceptor).
    Ar10,
    /// Send A-ABORT, start ARTIM.
    Aa1,
    /// Stop ARTIM, close.
    Aa2,
    /// Tell the user of the abort, close.
    Aa3,
    /// Tell the user that the provider aborted: the connection is gone.
    Aa4,
    /// Stop ARTIM: the connection is gone.
    Aa5,
    /// Ignore the PDU.
    Aa6,
    /// Send A-ABORT.
    Aa7,
    /// Send A-ABORT as provider, tell the user, start ARTIM.
    Aa8,
}

/// Who asked for the association; a release collision depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Requestor,
    Acceptor,
}

/// PS3.8 table 9-10. None where the table is empty: that cannot happen, or our own code asked
/// for what the state does not allow.
pub fn next(state: State, event: Event, role: Role) -> Option<(State, Action)> {
    let action = action(state, event)?;
    let to = match action {
        Action::Ae1 => State::AwaitTransport,
        Action::Ae2 => State::AwaitAnswer,
        Action::Ae5 => State::AwaitRequest,
        Action::Ae6 => State::AwaitLocalAnswer,
        Action::Ae3 | Action::Ae7 | Action::Dt1 | Action::Dt2 => State::Open,
        Action::Ar1 | Action::Ar6 => State::AwaitReleaseReply,
        Action::Ar2 | Action::Ar7 => State::AwaitLocalRelease,
        Action::Ar8 => match role {
            Role::Requestor => State::CollisionRequestorLocal,
            Role::Acceptor => State::CollisionAcceptorReply,
        },
        Action::Ar9 => State::CollisionRequestorReply,
        Action::Ar10 => State::CollisionAcceptorLocal,
        Action::Ae8 | Action::Ar4 | Action::Aa1 | Action::Aa6 | Action::Aa7 | Action::Aa8 => {
            State::AwaitClose
        }
        Action::Ae4
        | Action::Ar3
        | Action::Ar5
        | Action::Aa2
        | Action::Aa3
        | Action::Aa4
        | Action::Aa5 => State::Idle,
    };
    Some((to, action))
}

fn action(state: State, event: Event) -> Option<Action> {
    use State as S;
    // An association or a release is under way, or data flows: what most PDUs break.
    let busy = !matches!(state, S::Idle | S::AwaitRequest | S::AwaitTransport | S::AwaitClose);
    let answer = match (event, state) {
        (Event::LocalRequest, S::Idle) => Action::Ae1,
        (Event::TransportConfirmed, S::AwaitTransport) => Action::Ae2,
        (Event::TransportIndicated, S::Idle) => Action::Ae5,
        (Event::AcceptPdu, S::AwaitAnswer) => Action::Ae3,
        (Event::RejectPdu, S::AwaitAnswer) => Action::Ae4,
        (Event::RequestPdu, S::AwaitRequest) => Action::Ae6,
        (Event::LocalAccept, S::AwaitLocalAnswer) => Action::Ae7,
        (Event::LocalReject, S::AwaitLocalAnswer) => Action::Ae8,
        (Event::LocalData, S::Open) => Action::Dt1,
        (Event::LocalData, S::AwaitLocalRelease) => Action::Ar7,
        (Event::DataPdu, S::Open) => Action::Dt2,
        (Event::DataPdu, S::AwaitReleaseReply) => Action::Ar6,
        (Event::LocalRelease, S::Open) => Action::Ar1,
        (Event::ReleaseRequestPdu, S::Open) => Action::Ar2,
        (Event::ReleaseRequestPdu, S::AwaitReleaseReply) => Action::Ar8,
        (Event::ReleaseReplyPdu, S::AwaitReleaseReply | S::CollisionRequestorReply) => Action::Ar3,
        (Event::ReleaseReplyPdu, S::CollisionAcceptorReply) => Action::Ar10,
        (Event::LocalReleaseReply, S::AwaitLocalRelease | S::CollisionAcceptorLocal) => Action::Ar4,
        (Event::LocalReleaseReply, S::CollisionRequestorLocal) => Action::Ar9,
        (Event::LocalAbort, S::AwaitTransport) => Action::Aa2,
        (Event::LocalAbort, _) if busy => Action::Aa1,
        (Event::AbortPdu, S::AwaitRequest | S::AwaitClose) => Action::Aa2,
        (Event::AbortPdu, _) if busy => Action::Aa3,
        (Event::TransportClosed, S::AwaitRequest) => Action::Aa5,
        (Event::TransportClosed, S::AwaitClose) => Action::Ar5,
        (Event::TransportClosed, S::AwaitTransport) => Action::Aa4,
        (Event::TransportClosed, _) if busy => Action::Aa4,
        (Event::ArtimExpired, S::AwaitRequest | S::AwaitClose) => Action::Aa2,
        (Event::RequestPdu | Event::InvalidPdu, S::AwaitClose) => Action::Aa7,
        (
            Event::AcceptPdu
            | Event::RejectPdu
            | Event::DataPdu
            | Event::ReleaseRequestPdu
            | Event::ReleaseReplyPdu,
            S::AwaitClose,
        ) => Action::Aa6,
        (
            Event::AcceptPdu
            | Event::RejectPdu
            | Event::DataPdu
            | Event::ReleaseRequestPdu
            | Event::ReleaseReplyPdu
            | Event::InvalidPdu,
            S::AwaitRequest,
        ) => Action::Aa1,
        (
            Event::AcceptPdu
            | Event::RejectPdu
            | Event::RequestPdu
            | Event::DataPdu
            | Event::ReleaseRequestPdu
            | Event::ReleaseReplyPdu
            | Event::InvalidPdu,
            _,
        ) if busy => Action::Aa8,
        (_, _) => return None,
    };
    Some(answer)
}

/// What the peer wants, as far as the protocol allows it.
#[derive(Debug)]
pub enum Indication {
    Request(Box<Request>),
    Accepted(Box<AssociationAC>),
    Rejected(AssociationRJ),
    Data(Bytes),
    Gathered(Gathered),
    ReleaseRequest,
    Released,
}

/// How a link ended that did not end by release.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the peer aborted (source {by}, reason {reason})")]
    Aborted { by: u8, reason: u8 },
    #[error("aborted: {what}")]
    Violation { what: &'static str },
    #[error("nothing came in time")]
    TimedOut,
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

/// After the last word the peer is given this long to read it and to close. Closing at once
/// would reset the connection under the answer whenever unread bytes are left.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 1 << 20;

/// One association: a wire and its state.
pub struct Link<S> {
    wire: Wire<S>,
    state: State,
    role: Role,
    /// A write that takes longer than this ends the link.
    write_limit: Duration,
}

impl<S: Transport> Link<S> {
    /// The acceptor's side of a connection that has just come in.
    pub fn accept(stream: S, data_bytes_max: u32, write_limit: Duration) -> Link<S> {
        let state = State::AwaitRequest;
        let wire = Wire::new(stream, data_bytes_max);
        Link { wire, state, role: Role::Acceptor, write_limit }
    }

    /// The requestor's side of a connection that has just been opened.
    pub fn request(stream: S, data_bytes_max: u32, write_limit: Duration) -> Link<S> {
        let state = State::AwaitTransport;
        let wire = Wire::new(stream, data_bytes_max);
        Link { wire, state, role: Role::Requestor, write_limit }
    }

    /// Where the bytes of the data set that comes are put, see [`Wire::gather`].
    pub fn wire(&mut self) -> &mut Wire<S> {
        &mut self.wire
    }

    /// The next thing that the peer wants. Safe to cancel.
    ///
    /// # Errors
    /// [`LinkError::TimedOut`] leaves the state as it was; after any other error the link is over:
    /// where the protocol wants an A-ABORT, it was sent.
    pub async fn receive(&mut self, deadline: Instant) -> Result<Indication, LinkError> {
        let pdu = match timeout_at(deadline, self.wire.read()).await {
            Err(_) => return Err(LinkError::TimedOut),
            Ok(Err(error)) => {
                self.state = State::Idle;
                return Err(error.into());
            }
            Ok(Ok(pdu)) => pdu,
        };
        let event = event_of(&pdu);
        let (to, action) =
            next(self.state, event, self.role).unwrap_or((State::AwaitClose, Action::Aa8));
        self.state = to;
        match (action, pdu) {
            (Action::Ae6, Pdu::Request(request)) => Ok(Indication::Request(request)),
            (Action::Ae3, Pdu::Accept(accept)) => {
                self.wire.expect_data();
                Ok(Indication::Accepted(accept))
            }
            (Action::Ae4, Pdu::Reject(reject)) => Ok(Indication::Rejected(reject)),
            (Action::Dt2 | Action::Ar6, Pdu::Data(data)) => Ok(Indication::Data(data)),
            (Action::Dt2, Pdu::Gathered(gathered)) => Ok(Indication::Gathered(gathered)),
            (Action::Ar2 | Action::Ar8, _) => Ok(Indication::ReleaseRequest),
            (Action::Ar3 | Action::Ar10, _) => Ok(Indication::Released),
            (Action::Aa2 | Action::Aa3, Pdu::Abort { source, reason }) => {
                Err(LinkError::Aborted { by: source, reason })
            }
            (Action::Aa4 | Action::Aa5 | Action::Ar5 | Action::Aa2, _) => Err(LinkError::Closed),
            (_, pdu) => Err(self.violation(&pdu).await),
        }
    }

    /// Sends A-ABORT for a PDU that has no place here. The provider's reason goes along, also
    /// before an association is open, where table 9-9 has the user as source: more is learnt.
    async fn violation(&mut self, pdu: &Pdu) -> LinkError {
        let (reason, what) = match pdu {
            Pdu::Invalid { reason, what } => (*reason, *what),
            _ => (AbortReason::UnexpectedPdu, "unexpected PDU"),
        };
        self.last_word(&encode_abort(2, reason)).await;
        LinkError::Violation { what }
    }

    /// Aborts as provider, for a fault inside a P-DATA-TF.
    pub async fn abort(&mut self, reason: AbortReason, what: &'static str) -> LinkError {
        self.local(Event::LocalAbort);
        self.last_word(&encode_abort(2, reason)).await;
        LinkError::Violation { what }
    }

    /// Aborts as user, for a fault in a message.
    pub async fn abort_as_user(&mut self, what: &'static str) -> LinkError {
        self.local(Event::LocalAbort);
        self.last_word(&encode_abort(0, AbortReason::NotSpecified)).await;
        LinkError::Violation { what }
    }

    pub async fn send_request(&mut self, pdu: &[u8]) -> Result<(), LinkError> {
        self.local(Event::TransportConfirmed);
        self.write(pdu).await
    }

    pub async fn send_accept(&mut self, pdu: &[u8]) -> Result<(), LinkError> {
        self.local(Event::LocalAccept);
        self.wire.expect_data();
        self.write(pdu).await
    }

    pub async fn send_reject(&mut self, pdu: &[u8]) {
        self.local(Event::LocalReject);
        self.last_word(pdu).await;
    }

    pub async fn send_data(&mut self, pdus: &[u8]) -> Result<(), LinkError> {
        self.local(Event::LocalData);
        self.write(pdus).await
    }

    pub async fn answer_release(&mut self) -> Result<(), LinkError> {
        self.local(Event::LocalReleaseReply);
        let reply = [0x06, 0, 0, 0, 0, 4, 0, 0, 0, 0];
        match self.state {
            State::AwaitClose => {
                self.last_word(&reply).await;
                Ok(())
            }
            _ => self.write(&reply).await,
        }
    }

    pub async fn send_release(&mut self) -> Result<(), LinkError> {
        self.local(Event::LocalRelease);
        self.write(&[0x05, 0, 0, 0, 0, 4, 0, 0, 0, 0]).await
    }

    /// Moves on by something that our own side does. Out of state it is a fault of this program,
    /// which ends one association and not the node.
    fn local(&mut self, event: Event) {
        match next(self.state, event, self.role) {
            Some((to, _)) => self.state = to,
            None => {
                debug_assert!(false, "{event:?} in {:?}", self.state);
                self.state = State::AwaitClose;
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let deadline = Instant::now() + self.write_limit;
        let stream = &mut self.wire.stream;
        let written = async {
            stream.write_all(bytes).await?;
            stream.flush().await // TLS keeps records that the socket did not take
        };
        match timeout_at(deadline, written).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(LinkError::TimedOut),
        }
    }

    /// Sends what ends the association, then waits a moment for the peer to close.
    async fn last_word(&mut self, bytes: &[u8]) {
        let stream = &mut self.wire.stream;
        // On the heap: this is part of every future that can abort, and those are moved about for
        // each PDU.
        let goodbye = Box::pin(async {
            stream.write_all(bytes).await?;
            stream.shutdown().await?;
            let (mut sink, mut left) = (Vec::with_capacity(8192), LINGER_BYTES_MAX);
            loop {
                sink.clear();
                match stream.read_buf(&mut sink).await? {
                    0 => return io::Result::Ok(()),
                    read if read >= left => return Ok(()),
                    read => left -= read,
                }
            }
        });
        // Whether it arrives is the peer's affair: the connection ends either way.
        let _ = tokio::time::timeout(LINGER, goodbye).await;
        self.state = State::Idle;
    }
}

fn event_of(pdu: &Pdu) -> Event {
    match pdu {
        Pdu::Request(_) => Event::RequestPdu,
        Pdu::Accept(_) => Event::AcceptPdu,
        Pdu::Reject(_) => Event::RejectPdu,
        Pdu::Data(_) | Pdu::Gathered(_) => Event::DataPdu,
        Pdu::ReleaseRequest => Event::ReleaseRequestPdu,
        Pdu::ReleaseReply => Event::ReleaseReplyPdu,
        Pdu::Abort { .. } => Event::AbortPdu,
        Pdu::Invalid { .. } => Event::InvalidPdu,
        Pdu::Closed => Event::TransportClosed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 13] = [
        State::Idle,
        State::AwaitRequest,
        State::AwaitLocalAnswer,
        State::AwaitTransport,
        State::AwaitAnswer,
        State::Open,
        State::AwaitReleaseReply,
        State::AwaitLocalRelease,
        State::CollisionRequestorLocal,
        State::CollisionAcceptorReply,
        State::CollisionRequestorReply,
        State::CollisionAcceptorLocal,
        State::AwaitClose,
    ];
    const EVENTS: [Event; 19] = [
        Event::LocalRequest,
        Event::TransportConfirmed,
        Event::AcceptPdu,
        Event::RejectPdu,
        Event::TransportIndicated,
        Event::RequestPdu,
        Event::LocalAccept,
        Event::LocalReject,
        Event::LocalData,
        Event::DataPdu,
        Event::LocalRelease,
        Event::ReleaseRequestPdu,
        Event::ReleaseReplyPdu,
        Event::LocalReleaseReply,
        Event::LocalAbort,
        Event::AbortPdu,
        Event::TransportClosed,
        Event::ArtimExpired,
        Event::InvalidPdu,
    ];

    /// PS3.8 table 9-10: a line for each event, a column for each state, Sta1 to Sta13.
    const TABLE: &str = "
        Ae1 -   -   -   -   -   -   -   -   -    -   -   -
        -   -   -   Ae2 -   -   -   -   -   -    -   -   -
        -   Aa1 Aa8 -   Ae3 Aa8 Aa8 Aa8 Aa8 Aa8  Aa8 Aa8 Aa6
        -   Aa1 Aa8 -   Ae4 Aa8 Aa8 Aa8 Aa8 Aa8  Aa8 Aa8 Aa6
        Ae5 -   -   -   -   -   -   -   -   -    -   -   -
        -   Ae6 Aa8 -   Aa8 Aa8 Aa8 Aa8 Aa8 Aa8  Aa8 Aa8 Aa7
        -   -   Ae7 -   -   -   -   -   -   -    -   -   -
        -   -   Ae8 -   -   -   -   -   -   -    -   -   -
        -   -   -   -   -   Dt1 -   Ar7 -   -    -   -   -
        -   Aa1 Aa8 -   Aa8 Dt2 Ar6 Aa8 Aa8 Aa8  Aa8 Aa8 Aa6
        -   -   -   -   -   Ar1 -   -   -   -    -   -   -
        -   Aa1 Aa8 -   Aa8 Ar2 Ar8 Aa8 Aa8 Aa8  Aa8 Aa8 Aa6
        -   Aa1 Aa8 -   Aa8 Aa8 Ar3 Aa8 Aa8 Ar10 Ar3 Aa8 Aa6
        -   -   -   -   -   -   -   Ar4 Ar9 -    -   Ar4 -
        -   -   Aa1 Aa2 Aa1 Aa1 Aa1 Aa1 Aa1 Aa1  Aa1 Aa1 -
        -   Aa2 Aa3 -   Aa3 Aa3 Aa3 Aa3 Aa3 Aa3  Aa3 Aa3 Aa2
        -   Aa5 Aa4 Aa4 Aa4 Aa4 Aa4 Aa4 Aa4 Aa4  Aa4 Aa4 Ar5
        -   Aa2 -   -   -   -   -   -   -   -    -   -   Aa2
        -   Aa1 Aa8 -   Aa8 Aa8 Aa8 Aa8 Aa8 Aa8  Aa8 Aa8 Aa7
    ";

    #[test]
    fn the_state_table_is_that_of_ps3_8() {
        let lines: Vec<&str> = TABLE.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        assert_eq!(lines.len(), EVENTS.len());
        for (event, line) in EVENTS.into_iter().zip(lines) {
            let cells: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(cells.len(), STATES.len());
            for (state, expected) in STATES.into_iter().zip(cells) {
                let found = next(state, event, Role::Acceptor)
                    .map_or("-".to_owned(), |(_, action)| format!("{action:?}"));
                assert_eq!(found, expected, "{event:?} in {state:?}");
            }
        }
    }

    #[test]
    fn a_release_collision_depends_on_the_role() {
        let crossed = |role| next(State::AwaitReleaseReply, Event::ReleaseRequestPdu, role);
        let to = |role| crossed(role).unwrap().0;
        assert_eq!(to(Role::Requestor), State::CollisionRequestorLocal);
        assert_eq!(to(Role::Acceptor), State::CollisionAcceptorReply);
    }
}

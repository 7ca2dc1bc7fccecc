//! Audit messages of DICOM (PS3.15 A.5): which event of the ledger is which message, and its XML.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;

use crate::domain::uid::StudyUid;
use crate::store::event::Event;

/// A code of PS3.16 CID 400, 402, 403 or 404, or of RFC 3881.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(&'static str, &'static str, &'static str);

const fn dcm(code: &'static str, meaning: &'static str) -> Code {
    Code(code, "DCM", meaning)
}

const APPLICATION_ACTIVITY: Code = dcm("110100", "Application Activity");
const AUDIT_LOG_USED: Code = dcm("110101", "Audit Log Used");
const INSTANCES_ACCESSED: Code = dcm("110103", "DICOM Instances Accessed");
const INSTANCES_TRANSFERRED: Code = dcm("110104", "DICOM Instances Transferred");
const STUDY_DELETED: Code = dcm("110105", "DICOM Study Deleted");
const EXPORT: Code = dcm("110106", "Export");
const QUERY: Code = dcm("110112", "Query");
const SECURITY_ALERT: Code = dcm("110113", "Security Alert");
const USER_AUTHENTICATION: Code = dcm("110114", "User Authentication");
const START: Code = dcm("110120", "Application Start");
const STOP: Code = dcm("110121", "Application Stop");
const LOGIN: Code = dcm("110122", "Login");
const LOGOUT: Code = dcm("110123", "Logout");
const NODE_AUTHENTICATION: Code = dcm("110126", "Node Authentication");
const SECURITY_CONFIGURATION: Code = dcm("110129", "Security Configuration");
const SOFTWARE_CONFIGURATION: Code = dcm("110131", "Software Configuration");
const APPLICATION: Code = dcm("110150", "Application");
const DESTINATION: Code = dcm("110152", "Destination Role ID");
const SOURCE: Code = dcm("110153", "Source Role ID");
const OF_STUDY: Code = dcm("110180", "Study Instance UID");
const OF_SOP_CLASS: Code = dcm("110181", "SOP Class UID");
const OF_NODE: Code = dcm("110182", "Node ID");
const OF_PATIENT: Code = Code("2", "RFC-3881", "Patient Number");
const OF_URI: Code = Code("12", "RFC-3881", "URI");
/// Study Root Query/Retrieve Information Model - FIND.
const FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";

/// EventOutcomeIndicator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Success,
    /// Somebody was not let in.
    MinorFailure,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Participant {
    user_id: String,
    role: Option<Code>,
    is_requestor: bool,
    /// Host name or address.
    host: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Object {
    id: String,
    id_type: Code,
    /// ParticipantObjectTypeCode and its role.
    kind: (&'static str, &'static str),
    name: Name,
    /// Instances by SOP class.
    classes: BTreeMap<String, u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Words(String),
    Query(String),
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    id: Code,
    type_code: Option<Code>,
    /// C, R, U, D or E.
    action: char,
    outcome: Outcome,
    at: Timestamp,
    participants: Vec<Participant>,
    objects: Vec<Object>,
}

/// This node, in its messages.
#[derive(Debug, Clone)]
pub struct Own {
    pub ae_title: String,
    pub host: String,
    /// AuditEnterpriseSiteID; may be empty.
    pub site: String,
}

/// What is known of a revision beside the event.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Calling AE title and address of each sender.
    pub senders: Vec<(String, String)>,
    /// Instances by SOP class.
    pub classes: BTreeMap<String, u32>,
    /// Patient ID, where the site wants it to leave.
    pub patient_id: Option<String>,
}

/// How the ledger names what a message tells ([`Event::Accessed`]).
pub mod words {
    pub const STARTED: &str = "node started";
    pub const STOPPED: &str = "node stopped";
    pub const RELOADED: &str = "settings read again";
    pub const NOT_LET_IN: &str = "association refused";
    /// How each line on who may come in begins.
    pub const CHANGED: &str = "changed";
}

impl Own {
    fn node(&self, role: Option<Code>, is_requestor: bool) -> Participant {
        let (user_id, host) = (self.ae_title.clone(), self.host.clone());
        Participant { user_id, role, is_requestor, host }
    }
}

fn person(who: &str) -> Participant {
    // An address stands first, or in brackets at the end: `10.0.0.5 token`, `kim (10.0.0.5)`.
    let host = who.split([' ', '(', ')']).find(|word| word.parse::<std::net::IpAddr>().is_ok());
    let (user_id, host) = (who.to_owned(), host.unwrap_or_default().to_owned());
    Participant { user_id, role: None, is_requestor: true, host }
}

fn study(uid: &StudyUid, name: &str, known: &Known) -> Vec<Object> {
    let of_study = Object {
        id: uid.to_string(),
        id_type: OF_STUDY,
        kind: ("2", "3"),
        name: Name::Words(name.to_owned()),
        classes: known.classes.clone(),
    };
    let of_patient = known.patient_id.as_ref().map(|id| Object {
        id: id.clone(),
        id_type: OF_PATIENT,
        kind: ("1", "1"),
        name: Name::Words("Patient".to_owned()),
        classes: BTreeMap::new(),
    });
    std::iter::once(of_study).chain(of_patient).collect()
}

/// The message that an event is, if it is one.
///
/// - `known`: asked for the study of an event, and its revision where the event names one.
pub fn of_event(
    event: &Event,
    at: Timestamp,
    own: &Own,
    known: &dyn Fn(&StudyUid, Option<u32>) -> Known,
) -> Option<Message> {
    let message = |id, action, participants, objects| Message {
        id,
        type_code: None,
        action,
        outcome: Outcome::Success,
        at,
        participants,
        objects,
    };
    // Something of a study goes from us to someone.
    let sent = |id, study_uid: &StudyUid, revision, what: &str, to: &str, host: &str| {
        let role = Some(DESTINATION);
        let (user_id, host) = (to.to_owned(), host.to_owned());
        let to = Participant { user_id, role, is_requestor: false, host };
        let objects = study(study_uid, what, &known(study_uid, Some(revision)));
        Some(message(id, 'R', vec![own.node(Some(SOURCE), true), to], objects))
    };
    match event {
        Event::Accessed { study_uid: None, what, by, .. } => of_node(what, by, at, own),
        Event::Accessed { study_uid: Some(uid), what, by, .. } => {
            let participants = vec![person(by), own.node(None, false)];
            let objects = study(uid, what, &known(uid, None));
            Some(message(INSTANCES_ACCESSED, 'R', participants, objects))
        }
        Event::RevisionClosed { study_uid, revision, .. } => {
            let known = known(study_uid, Some(*revision));
            let mut participants: Vec<Participant> = Vec::new();
            for (ae_title, host) in &known.senders {
                let (user_id, host) = (ae_title.clone(), host.clone());
                let role = Some(SOURCE);
                participants.push(Participant { user_id, role, is_requestor: true, host });
            }
            participants.push(own.node(Some(DESTINATION), false));
            let objects = study(study_uid, &format!("revision {revision}"), &known);
            Some(message(INSTANCES_TRANSFERRED, 'C', participants, objects))
        }
        Event::Delivered { study_uid, revision, artefact, destination, .. } => {
            let dicom = ["pacs.", "stow."].iter().any(|kind| destination.starts_with(kind));
            let id = if dicom { INSTANCES_TRANSFERRED } else { EXPORT };
            sent(id, study_uid, *revision, artefact, destination, "")
        }
        Event::SentOut { study_uid, revision, gateway, host, pictures, .. } => {
            let what = format!("{} pictures without identity", pictures.len());
            sent(EXPORT, study_uid, *revision, &what, gateway, host)
        }
        Event::AlertSent { study_uid, revision, channel, .. } => {
            sent(EXPORT, study_uid, *revision, "alert", channel, "")
        }
        Event::InstancesRemoved { study_uid, .. } | Event::StudyForgotten { study_uid, .. } => {
            let objects = study(study_uid, "by the rules for keeping", &Known::default());
            Some(message(STUDY_DELETED, 'D', vec![own.node(None, true)], objects))
        }
        _ => None,
    }
}

/// Of no study: the node itself, who came in, what was searched.
fn of_node(what: &str, by: &str, at: Timestamp, own: &Own) -> Option<Message> {
    let refused = what.starts_with(words::NOT_LET_IN);
    let (id, type_code, action, outcome) = match what {
        words::STARTED => (APPLICATION_ACTIVITY, Some(START), 'E', Outcome::Success),
        words::STOPPED => (APPLICATION_ACTIVITY, Some(STOP), 'E', Outcome::Success),
        "login" => (USER_AUTHENTICATION, Some(LOGIN), 'E', Outcome::Success),
        "logout" => (USER_AUTHENTICATION, Some(LOGOUT), 'E', Outcome::Success),
        "login refused" | "token refused" => {
            (USER_AUTHENTICATION, Some(LOGIN), 'E', Outcome::MinorFailure)
        }
        words::RELOADED => (SECURITY_ALERT, Some(SOFTWARE_CONFIGURATION), 'E', Outcome::Success),
        "audit log" => (AUDIT_LOG_USED, None, 'R', Outcome::Success),
        _ if refused => (SECURITY_ALERT, Some(NODE_AUTHENTICATION), 'E', Outcome::MinorFailure),
        _ if by == "accounts file" || what.starts_with(words::CHANGED) => {
            (SECURITY_ALERT, Some(SECURITY_CONFIGURATION), 'E', Outcome::Success)
        }
        _ => (QUERY, None, 'E', Outcome::Success),
    };
    let participants = match id {
        APPLICATION_ACTIVITY => vec![own.node(Some(APPLICATION), false)],
        QUERY => vec![
            Participant { role: Some(SOURCE), ..person(by) },
            own.node(Some(DESTINATION), false),
        ],
        _ => vec![person(by), own.node(None, false)],
    };
    let object = |id: &str, id_type, kind, name| {
        vec![Object { id: id.to_owned(), id_type, kind, name, classes: BTreeMap::new() }]
    };
    let objects = match id {
        AUDIT_LOG_USED => {
            let name = Name::Words("Security Audit Log".to_owned());
            object("/audit", OF_URI, ("2", "13"), name)
        }
        QUERY => object(FIND, OF_SOP_CLASS, ("2", "3"), Name::Query(what.to_owned())),
        SECURITY_ALERT => object(&own.ae_title, OF_NODE, ("2", "13"), Name::Words(what.to_owned())),
        _ => Vec::new(),
    };
    Some(Message { id, type_code, action, outcome, at, participants, objects })
}

impl Message {
    /// The document of PS3.15 A.5.1.
    pub fn xml(&self, own: &Own) -> String {
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?><AuditMessage>");
        let outcome = match self.outcome {
            Outcome::Success => "0",
            Outcome::MinorFailure => "4",
        };
        let at = self.at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let action = self.action.to_string();
        open(
            &mut out,
            "EventIdentification",
            &[
                ("EventActionCode", &action),
                ("EventDateTime", &at),
                ("EventOutcomeIndicator", outcome),
            ],
        );
        code(&mut out, "EventID", self.id);
        if let Some(type_code) = self.type_code {
            code(&mut out, "EventTypeCode", type_code);
        }
        out.push_str("</EventIdentification>");
        for participant in &self.participants {
            participant.xml(&mut out);
        }
        let site = [("AuditEnterpriseSiteID", own.site.as_str())];
        let site = site.iter().filter(|(_, site)| !site.is_empty()).copied();
        let source: Vec<_> = site.chain([("AuditSourceID", own.ae_title.as_str())]).collect();
        open(&mut out, "AuditSourceIdentification", &source);
        // RFC 3881 5.4: application server process.
        out.push_str("<AuditSourceTypeCode csd-code=\"4\"/></AuditSourceIdentification>");
        for object in &self.objects {
            object.xml(&mut out);
        }
        out.push_str("</AuditMessage>");
        out
    }
}

impl Participant {
    fn xml(&self, out: &mut String) {
        let requestor = self.is_requestor.to_string();
        let mut attributes =
            vec![("UserID", self.user_id.as_str()), ("UserIsRequestor", requestor.as_str())];
        if !self.host.is_empty() {
            let is_address = self.host.parse::<std::net::IpAddr>().is_ok();
            attributes.push(("NetworkAccessPointID", &self.host));
            attributes.push(("NetworkAccessPointTypeCode", if is_address { "2" } else { "1" }));
        }
        open(out, "ActiveParticipant", &attributes);
        if let Some(role) = self.role {
            code(out, "RoleIDCode", role);
        }
        out.push_str("</ActiveParticipant>");
    }
}

impl Object {
    fn xml(&self, out: &mut String) {
        let (kind, role) = self.kind;
        open(
            out,
            "ParticipantObjectIdentification",
            &[
                ("ParticipantObjectID", &self.id),
                ("ParticipantObjectTypeCode", kind),
                ("ParticipantObjectTypeCodeRole", role),
            ],
        );
        code(out, "ParticipantObjectIDTypeCode", self.id_type);
        let (element, text) = match &self.name {
            Name::Words(words) => ("ParticipantObjectName", words.clone()),
            Name::Query(query) => ("ParticipantObjectQuery", BASE64_STANDARD.encode(query)),
        };
        let _ = write!(out, "<{element}>{}</{element}>", escape(&text));
        for (class, instances) in &self.classes {
            let instances = instances.to_string();
            open(out, "SOPClass", &[("UID", class), ("NumberOfInstances", &instances)]);
            out.push_str("</SOPClass>");
        }
        out.push_str("</ParticipantObjectIdentification>");
    }
}

fn open(out: &mut String, element: &str, attributes: &[(&str, &str)]) {
    let _ = write!(out, "<{element}");
    for (name, value) in attributes {
        let _ = write!(out, " {name}=\"{}\"", escape(value));
    }
    out.push('>');
}

fn code(out: &mut String, element: &str, Code(code, system, meaning): Code) {
    let _ = write!(
        out,
        "<{element} csd-code=\"{code}\" codeSystemName=\"{system}\" originalText=\"{meaning}\"/>"
    );
}

/// Text of an element or an attribute; what XML cannot hold is left out.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().take(1000) {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Own {
        Own { ae_title: "PRELIM".into(), host: "node".into(), site: String::new() }
    }

    #[test]
    fn each_event_that_concerns_the_audit_is_its_message() {
        let at = Timestamp::UNIX_EPOCH;
        let uid = StudyUid::parse("1.2.3").unwrap();
        let by = |what: &str, by: &str, study_uid: Option<StudyUid>| Event::Accessed {
            study_uid,
            what: what.into(),
            by: by.into(),
            at,
        };
        let cases = [
            (by("node started", "node", None), Some(("110100", Some("110120"), 'E'))),
            (by("login", "kim (10.0.0.5)", None), Some(("110114", Some("110122"), 'E'))),
            (by("token refused", "10.0.0.5", None), Some(("110114", Some("110122"), 'E'))),
            (by("association refused: x", "CT", None), Some(("110113", Some("110126"), 'E'))),
            (
                by("changed accounts: kim removed", "chief", None),
                Some(("110113", Some("110129"), 'E')),
            ),
            (by("audit log", "kim", None), Some(("110101", None, 'R'))),
            (by("worklist", "kim", None), Some(("110112", None, 'E'))),
            (by("study page", "kim", Some(uid.clone())), Some(("110103", None, 'R'))),
            (
                Event::Delivered {
                    study_uid: uid.clone(),
                    revision: 1,
                    artefact: "sr.dcm".into(),
                    destination: "pacs.main".into(),
                    detail: String::new(),
                    unproven: false,
                    at,
                },
                Some(("110104", None, 'R')),
            ),
            (Event::FilesRemoved { study_uid: uid, at }, None),
        ];
        for (event, expected) in cases {
            let found = of_event(&event, at, &own(), &|_, _| Known::default());
            let found = found.map(|m| (m.id.0, m.type_code.map(|code| code.0), m.action));
            assert_eq!(found, expected, "{event:?}");
        }
    }

    #[test]
    fn what_came_from_outside_cannot_leave_its_place_in_the_document() {
        let by = "a\"/><x>&\u{1b}\n (10.0.0.5)".to_owned();
        let what = "login refused".to_owned();
        let event = Event::Accessed { study_uid: None, what, by, at: Timestamp::UNIX_EPOCH };
        let at = Timestamp::UNIX_EPOCH;
        let message = of_event(&event, at, &own(), &|_, _| Known::default()).unwrap();
        let xml = message.xml(&own());
        assert!(xml.contains("UserID=\"a&quot;/&gt;&lt;x&gt;&amp; (10.0.0.5)\""), "{xml}");
        assert!(xml.contains("NetworkAccessPointID=\"10.0.0.5\""), "{xml}");
        assert!(xml.contains("EventOutcomeIndicator=\"4\""), "{xml}");
    }
}

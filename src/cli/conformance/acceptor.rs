//! What is taken, from whom, and how it is answered.

use dicom_dictionary_std::uids;
use dicom_encoding::TransferSyntaxIndex as _;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use crate::cli::conformance::document::Document;
use crate::cli::conformance::name_of;
use crate::config::Settings;
use crate::dicom::elements;
use crate::dicom::negotiation;
use crate::dicom::negotiation::Rejection;
use crate::dicom::negotiation::Service;
use crate::dicom::service;
use crate::dicom::status::Status;
use crate::imaging::decode;

pub fn acceptor(settings: &Settings, out: &mut Document) {
    let config = &settings.dicom;
    out.heading(3, "4.2 AE Specification: as acceptor");
    out.text(format!("Application context name: {}.", negotiation::APPLICATION_CONTEXT));
    let checked = if config.called_ae_check {
        format!("has to be {}", config.ae_title)
    } else {
        "any".to_owned()
    };
    let of = |number: u64, what: &str| format!("{number} {what}");
    let all = [
        ("Called AE title", checked),
        ("Associations at one time", of(config.associations_max as u64, "")),
        (
            "Of one peer",
            of(config.associations_per_peer_max as u64, "unless the peer has its own limit"),
        ),
        ("Maximum PDU length that is received", of(u64::from(config.pdu_length_max), "bytes")),
        ("Largest data set", of(config.object_bytes_max, "bytes; a larger one is answered A700")),
        ("Asynchronous operations window", "answered 1, 1: one operation at a time".to_owned()),
        ("Implementation Class UID", negotiation::implementation_class_uid().to_owned()),
        ("Implementation Version Name", negotiation::IMPLEMENTATION_VERSION.to_owned()),
        ("Time for the association request (ARTIM)", of(config.artim_s, "s")),
        ("Time without a PDU on an open association", of(config.idle_s, "s, then A-ABORT")),
        ("Time for one message with its data set", of(config.message_s, "s")),
    ];
    let rows = all.map(|(what, value)| [what.to_owned(), value.trim().to_owned()]);
    out.table(["Association policy", "Value"], rows);
    who_may_associate(settings, out);
    out.text(
        "SCP/SCU role selection (54H): answered for each proposed SOP class that is served; the \
         requestor may be SCU, never SCP. A context with the requestor as SCP alone is refused (1). \
         SOP class extended negotiation (56H) for storage: answered with level 2 (full), digital \
         signature level 3, no element coercion. Common extended negotiation (57H): taken, which has \
         no answer. User identity (58H): see Security.",
    );
    presentation_contexts(settings, out);
    out.table(
        ["Status of C-STORE", "Meaning"],
        STORE_STATUSES.map(|(status, why)| [status.to_string(), why.to_owned()]),
    );
    out.text(
        "An instance that comes again with the same bytes is answered 0000 and kept once; with other \
         bytes it is kept as another version beside the first. C-ECHO is answered 0000.",
    );
}

/// What a storage request is answered with.
const STORE_STATUSES: [(Status, &str); 7] = [
    (Status::SUCCESS, "Kept"),
    (
        Status::OUT_OF_RESOURCES,
        "No space or the disk fails, or larger than the limit; may be sent again",
    ),
    (Status::MISMATCH, "SOP Class or Instance UID of command and data set differ"),
    (Status::CANNOT_UNDERSTAND, "Not to be read, nested too deeply, or a UID is missing or bad"),
    (Status::SOP_CLASS_NOT_SUPPORTED, "The SOP class is not that of the presentation context"),
    (Status::UNRECOGNIZED_OPERATION, "An operation that is not served"),
    (Status::PROCESSING_FAILURE, "A fault of this program; may be sent again"),
];

fn who_may_associate(settings: &Settings, out: &mut Document) {
    let config = &settings.dicom;
    let peers = config.peers.iter().map(|(name, peer)| {
        let any = |text: String, any: &str| if text.is_empty() { any.to_owned() } else { text };
        let addresses: Vec<String> = peer.addresses.iter().map(ToString::to_string).collect();
        let mut limits = Vec::new();
        if peer.associations_max > 0 {
            limits.push(format!("{} associations", peer.associations_max));
        }
        if peer.associations_per_minute_max > 0 {
            limits.push(format!("{} associations a minute", peer.associations_per_minute_max));
        }
        if peer.bytes_per_second_max > 0 {
            limits.push(format!("{} bytes a second", peer.bytes_per_second_max));
        }
        [
            name.clone(),
            any(peer.ae_title.as_ref().map(ToString::to_string).unwrap_or_default(), "any"),
            any(addresses.join(", "), "any"),
            any(limits.join(", "), "those of the node"),
            any(peer.users.join(", "), "none needed"),
            any(peer.transfer_syntaxes.join(", "), "those of the node"),
        ]
    });
    let loopback = match config.loopback_trusted || config.peers.is_empty() {
        true => "Callers on the same machine may associate. ",
        false => "Callers on the same machine have to be peers too. ",
    };
    let titles: Vec<&str> = config.calling_aes.iter().map(|title| title.as_str()).collect();
    let others = match (titles.is_empty(), config.peers.is_empty()) {
        (false, _) => {
            format!("The calling AE titles {} from anywhere, and peers.", titles.join(", "))
        }
        (true, true) => "No peer is configured here.".to_owned(),
        (true, false) => "Others have to be one of these peers.".to_owned(),
    };
    out.text(format!("{loopback}{others} Peers can be added while the node runs."));
    out.table(
        ["Peer", "Calling AE title", "Addresses", "Limits", "Users", "Transfer syntaxes first"],
        peers,
    );
    let rejections = REJECTIONS.map(|rejection| {
        let numbers = rejection.encode();
        let numbers = format!("{}, {}, {}", numbers[7], numbers[8], numbers[9]);
        [rejection.as_str().to_owned(), numbers]
    });
    out.table(["An association is rejected for", "Result, source, reason"], rejections);
}

const REJECTIONS: [Rejection; 11] = [
    Rejection::ProtocolVersion,
    Rejection::ApplicationContext,
    Rejection::CalledAe,
    Rejection::CallingAe,
    Rejection::Stranger,
    Rejection::Address,
    Rejection::NoContext,
    Rejection::PduLength,
    Rejection::User,
    Rejection::LocalLimit,
    Rejection::Congestion,
];

fn presentation_contexts(settings: &Settings, out: &mut Document) {
    let config = &settings.dicom;
    let policy = config.policy();
    out.text(
        "Table 4.2-1: abstract syntaxes for storage, each with every transfer syntax of table 4.2-2, \
         as SCP. Other UIDs under 1.2.840.10008.5.1.4.1.1 that later editions assign to storage are \
         taken as well.",
    );
    let storage = negotiation::STORAGE_CLASSES.lines().filter_map(|line| line.split_once(' '));
    let stored = storage.filter(|(uid, _)| policy.service(uid) == Some(Service::Storage));
    out.table(["SOP class", "UID"], stored.map(|(uid, name)| [name.to_owned(), uid.to_owned()]));
    out.text(match config.unknown_sop_classes {
        true => "Private SOP classes (UIDs outside of 1.2.840.10008) are stored, too.",
        false => "Private SOP classes are refused (3).",
    });
    out.text(
        "Table 4.2-2: transfer syntaxes, the preferred first; one is chosen for each context. The \
         last column says whether pictures in it are decoded for reading; all are kept as they come.",
    );
    let mut listed: Vec<&str> = config.transfer_syntaxes.iter().map(String::as_str).collect();
    let mut others: Vec<&str> = TransferSyntaxRegistry.iter().map(|ts| ts.uid()).collect();
    others.sort_by_key(|uid| uid.split('.').map(|n| n.parse().unwrap_or(0)).collect::<Vec<u32>>());
    others.retain(|uid| !listed.contains(uid));
    let preferred = listed.len();
    listed.extend(others);
    let row = |(i, uid): (usize, &str)| {
        let known = TransferSyntaxRegistry.get(uid);
        let place =
            if i < preferred { (i + 1).to_string() } else { "if nothing better".to_owned() };
        let decoded = if decode::is_decoded(uid) { "Yes" } else { "No" };
        let name = known.map(|ts| ts.name()).unwrap_or("retired JPEG process");
        [place, name.to_owned(), uid.to_owned(), decoded.to_owned()]
    };
    out.table(
        ["Preference", "Transfer syntax", "UID", "Decoded"],
        listed.into_iter().enumerate().map(row),
    );
    out.text("The retired JPEG processes (1.2.840.10008.1.2.4.52 to 66) are taken as well.");
    let plain = elements::SYNTAXES.join(", ");
    let mut rows = vec![[
        name_of(uids::VERIFICATION).to_owned(),
        uids::VERIFICATION.to_owned(),
        "as table 4.2-2".to_owned(),
    ]];
    for uid in service::SERVICES {
        rows.push([name_of(uid).to_owned(), uid.to_owned(), plain.clone()]);
    }
    out.table(["Other abstract syntaxes as SCP", "UID", "Transfer syntaxes"], rows);
}

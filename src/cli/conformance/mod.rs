//! `prelim conformance`: the DICOM conformance statement (PS3.2) of a configuration, from the
//! tables that the program negotiates with.

mod document;

use std::path::PathBuf;
use std::process::ExitCode;

use dicom_dictionary_std::uids;
use dicom_encoding::TransferSyntaxIndex as _;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use crate::cli::conformance::document::Document;
use crate::config;
use crate::config::Settings;
use crate::config::Sources;
use crate::dicom::charset;
use crate::dicom::elements;
use crate::dicom::negotiation;
use crate::dicom::negotiation::Rejection;
use crate::dicom::negotiation::Service;
use crate::dicom::service;
use crate::dicom::status::Status;
use crate::dicom::tls;
use crate::dicom::tls::ClientCertificates;
use crate::dicom::tls::Version;
use crate::dicom::tls_client;
use crate::imaging::decode;
use crate::store::Durability;

/// Print the DICOM conformance statement of a configuration
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  prelim conformance --config /etc/prelim/prelim.toml --html > \
    conformance.html")]
pub struct Args {
    /// Settings file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A setting that replaces the file's, as `prelim serve` takes it
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// As HTML instead of Markdown
    #[arg(long)]
    html: bool,
}

const TITLE: &str = "Prelim: DICOM Conformance Statement";

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    use std::io::Write as _;
    let sources = Sources { file: args.config.as_deref(), environment: true, set: &args.set };
    let document = statement(&config::load(&sources)?);
    let text = if args.html { document.html(TITLE) } else { document.markdown() };
    // A reader such as `head` that has seen enough is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// In the order of PS3.2 Annex A.
fn statement(settings: &Settings) -> Document {
    let mut out = Document::default();
    overview(settings, &mut out);
    introduction(&mut out);
    out.heading(2, "4 Networking");
    model(settings, &mut out);
    acceptor(settings, &mut out);
    services(&mut out);
    requestor(settings, &mut out);
    interfaces(settings, &mut out);
    configuration(settings, &mut out);
    out.heading(2, "5 Media Interchange");
    out.text("Not supported: no application profile for media storage.");
    character_sets(&mut out);
    security(settings, &mut out);
    annexes(settings, &mut out);
    out
}

fn overview(settings: &Settings, out: &mut Document) {
    out.heading(1, TITLE);
    out.text(format!(
        "Prelim {}. It receives instances by C-STORE, keeps them as they came, writes a preliminary \
         reading by software, and sends structured reports and Encapsulated PDF objects to archives. \
         It is for research use and no medical device.",
        env!("CARGO_PKG_VERSION")
    ));
    out.heading(2, "1 Overview");
    let row = |what: &str, uid: &str, scu: bool, scp: bool| {
        let yes = |does| if does { "Yes" } else { "No" }.to_owned();
        [what.to_owned(), uid.to_owned(), yes(scu), yes(scp)]
    };
    let sends = !settings.deliver.pacs.is_empty();
    let asks = settings.assemble.query.target().is_some();
    let mut rows = vec![
        row("Verification", uids::VERIFICATION, true, true),
        row("All storage SOP classes of table 4.2-1", "", false, true),
        row("Comprehensive 3D SR Storage", uids::COMPREHENSIVE3_DSR_STORAGE, sends, true),
        row("Comprehensive SR Storage", uids::COMPREHENSIVE_SR_STORAGE, sends, true),
        row("Encapsulated PDF Storage", uids::ENCAPSULATED_PDF_STORAGE, sends, true),
    ];
    rows.extend(service::SERVICES.iter().map(|uid| row(name_of(uid), uid, false, true)));
    rows.push(row(
        "Study Root Query/Retrieve Information Model - FIND",
        uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
        asks,
        false,
    ));
    rows.push(row(
        "Modality Worklist Information Model - FIND",
        uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND,
        settings.orders.worklist.target().is_some(),
        false,
    ));
    out.table(["Network service", "SOP Class UID", "As SCU", "As SCP"], rows);
}

fn introduction(out: &mut Document) {
    out.heading(2, "3 Introduction");
    out.text(
        "For those who connect a device or an archive. Terms are those of the DICOM standard. \
         Conformance does not by itself make two applications work together: test with the peer. \
         This text was generated from the configuration that is described and from the tables that \
         the program negotiates with.",
    );
}

fn name_of(uid: &str) -> &'static str {
    match uid {
        uids::VERIFICATION => "Verification",
        uids::STORAGE_COMMITMENT_PUSH_MODEL => "Storage Commitment Push Model",
        uids::MODALITY_PERFORMED_PROCEDURE_STEP => "Modality Performed Procedure Step",
        uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND => {
            "Study Root Query/Retrieve Information Model - FIND"
        }
        _ => "",
    }
}

fn model(settings: &Settings, out: &mut Document) {
    let ae = &settings.dicom.ae_title;
    let synced = match settings.store.durability {
        Durability::Durable => "after its bytes and its receipt are synced on disk",
        Durability::Relaxed => {
            "after it is written; it is synced within 50 ms and before the association ends or a \
             storage commitment is answered"
        }
    };
    out.heading(3, "4.1 Implementation Model");
    out.text(format!(
        "One application entity, {ae}. As acceptor it takes instances, storage commitment requests \
         and performed procedure steps; a C-STORE is answered with success {synced}. As requestor it sends its results to archives, asks an archive \
         how many instances a study has, and reports storage commitments, each where that is \
         configured. Results follow a study that is complete: an expected number of instances is \
         there, or nothing has come for a time."
    ));
    out.text(
        "The data set of an instance is kept and given on byte for byte; no element is changed, \
         coerced or removed.",
    );
}

fn acceptor(settings: &Settings, out: &mut Document) {
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

fn services(out: &mut Document) {
    out.heading(3, "4.2.3 Storage Commitment and Performed Procedure Step as SCP");
    out.text(
        "Storage Commitment: N-ACTION with Action Type 1 is answered after the request is durable; \
         the result, from what is durable, follows by N-EVENT-REPORT on the same association if it \
         stays open, else on a new one to the configured address of the requester. Instances that \
         are not held are reported as failed (event type 2).",
    );
    out.text(
        "Modality Performed Procedure Step: N-CREATE and N-SET are kept and give the number of \
         instances to expect. N-GET and event notification are not supported.",
    );
}

fn requestor(settings: &Settings, out: &mut Document) {
    out.heading(3, "4.2.4 AE Specification: as requestor");
    let mut rows = Vec::new();
    for (name, pacs) in &settings.deliver.pacs {
        let classes: Vec<&str> = pacs.artefacts.iter().map(|one| one.sop_class_uid()).collect();
        rows.push([
            format!("C-STORE of results to {name}"),
            format!("{} at {}", pacs.ae_title, pacs.address),
            pacs.calling_ae.to_string(),
            classes.join(", "),
            over_tls(pacs.tls.as_ref()),
        ]);
    }
    let own = settings.dicom.ae_title.to_string();
    if let Some((title, address)) = settings.assemble.query.target() {
        let find = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND.to_owned();
        rows.push([
            "C-FIND for the number of instances of a study".to_owned(),
            format!("{title} at {address}"),
            own.clone(),
            find,
            over_tls(settings.assemble.query.tls.as_ref()),
        ]);
    }
    if let Some((title, address)) = settings.orders.worklist.target() {
        rows.push([
            "C-FIND for the order of a study, by its UID, accession number or Patient ID"
                .to_owned(),
            format!("{title} at {address}"),
            own.clone(),
            uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND.to_owned(),
            over_tls(settings.orders.worklist.tls.as_ref()),
        ]);
    }
    for peer in settings.commitment.peers.values() {
        rows.push([
            "N-EVENT-REPORT of storage commitments (role SCP proposed)".to_owned(),
            format!("{} at {}", peer.ae_title, peer.address),
            own.clone(),
            uids::STORAGE_COMMITMENT_PUSH_MODEL.to_owned(),
            over_tls(peer.tls.as_ref()),
        ]);
    }
    match rows.is_empty() {
        true => out.text("Nothing is configured that opens associations by itself."),
        false => out.table(["What", "Peer", "Calling as", "SOP classes", "TLS"], rows),
    }
    out.text(
        "One presentation context for each SOP class and transfer syntax. Results are written in \
         Explicit VR Little Endian and sent as they are. A failed try is made again for 72 hours \
         where the status or the connection says that it may succeed.",
    );
}

fn over_tls(tls: Option<&tls_client::Config>) -> String {
    match tls {
        None => "no".to_owned(),
        Some(tls) => {
            let own = if tls.certificate_file.is_some() { "a" } else { "no" };
            format!("{} and later, {own} certificate of ours", tls.version_min.as_str())
        }
    }
}

/// The `tls` tables of all whom we call.
fn tls_clients(settings: &Settings) -> Vec<&tls_client::Config> {
    let archives = settings.deliver.pacs.values().filter_map(|pacs| pacs.tls.as_ref());
    let requesters = settings.commitment.peers.values().filter_map(|peer| peer.tls.as_ref());
    let query = &settings.assemble.query;
    let asked = query.tls.iter().filter(|_| query.target().is_some());
    let worklist = &settings.orders.worklist;
    let ordered = worklist.tls.iter().filter(|_| worklist.target().is_some());
    archives.chain(requesters).chain(asked).chain(ordered).collect()
}

fn interfaces(settings: &Settings, out: &mut Document) {
    out.heading(3, "4.3 Network Interfaces");
    let off = |address: &str| if address.is_empty() { "off" } else { address }.to_owned();
    out.table(
        ["TCP/IP, IPv4 and IPv6", "Address and port"],
        [
            ["DICOM".to_owned(), off(&settings.dicom.listen)],
            ["DICOM over TLS".to_owned(), off(&settings.dicom.tls.listen)],
            ["HL7 v2 (MLLP)".to_owned(), off(&settings.hl7.listen)],
            ["HL7 v2 over TLS".to_owned(), off(&settings.hl7.tls.listen)],
            ["Web page and API (HTTP)".to_owned(), settings.http.listen.to_string()],
        ],
    );
}

fn configuration(settings: &Settings, out: &mut Document) {
    out.heading(3, "4.4 Configuration");
    out.text(format!(
        "The AE title ({}), ports, peers, limits, transfer syntaxes and destinations are set in one \
         file; prelim check-config names every mistake in it. Peers and certificates are read again \
         while the node runs.",
        settings.dicom.ae_title
    ));
}

fn character_sets(out: &mut Document) {
    out.heading(2, "6 Support of Character Sets");
    out.text(
        "Received data sets are kept as they came. Their text is decoded for lists and reports with \
         ISO 2022 code extensions; what cannot be decoded is shown as U+FFFD. Objects written by \
         Prelim are in ISO_IR 192 (UTF-8) where the default repertoire is not enough.",
    );
    let row = |(terms, what): &(&str, &str)| [(*terms).to_owned(), (*what).to_owned()];
    out.table(["Defined terms", "Repertoire"], charset::SUPPORTED.iter().map(row));
}

fn security(settings: &Settings, out: &mut Document) {
    let config = &settings.dicom;
    out.heading(2, "7 Security");
    let tls = &config.tls;
    match tls.is_on() {
        false => out.text("DICOM over TLS is not switched on as acceptor."),
        true => {
            out.text(format!(
                "DICOM over TLS {} and later, after the BCP 195 secure transport connection profile \
                 (PS3.15 B.9), on {}. Certificates of peers: {}.{}",
                tls.version_min.as_str(),
                tls.listen,
                match tls.client_certificates {
                    ClientCertificates::Required => "required",
                    ClientCertificates::Optional => "checked where there is one",
                    ClientCertificates::None => "not asked for",
                },
                if config.listen.is_empty() { " There is no port without TLS." } else { "" }
            ));
        }
    }
    let clients = tls_clients(settings);
    match clients.is_empty() {
        true => out.text("Associations that it opens are not over TLS."),
        false => out.text(
            "Associations that it opens are over TLS, by the same profile, where the table in 4.2.4 \
             says so, and then never without. The peer's certificate has to be signed by a root of \
             the settings and to hold the name or address that is called, or the one that is set, as \
             Subject Alternative Name; revocation is not checked. A certificate of ours is shown to \
             a peer that asks for one, where it is set.",
        ),
    }
    let mut spoken: Vec<Version> = clients.iter().map(|client| client.version_min).collect();
    spoken.extend(tls.is_on().then_some(tls.version_min));
    let with_tls12 = spoken.contains(&Version::Tls12);
    let suites = tls::provider().cipher_suites.clone();
    let used = suites
        .into_iter()
        .filter(|suite| with_tls12 || !spoken.is_empty() && suite.tls13().is_some());
    out.table(["Cipher suites"], used.map(|suite| [format!("{:?}", suite.suite())]));
    let users: Vec<&str> = config.users.keys().map(String::as_str).collect();
    out.text(match (users.is_empty(), config.user_identity_required) {
        (true, _) => "User identity: names and passcodes (types 1 and 2) are passed over, because no \
             user is configured; a positive response is given when it is asked for."
            .to_owned(),
        (false, required) => format!(
            "User identity: names (type 1) and passcodes (type 2) are checked against {} configured \
             users{}; a positive response is given when it is asked for.",
            users.len(),
            if required { ", and each association needs one" } else { "" }
        ),
    });
    out.text(
        "Kerberos tickets, SAML assertions and JSON web tokens (types 3 to 5) are rejected: nothing \
         here could check them. Every receipt, refusal, delivery and look at patient data is logged.",
    );
}

fn annexes(settings: &Settings, out: &mut Document) {
    out.heading(2, "8 Annexes");
    out.heading(3, "8.1 IOD Contents");
    out.text(
        "Comprehensive 3D SR and Comprehensive SR: template TID 1500 with the findings, coded where \
         the finding table has a code, marked as unverified. Encapsulated PDF: the report for people. \
         Both stand in the study that was read, with patient and study attributes as received; a \
         second run makes the same SOP Instance UID.",
    );
    out.table(
        ["Attribute", "Value"],
        [
            ["Manufacturer's Model Name (0008,1090)".to_owned(), "Prelim".to_owned()],
            ["Station Name (0008,1010)".to_owned(), settings.dicom.ae_title.to_string()],
            ["Verification Flag (0040,A493)".to_owned(), "UNVERIFIED".to_owned()],
        ],
    );
    out.heading(3, "8.2 Data Dictionary of Private Attributes");
    out.text("None are written.");
    out.heading(3, "8.3 Standard Extended, Specialized, Private SOP Classes and Transfer Syntaxes");
    out.text("None are written.");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(set: &[&str]) -> String {
        let set: Vec<String> = set.iter().map(|&one| one.to_owned()).collect();
        let sources = Sources { file: None, environment: false, set: &set };
        statement(&config::load(&sources).unwrap()).markdown()
    }

    /// What is printed is what is negotiated.
    #[test]
    fn the_statement_follows_the_settings() {
        let plain = text(&[]);
        for said in [
            "# Prelim: DICOM Conformance Statement",
            "| CT Image Storage | 1.2.840.10008.5.1.4.1.1.2 |",
            "| 9 | Explicit VR Little Endian | 1.2.840.10008.1.2.1 | Yes |",
            "| Storage Commitment Push Model | 1.2.840.10008.1.20.1 | No | Yes |",
            "Private SOP classes are refused",
            "DICOM over TLS is not switched on as acceptor",
            "Associations that it opens are not over TLS.",
            "| called AE title | 1, 1, 7 |",
            "ISO 2022 IR 149",
            "No peer is configured here",
        ] {
            assert!(plain.contains(said), "no '{said}' in\n{plain}");
        }
        assert_eq!(plain.matches("| 1.2.840.10008.5.1.4.1.1.").count(), 214 - 11 + 3);
        let other = text(&[
            "dicom.ae_title=AI1",
            "dicom.unknown_sop_classes=true",
            "dicom.pdu_length_max=65536",
            "dicom.peers.ct1={ae_title=\"CT1\", addresses=[\"10.0.0.0/24\"], associations_max=4}",
            "dicom.users.ct={}",
            "dicom.tls.listen=0.0.0.0:2762",
            "dicom.tls.certificate_file=/x",
            "dicom.tls.key_file=/x",
            "dicom.tls.client_ca_file=/x",
            "dicom.tls.version_min=\"1.3\"",
            "deliver.pacs.main={ae_title=\"PACS\", address=\"pacs:104\"}",
        ]);
        for said in [
            "One application entity, AI1",
            "outside of 1.2.840.10008) are stored",
            "65536 bytes",
            "| ct1 | CT1 | 10.0.0.0/24 | 4 associations |",
            "checked against 1 configured",
            "DICOM over TLS 1.3 and later",
            "| TLS13_AES_256_GCM_SHA384 |",
            "| C-STORE of results to main | PACS at pacs:104 | PRELIM |",
            " | no |\n",
        ] {
            assert!(other.contains(said), "no '{said}' in\n{other}");
        }
        assert!(!other.contains("TLS_ECDHE"), "TLS 1.2 is off");

        let files = crate::dicom::tls::tests::Files::new();
        let [ca, cert, key] = ["ca.crt", "client.crt", "client.key"].map(|name| files.at(name));
        let outward = text(&[
            "deliver.pacs.main={ae_title=\"PACS\", address=\"pacs:104\"}",
            &format!("deliver.pacs.main.tls.ca_file={}", ca.display()),
            &format!("deliver.pacs.main.tls.certificate_file={}", cert.display()),
            &format!("deliver.pacs.main.tls.key_file={}", key.display()),
            "assemble.query.archive=PACS@pacs:104",
            &format!("assemble.query.tls.ca_file={}", ca.display()),
            "assemble.query.tls.version_min=\"1.3\"",
        ]);
        for said in [
            "| 1.2 and later, a certificate of ours |",
            "| 1.3 and later, no certificate of ours |",
            "and then never without",
            "| TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 |",
        ] {
            assert!(outward.contains(said), "no '{said}' in\n{outward}");
        }
    }
}

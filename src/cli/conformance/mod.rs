//! `prelim conformance`: the DICOM conformance statement (PS3.2) of a configuration, from the
//! tables that the program negotiates with.

mod acceptor;
mod document;
mod requestor;
mod security;
mod services;

use std::path::PathBuf;
use std::process::ExitCode;

use dicom_dictionary_std::uids;

use crate::cli::conformance::document::Document;
use crate::config;
use crate::config::Settings;
use crate::config::Sources;
use crate::deliver::pacs::Artefact;
use crate::dicom::charset;
use crate::dicom::negotiation;
use crate::dicom::service;
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
    acceptor::acceptor(settings, &mut out);
    services::commitment_and_performed_step(&mut out);
    requestor::requestor(settings, &mut out);
    interfaces(settings, &mut out);
    configuration(settings, &mut out);
    services::dicomweb(settings, &mut out);
    services::messages(settings, &mut out);
    out.heading(2, "5 Media Interchange");
    out.text("Not supported: no application profile for media storage.");
    character_sets(&mut out);
    security::security(settings, &mut out);
    annexes(settings, &mut out);
    out
}

fn overview(settings: &Settings, out: &mut Document) {
    out.heading(1, TITLE);
    out.text(format!(
        "Prelim {}. It receives instances by C-STORE, keeps them as they came, writes a preliminary \
         reading by software, and sends its results to archives: structured reports, Encapsulated PDF, \
         key images, presentation states, key object selections and segmentations. It is for research \
         use and no medical device.",
        env!("CARGO_PKG_VERSION")
    ));
    out.heading(2, "1 Overview");
    let row = |what: &str, uid: &str, scu: bool, scp: bool| {
        let yes = |does| if does { "Yes" } else { "No" }.to_owned();
        [what.to_owned(), uid.to_owned(), yes(scu), yes(scp)]
    };
    let mut rows = vec![
        row("Verification", uids::VERIFICATION, true, true),
        row("All storage SOP classes of table 4.2-1", "", false, true),
    ];
    let sent = requestor::sent(settings);
    rows.extend(Artefact::ALL.map(|one| {
        row(name_of(one.sop_class_uid()), one.sop_class_uid(), sent.contains(&one), true)
    }));
    let asked = requestor::asked(settings);
    rows.extend(
        service::SERVICES.iter().map(|uid| row(name_of(uid), uid, asked.contains(uid), true)),
    );
    for find in [
        uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
        uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND,
    ] {
        rows.push(row(name_of(find), find, asked.contains(&find), false));
    }
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
        uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND => {
            "Modality Worklist Information Model - FIND"
        }
        _ => {
            let mut storage =
                negotiation::STORAGE_CLASSES.lines().filter_map(|l| l.split_once(' '));
            storage.find(|(known, _)| *known == uid).map_or("", |(_, name)| name)
        }
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
         and performed procedure steps; a C-STORE is answered with success {synced}. As requestor it sends its results to archives and asks them whether they have each, asks an \
         archive how many instances a study has and a worklist for its order, and reports storage \
         commitments, each where that is configured. Results follow a study that is complete: an expected number of instances is \
         there, or nothing has come for a time."
    ));
    out.text(
        "The data set of an instance is kept and given on byte for byte; no element is changed, \
         coerced or removed.",
    );
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

fn annexes(settings: &Settings, out: &mut Document) {
    out.heading(2, "8 Annexes");
    out.heading(3, "8.1 IOD Contents");
    out.text(
        "All stand in the study that was read, with patient and study attributes as received; a second \
         run makes the same SOP Instance UIDs. Structured reports of a later reading name those that \
         they replace (0040,A360).",
    );
    out.table(
        ["Written", "SOP class", "What it is"],
        Artefact::ALL.map(|one| {
            [
                one.as_str().to_owned(),
                name_of(one.sop_class_uid()).to_owned(),
                contents(one).to_owned(),
            ]
        }),
    );
    out.table(
        ["Attribute", "Value"],
        [
            ["Manufacturer's Model Name (0008,1090)".to_owned(), "Prelim".to_owned()],
            ["Station Name (0008,1010)".to_owned(), settings.dicom.ae_title.to_string()],
            ["Verification Flag (0040,A493)".to_owned(), "UNVERIFIED".to_owned()],
            ["Preliminary Flag (0040,A496)".to_owned(), "PRELIMINARY".to_owned()],
        ],
    );
    out.heading(3, "8.2 Data Dictionary of Private Attributes");
    out.text("None are written.");
    out.heading(3, "8.3 Standard Extended, Specialized, Private SOP Classes and Transfer Syntaxes");
    out.text("None are written.");
}

fn contents(artefact: Artefact) -> &'static str {
    match artefact {
        Artefact::Sr | Artefact::SrComprehensive | Artefact::SrEnhanced => {
            "Template TID 1500 with the findings, coded where the finding table has a code, marked as \
             unverified"
        }
        Artefact::SrText => "The text of the report, template TID 2000",
        Artefact::Pdf => "The report for people",
        Artefact::KeyImages => "Images with findings, their regions burned in",
        Artefact::Gsps => "The regions as graphics over the images; of greyscale images alone",
        Artefact::Kos => "Which images have findings",
        Artefact::Seg => "The pixels of a finding, where a model gave a mask; binary",
    }
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
            "| Segmentation Storage | 1.2.840.10008.5.1.4.1.1.66.4 | No | Yes |",
            "| Modality Worklist Information Model - FIND | 1.2.840.10008.5.1.4.31 | No | No |",
            "| Search (QIDO-RS) |",
            "ModalitiesInStudy",
            "As user agent: no archive is configured.",
            "No port for HL7 is switched on.",
            "No receiver of messages is configured.",
            "No audit record repository is configured",
        ] {
            assert!(plain.contains(said), "no '{said}' in\n{plain}");
        }
        assert_eq!(plain.matches("| 1.2.840.10008.5.1.4.1.1.").count(), 214 - 11 + 9);
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
            "deliver.pacs.main={ae_title=\"PACS\", address=\"pacs:104\", artefacts=[\"sr-text\"]}",
            "deliver.stow.cloud={url=\"https://web/dicom-web\", proof=\"find\"}",
            "deliver.mllp.ris={address=\"ris:2575\"}",
            "deliver.fhir.r4={url=\"https://fhir/r4\"}",
            "hl7.listen=0.0.0.0:2575",
            "http.dicomweb.enabled=false",
            "audit.syslog={address=\"arr:514\", transport=\"udp\", patient_id=true}",
        ]);
        for said in [
            "One application entity, AI1",
            "outside of 1.2.840.10008) are stored",
            "65536 bytes",
            "| ct1 | CT1 | 10.0.0.0/24 | 4 associations |",
            "checked against 1 configured",
            "DICOM over TLS 1.3 and later",
            "| TLS13_AES_256_GCM_SHA384 |",
            "| C-STORE of results to main | PACS at pacs:104 | PRELIM | 1.2.840.10008.5.1.4.1.1.88.11, \
             1.2.840.10008.5.1.4.1.1.104.1, 1.2.840.10008.5.1.4.1.1.7 | no |\n",
            "| Whether main has what it took | PACS at pacs:104 |",
            "| Basic Text SR Storage | 1.2.840.10008.5.1.4.1.1.88.11 | Yes | Yes |",
            "| Comprehensive 3D SR Storage | 1.2.840.10008.5.1.4.1.1.88.34 | No | Yes |",
            "| Storage Commitment Push Model | 1.2.840.10008.1.20.1 | Yes | Yes |",
            "As origin server: not switched on.",
            "| cloud | https://web/dicom-web |",
            "| ris | ris:2575 | ORU^R01",
            "| r4 | https://fhir/r4 | FHIR R4 transaction",
            "Taken over MLLP",
            "They go to arr:514 by the SYSLOG-UDP transport profile (A.7). The patient is named by",
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

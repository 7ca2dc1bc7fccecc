//! What it serves beside storage, and how it speaks to others by HTTP and HL7.

use crate::cli::conformance::document::Document;
use crate::cli::conformance::requestor::over_tls;
use crate::config::Settings;
use crate::deliver::fhir;
use crate::deliver::stow;
use crate::web::dicomweb as web;

pub fn commitment_and_performed_step(out: &mut Document) {
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

/// PS3.18: as origin server, and as user agent.
pub fn dicomweb(settings: &Settings, out: &mut Document) {
    out.heading(3, "4.5 DICOM Web Services");
    let config = &settings.http.dicomweb;
    match config.enabled {
        false => out.text("As origin server: not switched on."),
        true => {
            let scheme = if settings.http.tls.is_on() { "https" } else { "http" };
            out.text(format!(
                "As origin server (PS3.18 10.4 to 10.6) at {scheme}://{}{}, for those who may see the \
                 pages or have a token with the right.",
                settings.http.listen,
                web::ROOT
            ));
            out.table(["Transaction", "Resources", "Media types", "Limits"], origin(settings));
            out.table(
                ["Level", "Attributes that a search matches there and below"],
                web::matched().map(|(level, names)| [level.to_owned(), names.join(", ")]),
            );
            out.text(
                "Matching: single value, list of UIDs, wildcard (* and ?), range of dates and times, \
                 universal; fuzzymatching is not supported and said to be so (Warning 299). A key that \
                 is not held is refused with 400: an answer without it would hold more than was asked \
                 for. includefield gives what is held. Not supported: UPS-RS, WADO-URI, Delete, \
                 Capabilities.",
            );
        }
    }
    let archives = settings.deliver.stow.iter().map(|(name, archive)| {
        let classes: Vec<&str> = archive.artefacts.iter().map(|one| one.sop_class_uid()).collect();
        let proof = match archive.proof {
            stow::Proof::Auto => "QIDO-RS where it is offered, else the answer",
            stow::Proof::Find => "QIDO-RS",
            stow::Proof::Status => "the answer",
        };
        [name.clone(), archive.url.clone(), classes.join(", "), proof.to_owned()]
    });
    match settings.deliver.stow.is_empty() {
        true => out.text("As user agent: no archive is configured."),
        false => {
            out.text("As user agent: STOW-RS of results, one instance in each request.");
            out.table(["Archive", "URL", "SOP classes", "Shown to be kept by"], archives);
        }
    }
}

fn origin(settings: &Settings) -> [[String; 4]; 4] {
    let config = &settings.http.dicomweb;
    let row = |all: [&str; 3], limits: String| {
        let [what, resources, media] = all.map(str::to_owned);
        [what, resources, media, limits]
    };
    let object = settings.dicom.object_bytes_max;
    [
        row(
            [
                "Store (STOW-RS)",
                "studies, study",
                "application/dicom, alone or in multipart/related",
            ],
            format!("{object} bytes for an instance; {} requests at one time", config.stores_max),
        ),
        row(
            ["Search (QIDO-RS)", "studies, series, instances", "application/dicom+json"],
            format!("{} results, {} unless asked", config.results_max, config.results_default),
        ),
        row(
            [
                "Retrieve (WADO-RS)",
                "study, series, instance, metadata, frames, bulkdata",
                "application/dicom, application/dicom+json, application/octet-stream, and the image \
                 type of the stored frames; as stored (transfer-syntax=*) or Explicit VR Little Endian",
            ],
            format!("{} answers at one time", config.answers_max),
        ),
        row(
            [
                "Retrieve rendered",
                "study, series, instance, frames: rendered, thumbnail",
                "image/jpeg, image/png, application/pdf of an Encapsulated PDF; window, viewport and \
                 quality",
            ],
            format!("{} answers at one time", config.answers_max),
        ),
    ]
}

/// HL7 v2 and FHIR.
pub fn messages(settings: &Settings, out: &mut Document) {
    out.heading(3, "4.6 HL7 v2 and FHIR");
    let listens = !settings.hl7.listen.is_empty() || !settings.hl7.tls.listen.is_empty();
    out.text(match listens {
        true => "Taken over MLLP: orders (ORM^O01, OMI^O23) and final reports (ORU^R01), v2.2 to v2.5.1; \
                 the acknowledgement is given after the message is durable, anything else is rejected (AR).",
        false => "No port for HL7 is switched on.",
    });
    let mut rows = Vec::new();
    for (name, config) in &settings.deliver.mllp {
        let what = "ORU^R01 v2.5.1 (ORU_R01), one for each revision";
        let what = if config.pdf { format!("{what}, with the PDF") } else { what.to_owned() };
        rows.push([name.clone(), config.address.clone(), what, over_tls(config.tls.as_ref())]);
    }
    for (name, config) in &settings.deliver.fhir {
        let what = match config.patient {
            fhir::Patient::Reference => "the patient by identifier",
            fhir::Patient::Create => "the patient made where there is none",
        };
        let what = format!(
            "FHIR R4 transaction: DiagnosticReport, Observation, ImagingStudy, Device, Provenance, Task \
             for what is critical; {what}"
        );
        let tls = if config.url.starts_with("https:") { "yes" } else { "no" };
        rows.push([name.clone(), config.url.clone(), what, tls.to_owned()]);
    }
    match rows.is_empty() {
        true => out.text("No receiver of messages is configured."),
        false => out.table(["Receiver", "Address", "What", "TLS"], rows),
    }
}

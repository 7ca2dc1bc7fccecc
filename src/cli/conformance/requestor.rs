//! Whom the node calls by itself, and what for.

use dicom_dictionary_std::uids;

use crate::cli::conformance::document::Document;
use crate::config::Settings;
use crate::deliver::pacs;
use crate::deliver::pacs::Artefact;
use crate::deliver::pacs::Proof;
use crate::dicom::tls_client;
use crate::domain::ae_title::AeTitle;

/// What an archive may be sent: also what says the same, where it takes none of a kind.
fn sent_to(pacs: &pacs::Config) -> Vec<Artefact> {
    let may = |wanted: &Artefact, one: Artefact| {
        let next = |artefact: &Artefact| artefact.fallback().filter(|_| pacs.fallback);
        std::iter::successors(Some(*wanted), next).any(|artefact| artefact == one)
    };
    let is_sent = |one: &Artefact| pacs.artefacts.iter().any(|wanted| may(wanted, *one));
    Artefact::ALL.into_iter().filter(is_sent).collect()
}

/// What any archive may be sent.
pub fn sent(settings: &Settings) -> Vec<Artefact> {
    settings.deliver.pacs.values().flat_map(sent_to).collect()
}

/// By which services an archive shows that it has an object, in the order in which they are tried.
fn questions(proof: Proof) -> &'static [&'static str] {
    const FIND: &str = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND;
    const COMMITMENT: &str = uids::STORAGE_COMMITMENT_PUSH_MODEL;
    match proof {
        Proof::Auto => &[FIND, COMMITMENT],
        Proof::Find => &[FIND],
        Proof::Commitment => &[COMMITMENT],
        Proof::Status => &[],
    }
}

/// SOP classes of the services, beside storage, that others are asked for.
pub fn asked(settings: &Settings) -> Vec<&'static str> {
    let archives = settings.deliver.pacs.values().flat_map(|pacs| questions(pacs.proof)).copied();
    let counted = settings.assemble.query.target();
    let ordered = settings.orders.worklist.target();
    archives
        .chain(counted.map(|_| uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND))
        .chain(ordered.map(|_| uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND))
        .collect()
}

pub fn requestor(settings: &Settings, out: &mut Document) {
    out.heading(3, "4.2.4 AE Specification: as requestor");
    let mut rows = Vec::new();
    let mut add =
        |what: &str, peer: (&AeTitle, &str), as_title: &AeTitle, classes: &[&str], tls| {
            rows.push([
                what.to_owned(),
                format!("{} at {}", peer.0, peer.1),
                as_title.to_string(),
                classes.join(", "),
                over_tls(tls),
            ]);
        };
    let archives = &settings.deliver.pacs;
    for (name, pacs) in archives {
        let classes: Vec<&str> = sent_to(pacs).iter().map(|one| one.sop_class_uid()).collect();
        let (peer, tls) = ((&pacs.ae_title, &*pacs.address), pacs.tls.as_ref());
        add(&format!("C-STORE of results to {name}"), peer, &pacs.calling_ae, &classes, tls);
    }
    for (name, pacs) in archives.iter().filter(|(_, pacs)| !questions(pacs.proof).is_empty()) {
        let (peer, tls) = ((&pacs.ae_title, &*pacs.address), pacs.tls.as_ref());
        let what = format!("Whether {name} has what it took");
        add(&what, peer, &pacs.calling_ae, questions(pacs.proof), tls);
    }
    let own = &settings.dicom.ae_title;
    let (query, worklist) = (&settings.assemble.query, &settings.orders.worklist);
    if let Some((title, address)) = query.target() {
        let what = "C-FIND for the number of instances of a study";
        let find = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND;
        add(what, (&title, &address), own, &[find], query.tls.as_ref());
    }
    if let Some((title, address)) = worklist.target() {
        let what = "C-FIND for the order of a study, by its UID, accession number or Patient ID";
        let find = uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND;
        add(what, (&title, &address), own, &[find], worklist.tls.as_ref());
    }
    for peer in settings.commitment.peers.values() {
        let what = "N-EVENT-REPORT of storage commitments (role SCP proposed)";
        let (at, class) = ((&peer.ae_title, &*peer.address), uids::STORAGE_COMMITMENT_PUSH_MODEL);
        add(what, at, own, &[class], peer.tls.as_ref());
    }
    match rows.is_empty() {
        true => out.text("Nothing is configured that opens associations by itself."),
        false => out.table(["What", "Peer", "Calling as", "SOP classes", "TLS"], rows),
    }
    out.text(
        "One presentation context for each SOP class and transfer syntax. Results are written in \
         Explicit VR Little Endian and sent as they are. An archive that takes none of a kind is sent \
         what says the same, where the table names its SOP class too.",
    );
    out.text(format!(
        "A failed try is made again for {} hours where the status or the connection says that it may \
         succeed. To prove that an object is kept, the first service that the peer accepts is used; a \
         peer that accepts none is taken at its status. A report of storage commitment is taken on the \
         same association or on one that the peer opens.",
        settings.deliver.retry_hours
    ));
}

pub fn over_tls(tls: Option<&tls_client::Config>) -> String {
    match tls {
        None => "no".to_owned(),
        Some(tls) => {
            let own = if tls.certificate_file.is_some() { "a" } else { "no" };
            format!("{} and later, {own} certificate of ours", tls.version_min.as_str())
        }
    }
}

/// The `tls` tables of all whom we call.
pub fn tls_clients(settings: &Settings) -> Vec<&tls_client::Config> {
    let archives = settings.deliver.pacs.values().filter_map(|pacs| pacs.tls.as_ref());
    let requesters = settings.commitment.peers.values().filter_map(|peer| peer.tls.as_ref());
    let query = &settings.assemble.query;
    let asked = query.tls.iter().filter(|_| query.target().is_some());
    let worklist = &settings.orders.worklist;
    let ordered = worklist.tls.iter().filter(|_| worklist.target().is_some());
    archives.chain(requesters).chain(asked).chain(ordered).collect()
}

//! How associations are secured, and who hears what was done.

use crate::cli::conformance::document::Document;
use crate::cli::conformance::requestor::tls_clients;
use crate::config::Settings;
use crate::dicom::tls;
use crate::dicom::tls::ClientCertificates;
use crate::dicom::tls::Version;
use crate::pipeline::audit::Transport;

pub fn security(settings: &Settings, out: &mut Document) {
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
         here could check them.",
    );
    let syslog = &settings.audit.syslog;
    let to = match (syslog.address.is_empty(), syslog.transport) {
        (true, _) => "No audit record repository is configured: none are sent.".to_owned(),
        (false, Transport::Tls) => {
            format!("They go to {} by the SYSLOG-TLS transport profile (A.6).", syslog.address)
        }
        (false, Transport::Tcp) => format!(
            "They go to {} by TCP without encryption, which no profile of DICOM describes.",
            syslog.address
        ),
        (false, Transport::Udp) => {
            format!("They go to {} by the SYSLOG-UDP transport profile (A.7).", syslog.address)
        }
    };
    let named = match syslog.patient_id {
        true => "The patient is named by Patient ID.",
        false => "The patient is not named.",
    };
    out.text(format!(
        "Every receipt, refusal, delivery and look at patient data stands in a ledger whose records are \
         chained by their hashes. Audit messages follow the audit trail message format profile \
         (PS3.15 A.5): Application Activity, Audit Log Used, DICOM Instances Accessed, DICOM Instances \
         Transferred, DICOM Study Deleted, Export, Query, Security Alert, User Authentication. {to} \
         {named} Begin Transferring DICOM Instances and Network Entry are not sent.",
    ));
}

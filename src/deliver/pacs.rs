//! C-STORE of result objects to an archive.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::deliver::DeliverError;
use crate::deliver::Delivered;
use crate::deliver::peer_words;
use crate::dicom::status::Status;
use crate::dicom::storage_scu;
use crate::dicom::storage_scu::ScuError;
use crate::dicom::storage_scu::SendOutcome;
use crate::dicom::tls_client;
use crate::domain::ae_title::AeTitle;

/// What an archive can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Artefact {
    /// The structured report as Comprehensive 3D SR.
    Sr,
    /// The same as Comprehensive SR, for archives that refuse the other.
    SrComprehensive,
    /// The report for people as Encapsulated PDF.
    Pdf,
}

impl Artefact {
    /// Its file in the result folder.
    pub fn file(self) -> &'static str {
        match self {
            Artefact::Sr => "sr.dcm",
            Artefact::SrComprehensive => "sr-comprehensive.dcm",
            Artefact::Pdf => "report.pdf.dcm",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub ae_title: AeTitle,
    /// `host:port`.
    pub address: String,
    /// What we call ourselves there.
    #[serde(default = "default_calling_ae")]
    pub calling_ae: AeTitle,
    #[serde(default = "default_artefacts")]
    pub artefacts: Vec<Artefact>,
    /// Seconds for one answer.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    /// None: without TLS.
    pub tls: Option<tls_client::Config>,
}

fn default_calling_ae() -> AeTitle {
    AeTitle::parse("PRELIM").expect("six letters are an AE title")
}

fn default_artefacts() -> Vec<Artefact> {
    vec![Artefact::Sr, Artefact::Pdf]
}

fn default_timeout_s() -> u64 {
    60
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let parts = self.address.rsplit_once(':');
        let port = parts.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|&port| port > 0);
        if port.is_none() || parts.is_none_or(|(host, _)| host.is_empty()) {
            let found = &self.address;
            problems.push(format!("{at}.address = {found:?}: use host:port, e.g. \"pacs:104\""));
        }
        let s = self.timeout_s;
        if !(5..=600).contains(&s) {
            let why = "a shorter wait fails on a busy archive, a longer one blocks what waits";
            problems.push(format!("{at}.timeout_s = {s}: use 5 to 600 (default 60); {why}"));
        }
        if self.artefacts.is_empty() {
            let why = "a destination that gets nothing is a mistake";
            problems.push(format!("{at}.artefacts = []: use \"sr\", \"pdf\" or both; {why}"));
        }
        if let Some(tls) = &self.tls {
            tls.check(&format!("{at}.tls"), &self.address, problems);
        }
    }
}

/// One try to store one file. A second one is harmless: the object keeps its SOP Instance UID,
/// which the archive has already.
///
/// # Errors
/// Permanent when the archive takes no such object or refuses this one; all that has to do with
/// the connection may pass.
pub async fn deliver(config: &Config, file: &Path) -> Result<Delivered, DeliverError> {
    let tls = tls_client::read(config.tls.as_ref()).await;
    let target = storage_scu::Target {
        ae_title: config.ae_title.clone(),
        calling_ae: config.calling_ae.clone(),
        address: config.address.clone(),
        tls: tls.map_err(|error| failed(error.into()))?,
    };
    let answer = Duration::from_secs(config.timeout_s);
    let timeouts = storage_scu::Timeouts { answer, ..Default::default() };
    let files = [file.to_owned()];
    let sent = storage_scu::send(&target, &files, &timeouts, &mut |_| {}).await;
    match sent.map_err(failed)?.pop() {
        Some(SendOutcome { status, comment, answered: true, .. }) => outcome(status, &comment),
        // 0122 that the peer never said: it accepted no context for this class or syntax.
        Some(SendOutcome { comment, .. }) => {
            Err(DeliverError::Refused { answer: peer_words(&comment) })
        }
        None => Err(DeliverError::Unreachable { cause: "nothing was sent".into() }),
    }
}

fn failed(error: ScuError) -> DeliverError {
    let transient = error.is_transient();
    match error {
        ScuError::File { source } => {
            DeliverError::File { what: "the result cannot be read", source }
        }
        // Our own words, which have to be read to their end; a peer's part in them is short.
        ScuError::Tls { .. } | ScuError::TlsFile(_) => {
            DeliverError::Unreachable { cause: error.to_string() }
        }
        ScuError::Rejected { .. }
        | ScuError::NoContext
        | ScuError::Protocol { .. }
        | ScuError::Connect { .. }
        | ScuError::Aborted { .. }
        | ScuError::TimedOut { .. }
        | ScuError::Broken { .. } => {
            let words = peer_words(&error.to_string());
            match transient {
                true => DeliverError::Unreachable { cause: words },
                false => DeliverError::Refused { answer: words },
            }
        }
    }
}

/// What the status of a C-STORE response (PS3.4 B.2.3, PS3.7 C.4) means for the outbox.
fn outcome(status: u16, comment: &str) -> Result<Delivered, DeliverError> {
    let words = peer_words(comment);
    let answer = match words.is_empty() {
        true => format!("status {status:04X}H"),
        false => format!("status {status:04X}H: {words}"),
    };
    match status {
        // Stored; stored with a warning (elements changed or dropped); it has it already.
        0x0000 | 0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF | 0x0111 => {
            Ok(Delivered { detail: answer })
        }
        _ if Status(status).is_transient() => Err(DeliverError::Deferred { answer }),
        _ => Err(DeliverError::Refused { answer }),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Child;
    use std::process::Command;
    use std::process::Stdio;

    use dicom_core::VR;
    use dicom_dictionary_std::tags;
    use dicom_dictionary_std::uids;
    use dicom_object::FileMetaTableBuilder;
    use dicom_object::InMemDicomObject;

    use super::*;

    /// DCMTK's storescp as archive.
    struct Archive {
        process: Child,
        folder: tempfile::TempDir,
        config: Config,
    }

    impl Archive {
        async fn start(options: &[&str]) -> Archive {
            let folder = tempfile::tempdir().unwrap();
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let process = Command::new("storescp")
                .args(["-aet", "MAIN", "-od"])
                .arg(folder.path())
                .args(options)
                .arg(port.to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            for _attempt in 0..100 {
                if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let settings = format!("ae_title = \"MAIN\"\naddress = \"127.0.0.1:{port}\"");
            Archive { process, folder, config: toml::from_str(&settings).unwrap() }
        }

        fn stored(&self) -> usize {
            std::fs::read_dir(self.folder.path()).unwrap().count()
        }
    }

    impl Drop for Archive {
        fn drop(&mut self) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }

    fn object(folder: &Path, sop_class_uid: &str) -> std::path::PathBuf {
        let mut object = InMemDicomObject::new_empty();
        object.put_str(tags::SOP_CLASS_UID, VR::UI, sop_class_uid);
        object.put_str(tags::SOP_INSTANCE_UID, VR::UI, format!("1.2.3.{}", sop_class_uid.len()));
        object.put_str(tags::PATIENT_ID, VR::LO, "X");
        let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
        let file = folder.join(format!("{sop_class_uid}.dcm"));
        object.with_meta(meta).unwrap().write_to_file(&file).unwrap();
        file
    }

    #[tokio::test]
    async fn an_archive_gets_reports_and_documents_once_however_often_we_try() {
        let archive = Archive::start(&["+xa"]).await;
        let here = tempfile::tempdir().unwrap();
        for class in [uids::COMPREHENSIVE3_DSR_STORAGE, uids::ENCAPSULATED_PDF_STORAGE] {
            let file = object(here.path(), class);
            for _try in 0..2 {
                let done = deliver(&archive.config, &file).await.unwrap();
                assert_eq!(done.detail, "status 0000H");
            }
        }
        assert_eq!(archive.stored(), 2);
    }

    /// D1 and D2: an archive that is away is tried again, one that takes no such object is not.
    #[tokio::test]
    async fn an_archive_that_is_away_is_not_one_that_refuses() {
        let here = tempfile::tempdir().unwrap();
        let file = object(here.path(), uids::COMPREHENSIVE3_DSR_STORAGE);
        let only_ct = here.path().join("only-ct.cfg");
        let profile = "[[TransferSyntaxes]]\n[Any]\nTransferSyntax1 = LittleEndianExplicit\n\
                       [[PresentationContexts]]\n[CT]\n\
                       PresentationContext1 = CTImageStorage\\Any\n\
                       [[Profiles]]\n[Default]\nPresentationContexts = CT\n";
        std::fs::write(&only_ct, profile).unwrap();
        let archive = Archive::start(&["-xf", only_ct.to_str().unwrap(), "Default"]).await;
        let error = deliver(&archive.config, &file).await.unwrap_err();
        assert!(!error.is_transient(), "{error}");
        let config = archive.config.clone();
        drop(archive);
        let error = deliver(&config, &file).await.unwrap_err();
        assert!(matches!(error, DeliverError::Unreachable { .. }), "{error}");
        assert!(error.is_transient());
    }

    #[test]
    fn a_status_says_done_again_or_never() {
        let transient = |status| outcome(status, "").map_err(|error| error.is_transient());
        for done in [0x0000, 0xB000, 0xB006, 0xB007, 0x0111] {
            assert!(transient(done).is_ok(), "{done:04X}");
        }
        for again in [0xA700, 0xA702, 0x0110] {
            assert_eq!(transient(again), Err(true), "{again:04X}");
        }
        for never in [0xA900, 0xC000, 0xC123, 0x0122, 0x0124, 0xFE00] {
            assert_eq!(transient(never), Err(false), "{never:04X}");
        }
        let error = outcome(0xA700, "disk\r\nfull").unwrap_err();
        assert_eq!(error.to_string(), "refused for now: status A700H: disk full");
    }

    #[test]
    fn settings_of_an_archive_need_only_title_and_address() {
        let config: Config = toml::from_str("ae_title = \"MAIN\"\naddress = \"pacs:104\"").unwrap();
        assert_eq!(config.artefacts, [Artefact::Sr, Artefact::Pdf]);
        let mut problems = Vec::new();
        config.check("deliver.pacs.main", &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        for address in ["pacs", ":104", "pacs:0", "pacs:99999", ""] {
            let config = Config { address: address.into(), ..config.clone() };
            config.check("deliver.pacs.main", &mut problems);
        }
        assert_eq!(problems.len(), 5, "{problems:?}");
    }
}

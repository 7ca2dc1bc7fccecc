//! C-STORE of result objects to an archive.

use std::path::Path;
use std::time::Duration;

use dicom_dictionary_std::uids;
use serde::Deserialize;
use serde::Serialize;

use crate::deliver::DeliverError;
use crate::deliver::Delivered;
use crate::deliver::check_address;
use crate::deliver::object::Object;
use crate::deliver::object::read;
use crate::deliver::peer_words;
use crate::dicom::query_scu::Query;
use crate::dicom::status::Status;
use crate::dicom::storage_commitment;
use crate::dicom::storage_commitment::Asked;
use crate::dicom::storage_scu;
use crate::dicom::storage_scu::ScuError;
use crate::dicom::storage_scu::SendOutcome;
use crate::dicom::tls_client;
use crate::domain::ae_title::AeTitle;
use crate::domain::uid::TransactionUid;

/// What an archive can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Artefact {
    /// The structured report as Comprehensive 3D SR.
    Sr,
    /// The same as Comprehensive SR, for archives that refuse the other.
    SrComprehensive,
    /// The same as Enhanced SR.
    SrEnhanced,
    /// Its text as Basic Text SR.
    SrText,
    /// The report for people as Encapsulated PDF.
    Pdf,
    /// Images with findings, the regions burned in, as Secondary Capture.
    KeyImages,
    /// The regions as graphics over the images, as Grayscale Softcopy Presentation State.
    Gsps,
    /// Which images have findings, as Key Object Selection.
    Kos,
    /// The pixels of findings, as Segmentation, where a model gave masks.
    Seg,
}

impl Artefact {
    pub const ALL: [Artefact; 9] = [
        Artefact::Sr,
        Artefact::SrComprehensive,
        Artefact::SrEnhanced,
        Artefact::SrText,
        Artefact::Pdf,
        Artefact::KeyImages,
        Artefact::Gsps,
        Artefact::Kos,
        Artefact::Seg,
    ];

    /// Storage SOP class of its objects.
    pub fn sop_class_uid(self) -> &'static str {
        match self {
            Artefact::Sr => uids::COMPREHENSIVE3_DSR_STORAGE,
            Artefact::SrComprehensive => uids::COMPREHENSIVE_SR_STORAGE,
            Artefact::SrEnhanced => uids::ENHANCED_SR_STORAGE,
            Artefact::SrText => uids::BASIC_TEXT_SR_STORAGE,
            Artefact::Pdf => uids::ENCAPSULATED_PDF_STORAGE,
            Artefact::KeyImages => uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
            Artefact::Gsps => uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE,
            Artefact::Kos => uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE,
            Artefact::Seg => uids::SEGMENTATION_STORAGE,
        }
    }

    /// What says the same to a destination that takes none of this kind.
    pub fn fallback(self) -> Option<Artefact> {
        match self {
            Artefact::Sr => Some(Artefact::SrComprehensive),
            Artefact::SrComprehensive => Some(Artefact::SrEnhanced),
            Artefact::SrEnhanced => Some(Artefact::SrText),
            Artefact::SrText => Some(Artefact::Pdf),
            Artefact::Pdf => Some(Artefact::KeyImages),
            Artefact::KeyImages | Artefact::Gsps | Artefact::Kos | Artefact::Seg => None,
        }
    }

    /// As in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Artefact::Sr => "sr",
            Artefact::SrComprehensive => "sr-comprehensive",
            Artefact::SrEnhanced => "sr-enhanced",
            Artefact::SrText => "sr-text",
            Artefact::Pdf => "pdf",
            Artefact::KeyImages => "key-images",
            Artefact::Gsps => "gsps",
            Artefact::Kos => "kos",
            Artefact::Seg => "seg",
        }
    }

    /// Its file number `nth`, from 1, in the result folder. Key images and presentation states may
    /// be several, or none.
    pub fn file(self, nth: usize) -> String {
        match self {
            Artefact::Sr => "sr.dcm".into(),
            Artefact::SrComprehensive => "sr-comprehensive.dcm".into(),
            Artefact::SrEnhanced => "sr-enhanced.dcm".into(),
            Artefact::SrText => "sr-text.dcm".into(),
            Artefact::Pdf => "report.pdf.dcm".into(),
            Artefact::KeyImages => format!("key-image-{nth:02}.dcm"),
            Artefact::Gsps => format!("gsps-{nth:02}.dcm"),
            Artefact::Kos => "kos.dcm".into(),
            Artefact::Seg => format!("seg-{nth:02}.dcm"),
        }
    }

    /// The artefact that a result file is or belongs to.
    pub fn of_file(file: &str) -> Option<Artefact> {
        let number = file.rsplit('-').next().and_then(|end| end.strip_suffix(".dcm"));
        let number = number.and_then(|digits| digits.parse().ok()).unwrap_or(1);
        Artefact::ALL.into_iter().find(|artefact| artefact.file(number) == file)
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
    /// Sends what says the same where it takes none of a kind.
    #[serde(default = "yes")]
    pub fallback: bool,
    /// Hours after which a kind that it took none of is tried again.
    #[serde(default = "default_refusal_hours")]
    pub refusal_hours: u64,
    /// What shows that it keeps an object.
    #[serde(default)]
    pub proof: Proof,
    /// Seconds for one answer.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    /// None: without TLS.
    pub tls: Option<tls_client::Config>,
}

/// What shows that an archive keeps what it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// It is found by C-FIND, else its storage commitment, else the status of C-STORE: by what the
    /// archive offers.
    #[default]
    Auto,
    /// Storage commitment: its report comes on the same association or on one of its own.
    Commitment,
    /// C-FIND at the level of the image.
    Find,
    /// The status of C-STORE.
    Status,
}

fn yes() -> bool {
    true
}

fn default_refusal_hours() -> u64 {
    24
}

fn default_calling_ae() -> AeTitle {
    AeTitle::parse("PRELIM").expect("six letters are an AE title")
}

pub fn default_artefacts() -> Vec<Artefact> {
    vec![Artefact::Sr, Artefact::Pdf, Artefact::KeyImages]
}

fn default_timeout_s() -> u64 {
    60
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        check_address(&format!("{at}.address"), &self.address, "pacs:104", problems);
        let s = self.timeout_s;
        if !(5..=600).contains(&s) {
            let why = "a shorter wait fails on a busy archive, a longer one blocks what waits";
            problems.push(format!("{at}.timeout_s = {s}: use 5 to 600 (default 60); {why}"));
        }
        let hours = self.refusal_hours;
        if !(1..=8760).contains(&hours) {
            let why = "an archive that was changed gets the better object again";
            problems
                .push(format!("{at}.refusal_hours = {hours}: use 1 to 8760 (default 24); {why}"));
        }
        if self.artefacts.is_empty() {
            let why = "a destination that gets nothing is a mistake";
            problems.push(format!("{at}.artefacts = []: name at least one, e.g. \"sr\"; {why}"));
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
    let (target, timeouts) = (config.target().await?, config.timeouts());
    let files = [file.to_owned()];
    let sent = storage_scu::send(&target, &files, &timeouts, &mut |_| {}).await;
    match sent.map_err(failed)?.pop() {
        Some(SendOutcome { status, comment, answered: true, .. }) => outcome(status, &comment),
        // 0122 that the peer never said: it accepted no context for this class or syntax.
        Some(SendOutcome { comment, .. }) => {
            Err(DeliverError::NotTaken { answer: peer_words(&comment) })
        }
        None => Err(DeliverError::Unreachable { cause: "nothing was sent".into() }),
    }
}

impl Config {
    pub async fn target(&self) -> Result<storage_scu::Target, DeliverError> {
        let tls = tls_client::read(self.tls.as_ref()).await;
        Ok(storage_scu::Target {
            ae_title: self.ae_title.clone(),
            calling_ae: self.calling_ae.clone(),
            address: self.address.clone(),
            tls: tls.map_err(|error| failed(error.into()))?,
        })
    }

    fn timeouts(&self) -> storage_scu::Timeouts {
        let answer = Duration::from_secs(self.timeout_s);
        storage_scu::Timeouts { answer, ..Default::default() }
    }
}

/// What an archive said of an object that it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proven {
    /// It has it.
    Yes { how: &'static str },
    /// It took it and does not have it, or not yet.
    No { how: &'static str },
    /// It was asked and will call us.
    Asked,
    /// It offers nothing that would show it.
    NotOffered,
}

/// How long an archive has to report on the association on which it was asked.
const REPORT_WAIT: Duration = Duration::from_secs(3);

/// Asks whether the archive keeps the object of a file.
///
/// - `transaction_uid`: of the question, for an archive that answers later.
pub async fn prove(
    config: &Config,
    file: &Path,
    transaction_uid: &TransactionUid,
) -> Result<Proven, DeliverError> {
    let object = Object::of(&read(file).await?)?;
    let (find, commitment) = match config.proof {
        Proof::Auto => (true, true),
        Proof::Find => (true, false),
        Proof::Commitment => (false, true),
        Proof::Status => (false, false),
    };
    if find && let Some(is_there) = find_it(config, &object).await? {
        let how = "found by C-FIND";
        return Ok(if is_there { Proven::Yes { how } } else { Proven::No { how } });
    }
    if !commitment {
        return Ok(Proven::NotOffered);
    }
    let request = storage_commitment::Request {
        transaction_uid: transaction_uid.clone(),
        references: vec![object.reference.clone()],
    };
    let target = config.target().await?;
    let asked = storage_commitment::ask(&target, &config.timeouts(), &request, REPORT_WAIT).await;
    let how = "storage commitment";
    match asked {
        Ok(Asked::Answered(outcome)) => Ok(match outcome.committed.contains(&object.reference) {
            true => Proven::Yes { how },
            false => Proven::No { how },
        }),
        Ok(Asked::Later) => Ok(Proven::Asked),
        Ok(Asked::No) => Ok(Proven::NotOffered),
        Err(ScuError::NoContext) => Ok(Proven::NotOffered),
        Err(error) => Err(failed(error)),
    }
}

async fn find_it(config: &Config, object: &Object) -> Result<Option<bool>, DeliverError> {
    let mut query = match Query::open(&config.target().await?, &config.timeouts()).await {
        Ok(query) => query,
        // Many store and answer no questions; some reject an association with questions alone.
        Err(ScuError::NoContext | ScuError::Rejected { transient: false, .. }) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let Object { study_uid, series_uid, reference } = object;
    let found = query.holds(study_uid, series_uid, reference.1.as_str()).await.map_err(failed)?;
    query.release().await;
    Ok(found)
}

/// What an archive takes and answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// Kinds of artefacts that it takes, with the transfer syntaxes.
    pub artefacts: Vec<(Artefact, Vec<String>)>,
    pub query: bool,
    pub commitment: bool,
    pub verification: bool,
}

/// Asks for an association for each kind and service, as it is sent and asked then, and looks at what
/// is accepted: archives limit what they take of one association. Nothing is stored.
pub async fn probe(config: &Config) -> Result<Offer, DeliverError> {
    let (target, timeouts) = (config.target().await?, config.timeouts());
    let taken = async |class: &str| -> Result<Vec<String>, DeliverError> {
        let contexts = storage_scu::offered(class, OURS);
        match storage_scu::Open::new(&target, &timeouts, &contexts).await {
            Ok(open) => {
                let syntaxes = open.accepted().map(|(_, syntax)| syntax.clone()).collect();
                open.release().await;
                Ok(syntaxes)
            }
            // Some reject an association with nothing in it that they know.
            Err(ScuError::NoContext | ScuError::Rejected { transient: false, .. }) => {
                Ok(Vec::new())
            }
            Err(error) => Err(failed(error)),
        }
    };
    let verification = match storage_scu::echo(&target, &timeouts).await {
        Ok(()) => true,
        Err(ScuError::NoContext | ScuError::Protocol { .. }) => false,
        Err(error) => return Err(failed(error)),
    };
    let query = !taken(uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND).await?.is_empty();
    let commitment = !taken(uids::STORAGE_COMMITMENT_PUSH_MODEL).await?.is_empty();
    let mut artefacts = Vec::new();
    for artefact in Artefact::ALL {
        let syntaxes = taken(artefact.sop_class_uid()).await?;
        if !syntaxes.is_empty() {
            artefacts.push((artefact, syntaxes));
        }
    }
    Ok(Offer { artefacts, query, commitment, verification })
}

/// The transfer syntax of our results.
const OURS: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;

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
        ScuError::NoContext => DeliverError::NotTaken { answer: error.to_string() },
        // Another service on its port, or a box on the way: it may be gone at the next try.
        ScuError::Protocol { .. } => DeliverError::deferred(error.to_string()),
        ScuError::Rejected { .. }
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
pub fn outcome(status: u16, comment: &str) -> Result<Delivered, DeliverError> {
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
        // SOP class not supported.
        0x0122 => Err(DeliverError::NotTaken { answer }),
        _ if Status(status).is_transient() => Err(DeliverError::deferred(answer)),
        _ => Err(DeliverError::Refused { answer }),
    }
}

#[cfg(test)]
#[path = "pacs_archives.rs"]
mod archives;

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
    fn a_file_says_which_artefact_it_belongs_to() {
        for artefact in Artefact::ALL {
            for number in [1, 7, 12] {
                assert_eq!(Artefact::of_file(&artefact.file(number)), Some(artefact));
            }
        }
        for other in ["report.pdf", "picture-01.jpg", "key-image-1.dcm", "gsps.dcm", "sr.dcm.part"]
        {
            assert_eq!(Artefact::of_file(other), None, "{other}");
        }
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
        assert_eq!(config.artefacts, [Artefact::Sr, Artefact::Pdf, Artefact::KeyImages]);
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

//! What an acceptor answers to an A-ASSOCIATE-RQ (PS3.8 7.1.1, PS3.7 D): pure.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use dicom_dictionary_std::uids;
use dicom_encoding::TransferSyntaxIndex as _;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use dicom_ul::pdu::AssociationAC;
use dicom_ul::pdu::AssociationRJ;
use dicom_ul::pdu::AssociationRJResult;
use dicom_ul::pdu::AssociationRJServiceProviderASCEReason;
use dicom_ul::pdu::AssociationRJServiceProviderPresentationReason;
use dicom_ul::pdu::AssociationRJServiceUserReason;
use dicom_ul::pdu::AssociationRJSource;
use dicom_ul::pdu::Pdu;
use dicom_ul::pdu::PresentationContextProposed;
use dicom_ul::pdu::PresentationContextResult;
use dicom_ul::pdu::PresentationContextResultReason;
use dicom_ul::pdu::UserVariableItem;

use crate::dicom::elements::SYNTAXES;
use crate::dicom::pdu;
use crate::dicom::pdu::Request;
use crate::dicom::service::is_service;
use crate::dicom::user_information::Extended;
use crate::dicom::user_information::Role;
use crate::dicom::user_information::UserInformation;
use crate::domain::uid::SopClassUid;

/// DICOM's one application context (PS3.7 A.2.1).
pub const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";
/// Our name in associations and files, at most 16 characters.
pub const IMPLEMENTATION_VERSION: &str = "PRELIM_0_1";

/// Our Implementation Class UID: made from the program's name, so it never changes.
pub fn implementation_class_uid() -> &'static str {
    static UID: LazyLock<String> =
        LazyLock::new(|| crate::domain::uid::derived(&["implementation class", "prelim"]));
    &UID
}

/// An accepted presentation context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    pub abstract_syntax: String,
    pub transfer_syntax: String,
    pub service: Service,
}

/// What an abstract syntax is served as. We are always the SCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Verification,
    Storage,
    /// Storage commitment and performed procedure steps, see [`crate::dicom::service`].
    Normalized,
}

/// What is served, and how.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// Transfer syntaxes, the best first; those not in it come last, as proposed.
    pub preference: &'a [String],
    /// Whether instances of private SOP classes are stored.
    pub unknown_sop_classes: bool,
}

impl Policy<'_> {
    /// The service behind an abstract syntax; None: not served here.
    pub fn service(&self, class: &str) -> Option<Service> {
        if class == uids::VERIFICATION {
            Some(Service::Verification)
        } else if is_service(class) {
            Some(Service::Normalized)
        } else if is_storage_class(class) || (self.unknown_sop_classes && is_private_uid(class)) {
            Some(Service::Storage)
        } else {
            None
        }
    }
}

/// A UID outside of DICOM's own root, where services are known by name.
fn is_private_uid(uid: &str) -> bool {
    !uid.starts_with("1.2.840.10008.") && SopClassUid::parse(uid).is_ok()
}

/// Transfer syntaxes in the order in which one is chosen when a peer proposes several in one
/// context: those that lose nothing and come as the scanner made them, then plain ones with
/// VRs before those without, then those that may lose something. A sender that could send an
/// image either way so never compresses it lossily for us, and one that holds a compressed image
/// need not unpack it.
pub const PREFERENCE: &[&str] = &[
    uids::JPEG_LOSSLESS_SV1,
    uids::JPEG_LOSSLESS,
    uids::JPEGLS_LOSSLESS,
    uids::JPEG2000_LOSSLESS,
    uids::HTJ2K_LOSSLESS,
    uids::HTJ2K_LOSSLESS_RPCL,
    uids::JPEGXL_LOSSLESS,
    uids::RLE_LOSSLESS,
    uids::EXPLICIT_VR_LITTLE_ENDIAN,
    uids::IMPLICIT_VR_LITTLE_ENDIAN,
    uids::ENCAPSULATED_UNCOMPRESSED_EXPLICIT_VR_LITTLE_ENDIAN,
    uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
];

/// Retired, and still what old devices send.
pub const EXPLICIT_VR_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// The retired JPEG processes, which the registry does not list. All are Explicit VR Little
/// Endian around fragments, so an archive can keep them.
const RETIRED_JPEG: std::ops::RangeInclusive<u8> = 52..=66;

/// The root of the storage SOP classes (PS3.4 B.5), and what else stands under it: query,
/// retrieval and creation services.
const STORAGE_ROOT: &str = "1.2.840.10008.5.1.4.1.1.";
const NOT_STORAGE: &[&str] =
    &["200.4", "200.5", "200.6", "201.2", "201.3", "201.4", "201.5", "201.6"];

/// Storage SOP classes with other roots: treatment instructions, hanging protocols, palettes,
/// implant templates, retired print and hardcopy.
const OTHER_STORAGE: &[&str] = &[
    "1.2.840.10008.5.1.1.27",
    "1.2.840.10008.5.1.1.29",
    "1.2.840.10008.5.1.1.30",
    "1.2.840.10008.5.1.4.34.1",
    uids::RT_BEAMS_DELIVERY_INSTRUCTION_STORAGE,
    uids::RT_BRACHY_APPLICATION_SETUP_DELIVERY_INSTRUCTION_STORAGE,
    uids::HANGING_PROTOCOL_STORAGE,
    uids::COLOR_PALETTE_STORAGE,
    uids::GENERIC_IMPLANT_TEMPLATE_STORAGE,
    uids::IMPLANT_ASSEMBLY_TEMPLATE_STORAGE,
    uids::IMPLANT_TEMPLATE_GROUP_STORAGE,
];

/// The storage SOP classes of the dictionary: UID and name, one a line.
pub const STORAGE_CLASSES: &str = include_str!("storage_classes.txt");

/// Whether instances of this class are stored: every standard storage class, those of later
/// editions too. Media directories, storage commitment and private classes are not.
pub fn is_storage_class(uid: &str) -> bool {
    match uid.strip_prefix(STORAGE_ROOT) {
        Some(rest) => !rest.is_empty() && !NOT_STORAGE.contains(&rest),
        None => OTHER_STORAGE.contains(&uid),
    }
}

/// Whether data sets of this transfer syntax can be kept, also where nobody here can decode it.
pub fn is_transfer_syntax(uid: &str) -> bool {
    let retired = uid.strip_prefix("1.2.840.10008.1.2.4.").and_then(|n| n.parse().ok());
    TransferSyntaxRegistry.get(uid).is_some() || retired.is_some_and(|n| RETIRED_JPEG.contains(&n))
}

/// Answers each proposed context: accepted with one transfer syntax, else 1 (the peer would be
/// SCP alone), 3 (abstract syntax) or 4 (transfer syntaxes). An even id, and one that stands
/// twice, is refused (P12).
pub fn contexts(
    proposed: &[PresentationContextProposed],
    roles: &[Role],
    policy: &Policy<'_>,
) -> (Vec<PresentationContextResult>, BTreeMap<u8, Context>) {
    let mut results = Vec::new();
    let mut accepted = BTreeMap::new();
    let mut answered = BTreeSet::new();
    for context in proposed {
        if !answered.insert(context.id) {
            continue;
        }
        let repeated = proposed.iter().filter(|other| other.id == context.id).count() > 1;
        let chosen = match context.id % 2 == 0 || repeated {
            true => Err(PresentationContextResultReason::NoReason),
            false => choose(context, roles, policy),
        };
        let (reason, transfer_syntax) = match chosen {
            Ok((service, syntax)) => {
                let abstract_syntax = padding_off(&context.abstract_syntax).to_owned();
                let transfer_syntax = syntax.clone();
                accepted.insert(context.id, Context { abstract_syntax, transfer_syntax, service });
                (PresentationContextResultReason::Acceptance, syntax)
            }
            Err(reason) => (reason, uids::IMPLICIT_VR_LITTLE_ENDIAN.to_owned()),
        };
        results.push(PresentationContextResult { id: context.id, reason, transfer_syntax });
    }
    (results, accepted)
}

fn choose(
    context: &PresentationContextProposed,
    roles: &[Role],
    policy: &Policy<'_>,
) -> Result<(Service, String), PresentationContextResultReason> {
    let class = padding_off(&context.abstract_syntax);
    let Some(service) = policy.service(class) else {
        return Err(PresentationContextResultReason::AbstractSyntaxNotSupported);
    };
    let scp_alone = |role: &Role| role.sop_class_uid == class && role.scp && !role.scu;
    if roles.iter().any(scp_alone) && !may_be_scp(class) {
        return Err(PresentationContextResultReason::UserRejection);
    }
    let preference = policy.preference;
    let rank = |uid: &&str| preference.iter().position(|p| p == uid).unwrap_or(usize::MAX);
    let known = context.transfer_syntaxes.iter().map(|uid| padding_off(uid));
    let readable = |uid: &&str| match service {
        Service::Verification | Service::Storage => is_transfer_syntax(uid),
        Service::Normalized => SYNTAXES.contains(uid),
    };
    let best = known.filter(readable).min_by_key(rank);
    let best = best.ok_or(PresentationContextResultReason::TransferSyntaxesNotSupported)?;
    Ok((service, best.to_owned()))
}

/// An archive that we have asked reports as SCP, on an association that it asks for.
fn may_be_scp(sop_class_uid: &str) -> bool {
    sop_class_uid == uids::STORAGE_COMMITMENT_PUSH_MODEL
}

fn padding_off(uid: &str) -> &str {
    uid.trim_matches(['\0', ' '])
}

/// The peer's maximum PDU length; 0 (no limit) also where it says none.
pub fn pdu_bytes_max(variables: &[UserVariableItem]) -> u32 {
    let length = |item: &UserVariableItem| match item {
        UserVariableItem::MaxLength(length) => Some(*length),
        _ => None, // dicom-ul's enum, not ours
    };
    variables.iter().find_map(length).unwrap_or(0)
}

/// Our user information: what we take, who we are.
pub fn our_variables(pdu_bytes_max: u32) -> Vec<UserVariableItem> {
    vec![
        UserVariableItem::MaxLength(pdu_bytes_max),
        UserVariableItem::ImplementationClassUID(implementation_class_uid().to_owned()),
        UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION.to_owned()),
    ]
}

/// Answer of a storage SCP to SOP class extended negotiation (PS3.4 B.3.1): level 2, all
/// attributes are kept; signatures level 3, they stay as they came; no element is coerced.
const STORAGE_EXTENDED: [u8; 6] = [2, 0, 3, 0, 0, 0];
/// Sub-items of user information.
mod sub_item {
    pub const ASYNCHRONOUS_OPERATIONS: u8 = 0x53;
    pub const ROLE_SELECTION: u8 = 0x54;
    pub const EXTENDED_NEGOTIATION: u8 = 0x56;
    pub const USER_IDENTITY_ANSWER: u8 = 0x59;
}

/// What we answer to the user information of a request, beside our own: roles and extended
/// negotiation for the SOP classes that were proposed and are served, one operation at a time,
/// and that an identity was heard. Common extended negotiation has no answer (PS3.7 D.3.3.6).
fn answers(user: &UserInformation, classes: &BTreeMap<&str, Service>) -> Vec<UserVariableItem> {
    let mut items = Vec::new();
    if user.asynchronous {
        let one_each = vec![0, 1, 0, 1];
        items.push(UserVariableItem::Unknown(sub_item::ASYNCHRONOUS_OPERATIONS, one_each));
    }
    let mut answered = BTreeSet::new();
    for Role { sop_class_uid, scu, scp } in user.roles.iter().filter(|role| role.scu || role.scp) {
        if classes.contains_key(sop_class_uid.as_str()) && answered.insert(sop_class_uid) {
            let scp = *scp && may_be_scp(sop_class_uid);
            let item = with_uid(sop_class_uid, &[u8::from(*scu), u8::from(scp)]);
            items.push(UserVariableItem::Unknown(sub_item::ROLE_SELECTION, item));
        }
    }
    let mut answered = BTreeSet::new();
    for Extended { sop_class_uid, .. } in &user.extended {
        let is_storage = classes.get(sop_class_uid.as_str()) == Some(&Service::Storage);
        if is_storage && answered.insert(sop_class_uid) {
            let item = with_uid(sop_class_uid, &STORAGE_EXTENDED);
            items.push(UserVariableItem::Unknown(sub_item::EXTENDED_NEGOTIATION, item));
        }
    }
    if user.identity.as_ref().is_some_and(|identity| identity.response_wanted) {
        // The server response of types 1 and 2 is empty (PS3.7 D.3.3.7.2).
        items.push(UserVariableItem::Unknown(sub_item::USER_IDENTITY_ANSWER, vec![0, 0]));
    }
    items
}

/// A UID after its length, and what follows it.
fn with_uid(uid: &str, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(uid.len()).expect("a UID of at most 64 characters");
    [&length.to_be_bytes(), uid.as_bytes(), rest].concat()
}

/// The A-ASSOCIATE-AC.
pub fn encode_accept(
    request: &Request,
    results: Vec<PresentationContextResult>,
    policy: &Policy<'_>,
    pdu_bytes_max: u32,
) -> Vec<u8> {
    let proposed = request.body.presentation_contexts.iter();
    let classes = proposed.filter_map(|context| {
        let class = padding_off(&context.abstract_syntax);
        policy.service(class).map(|service| (class, service))
    });
    let mut user_variables = our_variables(pdu_bytes_max);
    user_variables.extend(answers(&request.user, &classes.collect()));
    let mut bytes = pdu::encode(&Pdu::AssociationAC(AssociationAC {
        protocol_version: 1,
        calling_ae_title: String::new(),
        called_ae_title: String::new(),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts: results,
        user_variables,
    }));
    // Titles and reserved bytes as the peer sent them, whatever they hold.
    bytes[10..74].copy_from_slice(&request.titles);
    bytes
}

/// Why an association is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    ProtocolVersion,
    ApplicationContext,
    CalledAe,
    CallingAe,
    /// Neither a configured peer nor this machine.
    Stranger,
    /// The title of a configured peer, from another address.
    Address,
    NoContext,
    PduLength,
    /// A user identity that is not known here, or none where one is needed.
    User,
    /// Too many associations: come back later.
    LocalLimit,
    /// This peer opens them too fast: come back later.
    Congestion,
}

impl Rejection {
    pub fn as_str(self) -> &'static str {
        match self {
            Rejection::ProtocolVersion => "protocol version",
            Rejection::ApplicationContext => "application context",
            Rejection::CalledAe => "called AE title",
            Rejection::CallingAe => "calling AE title",
            Rejection::Stranger => "not a configured peer",
            Rejection::Address => "address is not that of the peer",
            Rejection::NoContext => "no presentation context",
            Rejection::PduLength => "maximum PDU length",
            Rejection::User => "user identity",
            Rejection::LocalLimit => "too many associations",
            Rejection::Congestion => "associations too fast",
        }
    }

    /// Result, source and reason of PS3.8 table 9-21.
    pub fn encode(self) -> Vec<u8> {
        use AssociationRJServiceUserReason as User;
        let user = AssociationRJSource::ServiceUser;
        let (result, source) = match self {
            Rejection::ProtocolVersion => (
                AssociationRJResult::Permanent,
                AssociationRJSource::ServiceProviderASCE(
                    AssociationRJServiceProviderASCEReason::ProtocolVersionNotSupported,
                ),
            ),
            Rejection::ApplicationContext => {
                (AssociationRJResult::Permanent, user(User::ApplicationContextNameNotSupported))
            }
            Rejection::CalledAe => {
                (AssociationRJResult::Permanent, user(User::CalledAETitleNotRecognized))
            }
            Rejection::CallingAe | Rejection::Stranger | Rejection::Address => {
                (AssociationRJResult::Permanent, user(User::CallingAETitleNotRecognized))
            }
            Rejection::NoContext | Rejection::PduLength | Rejection::User => {
                (AssociationRJResult::Permanent, user(User::NoReasonGiven))
            }
            Rejection::LocalLimit => (
                AssociationRJResult::Transient,
                AssociationRJSource::ServiceProviderPresentation(
                    AssociationRJServiceProviderPresentationReason::LocalLimitExceeded,
                ),
            ),
            Rejection::Congestion => (
                AssociationRJResult::Transient,
                AssociationRJSource::ServiceProviderPresentation(
                    AssociationRJServiceProviderPresentationReason::TemporaryCongestion,
                ),
            ),
        };
        pdu::encode(&Pdu::AssociationRJ(AssociationRJ { result, source }))
    }
}

/// What the request itself gives reason to refuse. Titles and limits are the caller's.
pub fn reject(request: &Request) -> Option<Rejection> {
    let (request, peer_max) = (&request.body, request.user.pdu_bytes_max);
    if request.protocol_version & 1 == 0 {
        Some(Rejection::ProtocolVersion)
    } else if padding_off(&request.application_context_name) != APPLICATION_CONTEXT {
        Some(Rejection::ApplicationContext)
    } else if request.presentation_contexts.is_empty() {
        Some(Rejection::NoContext)
    } else if (1..pdu::PEER_PDU_BYTES_MIN).contains(&peer_max) {
        Some(Rejection::PduLength)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposed(id: u8, class: &str, syntaxes: &[&str]) -> PresentationContextProposed {
        PresentationContextProposed {
            id,
            abstract_syntax: class.to_owned(),
            transfer_syntaxes: syntaxes.iter().map(|&s| s.to_owned()).collect(),
        }
    }

    fn preference() -> Vec<String> {
        PREFERENCE.iter().map(|&s| s.to_owned()).collect()
    }

    fn role(class: &str, scu: bool, scp: bool) -> Role {
        Role { sop_class_uid: class.to_owned(), scu, scp }
    }

    #[test]
    fn storage_classes_are_those_of_the_dictionary() {
        for stored in [
            uids::CT_IMAGE_STORAGE,
            uids::COMPREHENSIVE3_DSR_STORAGE,
            uids::ENCAPSULATED_PDF_STORAGE,
            uids::RT_STRUCTURE_SET_STORAGE,
            uids::HANGING_PROTOCOL_STORAGE,
            "1.2.840.10008.5.1.4.1.1.6", // retired ultrasound
        ] {
            assert!(is_storage_class(stored), "{stored}");
        }
        for other in [
            uids::VERIFICATION,
            "1.2.840.10008.1.20.1",          // storage commitment
            "1.2.840.10008.1.3.10",          // media directory
            "1.2.840.10008.5.1.4.1.2.2.1",   // study root find
            "1.2.840.10008.5.1.4.1.1.201.2", // inventory find
            "1.2.840.10008.5.1.4.1.1.",
            "1.2.826.0.1.3680043.9.9999.1",
        ] {
            assert!(!is_storage_class(other), "{other}");
        }
    }

    /// P12, P72, P73.
    #[test]
    fn each_context_gets_its_own_answer() {
        let ct = uids::CT_IMAGE_STORAGE;
        let explicit = uids::EXPLICIT_VR_LITTLE_ENDIAN;
        let (results, accepted) = contexts(
            &[
                proposed(1, ct, &["1.2.840.10008.1.2", explicit]),
                proposed(2, ct, &[explicit]),
                proposed(3, "1.2.3.4", &[explicit]),
                proposed(5, ct, &["1.2.3.4.5"]),
                proposed(7, ct, &[explicit]),
                proposed(7, ct, &[explicit]),
                proposed(9, ct, &["1.2.840.10008.1.2.4.55"]),
                proposed(11, ct, &[uids::JPEG_BASELINE8_BIT, explicit]),
                proposed(13, ct, &[uids::JPEG_BASELINE8_BIT, uids::MPEG2MPML]),
                proposed(15, ct, &[explicit, uids::JPEGLS_LOSSLESS]),
                proposed(17, ct, &[]),
            ],
            &[],
            &Policy { preference: &preference(), unknown_sop_classes: false },
        );
        let reasons: Vec<u8> = results.iter().map(|r| r.reason.clone() as u8).collect();
        assert_eq!(reasons, [0, 2, 3, 4, 2, 0, 0, 0, 0, 4]);
        assert_eq!(accepted.keys().copied().collect::<Vec<_>>(), [1, 9, 11, 13, 15]);
        assert_eq!(accepted[&1].transfer_syntax, explicit);
        assert_eq!(accepted[&11].transfer_syntax, explicit, "no lossy where it can be had without");
        assert_eq!(accepted[&13].transfer_syntax, uids::JPEG_BASELINE8_BIT);
        assert_eq!(accepted[&15].transfer_syntax, uids::JPEGLS_LOSSLESS);
    }

    /// The list that is printed and the rule that is applied say the same.
    #[test]
    fn every_storage_class_of_the_dictionary_is_served() {
        let mut lines = 0;
        for line in STORAGE_CLASSES.lines() {
            let (uid, name) = line.split_once(' ').unwrap();
            assert!(is_storage_class(uid), "{line}");
            assert!(name.contains("Storage"), "{line}");
            lines += 1;
        }
        assert_eq!(lines, 214);
    }

    /// P72 with and without the switch.
    #[test]
    fn private_classes_are_stored_where_that_is_switched_on() {
        let served = |class, on| {
            let policy = Policy { preference: &[], unknown_sop_classes: on };
            (policy.service(class)).map(|service| service == Service::Storage)
        };
        for (class, off, on) in [
            (uids::CT_IMAGE_STORAGE, Some(true), Some(true)),
            (uids::VERIFICATION, Some(false), Some(false)),
            ("1.2.826.0.1.3680043.9.1", None, Some(true)),
            ("1.3.12.2.1107.5.9.1", None, Some(true)),
            ("1.2.840.10008.5.1.4.1.2.2.1", None, None), // study root find
            ("1.2.840.10008.99.1", None, None),
            ("no uid", None, None),
            ("", None, None),
        ] {
            assert_eq!((served(class, false), served(class, true)), (off, on), "{class}");
        }
    }

    /// PS3.4 J.3.3: who reports a storage commitment that we have asked for is its SCP.
    #[test]
    fn an_archive_that_reports_may_be_the_scp() {
        let class = uids::STORAGE_COMMITMENT_PUSH_MODEL;
        let asked = [proposed(1, class, &[uids::IMPLICIT_VR_LITTLE_ENDIAN])];
        let user =
            UserInformation { roles: vec![role(class, false, true)], ..UserInformation::default() };
        let preference = preference();
        let policy = Policy { preference: &preference, unknown_sop_classes: false };
        let (results, accepted) = contexts(&asked, &user.roles, &policy);
        assert_eq!((results[0].reason.clone() as u8, accepted.len()), (0, 1));
        let classes = BTreeMap::from([(class, Service::Normalized)]);
        let expected = UserVariableItem::Unknown(0x54, with_uid(class, &[0, 1]));
        assert_eq!(answers(&user, &classes), [expected]);
    }

    /// PS3.7 D.3.3.4: the peer may be SCU of what we serve, else never SCP.
    #[test]
    fn a_role_is_answered_for_what_is_served() {
        let (ct, mr, find) =
            (uids::CT_IMAGE_STORAGE, uids::MR_IMAGE_STORAGE, "1.2.840.10008.5.1.4.1.2.2.1");
        let plain = [uids::IMPLICIT_VR_LITTLE_ENDIAN];
        let asked = [proposed(1, ct, &plain), proposed(3, mr, &plain), proposed(5, find, &plain)];
        for (scu, scp, reason, answer) in [
            (true, false, 0, [1, 0]),
            (true, true, 0, [1, 0]),
            (false, true, 1, [0, 0]),
            (false, false, 0, [1, 0]), // says nothing; the next item does
        ] {
            let user = UserInformation {
                roles: vec![role(ct, scu, scp), role(find, scu, scp), role(ct, true, true)],
                ..UserInformation::default()
            };
            let preference = preference();
            let policy = Policy { preference: &preference, unknown_sop_classes: false };
            let (results, _) = contexts(&asked, &user.roles[..2], &policy);
            let reasons: Vec<u8> = results.iter().map(|r| r.reason.clone() as u8).collect();
            assert_eq!(reasons, [reason, 0, 3], "{scu} {scp}");
            let classes = BTreeMap::from([(ct, Service::Storage), (mr, Service::Storage)]);
            let expected = UserVariableItem::Unknown(0x54, with_uid(ct, &answer));
            assert_eq!(answers(&user, &classes), [expected], "{scu} {scp}");
        }
    }

    #[test]
    fn extended_negotiation_and_the_window_are_answered() {
        let ct = uids::CT_IMAGE_STORAGE;
        let extended = |class: &str| Extended {
            sop_class_uid: class.to_owned(),
            information: vec![2, 0, 0, 0, 1, 0],
        };
        let user = UserInformation {
            asynchronous: true,
            extended: vec![extended(ct), extended(uids::VERIFICATION), extended("1.2.3")],
            ..UserInformation::default()
        };
        let classes =
            BTreeMap::from([(ct, Service::Storage), (uids::VERIFICATION, Service::Verification)]);
        let window = UserVariableItem::Unknown(0x53, vec![0, 1, 0, 1]);
        let full = UserVariableItem::Unknown(0x56, with_uid(ct, &[2, 0, 3, 0, 0, 0]));
        assert_eq!(answers(&user, &classes), [window, full]);
    }

    /// P17 to P20: result, source and reason as the standard numbers them.
    #[test]
    fn a_rejection_has_its_three_numbers() {
        for (rejection, numbers) in [
            (Rejection::ProtocolVersion, [1, 2, 2]),
            (Rejection::ApplicationContext, [1, 1, 2]),
            (Rejection::CalledAe, [1, 1, 7]),
            (Rejection::CallingAe, [1, 1, 3]),
            (Rejection::NoContext, [1, 1, 1]),
            (Rejection::Stranger, [1, 1, 3]),
            (Rejection::Address, [1, 1, 3]),
            (Rejection::User, [1, 1, 1]),
            (Rejection::LocalLimit, [2, 3, 2]),
            (Rejection::Congestion, [2, 3, 1]),
        ] {
            assert_eq!(rejection.encode()[7..10], numbers, "{rejection:?}");
        }
    }
}

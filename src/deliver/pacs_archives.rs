//! A matrix of archives: what each takes of an association, what is sent there, and that a probe says
//! the same.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;
use dicom_object::FileMetaTableBuilder;
use dicom_object::InMemDicomObject;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::dicom::command::Answer;
use crate::dicom::command::Command;
use crate::dicom::pdu::Items;

const IMPLICIT: &str = uids::IMPLICIT_VR_LITTLE_ENDIAN;
const EXPLICIT: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;
const SR: &str = uids::COMPREHENSIVE3_DSR_STORAGE;
const PDF: &str = uids::ENCAPSULATED_PDF_STORAGE;

/// Of one context: its place in the request, its class and the syntaxes that are proposed. Result of
/// PS3.8 table 9-18, and the Transfer Syntax Sub-Item.
type Judge = fn(usize, &str, &[String]) -> (u8, Option<&'static str>);

/// Class and first bytes of each data set.
type Got = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

async fn archive(judge: Judge) -> (Config, Got, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let got = Got::default();
    let kept = Arc::clone(&got);
    let task = tokio_util::task::TaskTracker::new().spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let _ = serve(socket, judge, &kept).await;
        }
    });
    let config = format!("ae_title = \"MAIN\"\naddress = \"{address}\"\ntimeout_s = 5");
    (toml::from_str(&config).unwrap(), got, AbortOnDropHandle::new(task))
}

async fn pdu(socket: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 6];
    socket.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
    let mut body = vec![0; length as usize];
    socket.read_exact(&mut body).await?;
    Ok((head[0], body))
}

fn item(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, 0], &length[..], body].concat()
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, 0], &length[..], body].concat()
}

async fn serve(mut socket: TcpStream, judge: Judge, got: &Got) -> std::io::Result<()> {
    let (_, request) = pdu(&mut socket).await?;
    let mut accept = request[..68].to_vec();
    accept.extend(item(0x10, b"1.2.840.10008.3.1.1.1"));
    let contexts = Items(&request[68..]).flatten().filter(|(kind, _)| *kind == 0x20);
    for (nth, (_, body)) in contexts.enumerate() {
        let (mut class, mut syntaxes) = (String::new(), Vec::new());
        for (kind, text) in Items(&body[4..]).flatten() {
            let text = String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
            if kind == 0x30 { class = text } else { syntaxes.push(text) }
        }
        let (result, syntax) = judge(nth, &class, &syntaxes);
        let mut context = vec![body[0], 0, result, 0];
        context.extend(syntax.map(|syntax| item(0x40, syntax.as_bytes())).unwrap_or_default());
        accept.extend(item(0x21, &context));
    }
    let user = [item(0x51, &16384_u32.to_be_bytes()), item(0x52, b"1.2.3.4")].concat();
    accept.extend(item(0x50, &user));
    socket.write_all(&framed(2, &accept)).await?;
    let (mut command, mut data) = (Vec::new(), Vec::new());
    loop {
        let (kind, body) = pdu(&mut socket).await?;
        if kind == 5 {
            return socket.write_all(&framed(6, &[0; 4])).await;
        }
        let mut rest = &body[..];
        while rest.len() > 6 {
            let length = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            let (context, control) = (rest[4], rest[5]);
            let piece = &rest[6..4 + length];
            rest = &rest[4 + length..];
            let whole = if control & 1 == 1 { &mut command } else { &mut data };
            whole.extend_from_slice(piece);
            let request = Command::parse(&command);
            let is_echo = request.as_ref().is_ok_and(|request| !request.has_data_set());
            if control == 2 || (control == 3 && is_echo) {
                let request = request.unwrap();
                let status = Status::SUCCESS;
                let answer = request.answer(&Answer {
                    status,
                    error_comment: "",
                    error_id: None,
                    sop_instance_uid: None,
                });
                let length = u32::try_from(answer.len() + 2).unwrap().to_be_bytes();
                let value = [&length[..], &[context, 3], &answer].concat();
                if !is_echo {
                    let class = request.sop_class_uid.clone();
                    got.lock().unwrap().push((class, std::mem::take(&mut data)));
                }
                command.clear();
                socket.write_all(&framed(4, &value)).await?;
            }
        }
    }
}

fn object(folder: &Path, class: &str) -> PathBuf {
    let mut object = InMemDicomObject::new_empty();
    object.put_str(tags::SOP_CLASS_UID, VR::UI, class);
    object.put_str(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4");
    object.put_str(tags::PATIENT_ID, VR::LO, "X");
    let meta = FileMetaTableBuilder::new().transfer_syntax(EXPLICIT);
    let file = folder.join(format!("{class}.dcm"));
    object.with_meta(meta).unwrap().write_to_file(&file).unwrap();
    file
}

fn by_class(class: &str, taken: &[&str]) -> (u8, Option<&'static str>) {
    if taken.contains(&class) { (0, Some(EXPLICIT)) } else { (3, Some(IMPLICIT)) }
}

fn first(syntaxes: &[String]) -> &'static str {
    if syntaxes[0] == IMPLICIT { IMPLICIT } else { EXPLICIT }
}

#[tokio::test]
async fn each_archive_gets_what_it_takes_and_a_probe_says_so_before() {
    let rows: [(&str, Judge, &[&str], &str); 8] = [
        (
            "the default transfer syntax alone",
            |_, _, syntaxes| match syntaxes.iter().any(|one| one == IMPLICIT) {
                true => (0, Some(IMPLICIT)),
                false => (4, Some(IMPLICIT)),
            },
            &[SR, PDF],
            IMPLICIT,
        ),
        (
            "Explicit VR alone",
            |_, _, syntaxes| if syntaxes[0] == EXPLICIT { (0, Some(EXPLICIT)) } else { (4, None) },
            &[SR, PDF],
            EXPLICIT,
        ),
        (
            "one class alone",
            |_, class, syntaxes| match by_class(class, &[PDF]).0 {
                0 => (0, Some(first(syntaxes))),
                _ => (3, Some(IMPLICIT)),
            },
            &[PDF],
            EXPLICIT,
        ),
        (
            "refusals without their sub-item",
            |_, class, syntaxes| if class == SR { (3, None) } else { (0, Some(first(syntaxes))) },
            &[PDF],
            EXPLICIT,
        ),
        (
            "no more than ten contexts of an association",
            |nth, _, syntaxes| if nth < 10 { (0, Some(first(syntaxes))) } else { (2, None) },
            &[SR, PDF],
            EXPLICIT,
        ),
        (
            "an accept in a syntax that nobody proposed",
            |_, _, _| (0, Some(uids::JPEG_BASELINE8_BIT)),
            &[],
            EXPLICIT,
        ),
        ("an accept without a syntax", |_, _, _| (0, None), &[], EXPLICIT),
        ("nothing at all", |_, _, _| (1, None), &[], EXPLICIT),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (name, judge, taken, syntax) in rows {
        let (config, got, _task) = archive(judge).await;
        let offer = probe(&config).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        for (class, artefact) in [(SR, Artefact::Sr), (PDF, Artefact::Pdf)] {
            let said = deliver(&config, &object(folder.path(), class)).await;
            let is_taken = taken.contains(&class);
            assert_eq!(said.is_ok(), is_taken, "{name}, {class}: {said:?}");
            if let Err(error) = said {
                assert!(matches!(error, DeliverError::NotTaken { .. }), "{name}: {error}");
            }
            let is_offered = offer.artefacts.iter().any(|(one, _)| *one == artefact);
            assert_eq!(is_offered, is_taken, "{name}, {class}: {offer:?}");
        }
        let got = got.lock().unwrap();
        let classes: Vec<&str> = got.iter().map(|(class, _)| class.as_str()).collect();
        assert_eq!(classes, taken, "{name}");
        for (class, data) in got.iter() {
            // SOP Class UID (0008,0016): its VR stands there, or its length.
            let value = match syntax {
                IMPLICIT => [&[0x08, 0, 0x16, 0], &(class.len() as u32).to_le_bytes()[..]].concat(),
                _ => [&[0x08, 0, 0x16, 0], &b"UI"[..]].concat(),
            };
            let even = (class.len() as u32).next_multiple_of(2).to_le_bytes();
            let value = if syntax == IMPLICIT { [&value[..4], &even].concat() } else { value };
            assert!(data.windows(value.len()).any(|part| part == value), "{name}: {data:?}");
        }
    }
}

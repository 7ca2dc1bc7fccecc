//! The DICOM port of the whole program: real peers, and a bad one made of bytes. Rows are named by
//! the ids of the list of faults; what needs no socket stands beside `dicom::scp_session`.

use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use crate::load::message;
use crate::load::uid;
use crate::node::Background;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::free_port;
use crate::node::pydicom_file;
use crate::node::python;
use crate::node::run;
use crate::node::said;
use crate::node::wait_for;
use crate::node::wait_until_listening;
use crate::peer::Bad;
use crate::peer::data;
use crate::peer::data_set;
use crate::peer::echo;
use crate::peer::files_below;
use crate::peer::objects;
use crate::peer::open_sockets;
use crate::peer::pdu;
use crate::peer::peak_mib;
use crate::peer::process;
use crate::peer::request;
use crate::peer::store_command;

/// One file for each way of encoding: as received, byte for byte, is what is promised.
const ENCODINGS: &[&str] = &[
    "CT_small.dcm",
    "rtplan.dcm", // implicit VR
    "ExplVR_BigEnd.dcm",
    "image_dfl.dcm", // deflated
    "MR_small_RLE.dcm",
    "JPGExtended.dcm",
    "SC_rgb_jpeg_gdcm.dcm", // JPEG lossless
    "examples_ybr_color.dcm",
    "JPEG2000.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "liver_1frame.dcm", // segmentation
    "test-SR.dcm",
];

/// What a stored file must still hold of each of `files`.
fn assert_kept(node: &Node, files: &[PathBuf]) {
    let stored: Vec<Vec<u8>> = objects(node).iter().map(|path| data_set(path)).collect();
    for file in files {
        let sent = data_set(file);
        assert!(stored.contains(&sent), "{} is not kept as it was sent", file.display());
    }
    assert_eq!(files_below(&node.data.join("incoming")), Vec::<PathBuf>::new());
}

/// Id, whether an association comes first, bytes to send, PDU types to expect (`None`: closed).
type Case = (&'static str, bool, Vec<u8>, &'static [Option<u8>]);

#[test]
fn dcmsend_echoscu_and_our_own_sender_find_a_node_that_keeps_what_they_send() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), &[]);
    let port = node.dicom.port().to_string();
    echo(node.dicom);
    let wrong = Command::new("echoscu").args(["-aec", "OTHER", "127.0.0.1", &port]).output();
    assert!(said(&wrong.unwrap()).contains("Called AE Title Not Recognized"));
    let files: Vec<PathBuf> = ENCODINGS.iter().map(|name| pydicom_file(name)).collect();
    let mut send = Command::new(PRELIM);
    run(send.arg("send").arg(format!("PRELIM@{}", node.dicom)).args(&files));
    assert_kept(&node, &files);
    // Again, by other programs and with the user identity of P22.
    let mut dcmsend = Command::new("dcmsend");
    run(dcmsend.args(["-aec", "PRELIM", "127.0.0.1", &port]).arg(&files[0]));
    let mut storescu = Command::new("storescu");
    storescu.args(["-aec", "PRELIM", "-usr", "joe", "-rsp", "127.0.0.1", &port]);
    run(storescu.arg(&files[0]));
    // dcmsend's is the same, storescu writes the data set anew: a version beside the first.
    assert_eq!(objects(&node).len(), files.len() + 1);
    assert_kept(&node, &files);
    assert!(node.terminate() == Some(0));
}

const PYNETDICOM: &str = "
import sys, pydicom
from pynetdicom import AE, StoragePresentationContexts
port, path = int(sys.argv[1]), sys.argv[2]
ae = AE(ae_title='PYNETDICOM')
ae.requested_contexts = StoragePresentationContexts[:125]
ae.add_requested_context('1.2.840.10008.1.1')
ae.add_requested_context('1.2.826.0.1.3680043.9.1.1')
ae.add_requested_context('1.2.840.10008.5.1.4.1.2.2.1')
a = ae.associate('127.0.0.1', port, ae_title='PRELIM')
assert a.is_established
assert len(a.accepted_contexts) == len(ae.requested_contexts) - 2
assert sorted(c.result for c in a.rejected_contexts) == [3, 3]
assert a.send_c_echo().Status == 0
ds = pydicom.dcmread(path)
assert a.send_c_store(ds).Status == 0
assert a.send_c_store(ds).Status == 0
ds.PatientName = 'Other^Bytes'
assert a.send_c_store(ds).Status == 0
ds.SOPInstanceUID = '1.2.3.4'
del ds.StudyInstanceUID
answer = a.send_c_store(ds)
assert answer.Status == 0xC000 and 'Study Instance UID' in answer.ErrorComment, answer
a.release()
assert a.is_released
";

#[test]
fn pynetdicom_is_answered_with_the_right_statuses() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), &[]);
    let mut script = Command::new(python());
    script.args(["-c", PYNETDICOM, &node.dicom.port().to_string()]);
    run(script.arg(pydicom_file("CT_small.dcm")));
    assert_eq!(objects(&node).len(), 2, "the first, and the other bytes beside it");
    assert_kept(&node, &[pydicom_file("CT_small.dcm")]);
}

/// Our sender and DCMTK's receiver, with PDUs as small as it allows.
#[test]
fn prelim_send_stores_at_dcmtk_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut storescp = Command::new("storescp");
    // Bit-preserving, any syntax.
    storescp.args(["+B", "+xa", "-pdu", "4096", "-aet", "PACS", "-od"]).arg(folder.path());
    let pacs = Background(storescp.arg(port.to_string()).spawn().unwrap());
    wait_until_listening(port);
    let files: Vec<PathBuf> = ["rtplan.dcm", "693_J2KI.dcm", "JPEG2000.dcm", "ExplVR_BigEnd.dcm"]
        .map(pydicom_file)
        .to_vec();
    let to = format!("PACS@127.0.0.1:{port}");
    let sent = run(Command::new(PRELIM).args(["send", "--json", &to]).args(&files));
    let summary: serde_json::Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!(summary["stored"], 4, "{summary}");
    let stored: Vec<Vec<u8>> = files_below(folder.path()).iter().map(|f| data_set(f)).collect();
    for file in &files {
        assert!(stored.contains(&data_set(file)), "{}", file.display());
    }
    // Exit code 1: one is no DICOM file. 2: nobody there.
    let mut some = Command::new(PRELIM);
    let some = some.args(["send", &to, "Cargo.toml"]).arg(&files[0]).output().unwrap();
    assert_eq!(some.status.code(), Some(1), "{}", said(&some));
    drop(pacs);
    let nobody = Command::new(PRELIM).args(["send", &to]).arg(&files[0]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(2), "{}", said(&nobody));
}

/// Where Orthanc is installed.
#[test]
fn prelim_send_stores_at_orthanc() {
    let orthanc = ["/usr/sbin/Orthanc", "/usr/bin/Orthanc"].iter().find(|p| Path::new(p).exists());
    let Some(orthanc) = orthanc else {
        eprintln!("Orthanc is not installed");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (dicom, http) = (free_port(), free_port());
    let settings = serde_json::json!({
        "StorageDirectory": folder.path(), "IndexDirectory": folder.path(),
        "DicomPort": dicom, "HttpPort": http, "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": true, "AuthenticationEnabled": false,
    });
    let path = folder.path().join("orthanc.json");
    std::fs::write(&path, settings.to_string()).unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut command = Command::new(orthanc);
    command.arg(path).stdout(log.try_clone().unwrap()).stderr(log);
    let _pacs = Background(command.spawn().unwrap());
    wait_until_listening(dicom);
    let files: Vec<PathBuf> =
        ["CT_small.dcm", "JPEG2000.dcm", "test-SR.dcm"].map(pydicom_file).to_vec();
    let to = format!("ORTHANC@127.0.0.1:{dicom}");
    run(Command::new(PRELIM).args(["send", &to]).args(&files));
}

/// P03, P04, P26, P34, P35, P36, P41 to P43, P83, P98: after each, memory is where it was and a good
/// sender is served.
#[test]
fn bad_peers_cost_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), &[]);
    let good = pydicom_file("CT_small.dcm");
    node.send(std::slice::from_ref(&good));
    let (memory, files) = (peak_mib(process(&node)), open_sockets(process(&node)));
    let endless = [&[1, 0][..], &[0xFF; 4]].concat();
    let nested: Vec<u8> = [
        8, 0, 0x32, 0x10, b'S', b'Q', 0, 0, 255, 255, 255, 255, 0xFE, 0xFF, 0, 0xE0, 255, 255, 255,
        255,
    ]
    .repeat(100_000);
    let half = [store_command("1.2.3.4"), data(0, &[0; 16_000])].concat();
    let nested: Vec<u8> = [
        vec![store_command("1.2.3.5")],
        nested.chunks(16_000).map(|chunk| data(0, chunk)).collect(),
        vec![data(2, &[])],
    ]
    .concat()
    .concat();
    let cases: Vec<Case> = vec![
        ("P03", false, endless.clone(), &[Some(7), None]),
        ("P04", false, [endless, vec![0; 8 << 20]].concat(), &[Some(7), None]),
        ("P26", true, [&[4, 0][..], &[0xFF; 4], &vec![0; 8 << 20]].concat(), &[Some(7), None]),
        ("P34", false, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), &[Some(7), None]),
        ("P35", false, b"GET / HTTP/1.1\r\n\r\n".to_vec(), &[Some(7), None]),
        ("P41", true, [half.clone(), pdu(5, &[0; 4])].concat(), &[Some(6), None]),
        ("P43", true, [half, pdu(7, &[0; 4])].concat(), &[None]),
        ("P83", true, nested, &[Some(4)]),
    ];
    for (name, associate, bytes, expected) in cases {
        let begun = Instant::now();
        let mut peer = match associate {
            true => Bad::associated(node.dicom, "BAD"),
            false => Bad::connect(node.dicom),
        };
        peer.say(&bytes);
        for said in expected {
            // A reset may overtake the last word of a node that did not read everything.
            let heard = peer.hear();
            assert!(heard == *said || heard.is_none(), "{name}: {heard:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(15), "{name}: {:?}", begun.elapsed());
        drop(peer);
        node.send(std::slice::from_ref(&good));
    }
    assert_eq!(objects(&node).len(), 1);
    assert_eq!(files_below(&node.data.join("incoming")), Vec::<PathBuf>::new());
    assert!(
        peak_mib(process(&node)) < memory + 48,
        "{} -> {} MiB",
        memory,
        peak_mib(process(&node))
    );
    wait_for("files closed", || (open_sockets(process(&node)) <= files + 4).then_some(()));
}

/// P100 to P103: silent connections and idle associations do not keep others out; over the limit
/// of a peer a request is refused.
#[test]
fn silent_peers_do_not_keep_others_out() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), &["dicom.associations_per_peer_max=20"]);
    let silent: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(node.dicom).unwrap()).collect();
    let idle: Vec<Bad> = (0..20).map(|_| Bad::associated(node.dicom, "IDLE")).collect();
    let mut one_more = Bad::connect(node.dicom);
    one_more.say(&request("IDLE"));
    assert_eq!(one_more.hear(), Some(3), "refused");
    node.send(&[pydicom_file("CT_small.dcm")]);
    echo(node.dicom);
    drop((silent, idle));
    let mut again = Bad::connect(node.dicom);
    wait_for("a place", || {
        again = Bad::connect(node.dicom);
        again.say(&request("IDLE"));
        (again.hear() == Some(2)).then_some(())
    });
}

/// Memory of a process now, MiB.
fn resident_mib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// 500 open associations, each answering in turn and again, while others come and go.
#[test]
fn five_hundred_open_associations_are_held() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), &["dicom.associations_per_peer_max=500"]);
    echo(node.dicom);
    let before = resident_mib(process(&node));
    let mut open: Vec<Bad> = (0..500).map(|_| Bad::associated(node.dicom, "MANY")).collect();
    let element = |number: u16, value: &[u8]| {
        let length = u32::try_from(value.len()).unwrap().to_le_bytes();
        [&[0, 0], &number.to_le_bytes()[..], &length[..], value].concat()
    };
    let command =
        [element(0x0100, &[0x30, 0]), element(0x0110, &[1, 0]), element(0x0800, &[1, 1])].concat();
    let begun = Instant::now();
    for round in 0..2 {
        for (i, peer) in open.iter_mut().enumerate() {
            peer.say(&data(3, &command));
            assert_eq!(peer.hear(), Some(4), "association {i}, round {round}");
        }
        echo(node.dicom);
        node.send(&[pydicom_file("CT_small.dcm")]);
    }
    let took = begun.elapsed();
    let after = resident_mib(process(&node));
    println!("500 associations: {before} -> {after} MiB, 1000 answers in {took:?}");
    assert!(after < before + 40, "{before} -> {after} MiB");
    let mut one_more = Bad::connect(node.dicom);
    one_more.say(&request("MANY"));
    assert_eq!(one_more.hear(), Some(3), "over the limit of the peer");
}

/// P104 to P107.
#[test]
fn many_connections_and_senders_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), &[]);
    let files: Vec<PathBuf> = ["CT_small.dcm", "MR_small.dcm"].map(pydicom_file).to_vec();
    node.send(&files);
    let (memory, before) = (peak_mib(process(&node)), open_sockets(process(&node)));
    for _ in 0..500 {
        drop(TcpStream::connect(node.dicom).unwrap());
    }
    for i in 0..200 {
        let mut peer = Bad::associated(node.dicom, "MANY");
        peer.say(&pdu(if i % 2 == 0 { 5 } else { 7 }, &[0; 4]));
    }
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| node.send(&files));
        }
    });
    assert_eq!(objects(&node).len(), 2);
    wait_for("files closed", || (open_sockets(process(&node)) <= before + 4).then_some(()));
    assert!(peak_mib(process(&node)) < memory + 64, "{memory} -> {} MiB", peak_mib(process(&node)));
}

/// S12: at SIGTERM an association in the middle of a message has its time, and the node ends.
#[test]
fn a_stop_ends_associations_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), &["dicom.drain_s=3"]);
    let mut idle = Bad::associated(node.dicom, "IDLE");
    let mut busy = Bad::associated(node.dicom, "BUSY");
    busy.say(&[store_command("1.2.3"), data(0, &[0; 1000])].concat());
    let begun = Instant::now();
    let data_folder = node.data.clone();
    assert_eq!(node.terminate(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    assert_eq!(idle.hear(), Some(7), "A-ABORT");
    assert_eq!(busy.hear(), Some(7), "A-ABORT");
    assert_eq!(files_below(&data_folder.join("incoming")), Vec::<PathBuf>::new());
}

/// DCMTK and many devices write a message in pieces with Nagle's algorithm on: a piece leaves when
/// the one before is acknowledged, which Linux puts off by 40 ms. Here it is not put off.
#[test]
fn a_sender_of_small_pieces_never_waits_for_an_acknowledgement() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), &["store.durability=relaxed"]);
    let mut peer = Bad::associated(node.dicom, "PIECES");
    let mut send = |number, size| {
        let whole = message(&uid(1, number, size));
        let (mut rest, began) = (&whole[..], Instant::now());
        while !rest.is_empty() {
            let (header, body) = rest.split_at(12);
            let length = u32::from_be_bytes(header[2..6].try_into().unwrap()) as usize - 6;
            peer.say(header);
            peer.say(&body[..length]);
            rest = &body[length..];
        }
        assert_eq!(peer.status(), Some((0, String::new())));
        began.elapsed()
    };
    // A young connection is acknowledged at once in any case; a busy machine is slow at times.
    for size in [500, 40_000, 600_000] {
        let fastest = (0..40).map(|number| send(number, size)).skip(20).min().unwrap();
        assert!(fastest < Duration::from_millis(35), "{size} bytes: {fastest:?}");
    }
}

//! A scripted peer, good and bad, over an in-memory stream. Rows are named by
//! the ids of the list of faults.

use std::sync::Mutex;

use async_trait::async_trait;
use dicom_dictionary_std::uids;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::*;
use crate::dicom::config::Config;
use crate::dicom::pdu::tests::application;
use crate::dicom::pdu::tests::context;
use crate::dicom::pdu::tests::frame;
use crate::dicom::pdu::tests::item;
use crate::dicom::pdu::tests::request;
use crate::dicom::pdu::tests::user_information;
use crate::dicom::storage_scp::StorageHandler;

const CT: &str = uids::CT_IMAGE_STORAGE;
const PLAIN: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;

type Instances = Arc<Mutex<Vec<(StoreRequest, Vec<u8>)>>>;

/// Keeps what was stored; refuses UIDs that begin with 9.
#[derive(Default)]
struct Memory {
    stored: Instances,
    /// Sinks that are open now.
    open: Arc<Mutex<i32>>,
}

struct Sink {
    request: StoreRequest,
    bytes: Vec<u8>,
    stored: Instances,
    open: Arc<Mutex<i32>>,
}

impl Drop for Sink {
    fn drop(&mut self) {
        *self.open.lock().unwrap() -= 1;
    }
}

#[async_trait]
impl StorageHandler for Memory {
    async fn begin(&self, request: StoreRequest) -> Result<Box<dyn InstanceSink>, Refusal> {
        if request.sop_instance_uid.starts_with('9') {
            return Err(Refusal::new(Status::OUT_OF_RESOURCES, "no room"));
        }
        *self.open.lock().unwrap() += 1;
        let (stored, open) = (Arc::clone(&self.stored), Arc::clone(&self.open));
        Ok(Box::new(Sink { request, bytes: Vec::new(), stored, open }))
    }
}

#[async_trait]
impl InstanceSink for Sink {
    async fn write(&mut self, chunk: Bytes) -> Result<(), Refusal> {
        assert!(chunk.len() <= CHUNK_BYTES + 128 * 1024);
        self.bytes.extend_from_slice(&chunk);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<(), Refusal> {
        let instance = (self.request.clone(), self.bytes.clone());
        self.stored.lock().unwrap().push(instance);
        Ok(())
    }
}

/// What the acceptor says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Accept(Vec<(u8, u8)>),
    Reject([u8; 3]),
    /// Command field, message id responded to, status.
    Response(u16, u16, u16),
    ReleaseReply,
    Abort(u8, u8),
    Closed,
}

struct Peer {
    stream: DuplexStream,
    stored: Instances,
    open: Arc<Mutex<i32>>,
    stop: CancellationToken,
    task: JoinHandle<Tally>,
    shared: Arc<Shared>,
}

impl Peer {
    fn new(config: Config) -> Peer {
        let memory = Memory::default();
        let (stored, open) = (Arc::clone(&memory.stored), Arc::clone(&memory.open));
        let stop = CancellationToken::new();
        let shared = Shared::new(config, Arc::new(memory), stop.clone());
        Peer::of(shared, stored, open, stop)
    }

    fn of(
        shared: Arc<Shared>,
        stored: Instances,
        open: Arc<Mutex<i32>>,
        stop: CancellationToken,
    ) -> Peer {
        let (stream, theirs) = tokio::io::duplex(64 * 1024);
        let ours = Arc::clone(&shared);
        let task = TaskTracker::new().spawn(async move {
            let peer = "127.0.0.1:104".parse().unwrap();
            run(theirs, Tally::new(1, peer), 1, &ours, CancellationToken::new()).await
        });
        Peer { stream, stored, open, stop, task, shared }
    }

    /// Another association at the same acceptor.
    fn another(&self) -> Peer {
        let (stored, open) = (Arc::clone(&self.stored), Arc::clone(&self.open));
        Peer::of(Arc::clone(&self.shared), stored, open, self.stop.clone())
    }

    async fn send(&mut self, bytes: &[u8]) {
        // A peer that has closed shows in what is read next.
        let _ = self.stream.write_all(bytes).await;
    }

    async fn hear(&mut self) -> Said {
        let mut header = [0; 6];
        if self.stream.read_exact(&mut header).await.is_err() {
            return Said::Closed;
        }
        let length = u32::from_be_bytes(header[2..6].try_into().unwrap());
        let mut body = vec![0; length as usize];
        self.stream.read_exact(&mut body).await.unwrap();
        match header[0] {
            2 => Said::Accept(results(&body[68..])),
            3 => Said::Reject(body[1..4].try_into().unwrap()),
            4 => {
                let command = Command::parse(&body[6..]).unwrap();
                Said::Response(command.field, command.responded_to, command.status.unwrap())
            }
            6 => Said::ReleaseReply,
            7 => Said::Abort(body[2], body[3]),
            other => panic!("PDU type {other}"),
        }
    }

    async fn associate(&mut self) {
        self.send(&good_request()).await;
        assert_eq!(self.hear().await, Said::Accept(vec![(1, 0), (3, 0), (5, 3)]));
    }

    fn stored(&self) -> Vec<String> {
        self.stored.lock().unwrap().iter().map(|(r, _)| r.sop_instance_uid.clone()).collect()
    }
}

/// Context ids and results of an A-ASSOCIATE-AC.
fn results(mut items: &[u8]) -> Vec<(u8, u8)> {
    let mut found = Vec::new();
    while items.len() >= 4 {
        let length = usize::from(u16::from_be_bytes([items[2], items[3]]));
        if items[0] == 0x21 {
            found.push((items[4], items[6]));
        }
        items = &items[4 + length..];
    }
    found
}

fn good_items() -> Vec<u8> {
    [
        application(),
        context(1, CT, &[PLAIN]),
        context(3, uids::VERIFICATION, &[uids::IMPLICIT_VR_LITTLE_ENDIAN]),
        context(5, uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND, &[PLAIN]),
        user_information(),
    ]
    .concat()
}

fn good_request() -> Vec<u8> {
    request("PRELIM", "SCANNER", &good_items())
}

fn pdv(context: u8, control: u8, data: &[u8]) -> Vec<u8> {
    let mut value = u32::try_from(data.len() + 2).unwrap().to_be_bytes().to_vec();
    value.extend_from_slice(&[context, control]);
    value.extend_from_slice(data);
    value
}

fn data(context: u8, control: u8, data: &[u8]) -> Vec<u8> {
    frame(4, &pdv(context, control, data))
}

fn store(id: u16, uid: &str) -> Vec<u8> {
    data(1, 3, &Command::store_request(id, CT, uid))
}

fn instance(id: u16, uid: &str) -> Vec<u8> {
    [store(id, uid), data(1, 2, b"pixels")].concat()
}

fn echo(id: u16) -> Vec<u8> {
    data(3, 3, &Command::echo_request(id))
}

/// A command as raw elements.
fn command(elements: &[(u16, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (element, value) in elements {
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&element.to_le_bytes());
        out.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
        out.extend_from_slice(value);
    }
    out
}

fn operation(field: u16, with_data: bool) -> Vec<u8> {
    let data_set: [u8; 2] = if with_data { [0, 0] } else { [1, 1] };
    command(&[(0x100, &field.to_le_bytes()), (0x110, &[9, 0]), (0x800, &data_set)])
}

/// An A-ASSOCIATE-AC, which only an acceptor sends.
fn accept_pdu() -> Vec<u8> {
    let mut accept = frame(2, &good_request()[6..74]);
    accept.extend(application());
    let length = u32::try_from(accept.len() - 6).unwrap();
    accept[2..6].copy_from_slice(&length.to_be_bytes());
    accept
}

const RELEASE: [u8; 10] = [5, 0, 0, 0, 0, 4, 0, 0, 0, 0];
const ABORT: [u8; 10] = [7, 0, 0, 0, 0, 4, 0, 0, 0, 0];

#[tokio::test]
async fn a_good_association_is_answered_to_the_end() {
    let mut peer = Peer::new(Config::default());
    peer.associate().await;
    peer.send(&echo(1)).await;
    assert_eq!(peer.hear().await, Said::Response(0x8030, 1, 0));
    peer.send(&instance(2, "1.2.3")).await;
    assert_eq!(peer.hear().await, Said::Response(0x8001, 2, 0));
    peer.send(&RELEASE).await;
    assert_eq!(peer.hear().await, Said::ReleaseReply);
    drop(peer.stream);
    let tally = peer.task.await.unwrap();
    assert_eq!((tally.stored, tally.stored_bytes, tally.echoes), (1, 6, 1));
    assert_eq!((tally.calling_ae.as_str(), tally.ended.as_str()), ("SCANNER", "released"));
    let stored = peer.stored.lock().unwrap();
    assert_eq!(stored[0].0.transfer_syntax_uid, PLAIN);
    assert_eq!(stored[0].1, b"pixels");
}

/// What is said instead of a good request, and the answer.
#[tokio::test]
async fn before_an_association() {
    let with = |items: &[Vec<u8>]| request("PRELIM", "SCANNER", &items.concat());
    let mut wrong_version = good_request();
    wrong_version[7] = 2;
    let mut truncated = good_request();
    truncated.truncate(100);
    truncated[2..6].copy_from_slice(&94_u32.to_be_bytes());
    let huge = [&[1, 0][..], &[0xFF; 4], &[0; 100]].concat();
    let ct = || context(1, CT, &[PLAIN]);
    let max = |n: u32| item(0x50, &item(0x51, &n.to_be_bytes()));
    let cases: Vec<(&str, Vec<u8>, Said)> = vec![
        ("P01 unknown type", frame(0x55, &[]), Said::Abort(2, 1)),
        ("P01 unknown type, body to come", vec![0x55, 0, 0, 0, 1, 0], Said::Abort(2, 1)),
        ("P02 type 0", frame(0, &[0; 4]), Said::Abort(2, 1)),
        ("P03 endless request", huge, Said::Abort(2, 6)),
        ("P05 data first", data(1, 3, b"x"), Said::Abort(2, 2)),
        ("P06 release first", RELEASE.to_vec(), Said::Abort(2, 2)),
        ("P07 abort first", ABORT.to_vec(), Said::Closed),
        ("P08 truncated", truncated, Said::Abort(2, 6)),
        ("P09 length 0", frame(1, &[]), Said::Abort(2, 6)),
        ("P10 no context", with(&[application(), user_information()]), Said::Reject([1, 1, 1])),
        (
            "P12 even id",
            with(&[application(), context(2, CT, &[PLAIN]), user_information()]),
            Said::Accept(vec![(2, 2)]),
        ),
        ("P15 maximum 1", with(&[application(), ct(), max(1)]), Said::Reject([1, 1, 1])),
        ("P16 maximum 0", with(&[application(), ct(), max(0)]), Said::Accept(vec![(1, 0)])),
        ("P17 version", wrong_version, Said::Reject([1, 2, 2])),
        (
            "P18 application",
            with(&[item(0x10, b"1.2.3"), ct(), user_information()]),
            Said::Reject([1, 1, 2]),
        ),
        ("P19 called", request("OTHER", "SCANNER", &good_items()), Said::Reject([1, 1, 7])),
        ("P20 calling", request("PRELIM", "STRANGER", &good_items()), Said::Reject([1, 1, 3])),
        ("P20 calling is spaces", request("PRELIM", "", &good_items()), Said::Reject([1, 1, 3])),
        ("P21 no user information", with(&[application(), ct()]), Said::Abort(2, 6)),
        ("P34 TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), Said::Abort(2, 1)),
        ("P35 HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), Said::Abort(2, 1)),
        (
            "P72 private class",
            with(&[
                application(),
                context(1, "1.2.826.0.1.3680043.9.1", &[PLAIN]),
                user_information(),
            ]),
            Said::Accept(vec![(1, 3)]),
        ),
        (
            "P73 unknown syntax",
            with(&[application(), context(1, CT, &["1.2.3.4"]), user_information()]),
            Said::Accept(vec![(1, 4)]),
        ),
    ];
    let allowed =
        ["SCANNER", "CT 1"].map(|ae| crate::domain::ae_title::AeTitle::parse(ae).unwrap());
    for (name, bytes, expected) in cases {
        let config = Config { calling_aes: allowed.to_vec(), ..Config::default() };
        let mut peer = Peer::new(config);
        peer.send(&bytes).await;
        assert_eq!(peer.hear().await, expected, "{name}");
        if !matches!(expected, Said::Accept(_)) {
            assert_eq!(peer.hear().await, Said::Closed, "{name}: closed after the last word");
        }
    }
}

/// P11, P22, P55: legal extremes succeed.
#[tokio::test]
async fn legal_extremes_succeed() {
    let syntaxes = [PLAIN, uids::IMPLICIT_VR_LITTLE_ENDIAN, uids::JPEG2000];
    let contexts: Vec<u8> = (0..128).flat_map(|i| context(i * 2 + 1, CT, &syntaxes)).collect();
    let identity = item(0x58, &[&[1, 1, 0, 3][..], b"joe", &[0, 0]].concat());
    let user = item(0x50, &[item(0x51, &[0; 4]), item(0x52, b"1.2"), identity].concat());
    let mut peer = Peer::new(Config::default());
    for byte in request("PRELIM", "SCANNER", &[application(), contexts, user].concat()) {
        peer.send(&[byte]).await;
    }
    let Said::Accept(accepted) = peer.hear().await else { panic!() };
    assert_eq!(accepted.len(), 128);
    assert!(accepted.iter().all(|(_, result)| *result == 0));
    // P56: a command and a data set in 64-byte pieces.
    for (control, bytes) in [(1, Command::store_request(1, CT, "1.2.3")), (0, vec![7; 5000])] {
        let pieces: Vec<&[u8]> = bytes.chunks(64).collect();
        for (i, piece) in pieces.iter().enumerate() {
            let last = if i + 1 == pieces.len() { 2 } else { 0 };
            peer.send(&data(255, control | last, piece)).await;
        }
    }
    assert_eq!(peer.hear().await, Said::Response(0x8001, 1, 0));
    assert_eq!(peer.stored.lock().unwrap()[0].1, vec![7; 5000]);
}

/// What is said on an open association, and all that is answered. Nothing of it is stored.
#[tokio::test]
async fn on_an_open_association() {
    let abort = |reason| vec![Said::Abort(2, reason), Said::Closed];
    let dropped = || vec![Said::Abort(0, 0), Said::Closed];
    let failed = |status| vec![Said::Response(0x8001, 1, status)];
    let find = data(1, 3, &operation(0x0020, true));
    let other_class = Command::store_request(1, uids::MR_IMAGE_STORAGE, "1.2.3");
    let no_data =
        command(&[(2, CT.as_bytes()), (0x100, &[1, 0]), (0x110, &[1, 0]), (0x800, &[1, 1])]);
    let big = vec![0; 60_000];
    let mut random = vec![0x5A; 300];
    random[0] = 0;
    let cases: Vec<(&str, Vec<u8>, Vec<Said>)> = vec![
        ("P23 second request", good_request(), abort(2)),
        ("P24 accept from a client", accept_pdu(), abort(2)),
        ("P25 unknown type", frame(0x42, &[1]), abort(1)),
        ("P26 endless data", [&[4, 0][..], &[0xFF; 4], &[1; 50]].concat(), abort(6)),
        (
            "P27 four times the maximum",
            frame(4, &[0; 1])[..2].iter().copied().chain((512_u32 << 10).to_be_bytes()).collect(),
            abort(6),
        ),
        ("P28 value of length 0", frame(4, &[0, 0, 0, 0, 1, 3]), abort(6)),
        ("P28 value of length 1", frame(4, &[0, 0, 0, 1, 1, 3]), abort(6)),
        ("P28 value too long", frame(4, &[0, 0, 1, 0, 1, 3]), abort(6)),
        ("P29 no value", frame(4, &[]), abort(6)),
        ("P30 context never proposed", data(77, 3, &Command::echo_request(1)), abort(6)),
        ("P31 context refused", data(5, 3, &operation(0x0020, true)), abort(6)),
        ("P33 release reply", frame(6, &[0; 4]), abort(2)),
        ("P37 endless command", [data(1, 1, &big), data(1, 1, &big)].concat(), abort(6)),
        ("P39 data before a command", data(1, 2, b"pixels"), abort(5)),
        ("P40 store without data", data(1, 3, &no_data), failed(0xC000)),
        ("P44 random command", data(1, 3, &random), dropped()),
        ("P45 truncated command", data(1, 3, &Command::echo_request(1)[..33]), dropped()),
        (
            "P46 unknown command",
            data(1, 3, &operation(0x0777, false)),
            vec![Said::Response(0x8777, 9, 0x211)],
        ),
        (
            "P47 find on a storage context",
            [find, data(1, 2, b"query")].concat(),
            vec![Said::Response(0x8020, 9, 0x211)],
        ),
        ("P48 a response", data(1, 3, &operation(0x8001, false)), dropped()),
        (
            "P48 n-action",
            data(1, 3, &operation(0x0130, false)),
            vec![Said::Response(0x8130, 9, 0x211)],
        ),
        ("P48 cancel", data(1, 3, &operation(0x0FFF, false)), dropped()),
        (
            "P49 another class",
            [data(1, 3, &other_class), data(1, 2, b"pixels")].concat(),
            failed(0x122),
        ),
        ("P54 interleaved contexts", [store(1, "1.2.3"), data(3, 0, b"x")].concat(), abort(5)),
        (
            "P54 command inside a data set",
            [store(1, "1.2.3"), data(1, 0, b"x"), store(2, "1.2.4")].concat(),
            abort(5),
        ),
        (
            "a refusal comes after the data set",
            [store(1, "9.1"), data(1, 0, &big), data(1, 2, &big)].concat(),
            failed(0xA700),
        ),
    ];
    for (name, bytes, expected) in cases {
        let mut peer = Peer::new(Config::default());
        peer.associate().await;
        peer.send(&bytes).await;
        for said in expected {
            assert_eq!(peer.hear().await, said, "{name}");
        }
        assert_eq!(peer.stored(), Vec::<String>::new(), "{name}");
        // A good association at the same acceptor goes on.
        let mut good = peer.another();
        good.associate().await;
        good.send(&[instance(1, "1.2.9"), RELEASE.to_vec()].concat()).await;
        assert_eq!(good.hear().await, Said::Response(0x8001, 1, 0), "{name}");
        drop((peer.stream, good.stream));
        peer.task.await.unwrap();
        good.task.await.unwrap();
        assert_eq!(*peer.open.lock().unwrap(), 0, "{name}: no sink is left open");
    }
}

/// P41, P42, P43: an end in the middle of a data set leaves nothing.
#[tokio::test]
async fn half_an_instance_is_none() {
    for (name, last, ended) in [
        ("release", RELEASE.to_vec(), "released: in the middle of a message"),
        ("abort", ABORT.to_vec(), "aborted: by the peer (0, 0)"),
        ("close", vec![], "closed: by the peer without release"),
    ] {
        let mut peer = Peer::new(Config::default());
        peer.associate().await;
        peer.send(&[store(1, "1.2.3"), data(1, 0, &[0; 50_000]), last].concat()).await;
        drop(peer.stream);
        assert_eq!(peer.task.await.unwrap().ended, ended, "{name}");
        assert!(peer.stored.lock().unwrap().is_empty());
        assert_eq!(*peer.open.lock().unwrap(), 0, "{name}");
    }
}

/// P52, P53: message id 0 and a bad priority are no reason; answers come in order.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let mut peer = Peer::new(Config::default());
    peer.associate().await;
    let one_pdu = frame(
        4,
        &[
            pdv(3, 3, &Command::echo_request(7)),
            pdv(1, 3, &Command::store_request(8, CT, "1.5")),
            pdv(1, 2, b"x"),
        ]
        .concat(),
    );
    let requests = [instance(0, "1.2"), instance(5, "1.3"), echo(6), one_pdu].concat();
    peer.send(&requests).await;
    for expected in [(0x8001, 0), (0x8001, 5), (0x8030, 6), (0x8030, 7), (0x8001, 8)] {
        assert_eq!(peer.hear().await, Said::Response(expected.0, expected.1, 0));
    }
    assert_eq!(peer.stored(), ["1.2", "1.3", "1.5"]);
}

/// P99: answered A700 at the limit, and cut off when it goes on for ever.
#[tokio::test]
async fn an_endless_data_set_is_answered_and_cut_off() {
    let mut peer = Peer::new(Config { object_bytes_max: 1 << 20, ..Config::default() });
    peer.associate().await;
    peer.send(&store(1, "1.2.3")).await;
    let piece = data(1, 0, &vec![0; 100_000]);
    for _ in 0..11 {
        peer.send(&piece).await;
    }
    assert_eq!(peer.hear().await, Said::Response(0x8001, 1, 0xA700));
    assert_eq!(*peer.open.lock().unwrap(), 0, "the half instance is gone at once");
    // The end comes after all: no second answer, and the next instance is taken.
    peer.send(&[data(1, 2, b"end"), instance(2, "1.2.4")].concat()).await;
    assert_eq!(peer.hear().await, Said::Response(0x8001, 2, 0));
    peer.send(&store(3, "1.2.5")).await;
    for _ in 0..750 {
        peer.send(&piece).await;
    }
    assert_eq!(peer.hear().await, Said::Response(0x8001, 3, 0xA700));
    assert_eq!(peer.hear().await, Said::Abort(0, 0));
}

/// Silent, half a request, half a PDU, half a message: each ends by its clock.
#[tokio::test]
async fn slow_peers_are_cut_off() {
    let cases: Vec<(&str, bool, Vec<u8>)> = vec![
        ("silent", false, vec![]),
        ("half a request", false, good_request()[..50].to_vec()),
        ("idle", true, vec![]),
        ("P38 command only", true, store(1, "1.2.3")),
        ("half a data set", true, [store(1, "1.2.3"), data(1, 0, b"x")].concat()),
        ("half a PDU", true, vec![4, 0, 0, 0, 1, 0, 0, 0]),
    ];
    let peers = cases.into_iter().map(|(name, associate, bytes)| async move {
        let mut peer = Peer::new(Config { artim_s: 1, idle_s: 2, ..Config::default() });
        if associate {
            peer.associate().await;
        }
        let begun = Instant::now();
        peer.send(&bytes).await;
        let (said, seconds) = match associate {
            true => (Said::Abort(2, 0), 2.0),
            false => (Said::Closed, 1.0),
        };
        assert_eq!(peer.hear().await, said, "{name}");
        let took = begun.elapsed().as_secs_f64();
        assert!((seconds - 0.1..seconds + 2.0).contains(&took), "{name}: {took} s");
        assert_eq!(*peer.open.lock().unwrap(), 0, "{name}");
    });
    for peer in peers.map(|peer| TaskTracker::new().spawn(peer)).collect::<Vec<_>>() {
        peer.await.unwrap();
    }
}

/// A byte now and then does not keep a request or a message alive.
#[tokio::test]
async fn a_slow_loris_is_cut_off() {
    let mut peer = Peer::new(Config { artim_s: 1, ..Config::default() });
    let begun = Instant::now();
    for byte in good_request() {
        peer.send(&[byte]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        if peer.task.is_finished() {
            break;
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(4));
    let mut peer = Peer::new(Config { message_s: 2, ..Config::default() });
    peer.associate().await;
    peer.send(&store(1, "1.2.3")).await;
    let begun = Instant::now();
    while *peer.open.lock().unwrap() == 1 || begun.elapsed() < Duration::from_millis(500) {
        peer.send(&data(1, 0, b"x")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(begun.elapsed() < Duration::from_secs(8));
    }
    assert!(begun.elapsed() >= Duration::from_millis(1900));
}

/// P103: over the limit an association is refused for the moment, and another peer's is not.
#[tokio::test]
async fn associations_are_limited_for_each_peer() {
    let mut first = Peer::new(Config { associations_per_peer_max: 2, ..Config::default() });
    first.associate().await;
    let mut second = first.another();
    second.associate().await;
    let mut third = first.another();
    third.send(&good_request()).await;
    assert_eq!(third.hear().await, Said::Reject([2, 3, 2]));
    let mut other = first.another();
    other.send(&request("PRELIM", "OTHER SCANNER", &good_items())).await;
    assert!(matches!(other.hear().await, Said::Accept(_)));
    drop(second.stream);
    second.task.await.unwrap();
    first.another().associate().await;
}

/// S12: an instance under way is finished; an idle association is aborted soon, an endless one
/// at the end of the drain.
#[tokio::test]
async fn a_stop_lets_messages_finish() {
    let mut busy = Peer::new(Config { drain_s: 3, ..Config::default() });
    busy.associate().await;
    busy.send(&store(1, "1.2.3")).await;
    let mut idle = busy.another();
    idle.associate().await;
    let mut endless = busy.another();
    endless.associate().await;
    endless.send(&store(1, "1.2.4")).await;
    while *busy.open.lock().unwrap() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    busy.stop.cancel();
    let begun = Instant::now();
    assert_eq!(idle.hear().await, Said::Abort(2, 0));
    assert!(begun.elapsed() < Duration::from_millis(2500));
    busy.send(&data(1, 2, b"pixels")).await;
    assert_eq!(busy.hear().await, Said::Response(0x8001, 1, 0));
    assert_eq!(busy.hear().await, Said::Abort(2, 0));
    assert_eq!(endless.hear().await, Said::Abort(2, 0));
    let took = begun.elapsed().as_secs_f64();
    assert!((2.9..6.0).contains(&took), "{took} s");
}

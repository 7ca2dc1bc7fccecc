//! Services beside storage on one association, over an in-memory stream.

use std::sync::Mutex;

use async_trait::async_trait;
use dicom_dictionary_std::uids;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::DuplexStream;
use tokio_util::task::TaskTracker;

use super::*;
use crate::dicom::config::Config;
use crate::dicom::pdu::tests::application;
use crate::dicom::pdu::tests::context;
use crate::dicom::pdu::tests::frame;
use crate::dicom::pdu::tests::request;
use crate::dicom::pdu::tests::user_information;
use crate::dicom::service::Report;
use crate::dicom::service::ServiceHandler;
use crate::dicom::storage_scp::StorageHandler;
use crate::dicom::storage_scp::StoreRequest;

const CLASS: &str = uids::STORAGE_COMMITMENT_PUSH_MODEL;
const PLAIN: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;

/// Takes every request; what became of its reports.
#[derive(Default)]
struct Scripted {
    served: Mutex<Vec<usize>>,
    reported: Mutex<Vec<Option<Status>>>,
}

#[async_trait]
impl ServiceHandler for Scripted {
    async fn serve(&self, request: ServiceRequest) -> ServiceAnswer {
        self.served.lock().unwrap().push(request.data_set.len());
        ServiceAnswer { report: Some("1".into()), ..ServiceAnswer::success() }
    }

    async fn report(&self, id: &str, _: &str) -> Option<Report> {
        assert_eq!(id, "1");
        let sop_instance_uid = uids::STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE;
        Some(Report { sop_class_uid: CLASS, sop_instance_uid, event_type: 1, data_set: vec![0; 8] })
    }

    async fn reported(&self, _: &str, status: Option<Status>) {
        self.reported.lock().unwrap().push(status);
    }
}

struct OnlyServices(Arc<Scripted>);

#[async_trait]
impl StorageHandler for OnlyServices {
    async fn begin(&self, _: StoreRequest) -> Result<Box<dyn InstanceSink>, Refusal> {
        Err(Refusal::new(Status::OUT_OF_RESOURCES, "none"))
    }

    fn services(&self) -> Option<Arc<dyn ServiceHandler>> {
        Some(Arc::<Scripted>::clone(&self.0))
    }
}

async fn associated() -> (DuplexStream, Arc<Scripted>, tokio::task::JoinHandle<Tally>) {
    let handler = Arc::new(Scripted::default());
    let stop = CancellationToken::new();
    let shared = Shared::new(Config::default(), Arc::new(OnlyServices(Arc::clone(&handler))), stop);
    let (mut stream, theirs) = tokio::io::duplex(1 << 20);
    let task = TaskTracker::new().spawn(async move {
        let peer = "127.0.0.1:104".parse().unwrap();
        run(theirs, Tally::new(1, peer), 1, &shared, CancellationToken::new()).await
    });
    let items = [application(), context(1, CLASS, &[PLAIN]), user_information()].concat();
    stream.write_all(&request("PRELIM", "CT1", &items)).await.unwrap();
    assert_eq!(hear(&mut stream).await.map(|pdu| pdu.0), Some(2));
    (stream, handler, task)
}

/// Type and body of the next PDU.
async fn hear(stream: &mut DuplexStream) -> Option<(u8, Vec<u8>)> {
    let mut header = [0; 6];
    stream.read_exact(&mut header).await.ok()?;
    let length = u32::from_be_bytes(header[2..6].try_into().unwrap());
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await.ok()?;
    Some((header[0], body))
}

fn data(control: u8, data: &[u8]) -> Vec<u8> {
    let mut value = u32::try_from(data.len() + 2).unwrap().to_be_bytes().to_vec();
    value.extend_from_slice(&[1, control]);
    value.extend_from_slice(data);
    frame(4, &value)
}

/// A command as raw elements.
fn command(elements: &[(u16, &[u8])]) -> Vec<u8> {
    let element = |(number, value): &(u16, &[u8])| {
        let length = u32::try_from(value.len()).unwrap().to_le_bytes();
        [&[0, 0][..], &number.to_le_bytes(), &length, value].concat()
    };
    elements.iter().map(element).collect::<Vec<_>>().concat()
}

fn action(id: u8) -> Vec<u8> {
    let class = format!("{CLASS}\0");
    let class = &class.as_bytes()[..class.len() / 2 * 2];
    data(
        3,
        &command(&[
            (0x0003, class),
            (0x0100, &field::N_ACTION_RQ.to_le_bytes()),
            (0x0110, &[id, 0]),
            (0x0800, &[0, 0]),
            (0x1008, &[1, 0]),
        ]),
    )
}

fn report_answer(id: u16) -> Vec<u8> {
    data(
        3,
        &command(&[
            (0x0100, &field::N_EVENT_REPORT_RSP.to_le_bytes()),
            (0x0120, &id.to_le_bytes()),
            (0x0800, &NO_DATA),
            (0x0900, &[0, 0]),
        ]),
    )
}

const NO_DATA: [u8; 2] = [1, 1];
const RELEASE: [u8; 10] = [5, 0, 0, 0, 0, 4, 0, 0, 0, 0];

async fn answer_to(stream: &mut DuplexStream) -> Command {
    let (kind, body) = hear(stream).await.unwrap();
    assert_eq!(kind, 4);
    Command::parse(&body[6..]).unwrap()
}

#[tokio::test]
async fn a_report_goes_on_the_association_of_a_peer_that_stays() {
    let (mut stream, handler, task) = associated().await;
    stream.write_all(&[action(7), data(2, &[0; 100])].concat()).await.unwrap();
    let answer = answer_to(&mut stream).await;
    assert_eq!((answer.field, answer.responded_to, answer.status), (0x8130, 7, Some(0)));
    let report = answer_to(&mut stream).await;
    assert_eq!((report.field, report.message_id), (field::N_EVENT_REPORT_RQ, 1));
    assert_eq!(report.sop_instance_uid, uids::STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE);
    let (_, body) = hear(&mut stream).await.unwrap();
    assert_eq!(body.len(), 6 + 8, "its data set");
    stream.write_all(&report_answer(1)).await.unwrap();
    stream.write_all(&RELEASE).await.unwrap();
    assert_eq!(hear(&mut stream).await.unwrap().0, 6);
    drop(stream);
    task.await.unwrap();
    assert_eq!(*handler.served.lock().unwrap(), [100]);
    assert_eq!(*handler.reported.lock().unwrap(), [Some(Status::SUCCESS)]);
}

#[tokio::test]
async fn a_peer_that_leaves_is_told_another_way() {
    let (mut stream, handler, task) = associated().await;
    stream.write_all(&[action(7), data(2, &[0; 100])].concat()).await.unwrap();
    answer_to(&mut stream).await;
    stream.write_all(&RELEASE).await.unwrap();
    assert_eq!(hear(&mut stream).await.unwrap().0, 6, "no report in the way of the release");
    drop(stream);
    task.await.unwrap();
    assert_eq!(*handler.reported.lock().unwrap(), [None]);
}

/// P37, P48, P98 for these services: an endless data set, an answer to nothing, an operation that
/// is none of the class.
#[tokio::test]
async fn what_a_bad_peer_says_costs_nothing() {
    let (mut stream, handler, _task) = associated().await;
    stream.write_all(&action(7)).await.unwrap();
    let chunk = vec![0; 16_000];
    for _ in 0..SERVICE_BYTES_MAX / chunk.len() + 1 {
        stream.write_all(&data(0, &chunk)).await.unwrap();
    }
    stream.write_all(&data(2, &[])).await.unwrap();
    assert_eq!(answer_to(&mut stream).await.status, Some(0x0213));
    assert!(handler.served.lock().unwrap().is_empty());
    // C-FIND on this context, then the answer to a report that was never sent.
    let find = command(&[
        (0x0100, &field::C_FIND_RQ.to_le_bytes()),
        (0x0110, &[8, 0]),
        (0x0800, &NO_DATA),
    ]);
    stream.write_all(&data(3, &find)).await.unwrap();
    assert_eq!(answer_to(&mut stream).await.status, Some(0x0211));
    stream.write_all(&report_answer(1)).await.unwrap();
    assert_eq!(hear(&mut stream).await.unwrap().0, 7, "aborted");
}

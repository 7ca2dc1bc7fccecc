//! The room as its peers see it: a real listener, real requests, also bad ones.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dicom::status::Status;
use crate::dicom::storage_scp::InstanceSink;
use crate::dicom::storage_scp::Refusal;
use crate::dicom::storage_scp::StorageHandler;
use crate::dicom::storage_scp::StoreRequest;
use crate::domain::assessment::Assessment;
use crate::domain::clock::SystemClock;
use crate::domain::picture::PictureFormat;
use crate::domain::sample;
use crate::domain::secret::Secret;
use crate::domain::study::PersonName;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopClassUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::domain::uid::TransferSyntaxUid;
use crate::domain::urgency::Urgency;
use crate::store::Store;
use crate::store::event::Event;
use crate::store::event::Job;
use crate::store::event::JobKind;
use crate::store::event::JobOutcome;
use crate::store::event::Receipt;
use crate::store::event::Source;
use crate::store::event::StudyState;
use crate::web::Accepted;
use crate::web::Config;
use crate::web::Intake;
use crate::web::IntakeError;
use crate::web::Upload;
use crate::web::WebState;

const TOKEN: &str = "0123456789abcdef-token";
const LOCAL: &str = "local-token";

/// Keeps the size of what came, and says yes.
struct Scripted;

#[async_trait]
impl Intake for Scripted {
    async fn dicom(&self, file: &Path, _: &Upload) -> Result<Accepted, IntakeError> {
        match std::fs::metadata(file).unwrap().len() {
            ..=132 => Err(IntakeError::Unusable("no data set follows".into())),
            _ => Ok(accepted()),
        }
    }

    async fn picture(
        &self,
        _: &Path,
        format: PictureFormat,
        upload: &Upload,
    ) -> Result<Accepted, IntakeError> {
        assert_eq!(format, PictureFormat::Png);
        assert_eq!((upload.modality.as_str(), upload.age.as_str()), ("CR", "004Y"));
        Ok(accepted())
    }
}

/// Has no workers.
struct Untried;

#[async_trait]
impl crate::web::Trials for Untried {
    async fn try_files(
        &self,
        _: std::path::PathBuf,
        files: Vec<std::path::PathBuf>,
    ) -> Result<crate::pipeline::trying::Trial, String> {
        Err(format!("{} files cannot be tried: no workers", files.len()))
    }
}

/// Takes no instance.
struct Closed;

#[async_trait]
impl StorageHandler for Closed {
    async fn begin(&self, _: StoreRequest) -> Result<Box<dyn InstanceSink>, Refusal> {
        Err(Refusal::new(Status::OUT_OF_RESOURCES, "full"))
    }
}

fn accepted() -> Accepted {
    let sop_instance_uid = SopInstanceUid::parse("1.2.1.1.1").unwrap();
    Accepted { study_uid: uid(1), sop_instance_uid, revision: 1 }
}

fn uid(n: u32) -> StudyUid {
    StudyUid::parse(&format!("1.2.{n}")).unwrap()
}

struct Running {
    address: std::net::SocketAddr,
    store: Store,
    stop: CancellationToken,
    tasks: TaskTracker,
    _folder: tempfile::TempDir,
}

/// Serves the sample studies; with a token, when `token`.
async fn start(token: bool, config: Config) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let settings = crate::store::Config { free_bytes_min: 0, ..Default::default() };
    let (store, _) = Store::open(folder.path(), &settings, Arc::new(SystemClock)).unwrap();
    fill(&store).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let state = WebState {
        store: store.clone(),
        intake: Arc::new(Scripted),
        config: Arc::new(config),
        token: token.then(|| Secret::new(TOKEN)),
        accounts: Arc::new(crate::web::accounts::Live::open(folder.path()).unwrap()),
        local_token: Secret::new(LOCAL),
        metrics: metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle(),
        not_ready: Arc::new(Vec::new),
        notes: Arc::new(Vec::new),
        sources: Arc::new(crate::dicom::sources::Sources::open(None, Arc::new(SystemClock))),
        access: Arc::new(crate::dicom::access::Access::new(Default::default(), None)),
        missed: Arc::new(Vec::new),
        clock: Arc::new(SystemClock),
        dicomweb: crate::web::dicomweb::Parts {
            receiver: Arc::new(Closed),
            // Starts no process before it has something to do.
            pool: crate::worker::Pool::start(
                &Default::default(),
                "/nowhere".into(),
                TaskTracker::new(),
            ),
            ae_title: "PRELIM".into(),
            object_bytes_max: 1 << 20,
            listening: address,
        },
        currency: "EUR".into(),
        trials: Arc::new(Untried),
        settings: Arc::new(Vec::new),
        links: crate::alert::Signer::new([7; 32]),
        alert_record: Arc::new(|_| Ok(None)),
        services: Arc::new(|| vec!["stroke".into()]),
        reload: Arc::new(|| crate::web::local::Reloaded { taken: true, lines: Vec::new() }),
        gateways: Arc::new(Vec::new),
        canaries: Arc::new(|| Ok(Vec::new())),
    };
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let site = Arc::new(super::Site::open(state, stop.clone(), tasks.clone()));
    tasks.spawn(site.serve(super::Doors { plain: listener, encrypted: None }));
    Running { address, store, stop, tasks, _folder: folder }
}

impl Running {
    fn client(&self) -> reqwest::Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20));
        client.redirect(reqwest::redirect::Policy::none()).build().unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.client().get(self.url(path)).send().await.unwrap()
    }

    /// The bytes as they stand; the answer until the other end closes, or 3 s.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = request.replace("HOST", &self.address.to_string());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let mut piece = [0; 8192];
        let limit = tokio::time::Instant::now() + Duration::from_secs(3);
        while let Ok(Ok(n @ 1..)) = tokio::time::timeout_at(limit, stream.read(&mut piece)).await {
            answer.extend_from_slice(&piece[..n]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        let ended = tokio::time::timeout(Duration::from_secs(8), self.tasks.wait()).await;
        assert!(ended.is_ok(), "connections ended with the node");
    }
}

/// Five studies: critical, not covered, needs review, one that still comes, one that failed.
async fn fill(store: &Store) {
    let mut hostile = sample::positive_chest();
    hostile.study.patient.name = PersonName::parse("<script>alert(1)</script>^\"onload=x");
    for (n, mut assessment) in
        [(1, hostile), (2, sample::not_covered_ct()), (3, sample::needs_review())]
    {
        assessment.study.study_uid = uid(n);
        receive(store, n).await;
        read(store, n, &assessment).await;
    }
    receive(store, 4).await;
    receive(store, 5).await;
    let at = Timestamp::now();
    let to = StudyState::Failed;
    let reason = "no image could be decoded".into();
    let failed = Event::StateChanged { study_uid: uid(5), revision: 1, to, reason, at };
    store.commit(vec![failed]).await.unwrap();
}

async fn receive(store: &Store, n: u32) {
    let study_uid = uid(n);
    let series_uid = SeriesUid::parse(&format!("1.2.{n}.1")).unwrap();
    let sop_instance_uid = SopInstanceUid::parse(&format!("1.2.{n}.1.1")).unwrap();
    let mut object = store.begin_object().unwrap();
    let bytes = vec![0x5a; 300_000];
    object.write(&bytes).unwrap();
    let object = object.place(&study_uid, &series_uid, &sop_instance_uid).unwrap();
    let receipt = Receipt {
        study_uid,
        series_uid,
        sop_instance_uid,
        sop_class_uid: SopClassUid::parse("1.2.840.10008.5.1.4.1.1.1").unwrap(),
        transfer_syntax_uid: TransferSyntaxUid::parse("1.2.840.10008.1.2.1").unwrap(),
        object,
        size_bytes: bytes.len() as u64,
        digest: format!("digest {n}"),
        from: Source {
            calling_ae: "<b>CR1</b>".into(),
            called_ae: "PRELIM".into(),
            address: "127.0.0.1:4".into(),
            association: "7".into(),
        },
        received_at: Timestamp::now(),
        begun_at: None,
        unreadable: None,
        is_original: None,
    };
    store.commit_instance(receipt).await.unwrap();
}

async fn read(store: &Store, n: u32, assessment: &Assessment) {
    let (study_uid, revision, at) = (uid(n), 1, Timestamp::now());
    let mut events = vec![
        Event::RevisionClosed {
            study_uid: study_uid.clone(),
            revision,
            instances: 1,
            reason: "no new instance for 30 s".into(),
            at,
        },
        Event::StudyDescribed {
            study_uid: study_uid.clone(),
            revision,
            modality: "CR".into(),
            examination: assessment.examination.clone(),
            at,
        },
        Event::Assessed {
            patient: None,
            models_differ: None,
            study_uid: study_uid.clone(),
            revision,
            outcome: assessment.outcome.as_str().into(),
            urgency: assessment.urgency,
            findings: assessment.present().map(|f| f.concept.meaning.clone()).collect(),
            at,
        },
    ];
    let files = vec![
        ("assessment.json".to_owned(), "application/json", serde_json::to_vec(assessment).unwrap()),
        ("report.html".to_owned(), "text/html", b"<p>the report</p>".to_vec()),
    ];
    for picture in &assessment.pictures {
        let scale = 4;
        let png = sample::picture_png(picture.width_px / scale, picture.height_px / scale);
        // Pictures are no artefacts: the assessment names them.
        store.write_result(&study_uid, revision, &picture.file, &png).unwrap();
    }
    for (file, media_type, bytes) in files {
        store.write_result(&study_uid, revision, &file, &bytes).unwrap();
        let digest =
            sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(&bytes));
        events.push(Event::ArtefactWritten {
            study_uid: study_uid.clone(),
            revision,
            file,
            media_type: media_type.into(),
            size_bytes: bytes.len() as u64,
            digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            sop_instance_uid: None,
            at,
        });
    }
    let id = format!("{study_uid}/1/deliver/sr.dcm/pacs");
    let kind = JobKind::Deliver { artefact: "sr.dcm".into(), destination: "pacs".into() };
    let job =
        Job { id: id.clone(), kind, study_uid: study_uid.clone(), revision, due: at, priority: 5 };
    events.push(Event::JobEnqueued { job });
    events.push(Event::JobStarted { id: id.clone(), at });
    if n == 1 {
        let (alert, channel) = ("a1".to_owned(), "mail".to_owned());
        let kind = JobKind::Alert { alert: alert.clone(), channel: channel.clone(), level: 0 };
        let id = format!("{study_uid}/1/alert/a1/mail");
        let job = Job { id, kind, study_uid: study_uid.clone(), revision, due: at, priority: 1 };
        events.push(Event::AlertRaised {
            study_uid: study_uid.clone(),
            revision,
            alert: alert.clone(),
            urgency: Urgency::Critical,
            findings: vec!["Pneumothorax".into()],
            recipients: vec!["on_call".into()],
            kind: Default::default(),
            service: String::new(),
            told: vec![],
            at,
        });
        events.push(Event::JobEnqueued { job });
        let (study_uid, detail) = (study_uid.clone(), "250 queued as 4711".into());
        events.push(Event::AlertSent { study_uid, revision, alert, channel, level: 0, detail, at });
    }
    if n == 2 {
        let cause = "association rejected: called AE title not recognised".into();
        events.push(Event::JobEnded { id, outcome: JobOutcome::Dead { cause }, at });
    }
    let reason = assessment.outcome.reason().filter(|_| assessment.outcome.is_review());
    let (to, reason) = match reason {
        Some(reason) => (StudyState::NeedsReview, reason.to_owned()),
        None => (StudyState::Delivered, String::new()),
    };
    events.push(Event::StateChanged { study_uid, revision, to, reason, at });
    store.commit(events).await.unwrap();
}

/// All routes that show or take something, with the method that they take.
const GUARDED: [&str; 12] = [
    "/",
    "/studies/1.2.1",
    "/queue",
    "/results/1.2.1/1/report.html",
    "/metrics",
    "/events",
    "/api/v1/analyses/1.2.1-1",
    "/local/v1/studies",
    "/local/v1/study/1.2.1",
    "/local/v1/object/1.2.1.1.1",
    "/local/v1/queue",
    "/local/v1/verify",
];

#[tokio::test]
async fn every_page_is_made_and_nothing_from_outside_is_markup() {
    let node = start(false, Config::default()).await;
    let list = node.get("/").await.text().await.unwrap();
    assert!(!list.contains("<script>alert") && list.contains("&lt;script&gt;alert(1)"), "{list}");
    assert!(list.contains("&lt;b&gt;CR1&lt;/b&gt;"));
    for word in ["Critical", "Needs review", "Failed", "Not assessed", "In progress"] {
        assert!(list.contains(word), "no {word} in\n{list}");
    }
    assert!(!list.contains("Routine"), "nothing here was found to be routine");
    let place = |text: &str| list.find(&format!("/studies/{text}\"")).unwrap();
    assert!(place("1.2.1") < place("1.2.3") && place("1.2.3") < place("1.2.2"), "urgency first");
    for (n, words) in [
        (1, ["Pneumothorax", "93%", "<rect ", "Looked for and not seen", "250 queued as 4711"]),
        (
            2,
            [
                "No model covers this study",
                "Measurements",
                "Given up",
                "HU",
                "association rejected",
            ],
        ),
        (3, ["A person must look", "could not be read", "Files", "History", "report.html"]),
        (4, ["Not read yet", "Receiving", "None", "not known", "1.2.4"]),
        (5, ["Failed", "no image could be decoded", "Not read yet", "History", "1.2.5"]),
    ] {
        let answer = node.get(&format!("/studies/1.2.{n}")).await;
        assert_eq!(answer.status(), 200, "study {n}");
        let page = answer.text().await.unwrap();
        for word in words {
            assert!(page.contains(word), "study {n}: no {word} in\n{page}");
        }
        assert!(!page.contains("<script>alert") && !page.contains("style="), "study {n}");
    }
    let queue = node.get("/queue").await.text().await.unwrap();
    assert!(queue.contains("Try again") && queue.contains("Send sr.dcm to pacs"), "{queue}");
    assert_eq!(node.get("/studies/9.9").await.status(), 404);
    assert_eq!(node.get("/?show=review").await.status(), 200);
    node.end().await;
}

#[tokio::test]
async fn every_answer_wears_its_headers() {
    let node = start(false, Config::default()).await;
    for path in
        ["/", "/nowhere", "/healthz", "/assets/prelim.css", "/results/1.2.1/1/picture-01.png"]
    {
        let answer = node.get(path).await;
        let policy = answer.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{path}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff", "{path}");
        assert!(answer.headers().contains_key("referrer-policy"), "{path}");
        let kept = if path.starts_with("/assets") { "no-cache" } else { "no-store" };
        assert_eq!(answer.headers()["cache-control"], kept, "{path}");
    }
    let report = node.get("/results/1.2.1/1/report.html").await;
    let policy = report.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("sandbox") && policy.contains("default-src 'none'"), "{policy}");
    assert_eq!(report.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(report.text().await.unwrap(), "<p>the report</p>");
    let missing = node.get("/nowhere").await;
    assert_eq!(missing.headers()["content-type"], "application/problem+json");
    let client = node.client();
    let page = client.get(node.url("/nowhere")).header("accept", "text/html").send().await.unwrap();
    assert_eq!(page.status(), 404);
    assert!(page.text().await.unwrap().contains("<h1>Not Found"));
    node.end().await;
}

#[tokio::test]
async fn without_the_token_nothing_is_shown() {
    let node = start(true, Config::default()).await;
    let client = node.client();
    let wrong = [
        None,
        Some("Bearer wrong".to_owned()),
        Some(format!("Basic {TOKEN}")),
        Some("Bearer eyJhbGciOiJub25lIn0.e30.".to_owned()),
    ];
    for path in GUARDED {
        for credentials in &wrong {
            let mut request = client.get(node.url(path)).header("x-forwarded-for", "127.0.0.1");
            if let Some(credentials) = credentials {
                request = request.header("authorization", credentials);
            }
            let status = request.send().await.unwrap().status();
            assert!(status == 401 || status == 429, "{path} with {credentials:?}: {status}");
        }
    }
    for (path, status) in
        [("/healthz", 200), ("/readyz", 200), ("/login", 200), ("/assets/live.js", 200)]
    {
        assert_eq!(node.get(path).await.status(), status, "{path}");
    }
    let page = client.get(node.url("/studies/1.2.1")).header("accept", "text/html");
    let answer = page.send().await.unwrap();
    assert_eq!(answer.headers()["location"], "/login?next=/studies/1.2.1");
    node.end().await;
}

#[tokio::test]
async fn a_person_logs_in_and_out_and_a_guesser_waits() {
    let node = start(true, Config::default()).await;
    let client = node.client();
    let login = |token: &str| {
        let form = format!("token={token}&next=/queue");
        let request = client.post(node.url("/login")).body(form);
        request.header("content-type", "application/x-www-form-urlencoded").send()
    };
    let answer = login(TOKEN).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()),
        (303, "/queue")
    );
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let look = || client.get(node.url("/queue")).header("cookie", &cookie).send();
    assert_eq!(look().await.unwrap().status(), 200);
    for n in 0..10 {
        let guess = format!("wrong-wrong-wrong-{n}");
        assert_eq!(login(&guess).await.unwrap().status(), 401, "try {n}");
    }
    let waits = login("wrong-wrong-wrong-again").await.unwrap();
    assert_eq!(waits.status(), 429);
    assert!(waits.headers().contains_key("retry-after"));
    assert_eq!(login(TOKEN).await.unwrap().status(), 303, "the right one is taken meanwhile");
    assert_eq!(look().await.unwrap().status(), 200, "a session goes on");
    client.post(node.url("/logout")).header("cookie", &cookie).send().await.unwrap();
    assert_eq!(look().await.unwrap().status(), 401, "until its logout");
    node.end().await;
}

#[tokio::test]
async fn foreign_hosts_origins_paths_and_methods_are_refused() {
    let node = start(false, Config::default()).await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", "421"),
        ("GET /readyz HTTP/1.1\r\nHost: 10.1.2.3:8080\r\nConnection: close\r\n\r\n", "200"),
        (
            "GET / HTTP/1.1\r\nHost: evil.example\r\nAuthorization: Bearer guessed\r\n\
             Connection: close\r\n\r\n",
            "421",
        ),
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: HOST\r\nHost: evil.example\r\nConnection: close\r\n\r\n", "400"),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", "400"),
        ("TRACE / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", "405"),
        ("DELETE /studies/1.2.1 HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", "405"),
        (
            "POST /queue/retry HTTP/1.1\r\nHost: HOST\r\nOrigin: http://evil.example\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n",
            "403",
        ),
        (
            "POST /login HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\n\
             Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
            "411",
        ),
        (
            "GET /results/1.2.1/1/..%2f..%2f..%2fformat HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
            "404",
        ),
        ("GET /results/..%2f..%2f1/1/x HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", "404"),
        ("GET /results/1.2.1/1/a%00b HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", "404"),
        (
            "GET /results/1.2.1/1/../../../format HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
            "404",
        ),
        ("GET /assets/..%2fstudy.hbs HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", "404"),
        ("GET /studies/%ff HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", "400"),
    ] {
        let answer = node.raw(request).await;
        let line = answer.lines().next().unwrap_or_default();
        assert!(line.starts_with(&format!("HTTP/1.1 {status}")), "{request}\n{line}");
    }
    node.end().await;
}

#[tokio::test]
async fn a_slow_or_greedy_client_is_cut_off_and_others_are_served() {
    let config = Config { header_timeout_s: 1, upload_bytes_max: 1 << 20, ..Config::default() };
    let node = start(false, config).await;
    let slow = node.raw("GET / HTTP/1.1\r\nHost: HOST\r\nX: ").await;
    assert!(slow.is_empty() || slow.starts_with("HTTP/1.1 408"), "{slow}");
    let huge = format!("GET / HTTP/1.1\r\nHost: HOST\r\nX: {}\r\n\r\n", "a".repeat(64 << 10));
    let answer = node.raw(&huge).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let length = "POST /api/v1/analyze HTTP/1.1\r\nHost: HOST\r\nContent-Length: 4294967296\r\n\
                  Content-Type: multipart/form-data; boundary=x\r\nConnection: close\r\n\r\n";
    assert!(node.raw(length).await.starts_with("HTTP/1.1 413"));
    let mut body =
        b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n".to_vec();
    body.resize(3 << 20, b'a');
    let chunks =
        reqwest::Body::wrap_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(body)]));
    let request = node.client().post(node.url("/api/v1/analyze")).body(chunks);
    let sent = request.header("content-type", "multipart/form-data; boundary=x").send().await;
    if let Ok(answer) = sent {
        assert_eq!(answer.status(), 413, "without a length, while it comes");
    }
    assert_eq!(node.get("/healthz").await.status(), 200);
    let left: Vec<_> = std::fs::read_dir(node.store.data().join("incoming")).unwrap().collect();
    assert!(left.is_empty(), "nothing of an upload stays");
    node.end().await;
}

fn multipart(file: &[u8], fields: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part =
            format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    body.extend_from_slice(
        b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"../../x\"\r\n\r\n",
    );
    body.extend_from_slice(file);
    body.extend_from_slice(b"\r\n--x--\r\n");
    body
}

#[tokio::test]
async fn an_upload_becomes_an_analysis_that_can_be_asked_for() {
    let node = start(false, Config::default()).await;
    let client = node.client();
    let post = |body: Vec<u8>| {
        let request = client.post(node.url("/api/v1/analyze")).body(body);
        request.header("content-type", "multipart/form-data; boundary=x").send()
    };
    let png = sample::picture_png(64, 64);
    let fields =
        [("modality", "cr"), ("age", "4"), ("clinical_notes", "fever"), ("priority", "stat")];
    let answer = post(multipart(&png, &fields)).await.unwrap();
    assert_eq!(answer.status(), 202);
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let accepted: Value = answer.json().await.unwrap();
    assert_eq!(accepted["id"], "1.2.1-1");
    assert_eq!(accepted["status_url"], location);
    let analysis: Value = node.get(&location).await.json().await.unwrap();
    assert_eq!((&analysis["state"], &analysis["outcome"]), (&"delivered".into(), &"read".into()));
    assert_eq!(analysis["findings"][0]["concept"]["meaning"], "Pneumothorax");
    assert_eq!(analysis["reading"]["algorithm"]["version"], "1.0.0");
    assert!(analysis["artefacts"].as_array().unwrap().len() >= 2);
    assert!(analysis["notice"].as_str().unwrap().contains("Not a diagnosis"));
    for id in ["1.2.1-2", "1.2.9-1", "x", "1.2.1-", "..-1"] {
        assert_eq!(node.get(&format!("/api/v1/analyses/{id}")).await.status(), 404, "{id}");
    }
    let mut dicom = vec![0; 128];
    dicom.extend_from_slice(b"DICM");
    for (body, status) in [
        (multipart(b"<html>", &[]), 415),
        (multipart(&png, &[]), 422),
        (multipart(&dicom, &[]), 422),
        (multipart(&png, &[("modalty", "CR")]), 400),
        (multipart(&png, &[("modality", "CR"), ("priority", "now")]), 400),
        (b"--x\r\nContent-Disposition: form-data; name=\"fi".to_vec(), 400),
        (b"--x--\r\n".to_vec(), 400),
    ] {
        let answer = post(body).await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    let json = client.post(node.url("/api/v1/analyze")).body("[".repeat(200_000));
    assert_eq!(json.send().await.unwrap().status(), 415);
    node.end().await;
}

#[tokio::test]
async fn the_command_line_asks_with_its_own_token() {
    let node = start(false, Config::default()).await;
    let client = node.client();
    let get = |path: &str| client.get(node.url(path)).bearer_auth(LOCAL).send();
    for path in GUARDED.iter().filter(|path| path.starts_with("/local")) {
        assert_eq!(node.get(path).await.status(), 401, "{path}");
        assert_eq!(get(path).await.unwrap().status(), 200, "{path}");
    }
    let study: Value = get("/local/v1/study/1.2.1").await.unwrap().json().await.unwrap();
    assert_eq!(study["state"], "delivered");
    assert_eq!(study["reading"]["findings"][0]["id"], "F1");
    assert_eq!(study["alerts"][0]["sendings"][0]["state"], "done");
    let text = study.to_string();
    assert!(!text.contains("alert(1)") && !text.contains("MRN-0042"), "no identity");
    let object = get("/local/v1/object/1.2.1.1.1").await.unwrap().bytes().await.unwrap();
    assert_eq!((object.len(), object[299_999]), (300_000, 0x5a));
    assert_eq!(get("/local/v1/object/1.2.99").await.unwrap().status(), 404);
    // Lines about how far it is, and the report.
    let lines = get("/local/v1/verify").await.unwrap().text().await.unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    let verified = &last["verified"];
    assert_eq!((&verified["complete"], &verified["gaps"]), (&true.into(), &Value::Array(vec![])));
    let queue: Value = get("/local/v1/queue").await.unwrap().json().await.unwrap();
    assert_eq!(queue["jobs"][0]["state"], "dead");
    let retry = |id: &str| {
        let body = serde_json::json!({ "id": id, "by": "Kim" });
        client.post(node.url("/local/v1/queue/retry")).bearer_auth(LOCAL).json(&body).send()
    };
    let id = queue["jobs"][0]["job"]["id"].as_str().unwrap();
    assert_eq!(retry(id).await.unwrap().status(), 200);
    assert_eq!(node.store.job(id).unwrap().unwrap().state, crate::store::JobState::Waiting);
    assert_eq!(retry("1.2/1/no such job").await.unwrap().status(), 404);
    let cancel = |id: &str| {
        let body = serde_json::json!({ "id": id, "by": "Kim" });
        client.post(node.url("/local/v1/queue/cancel")).bearer_auth(LOCAL).json(&body).send()
    };
    assert_eq!(cancel(id).await.unwrap().status(), 200);
    assert_eq!(node.store.job(id).unwrap().unwrap().state, crate::store::JobState::Dropped);
    assert_eq!(cancel(id).await.unwrap().status(), 404, "there is nothing to cancel any more");
    node.end().await;
}

/// Each look is noted, and its note is no change of the page: a page that refreshes itself would
/// never rest.
#[tokio::test]
async fn a_look_is_noted_and_changes_no_page() {
    let node = start(false, Config::default()).await;
    let before = *node.store.changed().borrow();
    let mut watch = node.get("/events?study=1.2.1").await;
    let first = watch.chunk().await.unwrap().unwrap();
    assert!(first.starts_with(b"event: version\ndata: "), "{first:?}");
    for _ in 0..3 {
        node.get("/studies/1.2.1").await;
    }
    let limit = Duration::from_secs(3);
    let second = tokio::time::timeout(limit, watch.chunk()).await;
    assert!(second.is_err(), "{second:?}");
    let ticks = *node.store.changed().borrow() - before;
    assert_eq!(ticks, 1, "three looks of one person within some minutes are one");
    receive(&node.store, 1).await;
    let at = Timestamp::now();
    let (to, reason) = (StudyState::Failed, "a change".into());
    let change = Event::StateChanged { study_uid: uid(1), revision: 1, to, reason, at };
    node.store.commit(vec![change]).await.unwrap();
    let told = tokio::time::timeout(limit, watch.chunk()).await.expect("a change is told");
    assert!(told.unwrap().unwrap().starts_with(b"event: version"));
    node.end().await;
}

#[tokio::test]
async fn readiness_names_its_reasons_and_metrics_are_rendered() {
    let node = start(false, Config::default()).await;
    let ready: Value = node.get("/readyz").await.json().await.unwrap();
    assert_eq!(ready["ready"], true, "{ready}");
    let metrics = node.get("/metrics").await.text().await.unwrap();
    // Another test of this process may hold the recorder.
    assert!(metrics.is_empty() || metrics.contains("prelim_"), "{metrics}");
    node.end().await;
}

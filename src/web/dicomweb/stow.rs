//! STOW-RS: what comes is stored the way of C-STORE, part by part (PS3.18 10.5).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::BodyDataStream;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::response::Response;
use bytes::Bytes;
use bytes::BytesMut;
use futures_util::StreamExt as _;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use crate::dicom::status::Status;
use crate::dicom::storage_scp::InstanceSink;
use crate::dicom::storage_scp::Refusal;
use crate::dicom::storage_scp::StoreRequest;
use crate::dicom::storage_scu::Head;
use crate::domain::priority::Priority;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::web::Web;
use crate::web::dicomweb;
use crate::web::dicomweb::media::Accept;
use crate::web::dicomweb::media::Media;
use crate::web::dicomweb::multipart::MultipartError;
use crate::web::dicomweb::multipart::Reader;
use crate::web::dicomweb::native;
use crate::web::problem::Failure;
use crate::web::server::Peer;

/// Whom the receipts name as the sender.
const CALLING_AE: &str = "DICOMWEB";
/// File meta information has to end within.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Handed on at one time: an instance up to this size meets the disk once.
const CHUNK_BYTES: usize = 512 << 10;
/// Instances in one request; the answer names each.
const INSTANCES_MAX: usize = 20_000;
/// After the first minute a sender has to be at least this fast.
const BYTES_PER_S_MIN: u64 = 1 << 10;
const SILENCE_MAX: Duration = Duration::from_secs(30);

pub async fn any(
    State(web): State<Web>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Failure> {
    store(web, peer.0, None, request).await
}

pub async fn one(
    State(web): State<Web>,
    Extension(peer): Extension<Peer>,
    Path(study): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let study = StudyUid::parse(&study).map_err(|error| Failure::bad_request(error.to_string()))?;
    store(web, peer.0, Some(study), request).await
}

async fn store(
    web: Web,
    peer: SocketAddr,
    study: Option<StudyUid>,
    request: Request,
) -> Result<Response, Failure> {
    let form = Form::of(request.headers());
    let base = dicomweb::base(&web, request.headers());
    let kind = kind(request.headers())?;
    let Ok(_place) = Arc::clone(&web.dicomweb.stores).try_acquire_owned() else {
        return Err(Failure::busy("Too many stores at one time.", 5));
    };
    let body = request.into_body().into_data_stream();
    let mut store = Store { web: &web, peer, study, outcomes: Vec::new(), pace: Pace::new(&web) };
    let taken = match kind {
        Kind::Parts(boundary) => store.parts(body, &boundary).await,
        Kind::Single => store.single(body).await,
    };
    metrics::counter!("prelim_dicomweb_stores_total").increment(1);
    match taken {
        Ok(()) => Ok(answer(&store.outcomes, store.study.as_ref(), &base, form)),
        // What was stored before is stored; a client that sends it all again loses nothing.
        Err(failure) if store.outcomes.is_empty() => Err(failure),
        Err(failure) => {
            let stored = store.outcomes.iter().filter(|one| one.refusal.is_none()).count();
            let detail = format!("{} {stored} instances before that were stored.", failure.said());
            Err(Failure { detail: detail.into(), ..failure })
        }
    }
}

/// How the answer is written. A client that takes neither gets JSON: its instances are stored, and an
/// answer that it cannot read costs less than none (RFC 9110 12.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    /// Native DICOM Model (PS3.19 A.1).
    Xml,
}

impl Form {
    fn of(headers: &HeaderMap) -> Form {
        const XML: [&str; 3] = [native::DICOM_XML, "application/xml", "text/xml"];
        let forms = [[dicomweb::DICOM_JSON, "application/json"].as_slice(), &XML].concat();
        match Accept::of(headers, None).takes(&forms) {
            Some(taken) if XML.contains(&taken) => Form::Xml,
            Some(_) | None => Form::Json,
        }
    }
}

enum Kind {
    Parts(String),
    Single,
}

fn kind(headers: &HeaderMap) -> Result<Kind, Failure> {
    let unsupported = || {
        Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Send multipart/related; type=\"application/dicom\" with a boundary, or one \
             application/dicom.",
        )
    };
    // No coding is undone here: what it hides cannot be checked before it is large.
    let coding = headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
    if let Some(coding) = coding.filter(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
        let coding: String = String::from_utf8_lossy(coding)
            .chars()
            .filter(char::is_ascii_graphic)
            .take(32)
            .collect();
        let detail = format!("The body is coded as {coding}: send it without Content-Encoding.");
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = text.and_then(Media::parse).ok_or_else(unsupported)?;
    let of_dicom = media.get("type").is_none_or(|of| of.eq_ignore_ascii_case("application/dicom"));
    match (media.essence.as_str(), media.get("boundary")) {
        ("application/dicom", _) => Ok(Kind::Single),
        ("multipart/related", Some(boundary)) if of_dicom => Ok(Kind::Parts(boundary.to_owned())),
        ("multipart/related", None) => {
            Err(Failure::bad_request("multipart/related without its boundary."))
        }
        _ => Err(unsupported()),
    }
}

/// What became of one part.
struct Outcome {
    /// Class and instance, where the part said them.
    named: Option<(String, String)>,
    /// Series and study it stands in.
    url: Option<String>,
    refusal: Option<Refusal>,
}

/// How fast a body comes.
struct Pace {
    begun: Instant,
    time_max: Duration,
    bytes: u64,
}

impl Pace {
    fn new(web: &Web) -> Pace {
        let time_max = Duration::from_secs(web.node.config.dicomweb.store_timeout_s);
        Pace { begun: Instant::now(), time_max, bytes: 0 }
    }

    fn came(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes += bytes as u64;
        let so_far = self.begun.elapsed();
        let due = so_far.as_secs().saturating_sub(60) * BYTES_PER_S_MIN;
        match so_far > self.time_max || self.bytes < due {
            true => Err(timed_out("The store took too long.")),
            false => Ok(()),
        }
    }
}

fn timed_out(detail: &str) -> Failure {
    Failure::new(StatusCode::REQUEST_TIMEOUT, detail)
}

/// One request.
struct Store<'a> {
    web: &'a Web,
    peer: SocketAddr,
    study: Option<StudyUid>,
    outcomes: Vec<Outcome>,
    pace: Pace,
}

impl Store<'_> {
    async fn parts(&mut self, body: BodyDataStream, boundary: &str) -> Result<(), Failure> {
        let mut reader = Reader::new(body, boundary).map_err(broken)?;
        while let Some(head) = reader.next_part().await.map_err(broken)? {
            if self.outcomes.len() >= INSTANCES_MAX {
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                let detail = format!("At most {INSTANCES_MAX} instances in one request.");
                return Err(Failure::new(status, detail));
            }
            let kind = Media::parse(&head.content_type);
            let is_dicom = head.content_type.is_empty()
                || kind.is_some_and(|kind| kind.essence == "application/dicom");
            let mut part = Part::new(self);
            if !is_dicom {
                part.refuse(Refusal::new(Status::CANNOT_UNDERSTAND, "not application/dicom"));
            }
            while let Some(chunk) = reader.chunk().await.map_err(broken)? {
                part.take(chunk).await?;
            }
            let outcome = part.end().await;
            self.outcomes.push(outcome);
        }
        match self.outcomes.is_empty() {
            true => Err(Failure::bad_request("The body holds no part.")),
            false => Ok(()),
        }
    }

    async fn single(&mut self, mut body: BodyDataStream) -> Result<(), Failure> {
        let mut part = Part::new(self);
        loop {
            match tokio::time::timeout(SILENCE_MAX, body.next()).await {
                Err(_) => return Err(broken(MultipartError::Silent)),
                Ok(Some(Err(_))) => return Err(broken(MultipartError::Incomplete)),
                Ok(Some(Ok(chunk))) => part.take(chunk).await?,
                Ok(None) => break,
            }
        }
        let outcome = part.end().await;
        self.outcomes.push(outcome);
        Ok(())
    }
}

fn broken(error: MultipartError) -> Failure {
    match error {
        MultipartError::Silent => timed_out("Nothing came for too long."),
        error => Failure::bad_request(format!("{error}.")),
    }
}

/// One part on its way into the store. Dropped before its end it leaves nothing.
struct Part<'a, 'w> {
    store: &'a mut Store<'w>,
    /// Not yet handed on; before the sink is there, with the head of the file.
    held: BytesMut,
    sink: Option<Box<dyn InstanceSink>>,
    named: Option<(String, String)>,
    bytes: u64,
    refusal: Option<Refusal>,
}

impl<'a, 'w> Part<'a, 'w> {
    fn new(store: &'a mut Store<'w>) -> Part<'a, 'w> {
        let (held, sink, named) = (BytesMut::new(), None, None);
        Part { store, held, sink, named, bytes: 0, refusal: None }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.sink = None;
        self.held = BytesMut::new();
        self.refusal.get_or_insert(refusal);
    }

    /// Takes bytes; those of a part that is refused are let go.
    async fn take(&mut self, chunk: Bytes) -> Result<(), Failure> {
        self.store.pace.came(chunk.len())?;
        if self.refusal.is_some() {
            return Ok(());
        }
        self.bytes += chunk.len() as u64;
        if self.bytes > self.store.web.dicomweb.parts.object_bytes_max {
            self.refuse(Refusal::new(Status::OUT_OF_RESOURCES, "larger than this node takes"));
            return Ok(());
        }
        self.held.extend_from_slice(&chunk);
        if self.held.len() >= CHUNK_BYTES
            && let Err(refusal) = self.hand_on().await
        {
            self.refuse(refusal);
        }
        Ok(())
    }

    async fn hand_on(&mut self) -> Result<(), Refusal> {
        if self.sink.is_none() {
            self.begin().await?;
        }
        let chunk = self.held.split().freeze();
        match &mut self.sink {
            Some(sink) if !chunk.is_empty() => sink.write(chunk).await,
            Some(_) | None => Ok(()),
        }
    }

    /// Reads the file meta information and opens the way into the store.
    async fn begin(&mut self) -> Result<(), Refusal> {
        let head = &self.held[..self.held.len().min(HEAD_BYTES_MAX)];
        let cannot = |why: String| Refusal::new(Status::CANNOT_UNDERSTAND, why);
        let head = Head::of_bytes(head).map_err(|error| cannot(error.to_string()))?;
        self.named = Some((head.sop_class_uid.clone(), head.sop_instance_uid.clone()));
        let data = self.held.split_off((head.data_at as usize).min(self.held.len()));
        let parts = &self.store.web.dicomweb.parts;
        let request = StoreRequest {
            sop_class_uid: head.sop_class_uid,
            sop_instance_uid: head.sop_instance_uid,
            transfer_syntax_uid: head.transfer_syntax_uid,
            calling_ae: CALLING_AE.to_owned(),
            called_ae: parts.ae_title.clone(),
            peer: self.store.peer,
            association: "dicomweb".to_owned(),
            priority: Priority::default(),
        };
        let mut sink = parts.receiver.begin(request).await?;
        if let Some(study) = &self.store.study {
            sink.expect_study(study);
        }
        self.held = BytesMut::from(sink.head());
        self.held.unsplit(data);
        self.sink = Some(sink);
        Ok(())
    }

    async fn end(mut self) -> Outcome {
        if self.refusal.is_none()
            && let Err(refusal) = self.hand_on().await
        {
            self.refuse(refusal);
        }
        if self.refusal.is_none()
            && let Some(sink) = self.sink.take()
            && let Err(refusal) = sink.finish().await
        {
            self.refuse(refusal);
        }
        let Part { store, named, refusal, .. } = self;
        if let Some(refusal) = &refusal {
            tracing::info!(status = %refusal.status, why = refusal.comment, "an instance sent over DICOMweb is refused");
        }
        let url = match (&refusal, &named) {
            (None, Some((_, instance))) => place(store.web, instance).await,
            _ => None,
        };
        let outcome = if refusal.is_none() { "stored" } else { "refused" };
        metrics::counter!("prelim_dicomweb_instances_total", "outcome" => outcome).increment(1);
        Outcome { named, url, refusal }
    }
}

/// Where a stored instance is, below the root.
async fn place(web: &Web, instance: &str) -> Option<String> {
    let instance = SopInstanceUid::parse(instance).ok()?;
    let row = web.read(move |web| Ok(web.node.store.instance(&instance)?)).await.ok()??;
    Some(super::retrieve::address("", &row))
}

/// Store Instances Response Module (PS3.18 10.5.3, I.2.2).
fn answer(outcomes: &[Outcome], study: Option<&StudyUid>, base: &str, form: Form) -> Response {
    let (mut stored, mut failed, mut others) = (Vec::new(), Vec::new(), Vec::new());
    let value = |vr: &str, value: &Value| json!({"vr": vr, "Value": [value]});
    for outcome in outcomes {
        let mut item = serde_json::Map::new();
        if let Some((class, instance)) = &outcome.named {
            item.insert("00081150".into(), value("UI", &json!(class)));
            item.insert("00081155".into(), value("UI", &json!(instance)));
        }
        match &outcome.refusal {
            None => {
                if let Some(url) = &outcome.url {
                    let url = json!(format!("{base}{url}"));
                    item.insert("00081190".into(), value("UR", &url));
                }
                stored.push(Value::Object(item));
            }
            Some(refusal) => {
                item.insert("00081197".into(), value("US", &json!(refusal.status.0)));
                let list = if outcome.named.is_some() { &mut failed } else { &mut others };
                list.push(Value::Object(item));
            }
        }
    }
    let mut module = serde_json::Map::new();
    let all = (stored.len(), failed.len() + others.len());
    if let Some(study) = study {
        let url = json!(format!("{base}/studies/{study}"));
        module.insert("00081190".into(), value("UR", &url));
    }
    for (name, items) in [("00081198", failed), ("00081199", stored), ("0008119A", others)] {
        if !items.is_empty() {
            module.insert(name.into(), json!({"vr": "SQ", "Value": items}));
        }
    }
    let busy = outcomes.iter().all(|outcome| {
        outcome.refusal.as_ref().is_some_and(|refusal| refusal.status.is_transient())
    });
    let status = match all {
        (_, 0) => StatusCode::OK,
        (0, _) if busy => StatusCode::SERVICE_UNAVAILABLE,
        (0, _) => StatusCode::CONFLICT,
        (_, _) => StatusCode::ACCEPTED,
    };
    let (kind, body) = match form {
        Form::Json => (dicomweb::DICOM_JSON, Value::Object(module).to_string()),
        Form::Xml => (native::DICOM_XML, native::document(&module)),
    };
    let mut response = (status, [(header::CONTENT_TYPE, kind)], body).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
    }
    response
}

//! The gateway client against a scripted server: faults A1 to A13, A18.

use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use base64::Engine as _;
use serde_json::json;

use super::*;
use crate::analysis::answer;
use crate::analysis::config::ResponseFormat;
use crate::analysis::prompt;
use crate::analysis::prompt::Prompt;
use crate::analysis::provider::cache;
use crate::analysis::provider::cache::Cache;
use crate::analysis::testing;
use crate::domain::context::ClinicalContext;
use crate::domain::picture::Picture;
use crate::domain::profile::Profile;
use crate::domain::study::Study;

const KEY: &str = "sk-very-secret-0815";

/// What the server does with each connection, and all the bytes it was sent.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Clone)]
enum Act {
    /// These bytes after the whole request, then close.
    Say(Vec<u8>),
    /// These bytes, then silence.
    SayAndHang(Vec<u8>),
    /// These bytes, one each 20 ms, for ever.
    Drip(Vec<u8>),
    /// Close before reading.
    Close,
    /// Bytes without end after a header.
    Flood(Vec<u8>),
}

async fn serve(act: Act) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let log = seen.clone();
    let task = tokio_util::task::TaskTracker::new().spawn(async move {
        loop {
            let Ok((mut socket, _)) = listener.accept().await else { return };
            if let Act::Close = act {
                continue;
            }
            let request = read_request(&mut socket).await;
            log.lock().unwrap().push(request);
            match &act {
                Act::Say(bytes) => {
                    let _ = socket.write_all(bytes).await;
                    let _ = socket.shutdown().await;
                }
                Act::SayAndHang(bytes) => {
                    let _ = socket.write_all(bytes).await;
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                Act::Drip(bytes) => {
                    for byte in bytes.iter().cycle() {
                        if socket.write_all(&[*byte]).await.is_err() {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                Act::Flood(head) => {
                    let _ = socket.write_all(head).await;
                    let junk = vec![b' '; 65536];
                    for _ in 0..4096 {
                        if socket.write_all(&junk).await.is_err() {
                            break;
                        }
                    }
                }
                Act::Close => {}
            }
        }
    });
    Server { url, seen, _task: AbortOnDropHandle::new(task) }
}

/// Header and body by Content-Length.
async fn read_request(socket: &mut tokio::net::TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut chunk = vec![0; 65536];
    loop {
        let text = String::from_utf8_lossy(&all).to_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next())
                .and_then(|number| number.parse::<usize>().ok())
                .unwrap_or(0);
            if all.len() >= end + 4 + length {
                return all;
            }
        }
        match socket.read(&mut chunk).await {
            Ok(0) | Err(_) => return all,
            Ok(n) => all.extend_from_slice(&chunk[..n]),
        }
    }
}

fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn completion(text: &str) -> Value {
    json!({"id": "x", "object": "chat.completion", "model": "m-2026-01", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46}})
}

fn gateway(url: &str) -> Gateway {
    Gateway {
        url: url.into(),
        model: "m".into(),
        api_key: crate::domain::secret::Secret::new(KEY),
        ..Gateway::default()
    }
}

fn chest() -> (Profile, Study, Prompt, Vec<Picture>) {
    let profile = testing::profile("chest_xray");
    let study = testing::study("CR", "CHEST", "PA", "XR CHEST Kowalski");
    let notes = "Kowalski Agnieszka, PID-4711, *07.03.2019: fever since 3 days, ref. Dr Brandt";
    let references = testing::pictures(&study);
    let context = ClinicalContext::of(&study, Some(notes));
    let prompt = prompt::render(&profile, &context, &study, &references).unwrap();
    let pictures = references
        .into_iter()
        .map(|reference| Picture {
            reference,
            media_type: "image/png",
            bytes: b"\x89PNG pixels".to_vec(),
        })
        .collect();
    (profile, study, prompt, pictures)
}

async fn ask_with(gateway: &Gateway, timeout: Duration) -> Result<RawAnswer, AnalyzeError> {
    let (profile, _, prompt, pictures) = chest();
    let provider = OpenAi::new("house", gateway, |_| 0).unwrap();
    let schema = answer::schema(&profile);
    let question = Question { prompt: &prompt, pictures: &pictures, schema: &schema, timeout };
    let asked = provider.ask(&question).await;
    if let (Ok(raw), [call]) = (&asked.said, asked.calls.as_slice()) {
        assert_eq!((call.tokens, call.outcome.as_str()), (raw.tokens, "answered"));
    }
    asked.said
}

async fn ask(act: Act) -> (Result<RawAnswer, AnalyzeError>, Server) {
    let server = serve(act).await;
    (ask_with(&gateway(&server.url), Duration::from_secs(5)).await, server)
}

async fn bad(body: &[u8]) -> BadAnswer {
    match ask(Act::Say(http("200 OK", "", body))).await.0 {
        Err(AnalyzeError::BadAnswer { why, .. }) => why,
        other => panic!("{}: {other:?}", String::from_utf8_lossy(&body[..body.len().min(200)])),
    }
}

#[tokio::test]
async fn a_completion_is_an_answer() {
    let (answer, server) =
        ask(Act::Say(http("200 OK", "", completion("{\"a\":1}").to_string().as_bytes()))).await;
    let answer = answer.unwrap();
    assert_eq!((answer.text.as_str(), answer.model.as_str()), ("{\"a\":1}", "m-2026-01"));
    assert_eq!(answer.tokens, Tokens { prompt: 12, completion: 34 });
    let seen = server.seen.lock().unwrap()[0].clone();
    let text = String::from_utf8(seen).unwrap();
    assert!(text.starts_with("POST /v1/chat/completions HTTP/1.1"), "{}", &text[..200]);
    assert!(text.contains(&format!("authorization: Bearer {KEY}")));
    let body: Value = serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(body["response_format"]["json_schema"]["strict"], true);
    assert_eq!((&body["temperature"], &body["max_tokens"]), (&json!(0), &json!(8000)));
    let parts = body["messages"][1]["content"].as_array().unwrap();
    let pictures: Vec<&str> =
        parts.iter().filter_map(|part| part["image_url"]["url"].as_str()).collect();
    assert_eq!(pictures.len(), 2);
    assert!(pictures[0].starts_with("data:image/png;base64,iVBORyBwaXhlbHM"), "{}", pictures[0]);
}

#[tokio::test]
async fn content_may_come_in_parts() {
    let mut body = completion("");
    body["choices"][0]["message"]["content"] =
        json!([{"type": "text", "text": "{\"a\""}, {"type": "text", "text": ":1}"}]);
    let (answer, _) = ask(Act::Say(http("200 OK", "", body.to_string().as_bytes()))).await;
    assert_eq!(answer.unwrap().text, "{\"a\":1}");
}

#[tokio::test]
async fn the_schema_stands_in_the_prompt_where_the_gateway_takes_none() {
    for (format, sent) in [(ResponseFormat::JsonObject, "json_object"), (ResponseFormat::None, "")]
    {
        let server =
            serve(Act::Say(http("200 OK", "", completion("{}").to_string().as_bytes()))).await;
        let gateway = Gateway { response_format: format, ..gateway(&server.url) };
        ask_with(&gateway, Duration::from_secs(5)).await.unwrap();
        let seen = String::from_utf8(server.seen.lock().unwrap()[0].clone()).unwrap();
        let body: Value = serde_json::from_str(seen.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(body["response_format"]["type"].as_str().unwrap_or(""), sent);
        assert!(
            body["messages"][1]["content"][0]["text"]
                .as_str()
                .unwrap()
                .contains("JSON Schema of the answer")
        );
    }
}

/// A1 to A4: a word on the request is permanent; what is of the gateway is tried again, and when.
#[tokio::test]
async fn statuses_are_permanent_or_transient() {
    let echo = format!("{{\"error\": \"bad key {KEY}\"}}");
    for (status, transient) in [
        ("400 Bad Request", false),
        ("401 Unauthorized", true),
        ("403 Forbidden", true),
        ("404 Not Found", true),
        ("422 Unprocessable Content", false),
        ("204 No Content", true),
        ("418 I'm a teapot", true),
        ("408 Request Timeout", true),
        ("409 Conflict", true),
        ("429 Too Many Requests", true),
        ("500 Internal Server Error", true),
        ("502 Bad Gateway", true),
        ("503 Service Unavailable", true),
        ("504 Gateway Timeout", true),
    ] {
        let body = if status.starts_with("204") { &b""[..] } else { echo.as_bytes() };
        let (answer, server) = ask(Act::Say(http(status, "", body))).await;
        let error = answer.unwrap_err();
        assert_eq!(error.is_transient(), transient, "{status}: {error}");
        assert!(!error.is_for_review(), "{status}: the gateway's fault, not the study's");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        assert_eq!(server.seen.lock().unwrap().len(), 1, "{status}: one attempt");
    }
    let (answer, _) = ask(Act::Say(http("413 Content Too Large", "", b""))).await;
    assert_eq!(answer, Err(AnalyzeError::TooLarge { provider: "house".into() }));
    let (answer, _) = ask(Act::Say(http("429 Too Many Requests", "retry-after: 7\r\n", b""))).await;
    assert_eq!(answer.unwrap_err().retry_after(), Some(Duration::from_secs(7)));
}

/// A5: hangs, drips, resets.
#[tokio::test]
async fn a_slow_or_broken_peer_is_a_try() {
    let whole = http("200 OK", "", completion("{}").to_string().as_bytes());
    let cut = whole[..whole.len() - 20].to_vec();
    for act in [
        Act::SayAndHang(Vec::new()),
        Act::SayAndHang(whole[..30].to_vec()),
        Act::SayAndHang(cut.clone()),
        Act::Drip(whole.clone()),
    ] {
        let server = serve(act).await;
        let started = std::time::Instant::now();
        let error = ask_with(&gateway(&server.url), Duration::from_millis(300)).await.unwrap_err();
        assert!(matches!(error, AnalyzeError::TimedOut { .. }) && error.is_transient(), "{error}");
        assert!(started.elapsed() < Duration::from_secs(3));
    }
    for act in [
        Act::Close,
        Act::Say(Vec::new()),
        Act::Say(whole[..30].to_vec()),
        Act::Say(cut),
        Act::Say(b"SSH-2.0-x\r\n".to_vec()),
    ] {
        let error = ask(act).await.0.unwrap_err();
        assert!(
            matches!(error, AnalyzeError::Unreachable { .. }) && error.is_transient(),
            "{error}"
        );
    }
    let error =
        ask_with(&gateway("http://127.0.0.1:1/v1"), Duration::from_secs(5)).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("cannot connect"), "{error}");
}

/// A6, A9, A11: what is no answer.
#[tokio::test]
async fn what_is_no_completion_is_said_so() {
    for body in ["", "null", "[]", "<html>Welcome</html>", "{\"choices\":", "{\"choices\": 3}"] {
        assert_eq!(bad(body.as_bytes()).await, BadAnswer::NotACompletion, "{body}");
    }
    assert_eq!(bad(b"\xff\xfe{\0}\0").await, BadAnswer::NotACompletion);
    assert_eq!(
        bad(b"{\"choices\":[{\"message\":{\"content\":\"\xff\xc3\"}}]}").await,
        BadAnswer::NotACompletion
    );
    assert_eq!(bad(b"{}").await, BadAnswer::NoChoices);
    assert_eq!(bad(b"{\"choices\":[]}").await, BadAnswer::NoChoices);
    assert_eq!(bad(b"{\"choices\":[{},{}]}").await, BadAnswer::SeveralChoices);
    assert_eq!(bad(b"{\"choices\":[{}]}").await, BadAnswer::Empty);
    let with = |change: fn(&mut Value)| {
        let mut body = completion("{\"a\":1}");
        change(&mut body["choices"][0]);
        body.to_string().into_bytes()
    };
    for (change, why) in [
        ((|c| c["message"]["content"] = json!("  ")) as fn(&mut Value), BadAnswer::Empty),
        (|c| c["message"]["content"] = Value::Null, BadAnswer::Empty),
        (|c| c["finish_reason"] = json!("length"), BadAnswer::Cut),
        (|c| c["finish_reason"] = json!("content_filter"), BadAnswer::Filtered),
        (
            |c| c["message"]["refusal"] = json!("I cannot help with medical images."),
            BadAnswer::Refusal,
        ),
        (
            |c| c["message"]["content"] = json!([{"type": "refusal", "refusal": "no"}]),
            BadAnswer::Refusal,
        ),
        (
            |c| c["message"]["tool_calls"] = json!([{"id": "1", "type": "function", "function": {"name": "shell", "arguments": "{}"}}]),
            BadAnswer::ToolCall,
        ),
        (|c| c["message"]["function_call"] = json!({"name": "shell"}), BadAnswer::ToolCall),
        (|c| c["finish_reason"] = json!("tool_calls"), BadAnswer::ToolCall),
    ] {
        assert_eq!(bad(&with(change)).await, why);
    }
}

/// A10: neither a flood nor a compressed body fills the memory.
#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n".to_vec();
    let (answer, _) = ask(Act::Flood(head)).await;
    assert!(
        matches!(answer, Err(AnalyzeError::BadAnswer { why: BadAnswer::TooLarge, .. })),
        "{answer:?}"
    );
    let gzip = http("200 OK", "content-encoding: gzip\r\n", b"\x1f\x8b\x08\0\0\0\0\0\0\xff\0\0");
    let (answer, server) = ask(Act::Say(gzip)).await;
    assert!(
        matches!(answer, Err(AnalyzeError::BadAnswer { why: BadAnswer::NotACompletion, .. })),
        "{answer:?}"
    );
    let request = String::from_utf8_lossy(&server.seen.lock().unwrap()[0]).to_lowercase();
    assert!(!request.contains("accept-encoding"), "we do not ask for compression");
    let text = "x".repeat(2 * 1024 * 1024);
    let (answer, _) =
        ask(Act::Say(http("200 OK", "", completion(&text).to_string().as_bytes()))).await;
    let read: Result<answer::Answer, _> =
        answer::parse(&answer.unwrap().text, &answer::schema(&testing::profile("chest_xray")));
    assert_eq!(read, Err(answer::AnswerError::TooLong));
}

/// A12: a redirect is an answer like any other refusal; the key goes nowhere else.
#[tokio::test]
async fn redirects_are_not_followed() {
    let other = serve(Act::Say(http("200 OK", "", completion("{}").to_string().as_bytes()))).await;
    for target in [other.url.as_str(), "http://169.254.169.254/latest", "file:///etc/passwd"] {
        for status in ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"]
        {
            let (answer, _) =
                ask(Act::Say(http(status, &format!("location: {target}\r\n"), b""))).await;
            let error = answer.unwrap_err();
            assert!(matches!(error, AnalyzeError::Refused { .. }), "{error}");
        }
    }
    assert!(other.seen.lock().unwrap().is_empty());
}

/// A13: a peer that does not speak TLS gets no request.
#[tokio::test]
async fn a_wrong_tls_peer_gets_no_request() {
    let server = serve(Act::Say(http("200 OK", "", completion("{}").to_string().as_bytes()))).await;
    let url = server.url.replacen("http://", "https://", 1);
    let error = ask_with(&gateway(&url), Duration::from_secs(5)).await.unwrap_err();
    assert!(
        matches!(error, AnalyzeError::Untrusted { .. } | AnalyzeError::TimedOut { .. }),
        "{error:?}"
    );
    for request in server.seen.lock().unwrap().iter() {
        assert!(!String::from_utf8_lossy(request).contains(KEY));
    }
}

/// A name that resolves to a public address is not called in clear text.
#[test]
fn plain_http_stays_inside() {
    use crate::outgoing::may_connect;
    for (ip, inside, anywhere) in [
        ("127.0.0.1", true, true),
        ("10.0.0.1", true, true),
        ("172.16.3.4", true, true),
        ("100.64.0.1", true, true),
        ("8.8.8.8", false, true),
        ("169.254.169.254", false, false),
        ("0.0.0.0", false, false),
        ("224.0.0.1", false, false),
        ("::1", true, true),
        ("fd12::1", true, true),
        ("fe80::1", false, false),
        ("2001:db8::1", false, true),
        ("::ffff:169.254.169.254", false, false),
        ("::ffff:10.0.0.1", true, true),
        ("fd00:ec2::254", false, false),
    ] {
        let ip = ip.parse().unwrap();
        assert_eq!((may_connect(ip, true), may_connect(ip, false)), (inside, anywhere), "{ip}");
    }
}

#[test]
fn a_key_that_no_header_can_hold_is_told_without_it() {
    let gateway = Gateway {
        api_key: crate::domain::secret::Secret::new("sk-secret\nx: y"),
        ..gateway("http://127.0.0.1")
    };
    let error = OpenAi::new("house", &gateway, |_| 0).err().unwrap();
    assert!(
        matches!(error, AnalyzeError::Misconfigured { .. })
            && !format!("{error:?}").contains("secret")
    );
    let missing = Gateway { api_key_file: "/no/such/key".into(), ..gateway.clone() };
    assert!(OpenAi::new("house", &missing, |_| 0).is_err());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    assert!(OpenAi::new("house", &Gateway { api_key_file: file, ..gateway }, |_| 0).is_ok());
}

/// A18: no identifier of the study is in what leaves, in any usual encoding.
#[tokio::test]
async fn no_identifier_leaves() {
    let (answer, server) =
        ask(Act::Say(http("200 OK", "", completion("{}").to_string().as_bytes()))).await;
    answer.unwrap();
    let seen = server.seen.lock().unwrap()[0].clone();
    let (_, study, prompt, _) = chest();
    assert!(
        prompt.user.contains("fever since 3 days"),
        "the notes themselves are there: {}",
        prompt.user
    );
    let lower = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_lowercase();
    let haystack = lower(&seen);
    let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
    let mut values: Vec<String> = vec![
        "Kowalski".into(),
        "Agnieszka".into(),
        "Kowalski^Agnieszka".into(),
        "PID-4711".into(),
        "20190307".into(),
        "2019-03-07".into(),
        "07.03.2019".into(),
        "ACC-0815".into(),
        "STUDY-9".into(),
        "Brandt".into(),
        "Saint Example".into(),
        "20240102".into(),
        "2024-01-02".into(),
        "101112".into(),
        "ROOM-3-XR".into(),
        study.study_uid.to_string(),
        "1.2.826".into(),
        "XR CHEST Kowalski".into(),
    ];
    values.extend(study.instances.iter().map(|i| i.sop_instance_uid.to_string()));
    for value in values {
        let bytes = value.as_bytes();
        let utf16: Vec<u8> = value.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let url: String = bytes.iter().map(|b| format!("%{b:02x}")).collect();
        let escaped: String = value.encode_utf16().map(|u| format!("\\u{u:04x}")).collect();
        let mut forms = vec![value.to_lowercase(), hex, url, escaped, lower(&utf16)];
        for skip in 0..3 {
            // The three alignments, without the characters that the neighbours decide.
            let coded = engine.encode([vec![0; skip], bytes.to_vec()].concat());
            forms.push(coded[[0, 2, 3][skip]..coded.len() - 1].to_lowercase());
        }
        for form in forms.iter().filter(|form| form.len() >= 5) {
            assert!(!haystack.contains(form.as_str()), "{value} as {form}");
        }
    }
}

/// By hand, against a server written by others that answers with our schema's example:
/// `PRELIM_TEST_GATEWAY=http://127.0.0.1:9999/v1 cargo test --release --lib -- --ignored by_others`.
#[tokio::test]
#[ignore = "needs a server"]
async fn a_gateway_written_by_others_answers() {
    let url = std::env::var_os("PRELIM_TEST_GATEWAY").unwrap().into_string().unwrap();
    let (profile, study, prompt, pictures) = chest();
    let provider =
        OpenAi::new("others", &Gateway { model: "gpt-4o".into(), ..gateway(&url) }, |_| 0).unwrap();
    let (schema, timeout) = (answer::schema(&profile), Duration::from_secs(profile.timeout_s));
    let question = Question { prompt: &prompt, pictures: &pictures, schema: &schema, timeout };
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), &cache::Config::default()).unwrap();
    let found: Result<crate::analysis::Reading, _> =
        crate::analysis::ask(&provider, Some(&cache), question, now(), &mut Vec::new()).await;
    let references = testing::pictures(&study);
    let judged = found.as_ref().map(|reading| {
        crate::analysis::judge::judge(
            &reading.answer,
            &study,
            &profile,
            &references,
            &reading.algorithm,
        )
    });
    println!("{found:#?}\n{judged:#?}");
}

//! E-mail against a real server: `tests/peers/smtp_catcher.py` (aiosmtpd).

use std::io::BufRead as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use crate::deliver::DeliverError;
use crate::deliver::email;
use crate::deliver::email::Config;
use crate::deliver::email::Mode;
use crate::domain::message::InlinePicture;
use crate::domain::message::Message;

/// Ends with its standard input, so also when a test panics.
struct Catcher {
    process: Child,
    folder: TempDir,
    port: u16,
    certificate: Option<PathBuf>,
}

impl Catcher {
    fn start(options: &[&str]) -> Catcher {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = tempfile::tempdir().unwrap();
        let mut process = Command::new(repository.join(".venv/bin/python"))
            .arg(repository.join("tests/peers/smtp_catcher.py"))
            .arg("--folder")
            .arg(folder.path())
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).expect("the catcher says where it listens");
        let port = u16::try_from(ready["port"].as_u64().unwrap()).unwrap();
        Catcher { process, folder, port, certificate: ready["cert"].as_str().map(PathBuf::from) }
    }

    fn config(&self, mode: Mode) -> Config {
        Config {
            host: "localhost".into(),
            port: self.port,
            mode,
            from: "Prelim <prelim@hospital.example>".into(),
            ca_file: self.certificate.clone(),
            timeout_s: 20,
            ..Config::default()
        }
    }

    fn mails(&self) -> Vec<Value> {
        let read = |n: usize| {
            let file = self.folder.path().join(format!("{n}.json"));
            std::fs::read(file).ok().map(|bytes| serde_json::from_slice(&bytes).unwrap())
        };
        (1..).map_while(read).collect()
    }
}

impl Drop for Catcher {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn message() -> Message {
    Message {
        to: vec!["oncall@hospital.example".into()],
        subject: "[Prelim PRELIMINARY] critical: pneumothorax, left — 흉부\r\nBcc: x@y.example"
            .into(),
        text: "Left. 왼쪽.\n.\nA line with a dot alone stands above.".into(),
        html: "<p>Left. <img src=\"cid:key-picture\"></p>".into(),
        picture: Some(InlinePicture {
            content_id: "key-picture".into(),
            media_type: "image/png".into(),
            bytes: crate::domain::sample::picture_png(64, 64),
        }),
        attachments: Vec::new(),
        id: "alert-0123456789abcdef".into(),
        thread: None,
        json: "{}".into(),
        date: "2026-03-02T10:15:42Z".parse().unwrap(),
        urgent: true,
    }
}

#[tokio::test]
async fn a_mail_arrives_whole_and_a_second_try_is_the_same_message() {
    let catcher = Catcher::start(&[]);
    let config = catcher.config(Mode::None);
    for _try in 0..2 {
        let done = email::send(&config, &message()).await.unwrap();
        assert!(done.detail.starts_with("250 OK queued as"), "{}", done.detail);
    }
    let mails = catcher.mails();
    assert_eq!(mails.len(), 2);
    let mail = &mails[0];
    assert_eq!(mail["headers"]["message-id"], "<alert-0123456789abcdef@hospital.example>");
    assert_eq!(mail["headers"]["message-id"], mails[1]["headers"]["message-id"]);
    assert_eq!(mail["headers"]["date"], mails[1]["headers"]["date"]);
    let subject = mail["headers"]["subject"].as_str().unwrap();
    assert!(subject.starts_with("[Prelim PRELIMINARY] critical: pneumothorax, left — 흉부"));
    assert!(!mail["header_names"].as_array().unwrap().contains(&"bcc".into()), "injected");
    assert_eq!(mail["headers"]["auto-submitted"], "auto-generated");
    assert_eq!(mail["headers"]["importance"], "high");
    assert_eq!(mail["to"], serde_json::json!(["oncall@hospital.example"]));
    assert_eq!(mail["ascii"], true, "no server needs 8BITMIME");
    assert_eq!(mail["defects"], serde_json::json!([]));
    let parts = mail["parts"].as_array().unwrap();
    let types: Vec<&str> = parts.iter().map(|part| part["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["text/plain", "text/html", "image/png"]);
    let text = parts[0]["text"].as_str().unwrap().replace("\r\n", "\n");
    assert_eq!(text.trim_end(), message().text);
    assert_eq!(parts[2]["cid"], "<key-picture>");
    assert_eq!(parts[2]["disposition"], "inline");
    let size = message().picture.unwrap().bytes.len();
    assert_eq!(parts[2]["size_bytes"], size);
}

/// D4 and D5: 4xx is tried again, 5xx is not.
#[tokio::test]
async fn an_answer_says_again_or_never() {
    for (options, transient) in [
        (&["--at", "data", "--answer", "421"][..], true),
        (&["--at", "data", "--answer", "451"], true),
        (&["--at", "data", "--answer", "554"], false),
        (&["--at", "rcpt", "--answer", "450"], true),
        (&["--at", "rcpt", "--answer", "550"], false),
    ] {
        let catcher = Catcher::start(options);
        let to = vec!["bad@hospital.example".into()];
        let message = Message { to, ..message() };
        let error = email::send(&catcher.config(Mode::None), &message).await.unwrap_err();
        assert_eq!(error.is_transient(), transient, "{options:?}: {error}");
        assert!(error.to_string().contains(options[3]), "{options:?}: {error}");
        assert!(catcher.mails().is_empty());
    }
}

/// D6: the server has it, we do not know: again, as the same message.
#[tokio::test]
async fn a_connection_lost_after_the_final_dot_is_tried_again_as_the_same_message() {
    let catcher = Catcher::start(&["--drop"]);
    for _try in 0..2 {
        let error = email::send(&catcher.config(Mode::None), &message()).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
    }
    let mails = catcher.mails();
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0]["headers"]["message-id"], mails[1]["headers"]["message-id"]);
}

#[tokio::test]
async fn a_server_that_hangs_or_is_not_there_is_tried_again() {
    let catcher = Catcher::start(&["--hang"]);
    let config = Config { timeout_s: 1, ..catcher.config(Mode::None) };
    let error = email::send(&config, &message()).await.unwrap_err();
    assert!(matches!(error, DeliverError::TimedOut { .. }), "{error}");
    drop(catcher);
    let error = email::send(&config, &message()).await.unwrap_err();
    assert!(matches!(error, DeliverError::Unreachable { .. }), "{error}");
    assert!(error.is_transient());
}

/// D7: a server without STARTTLS sees no address and no word of it.
#[tokio::test]
async fn nothing_is_sent_in_clear_when_encryption_is_wanted() {
    let catcher = Catcher::start(&[]);
    let config = catcher.config(Mode::Starttls);
    let error = email::send(&config, &message()).await.unwrap_err();
    assert!(matches!(error, DeliverError::NotEncrypted), "{error}");
    assert!(catcher.mails().is_empty());

    let elsewhere = Config { host: "192.0.2.1".into(), ..catcher.config(Mode::None) };
    let error = email::send(&elsewhere, &message()).await.unwrap_err();
    assert!(matches!(error, DeliverError::Settings { .. }), "{error}");
}

#[tokio::test]
async fn encryption_is_checked_against_the_named_root_and_a_login_goes_over_it() {
    for (option, mode) in [("starttls", Mode::Starttls), ("implicit", Mode::Tls)] {
        let catcher = Catcher::start(&["--tls", option, "--auth", "prelim:s3cret"]);
        let password = catcher.folder.path().join("password");
        std::fs::write(&password, "s3cret\n").unwrap();
        let config = Config {
            user: "prelim".into(),
            password_file: Some(password.clone()),
            ..catcher.config(mode)
        };
        email::send(&config, &message()).await.unwrap();
        let mails = catcher.mails();
        assert_eq!((mails.len(), &mails[0]["encrypted"]), (1, &Value::Bool(true)), "{option}");
        assert_eq!(mails[0]["user"], "prelim");

        let unknown_root = Config { ca_file: None, ..config.clone() };
        let error = email::send(&unknown_root, &message()).await.unwrap_err();
        assert!(matches!(error, DeliverError::Unreachable { .. }), "{option}: {error}");

        let other_name = Config { host: "127.0.0.1".into(), ..config.clone() };
        let error = email::send(&other_name, &message()).await.unwrap_err();
        assert!(matches!(error, DeliverError::Unreachable { .. }), "{option}: {error}");

        std::fs::write(&password, "wrong").unwrap();
        let error = email::send(&config, &message()).await.unwrap_err();
        assert!(!error.is_transient(), "535 is no matter of time: {error}");
        assert!(!error.to_string().contains("wrong"));
        assert_eq!(catcher.mails().len(), 1);
    }
}

#[tokio::test]
async fn a_refused_address_keeps_the_others_not_from_hearing() {
    let catcher = Catcher::start(&["--at", "rcpt", "--answer", "550"]);
    let to = vec!["bad@hospital.example".into(), "good@hospital.example".into()];
    let message = Message { to, ..message() };
    let error = email::send(&catcher.config(Mode::None), &message).await.unwrap_err();
    assert!(
        matches!(error, DeliverError::PartlyRefused { accepted: 1, addresses: 2, .. }),
        "{error}"
    );
    assert!(!error.is_transient(), "shown to a person, not sent again to those who have it");
    assert_eq!(catcher.mails()[0]["to"], serde_json::json!(["good@hospital.example"]));
}

#[test]
fn settings_show_every_mistake_at_once() {
    let config = Config {
        host: "mail.example".into(),
        mode: Mode::None,
        from: "nobody".into(),
        user: "u".into(),
        ca_file: Some("/does/not/exist".into()),
        timeout_s: 1,
        ..Config::default()
    };
    let mut problems = Vec::new();
    config.check("deliver.email", &mut problems);
    assert_eq!(problems.len(), 5, "{problems:#?}");
    problems.clear();
    crate::deliver::Config::default().check("deliver", &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
}

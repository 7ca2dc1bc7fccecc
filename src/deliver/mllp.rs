//! HL7 v2 messages to a RIS or an interface engine, over MLLP.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::deliver::DeliverError;
use crate::deliver::Delivered;
use crate::deliver::check_address;
use crate::deliver::peer_words;
use crate::dicom::socket::Socket;
use crate::dicom::tls_client;
use crate::hl7::ack::Ack;
use crate::hl7::ack::Code;
use crate::hl7::message;
use crate::hl7::message::Message;
use crate::hl7::mllp::Frames;
use crate::hl7::mllp::MllpError;
use crate::hl7::write;

/// The message, in the result folder.
pub const FILE: &str = "report.hl7";
/// An acknowledgement has some hundred bytes.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Messages that are read until ours is answered: a receiver may still answer the one before.
const ANSWERS_MAX: usize = 5;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `host:port`.
    pub address: String,
    /// MSH-3 and MSH-4: what we are called there.
    #[serde(default = "default_application")]
    pub sending_application: String,
    #[serde(default)]
    pub sending_facility: String,
    /// MSH-5 and MSH-6.
    #[serde(default)]
    pub receiving_application: String,
    #[serde(default)]
    pub receiving_facility: String,
    /// Whether the PDF goes with it, as the last OBX.
    #[serde(default = "default_pdf")]
    pub pdf: bool,
    /// Whether the receiver answers each message; without, one that was sent counts as delivered.
    #[serde(default = "default_acknowledge")]
    pub acknowledge: bool,
    /// MSH-12, for a receiver that refuses another.
    #[serde(default = "default_version")]
    pub version: String,
    /// MSH-18, and what the message is written in.
    #[serde(default = "default_charset")]
    pub charset: String,
    /// Seconds to connect, and for the answer.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    /// None: without TLS.
    pub tls: Option<tls_client::Config>,
}

fn default_application() -> String {
    "PRELIM".into()
}

fn default_pdf() -> bool {
    true
}

fn default_timeout_s() -> u64 {
    30
}

fn default_acknowledge() -> bool {
    true
}

fn default_version() -> String {
    write::VERSION.into()
}

fn default_charset() -> String {
    write::CHARSET.into()
}

/// Versions of HL7 in which our segments are known.
const VERSIONS: [&str; 9] = ["2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8"];

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        check_address(&format!("{at}.address"), &self.address, "ris:2575", problems);
        let s = self.timeout_s;
        if !(1..=600).contains(&s) {
            let why = "a shorter wait fails on a busy receiver, a longer one blocks what waits";
            problems.push(format!("{at}.timeout_s = {s}: use 1 to 600 (default 30); {why}"));
        }
        for (key, name) in [
            ("sending_application", &self.sending_application),
            ("sending_facility", &self.sending_facility),
            ("receiving_application", &self.receiving_application),
            ("receiving_facility", &self.receiving_facility),
        ] {
            if name.chars().count() > 20 || name.chars().any(char::is_control) {
                let why = "receivers cut or refuse what is longer";
                problems.push(format!("{at}.{key}: use at most 20 characters on one line; {why}"));
            }
        }
        if !VERSIONS.contains(&self.version.as_str()) {
            let all = VERSIONS.join(", ");
            problems.push(format!("{at}.version = {:?}: use one of {all}", self.version));
        }
        if message::character_set(&self.charset).is_none() {
            problems.push(format!(
                "{at}.charset = {:?}: use a name of HL7 table 0211, e.g. \"UNICODE UTF-8\", \"8859/1\", \
                 \"KS X 1001\", \"GB 18030-2000\"",
                self.charset
            ));
        }
        if let Some(tls) = &self.tls {
            tls.check(&format!("{at}.tls"), &self.address, problems);
        }
    }
}

/// One try to send one message. A second one has the same control id (MSH-10) and the same order
/// numbers, by which the receiver puts it in the place of the first.
///
/// # Errors
/// AE is permanent: the receiver cannot use the message, and the same one again would not help. AR,
/// silence and all that has to do with the connection may pass.
pub async fn deliver(config: &Config, file: &Path) -> Result<Delivered, DeliverError> {
    let text = tokio::fs::read_to_string(file).await;
    let unread = |source| DeliverError::File { what: "the result cannot be read", source };
    let text = text.map_err(unread)?;
    let text = if config.pdf { text } else { write::without_documents(&text) };
    let from = [config.sending_application.as_str(), &config.sending_facility];
    let to = [config.receiving_application.as_str(), &config.receiving_facility];
    let message = write::addressed(&text, from, to);
    let control_id = Message::parse(&message).map(|m| m.control_id()).unwrap_or_default();
    let waited = Duration::from_secs(config.timeout_s);
    let (bytes, lost) = write::coded(&message, &config.version, &config.charset);
    let stream = connect(config).await?;
    let exchange = async {
        let mut delivered = exchange(stream, &bytes, &control_id, config.acknowledge).await?;
        if lost > 0 {
            let more =
                format!("; {lost} characters that {} does not have are \"?\"", config.charset);
            delivered.detail.push_str(&more);
        }
        Ok(delivered)
    };
    let timed_out = |_| DeliverError::TimedOut { waited };
    tokio::time::timeout(waited, exchange).await.map_err(timed_out)?
}

/// Connects as for a message.
pub async fn reach(config: &Config) -> Result<String, DeliverError> {
    connect(config).await?;
    Ok("it takes connections; no message was sent".to_owned())
}

async fn connect(config: &Config) -> Result<tls_client::ClientStream, DeliverError> {
    let waited = Duration::from_secs(config.timeout_s);
    let unreachable = |cause: String| DeliverError::Unreachable { cause };
    let tls =
        tls_client::read(config.tls.as_ref()).await.map_err(|e| unreachable(e.to_string()))?;
    let connect = async {
        let stream = TcpStream::connect(&config.address).await;
        let stream = Socket::new(stream.map_err(|e| unreachable(peer_words(&e.to_string())))?);
        match &tls {
            None => Ok(tls_client::ClientStream::Plain(stream)),
            Some(client) => client.connect(&config.address, stream).await.map_err(|error| {
                unreachable(format!("TLS: {}", tls_client::handshake_failed(&error)))
            }),
        }
    };
    let timed_out = |_| DeliverError::TimedOut { waited };
    tokio::time::timeout(waited, connect).await.map_err(timed_out)?
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    message: &[u8],
    control_id: &str,
    is_answered: bool,
) -> Result<Delivered, DeliverError> {
    let broken = |what: String| DeliverError::Unreachable { cause: peer_words(&what) };
    let deferred = |answer: &str| DeliverError::deferred(answer);
    let mut frames = Frames::new(stream, ANSWER_BYTES_MAX);
    frames.send(message).await.map_err(|e| broken(format!("while sending: {e}")))?;
    if !is_answered {
        return Ok(Delivered { detail: "sent; this receiver answers nothing".into() });
    }
    for _answer in 0..ANSWERS_MAX {
        let answer = match frames.next().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(broken("the receiver closed without an answer".into())),
            Err(MllpError::NotFramed | MllpError::TooLarge { .. }) => {
                return Err(deferred("what came back is no HL7 acknowledgement"));
            }
            Err(error @ (MllpError::Cut | MllpError::Io(_))) => {
                return Err(broken(error.to_string()));
            }
        };
        let ack = Message::read(&answer, None).as_ref().and_then(Ack::of);
        let Some(ack) = ack else {
            return Err(deferred("what came back is no HL7 acknowledgement"));
        };
        if ack.control_id == control_id {
            return outcome(&ack);
        }
        // Of a message before, whose sender waited no longer: ours is still to be answered.
    }
    Err(deferred("the acknowledgements are of other messages (MSA-2)"))
}

fn outcome(ack: &Ack) -> Result<Delivered, DeliverError> {
    let words = peer_words(&ack.words);
    let said = |code: &str| format!("{code} {words}").trim_end().to_owned();
    match ack.code {
        Code::Accept => Ok(Delivered { detail: said("AA") }),
        Code::Error => Err(DeliverError::Refused { answer: said("AE") }),
        Code::Reject => Err(DeliverError::deferred(said("AR"))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio_util::task::TaskTracker;

    use super::*;

    const MESSAGE: &str = "MSH|^~\\&|PRELIM||||20260302||ORU^R01^ORU_R01|ID1|P|2.5.1\r\
                           OBX|1|TX|1^x||y\rOBX|2|ED|2^x||A^AP^PDF^Base64^QQ==\r";

    /// A receiver that answers with these bytes and then closes; `None`: never.
    async fn receiver(answer: Option<&'static [u8]>) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let task = TaskTracker::new().spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut came = Vec::new();
            while !came.ends_with(b"\x1c\r") {
                let mut piece = [0; 1000];
                let bytes = stream.read(&mut piece).await.unwrap();
                came.extend_from_slice(&piece[..bytes]);
            }
            match answer {
                Some(answer) => stream.write_all(answer).await.unwrap(),
                None => tokio::time::sleep(Duration::from_secs(60)).await,
            }
            String::from_utf8(came).unwrap()
        });
        (address, task)
    }

    fn config(address: &str) -> Config {
        toml::from_str(&format!(
            "address = \"{address}\"\ntimeout_s = 1\npdf = false\nreceiving_application = \"RIS\""
        ))
        .unwrap()
    }

    async fn sent(answer: Option<&'static [u8]>) -> Result<Delivered, DeliverError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        std::fs::write(&file, MESSAGE).unwrap();
        let (address, task) = receiver(answer).await;
        let said = deliver(&config(&address), &file).await;
        task.abort();
        said
    }

    /// The table of answers: what is done, what is tried again, what a person must look at.
    #[tokio::test]
    async fn an_answer_says_done_again_or_never() {
        let head = |msa: &str| format!("\u{b}MSH|^~\\&|RIS||||||ACK|9|P|2.5.1\r{msa}\r\u{1c}\r");
        for (answer, transient, words) in [
            (Some(head("MSA|AA|ID1")), None, "AA"),
            (Some(head("MSA|CA|ID1")), None, "AA"),
            (Some(head("MSA|AA|OLD").repeat(2) + &head("MSA|AA|ID1|ok")), None, "AA ok"),
            (
                Some(head("MSA|AE|ID1|unknown\\.br\\patient")),
                Some(false),
                "refused: AE unknown patient",
            ),
            (
                Some(head("MSA|AE|ID1\rERR|||207^Application error")),
                Some(false),
                "refused: AE 207 Application error",
            ),
            (Some(head("MSA|AR|ID1|busy")), Some(true), "refused for now: AR busy"),
            (Some(head("MSA|AA|OTHER")), Some(true), "closed without an answer"),
            (Some(head("MSA|AA|OTHER").repeat(9)), Some(true), "of other messages (MSA-2)"),
            (Some(head("MSA|XX|ID1")), Some(true), "no HL7 acknowledgement"),
            (Some("HTTP/1.1 400 Bad Request\r\n\r\n".into()), Some(true), "no HL7 acknowledgement"),
            (Some("\u{b}MSH|^~\\&|RIS".into()), Some(true), "ended inside a message"),
            (Some(String::new()), Some(true), "closed without an answer"),
            (None, Some(true), "no answer within 1s"),
        ] {
            let answer = answer.map(|text| &*text.into_bytes().leak());
            let said = sent(answer).await;
            let shown = format!("{answer:?}: {said:?}");
            match (said, transient) {
                (Ok(done), None) => assert_eq!(done.detail, words, "{shown}"),
                (Err(error), Some(transient)) => {
                    assert_eq!(error.is_transient(), transient, "{shown}");
                    assert!(error.to_string().contains(words), "{error}");
                }
                (Ok(_), Some(_)) | (Err(_), None) => panic!("{shown}"),
            }
        }
    }

    #[tokio::test]
    async fn a_message_goes_out_addressed_and_without_what_is_not_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        std::fs::write(&file, MESSAGE).unwrap();
        let (address, task) = receiver(Some(b"\x0bMSH|^~\\&|RIS\rMSA|AA|ID1\x1c\r")).await;
        deliver(&config(&address), &file).await.unwrap();
        let came = task.await.unwrap();
        let expected = "\u{b}MSH|^~\\&|PRELIM||RIS||20260302||ORU^R01^ORU_R01|ID1|P|2.5.1||||||\
                        UNICODE UTF-8\rOBX|1|TX|1^x||y\r\u{1c}\r";
        assert_eq!(came, expected);
        let gone = deliver(&config(&address), &file).await.unwrap_err();
        assert!(gone.is_transient() && matches!(gone, DeliverError::Unreachable { .. }), "{gone}");
    }
}

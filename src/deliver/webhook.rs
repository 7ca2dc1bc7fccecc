//! HTTP POST of JSON with the signature of Standard Webhooks: HMAC-SHA256 over id, time and body.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::KeyInit as _;
use hmac::Mac as _;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::deliver::DeliverError;
use crate::deliver::Delivered;
use crate::deliver::http;
use crate::deliver::http::Endpoint;
use crate::deliver::mailbox::is_result;
use crate::domain::identity::Shown;
use crate::domain::message::Message;
use crate::outgoing::route::Route;
use crate::outgoing::server::Server;
use crate::outgoing::server::Who;

/// Begins the secret of a hook; what follows is base64.
const PREFIX: &str = "whsec_";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to post.
    pub url: String,
    /// File with the secret that both sides know: `whsec_` and 24 to 64 bytes in base64. Without one
    /// nothing is signed, and the receiver cannot tell us from others.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// Seconds for one answer.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    #[serde(flatten)]
    pub route: Route,
    #[serde(flatten)]
    pub who: Who,
    /// Whether it gets an event for each report, beside the alerts that recipients name it for.
    #[serde(default)]
    pub reports: bool,
    /// How much of the patient's identity stands in these events.
    #[serde(default)]
    pub identity: Shown,
    /// Files of the result whose URLs they hold, e.g. `["report.pdf"]`.
    #[serde(default)]
    pub files: Vec<String>,
}

fn default_timeout_s() -> u64 {
    15
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        self.endpoint().check(at, problems);
        self.server().check_token_url(at, problems);
        if let Err(why) = self.secret() {
            problems.push(format!("{at}.secret_file: {why}"));
        }
        for file in self.files.iter().filter(|file| !is_result(file)) {
            let known = "e.g. report.pdf, report.ko.html, sr.dcm";
            problems.push(format!("{at}.files: {file:?} is no result; there are {known}"));
        }
    }

    pub fn server(&self) -> Server<'_> {
        Server { route: &self.route, who: &self.who }
    }

    fn endpoint(&self) -> Endpoint<'_> {
        Endpoint { url: &self.url, server: self.server(), timeout_s: self.timeout_s }
    }

    fn secret(&self) -> Result<Option<Vec<u8>>, String> {
        let Some(file) = &self.secret_file else { return Ok(None) };
        let text = std::fs::read_to_string(file).map_err(|e| format!("cannot be read ({e})"))?;
        let secret = text.trim().strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
        match secret.filter(|secret| (24..=64).contains(&secret.len())) {
            Some(secret) => Ok(Some(secret)),
            None => Err(format!(
                "it should hold {PREFIX} and 24 to 64 bytes in base64: (echo -n {PREFIX}; openssl rand -base64 32)"
            )),
        }
    }
}

/// One try to post one message. A second one has the same webhook-id, by which receivers know it.
///
/// # Errors
/// 410 and other 4xx are permanent, except 408, 425 and 429; all else may pass. No redirect is
/// followed: the message would go where nobody has said.
pub async fn send(
    config: &Config,
    message: &Message,
    now: Timestamp,
) -> Result<Delivered, DeliverError> {
    let secret = config.secret().map_err(|what| DeliverError::Settings { what })?;
    let id = format!("msg_{}", message.id);
    let at_s = now.as_second();
    let mut headers = vec![("webhook-id", id.clone()), ("webhook-timestamp", at_s.to_string())];
    if let Some(secret) = secret {
        headers.push(("webhook-signature", sign(&secret, &id, at_s, &message.json)));
    }
    let request = http::Request {
        path: "",
        content_type: "application/json",
        accept: "*/*",
        headers,
        body: message.json.clone().into_bytes(),
    };
    let answer = config.endpoint().post(request).await?;
    let words = String::from_utf8_lossy(&answer.body);
    match answer.status {
        status @ 200..300 => Ok(Delivered { detail: http::answer(status, &words) }),
        _ => Err(answer.refused(&words)),
    }
}

/// `v1,` and the signature of `<id>.<seconds>.<body>`, base64.
fn sign(secret: &[u8], id: &str, at_s: i64, body: &str) -> String {
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret).expect("a key of any length");
    mac.update(format!("{id}.{at_s}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn a_body_is_signed_as_the_specification_says() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = "{\"test\": 2432232314}";
        let signed = sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        let config = |url: &str, text: &str| {
            std::fs::write(&secret, text).unwrap();
            let config: Config = toml::from_str(&format!("url = {url:?}")).unwrap();
            let config = Config { secret_file: Some(secret.clone()), ..config };
            let mut problems = Vec::new();
            config.check("deliver.webhook.pager", &mut problems);
            problems
        };
        let good = format!("{PREFIX}{}\n", STANDARD.encode([7; 32]));
        assert_eq!(config("https://pager.example/hook", &good), [""; 0]);
        assert_eq!(config("http://127.0.0.1:9/hook", &good), [""; 0]);
        for (url, text) in [
            ("http://8.8.8.8/hook", good.as_str()),
            ("https://169.254.169.254/hook", &good),
            ("ftp://pager.example/hook", &good),
            ("https://user:pass@pager.example/", &good),
            ("https://pager.example/hook", "secret"),
            ("https://pager.example/hook", "whsec_c2hvcnQ="),
        ] {
            assert_eq!(config(url, text).len(), 1, "{url} {text}");
        }
    }
}

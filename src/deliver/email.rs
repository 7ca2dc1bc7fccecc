//! E-mail over SMTP (RFC 5321) with lettre's connection. The transaction is ours: lettre's own
//! stops at the first refused address, and its time-out ends with the connection.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::UdpSocket;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use lettre::Address;
use lettre::message::Attachment;
use lettre::message::Mailbox;
use lettre::message::MultiPart;
use lettre::message::SinglePart;
use lettre::message::header::ContentType;
use lettre::message::header::HeaderName;
use lettre::message::header::HeaderValue;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::client::Certificate;
use lettre::transport::smtp::client::CertificateStore;
use lettre::transport::smtp::client::TlsParameters;
use lettre::transport::smtp::commands::Data;
use lettre::transport::smtp::commands::Mail;
use lettre::transport::smtp::commands::Rcpt;
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::extension::Extension;
use lettre::transport::smtp::extension::MailParameter;
use lettre::transport::smtp::response::Code;
use serde::Deserialize;
use serde::Serialize;

use crate::deliver::DeliverError;
use crate::deliver::Delivered;
use crate::deliver::peer_words;
use crate::deliver::smtp_login;
use crate::deliver::smtp_login::With;
use crate::dicom::tls_client;
use crate::domain::message::Message;
use crate::outgoing;
use crate::outgoing::oauth2;
use crate::outgoing::route::Route;
use crate::outgoing::server;
use crate::outgoing::server::Server;
use crate::outgoing::server::Who;

/// How the connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Plain at first, then STARTTLS; without it nothing is sent.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// No encryption: only to this machine, unless `allow_plain` says otherwise.
    None,
}

impl Mode {
    fn default_port(self) -> u16 {
        match self {
            Mode::Starttls => 587,
            Mode::Tls => 465,
            Mode::None => 25,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of the mail server, as in its certificate. Empty: no e-mail is sent.
    pub host: String,
    /// 0: 587 for starttls, 465 for tls, 25 for none.
    pub port: u16,
    pub mode: Mode,
    /// Sender, e.g. `Prelim <prelim@hospital.example>`.
    pub from: String,
    /// User name for the server. Empty: no authentication.
    pub user: String,
    /// File that holds the password and nothing else.
    pub password_file: Option<PathBuf>,
    /// File with a token for XOAUTH2, in place of a password; read for each message.
    pub token_file: Option<PathBuf>,
    /// The token is fetched with these, and again before it ends.
    pub oauth2: Option<oauth2::Config>,
    /// PEM file with the root certificates to trust instead of the machine's.
    pub ca_file: Option<PathBuf>,
    /// Name that the server's certificate holds, where it is reached by another.
    pub server_name: String,
    /// What we call ourselves in EHLO. Empty: this machine's name where it is one of a domain, else its
    /// address (RFC 5321 4.1.4).
    pub hello: String,
    /// Lets `mode = "none"` send to another machine: everyone on the way can read it.
    pub allow_plain: bool,
    /// Seconds for one message, connection included.
    pub timeout_s: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            host: String::new(),
            port: 0,
            mode: Mode::default(),
            from: String::new(),
            user: String::new(),
            password_file: None,
            token_file: None,
            oauth2: None,
            ca_file: None,
            server_name: String::new(),
            hello: String::new(),
            allow_plain: false,
            timeout_s: 60,
        }
    }
}

impl Config {
    pub fn is_set(&self) -> bool {
        !self.host.is_empty()
    }

    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let s = self.timeout_s;
        if !(5..=600).contains(&s) {
            let why = "a shorter wait fails on a slow server, a longer one blocks what waits";
            problems.push(format!("{at}.timeout_s = {s}: use 5 to 600 (default 60); {why}"));
        }
        if !self.is_set() {
            return;
        }
        if self.from.parse::<Mailbox>().is_err() {
            let found = &self.from;
            let allowed = "use an address such as \"Prelim <prelim@hospital.example>\"";
            problems.push(format!("{at}.from = {found:?}: {allowed}; servers refuse mail without"));
        }
        if let Err(why) = self.may_be_plain() {
            problems.push(format!("{at}.mode = \"none\": {why}"));
        }
        let shown = [
            ("password_file", self.password_file.is_some()),
            ("token_file", self.token_file.is_some()),
            ("oauth2", self.oauth2.is_some()),
        ];
        let shown: Vec<&str> = shown.iter().filter(|one| one.1).map(|one| one.0).collect();
        if shown.len() > 1 {
            problems.push(format!("{at}: {} all log in; use one", shown.join(", ")));
        }
        if self.user.is_empty() != shown.is_empty() {
            let why = "one without the other cannot log in";
            problems.push(format!(
                "{at}.user and {at}.password_file (or token_file, oauth2): give both or none; {why}"
            ));
        }
        if let Some(oauth2) = &self.oauth2 {
            oauth2.check(&format!("{at}.oauth2"), false, problems);
            if oauth2.token_url.is_empty() {
                problems.push(format!("{at}.oauth2.token_url is needed: where tokens are given"));
            }
        }
        if self.hello.contains(|c: char| c.is_whitespace() || c.is_control()) {
            problems
                .push(format!("{at}.hello = {:?}: use a name such as node.h.example", self.hello));
        }
        let files = [
            ("password_file", &self.password_file),
            ("token_file", &self.token_file),
            ("ca_file", &self.ca_file),
        ];
        for (key, file) in files {
            if let Some(Err(e)) = file.as_deref().map(std::fs::File::open) {
                problems.push(format!("{at}.{key}: cannot be read ({e}); nothing could be sent"));
            }
        }
    }

    fn may_be_plain(&self) -> Result<(), String> {
        let host = self.host.trim_matches(['[', ']']);
        let is_local = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        match self.mode {
            Mode::Starttls | Mode::Tls => Ok(()),
            Mode::None if is_local => Ok(()),
            Mode::None if self.allow_plain && self.user.is_empty() => Ok(()),
            Mode::None if self.allow_plain => {
                Err("a password would cross the network in clear; use starttls or tls".into())
            }
            Mode::None => Err("only for a mail server on this machine; use starttls or tls, or \
                               set allow_plain if the network is yours"
                .into()),
        }
    }
}

/// One try to send one message. A second one is the same message: the Message-ID is fixed.
///
/// # Errors
/// 5xx is permanent, all else may pass: 4xx, no connection, a connection lost after the final dot.
/// What is refused for good is told apart: an address that there is none, a content, anything else.
pub async fn send(config: &Config, message: &Message) -> Result<Delivered, DeliverError> {
    if !config.is_set() {
        return Err(DeliverError::Settings { what: "no mail server is named".into() });
    }
    config.may_be_plain().map_err(|what| DeliverError::Settings { what })?;
    let from: Mailbox = config.from.parse().map_err(|_| unusable("the sender's address"))?;
    let to: Result<Vec<Mailbox>, _> = message.to.iter().map(|address| address.parse()).collect();
    let to = to.map_err(|_| unusable("a recipient's address"))?;
    if to.is_empty() {
        return Err(DeliverError::Settings { what: "nobody is named as recipient".into() });
    }
    let bytes = mime(message, &from, &to)?;
    let waited = Duration::from_secs(config.timeout_s);
    let to: Vec<Address> = to.into_iter().map(|mailbox| mailbox.email).collect();
    let transaction = async {
        let mut server = connect(config).await?;
        hand_over(&mut server, from.email, to, &bytes).await
    };
    let timed_out = Err(DeliverError::TimedOut { waited });
    tokio::time::timeout(waited, transaction).await.unwrap_or(timed_out)
}

/// Connects, greets, encrypts and logs in as for a message, and goes.
pub async fn reach(config: &Config) -> Result<String, DeliverError> {
    config.may_be_plain().map_err(|what| DeliverError::Settings { what })?;
    let waited = Duration::from_secs(config.timeout_s);
    let greeted = tokio::time::timeout(waited, connect(config)).await;
    let mut server = greeted.map_err(|_| DeliverError::TimedOut { waited })??;
    let _ = tokio::time::timeout(Duration::from_secs(2), server.abort()).await;
    let login = if config.user.is_empty() { "without a login" } else { "with our login" };
    Ok(format!("the mail server answers, {login}; no message was sent"))
}

fn unusable(what: &str) -> DeliverError {
    DeliverError::Settings { what: format!("{what} cannot be used") }
}

async fn connect(config: &Config) -> Result<AsyncSmtpConnection, DeliverError> {
    let port = if config.port == 0 { config.mode.default_port() } else { config.port };
    let timeout = Some(Duration::from_secs(config.timeout_s));
    let hello = hello(config, port).await;
    let secured = |mode: Mode| (config.mode == mode).then(|| tls(config)).transpose();
    let (wrapped, upgrade) = (secured(Mode::Tls)?, secured(Mode::Starttls)?);
    let server = (config.host.trim_matches(['[', ']']), port);
    let connected = AsyncSmtpConnection::connect_tokio1(server, timeout, &hello, wrapped, None);
    let mut server = connected.await.map_err(failed)?;
    if let Some(tls) = upgrade {
        if !server.can_starttls() {
            server.abort().await;
            return Err(DeliverError::NotEncrypted);
        }
        server.starttls(tls, &hello).await.map_err(failed)?;
    }
    if let Some(with) = shown(config).await? {
        smtp_login::log_in(&mut server, &hello, &config.user, &with, failed).await?;
    }
    Ok(server)
}

/// What shows who we are; `None`: no login.
async fn shown(config: &Config) -> Result<Option<With>, DeliverError> {
    let of = |file: &Path| {
        server::line(file).map_err(|why| DeliverError::Unreachable {
            cause: format!("{} cannot be read: {why}", file.display()),
        })
    };
    if let Some(file) = &config.password_file {
        return Ok(Some(With::Password(of(file)?)));
    }
    if let Some(file) = &config.token_file {
        return Ok(Some(With::Token(of(file)?)));
    }
    let Some(oauth2) = &config.oauth2 else { return Ok(None) };
    let (route, who) = (Route::default(), Who::default());
    let server = Server { route: &route, who: &who };
    let token = oauth2::token(server, oauth2, &config.host, false).await;
    let token = token.map_err(|cause| DeliverError::Unreachable { cause })?;
    Ok(Some(With::Token(token)))
}

/// What we call ourselves.
async fn hello(config: &Config, port: u16) -> ClientId {
    if !config.hello.is_empty() {
        return ClientId::Domain(config.hello.clone());
    }
    match ClientId::default() {
        ClientId::Domain(name) if name.contains('.') => ClientId::Domain(name),
        // The address from which the way to the server leads; nothing is sent to find it.
        _ => match own_address(config.host.trim_matches(['[', ']']), port).await {
            Some(IpAddr::V4(v4)) => ClientId::Ipv4(v4),
            Some(IpAddr::V6(v6)) => ClientId::Ipv6(v6),
            None => ClientId::Ipv4(Ipv4Addr::LOCALHOST),
        },
    }
}

async fn own_address(host: &str, port: u16) -> Option<IpAddr> {
    let peer = tokio::net::lookup_host((host, port)).await.ok()?.next()?;
    let any: IpAddr = match peer.is_ipv4() {
        true => Ipv4Addr::UNSPECIFIED.into(),
        false => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(peer).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn tls(config: &Config) -> Result<TlsParameters, DeliverError> {
    let name = match config.server_name.as_str() {
        "" => &config.host,
        name => name,
    };
    let mut builder = TlsParameters::builder(name.to_owned());
    if let Some(file) = &config.ca_file {
        let pem = read(file, "the file with root certificates cannot be read")?;
        let roots = Certificate::from_pem(&pem).map_err(|_| unusable("ca_file"))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(roots);
    }
    builder.build().map_err(failed)
}

fn read(file: &Path, what: &'static str) -> Result<Vec<u8>, DeliverError> {
    std::fs::read(file).map_err(|source| DeliverError::File { what, source })
}

/// MAIL, RCPT for each address, DATA. An address that is refused keeps it from no other.
async fn hand_over(
    server: &mut AsyncSmtpConnection,
    from: Address,
    to: Vec<Address>,
    bytes: &[u8],
) -> Result<Delivered, DeliverError> {
    let is_beyond_ascii = |address: &Address| !address.to_string().is_ascii();
    let mut parameters = Vec::new();
    if is_beyond_ascii(&from) || to.iter().any(is_beyond_ascii) {
        if !server.server_info().supports_feature(Extension::SmtpUtfEight) {
            let answer = "the mail server takes no addresses beyond ASCII (SMTPUTF8)".to_owned();
            return Err(DeliverError::Refused { answer });
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    server.command(Mail::new(Some(from), parameters)).await.map_err(failed)?;
    let addresses = to.len();
    let mut refused = Vec::new();
    for address in to {
        if let Err(error) = server.command(Rcpt::new(address, vec![])).await {
            let is_unknown =
                error.status().is_some_and(|code| is_no_address(code, &error.to_string()));
            match failed(error) {
                DeliverError::Refused { answer } if is_unknown => {
                    refused.push(DeliverError::NoSuchAddress { answer });
                }
                error @ (DeliverError::Refused { .. } | DeliverError::Deferred { .. }) => {
                    refused.push(error);
                }
                lost => return Err(lost),
            }
        }
    }
    let may_pass = refused.iter().all(DeliverError::is_transient);
    let accepted = addresses - refused.len();
    let answer: Vec<String> = refused.iter().map(ToString::to_string).collect();
    let answer = answer.join("; ");
    if accepted == 0 {
        server.abort().await;
        let none_known = refused.iter().all(|e| matches!(e, DeliverError::NoSuchAddress { .. }));
        return Err(match (may_pass, none_known) {
            (true, _) => DeliverError::deferred(answer),
            (false, true) => DeliverError::NoSuchAddress { answer },
            (false, false) => DeliverError::Refused { answer },
        });
    }
    server.command(Data).await.map_err(failed)?;
    let response = server.message(bytes).await.map_err(|error| match failed(error) {
        DeliverError::Refused { answer } => DeliverError::ContentRefused { answer },
        error => error,
    })?;
    let detail = peer_words(&response.message().collect::<Vec<_>>().join(" "));
    let detail = format!("{} {detail}", response.code());
    // The server has it. What it says to QUIT, or whether, changes nothing.
    let _ = tokio::time::timeout(Duration::from_secs(2), server.abort()).await;
    match refused.is_empty() {
        true => Ok(Delivered { detail }),
        false => Err(DeliverError::PartlyRefused { accepted, addresses, answer, may_pass }),
    }
}

/// Whether a server says by its refusal of an address that there is none (RFC 5321 4.2.3, RFC 3463
/// 3.2): not what its policy, its directory or a full mailbox says, which pass.
fn is_no_address(code: Code, words: &str) -> bool {
    let enhanced = words.split(|c: char| !c.is_ascii_digit() && c != '.').find(|word| {
        let parts: Vec<&str> = word.split('.').collect();
        parts.len() == 3 && parts.iter().all(|part| (1..=3).contains(&part.len()))
    });
    match (u16::from(code), enhanced) {
        // Bad destination mailbox or system address, moved, or its host takes no mail.
        (550..=559, Some(status)) => {
            ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"].contains(&status)
        }
        (550 | 551 | 553, None) => true,
        (_, _) => false,
    }
}

/// What TLS says. One that signs itself is trusted here only when it is not marked as the root of others.
fn explained(error: &rustls::Error) -> String {
    let words = tls_client::explain(error);
    match words.contains("self-signed: name it") {
        true => {
            "its certificate is self-signed and marked as a root of others (CA:TRUE), which no \
                 server's own may be: make it with -addext basicConstraints=critical,CA:FALSE and \
                 name it in ca_file"
                .to_owned()
        }
        false => words,
    }
}

/// lettre counts a refused connection neither as transient nor as permanent: here only 5xx is.
fn failed(error: lettre::transport::smtp::Error) -> DeliverError {
    let words = match outgoing::tls_error(&error) {
        Some(tls) => format!("TLS: {}", explained(tls)),
        None => peer_words(&error.to_string()),
    };
    match error.status() {
        Some(_) if error.is_permanent() => DeliverError::Refused { answer: words },
        Some(_) => DeliverError::deferred(words),
        None => DeliverError::Unreachable { cause: words },
    }
}

/// `mixed(alternative(text, related(html, picture)), files)`, all of it ASCII on the wire.
fn mime(message: &Message, from: &Mailbox, to: &[Mailbox]) -> Result<Vec<u8>, DeliverError> {
    let failed = |_| unusable("the message");
    let id = format!("<{}@{}>", message.id, from.email.domain());
    let date = std::time::SystemTime::from(message.date);
    let mut builder = lettre::Message::builder()
        .from(from.clone())
        .date(date)
        .message_id(Some(id))
        .subject(header_text(&message.subject));
    for mailbox in to {
        builder = builder.to(mailbox.clone());
    }
    if let Some(thread) = &message.thread {
        let first = format!("<{thread}@{}>", from.email.domain());
        builder = builder.in_reply_to(first.clone()).references(first);
    }
    // No out-of-office reply to a machine (RFC 3834).
    let mut marks = vec![("Auto-Submitted", "auto-generated")];
    if message.urgent {
        marks.extend([("Importance", "high"), ("X-Priority", "1")]);
    }
    for (name, value) in marks {
        let name = HeaderName::new_from_ascii_str(name);
        builder = builder.raw_header(HeaderValue::new(name, value.to_owned()));
    }
    let html = SinglePart::html(message.html.clone());
    let html = match &message.picture {
        None => MultiPart::related().singlepart(html),
        Some(picture) => {
            let media_type = ContentType::parse(&picture.media_type);
            let media_type = media_type.map_err(|_| unusable("the picture's media type"))?;
            let inline = Attachment::new_inline(picture.content_id.clone());
            let picture = inline.body(picture.bytes.clone(), media_type);
            MultiPart::related().singlepart(html).singlepart(picture)
        }
    };
    let text = SinglePart::plain(message.text.clone());
    let body = MultiPart::alternative().singlepart(text).multipart(html);
    let body = match message.attachments.is_empty() {
        true => body,
        false => message.attachments.iter().try_fold(
            MultiPart::mixed().multipart(body),
            |all, file| {
                let media_type = ContentType::parse(&file.media_type);
                let media_type = media_type.map_err(|_| unusable("a file's media type"))?;
                let part = Attachment::new(file.file.clone()).body(file.bytes.clone(), media_type);
                Ok(all.singlepart(part))
            },
        )?,
    };
    Ok(builder.multipart(body).map_err(failed)?.formatted())
}

/// A line end in a header would start another header.
fn header_text(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

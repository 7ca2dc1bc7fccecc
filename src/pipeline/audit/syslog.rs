//! The way to a syslog server: RFC 5424 messages, over TLS (RFC 5425) or TCP with octet counting
//! (RFC 6587 3.4.1), or one datagram each (RFC 5426).

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::UdpSocket;

use crate::dicom::socket::Socket;
use crate::dicom::tls_client;
use crate::dicom::tls_client::ClientStream;

/// To connect, and for each write.
const WAIT: Duration = Duration::from_secs(10);
/// Facility 10 (security and authorisation), severity 5 (notice).
const PRIORITY: u8 = 10 * 8 + 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    #[default]
    Tls,
    Tcp,
    Udp,
}

/// Section `audit.syslog`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `host:port` of the audit record repository; empty: no messages.
    pub address: String,
    pub transport: Transport,
    /// Roots of the server, and what we show to it: for `tls`.
    pub tls: Option<tls_client::Config>,
    /// AuditEnterpriseSiteID; may be empty.
    pub site: String,
    /// Whether messages name the patient by Patient ID (0010,0020).
    pub patient_id: bool,
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        if self.address.is_empty() {
            return;
        }
        let parts = self.address.rsplit_once(':');
        let port = parts.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|&port| port > 0);
        if port.is_none() || parts.is_none_or(|(host, _)| host.is_empty()) {
            problems.push(format!(
                "{at}.address = {:?}: use host:port, e.g. \"audit.hospital.example:6514\"",
                self.address
            ));
        }
        match (self.transport, &self.tls) {
            (Transport::Tls, Some(tls)) => {
                tls.check(&format!("{at}.tls"), &self.address, problems);
            }
            (Transport::Tls, None) => problems.push(format!(
                "{at}.tls is needed: a table with ca_file, the roots of the server; or say \
                 {at}.transport = \"tcp\" or \"udp\", which anyone on the way can read"
            )),
            (Transport::Tcp | Transport::Udp, Some(_)) => problems.push(format!(
                "{at}.tls is of no use with this transport: say {at}.transport = \"tls\""
            )),
            (Transport::Tcp | Transport::Udp, None) => {}
        }
    }
}

/// A way that is open.
pub enum Way {
    Stream(ClientStream),
    Datagrams(UdpSocket),
}

impl Way {
    /// # Errors
    /// In words: nobody answers there, or not the one of the certificate.
    pub async fn open(config: &Config) -> Result<Way, String> {
        let open = async {
            let address = &config.address;
            if config.transport == Transport::Udp {
                let target = tokio::net::lookup_host(address).await.map_err(told)?.next();
                let target = target.ok_or_else(|| "the name has no address".to_owned())?;
                let own = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(own).await.map_err(told)?;
                socket.connect(target).await.map_err(told)?;
                return Ok(Way::Datagrams(socket));
            }
            let tls = tls_client::read(config.tls.as_ref()).await.map_err(|e| e.to_string())?;
            let stream = Socket::new(TcpStream::connect(address).await.map_err(told)?);
            Ok(Way::Stream(match &tls {
                None => ClientStream::Plain(stream),
                Some(client) => client
                    .connect(address, stream)
                    .await
                    .map_err(|error| format!("TLS: {}", tls_client::handshake_failed(&error)))?,
            }))
        };
        tokio::time::timeout(WAIT, open).await.unwrap_or_else(|_| Err("no answer".to_owned()))
    }

    pub async fn send(&mut self, messages: &[String]) -> io::Result<()> {
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        match self {
            Way::Datagrams(socket) => {
                for message in messages {
                    socket.send(message.as_bytes()).await?;
                }
                Ok(())
            }
            Way::Stream(stream) => {
                let framed: String = messages.iter().map(|message| framed(message)).collect();
                let send = async {
                    stream.write_all(framed.as_bytes()).await?;
                    stream.flush().await
                };
                tokio::time::timeout(WAIT, send).await.unwrap_or_else(|_| Err(late()))
            }
        }
    }

    /// Whether the server still holds its end, looked at for as long as `wait`: what was written to
    /// one that is gone has not arrived.
    pub async fn holds(&mut self, wait: Duration) -> bool {
        match self {
            Way::Datagrams(_) => true,
            Way::Stream(stream) => {
                let mut answer = [0; 64];
                match tokio::time::timeout(wait, stream.read(&mut answer)).await {
                    // Servers say nothing; one that does is there.
                    Err(_) => true,
                    Ok(Ok(read)) => read > 0,
                    Ok(Err(_)) => false,
                }
            }
        }
    }
}

fn told(error: io::Error) -> String {
    error.to_string()
}

/// RFC 6587 3.4.1, RFC 5425 4.3: the number of octets before the message.
fn framed(message: &str) -> String {
    format!("{} {message}", message.len())
}

/// One message of RFC 5424; MSGID as PS3.15 A.6 has it.
///
/// - `host`: of this node; `process`: its number.
pub fn message(at: Timestamp, host: &str, process: u32, xml: &str) -> String {
    let at = at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
    let host: String = host.chars().filter(char::is_ascii_graphic).take(255).collect();
    let host = if host.is_empty() { "-" } else { &host };
    format!("<{PRIORITY}>1 {at} {host} prelim {process} DICOM+RFC3881 - \u{feff}{xml}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_head_and_its_length_in_octets() {
        let at: Timestamp = "2026-11-23T05:06:07.125Z".parse().unwrap();
        let message = message(at, "node 1", 42, "<a>é</a>");
        let head = "<85>1 2026-11-23T05:06:07.125Z node1 prelim 42 DICOM+RFC3881 - ";
        assert_eq!(message, format!("{head}\u{feff}<a>é</a>"));
        // The mark of UTF-8 has 3 octets, é has 2.
        assert_eq!(framed(&message), format!("{} {message}", head.len() + 3 + 9));
    }

    #[test]
    fn tls_without_roots_is_named() {
        let mut problems = Vec::new();
        Config::default().check("audit.syslog", &mut problems);
        assert_eq!(problems, Vec::<String>::new());
        let address = "audit.example".to_owned();
        Config { address, ..Config::default() }.check("audit.syslog", &mut problems);
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}

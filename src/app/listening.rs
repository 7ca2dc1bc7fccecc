//! Addresses that the node listens on: opened, or why not and what helps.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::net::TcpSocket;

/// Callers that wait to be accepted. Of a burst over the usual 128 the rest would come back after a
/// second.
const QUEUE: u32 = 4096;

/// Why nobody can listen there, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {address}: {found}: {mend}")]
pub struct Unlistened {
    /// Of the settings, as `dicom.listen`.
    pub key: String,
    /// As it stands there.
    pub address: String,
    pub found: String,
    pub mend: String,
}

/// Listens on the first of the addresses that `address` stands for.
///
/// - `address`: `host:port`.
/// - `key`: its key in the settings.
pub async fn listen(address: &str, key: &str) -> Result<TcpListener, Unlistened> {
    let failed = |error: &io::Error| why(key, address, error);
    let all = tokio::net::lookup_host(address).await.map_err(|error| failed(&error))?;
    let mut last = io::Error::other("it is no address of this machine");
    for address in all {
        match listen_at(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(failed(&last))
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address.is_ipv4() {
        true => TcpSocket::new_v4()?,
        false => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

/// What an error of the system means for whoever set this address.
pub fn why(key: &str, address: &str, error: &io::Error) -> Unlistened {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    let (found, mend) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            "another program listens there".to_owned(),
            format!("ss -ltnp 'sport = :{port}' names it; end it, or set {key} to another port"),
        ),
        io::ErrorKind::PermissionDenied => (
            format!("port {port} may not be opened by this user"),
            "under systemd install the drop-in port-104.conf of /usr/share/doc/prelim/examples (it \
             says how); in a container set the sysctl net.ipv4.ip_unprivileged_port_start=0; or use \
             a port from 1024 on"
                .to_owned(),
        ),
        io::ErrorKind::AddrNotAvailable => (
            format!("this machine has no address {host}"),
            format!("ip address shows those that it has; 0.0.0.0 means all: set {key}"),
        ),
        _ => (error.to_string(), format!("set {key}")),
    };
    Unlistened { key: key.to_owned(), address: address.to_owned(), found, mend }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_cannot_listen_is_told_what_to_do() {
        let taken = listen("127.0.0.1:0", "http.listen").await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let said = listen(&address, "http.listen").await.unwrap_err().to_string();
        let port = taken.local_addr().unwrap().port();
        for part in ["http.listen = 127.0.0.1:", "another program", &format!("sport = :{port}")] {
            assert!(said.contains(part), "{part} in {said}");
        }
        let said = listen("203.0.113.7:104", "dicom.listen").await.unwrap_err().to_string();
        assert!(
            said.contains("203.0.113.7: set dicom.listen") || said.contains("set dicom.listen")
        );
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let said = why("dicom.listen", "0.0.0.0:104", &denied).to_string();
        for part in ["dicom.listen = 0.0.0.0:104", "port 104", "port-104.conf"] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
}

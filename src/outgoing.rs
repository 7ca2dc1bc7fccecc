//! HTTP requests to other machines: which addresses they may go to, and the client that sends them.
//! Never to link-local ones (where clouds keep their credentials), and in clear text only inside
//! the building. Names are checked after they are resolved.

use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Once;
use std::time::Duration;

use reqwest::dns::Addrs;
use reqwest::dns::Name;
use reqwest::dns::Resolve;
use reqwest::dns::Resolving;

/// A URL that requests may go to.
///
/// - `allow_plain`: http:// to addresses that are not private, too.
///
/// # Errors
/// In words, without user or password: not http(s), credentials in it, plain to a public address,
/// a link-local address.
pub fn endpoint(text: &str, allow_plain: bool) -> Result<reqwest::Url, String> {
    let url = reqwest::Url::parse(text.trim())
        .map_err(|error| format!("{error}; use e.g. https://host.example/path"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("no user or password here: secrets come from files".into());
    }
    let plain = match url.scheme() {
        "https" => false,
        "http" => true,
        other => {
            return Err(format!("scheme {other:?}: use https, or http inside the building"));
        }
    };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    match host.parse::<IpAddr>() {
        Ok(ip) if !may_connect(ip, plain && !allow_plain) => Err(match plain {
            true => "http:// only to loopback and private addresses; use https, or set allow_plain"
                .into(),
            false => "this address is link-local or not a host".into(),
        }),
        // A name is checked when it has been resolved.
        _ if host.is_empty() => Err("there is no host in it".into()),
        _ => Ok(url),
    }
}

/// A client for one [`endpoint`]: follows no redirect, trusts no proxy of the environment.
///
/// - `ca_file`: PEM file with the root certificates to trust instead of the machine's.
///
/// # Errors
/// In words: the file cannot be read, or is none.
pub fn client(
    url: &reqwest::Url,
    allow_plain: bool,
    ca_file: Option<&Path>,
    connect: Duration,
) -> Result<reqwest::ClientBuilder, String> {
    install_crypto();
    let only_inside = url.scheme() == "http" && !allow_plain;
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("prelim/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .https_only(url.scheme() == "https")
        .connect_timeout(connect)
        .pool_idle_timeout(Duration::from_secs(30))
        .dns_resolver(Arc::new(Guarded { only_inside }))
        .no_proxy();
    if let Some(file) = ca_file {
        let pem = std::fs::read(file).map_err(|error| format!("ca_file: {error}"))?;
        let roots = reqwest::Certificate::from_pem_bundle(&pem);
        let roots = roots.map_err(|_| "ca_file: no certificates in PEM form".to_owned())?;
        builder = builder.tls_certs_only(roots);
    }
    Ok(builder)
}

fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that another room was first: the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// Whether a connection to `ip` is allowed.
///
/// - `only_inside`: only loopback and private addresses (RFC 1918, RFC 4193, RFC 6598).
pub fn may_connect(ip: IpAddr, only_inside: bool) -> bool {
    let ip = match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 => v4,
    };
    let (never, inside) = match ip {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && (64..128).contains(&v4.octets()[1]);
            let never =
                v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast();
            (never, v4.is_loopback() || v4.is_private() || shared)
        }
        IpAddr::V6(v6) => {
            // The metadata service of one cloud has a unique local address.
            let metadata = v6 == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
            let never =
                v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast() || metadata;
            (never, v6.is_loopback() || v6.is_unique_local())
        }
    };
    !never && (inside || !only_inside)
}

/// The system's resolver, without the addresses that are not allowed.
struct Guarded {
    only_inside: bool,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let only_inside = self.only_inside;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|address| may_connect(address.ip(), only_inside)).collect();
            match allowed.is_empty() {
                true => Err("the name has no address that may be called".into()),
                false => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

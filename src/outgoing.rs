//! HTTP requests to other machines: which addresses they may go to, and the client that sends them.
//! Never to link-local ones (where clouds keep their credentials), and in clear text only inside
//! the building. Names are checked after they are resolved.

pub mod hints;
pub mod oauth2;
pub mod route;
pub mod server;

use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::Once;

use reqwest::dns::Addrs;
use reqwest::dns::Name;
use reqwest::dns::Resolve;
use reqwest::dns::Resolving;

use crate::dicom::tls_client;
use crate::domain::text;

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

pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that another room was first: the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// What TLS itself says of a request that failed: a certificate that is not trusted, a version that is
/// too old.
pub fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = error.source();
    while let Some(source) = next {
        if let Some(found) = source.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // The source of an I/O error is not what it holds but what that comes from.
        let held = source.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match held {
            Some(held) => Some(held as &(dyn std::error::Error + 'static)),
            None => source.source(),
        };
    }
    None
}

/// Why a request failed, by the layer that broke, without the URL: a key may stand in it.
pub fn why(error: &reqwest::Error) -> String {
    use std::error::Error as _;
    if let Some(tls) = tls_error(error) {
        return format!("TLS: {}", tls_client::explain(tls));
    }
    let what = match error {
        e if e.is_connect() => "cannot connect",
        e if e.is_timeout() => "timed out",
        e if e.is_body() || e.is_decode() => "the response broke off",
        _ => "the request failed",
    };
    let mut deepest: Option<&dyn std::error::Error> = error.source();
    while let Some(source) = deepest.and_then(std::error::Error::source) {
        deepest = Some(source);
    }
    let deepest = deepest.map(ToString::to_string).unwrap_or_default();
    match deepest.to_lowercase() {
        _ if deepest.is_empty() => what.to_owned(),
        said if said.contains("lookup address") || said.contains("name has no address") => {
            format!("the name of the host is not known: {}", text::clean(&deepest, 200))
        }
        said if said.contains("tunnel") || said.contains("proxy") => {
            format!("the proxy lets nothing through: {}", text::clean(&deepest, 200))
        }
        _ => format!("{what}: {}", text::clean(&deepest, 200)),
    }
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
    /// A name, and the host that it stands for.
    alias: Option<(String, String)>,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let only_inside = self.only_inside;
        let host = match &self.alias {
            Some((alias, host)) if alias == name.as_str() => host.clone(),
            Some(_) | None => name.as_str().to_owned(),
        };
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|address| may_connect(address.ip(), only_inside)).collect();
            match allowed.is_empty() {
                true => Err("the name has no address that may be called".into()),
                false => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

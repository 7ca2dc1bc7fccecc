//! Which addresses a request may go to: never link-local (where clouds keep their credentials),
//! and in clear text only inside the building. Names are checked after they are resolved.

use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

use reqwest::dns::Addrs;
use reqwest::dns::Name;
use reqwest::dns::Resolve;
use reqwest::dns::Resolving;

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
pub struct Guarded {
    pub only_inside: bool,
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

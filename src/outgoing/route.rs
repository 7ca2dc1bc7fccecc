//! The way to a server over HTTP: whom we trust there, what we show, through which proxy.

use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use rustls::sign::SingleCertAndKey;
use serde::Deserialize;
use serde::Serialize;

use crate::dicom::tls;
use crate::dicom::tls_named::Named;
use crate::outgoing;
use crate::outgoing::Guarded;
use crate::outgoing::server;

/// Of `proxy`: none, whatever the environment says.
const NO_PROXY: &str = "none";

/// The keys stand beside the URL of what they lead to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// PEM file: roots to trust instead of the machine's, or the server's own certificate.
    pub ca_file: Option<PathBuf>,
    /// PEM files with our certificate and its key, for a server that wants one.
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Name that the server's certificate holds, where it is reached by another.
    pub server_name: String,
    /// URL of a proxy; "none": none. Empty: as `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say.
    pub proxy: String,
    /// File with `user:password` for the proxy.
    pub proxy_auth_file: Option<PathBuf>,
    /// http:// to addresses that are not private.
    pub allow_plain: bool,
}

impl Route {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let files = [
            ("ca_file", &self.ca_file, "the server could not be known"),
            ("proxy_auth_file", &self.proxy_auth_file, "the proxy would let nothing through"),
        ];
        for (key, file, why) in files {
            if let Some(Err(error)) = file.as_deref().map(std::fs::File::open) {
                problems.push(format!("{at}.{key}: {error}; {why}"));
            }
        }
        match (&self.certificate_file, &self.key_file) {
            (None, None) => {}
            (Some(certificate), Some(key)) => {
                if let Err(error) = tls::own(certificate, key) {
                    problems.push(format!("{at}.key_file: {error}; a server that wants our certificate would refuse us"));
                }
            }
            (Some(_), None) | (None, Some(_)) => problems
                .push(format!("{at}.certificate_file and {at}.key_file are of use only together")),
        }
        if !self.proxy.is_empty() && self.proxy != NO_PROXY {
            match Url::parse(&self.proxy) {
                Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                    problems.push(format!("{at}.proxy: no user or password here: set {at}.proxy_auth_file"));
                }
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {}
                Ok(_) | Err(_) => problems.push(format!(
                    "{at}.proxy = {:?}: use e.g. http://proxy.hospital.example:3128, or \"{NO_PROXY}\"", self.proxy
                )),
            }
        }
        if self.proxy_auth_file.is_some() && matches!(self.proxy.as_str(), "" | NO_PROXY) {
            problems.push(format!("{at}.proxy_auth_file: set {at}.proxy too"));
        }
    }

    /// A client that follows no redirect, for URLs of one server.
    ///
    /// # Errors
    /// In words: a file cannot be read or used.
    pub fn client(&self, url: &Url, connect: Duration) -> Result<reqwest::ClientBuilder, String> {
        outgoing::install_crypto();
        let only_inside = url.scheme() == "http" && !self.allow_plain;
        let alias = (!self.server_name.is_empty())
            .then(|| (self.server_name.to_ascii_lowercase(), bare_host(url)));
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("prelim/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .https_only(url.scheme() == "https")
            .connect_timeout(connect)
            .pool_idle_timeout(Duration::from_secs(30))
            .dns_resolver(Arc::new(Guarded { only_inside, alias }));
        builder = self.through_proxy(builder, url)?;
        let own = match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => None,
        };
        match (&self.ca_file, own) {
            (None, None) => Ok(builder),
            (None, Some((certificate, key))) => {
                let read = |file: &Path| {
                    std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))
                };
                let pem = [read(certificate)?, b"\n".to_vec(), read(key)?].concat();
                let identity = reqwest::Identity::from_pem(&pem).map_err(
                    |_| "certificate_file, key_file: no certificate and key in PEM form",
                )?;
                Ok(builder.identity(identity))
            }
            (Some(roots), own) => {
                let roots = Named::of(roots).map_err(|error| format!("ca_file: {error}"))?;
                let config = rustls::ClientConfig::builder_with_provider(tls::provider())
                    .with_safe_default_protocol_versions()
                    .map_err(|error| error.to_string())?
                    .dangerous()
                    .with_custom_certificate_verifier(roots);
                let config = match own {
                    None => config.with_no_client_auth(),
                    Some((certificate, key)) => {
                        let own =
                            tls::own(certificate, key).map_err(|e| format!("key_file: {e}"))?;
                        config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
                    }
                };
                Ok(builder.tls_backend_preconfigured(config))
            }
        }
    }

    fn through_proxy(
        &self,
        builder: reqwest::ClientBuilder,
        url: &Url,
    ) -> Result<reqwest::ClientBuilder, String> {
        match self.proxy.as_str() {
            // What is on this machine is on no other side of a proxy.
            "" if is_here(url) => Ok(builder.no_proxy()),
            "" => Ok(builder),
            NO_PROXY => Ok(builder.no_proxy()),
            proxy => {
                let mut proxy = reqwest::Proxy::all(proxy).map_err(|_| "proxy: not a URL")?;
                if let Some(file) = &self.proxy_auth_file {
                    let text =
                        server::line(file).map_err(|why| format!("proxy_auth_file: {why}"))?;
                    let (user, password) = text
                        .expose()
                        .split_once(':')
                        .ok_or("proxy_auth_file: it should hold user:password")?;
                    proxy = proxy.basic_auth(user, password);
                }
                Ok(builder.proxy(proxy))
            }
        }
    }

    /// The address that is called: under the name that the server's certificate holds.
    pub fn called(&self, url: &Url) -> Url {
        let mut url = url.clone();
        if !self.server_name.is_empty() {
            // A name that is none was told by the check; the one that is called does as well.
            let _ = url.set_host(Some(&self.server_name));
        }
        url
    }
}

fn bare_host(url: &Url) -> String {
    url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned()
}

/// Whether it is this machine itself.
fn is_here(url: &Url) -> bool {
    let host = bare_host(url);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

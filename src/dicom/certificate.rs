//! What stands in a certificate (RFC 5280), for logs and for people who repair a connection.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

use crate::domain::text;

/// A certificate in words. Everything is printable, whatever the certificate holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Described {
    pub subject: String,
    pub issuer: String,
    /// Names and addresses of the Subject Alternative Name.
    pub names: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub serial: String,
    /// `RSA 2048`, `EC 256`.
    pub key: String,
    pub is_ca: bool,
    pub sha256: String,
}

/// Days before its end at which a certificate is told to be renewed.
pub const RENEW_DAYS: i64 = 30;

/// None where it cannot be read.
pub fn describe(der: &CertificateDer<'_>) -> Option<Described> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let time = |at: x509_parser::time::ASN1Time| Timestamp::from_second(at.timestamp()).ok();
    let key = match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA {}", key.key_size()),
        Ok(PublicKey::EC(key)) => format!("EC {}", key.key_size()),
        Ok(_) | Err(_) => match certificate.public_key().algorithm.algorithm.to_id_string() {
            id if id == "1.3.101.112" => "Ed25519".to_owned(),
            id => format!("algorithm {id}"),
        },
    };
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|extension| &extension.value.general_names[..]).unwrap_or_default();
    Some(Described {
        subject: printable(&certificate.subject().to_string()),
        issuer: printable(&certificate.issuer().to_string()),
        names: names.iter().filter_map(name).collect(),
        not_before: time(certificate.validity().not_before)?,
        not_after: time(certificate.validity().not_after)?,
        serial: certificate.raw_serial_as_string(),
        key,
        is_ca: certificate.is_ca(),
        sha256: text::hex(&Sha256::digest(der)),
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some(printable(name))
        }
        GeneralName::IPAddress(bytes) => {
            let v4: Option<[u8; 4]> = (*bytes).try_into().ok();
            let v6: Option<[u8; 16]> = (*bytes).try_into().ok();
            let v4 = v4.map(std::net::IpAddr::from);
            Some(v4.or(v6.map(std::net::IpAddr::from))?.to_string())
        }
        _ => None, // x509-parser's enum, not ours
    }
}

/// Text of a peer's certificate, for logs.
pub fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(shown).take(200).collect()
}

impl Described {
    /// What is wrong with its time.
    pub fn time_problem(&self, now: Timestamp) -> Option<String> {
        let day = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M UTC").to_string();
        let days_left = self.not_after.duration_since(now).as_hours() / 24;
        if now < self.not_before {
            Some(format!("not valid before {}", day(self.not_before)))
        } else if now > self.not_after {
            Some(format!("expired on {}", day(self.not_after)))
        } else if days_left < RENEW_DAYS {
            Some(format!("expires in {days_left} days, on {}", day(self.not_after)))
        } else {
            None
        }
    }

    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// What is wrong with its key.
    pub fn key_problem(&self) -> Option<String> {
        let bits = self.key.strip_prefix("RSA ").and_then(|bits| bits.parse::<u32>().ok());
        bits.filter(|bits| *bits < 2048)
            .map(|bits| format!("an RSA key of {bits} bits is too short: peers want 2048"))
    }
}

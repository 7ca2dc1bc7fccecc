//! The link by which one person answers one alert: signed, so that no one can make or change one,
//! and without any identity in it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use subtle::ConstantTimeEq as _;

use crate::domain::text;

const KEY: usize = 16;
const CHANNEL: usize = 8;
const UNTIL: usize = 8;
const MAC: usize = 16;
const ALL: usize = KEY + CHANNEL + UNTIL + MAC;

/// This node's key for links. Whoever has it can answer alerts in the name of others.
#[derive(Clone)]
pub struct Signer([u8; 32]);

/// What a link that holds says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Of the alert: 32 hexadecimal digits.
    pub alert: String,
    channel: [u8; CHANNEL],
}

impl Link {
    /// Whether it was made for who is told by this channel.
    pub fn is_for(&self, channel: &str) -> bool {
        mark(channel) == self.channel
    }
}

impl Signer {
    pub fn new(key: [u8; 32]) -> Signer {
        Signer(key)
    }

    /// The token of a link: letters, digits, `-` and `_`. `None` for an alert whose key is none.
    ///
    /// - `until`: it does not hold after.
    pub fn token(&self, alert: &str, channel: &str, until: Timestamp) -> Option<String> {
        let mut bytes = Vec::with_capacity(ALL);
        bytes.extend(from_hex(alert)?);
        bytes.extend(mark(channel));
        bytes.extend(until.as_second().to_be_bytes());
        bytes.extend(self.mac(&bytes));
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What a token stands for; `None` when it is not ours, was changed, or is too old.
    pub fn read(&self, token: &str, now: Timestamp) -> Option<Link> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok().filter(|bytes| bytes.len() == ALL)?;
        let (said, mac) = bytes.split_at(ALL - MAC);
        let is_ours: bool = self.mac(said).ct_eq(mac).into();
        let (alert, rest) = said.split_at(KEY);
        let (channel, until) = rest.split_at(CHANNEL);
        let until = i64::from_be_bytes(until.try_into().ok()?);
        let channel = channel.try_into().ok()?;
        (is_ours && now.as_second() <= until).then(|| Link { alert: text::hex(alert), channel })
    }

    fn mac(&self, bytes: &[u8]) -> [u8; MAC] {
        let whole = blake3::keyed_hash(&self.0, bytes);
        let mut mac = [0; MAC];
        mac.copy_from_slice(&whole.as_bytes()[..MAC]);
        mac
    }
}

fn mark(channel: &str) -> [u8; CHANNEL] {
    let mut mark = [0; CHANNEL];
    mark.copy_from_slice(&blake3::hash(channel.as_bytes()).as_bytes()[..CHANNEL]);
    mark
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() == 2 * KEY)?;
    Some(digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_links_hold_for_their_alert_and_person_and_time() {
        let signer = Signer::new([7; 32]);
        let now = Timestamp::from_second(1_000_000).unwrap();
        let until = Timestamp::from_second(1_000_100).unwrap();
        let alert = "00112233445566778899aabbccddeeff";
        let token = signer.token(alert, "on_call/kim@h.example", until).unwrap();
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        let again = Signer::new([7; 32]);
        let link = again.read(&token, now).unwrap();
        assert_eq!(link.alert, alert);
        assert!(link.is_for("on_call/kim@h.example") && !link.is_for("on_call/lee@h.example"));
        assert_eq!(again.read(&token, Timestamp::from_second(1_000_101).unwrap()), None);
        for place in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(again.read(&changed, now), None, "{place}");
        }
        let other = Signer::new([8; 32]);
        assert_eq!(other.read(&token, now), None);
        for bad in ["", "x", "../..", "AAAA"] {
            assert_eq!(again.read(bad, now), None);
        }
        assert_eq!(signer.token("not hexadecimal", "x", until), None);
    }
}

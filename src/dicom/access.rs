//! Who may associate. Closed by default: without configured peers only this machine may.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use tokio::time::Instant;

use crate::dicom::config::Config;
use crate::dicom::negotiation::Rejection;
use crate::dicom::negotiation::is_transfer_syntax;
use crate::dicom::peers_file;
use crate::domain::ae_title::AeTitle;
use crate::files::Mark;
use crate::files::mark;

/// A device or an archive that may send.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Peer {
    /// What it calls itself; none: anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ae_title: Option<AeTitle>,
    /// Where it may call from; empty: anywhere.
    pub addresses: Vec<Addresses>,
    /// In the place of `dicom.transfer_syntaxes`; empty: those.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transfer_syntaxes: Vec<String>,
    /// Open associations; 0: `dicom.associations_per_peer_max`.
    #[serde(skip_serializing_if = "is_zero")]
    pub associations_max: usize,
    /// New associations in a minute; 0: any number.
    #[serde(skip_serializing_if = "is_zero")]
    pub associations_per_minute_max: u32,
    /// Bytes a second over all its associations; 0: as fast as it can. It is slowed down, not
    /// refused.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_per_second_max: u64,
    /// Users of `dicom.users`, of which each association has to name one; empty: none needed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Peer {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, users: &[&String], problems: &mut Vec<String>) {
        for uid in self.transfer_syntaxes.iter().filter(|uid| !is_transfer_syntax(uid)) {
            problems.push(format!(
                "{at}.transfer_syntaxes: \"{uid}\" is no transfer syntax that can be received; it would never be chosen"
            ));
        }
        for user in self.users.iter().filter(|user| !users.contains(user)) {
            problems.push(format!(
                "{at}.users: \"{user}\" stands not in dicom.users; this peer could never send"
            ));
        }
    }

    fn fits(&self, calling: &str, address: IpAddr) -> bool {
        self.is_titled(calling) && self.is_at(address)
    }

    fn is_titled(&self, calling: &str) -> bool {
        self.ae_title.as_ref().is_none_or(|title| title.as_str() == calling)
    }

    fn is_at(&self, address: IpAddr) -> bool {
        self.addresses.is_empty() || self.addresses.iter().any(|range| range.contains(address))
    }

    /// Whether whoever is `other` is this one too.
    pub fn covers(&self, other: &Peer) -> bool {
        let within = |one: &Addresses| self.addresses.iter().any(|range| range.0.contains(&one.0));
        let is_at = match other.addresses.is_empty() {
            true => self.addresses.is_empty(),
            false => self.addresses.is_empty() || other.addresses.iter().all(within),
        };
        is_at && (self.ae_title.is_none() || self.ae_title == other.ae_title)
    }

    /// How much it says; where several peers fit, the one that says most counts.
    fn precision(&self, address: IpAddr) -> (bool, Option<u8>) {
        let ranges = self.addresses.iter().filter(|range| range.contains(address));
        (self.ae_title.is_some(), ranges.map(|range| range.0.prefix_len()).max())
    }
}

/// One address, or all that begin alike: `10.0.0.5`, `10.0.0.0/24`, `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses(IpNet);

impl Addresses {
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    pub fn is_everyone(&self) -> bool {
        self.0.prefix_len() == 0
    }
}

impl FromStr for Addresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Addresses, String> {
        let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map(|net: IpNet| Addresses(net.trunc())).map_err(|_| {
            let text: String = text.escape_default().take(60).collect();
            format!("'{text}' is no address and no range: use 10.0.0.5 or 10.0.0.0/24")
        })
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.prefix_len() == self.0.max_prefix_len() {
            true => write!(f, "{}", self.0.addr()),
            false => write!(f, "{}", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Addresses, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Addresses {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// `name`, or with a number behind it the first that is not taken.
pub fn free_name(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2..).map(|number| format!("{name}_{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names.find(|name| !is_taken(name)).expect("there is always one more number")
}

/// Peers by name.
pub type Peers = BTreeMap<String, Peer>;

/// Decides on titles and address alone.
///
/// - Returns the name of the peer that it is; None for callers that need not be one.
///
/// # Errors
/// The reason for the A-ASSOCIATE-RJ.
pub fn decide<'a>(
    config: &Config,
    peers: &'a Peers,
    called: &str,
    calling: &str,
    address: IpAddr,
) -> Result<Option<&'a str>, Rejection> {
    if config.called_ae_check && called != config.ae_title.as_str() {
        return Err(Rejection::CalledAe);
    }
    let fitting = peers.iter().filter(|(_, peer)| peer.fits(calling, address));
    if let Some((name, _)) = fitting.max_by_key(|(_, peer)| peer.precision(address)) {
        return Ok(Some(name));
    }
    if !config.calling_aes.is_empty() {
        let listed = config.calling_aes.iter().any(|ae| ae.as_str() == calling);
        return if listed { Ok(None) } else { Err(Rejection::CallingAe) };
    }
    if address.is_loopback() && (peers.is_empty() || config.loopback_trusted) {
        return Ok(None);
    }
    let titled = |peer: &Peer| peer.ae_title.is_some() && peer.is_titled(calling);
    match peers.values().any(titled) {
        true => Err(Rejection::Address),
        false => Err(Rejection::Stranger),
    }
}

/// A bucket of tokens that fills steadily.
#[derive(Debug, Clone)]
pub struct Bucket {
    per_second: f64,
    capacity: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    pub fn new(per_second: f64, capacity: f64, now: Instant) -> Bucket {
        Bucket { per_second, capacity, level: capacity, at: now }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * self.per_second).min(self.capacity);
        self.at = now;
    }

    /// Takes one if there is one.
    pub fn try_take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let there = self.level >= 1.0;
        self.level -= if there { 1.0 } else { 0.0 };
        there
    }

    /// Takes what is needed, there or not, and says after how long it would have been there.
    pub fn spend(&mut self, amount: f64, now: Instant) -> Duration {
        self.fill(now);
        self.level -= amount;
        Duration::from_secs_f64((-self.level / self.per_second).max(0.0))
    }
}

/// What a peer may still do.
#[derive(Debug)]
struct Allowance {
    of: Peer,
    associations: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl Allowance {
    fn new(of: &Peer) -> Allowance {
        let (now, each_minute) = (Instant::now(), f64::from(of.associations_per_minute_max));
        let each_second = of.bytes_per_second_max as f64;
        Allowance {
            of: of.clone(),
            associations: (each_minute > 0.0)
                .then(|| Bucket::new(each_minute / 60.0, each_minute, now)),
            bytes: (each_second > 0.0).then(|| Bucket::new(each_second, each_second, now)),
        }
    }
}

/// The peers that are known now: those of the settings and those of the peers file.
pub struct Access {
    configured: Mutex<Peers>,
    file: Option<PathBuf>,
    now: Mutex<Known>,
    allowances: Mutex<BTreeMap<String, Allowance>>,
}

#[derive(Default)]
struct Known {
    peers: Arc<Peers>,
    mark: Option<Mark>,
    /// Why the peers file could not be read.
    problem: Option<String>,
}

impl Access {
    pub fn new(configured: Peers, file: Option<PathBuf>) -> Access {
        let known = Known { peers: Arc::new(configured.clone()), mark: None, problem: None };
        let allowances = Mutex::default();
        let access =
            Access { configured: Mutex::new(configured), file, now: Mutex::new(known), allowances };
        access.reload();
        access
    }

    pub fn peers(&self) -> Arc<Peers> {
        Arc::clone(&lock(&self.now).peers)
    }

    /// Other peers by the settings; those of the peers file stay beside them.
    pub fn configure(&self, configured: Peers) {
        *lock(&self.configured) = configured.clone();
        // With a file nobody is shut out before it has been read again.
        if self.file.as_deref().is_some_and(|file| mark(file).is_some()) {
            lock(&self.now).mark = None;
            self.reload();
        } else {
            lock(&self.now).peers = Arc::new(configured);
        }
    }

    /// Whether a peer of now is called so and may call from there.
    pub fn knows(&self, calling: &str, address: IpAddr) -> bool {
        self.peers().values().any(|peer| peer.fits(calling, address))
    }

    /// Why the peers file is not in force.
    pub fn problem(&self) -> Option<String> {
        lock(&self.now).problem.clone()
    }

    /// Reads the peers file if it is another than before. One that cannot be read is told, and
    /// what was known stays.
    pub fn reload(&self) {
        let Some(file) = &self.file else { return };
        let mark = mark(file);
        if lock(&self.now).mark == mark {
            return;
        }
        let read = peers_file::read(file);
        let mut now = lock(&self.now);
        now.mark = mark;
        match read {
            Ok(added) => {
                let mut peers = lock(&self.configured).clone();
                for (name, peer) in added {
                    // The settings stand above the file. One that was let in beside a peer of the
                    // same name may send all the same.
                    match peers.get(&name) {
                        Some(configured) if configured.covers(&peer) => {}
                        Some(_) => {
                            let name = free_name(&name, |name| peers.contains_key(name));
                            peers.insert(name, peer);
                        }
                        None => {
                            peers.insert(name, peer);
                        }
                    }
                }
                tracing::info!(peers = peers.len(), "the peers file was read");
                now.peers = Arc::new(peers);
                now.problem = None;
            }
            Err(problem) => {
                tracing::error!(problem, "the peers file cannot be used; the old peers stay");
                now.problem = Some(problem);
            }
        }
    }

    /// Whether this peer may open another association now.
    pub fn may_associate(&self, name: &str, peer: &Peer) -> bool {
        let mut allowances = lock(&self.allowances);
        let allowance = allowance(&mut allowances, name, peer);
        allowance.associations.as_mut().is_none_or(|bucket| bucket.try_take(Instant::now()))
    }

    /// How long this peer has to wait after `bytes`.
    pub fn pause(&self, name: &str, peer: &Peer, bytes: usize) -> Duration {
        let mut allowances = lock(&self.allowances);
        let allowance = allowance(&mut allowances, name, peer);
        let bytes_left = allowance.bytes.as_mut();
        bytes_left.map_or(Duration::ZERO, |bucket| bucket.spend(bytes as f64, Instant::now()))
    }
}

/// A peer whose limits were changed starts anew.
fn allowance<'a>(
    all: &'a mut BTreeMap<String, Allowance>,
    name: &str,
    peer: &Peer,
) -> &'a mut Allowance {
    let fresh = || Allowance::new(peer);
    let allowance = all.entry(name.to_owned()).or_insert_with(fresh);
    if allowance.of != *peer {
        *allowance = fresh();
    }
    allowance
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(title: &str, addresses: &[&str]) -> Peer {
        Peer {
            ae_title: AeTitle::parse(title).ok(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            ..Peer::default()
        }
    }

    #[test]
    fn titles_and_addresses_decide() {
        let none = Peers::new();
        let some = Peers::from([
            ("ct".to_owned(), peer("CT1", &["10.0.0.5", "fd00::5"])),
            ("ward".to_owned(), peer("", &["10.0.7.0/24"])),
            ("ward us".to_owned(), peer("US", &["10.0.7.0/24"])),
            ("bed 9".to_owned(), peer("", &["10.0.7.9"])),
            ("anywhere".to_owned(), peer("LAPTOP", &[])),
        ]);
        let plain = Config::default();
        let strict = Config { loopback_trusted: false, ..Config::default() };
        let titles =
            Config { calling_aes: vec![AeTitle::parse("CT1").unwrap()], ..Config::default() };
        type Case<'a> =
            (&'a Config, &'a Peers, &'a str, &'a str, &'a str, Result<Option<&'a str>, Rejection>);
        let cases: &[Case<'_>] = &[
            (&plain, &none, "PRELIM", "CT1", "127.0.0.1", Ok(None)),
            (&plain, &none, "PRELIM", "CT1", "::1", Ok(None)),
            (&plain, &none, "OTHER", "CT1", "127.0.0.1", Err(Rejection::CalledAe)),
            (&plain, &none, "PRELIM", "CT1", "10.0.0.5", Err(Rejection::Stranger)),
            (&strict, &none, "PRELIM", "CT1", "127.0.0.1", Ok(None)),
            (&plain, &some, "PRELIM", "X", "127.0.0.1", Ok(None)),
            (&strict, &some, "PRELIM", "X", "127.0.0.1", Err(Rejection::Stranger)),
            (&plain, &some, "PRELIM", "CT1", "10.0.0.5", Ok(Some("ct"))),
            (&plain, &some, "PRELIM", "CT1", "fd00::5", Ok(Some("ct"))),
            (&plain, &some, "OTHER", "CT1", "10.0.0.5", Err(Rejection::CalledAe)),
            (&plain, &some, "PRELIM", "CT1", "10.0.0.6", Err(Rejection::Address)),
            (&plain, &some, "PRELIM", "CT2", "10.0.0.5", Err(Rejection::Stranger)),
            (&plain, &some, "PRELIM", "ANY", "10.0.7.1", Ok(Some("ward"))),
            (&plain, &some, "PRELIM", "US", "10.0.7.1", Ok(Some("ward us"))),
            (&plain, &some, "PRELIM", "US", "10.0.7.9", Ok(Some("ward us"))),
            (&plain, &some, "PRELIM", "ANY", "10.0.7.9", Ok(Some("bed 9"))),
            (&plain, &some, "PRELIM", "LAPTOP", "192.168.1.1", Ok(Some("anywhere"))),
            (&titles, &none, "PRELIM", "CT1", "10.9.9.9", Ok(None)),
            (&titles, &none, "PRELIM", "CT2", "127.0.0.1", Err(Rejection::CallingAe)),
        ];
        for (config, peers, called, calling, address, expected) in cases {
            let found = decide(config, peers, called, calling, address.parse().unwrap());
            assert_eq!(found, *expected, "{called} {calling} {address}");
        }
    }

    #[test]
    fn a_bucket_fills_steadily() {
        let begin = Instant::now();
        let at = |s: f64| begin + Duration::from_secs_f64(s);
        let mut two_each_minute = Bucket::new(2.0 / 60.0, 2.0, begin);
        for (s, there) in
            [(0.0, true), (0.0, true), (1.0, false), (29.0, false), (30.0, true), (31.0, false)]
        {
            assert_eq!(two_each_minute.try_take(at(s)), there, "{s} s");
        }
        let mut bytes = Bucket::new(1000.0, 1000.0, begin);
        assert_eq!(bytes.spend(1000.0, at(0.0)), Duration::ZERO);
        assert_eq!(bytes.spend(500.0, at(0.0)), Duration::from_millis(500));
        assert_eq!(bytes.spend(0.0, at(0.5)), Duration::ZERO);
        assert_eq!(bytes.spend(2000.0, at(100.0)), Duration::from_secs(1), "never more than full");
    }

    #[test]
    fn the_peers_file_is_read_again_and_a_bad_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(peers_file::NAME);
        let configured = Peers::from([
            ("pacs".to_owned(), peer("PACS", &[])),
            ("mr".to_owned(), peer("MR", &["10.1.0.0/16"])),
        ]);
        let access = Access::new(configured, Some(file.clone()));
        assert_eq!(access.peers().len(), 2);
        let added = Peers::from([
            ("ct".to_owned(), Peer { bytes_per_second_max: 5, ..peer("CT", &["10.0.0.0/8"]) }),
            ("pacs".to_owned(), peer("PACS", &["10.9.9.9"])),
            ("mr".to_owned(), peer("MR", &["10.2.0.7"])),
        ]);
        peers_file::write(&file, &added).unwrap();
        access.reload();
        assert_eq!(access.peers()["ct"], added["ct"]);
        assert_eq!(access.peers()["pacs"], peer("PACS", &[]), "the settings stand above the file");
        assert_eq!(access.peers()["mr"], peer("MR", &["10.1.0.0/16"]));
        assert_eq!(access.peers()["mr_2"], added["mr"], "let in from elsewhere");
        assert!(access.knows("MR", "10.2.0.7".parse().unwrap()));
        assert!(!access.knows("MR", "10.2.0.8".parse().unwrap()));
        for bad in ["[ct]\naddresses = ['everywhere']\n", "nonsense", "[ct]\nport = 1\n"] {
            std::fs::write(&file, bad).unwrap();
            access.reload();
            assert_eq!(access.peers().len(), 4, "{bad}");
            assert!(access.problem().is_some(), "{bad}");
        }
        std::fs::remove_file(&file).unwrap();
        access.reload();
        assert_eq!((access.peers().len(), access.problem()), (2, None));
    }
}

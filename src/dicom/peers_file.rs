//! The peers file in the data folder: who was let in beside those of the settings. `prelim peers` and
//! the page of sources write it, and a running node reads it again by itself.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use crate::dicom::access;
use crate::dicom::access::Addresses;
use crate::dicom::access::Peer;
use crate::dicom::access::Peers;
use crate::domain::ae_title::AeTitle;
use crate::files;

pub const NAME: &str = "peers.toml";
const HEAD: &str = "# Who may send. Written by prelim peers and the page of sources; a running node \
                    reads it again by itself.\n";

/// Who calls, in one word: `CT1@10.0.0.5`, `*@10.0.7.0/24`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// None: whatever it calls itself.
    pub ae_title: Option<AeTitle>,
    pub addresses: Addresses,
}

impl FromStr for Caller {
    type Err = String;

    fn from_str(text: &str) -> Result<Caller, String> {
        let form = "use TITLE@ADDRESS, e.g. CT1@10.0.0.5 or '*@10.0.7.0/24'";
        let (title, addresses) = text.rsplit_once('@').ok_or(form)?;
        let ae_title = match title {
            "*" => None,
            title => Some(AeTitle::parse(title).map_err(|error| error.to_string())?),
        };
        Ok(Caller { ae_title, addresses: addresses.parse()? })
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ae_title {
            Some(title) => write!(f, "{title}@{}", self.addresses),
            None => write!(f, "*@{}", self.addresses),
        }
    }
}

impl Caller {
    /// What it is called in lists where nobody says otherwise: the title in lower case.
    fn name(&self) -> String {
        let text = match &self.ae_title {
            Some(title) => title.to_string(),
            None => self.addresses.to_string(),
        };
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        text.chars().map(plain).collect()
    }
}

/// The peers of a file; none where there is no file.
///
/// # Errors
/// In words, with the file.
pub fn read(file: &Path) -> Result<Peers, String> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Peers::new()),
        Err(error) => return Err(format!("{}: {error}", file.display())),
    };
    let peers: Peers =
        toml::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut problems = Vec::new();
    for (name, peer) in &peers {
        let users: Vec<&String> = peer.users.iter().collect();
        peer.check(name, &users, &mut problems);
    }
    match problems.first() {
        Some(problem) => Err(format!("{}: {problem}", file.display())),
        None => Ok(peers),
    }
}

/// Whole or not at all.
pub fn write(file: &Path, peers: &Peers) -> io::Result<()> {
    let text = toml::to_string_pretty(peers).map_err(io::Error::other)?;
    files::write_for_owner(file, format!("{HEAD}{text}").as_bytes())
}

/// Changes the peers of a data folder; nobody else does meanwhile, in no process.
///
/// # Errors
/// In words, with the file; nothing was changed.
pub fn change<T>(data: &Path, change: impl FnOnce(&mut Peers) -> T) -> Result<T, String> {
    let file = data.join(NAME);
    let told = |error: io::Error| format!("{}: {error}", file.display());
    let _held = files::lock_folder(data).map_err(told)?;
    let mut peers = read(&file)?;
    let before = peers.clone();
    let done = change(&mut peers);
    if peers != before {
        write(&file, &peers).map_err(told)?;
    }
    Ok(done)
}

/// What a caller is called among `peers` where nobody says otherwise: as the peer of the same title is,
/// and never as another.
pub fn free_name(peers: &Peers, who: &Caller) -> String {
    let is_other = |name: &str| peers.get(name).is_some_and(|peer| peer.ae_title != who.ae_title);
    access::free_name(&who.name(), is_other)
}

/// Lets one in. A peer of the same name gets one more address when its title is the same, else it is
/// replaced.
pub fn let_in(peers: &mut Peers, name: &str, who: &Caller) {
    let peer = peers.entry(name.to_owned()).or_default();
    if peer.ae_title != who.ae_title || peer.addresses.is_empty() {
        *peer = Peer { ae_title: who.ae_title.clone(), ..Peer::default() };
    }
    if !peer.addresses.contains(&who.addresses) {
        peer.addresses.push(who.addresses);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_a_title_and_an_address() {
        let parse = |text: &str| Caller::from_str(text).map(|c| (c.name(), c.to_string()));
        let said = |name: &str, who: &str| Ok((name.to_owned(), who.to_owned()));
        assert_eq!(parse("CT 1@10.0.0.5"), said("ct_1", "CT 1@10.0.0.5"));
        assert_eq!(parse("*@10.0.7.9/24"), said("10_0_7_0_24", "*@10.0.7.0/24"));
        assert_eq!(parse("A@B@fd00::1"), said("a_b", "A@B@fd00::1"));
        for bad in ["CT1", "CT1@", "@10.0.0.5", "CT1@everywhere", "CT1@10.0.0.5/99"] {
            assert!(Caller::from_str(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_second_address_is_added_and_another_title_replaces() {
        assert_eq!(free_name(&Peers::new(), &"CT@10.0.0.5".parse().unwrap()), "ct");
        let folder = tempfile::tempdir().unwrap();
        let ct = || read(&folder.path().join(NAME)).unwrap()["ct"].clone();
        for who in ["CT@10.0.0.5", "CT@10.0.0.6", "CT@10.0.0.6"] {
            let who = who.parse().unwrap();
            change(folder.path(), |peers| let_in(peers, "ct", &who)).unwrap();
        }
        assert_eq!(ct().addresses, ["10.0.0.5", "10.0.0.6"].map(|a| a.parse().unwrap()));
        let other = "MR@10.0.0.7".parse().unwrap();
        change(folder.path(), |peers| let_in(peers, "ct", &other)).unwrap();
        assert_eq!(ct().ae_title, AeTitle::parse("MR").ok());
        let peers = read(&folder.path().join(NAME)).unwrap();
        assert_eq!(free_name(&peers, &"CT@10.0.0.5".parse().unwrap()), "ct_2");
        assert_eq!(free_name(&peers, &"MR@10.0.0.5".parse().unwrap()), "mr");
        assert_eq!(ct().addresses, ["10.0.0.7"].map(|a| a.parse().unwrap()));
    }
}

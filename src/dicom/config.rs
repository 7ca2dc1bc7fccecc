//! The settings of the DICOM port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::dicom::access::Peers;
use crate::dicom::negotiation::PREFERENCE;
use crate::dicom::negotiation::Policy;
use crate::dicom::negotiation::is_transfer_syntax;
use crate::dicom::tls;
use crate::dicom::users::User;
use crate::domain::ae_title::AeTitle;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port to listen on; empty: only with TLS.
    pub listen: String,
    /// Our AE title.
    pub ae_title: AeTitle,
    /// Whether senders must call us by it.
    pub called_ae_check: bool,
    /// AE titles that may send from anywhere, beside the peers; empty: the peers decide.
    pub calling_aes: Vec<AeTitle>,
    /// Whether callers on this machine need not be a peer.
    pub loopback_trusted: bool,
    /// Connections that have not asked for an association yet; the oldest gives way to a new one.
    pub connections_max: usize,
    /// Open associations; more are refused for the moment.
    pub associations_max: usize,
    /// Open associations of one AE title at one address.
    pub associations_per_peer_max: usize,
    /// Longest P-DATA-TF that a sender may use.
    pub pdu_length_max: u32,
    /// Largest data set taken; a larger one is answered A700.
    pub object_bytes_max: u64,
    /// Seconds from the connection to the whole A-ASSOCIATE-RQ.
    pub artim_s: u64,
    /// Seconds an open association may say nothing, and that one PDU may take.
    pub idle_s: u64,
    /// Seconds that one message with its data set may take.
    pub message_s: u64,
    /// Seconds that open associations have at a stop.
    pub drain_s: u64,
    /// Transfer syntax UIDs, the preferred first, for contexts that propose several.
    pub transfer_syntaxes: Vec<String>,
    /// Whether instances of private SOP classes are stored.
    pub unknown_sop_classes: bool,
    /// Whether an association needs the identity of one of `users`.
    pub user_identity_required: bool,
    /// Users by name.
    pub users: BTreeMap<String, User>,
    /// Who may send, by name. Without one only this machine may.
    pub peers: Peers,
    pub tls: tls::Config,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: "127.0.0.1:11112".to_owned(),
            ae_title: AeTitle::parse("PRELIM").expect("an AE title"),
            called_ae_check: true,
            calling_aes: Vec::new(),
            loopback_trusted: true,
            connections_max: 512,
            associations_max: 512,
            associations_per_peer_max: 32,
            pdu_length_max: 128 * 1024,
            object_bytes_max: 4 << 30,
            artim_s: 30,
            idle_s: 60,
            message_s: 1800,
            drain_s: 8,
            transfer_syntaxes: PREFERENCE.iter().map(|&uid| uid.to_owned()).collect(),
            unknown_sop_classes: false,
            user_identity_required: false,
            users: BTreeMap::new(),
            peers: Peers::new(),
            tls: tls::Config::default(),
        }
    }
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let defaults = Config::default();
        if self.listen.is_empty() && !self.tls.is_on() {
            problems.push(format!(
                "{at}.listen and {at}.tls.listen are both empty: nothing could be received"
            ));
        } else if !self.listen.is_empty() && self.listen.parse::<SocketAddr>().is_err() {
            problems.push(format!(
                "{at}.listen = \"{}\": use address:port, e.g. \"{}\"; nothing could be received",
                self.listen, defaults.listen
            ));
        }
        let mut range = |key: &str, found: u64, from: u64, to: u64, usual: u64, why: &str| {
            if !(from..=to).contains(&found) {
                problems.push(format!(
                    "{at}.{key} = {found}: use {from} to {to} (default {usual}); {why}"
                ));
            }
        };
        range(
            "connections_max",
            self.connections_max as u64,
            8,
            65_536,
            defaults.connections_max as u64,
            "fewer let silent peers crowd out senders, more run out of file descriptors",
        );
        range(
            "associations_max",
            self.associations_max as u64,
            1,
            16_384,
            defaults.associations_max as u64,
            "each open association costs memory and a file descriptor",
        );
        range(
            "associations_per_peer_max",
            self.associations_per_peer_max as u64,
            1,
            16_384,
            defaults.associations_per_peer_max as u64,
            "one sender could take every association",
        );
        range(
            "pdu_length_max",
            u64::from(self.pdu_length_max),
            4096,
            16 << 20,
            u64::from(defaults.pdu_length_max),
            "small PDUs are slow, large ones cost memory for each association",
        );
        range(
            "object_bytes_max",
            self.object_bytes_max,
            1 << 20,
            1 << 40,
            defaults.object_bytes_max,
            "images would be refused, or an endless data set would fill the disk",
        );
        let patience = "senders would be cut off, or dead ones kept";
        range("artim_s", self.artim_s, 1, 600, defaults.artim_s, patience);
        range("idle_s", self.idle_s, 1, 3600, defaults.idle_s, patience);
        range("message_s", self.message_s, 10, 86_400, defaults.message_s, patience);
        range(
            "drain_s",
            self.drain_s,
            0,
            600,
            defaults.drain_s,
            "a stop would cut or take too long",
        );
        for uid in self.transfer_syntaxes.iter().filter(|uid| !is_transfer_syntax(uid)) {
            problems.push(format!(
                "{at}.transfer_syntaxes: \"{uid}\" is no transfer syntax that can be received; it would never be chosen"
            ));
        }
        for (name, user) in &self.users {
            if let Some(why) = user.problem() {
                problems.push(format!(
                    "{at}.users.{name}.password_hash {why}; this user could never be known"
                ));
            }
        }
        let users: Vec<&String> = self.users.keys().collect();
        for (name, peer) in &self.peers {
            peer.check(&format!("{at}.peers.{name}"), &users, problems);
        }
        self.tls.check(&format!("{at}.tls"), problems);
        if self.user_identity_required && self.users.is_empty() {
            problems.push(format!(
                "{at}.user_identity_required = true without {at}.users: nobody could send"
            ));
        }
    }

    /// What is served.
    pub fn policy(&self) -> Policy<'_> {
        Policy {
            preference: &self.transfer_syntaxes,
            unknown_sop_classes: self.unknown_sop_classes,
        }
    }

    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_configuration_has_no_problem_and_bad_values_are_named() {
        let mut problems = Vec::new();
        Config::default().check("dicom", &mut problems);
        assert_eq!(problems, Vec::<String>::new());
        let bad = Config {
            listen: "nowhere".into(),
            idle_s: 0,
            pdu_length_max: 10,
            transfer_syntaxes: vec!["1.2.3".into()],
            ..Config::default()
        };
        bad.check("dicom", &mut problems);
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[2].starts_with("dicom.idle_s = 0: use 1 to 3600 (default 60)"));
    }
}

//! File handles: a socket of a caller never takes one that an instance needs (S10).

use rustix::process::Resource;
use rustix::process::getrlimit;
use rustix::process::setrlimit;

use crate::config::Settings;

/// Asked for where the system allows more than it gives at first.
const WANTED: u64 = 65_536;
/// Held by the node itself: ledger, journal, index, workers' pipes, listeners, deliveries.
const OWN: u64 = 96;
/// An association in the middle of an instance: its socket, the file, the folder being synced.
const PER_ASSOCIATION: u64 = 3;
/// A connection of the web page: its socket and a file that it reads.
const PER_REQUEST: u64 = 2;
const LEAST: usize = 4;

/// Raises this process's limit as far as it may, and lowers the numbers of connections until all
/// of them together leave room for what the node itself has open. A line of log says so.
pub fn share(settings: &mut Settings) {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(WANTED).min(WANTED);
    if limit.current.is_some_and(|now| now < most) {
        limit.current = Some(most);
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "the limit of file handles stays as it is");
        }
        limit = getrlimit(Resource::Nofile);
    }
    if let Some(handles) = limit.current {
        divide(settings, handles);
    }
}

fn divide(settings: &mut Settings, handles: u64) {
    let (dicom, http) = (&mut settings.dicom, &mut settings.http);
    let needed = dicom.connections_max as u64
        + dicom.associations_max as u64 * PER_ASSOCIATION
        + http.connections_max as u64 * PER_REQUEST;
    let left = handles.saturating_sub(OWN);
    if needed <= left {
        return;
    }
    let part = |count: usize| {
        let part = (count as u128 * u128::from(left) / u128::from(needed)) as usize;
        part.max(LEAST).min(count)
    };
    dicom.connections_max = part(dicom.connections_max);
    dicom.associations_max = part(dicom.associations_max);
    http.connections_max = part(http.connections_max);
    tracing::warn!(
        handles,
        needed = needed + OWN,
        connections_max = dicom.connections_max,
        associations_max = dicom.associations_max,
        http_connections_max = http.connections_max,
        "fewer file handles than the limits of connections need: raise LimitNOFILE (systemd) or \
         ulimit -n; until then fewer are let in"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_what_the_node_has_open() {
        for handles in [64, 128, 256, 1024, 20_000, 1 << 20] {
            let mut settings = Settings::default();
            divide(&mut settings, handles);
            let (dicom, http) = (&settings.dicom, &settings.http);
            let taken =
                dicom.connections_max + 3 * dicom.associations_max + 2 * http.connections_max;
            let least = 6 * LEAST;
            assert!(taken as u64 <= handles.saturating_sub(OWN).max(least as u64), "{handles}");
            assert!(dicom.associations_max >= LEAST);
        }
        let mut settings = Settings::default();
        divide(&mut settings, 20_000);
        assert_eq!(settings.dicom, Settings::default().dicom, "enough for all");
    }
}

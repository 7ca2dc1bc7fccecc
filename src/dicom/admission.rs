//! From a connection to an association: waits for the request, decides, answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::dicom::access;
use crate::dicom::access::Peer;
use crate::dicom::association::Indication;
use crate::dicom::association::Link;
use crate::dicom::association::LinkError;
use crate::dicom::negotiation;
use crate::dicom::negotiation::Context;
use crate::dicom::negotiation::Rejection;
use crate::dicom::pdu::Request;
use crate::dicom::pdu::Transport;
use crate::dicom::sources::Counts;
use crate::dicom::storage_scp::Place;
use crate::dicom::storage_scp::Shared;
use crate::dicom::storage_scp::Tally;
use crate::dicom::users::NotKnown;

/// What an open association may do.
pub struct Agreed {
    pub contexts: BTreeMap<u8, Context>,
    pub peer_pdu_bytes_max: u32,
    /// Kept until the association ends.
    pub place: Place,
    pub counts: Counts,
}

/// Waits for the request and answers it; notes in `tally` who asks.
///
/// - `evicted`: cancelled when this connection has to make room before it is an association.
pub async fn establish<S: Transport>(
    link: &mut Link<S>,
    shared: &Arc<Shared>,
    tally: &mut Tally,
    number: u64,
    evicted: CancellationToken,
) -> Result<Result<Agreed, Rejection>, LinkError> {
    let config = shared.config.now();
    let artim = Instant::now() + Duration::from_secs(config.artim_s);
    let indication = tokio::select! {
        indication = link.receive(artim) => indication?,
        () = evicted.cancelled() => return Err(LinkError::TimedOut),
        () = shared.stop.cancelled() => return Err(LinkError::TimedOut),
    };
    shared.no_longer_waiting(number);
    let Indication::Request(request) = indication else { return Err(LinkError::Closed) };
    tally.calling_ae = printable(&request.titles[16..32]);
    tally.called_ae = printable(&request.titles[..16]);
    let span = tracing::Span::current();
    span.record("calling", &tally.calling_ae);
    span.record("called", &tally.called_ae);
    tally.implementation =
        [&request.user.implementation_class_uid, &request.user.implementation_version]
            .map(String::as_str)
            .join(" ")
            .trim()
            .to_owned();
    let (place, peer) = match admit(shared, tally, &request).await {
        Ok(admitted) => admitted,
        Err(rejection) => {
            shared.sources.turned_away(tally, rejection);
            let reason = rejection.as_str();
            metrics::counter!("prelim_rejections_total", "reason" => reason).increment(1);
            link.send_reject(&rejection.encode()).await;
            return Ok(Err(rejection));
        }
    };
    let (proposed, mut policy) = (&request.body.presentation_contexts, config.policy());
    let own_preference = peer.as_ref().map(|peer| &peer.transfer_syntaxes[..]);
    if let Some(preference) = own_preference.filter(|own| !own.is_empty()) {
        policy.preference = preference;
    }
    let (results, contexts) = negotiation::contexts(proposed, &request.user.roles, &policy);
    let peer_pdu_bytes_max = request.user.pdu_bytes_max;
    let accept = negotiation::encode_accept(&request, results, &policy, config.pdu_length_max);
    let counts = shared.sources.let_in(tally);
    link.send_accept(&accept).await?;
    Ok(Ok(Agreed { contexts, peer_pdu_bytes_max, place, counts }))
}

/// Decides. The place is taken before a passcode is compared: who guesses uses up its own places.
async fn admit(
    shared: &Arc<Shared>,
    tally: &mut Tally,
    request: &Request,
) -> Result<(Place, Option<Peer>), Rejection> {
    let config = shared.config.now();
    if let Some(rejection) = negotiation::reject(request) {
        return Err(rejection);
    }
    let peers = shared.access.peers();
    let address = tally.peer.ip().to_canonical();
    let name = access::decide(&config, &peers, &tally.called_ae, &tally.calling_ae, address)?;
    let peer = name.and_then(|name| peers.get(name)).cloned();
    tally.peer_name = name.unwrap_or_default().to_owned();
    let place = shared.enter(tally, peer.clone())?;
    let identity = request.user.identity.as_ref();
    let user =
        shared.users.now().check(identity, address).await.map_err(|NotKnown| Rejection::User)?;
    let wanted = peer.as_ref().map(|peer| &peer.users[..]).unwrap_or_default();
    let is_enough = match &user {
        Some(user) => wanted.is_empty() || wanted.contains(user),
        None => wanted.is_empty() && !config.user_identity_required,
    };
    tally.user = user.unwrap_or_default();
    if is_enough { Ok((place, peer)) } else { Err(Rejection::User) }
}

/// An AE title for logs and lists: padding off, everything but printable ASCII escaped.
fn printable(title: &[u8]) -> String {
    let title: String = title.iter().map(|&b| char::from(b)).collect();
    let mut printable = String::new();
    for character in title.trim_matches([' ', '\0']).chars() {
        match character {
            ' '..='~' if character != '\\' => printable.push(character),
            _ => printable.extend(character.escape_default()),
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ae_title_is_printable_in_a_log() {
        assert_eq!(printable(b"  CT 1   \0\0"), "CT 1");
        assert_eq!(printable(b"A\r\n\x1b[31m\\ \xE9'"), "A\\r\\n\\u{1b}[31m\\\\ \\u{e9}'");
    }
}

//! Lines that one peer causes again and again: the first of a minute are told, the others counted.
//! Whoever sends what is wrong ten thousand times fills no disk.

use std::collections::HashMap;
use std::fmt::Debug;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tracing::Event;
use tracing::Metadata;
use tracing::Subscriber;
use tracing::callsite::Identifier;
use tracing::field::Field;
use tracing::field::Visit;
use tracing::span::Attributes;
use tracing::span::Id;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Lines of one place in the program that one peer causes in a minute, before they are counted.
const TOLD_MAX: u32 = 50;
const MINUTE: Duration = Duration::from_secs(60);
/// Pairs of place and peer that are counted apart; what comes then counts as of one peer.
const COUNTED_MAX: usize = 4096;

/// What was told and what was not in this minute.
struct Minute<K> {
    counts: HashMap<K, (u32, u64)>,
}

impl<K> Default for Minute<K> {
    fn default() -> Minute<K> {
        Minute { counts: HashMap::new() }
    }
}

impl<K: std::hash::Hash + Eq> Minute<K> {
    /// Whether one more line is told.
    fn tells(&mut self, key: K, overflow: K) -> bool {
        let is_full = self.counts.len() >= COUNTED_MAX && !self.counts.contains_key(&key);
        let (told, more) = self.counts.entry(if is_full { overflow } else { key }).or_default();
        let tells = *told < TOLD_MAX;
        match tells {
            true => *told += 1,
            false => *more += 1,
        }
        tells
    }

    /// How many lines were not told, of which key; the next minute begins.
    fn end(&mut self) -> Vec<(K, u64)> {
        let over = self.counts.drain().filter(|(_, (_, more))| *more > 0);
        over.map(|(key, (_, more))| (key, more)).collect()
    }
}

/// Of one peer: where in the program, and who.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    place: Identifier,
    peer: IpAddr,
}

/// A layer in front of all lines that stand in a span with a `peer`.
#[derive(Clone, Default)]
pub struct Repeats {
    minute: Arc<Mutex<Minute<Key>>>,
    /// Where lines stand that were left out, for people.
    places: Arc<Mutex<HashMap<Identifier, &'static Metadata<'static>>>>,
}

/// The peer of a span.
struct Peer(IpAddr);

#[derive(Default)]
struct Found(Option<IpAddr>);

impl Visit for Found {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "peer" {
            let text = format!("{value:?}");
            let address = text.parse::<SocketAddr>().map(|address| address.ip());
            self.0 = address.or_else(|_| text.parse()).ok();
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Repeats {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut found = Found::default();
        attributes.record(&mut found);
        if let (Some(peer), Some(span)) = (found.0, context.span(id)) {
            span.extensions_mut().insert(Peer(peer));
        }
    }

    fn event_enabled(&self, event: &Event<'_>, context: Context<'_, S>) -> bool {
        let scope = context.event_scope(event);
        let peer = scope.and_then(|mut scope| {
            scope.find_map(|span| span.extensions().get::<Peer>().map(|peer| peer.0))
        });
        let Some(peer) = peer else { return true };
        let place = event.metadata().callsite();
        let key = |peer| Key { place: place.clone(), peer };
        let others = key(IpAddr::from([0; 16]));
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        let tells = minute.tells(key(peer), others);
        drop(minute);
        if !tells {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            places.entry(place).or_insert(event.metadata());
        }
        tells
    }
}

impl Repeats {
    /// Tells each minute, from a thread of its own, how many lines were not told.
    pub fn tell_each_minute(self) {
        let telling = move || {
            loop {
                std::thread::sleep(MINUTE);
                self.tell();
            }
        };
        let thread = std::thread::Builder::new().name("repeats".into()).spawn(telling);
        if let Err(error) = thread {
            tracing::warn!(%error, "lines that are left out of the log are not counted there");
        }
    }

    fn tell(&self) {
        let over = self.minute.lock().unwrap_or_else(PoisonError::into_inner).end();
        for (Key { place, peer }, more) in over {
            let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            let at = places.get(&place).map(|at| (at.file(), at.line()));
            drop(places);
            let (file, line) = at.unwrap_or_default();
            let at = format!("{}:{}", file.unwrap_or_default(), line.unwrap_or_default());
            tracing::warn!(%peer, at, more, "a line was repeated in this minute and left out");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn of_each_peer_the_first_lines_are_told_and_the_others_counted() {
        let mut minute = Minute::default();
        let told = (0..10_000).filter(|_| minute.tells("bad", "others")).count();
        assert_eq!(told, 50);
        assert!(minute.tells("good", "others"));
        assert_eq!(minute.end(), [("bad", 9_950)]);
        assert!(minute.tells("bad", "others"), "the next minute begins anew");
        assert_eq!(minute.end(), []);
    }

    #[test]
    fn ten_million_peers_take_no_more_room_than_some_thousand() {
        let mut minute = Minute::default();
        (1..10_000).for_each(|peer| _ = minute.tells(peer, 0));
        assert_eq!(minute.counts.len(), COUNTED_MAX + 1);
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_bad_sender_fills_no_log_and_silences_nobody_else() {
        let (repeats, log) = (Repeats::default(), Log::default());
        let writer = log.clone();
        let lines =
            tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let all = tracing_subscriber::registry().with(repeats.clone()).with(lines);
        tracing::subscriber::with_default(all, || {
            for peer in ["10.0.0.1:4000", "10.0.0.2:4000"] {
                let times = if peer == "10.0.0.1:4000" { 10_000 } else { 3 };
                // Each on an association of its own: who sends is the same.
                for _ in 0..times {
                    let peer: SocketAddr = peer.parse().unwrap();
                    let span = tracing::info_span!("association", %peer);
                    span.in_scope(|| tracing::warn!("kept as it came"));
                }
            }
            (0..100).for_each(|_| tracing::info!("of no peer"));
            repeats.tell();
        });
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let count = |what: &str| log.lines().filter(|line| line.contains(what)).count();
        assert_eq!(count("kept as it came"), 53, "{log}");
        assert_eq!(count("of no peer"), 100);
        assert_eq!(count("more=9950"), 1, "{log}");
    }
}

//! Answers that are kept, so that the same question (pictures, prompt, schema, model) is paid for
//! once. They stand in the data folder, without names, for some days.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;

use crate::analysis::provider::Provider;
use crate::analysis::provider::Question;
use crate::analysis::provider::RawAnswer;
use crate::domain::text;

/// Begins the name of a file that is being written.
const TEMPORARY: &str = ".part";

/// `[analysis.cache]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Space for answers that are kept. 0: none is.
    pub size_max_mb: u64,
    /// Days after which one is asked for again.
    pub age_max_days: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config { size_max_mb: 64, age_max_days: 7 }
    }
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        for (key, found, (from, to), usual) in [
            ("size_max_mb", self.size_max_mb, (0, 1_000_000), 64),
            ("age_max_days", u64::from(self.age_max_days), (1, 365), 7),
        ] {
            if !(from..=to).contains(&found) {
                problems
                    .push(format!("{at}.{key} = {found}: use {from} to {to} (default {usual})"));
            }
        }
    }
}

/// What a question is known by: SHA-256, hexadecimal.
pub fn key(provider: &dyn Provider, question: &Question<'_>) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    for text in [
        provider.name(),
        provider.model(),
        &question.prompt.system,
        &question.prompt.user,
        &question.schema.to_string(),
    ] {
        part(text.as_bytes());
    }
    for picture in question.pictures {
        part(picture.media_type.as_bytes());
        part(&Sha256::digest(&picture.bytes));
    }
    text::hex(&hash.finalize())
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    at: Timestamp,
    answer: RawAnswer,
}

/// What is in the folder: the oldest goes first.
#[derive(Debug, Default)]
struct Shelf {
    entries: HashMap<String, (Timestamp, u64)>,
    by_age: BTreeMap<(Timestamp, String), u64>,
    bytes: u64,
}

impl Shelf {
    fn add(&mut self, key: &str, at: Timestamp, bytes: u64) {
        self.remove(key);
        self.entries.insert(key.to_owned(), (at, bytes));
        self.by_age.insert((at, key.to_owned()), bytes);
        self.bytes += bytes;
    }

    fn remove(&mut self, key: &str) {
        if let Some((at, bytes)) = self.entries.remove(key) {
            self.by_age.remove(&(at, key.to_owned()));
            self.bytes -= bytes;
        }
    }

    /// Those that are too old or too many, off the shelf.
    fn surplus(&mut self, bytes_max: u64, oldest: Timestamp) -> Vec<String> {
        let mut gone = Vec::new();
        while let Some(((at, key), _)) = self.by_age.first_key_value() {
            if self.bytes <= bytes_max && *at >= oldest {
                break;
            }
            let key = key.clone();
            self.remove(&key);
            gone.push(key);
        }
        gone
    }
}

/// Answers of gateways, by question. Failing to keep one is no failure of the reading.
pub struct Cache {
    folder: PathBuf,
    config: Config,
    shelf: Mutex<Shelf>,
}

impl Cache {
    /// Opens the folder, making it when it is not there; files that are none of ours are left alone.
    ///
    /// # Errors
    /// As the file system says.
    pub fn open(folder: &Path, config: &Config) -> io::Result<Cache> {
        let mut shelf = Shelf::default();
        if config.size_max_mb > 0 {
            std::fs::create_dir_all(folder)?;
            for file in std::fs::read_dir(folder)? {
                let file = file?;
                let name = file.file_name().to_string_lossy().into_owned();
                let Some(key) = name.strip_suffix(".json") else {
                    if name.starts_with(TEMPORARY) {
                        std::fs::remove_file(file.path())?;
                    }
                    continue;
                };
                let about = file.metadata()?;
                let written = Timestamp::try_from(about.modified()?).unwrap_or_default();
                shelf.add(key, written, about.len());
            }
        }
        Ok(Cache { folder: folder.to_owned(), config: config.clone(), shelf: Mutex::new(shelf) })
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.json"))
    }

    fn oldest(&self, now: Timestamp) -> Timestamp {
        now - jiff::SignedDuration::from_hours(24 * i64::from(self.config.age_max_days))
    }

    pub async fn get(&self, key: &str, now: Timestamp) -> Option<RawAnswer> {
        if !self.shelf().entries.contains_key(key) {
            return None;
        }
        let bytes = tokio::fs::read(self.path(key)).await.ok()?;
        let entry: Entry = serde_json::from_slice(&bytes).ok()?;
        (entry.at >= self.oldest(now)).then_some(entry.answer)
    }

    pub async fn put(&self, key: &str, answer: &RawAnswer, now: Timestamp) {
        if self.config.size_max_mb == 0 {
            return;
        }
        if let Err(error) = self.write(key, answer, now).await {
            tracing::warn!(%error, "an answer could not be kept for the next time");
        }
    }

    async fn write(&self, key: &str, answer: &RawAnswer, now: Timestamp) -> io::Result<()> {
        let entry = Entry { at: now, answer: answer.clone() };
        let bytes = serde_json::to_vec(&entry)?;
        let (path, size) = (self.path(key), bytes.len() as u64);
        let folder = self.folder.clone();
        let write = move || {
            use std::io::Write as _;
            // Readable by the node alone, whole or not there.
            let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?;
            file.write_all(&bytes)?;
            file.persist(path).map_err(|error| error.error)?;
            Ok::<(), io::Error>(())
        };
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??;
        let gone = {
            let mut shelf = self.shelf();
            shelf.add(key, now, size);
            shelf.surplus(self.config.size_max_mb << 20, self.oldest(now))
        };
        for key in gone {
            tokio::fs::remove_file(self.path(&key)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::call::Tokens;

    fn answer(text: &str) -> RawAnswer {
        RawAnswer { text: text.into(), model: "m".into(), tokens: Tokens::default() }
    }

    fn at(days: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(24 * days)
    }

    #[tokio::test]
    async fn an_answer_is_kept_over_a_restart_and_goes_with_its_age() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::default();
        let cache = Cache::open(folder.path(), &config).unwrap();
        assert_eq!(cache.get("k", at(0)).await, None);
        cache.put("k", &answer("seen"), at(0)).await;
        assert_eq!(cache.get("k", at(7)).await, Some(answer("seen")));
        assert_eq!(cache.get("k", at(8)).await, None);
        let again = Cache::open(folder.path(), &config).unwrap();
        assert_eq!(again.get("k", at(1)).await, Some(answer("seen")));
        std::fs::write(folder.path().join("k.json"), "{").unwrap();
        assert_eq!(again.get("k", at(1)).await, None, "a broken file is no answer");
        let none = Config { size_max_mb: 0, ..config };
        let cache = Cache::open(&folder.path().join("no"), &none).unwrap();
        cache.put("k", &answer("seen"), at(0)).await;
        assert_eq!(cache.get("k", at(0)).await, None);
    }

    #[tokio::test]
    async fn the_oldest_answers_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { size_max_mb: 1, ..Config::default() };
        let cache = Cache::open(folder.path(), &config).unwrap();
        let long = answer(&"x".repeat(400_000));
        for (day, key) in [(0, "a"), (1, "b"), (2, "c")] {
            cache.put(key, &long, at(day)).await;
        }
        assert_eq!(cache.get("a", at(2)).await, None);
        assert!(cache.get("b", at(2)).await.is_some() && cache.get("c", at(2)).await.is_some());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}

//! Asks the node that works on a data folder, or says that none does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use serde::de::DeserializeOwned;

use crate::cli::CouldNotStart;
use crate::domain::clock::Clock as _;
use crate::domain::clock::SystemClock;
use crate::domain::uid::StudyUid;
use crate::store::Config;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::event::Event;
use crate::web::local::NodeFile;

/// A data folder: through the node that works on it, or our own as long as this lives.
pub enum Folder {
    Node(Node),
    Own(Store),
}

pub struct Node {
    file: NodeFile,
    client: reqwest::Client,
}

/// How long a node that starts is waited for.
const STARTING: Duration = Duration::from_secs(10);

/// Finds the node, else opens the folder. One that has the folder and does not answer yet is waited
/// for.
pub async fn open(data: &Path) -> anyhow::Result<Folder> {
    let until = Instant::now() + STARTING;
    loop {
        if let Some(node) = Node::find(data).await? {
            return Ok(Folder::Node(node));
        }
        match open_store(data) {
            Err(error) if error.is::<CouldNotStart>() && Instant::now() < until => {
                tokio::time::sleep(STARTING / 50).await;
            }
            opened => return Ok(Folder::Own(opened?)),
        }
    }
}

/// Notes in the ledger of our own folder what somebody looks at, before it is shown.
pub async fn note_look(
    store: &Store,
    study_uid: Option<&StudyUid>,
    what: &str,
) -> Result<(), StoreError> {
    let (what, by, at) = (what.to_owned(), "command line".to_owned(), SystemClock.now());
    let looked = Event::Accessed { study_uid: study_uid.cloned(), what, by, at };
    store.commit(vec![looked]).await
}

fn open_store(data: &Path) -> anyhow::Result<Store> {
    // Nobody sends to us: an index that is lost is waited for.
    let config = Config { index_at_once_bytes: u64::MAX, ..Config::default() };
    match Store::open(data, &config, Arc::new(SystemClock)) {
        Ok((store, report)) => {
            for alarm in report.alarms() {
                eprintln!("warning: {alarm}");
            }
            Ok(store)
        }
        Err(error @ StoreError::InUse { .. }) => Err(anyhow::Error::new(CouldNotStart(format!(
            "{error}, which does not answer; wait until it has started, or end it"
        )))),
        Err(error) => Err(anyhow::Error::new(error)),
    }
}

impl Node {
    /// The node that `node.json` names, when it answers.
    pub async fn find(data: &Path) -> anyhow::Result<Option<Node>> {
        let read = NodeFile::read(data);
        let named = read.with_context(|| format!("reading {}/node.json", data.display()))?;
        let Some(file) = named else { return Ok(None) };
        // Another program may have set one; any will do, there is no TLS here.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build()?;
        let node = Node { file, client };
        // A node that died leaves its file behind, and another program may listen there now.
        match node.request(reqwest::Method::GET, "studies?limit=0").send().await {
            // 503: its index is being made; what is asked for next says so.
            Ok(answer)
                if answer.status().is_success()
                    || answer.status() == reqwest::StatusCode::SERVICE_UNAVAILABLE =>
            {
                Ok(Some(node))
            }
            Ok(_) | Err(_) => Ok(None),
        }
    }

    pub fn pid(&self) -> u32 {
        self.file.pid
    }

    /// Why the node is not ready, and what an operator should know although it is.
    pub async fn notes(&self) -> Vec<String> {
        #[derive(serde::Deserialize)]
        struct Ready {
            reasons: Vec<String>,
        }
        let url = format!("http://{}/readyz", self.file.address);
        let asked = async { self.client.get(url).send().await?.json::<Ready>().await };
        match asked.await {
            Ok(ready) => ready.reasons,
            Err(error) => vec![format!("it does not say whether it is well: {error}")],
        }
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}/local/v1/{path}", self.file.address);
        self.client.request(method, url).bearer_auth(&self.file.token)
    }

    /// The node's answer, none when it does not know what was asked for.
    pub async fn get(&self, path: &str) -> anyhow::Result<Option<reqwest::Response>> {
        answer(self.request(reqwest::Method::GET, path).send().await?).await
    }

    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Option<T>> {
        match self.get(path).await? {
            Some(answer) => Ok(Some(answer.json().await?)),
            None => Ok(None),
        }
    }

    /// Hands on each line of an answer in lines of JSON, as it comes.
    pub async fn get_lines<T: DeserializeOwned>(
        &self,
        path: &str,
        on: &mut dyn FnMut(T) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let Some(mut answer) = self.get(path).await? else {
            anyhow::bail!("the node does not know what to do");
        };
        let mut waiting = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            waiting.extend_from_slice(&chunk);
            while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).collect();
                on(serde_json::from_slice(&line)?)?;
            }
        }
        Ok(())
    }

    pub async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> anyhow::Result<Option<T>> {
        let sent = self.request(reqwest::Method::POST, path).json(body).send().await?;
        match answer(sent).await? {
            Some(answer) => Ok(Some(answer.json().await?)),
            None => Ok(None),
        }
    }

    pub async fn post_text<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        text: String,
    ) -> anyhow::Result<Option<T>> {
        let url = format!("http://{}/local/v1/{path}", self.file.address);
        let url = reqwest::Url::parse_with_params(&url, query)?;
        let request = self.client.post(url).bearer_auth(&self.file.token).body(text);
        match answer(request.send().await?).await? {
            Some(answer) => Ok(Some(answer.json().await?)),
            None => Ok(None),
        }
    }

    pub async fn post(&self, path: &str, body: &impl serde::Serialize) -> anyhow::Result<bool> {
        let sent = self.request(reqwest::Method::POST, path).json(body).send().await?;
        Ok(answer(sent).await?.is_some())
    }
}

async fn answer(answer: reqwest::Response) -> anyhow::Result<Option<reqwest::Response>> {
    let status = answer.status();
    if status.is_success() {
        return Ok(Some(answer));
    }
    if status == reqwest::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let problem: serde_json::Value = answer.json().await.unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or("no reason given");
    anyhow::bail!("the node answered {status}: {}", crate::cli::plain(detail))
}

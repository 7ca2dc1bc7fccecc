//! How a server over HTTP is reached, and who we are there: one block of settings for gateways, FHIR
//! servers, archives, webhooks and the collector of traces.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use reqwest::RequestBuilder;
use reqwest::Url;
use reqwest::header::AUTHORIZATION;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderName;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::secret::Secret;
use crate::outgoing;
use crate::outgoing::oauth2;
use crate::outgoing::route::Route;

/// Headers that a request makes itself.
const OURS: [&str; 4] = ["host", "content-length", "content-type", "transfer-encoding"];

/// The keys stand beside the URL of whom we are known to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Who {
    /// Further headers of each request.
    pub headers: BTreeMap<String, Secret>,
    /// The same, each from a file that is read for each request.
    pub header_files: BTreeMap<String, PathBuf>,
    /// Added to the query of each request: `key=value&key=value`.
    pub query: String,
    /// Of HTTP Basic.
    pub user: String,
    /// File with the password of `user`.
    pub password_file: Option<PathBuf>,
    /// File with the bearer token and nothing else, read for each request: tokens are renewed.
    pub token_file: Option<PathBuf>,
    /// A token is fetched with these, and again before it ends.
    pub oauth2: Option<oauth2::Config>,
}

/// A server: the way there, and who we are there.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    pub route: &'a Route,
    pub who: &'a Who,
}

impl Server<'_> {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        self.route.check(at, problems);
        let why = "the server would let nobody in";
        for (key, file) in
            [("password_file", &self.who.password_file), ("token_file", &self.who.token_file)]
        {
            if let Some(Err(error)) = file.as_deref().map(std::fs::File::open) {
                problems.push(format!("{at}.{key}: {error}; {why}"));
            }
        }
        let has_token = self.who.token_file.as_deref().is_some_and(|file| file.exists());
        if let (true, Err(why)) = (has_token, self.bearer()) {
            problems.push(format!("{at}.token_file: {why}"));
        }
        for (name, file) in &self.who.header_files {
            if let Err(error) = std::fs::File::open(file) {
                problems.push(format!("{at}.header_files.{name}: {error}"));
            }
        }
        let names = self.who.headers.keys().chain(self.who.header_files.keys());
        for name in names {
            let lower = name.to_ascii_lowercase();
            if HeaderName::from_bytes(lower.as_bytes()).is_err() || OURS.contains(&lower.as_str()) {
                problems.push(format!("{at}.headers: {name:?} is no header that can be set here"));
            }
        }
        for (name, value) in &self.who.headers {
            if HeaderValue::from_str(value.expose()).is_err() {
                problems.push(format!(
                    "{at}.headers.{name}: it has characters that no header can hold"
                ));
            }
        }
        let who = [
            ("user", !self.who.user.is_empty()),
            ("token_file", self.who.token_file.is_some()),
            ("oauth2", self.who.oauth2.is_some()),
        ];
        let who: Vec<&str> =
            who.iter().filter(|(_, is_set)| *is_set).map(|(key, _)| *key).collect();
        if who.len() > 1 {
            problems.push(format!("{at}: {} all say who we are; use one", who.join(", ")));
        }
        if self.who.password_file.is_some() && self.who.user.is_empty() {
            problems.push(format!("{at}.password_file: set {at}.user too"));
        }
        if let Some(oauth2) = &self.who.oauth2 {
            oauth2.check(&format!("{at}.oauth2"), self.route.allow_plain, problems);
        }
        if self.who.query.contains(['#', '?', ' ']) {
            problems.push(format!("{at}.query = {:?}: use key=value&key=value", self.who.query));
        }
    }

    /// The same of who says itself where its tokens are given: only FHIR servers do.
    pub fn check_token_url(&self, at: &str, problems: &mut Vec<String>) {
        if self.who.oauth2.as_ref().is_some_and(|oauth2| oauth2.token_url.is_empty()) {
            problems.push(format!("{at}.oauth2.token_url is needed: where tokens are given"));
        }
    }

    /// A URL that requests may go to, with what is to stand in its query.
    ///
    /// - `base`: as it stands in the settings; a query in it is kept.
    /// - `path`: added behind the path of `base` as it is written there; empty or with its slash; may
    ///   have a query of its own.
    ///
    /// # Errors
    /// As [`outgoing::endpoint`].
    pub fn url(&self, base: &str, path: &str) -> Result<Url, String> {
        let mut url = outgoing::endpoint(base, self.route.allow_plain)?;
        let (path, own) = path.split_once('?').unwrap_or((path, ""));
        if !path.is_empty() {
            let joined = format!("{}{path}", url.path().trim_end_matches('/'));
            url.set_path(&joined);
        }
        let kept = url.query().unwrap_or_default().to_owned();
        let all: Vec<&str> = [kept.as_str(), &self.who.query, own]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        url.set_query((!all.is_empty()).then(|| all.join("&")).as_deref());
        Ok(url)
    }

    /// The request with what says who we are.
    ///
    /// - `base`: the URL of the settings.
    /// - `fresh`: what was fetched before was not taken.
    ///
    /// # Errors
    /// In words, without a secret: a file cannot be used, no token was given.
    pub async fn signed(
        &self,
        mut request: RequestBuilder,
        base: &str,
        fresh: bool,
    ) -> Result<RequestBuilder, String> {
        let mut headers = HeaderMap::new();
        let mut put = |name: &str, value: &str| {
            let (name, value) =
                (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value));
            if let (Ok(name), Ok(mut value)) = (name, value) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        };
        for (name, value) in &self.who.headers {
            put(name, value.expose());
        }
        for (name, file) in &self.who.header_files {
            let value = line(file).map_err(|why| format!("header_files.{name}: {why}"))?;
            put(name, value.expose());
        }
        request = request.headers(headers);
        if !self.who.user.is_empty() {
            let password = self.who.password_file.as_deref().map(line).transpose();
            let password = password.map_err(|why| format!("password_file: {why}"))?;
            return Ok(request.basic_auth(&self.who.user, password.as_ref().map(Secret::expose)));
        }
        if let Some(value) = self.bearer().map_err(|why| format!("token_file: {why}"))? {
            return Ok(request.header(AUTHORIZATION, value));
        }
        match &self.who.oauth2 {
            None => Ok(request),
            Some(oauth2) => {
                let token = oauth2::token(*self, oauth2, base, fresh).await?;
                Ok(request.bearer_auth(token.expose()))
            }
        }
    }

    /// Whether who we are comes from what may be renewed meanwhile: then a 401 passes.
    pub fn may_be_renewed(&self) -> bool {
        self.who.token_file.is_some()
            || self.who.oauth2.is_some()
            || !self.who.header_files.is_empty()
            || self.who.password_file.is_some()
    }

    fn bearer(&self) -> Result<Option<HeaderValue>, String> {
        let Some(file) = &self.who.token_file else { return Ok(None) };
        let token = line(file)?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .ok()
            .filter(|_| !token.is_empty())
            .ok_or("it should hold one line, the token alone")?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// What a file with a secret holds: editors leave a byte order mark and line ends.
///
/// # Errors
/// In words: it cannot be read.
pub fn line(file: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    Ok(Secret::new(text.trim_start_matches('\u{feff}').trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (Route, Who) {
        (toml::from_str(text).unwrap(), toml::from_str(text).unwrap())
    }

    #[test]
    fn a_url_keeps_its_slashes_and_queries_as_they_are_written() {
        let (route, who) = parts("");
        let plain = Server { route: &route, who: &who };
        let tenant = parts("query = \"api-version=1\"").1;
        let tenant = Server { route: &route, who: &tenant };
        for (of, base, path, expected) in [
            (plain, "https://h.example/fhir", "", "https://h.example/fhir"),
            (plain, "https://h.example/fhir/", "", "https://h.example/fhir/"),
            (plain, "https://h.example/fhir/", "/metadata", "https://h.example/fhir/metadata"),
            (
                plain,
                "https://h.example/v1?a=1",
                "/chat/completions",
                "https://h.example/v1/chat/completions?a=1",
            ),
            (
                plain,
                "https://h.example/dw?p=a",
                "/studies?limit=1",
                "https://h.example/dw/studies?p=a&limit=1",
            ),
            (
                tenant,
                "https://h.example/dw",
                "/studies",
                "https://h.example/dw/studies?api-version=1",
            ),
            (tenant, "https://h.example/dw?p=a", "", "https://h.example/dw?p=a&api-version=1"),
        ] {
            assert_eq!(of.url(base, path).unwrap().as_str(), expected, "{base} {path}");
        }
        assert!(plain.url("http://8.8.8.8/fhir", "").is_err());
    }

    #[test]
    fn values_that_cannot_work_are_named_with_their_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "\u{feff}tok\r\n").unwrap();
        assert_eq!(line(&file).unwrap().expose(), "tok");
        let problems = |text: &str| {
            let mut problems = Vec::new();
            let text = text.replace("FILE", &file.display().to_string());
            let (route, who) = parts(&text);
            Server { route: &route, who: &who }.check("deliver.fhir.x", &mut problems);
            problems
        };
        for good in [
            "",
            "user = \"u\"",
            "user = \"u\"\npassword_file = \"FILE\"",
            "token_file = \"FILE\"",
            "proxy = \"http://proxy.example:3128\"\nproxy_auth_file = \"FILE\"",
            "proxy = \"none\"",
            "headers.X-API-Key = \"k\"",
            "header_files.X-API-Key = \"FILE\"",
            "oauth2.client_id = \"c\"\noauth2.token_url = \"https://t.example/token\"",
            "ca_file = \"FILE\"",
        ] {
            assert_eq!(problems(good), [""; 0], "{good}");
        }
        for (bad, part) in [
            ("token_file = \"/nowhere\"", "deliver.fhir.x.token_file: "),
            ("user = \"u\"\ntoken_file = \"FILE\"", "user, token_file all say who we are"),
            ("password_file = \"FILE\"", "set deliver.fhir.x.user too"),
            ("proxy = \"http://u:p@proxy.example\"", "proxy_auth_file"),
            ("proxy = \"proxy\"", "deliver.fhir.x.proxy = \"proxy\""),
            ("headers.Host = \"x\"", "no header that can be set"),
            ("headers.X = \"a\\nb\"", "no header can hold"),
            ("certificate_file = \"FILE\"", "only together"),
            ("query = \"?a=1\"", "deliver.fhir.x.query"),
            ("oauth2.client_id = \"\"", "oauth2.client_id"),
        ] {
            let said = problems(bad);
            assert!(said.len() == 1 && said[0].contains(part), "{bad}: {said:?}");
        }
    }
}

//! Below a path of a portal: `https://portal.example/prelim/`. Requests come with that path or without
//! it, as the proxy in front hands them on; links, forms, redirects and cookies stay below it.

use axum::body::Body;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::Uri;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;

use crate::web::Web;

/// As proxies say which path they took away.
const PREFIX: &str = "x-forwarded-prefix";
const PATH_CHARS_MAX: usize = 128;
/// Attributes of our pages that hold an address.
const LINKS: [&str; 6] = ["href", "src", "action", "formaction", "data-events", "data-url"];

/// A path as links begin with it: empty, or `/a/b`. `None`: it is none.
pub fn path(text: &str) -> Option<&str> {
    let path = text.trim().trim_end_matches('/');
    let is_plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b))
    };
    let is_path = path.len() <= PATH_CHARS_MAX
        && path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_plain));
    (path.is_empty() || is_path).then_some(path)
}

/// The path below which a request finds us: that of the settings, else as the proxy says. Whoever
/// writes the header changes the links of their own page alone.
fn of(base_path: &str, headers: &HeaderMap) -> String {
    let said = || headers.get(PREFIX).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let said = if base_path.is_empty() { said() } else { base_path };
    path(said).unwrap_or_default().to_owned()
}

/// The address without the path of the settings, for a proxy that leaves it there.
pub fn stripped(base_path: &str, uri: &Uri) -> Option<Uri> {
    let base = path(base_path).filter(|base| !base.is_empty())?;
    let rest = uri.path_and_query()?.as_str().strip_prefix(base)?;
    match rest.chars().next() {
        None => Some(Uri::from_static("/")),
        Some('/') => rest.parse().ok(),
        Some('?') => format!("/{rest}").parse().ok(),
        Some(_) => None,
    }
}

/// Puts the path before what an answer leads to.
pub async fn keep(State(web): State<Web>, request: Request, next: Next) -> Response {
    let base = of(&web.node.config.base_path, request.headers());
    let response = next.run(request).await;
    if base.is_empty() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let headers = &mut parts.headers;
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    if let Some(there) = headers.get(header::LOCATION).map(text)
        && let Ok(there) = HeaderValue::from_str(&below(&base, &there))
    {
        headers.insert(header::LOCATION, there);
    }
    let cookies: Vec<String> = headers.get_all(header::SET_COOKIE).iter().map(text).collect();
    headers.remove(header::SET_COOKIE);
    for cookie in cookies {
        let cookie = cookie.replacen("Path=/", &format!("Path={base}/"), 1);
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
    let kind = headers.get(header::CONTENT_TYPE).map(text).unwrap_or_default();
    if !kind.starts_with("text/html") {
        return Response::from_parts(parts, body);
    }
    // Pages are made whole before they are sent.
    let Ok(page) = axum::body::to_bytes(body, usize::MAX).await else {
        return Response::from_parts(parts, Body::empty());
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    let page = page_below(&base, &String::from_utf8_lossy(&page));
    Response::from_parts(parts, Body::from(page))
}

/// An address of ours below the path; one of others, or one that is below it already, as it is.
fn below(base: &str, address: &str) -> String {
    let is_ours = address.starts_with('/') && !address.starts_with("//");
    let is_below = address
        .strip_prefix(base)
        .is_some_and(|rest| rest.starts_with(['/', '?']) || rest.is_empty());
    match is_ours && !is_below {
        true => format!("{base}{address}"),
        false => address.to_owned(),
    }
}

fn page_below(base: &str, page: &str) -> String {
    const VALUE: &str = "=\"/";
    let mut out = String::with_capacity(page.len() + page.len() / 32);
    let mut rest = page;
    while let Some(at) = rest.find(VALUE) {
        let (before, after) = rest.split_at(at);
        let name = before.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).next();
        let is_link = name.is_some_and(|name| LINKS.contains(&name));
        let is_ours = !after[VALUE.len()..].starts_with('/');
        out.push_str(before);
        out.push_str("=\"");
        if is_link && is_ours {
            out.push_str(base);
        }
        out.push('/');
        rest = &after[VALUE.len()..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_forms_and_redirects_stay_below_the_path_and_nothing_else_changes() {
        let page = "<a href=\"/queue?x=/y\">a</a><img src=\"/assets/a.svg#x\"><form action=\"/login\">\
                    <input name=\"next\" value=\"/queue\"><a href=\"//other.example/\"><a href=\"#top\">\
                    <main data-events=\"/events\" data-part=\"/no\"><a href=\"/\">";
        let expected = "<a href=\"/p/queue?x=/y\">a</a><img src=\"/p/assets/a.svg#x\"><form action=\"/p/login\">\
                        <input name=\"next\" value=\"/queue\"><a href=\"//other.example/\"><a href=\"#top\">\
                        <main data-events=\"/p/events\" data-part=\"/no\"><a href=\"/p/\">";
        assert_eq!(page_below("/p", page), expected);
        for (address, expected) in [
            ("/login?next=/queue", "/p/login?next=/queue"),
            ("/p/queue", "/p/queue"),
            ("/p", "/p"),
            ("/probe", "/p/probe"),
            ("https://login.example/auth", "https://login.example/auth"),
            ("//other.example", "//other.example"),
        ] {
            assert_eq!(below("/p", address), expected);
        }
    }

    #[test]
    fn a_path_is_plain_and_is_taken_away_where_it_stands() {
        for (text, expected) in [
            ("", Some("")),
            ("/", Some("")),
            ("/prelim", Some("/prelim")),
            ("/a/b-c/", Some("/a/b-c")),
            ("prelim", None),
            ("//evil.example", None),
            ("/a/../b", None),
            ("/a\"b", None),
            ("https://evil.example", None),
        ] {
            assert_eq!(path(text), expected, "{text}");
        }
        let cut =
            |uri: &str| stripped("/prelim/", &uri.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(cut("/prelim"), Some("/".into()));
        assert_eq!(cut("/prelim/queue?a=1"), Some("/queue?a=1".into()));
        assert_eq!(cut("/prelim?a=1"), Some("/?a=1".into()));
        assert_eq!(cut("/prelims"), None);
        assert_eq!(cut("/queue"), None);
        assert_eq!(stripped("", &"/queue".parse().unwrap()), None);
    }
}

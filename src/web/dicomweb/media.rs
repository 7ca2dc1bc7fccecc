//! Media types: what a client accepts, and what a stored instance can be sent as (PS3.18 8.7).

use axum::http::HeaderMap;
use axum::http::header;
use dicom_dictionary_std::uids;

/// Members of one Accept header that are looked at.
const MEMBERS_MAX: usize = 64;
/// Explicit VR Little Endian: what a client gets who asks for no syntax.
pub const PLAIN: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;

/// One media type with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// Lowercase, e.g. `multipart/related`.
    pub essence: String,
    /// Names in lowercase.
    parameters: Vec<(String, String)>,
}

impl Media {
    pub fn parse(text: &str) -> Option<Media> {
        let mut parts = split(text, ';').into_iter();
        let essence = parts.next()?.trim().to_ascii_lowercase();
        let (kind, rest) = essence.split_once('/')?;
        let token = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_graphic());
        if !token(kind) || !token(rest) {
            return None;
        }
        let parameter = |part: String| {
            let (name, value) = part.split_once('=')?;
            let value = value.trim();
            let value = match value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) {
                Some(quoted) => quoted.replace('\\', ""),
                None => value.to_owned(),
            };
            Some((name.trim().to_ascii_lowercase(), value))
        };
        let parameters = parts.filter_map(parameter).collect();
        Some(Media { essence, parameters })
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn quality(&self) -> f32 {
        self.get("q")
            .and_then(|q| q.parse().ok())
            .filter(|q| (0.0..=1.0).contains(q))
            .unwrap_or(1.0)
    }
}

/// Splits where `at` stands outside of quotes.
fn split(text: &str, at: char) -> Vec<String> {
    let (mut parts, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for c in text.chars() {
        match c {
            '"' if !escaped => quoted = !quoted,
            c if c == at && !quoted => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

/// What a client takes, the most wanted first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept(Vec<Asked>);

/// One member of Accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// In several parts; else the answer is the thing itself.
    pub multipart: bool,
    /// Of the thing or of each part, e.g. `application/dicom`, `image/*`, `*/*`.
    pub of: String,
    /// None: not said. `*`: any.
    pub transfer_syntax: Option<String>,
    /// `*/*`: the server chooses the form too.
    pub any: bool,
}

impl Accept {
    /// From the query (`?accept=`, PS3.18 8.3.3.1), else from the header. Nothing said: anything.
    pub fn of(headers: &HeaderMap, query: Option<&str>) -> Accept {
        let lines = headers.get_all(header::ACCEPT).into_iter().filter_map(|v| v.to_str().ok());
        let text = match query {
            Some(text) if !text.trim().is_empty() => text.to_owned(),
            _ => lines.collect::<Vec<_>>().join(","),
        };
        let members = split(&text, ',').into_iter().take(MEMBERS_MAX);
        let mut media: Vec<Media> = members
            .filter_map(|member| Media::parse(&member))
            .filter(|m| m.quality() > 0.0)
            .collect();
        media.sort_by(|a, b| b.quality().total_cmp(&a.quality()));
        let asked = |media: Media| {
            let multipart = media.essence == "multipart/related" || media.essence == "multipart/*";
            let of = match multipart {
                true => media.get("type").unwrap_or("*/*").to_ascii_lowercase(),
                false => media.essence.clone(),
            };
            let any = media.essence == "*/*";
            Asked {
                multipart,
                of,
                transfer_syntax: media.get("transfer-syntax").map(str::to_owned),
                any,
            }
        };
        let mut all: Vec<Asked> = media.into_iter().map(asked).collect();
        if all.is_empty() && text.trim().is_empty() {
            let of = "*/*".to_owned();
            all.push(Asked { multipart: false, of, transfer_syntax: None, any: true });
        }
        Accept(all)
    }

    pub fn members(&self) -> &[Asked] {
        &self.0
    }

    /// Whether one of `types` will do as the whole answer.
    pub fn takes(&self, types: &[&'static str]) -> Option<&'static str> {
        self.0.iter().filter(|asked| !asked.multipart).find_map(|asked| {
            types.iter().find(|media_type| matches(&asked.of, media_type)).copied()
        })
    }
}

impl Asked {
    /// Whether parts (or the whole) may be of this type.
    pub fn takes(&self, media_type: &str) -> bool {
        matches(&self.of, media_type)
    }
}

/// Whether `range` (perhaps with a star) holds `media_type`.
fn matches(range: &str, media_type: &str) -> bool {
    match range.split_once('/') {
        Some(("*", _)) => true,
        Some((kind, "*")) => media_type.split('/').next() == Some(kind),
        _ => range == media_type,
    }
}

/// Media type of one frame in a transfer syntax (PS3.18 8.7.3.3); none where frames cannot be
/// sent one by one (video).
pub fn of_frames(transfer_syntax: &str) -> Option<&'static str> {
    Some(match transfer_syntax {
        "1.2.840.10008.1.2.4.50"
        | "1.2.840.10008.1.2.4.51"
        | "1.2.840.10008.1.2.4.57"
        | "1.2.840.10008.1.2.4.70" => "image/jpeg",
        "1.2.840.10008.1.2.4.80" | "1.2.840.10008.1.2.4.81" => "image/jls",
        "1.2.840.10008.1.2.4.90" | "1.2.840.10008.1.2.4.91" => "image/jp2",
        "1.2.840.10008.1.2.4.92" | "1.2.840.10008.1.2.4.93" => "image/jpx",
        "1.2.840.10008.1.2.4.110" | "1.2.840.10008.1.2.4.111" | "1.2.840.10008.1.2.4.112" => {
            "image/jxl"
        }
        "1.2.840.10008.1.2.4.201" | "1.2.840.10008.1.2.4.202" | "1.2.840.10008.1.2.4.203" => {
            "image/jphc"
        }
        "1.2.840.10008.1.2.5" => "image/x-dicom-rle",
        syntax if is_plain(syntax) => "application/octet-stream",
        syntax if syntax.starts_with("1.2.840.10008.1.2.4.10") => return None,
        _ => "application/octet-stream",
    })
}

/// Whether frames in this syntax are those of Explicit VR Little Endian once they are cut out.
pub fn is_plain(transfer_syntax: &str) -> bool {
    matches!(
        transfer_syntax,
        uids::IMPLICIT_VR_LITTLE_ENDIAN
            | uids::EXPLICIT_VR_LITTLE_ENDIAN
            | uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
            | "1.2.840.10008.1.2.2"
            | "1.2.840.113619.5.2"
    )
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn accept(text: &str) -> Accept {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(text).unwrap());
        Accept::of(&headers, None)
    }

    #[test]
    fn members_come_by_their_quality() {
        let found = accept(
            "image/jpeg;q=0.5, multipart/related; type=\"application/octet-stream\"; \
             transfer-syntax=*, multipart/related;type=\"image/jls\";q=0.9, image/png;q=0, rubbish",
        );
        let found: Vec<_> = found.members().iter().map(|m| (m.multipart, m.of.as_str())).collect();
        let expected =
            [(true, "application/octet-stream"), (true, "image/jls"), (false, "image/jpeg")];
        assert_eq!(found, expected);
    }

    #[test]
    fn quotes_hide_commas_and_semicolons() {
        let media = Media::parse("multipart/related; type=\"a/b\"; boundary=\"x;y,z\"").unwrap();
        assert_eq!(media.get("boundary"), Some("x;y,z"));
        let found = accept("multipart/related; type=\"a/b,c\", text/html");
        assert_eq!(found.members().len(), 2);
        assert!(Media::parse("nothing").is_none());
    }

    #[test]
    fn nothing_said_is_anything_and_stars_hold_what_they_say() {
        let any = Accept::of(&HeaderMap::new(), None);
        assert!(any.members()[0].any);
        assert_eq!(accept("image/*").takes(&["image/jpeg", "image/png"]), Some("image/jpeg"));
        assert_eq!(
            accept("image/png, */*;q=0.1").takes(&["image/jpeg", "image/png"]),
            Some("image/png")
        );
        assert_eq!(accept("text/html").takes(&["image/jpeg"]), None);
        let query = Accept::of(&HeaderMap::new(), Some("image/png"));
        assert_eq!(query.takes(&["image/jpeg", "image/png"]), Some("image/png"));
    }
}

//! Small readings of HTTP that all services share: query parameters as Google's clients send them, path segments,
//! JSON bodies. Knows no service.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::ApiError;

/// Query parameters in order. Empty ones count as absent: Google's Rust client sends `selectedFields=&view=0`.
#[derive(Debug, Clone, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a raw query string.
    pub fn parse(query: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.into_owned(), v.into_owned())).collect())
    }

    /// The query of a URI.
    pub fn of(uri: &Uri) -> Self {
        Self::parse(uri.query())
    }

    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// All values of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// True for `true`, `True` and `1`.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| v.eq_ignore_ascii_case("true") || v == "1")
    }

    /// A whole number.
    ///
    /// # Errors
    /// 400 when it is none.
    pub fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name)
            .map(|v| {
                v.parse().map_err(|_| {
                    ApiError::invalid(format!("Invalid value '{v}' for '{name}': a whole number is needed"))
                        .at("parameter", name)
                })
            })
            .transpose()
    }

    /// Whether enums travel as integers in the answer (`$alt=json;enum-encoding=int`).
    pub fn int_enums(&self) -> bool {
        self.get("$alt").or_else(|| self.get("alt")).is_some_and(|v| v.contains("enum-encoding=int"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.uri))
    }
}

/// The segments of a raw path, each percent-decoded after splitting, so that `%2F` stays within a segment.
/// `None` when one is no UTF-8.
pub fn segments(path: &str) -> Option<Vec<String>> {
    path.trim_start_matches('/').split('/').map(decode).collect()
}

/// Percent-decodes; a `%` that no hex digits follow stays. `None` when the result is no UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

/// Percent-encodes all but letters, digits and `-_.~`.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Reads a JSON object from a body; an empty body is an empty object.
///
/// # Errors
/// 400 `parseError` as Google words it.
pub fn json_object(bytes: &[u8]) -> Result<Value, ApiError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) => Err(ApiError::new(400, "parseError", "Parse Error: the body must be a JSON object")),
        Err(e) => Err(ApiError::new(400, "parseError", format!("Parse Error: invalid JSON payload received. {e}"))),
    }
}

/// 200 with a JSON body.
pub fn ok(value: Value) -> Response {
    Json(value).into_response()
}

/// 204 without a body.
pub fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// A header as text.
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

/// `http://HOST` as the client named this server, for links in answers.
///
/// Google's Rust clients send the host of their endpoint without its port (gax-internal 0.7): a name without a port is
/// no address of this server unless it listens on port 80.
pub fn own_base(headers: &HeaderMap, fallback: String) -> String {
    let port = |address: &str| address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let fallback_has_port = fallback.strip_prefix("http://").is_some_and(port);
    match header(headers, "host") {
        Some(host)
            if host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c))
                && (port(host) || !fallback_has_port) =>
        {
            format!("http://{host}")
        }
        _ => fallback,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_parameters_are_absent_and_names_may_be_encoded() {
        let p = Params::parse(Some("a=&b=True&%24alt=json%3Benum-encoding%3Dint&n=7&x=1&x=2"));
        assert_eq!(p.get("a"), None);
        assert!(p.flag("b") && p.int_enums());
        assert_eq!(p.number("n").unwrap(), Some(7));
        assert!(p.number("b").is_err());
        assert_eq!(p.all("x").collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn links_name_a_port_even_when_the_client_does_not() {
        let base = |host: &'static str, own: &str| {
            let headers =
                HeaderMap::from_iter([(axum::http::header::HOST, axum::http::HeaderValue::from_static(host))]);
            own_base(&headers, own.into())
        };
        assert_eq!(base("localhost:9050", "http://127.0.0.1:9050"), "http://localhost:9050");
        assert_eq!(base("127.0.0.1", "http://127.0.0.1:9050"), "http://127.0.0.1:9050");
        assert_eq!(base("127.0.0.1", "http://127.0.0.1"), "http://127.0.0.1");
    }

    #[test]
    fn an_encoded_slash_stays_in_its_segment() {
        assert_eq!(segments("/b/x/o/p%2Fa%20%C3%A9%").unwrap(), ["b", "x", "o", "p/a é%"]);
        assert_eq!(segments("/%FF"), None);
        assert_eq!(decode(&encode("a/b é+%")).as_deref(), Some("a/b é+%"));
    }
}

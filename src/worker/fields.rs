//! What a form or a query says: names with values, some of them more than once.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;

use super::problem::Problem;
use super::routes::bounded;
use super::session::Visitor;

/// The pairs, in their order.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    pub fn of_query(query: Option<&str>) -> Self {
        Self::parse(query.unwrap_or_default().as_bytes())
    }

    /// A form's.
    ///
    /// # Errors
    /// When it is none, or is too large.
    pub async fn of_form(request: Request) -> Result<Self, Problem> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("application/x-www-form-urlencoded") {
            let detail = "the body must be a form's; hint: programs call the API, GET /openapi.json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-a-form", detail));
        }
        Ok(Self::parse(&bounded(request.into_body()).await?))
    }

    fn parse(text: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(text).into_owned().collect())
    }

    /// The first value; empty without one.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// A value that is more than spaces.
    pub fn some(&self, name: &str) -> Option<&str> {
        Some(self.get(name).trim()).filter(|value| !value.is_empty())
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// Gives the form when it is one of this visitor's session.
    ///
    /// # Errors
    /// 403 when it carries another token, or none.
    pub fn sent_by(self, visitor: &Visitor) -> Result<Self, Problem> {
        let given = self.get("form_token").as_bytes();
        if verify_slices_are_equal(given, visitor.form_token.as_bytes()).is_ok() {
            return Ok(self);
        }
        Err(Problem::forbidden("the form is of another session; hint: open the page again, and send it from there"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_may_come_more_than_once() {
        let fields = Fields::of_query(Some("a=1&b=%3Cscript%3E+x&a=2&empty=++"));
        assert_eq!((fields.get("a"), fields.get("b"), fields.get("c")), ("1", "<script> x", ""));
        assert_eq!(fields.all("a"), ["1", "2"]);
        assert_eq!((fields.some("a"), fields.some("empty")), (Some("1"), None));
    }
}

//! Preconditions of Storage: `ifGenerationMatch` and its kin. Knows numbers only.

use axum::http::HeaderMap;

use crate::core::http::header;
use crate::core::{ApiError, Params};

/// The four preconditions on one object, or two on a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Conditions {
    pub generation: Option<i64>,
    pub generation_not: Option<i64>,
    pub metageneration: Option<i64>,
    pub metageneration_not: Option<i64>,
    /// Who may create but not replace; what is told when something is there.
    #[serde(default)]
    pub no_overwrite: Option<String>,
}

/// What the conditions say about an object as it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Holds,
    /// A `Match` condition failed: 412.
    Failed,
    /// A `NotMatch` condition failed: 304 for reads, 412 for writes.
    NotModified,
}

impl Conditions {
    /// `ifGenerationMatch=`, ...
    ///
    /// # Errors
    /// 400 when a value is no number.
    pub fn of(params: &Params) -> Result<Self, ApiError> {
        Self::named(params, "if")
    }

    /// `ifSourceGenerationMatch=`, ...
    ///
    /// # Errors
    /// 400 when a value is no number.
    pub fn of_source(params: &Params) -> Result<Self, ApiError> {
        Self::named(params, "ifSource")
    }

    fn named(params: &Params, prefix: &str) -> Result<Self, ApiError> {
        let number = |rest: &str| params.number(&format!("{prefix}{rest}"));
        Ok(Self {
            generation: number("GenerationMatch")?,
            generation_not: number("GenerationNotMatch")?,
            metageneration: number("MetagenerationMatch")?,
            metageneration_not: number("MetagenerationNotMatch")?,
            no_overwrite: None,
        })
    }

    /// `x-goog-if-generation-match` and `-metageneration-match`, as the XML API has them.
    ///
    /// # Errors
    /// 400 when a value is no number.
    pub fn of_headers(headers: &HeaderMap) -> Result<Self, ApiError> {
        let number = |name: &str| {
            header(headers, name)
                .map(|v| v.parse().map_err(|_| ApiError::invalid(format!("'{v}' is no valid {name}"))))
                .transpose()
        };
        Ok(Self {
            generation: number("x-goog-if-generation-match")?,
            metageneration: number("x-goog-if-metageneration-match")?,
            ..Self::default()
        })
    }

    /// Judges (generation, metageneration) of what is there, `None` for nothing.
    pub fn judge(&self, there: Option<(i64, i64)>) -> Verdict {
        let generation = there.map_or(0, |t| t.0);
        let metageneration = there.map(|t| t.1);
        if self.generation.is_some_and(|g| g != generation)
            || (self.metageneration.is_some() && self.metageneration != metageneration)
        {
            return Verdict::Failed;
        }
        if self.generation_not == Some(generation)
            || (self.metageneration_not.is_some() && self.metageneration_not == metageneration)
        {
            return Verdict::NotModified;
        }
        Verdict::Holds
    }

    /// For writes.
    ///
    /// # Errors
    /// 412 when a condition fails, 403 for an overwrite by one who may not.
    pub fn check_write(&self, there: Option<(i64, i64)>) -> Result<(), ApiError> {
        match (self.judge(there), &self.no_overwrite) {
            (Verdict::Holds, Some(message)) if there.is_some() => {
                Err(ApiError::forbidden("forbidden", message.clone()))
            }
            (Verdict::Holds, _) => Ok(()),
            (Verdict::Failed | Verdict::NotModified, _) => Err(not_met()),
        }
    }

    /// For reads of what exists.
    ///
    /// # Errors
    /// 412 when a `Match` condition fails, 304 when a `NotMatch` one does.
    pub fn check_read(&self, there: (i64, i64)) -> Result<(), ApiError> {
        match self.judge(Some(there)) {
            Verdict::Holds => Ok(()),
            Verdict::Failed => Err(not_met()),
            Verdict::NotModified => Err(not_modified()),
        }
    }
}

/// 412 in Storage's words.
pub fn not_met() -> ApiError {
    ApiError::precondition("At least one of the pre-conditions you specified did not hold.")
}

/// 304; sent without a body.
pub fn not_modified() -> ApiError {
    ApiError::new(304, "notModified", "Not Modified")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_judged() {
        let of = |query: &str| Conditions::of(&Params::parse(Some(query))).unwrap();
        let there = Some((7, 2));
        for (query, there, verdict) in [
            ("", None, Verdict::Holds),
            ("ifGenerationMatch=0", None, Verdict::Holds),
            ("ifGenerationMatch=0", there, Verdict::Failed),
            ("ifGenerationMatch=7", there, Verdict::Holds),
            ("ifGenerationMatch=7", None, Verdict::Failed),
            ("ifGenerationNotMatch=7", there, Verdict::NotModified),
            ("ifGenerationNotMatch=0", None, Verdict::NotModified),
            ("ifGenerationNotMatch=0", there, Verdict::Holds),
            ("ifMetagenerationMatch=2", there, Verdict::Holds),
            ("ifMetagenerationMatch=3", there, Verdict::Failed),
            ("ifMetagenerationMatch=3", None, Verdict::Failed),
            ("ifMetagenerationNotMatch=2", there, Verdict::NotModified),
            ("ifMetagenerationNotMatch=2", None, Verdict::Holds),
        ] {
            assert_eq!(of(query).judge(there), verdict, "{query} {there:?}");
        }
        assert!(Conditions::of(&Params::parse(Some("ifGenerationMatch=x"))).is_err());
    }
}

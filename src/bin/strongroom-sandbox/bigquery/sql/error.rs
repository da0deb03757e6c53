//! Errors in BigQuery's words.

pub use crate::core::ApiError;

/// What the engine's functions return.
pub type Res<T> = Result<T, ApiError>;

/// `invalidQuery`: the statement is wrong, or the engine cannot run it.
pub fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "invalidQuery", message).at("other", "query")
}

/// The engine lacks something; the text says what.
pub fn unsupported(what: impl AsRef<str>) -> ApiError {
    invalid(format!("Not supported by the sandbox's SQL engine: {}", what.as_ref()))
}

/// `[line:column]` of a byte offset, both from one, as BigQuery counts them.
pub fn place(sql: &str, offset: usize) -> String {
    let before = sql.get(..offset.min(sql.len())).unwrap_or(sql);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    format!("[{line}:{column}]")
}

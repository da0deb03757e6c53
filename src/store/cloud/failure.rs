//! The crate's errors as this program's, told once. Nothing of a request but its object is repeated: addresses may carry
//! signatures.

use object_store::Error;

use crate::model::Failure;

/// More of an answer than this is no message.
const MAX_MESSAGE: usize = 300;

/// A call without an effect failed.
pub(super) fn of_read(object: &str, error: &Error) -> Failure {
    of(object, error, false)
}

/// A call failed that may have had its effect.
pub(super) fn of_write(object: &str, error: &Error) -> Failure {
    of(object, error, true)
}

fn of(object: &str, error: &Error, effect: bool) -> Failure {
    let said = deepest(error);
    if let Some((status, body)) = answer(&said) {
        return of_status(object, status, told(status, body), effect);
    }
    let (object, message) = (object.to_string(), short(&said));
    match error {
        Error::NotFound { .. } => Failure::NotFound { object, message },
        Error::AlreadyExists { .. } => Failure::Exists { object, message },
        Error::Precondition { .. } | Error::NotModified { .. } => Failure::Precondition { object, message },
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Failure::Denied { object, message },
        Error::InvalidPath { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::UnknownConfigurationKey { .. } => Failure::Invalid { object, message },
        // No answer, or one that cannot be read.
        _ if effect => Failure::Unknown { object, message },
        _ => Failure::Transient { object, message },
    }
}

/// What lies at the ground of an error. The addresses are in the layers above it.
fn deepest(error: &Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    source.to_string()
}

/// Status and body of an answer that was none of success. The crate's own type of it (0.13) is private: this is its text.
fn answer(said: &str) -> Option<(u16, &str)> {
    let rest = said.strip_prefix("Server returned non-2xx status code: ")?;
    let status = rest.get(..3)?.parse().ok()?;
    Some((status, rest.split_once(": ").map_or("", |(_, body)| body)))
}

/// What a status means, the same for every call.
pub(super) fn of_status(object: &str, status: u16, message: String, effect: bool) -> Failure {
    let object = object.to_string();
    match status {
        401 | 403 => Failure::Denied { object, message },
        404 => Failure::NotFound { object, message },
        // Azure: an immutability policy, a lease, a snapshot; S3: two writes at once.
        409 if message.contains("Immutab") || message.contains("Lease") => Failure::Denied { object, message },
        409 => Failure::Exists { object, message },
        304 | 412 => Failure::Precondition { object, message },
        408 | 429 | 503 => Failure::Transient { object, message },
        400..=499 => Failure::Invalid { object, message },
        _ if effect => Failure::Unknown { object, message },
        _ => Failure::Transient { object, message },
    }
}

/// `412 PreconditionFailed: ...`, out of an answer in XML.
pub(super) fn told(status: u16, body: &str) -> String {
    let within = |tag: &str| {
        let (_, rest) = body.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>")).map(|(text, _)| text.to_string())
    };
    match (within("Code"), within("Message")) {
        (Some(code), Some(message)) => {
            short(&format!("{status} {code}: {}", message.lines().next().unwrap_or_default()))
        }
        (Some(code), None) => short(&format!("{status} {code}")),
        _ => format!("the service answered {status}"),
    }
}

fn short(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE).collect();
    plain.trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_out_of_the_crates_error() {
        let said = "Server returned non-2xx status code: 412 Precondition Failed: <Error><Code>X</Code></Error>";
        let error = Error::Generic { store: "S3", source: said.into() };
        let Failure::Precondition { message, .. } = of_read("o", &error) else { panic!("{error}") };
        assert_eq!(message, "412 X");
        let error = Error::Generic { store: "S3", source: "error sending request".into() };
        assert!(matches!(of_write("o", &error), Failure::Unknown { .. }));
        assert!(matches!(of_read("o", &error), Failure::Transient { .. }));
    }

    #[test]
    fn an_answer_is_told_in_a_few_words() {
        let body =
            "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>gone\nRequestId:1</Message></Error>";
        assert_eq!(told(404, body), "404 NoSuchBucket: gone");
        assert_eq!(told(500, "<html>"), "the service answered 500");
    }

    #[test]
    fn a_status_says_what_can_be_done() {
        let of = |status, effect| of_status("o", status, "m".into(), effect);
        assert!(matches!(of(403, true), Failure::Denied { .. }));
        assert!(matches!(of(409, true), Failure::Exists { .. }));
        assert!(matches!(of(412, true), Failure::Precondition { .. }));
        assert!(matches!(of(503, true), Failure::Transient { .. }));
        assert!(matches!(of(500, true), Failure::Unknown { .. }), "it may have had its effect");
        assert!(matches!(of(500, false), Failure::Transient { .. }));
        let locked = of_status("o", 409, "409 BlobImmutableDueToPolicy: no".into(), true);
        assert!(matches!(locked, Failure::Denied { .. }));
    }
}

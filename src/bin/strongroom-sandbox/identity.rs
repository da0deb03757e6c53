//! Identity tokens as Google signs them, and the keys to check them with: what Cloud Scheduler, Pub/Sub and the metadata
//! server hand out here, a worker can really verify. The key is made anew at every start.

use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::core::http::ok;
use crate::core::{ApiError, Sandbox};

const LIFE_S: i64 = 3600;
const KEY_ID: &str = "sandbox";
/// The bytes of a 2048-bit modulus, and where it begins in the DER form of a public key: after the sequence's header
/// (4 bytes), the integer's (4 bytes) and the sign's zero.
const MODULUS: std::ops::Range<usize> = 9..9 + 256;

/// A token for `email`, made for `audience`.
///
/// # Errors
/// 500 when the machine cannot make a key.
pub fn token(sandbox: &Sandbox, email: &str, audience: &str) -> Result<String, ApiError> {
    let issued = sandbox.clock.now_us() / 1_000_000;
    let claims = json!({
        "iss": "https://accounts.google.com", "aud": audience, "azp": email, "email": email, "email_verified": true,
        "sub": "100000000000000000000", "iat": issued, "exp": issued + LIFE_S,
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({ "alg": "RS256", "kid": KEY_ID, "typ": "JWT" })), part(&claims));
    let key = key()?;
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| ApiError::internal("the token cannot be signed"))?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// Answers `/oauth2/v3/certs`: the public key as a JWK set (RFC 7517).
///
/// # Errors
/// 500 when the machine cannot make a key.
pub fn certs() -> Result<Response, ApiError> {
    let key = key()?;
    let der = key.public_key().as_ref();
    let modulus = der.get(MODULUS).ok_or_else(|| ApiError::internal("the key has another form"))?;
    let jwk = json!({
        "kty": "RSA", "alg": "RS256", "use": "sig", "kid": KEY_ID, "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB",
    });
    let mut response = ok(json!({ "keys": [jwk] })).into_response();
    response.headers_mut().insert("cache-control", axum::http::HeaderValue::from_static("public, max-age=19200"));
    Ok(response)
}

fn key() -> Result<&'static KeyPair, ApiError> {
    static KEY: OnceLock<Option<KeyPair>> = OnceLock::new();
    let key = KEY.get_or_init(|| KeyPair::generate(KeySize::Rsa2048).ok());
    key.as_ref().ok_or_else(|| ApiError::internal("no key can be made on this machine"))
}

//! Who calls, and what they may do: bearer tokens known by their digests, identity tokens that Google signed, or
//! nobody in particular where only this machine can call.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::problem::Problem;
use crate::codec::digest::Digests;
use crate::config::{self, Role};

/// Google's keys, as published (<https://developers.google.com/identity/openid-connect/openid-connect#validatinganidtoken>).
const KEYS: &str = "https://www.googleapis.com/oauth2/v3/certs";
const ISSUERS: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];
/// Keys are not fetched again sooner, whatever strange key a token names.
const KEYS_AT_MOST_EVERY: Duration = Duration::from_secs(30);
const KEYS_AT_LEAST_EVERY: Duration = Duration::from_secs(6 * 3600);
const MAX_KEYS_BYTES: usize = 64 << 10;
const MAX_TOKEN_BYTES: usize = 8 << 10;
/// How far the clocks of Google and of this machine may differ.
const LEEWAY_SECONDS: u64 = 30;

/// A caller that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub name: String,
    pub role: Role,
}

/// The rules.
pub struct Access {
    tokens: Vec<config::Token>,
    identity: Option<Identity>,
}

impl Access {
    /// # Errors
    /// When anybody on the network could call and nobody would be asked who they are.
    pub fn new(worker: &config::Worker, endpoint: Option<&str>) -> Result<Self, String> {
        if worker.tokens.is_empty() && worker.callers.is_empty() && !worker.listen.ip().is_loopback() {
            return Err(format!(
                "worker.listen: {} can be reached from other machines, and nobody would be asked who they are; \
                 hint: name [[worker.token]] or [[worker.caller]], or listen on 127.0.0.1",
                worker.listen
            ));
        }
        let identity = worker.audience.as_ref().map(|audience| Identity {
            audience: audience.clone(),
            callers: worker.callers.iter().map(|caller| (caller.email.clone(), caller.role)).collect(),
            keys_url: endpoint.map_or_else(|| KEYS.to_string(), |endpoint| format!("{endpoint}/oauth2/v3/certs")),
            http: reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap_or_default(),
            keys: Mutex::new(Keys::default()),
        });
        Ok(Self { tokens: worker.tokens.clone(), identity })
    }

    /// Whether nobody is asked: on loopback, without tokens and callers.
    pub fn is_open(&self) -> bool {
        self.tokens.is_empty() && self.identity.is_none()
    }

    /// Who calls.
    ///
    /// # Errors
    /// 401 without a token, or with one that is not good; the answer does not say what is wrong with it.
    pub async fn who(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        if self.is_open() {
            return Ok(Caller { name: "this machine".into(), role: Role::Admin });
        }
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let scheme = given.and_then(|value| value.split_once(' '));
        let Some((_, token)) = scheme.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
            return Err(Problem::unauthorized("a bearer token is needed"));
        };
        self.caller(token.trim()).await
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// 401 for one that is not good.
    pub async fn caller(&self, token: &str) -> Result<Caller, Problem> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Problem::unauthorized("the token is not accepted"));
        }
        let digest = Digests::of(token.as_bytes()).sha256_hex();
        // Every digest is compared, in a time that does not depend on what is equal.
        let mut known = None;
        for entry in &self.tokens {
            if verify_slices_are_equal(entry.sha256.as_bytes(), digest.as_bytes()).is_ok() {
                known = Some(Caller { name: entry.name.clone(), role: entry.role });
            }
        }
        match (known, &self.identity) {
            (Some(caller), _) => Ok(caller),
            (None, Some(identity)) => identity.caller(token).await,
            (None, None) => Err(Problem::unauthorized("the token is not accepted")),
        }
    }
}

/// Identity tokens (OIDC) of Google.
struct Identity {
    audience: String,
    callers: BTreeMap<String, Role>,
    keys_url: String,
    http: reqwest::Client,
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    by_id: BTreeMap<String, DecodingKey>,
    fetched: Option<Instant>,
    good_for: Duration,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    email: String,
    #[serde(default)]
    email_verified: bool,
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<PublishedKey>,
}

#[derive(Deserialize)]
struct PublishedKey {
    kid: String,
    #[serde(default)]
    kty: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

impl Identity {
    async fn caller(&self, token: &str) -> Result<Caller, Problem> {
        let refused = |reason: &str| {
            tracing::info!(reason, "an identity token was refused");
            Problem::unauthorized("the token is not accepted")
        };
        let header = decode_header(token).map_err(|error| refused(&error.to_string()))?;
        if header.alg != Algorithm::RS256 {
            return Err(refused("not signed by RS256"));
        }
        let key_id = header.kid.ok_or_else(|| refused("it names no key"))?;
        let key = self.key(&key_id).await?.ok_or_else(|| refused("signed by a key that Google does not publish"))?;
        let mut rules = Validation::new(Algorithm::RS256);
        rules.set_audience(&[&self.audience]);
        rules.set_issuer(&ISSUERS);
        rules.set_required_spec_claims(&["exp", "aud", "iss"]);
        rules.leeway = LEEWAY_SECONDS;
        rules.validate_nbf = true;
        let claims = decode::<Claims>(token, &key, &rules).map_err(|error| refused(&error.to_string()))?.claims;
        if !claims.email_verified {
            return Err(refused("its address is not verified"));
        }
        match self.callers.get(&claims.email) {
            Some(role) => Ok(Caller { name: claims.email, role: *role }),
            None => {
                tracing::info!(email = claims.email, "a caller who is not named in the configuration");
                Err(Problem::forbidden("this account is not among the worker's callers; hint: [[worker.caller]]"))
            }
        }
    }

    async fn key(&self, id: &str) -> Result<Option<DecodingKey>, Problem> {
        let mut keys = self.keys.lock().await;
        let age = keys.fetched.map(|at| at.elapsed());
        let old = age.is_none_or(|age| age > keys.good_for);
        let rotated = !keys.by_id.contains_key(id) && age.is_none_or(|age| age > KEYS_AT_MOST_EVERY);
        if old || rotated {
            match self.fetch().await {
                Ok((by_id, good_for)) => *keys = Keys { by_id, fetched: Some(Instant::now()), good_for },
                Err(message) => {
                    tracing::warn!(url = self.keys_url, message, "Google's keys cannot be fetched");
                    if keys.by_id.is_empty() {
                        return Err(Problem::unavailable("Google's keys cannot be fetched; hint: try again"));
                    }
                }
            }
        }
        Ok(keys.by_id.get(id).cloned())
    }

    async fn fetch(&self) -> Result<(BTreeMap<String, DecodingKey>, Duration), String> {
        let answer = self.http.get(&self.keys_url).send().await.map_err(|error| error.to_string())?;
        let answer = answer.error_for_status().map_err(|error| error.to_string())?;
        let good_for = answer.headers().get(CACHE_CONTROL).and_then(|value| value.to_str().ok()).and_then(max_age);
        let bytes = answer.bytes().await.map_err(|error| error.to_string())?;
        if bytes.len() > MAX_KEYS_BYTES {
            return Err(format!("{} bytes are too many", bytes.len()));
        }
        let published: Published = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        let mut by_id = BTreeMap::new();
        for key in published.keys.into_iter().filter(|key| key.kty == "RSA") {
            by_id.insert(key.kid, DecodingKey::from_rsa_components(&key.n, &key.e).map_err(|error| error.to_string())?);
        }
        Ok((by_id, good_for.unwrap_or(Duration::from_secs(3600)).min(KEYS_AT_LEAST_EVERY)))
    }
}

/// `public, max-age=19200`.
fn max_age(text: &str) -> Option<Duration> {
    let seconds = text.split(',').find_map(|part| part.trim().strip_prefix("max-age="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

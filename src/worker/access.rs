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

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{self, KeyPair as _, RsaEncoding};
    use aws_lc_rs::{hmac, signature::RSA_PKCS1_SHA256};
    use axum::http::HeaderValue;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    const AUDIENCE: &str = "https://backups.example";
    const CALLER: &str = "scheduler@demo-project.iam.gserviceaccount.com";

    fn encoded(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    /// Signs whatever it is told to.
    struct Signer(KeyPair);

    impl Signer {
        fn new() -> Self {
            Self(KeyPair::generate(KeySize::Rsa2048).unwrap())
        }

        fn sign(&self, header: &Value, claims: &Value, how: &'static dyn RsaEncoding) -> String {
            let text = format!("{}.{}", encoded(header), encoded(claims));
            let mut signature = vec![0; self.0.public_modulus_len()];
            self.0.sign(how, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
            format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
        }

        fn published(&self, id: &str) -> Value {
            let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            let key = self.0.public_key();
            let (n, e) = (key.modulus(), key.exponent());
            let (n, e) = (n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero());
            json!({"kid": id, "kty": "RSA", "alg": "RS256", "use": "sig", "n": part(n), "e": part(e)})
        }
    }

    fn with(base: &Value, key: &str, value: Value) -> Value {
        let mut changed = base.clone();
        match value {
            Value::Null => changed.as_object_mut().unwrap().remove(key),
            value => changed.as_object_mut().unwrap().insert(key.into(), value),
        };
        changed
    }

    /// Tokens that are not Google's, not for this worker, not of now, or not of a caller that is named.
    fn bad_tokens(google: &Signer, header: &Value, claims: &Value) -> Vec<String> {
        let other = Signer::new();
        let by_google = |header: &Value, claims: &Value| google.sign(header, claims, &RSA_PKCS1_SHA256);
        let good = by_google(header, claims);
        let now = jiff::Timestamp::now().as_second();
        let mut tokens = Vec::new();

        // Cut off anywhere; one character of it another.
        tokens.extend((0..good.len()).map(|length| good[..length].to_string()));
        for at in (0..good.len()).step_by(3) {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            tokens.push(String::from_utf8(bytes).unwrap());
        }
        tokens.extend(["", ".", "..", "a.b.c", "Bearer"].map(String::from));
        tokens.push(format!("{good}.{good}"));

        // Unsigned, or "signed" with what everybody knows.
        let (_, signature) = good.rsplit_once('.').unwrap();
        for name in ["none", "None", "NONE", "nOnE", ""] {
            let text = format!("{}.{}", encoded(&with(header, "alg", json!(name))), encoded(claims));
            tokens.extend([format!("{text}."), text.clone(), format!("{text}.{signature}")]);
        }
        let public = google.published("first");
        let known = [public["n"].as_str().unwrap().as_bytes().to_vec(), public.to_string().into_bytes(), vec![]];
        let hmacs = [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)];
        for secret in known.iter().chain([&URL_SAFE_NO_PAD.decode(public["n"].as_str().unwrap()).unwrap()]) {
            for (name, algorithm) in hmacs {
                let text = format!("{}.{}", encoded(&with(header, "alg", json!(name))), encoded(claims));
                let tag = hmac::sign(&hmac::Key::new(algorithm, secret), text.as_bytes());
                tokens.push(format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag)));
            }
        }

        // By other keys and other algorithms, and with keys that the token brings along.
        tokens.push(other.sign(header, claims, &RSA_PKCS1_SHA256));
        let brought = other.published("first");
        for (key, value) in [
            ("jwk", brought.clone()),
            ("jku", json!("http://127.0.0.1:1/certs")),
            ("x5u", json!("http://127.0.0.1:1/cert")),
            ("kid", json!("second")),
            ("kid", json!("../../first")),
            ("kid", json!("")),
            ("kid", Value::Null),
        ] {
            tokens.push(other.sign(&with(header, key, value), claims, &RSA_PKCS1_SHA256));
        }
        tokens.extend(["second", "FIRST", ""].map(|kid| by_google(&with(header, "kid", json!(kid)), claims)));
        tokens.push(by_google(&with(header, "kid", Value::Null), claims));
        let hows: [(&str, &'static dyn RsaEncoding); 4] = [
            ("RS384", &signature::RSA_PKCS1_SHA384),
            ("RS512", &signature::RSA_PKCS1_SHA512),
            ("PS256", &signature::RSA_PSS_SHA256),
            ("RS256", &signature::RSA_PKCS1_SHA512),
        ];
        tokens.extend(hows.map(|(name, how)| google.sign(&with(header, "alg", json!(name)), claims, how)));

        // Signed by Google, and still no word for this worker.
        for (key, values) in [
            ("aud", vec![json!(""), json!("https://backups.example/"), json!("https://BACKUPS.example"), json!(["x"])]),
            ("aud", vec![json!("https://backups.example.evil"), json!([]), json!({}), json!(7), Value::Null]),
            ("iss", vec![json!("https://accounts.google.com.evil"), json!("accounts"), json!(""), Value::Null]),
            ("exp", vec![json!(now - 31), json!(now - 86_400), json!(0), json!(-1), json!("tomorrow"), Value::Null]),
            ("nbf", vec![json!(now + 3600)]),
            ("email", vec![json!("nobody@example.com"), json!(""), json!(CALLER.to_uppercase()), Value::Null]),
            ("email_verified", vec![json!(false), json!("true"), json!(1), Value::Null]),
        ] {
            tokens.extend(values.into_iter().map(|value| by_google(header, &with(claims, key, value))));
        }
        // The claims of another token below a signature that is good.
        for n in 0..50 {
            let text = format!("{}.{}", encoded(header), encoded(&with(claims, "jti", json!(n))));
            tokens.push(format!("{text}.{signature}"));
        }
        tokens
    }

    #[tokio::test]
    async fn no_forged_token_gets_in() {
        let google = Signer::new();
        let keys = json!({"keys": [google.published("first")]}).to_string();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().route("/oauth2/v3/certs", axum::routing::get(async || keys));
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let access = Access {
            tokens: vec![],
            identity: Some(Identity {
                audience: AUDIENCE.into(),
                callers: BTreeMap::from([(CALLER.to_string(), Role::Operator)]),
                keys_url: format!("{endpoint}/oauth2/v3/certs"),
                http: reqwest::Client::builder().no_proxy().build().unwrap(),
                keys: Mutex::new(Keys::default()),
            }),
        };
        let who = async |token: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
            access.who(&headers).await
        };
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": "first"});
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({
            "iss": "https://accounts.google.com", "aud": AUDIENCE, "sub": "1", "email": CALLER, "email_verified": true,
            "iat": now, "exp": now + 3600,
        });
        let good = google.sign(&header, &claims, &RSA_PKCS1_SHA256);
        assert_eq!(who(&good).await.unwrap(), Caller { name: CALLER.into(), role: Role::Operator });
        let bad = bad_tokens(&google, &header, &claims);
        assert!(bad.len() >= 500, "{}", bad.len());
        for token in &bad {
            let found = who(token).await;
            assert!(found.is_err(), "{token} got in as {:?}", found.ok());
        }
        println!("worker: {} forged tokens tried, none got in", bad.len());
        assert!(who(&good).await.is_ok(), "the good one still does");
        server.abort();
    }
}

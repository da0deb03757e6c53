//! Who is signed in by a browser: sessions in the memory of this process, named by a cookie that no script reads and no other
//! site sends. The calls of the API know no cookies.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use axum::http::header::COOKIE;

use super::access::Caller;
use crate::codec::digest::Digests;

const NAME: &str = "strongroom_session";
/// A session ends when it is not used for so long, and after so long in any case.
const IDLE: Duration = Duration::from_secs(3600);
const AT_MOST: Duration = Duration::from_secs(8 * 3600);
/// When there are more, the one that was not used for longest ends.
const MAX_SESSIONS: usize = 1000;

/// A browser's user.
#[derive(Debug, Clone)]
pub struct Visitor {
    pub caller: Caller,
    /// What every form of this session carries: another site cannot know it.
    pub form_token: String,
    /// Whether he can sign out: not where nobody is asked who he is.
    pub signed_in: bool,
}

struct Session {
    caller: Caller,
    form_token: String,
    began: Instant,
    used: Instant,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.used) > IDLE || now.duration_since(self.began) > AT_MOST
    }
}

/// The sessions of this process.
pub struct Sessions {
    /// By the digests of their ids.
    known: Mutex<BTreeMap<String, Session>>,
    nonce: Arc<dyn Fn() -> String + Send + Sync>,
    /// The token of forms where nobody signs in.
    form_token: String,
}

impl Sessions {
    pub fn new(nonce: Arc<dyn Fn() -> String + Send + Sync>) -> Self {
        Self { known: Mutex::default(), form_token: nonce(), nonce }
    }

    /// Begins a session, and gives the cookie that names it. A `secure` one is only sent over TLS.
    pub fn begin(&self, caller: Caller, secure: bool) -> String {
        let (id, form_token, now) = ((self.nonce)(), (self.nonce)(), Instant::now());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, session| !session.is_over(now));
        while known.len() >= MAX_SESSIONS {
            let Some(oldest) = known.iter().min_by_key(|(_, session)| session.used).map(|(id, _)| id.clone()) else {
                break;
            };
            known.remove(&oldest);
        }
        known.insert(digest(&id), Session { caller, form_token, began: now, used: now });
        cookie(&id, AT_MOST.as_secs(), secure)
    }

    /// Whose session it is.
    pub fn of(&self, headers: &HeaderMap) -> Option<Visitor> {
        let (id, now) = (digest(id(headers)?), Instant::now());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let session = known.get_mut(&id).filter(|session| !session.is_over(now))?;
        session.used = now;
        let (caller, form_token) = (session.caller.clone(), session.form_token.clone());
        Some(Visitor { caller, form_token, signed_in: true })
    }

    /// Ends the session, and gives the cookie that takes the other one away.
    pub fn end(&self, headers: &HeaderMap, secure: bool) -> String {
        if let Some(id) = id(headers) {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest(id));
        }
        cookie("", 0, secure)
    }

    /// Who looks where nobody is asked who he is, or shows a bearer token instead of a cookie.
    pub fn without(&self, caller: Caller) -> Visitor {
        Visitor { caller, form_token: self.form_token.clone(), signed_in: false }
    }
}

/// What is kept of an id does not open the session.
fn digest(id: &str) -> String {
    Digests::of(id.as_bytes()).sha256_hex()
}

fn id(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == NAME).map(|(_, id)| id)
}

fn cookie(id: &str, seconds: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{NAME}={id}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::config::Role;

    fn sessions() -> Sessions {
        let count = AtomicUsize::new(0);
        Sessions::new(Arc::new(move || format!("nonce{}", count.fetch_add(1, Ordering::Relaxed))))
    }

    fn with(cookie: &str) -> HeaderMap {
        let pair = cookie.split(';').next().unwrap();
        HeaderMap::from_iter([(COOKIE, format!("other=1; {pair}").parse().unwrap())])
    }

    #[test]
    fn a_cookie_names_a_session_until_it_ends() {
        let sessions = sessions();
        let caller = Caller { name: "Ann".into(), role: Role::Viewer };
        let cookie = sessions.begin(caller.clone(), true);
        assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Secure"), "{cookie}");
        let visitor = sessions.of(&with(&cookie)).unwrap();
        assert_eq!((visitor.caller, visitor.signed_in), (caller.clone(), true));
        // Neither another id, nor what is kept of this one, nor another session's.
        let id = cookie.split(['=', ';']).nth(1).unwrap();
        for other in ["", "nonce99", &digest(id)] {
            assert!(sessions.of(&with(&format!("{NAME}={other}"))).is_none(), "{other}");
        }
        let second = sessions.of(&with(&sessions.begin(caller, false))).unwrap();
        assert_ne!(second.form_token, visitor.form_token);
        assert!(sessions.end(&with(&cookie), true).contains("Max-Age=0"));
        assert!(sessions.of(&with(&cookie)).is_none());
    }

    #[test]
    fn a_session_that_is_old_or_not_used_is_over() {
        let began = Instant::now();
        let caller = Caller { name: "Ann".into(), role: Role::Viewer };
        let session =
            |used: Duration| Session { caller: caller.clone(), form_token: String::new(), began, used: began + used };
        for (used, now, over) in [
            (Duration::ZERO, IDLE, false),
            (Duration::ZERO, IDLE + Duration::from_secs(1), true),
            (AT_MOST - Duration::from_secs(60), AT_MOST, false),
            (AT_MOST, AT_MOST + Duration::from_secs(1), true),
        ] {
            assert_eq!(session(used).is_over(began + now), over, "{used:?} {now:?}");
        }
    }

    #[test]
    fn the_sessions_are_bounded() {
        let sessions = sessions();
        let caller = Caller { name: "Ann".into(), role: Role::Viewer };
        let first = sessions.begin(caller.clone(), false);
        for _ in 0..MAX_SESSIONS {
            sessions.begin(caller.clone(), false);
        }
        assert!(sessions.of(&with(&first)).is_none());
        assert_eq!(sessions.known.lock().unwrap().len(), MAX_SESSIONS);
    }
}

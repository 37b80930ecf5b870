//! Who a client is, where the coordinator asks: name and password become a token, and a new one
//! when the token is refused.
//!
//! Tokens end when they are not used for some minutes, when a user's password or roles change, and
//! with an etcd that restarts. So nobody counts their time: the answer says when one is over.
//!
//! **Invariant:** however many calls find their token refused, one of them logs in.
//! **Invariant:** neither password nor token is in any `Debug` or error text.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use http::{HeaderValue, Method};
use resilience::retry::Repeat;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::http::{Call, Client};

/// Name and password of a user.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Credentials {
    name: String,
    password: String,
}

impl Credentials {
    /// As the coordinator knows them.
    #[must_use]
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        Self { name: name.into(), password: password.into() }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What calls carry. There is no value where nobody asks.
#[derive(Clone, Debug)]
pub(super) struct Token {
    login: u64,
    value: Option<HeaderValue>,
}

impl Token {
    /// The call of this token's user.
    pub(super) fn put_on(&self, call: Call) -> Call {
        match &self.value {
            Some(value) => call.authorization(value.clone()),
            None => call,
        }
    }
}

/// One login, for all who wait for it.
type Login = Shared<BoxFuture<'static, Result<Token, Arc<Error>>>>;

/// A user's way in. Clones share their token.
#[derive(Clone)]
pub(super) struct Session {
    http: Client,
    credentials: Arc<Credentials>,
    /// The number of logins, and the last one. Held for a look only.
    last: Arc<Mutex<(u64, Option<Login>)>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(http: Client, credentials: Credentials) -> Self {
        Self { http, credentials: Arc::new(credentials), last: Arc::default() }
    }

    /// A token, but not the one that was refused.
    pub(super) async fn token(&self, refused: Option<&Token>) -> Result<Token, Error> {
        let login = self.login(refused.map(|token| token.login));
        login.await.map_err(|error| not_let_in(&error))
    }

    /// The last login if it is of use, or a new one.
    fn login(&self, refused: Option<u64>) -> Login {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, login) = &mut *last;
        let is_of_use = |login: &&Login| match login.peek() {
            Some(Ok(token)) => Some(token.login) != refused,
            Some(Err(_)) => false,
            None => true,
        };
        if let Some(login) = login.as_ref().filter(is_of_use) {
            return login.clone();
        }
        *count += 1;
        let next = log_in(self.http.clone(), Arc::clone(&self.credentials), *count);
        let next = next.boxed().shared();
        *login = Some(next.clone());
        next
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reply {
    token: String,
}

async fn log_in(
    http: Client,
    credentials: Arc<Credentials>,
    login: u64,
) -> Result<Token, Arc<Error>> {
    let call = http.call(Method::POST, "/v3/auth/authenticate").json(&*credentials);
    let reply = match call.repeat(Repeat::Safe).send().await {
        Ok(reply) => reply.json::<Reply>(),
        // Nobody asks yet. Once somebody does, the next call is refused.
        Err(error) if error.etcd_code() == Some(9) => return Ok(Token { login, value: None }),
        Err(error) => Err(error),
    };
    let mut value = HeaderValue::try_from(reply?.token)
        .map_err(|_| Error::bad_answer("the coordinator's token cannot be sent in a header"))?;
    value.set_sensitive(true);
    Ok(Token { login, value: Some(value) })
}

/// What each of those is told who waited for a login in vain: what they wanted was not even asked.
fn not_let_in(error: &Error) -> Error {
    let detail = match error.etcd_code() {
        Some(3) => format!("the coordinator does not let this user in: {}", error.detail),
        _ => error.detail.to_string(),
    };
    let mut told = Error::invalid(detail);
    told.status = error.status;
    told.code.clone_from(&error.code);
    told.trace_id.clone_from(&error.trace_id);
    told.retry_after = error.retry_after;
    told
}

/// Whether the caller was not known, so that nothing was done. Servers of every era say so by the
/// code, but two of their reasons share one with mistakes in the request.
pub(super) fn is_refused(error: &Error) -> bool {
    const REASONS: [&str; 2] = ["user name is empty", "revision of auth store is old"];
    match error.etcd_code() {
        Some(16) => true,
        Some(3) => REASONS.iter().any(|reason| error.detail.ends_with(reason)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let shown = format!("{:?}", Credentials::new("gateway", "hunter2"));
        assert!(shown.contains("gateway") && !shown.contains("hunter2"), "{shown}");
        let mut value = HeaderValue::from_static("secret.1");
        value.set_sensitive(true);
        let shown = format!("{:?}", Token { login: 1, value: Some(value) });
        assert!(!shown.contains("secret.1"), "{shown}");
    }

    #[test]
    fn only_an_unknown_caller_asks_again() {
        let error = |code: u32, detail: &str| {
            let mut error = Error::bad_answer(detail);
            error.code = format!("etcd-{code}").into();
            error
        };
        assert!(is_refused(&error(16, "etcdserver: invalid auth token")));
        assert!(is_refused(&error(3, "etcdserver: user name is empty")));
        assert!(is_refused(&error(3, "etcdserver: revision of auth store is old")));
        assert!(!is_refused(&error(3, "etcdserver: key is not provided")));
        assert!(!is_refused(&error(7, "etcdserver: permission denied")));
    }
}

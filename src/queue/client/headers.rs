//! Which request headers are ours, the operator's, and the sender's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHORIZATION, USER_AGENT,
};
use tokio::time::Instant;

use super::Attempt;
use super::secrets::{SecretSource, Watched};

/// Says which try of the same bytes this is; absent on the first. Prometheus sends it too.
const RETRY_ATTEMPT: HeaderName = HeaderName::from_static("retry-attempt");

/// Headers that neither the configuration nor a sender may set, in lower case.
///
/// Source: `reservedHeaders` and `unchangeableHeaders` in prometheus/config/config.go, and what
/// HTTP/1.1 itself uses (RFC 9110, 7.6.1).
const RESERVED: [&str; 24] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "retry-attempt",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "www-authenticate",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    "x-prometheus-remote-read-version",
    "x-prometheus-remote-write-version",
    "x-victoriametrics-remote-write-version",
];

/// Whether a header is ours alone: for checks where configuration is read.
pub fn is_reserved(name: &HeaderName) -> bool {
    RESERVED.contains(&name.as_str())
}

/// How we show a receiver who we are.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Not at all, unless the URL itself holds a user name.
    None,
    /// `Authorization: Bearer`.
    Bearer(SecretSource),
    /// `Authorization: Basic`.
    Basic {
        /// Must not contain a colon.
        username: String,
        /// The password.
        password: SecretSource,
    },
}

enum Credentials {
    None,
    Bearer(Watched),
    Basic { username: String, password: Watched },
}

/// Makes the headers of requests to one receiver.
pub(super) struct Headers {
    /// The same on every request.
    fixed: HeaderMap,
    credentials: Credentials,
}

impl Headers {
    /// # Errors
    /// When a header is reserved, or a value cannot stand in a header.
    pub(super) fn new(
        user_agent: &str,
        configured: &[(HeaderName, HeaderValue)],
        auth: &Auth,
    ) -> Result<Self, String> {
        let mut fixed = HeaderMap::new();
        for (name, value) in configured {
            if is_reserved(name) {
                return Err(format!("header {name} is reserved"));
            }
            let mut value = value.clone();
            // API keys are often given in headers of their own.
            value.set_sensitive(true);
            fixed.append(name.clone(), value);
        }
        let user_agent = HeaderValue::from_str(user_agent)
            .map_err(|_| "user agent: not a header value".to_owned())?;
        fixed.insert(USER_AGENT, user_agent);
        Ok(Self {
            fixed,
            credentials: Credentials::new(auth)?,
        })
    }

    /// Adds what an HTTP proxy wants to see on each request that it passes on.
    pub(super) fn authorize_proxy(&mut self, credentials: HeaderValue) {
        self.fixed.insert(PROXY_AUTHORIZATION, credentials);
    }

    /// The headers of one attempt.
    ///
    /// A sender's tenant headers come last in rank: what the operator wrote for this receiver
    /// stands, and reserved ones are ours.
    ///
    /// # Errors
    /// When the credentials cannot be read.
    pub(super) fn of(&self, attempt: &Attempt, now: Instant) -> Result<HeaderMap, String> {
        let mut headers = self.fixed.clone();
        for (name, value) in &attempt.tenant {
            if !self.fixed.contains_key(name) && !is_reserved(name) {
                headers.append(name, value.clone());
            }
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(attempt.content_type));
        headers.insert(
            CONTENT_ENCODING,
            HeaderValue::from_static(attempt.content_encoding),
        );
        let (name, version) = attempt.version_header;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
        headers.insert(name, HeaderValue::from_static(version));
        if attempt.number > 0 {
            headers.insert(RETRY_ATTEMPT, attempt.number.into());
        }
        self.show_who_we_are(&mut headers, now)?;
        Ok(headers)
    }

    /// The headers of a request that carries no samples.
    ///
    /// # Errors
    /// When the credentials cannot be read.
    pub(super) fn plain(&self, now: Instant) -> Result<HeaderMap, String> {
        let mut headers = self.fixed.clone();
        self.show_who_we_are(&mut headers, now)?;
        Ok(headers)
    }

    fn show_who_we_are(&self, headers: &mut HeaderMap, now: Instant) -> Result<(), String> {
        if let Some(credentials) = self.credentials.header(now)? {
            headers.insert(AUTHORIZATION, credentials);
        }
        Ok(())
    }

    /// Why a secret cannot be read anew, if so.
    pub(super) fn problem(&self) -> Option<String> {
        match &self.credentials {
            Credentials::None => None,
            Credentials::Bearer(secret)
            | Credentials::Basic {
                password: secret, ..
            } => secret.problem(),
        }
    }
}

impl Credentials {
    fn new(auth: &Auth) -> Result<Self, String> {
        Ok(match auth {
            Auth::None => Self::None,
            Auth::Bearer(source) => Self::Bearer(Watched::new(source.clone())),
            Auth::Basic { username, .. } if username.contains(':') => {
                return Err("basic auth: a user name must not contain a colon".to_owned());
            }
            Auth::Basic { username, password } => Self::Basic {
                username: username.clone(),
                password: Watched::new(password.clone()),
            },
        })
    }

    fn header(&self, now: Instant) -> Result<Option<HeaderValue>, String> {
        match self {
            Self::None => Ok(None),
            Self::Bearer(token) => {
                let token = token.get(now)?;
                sensitive(&format!("Bearer {}", token.expose())).map(Some)
            }
            Self::Basic { username, password } => {
                let password = password.get(now)?;
                basic(username, password.expose()).map(Some)
            }
        }
    }
}

/// The value of a Basic `Authorization` or `Proxy-Authorization` header.
pub(super) fn basic(username: &str, password: &str) -> Result<HeaderValue, String> {
    sensitive(&format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{password}"))
    ))
}

fn sensitive(value: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| "credentials contain a character that no header may have".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::client::fixture::attempt;
    use crate::queue::client::secrets::Secret;

    #[test]
    fn what_may_be_a_credential_is_never_printed() {
        let key = (
            "x-api-key".parse().unwrap(),
            HeaderValue::from_static("api-secret"),
        );
        let auth = Auth::Bearer(SecretSource::Inline(Secret::new("bearer-secret")));
        let mut headers = Headers::new("test/1", &[key], &auth).unwrap();
        headers.authorize_proxy(basic("me", "proxy-secret").unwrap());
        let headers = headers.of(&attempt("x"), Instant::now()).unwrap();
        assert_eq!(headers[AUTHORIZATION], "Bearer bearer-secret");
        let shown = format!("{headers:?} {auth:?}");
        assert!(!shown.contains("secret\""), "{shown}");
        assert_eq!(shown.matches("Sensitive").count(), 3, "{shown}");
    }

    #[test]
    fn a_secret_that_no_header_can_hold_is_an_error_without_its_text() {
        let auth = Auth::Bearer(SecretSource::Inline(Secret::new("two\nlines")));
        let headers = Headers::new("test/1", &[], &auth).unwrap();
        let error = headers.of(&attempt("x"), Instant::now()).unwrap_err();
        assert!(!error.contains("two"), "{error}");
    }
}

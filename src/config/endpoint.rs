//! Where a queue sends, and how it proves who it is.

use std::fmt;
use std::path::PathBuf;

use super::choice::ReceiverProfile;

/// Where a queue sends.
#[derive(Clone, Debug, PartialEq)]
pub enum EndpointConfig {
    /// Count and throw away. Written `discard:`.
    Discard,
    /// A receiver behind a URL.
    Http(HttpEndpoint),
}

/// A receiver behind a URL. Its `Debug` shows neither header values nor the URL's query.
#[derive(Clone, PartialEq)]
pub struct HttpEndpoint {
    /// Absolute, `http` or `https`, without user and password and without fragment.
    pub url: String,
    /// Sent with every request, in the order of the file. None of them is reserved, each name is
    /// there once (compared without case), and values are visible ASCII.
    pub headers: Vec<(String, String)>,
    /// What the `Authorization` header is made of.
    pub auth: Auth,
    /// How the receiver's certificate is judged.
    pub tls: TlsConfig,
    /// Forward proxy for this endpoint: absolute `http` URL without user and password.
    pub proxy_url: Option<String>,
    /// What kind of receiver it is. Default: [`ReceiverProfile::Auto`].
    pub receiver: ReceiverProfile,
}

impl HttpEndpoint {
    /// An endpoint at this URL, which must be valid, with everything else at its default.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            headers: Vec::new(),
            auth: Auth::None,
            tls: TlsConfig::default(),
            proxy_url: None,
            receiver: ReceiverProfile::Auto,
        }
    }

    /// The URL without its query, which may hold a key. For logs, metrics and the page.
    pub fn url_shown(&self) -> &str {
        self.url
            .split_once('?')
            .map_or(self.url.as_str(), |(shown, _)| shown)
    }
}

impl fmt::Debug for HttpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header_names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("HttpEndpoint")
            .field("url", &self.url_shown())
            .field("headers", &header_names)
            .field("auth", &self.auth)
            .field("tls", &self.tls)
            .field("proxy_url", &self.proxy_url)
            .field("receiver", &self.receiver)
            .finish()
    }
}

/// What the `Authorization` header is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Auth {
    /// No such header.
    None,
    /// `Bearer`, with a token from a file that is read again when it changes.
    Bearer {
        /// Absolute, or relative to the working directory.
        file: PathBuf,
    },
    /// `Bearer`, with a token from the configuration.
    BearerInline(Secret),
    /// `Basic`.
    Basic {
        /// Without a colon. May be empty.
        username: String,
        /// May be empty.
        password: Password,
    },
}

/// Where a password comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Password {
    /// A file that is read again when it changes.
    File(PathBuf),
    /// The configuration itself.
    Inline(Secret),
}

/// How the receiver's certificate is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM file with the authorities to trust instead of the system's. Read again when it changes.
    pub ca_file: Option<PathBuf>,
    /// Name expected in the certificate, when it is not the URL's host.
    pub server_name: Option<String>,
    /// Accept any certificate. Default: false.
    pub insecure_skip_verify: bool,
}

/// Text that is never shown: no `Display`, and `Debug` prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, to be put on the wire and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

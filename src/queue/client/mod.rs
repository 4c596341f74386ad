//! One HTTP POST to a receiver, or a question to its API.
//!
//! Everything that a receiver, a proxy or a network can do to a request ends here as one
//! [`Answer`]. What to do about it is decided elsewhere.
//!
//! * HTTP/1.1 only, one request at a time on a connection, connections kept and used again.
//! * One deadline over connecting, sending and the response headers. A response is judged by its
//!   headers; a body gets at most a second more, and costs at most a KiB.
//! * A kept connection that turns out to be closed costs one repetition, on a new connection.
//! * Nothing is followed (redirects), discovered (`HTTP_PROXY`) or decompressed.

mod answer;
mod ask;
mod connect;
mod failure;
mod headers;
mod link;
mod retry_after;
mod secrets;
mod target;
mod tls;
mod upload;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{self, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout};

pub use answer::{Answer, Response, Written};
pub use ask::{Question, Reply, Unanswered};
use connect::Connector;
pub use failure::{Failure, FailureKind};
pub use headers::{Auth, is_reserved};
use headers::{Headers, basic};
use link::Link;
pub use secrets::{Secret, SecretSource};
use target::{Target, is_link_local};
pub use tls::TlsOptions;
use upload::{Progress, Upload};

/// Below what load balancers allow by default (60 s and more), so that mostly we hang up first.
const IDLE: Duration = Duration::from_secs(50);

/// The response headers must about fit into this, with room to spare: receivers send a few hundred
/// bytes. Their number is limited too, to 100, by hyper.
const RESPONSE_HEAD_BYTES: usize = 64 * 1024;

/// What it takes to reach one receiver.
pub struct EndpointOptions {
    /// Where to post. A user name and password in it are used where `auth` is `None`.
    pub url: Uri,
    /// Sent with every request. Reserved names are refused, see [`is_reserved`].
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How we show who we are.
    pub auth: Auth,
    /// How an `https` receiver shows who it is.
    pub tls: TlsOptions,
    /// An `http` proxy to go through; a user name and password in it are sent to the proxy.
    pub proxy_url: Option<Uri>,
    /// Limit for name, address, proxy and TLS together.
    pub connect_timeout: Duration,
    /// Limit for an attempt up to complete response headers (`remote_timeout`).
    pub attempt_timeout: Duration,
    /// Idle connections to keep: as many as there may be requests at once (`max_shards`).
    pub max_connections: usize,
    /// Permits 169.254.0.0/16 and `fe80::/10`, where clouds hand out credentials.
    pub allow_link_local: bool,
    /// `name/version`.
    pub user_agent: String,
}

impl EndpointOptions {
    /// A receiver with everything else as Prometheus has it.
    pub fn new(url: Uri) -> Self {
        Self {
            url,
            headers: Vec::new(),
            auth: Auth::None,
            tls: TlsOptions::default(),
            proxy_url: None,
            connect_timeout: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(30),
            max_connections: 50,
            allow_link_local: false,
            user_agent: concat!("Sluicegate/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// One request, as the encoder made it.
#[derive(Clone)]
pub struct Attempt {
    /// The compressed body.
    pub body: Bytes,
    /// Without a space in it: Prometheus reads `; proto=` as remote write 1.0.
    pub content_type: &'static str,
    /// `snappy` or `zstd`.
    pub content_encoding: &'static str,
    /// Name and value of the header with the protocol's version.
    pub version_header: (&'static str, &'static str),
    /// The sender's headers that separate tenants. A header of `EndpointOptions` wins over them,
    /// and reserved names are left out.
    pub tenant: Vec<(HeaderName, HeaderValue)>,
    /// 0 for the first try of these bytes; above, it is sent as `Retry-Attempt`.
    pub number: u32,
}

type Http = legacy::Client<Connector, Upload>;

/// Posts to one receiver. Made once per endpoint; shared by all its shards.
pub struct Client {
    target: Target,
    headers: Headers,
    attempt_timeout: Duration,
    /// Keeps connections.
    kept: Http,
    /// Opens one for each request.
    fresh: Http,
}

/// An error, and whether the same request deserves a new connection at once.
struct Broken {
    error: Error,
    stale: bool,
}

impl Client {
    /// # Errors
    /// When the options contradict themselves or what they name cannot be read. A secret file may
    /// still be missing: it is looked for with each attempt.
    pub fn new(options: &EndpointOptions) -> Result<Self, String> {
        let target = Target::new(&options.url).map_err(|error| format!("url: {error}"))?;
        let proxy = options.proxy_url.as_ref().map(proxy_target).transpose()?;
        let link_local = target.literal_address().is_some_and(is_link_local);
        if link_local && !options.allow_link_local {
            return Err("url: link-local addresses are not allowed".to_owned());
        }
        let auth = match (&options.auth, &target.user) {
            (Auth::None, Some((username, password))) => Auth::Basic {
                username: username.clone(),
                password: SecretSource::Inline(Secret::new(password.as_str())),
            },
            (auth, _) => auth.clone(),
        };
        let mut headers = Headers::new(&options.user_agent, &options.headers, &auth)?;
        if let Some((name, password)) = proxy.as_ref().and_then(|proxy| proxy.user.as_ref())
            && !target.is_https()
        {
            headers.authorize_proxy(basic(name, password)?);
        }
        let connector = Connector::new(options, &target, proxy.as_ref())?;
        Ok(Self {
            target,
            headers,
            attempt_timeout: options.attempt_timeout,
            kept: http(connector.clone(), options.max_connections.max(1)),
            fresh: http(connector, 0),
        })
    }

    /// Sends a request and waits for its answer, `attempt_timeout` and a second at most.
    ///
    /// # Cancel safety
    /// Dropping the future closes its connection. The receiver may have stored the request.
    pub async fn post(&self, attempt: &Attempt) -> Answer {
        let headers = match self.headers.of(attempt, Instant::now()) {
            Ok(headers) => headers,
            Err(why) => return Answer::Failed(Failure::unsent(FailureKind::Other, why)),
        };
        let progress = Arc::new(Progress::default());
        let exchange = self.exchange(&headers, &attempt.body, &progress);
        let failure = match timeout(self.attempt_timeout, exchange).await {
            Ok(Ok(response)) => return Answer::Response(Response::read(response).await),
            Ok(Err(error)) => {
                // The outermost text is only "client error".
                Failure::explain(error.source().unwrap_or(&error), &self.target.peer)
            }
            Err(_) => self.too_late(&progress),
        };
        Answer::Failed(Failure {
            sent: progress.finished(),
            ..failure
        })
    }

    /// Why credentials cannot be read anew, while the last good ones are in use.
    pub fn problem(&self) -> Option<String> {
        self.headers.problem()
    }

    async fn exchange(
        &self,
        headers: &HeaderMap,
        body: &Bytes,
        progress: &Arc<Progress>,
    ) -> Result<hyper::Response<hyper::body::Incoming>, Error> {
        let request = || {
            let mut request = Request::new(Upload::new(body.clone(), Arc::clone(progress)));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = self.target.uri.clone();
            *request.headers_mut() = headers.clone();
            request
        };
        match send(&self.kept, request()).await {
            // A receiver that closes idle connections is not failing. Once, and never on another
            // kept connection: they may all be closed.
            Err(broken) if broken.stale => send(&self.fresh, request())
                .await
                .map_err(|broken| broken.error),
            outcome => outcome.map_err(|broken| broken.error),
        }
    }

    fn too_late(&self, progress: &Progress) -> Failure {
        let (limit, peer) = (self.attempt_timeout, &self.target.peer);
        let missing = if progress.finished() {
            "no response headers from"
        } else if progress.started() {
            "request not taken by"
        } else {
            "no connection to"
        };
        Failure::unsent(
            FailureKind::Timeout,
            format!("{missing} {peer} within {limit:?}"),
        )
    }
}

async fn send(
    http: &Http,
    mut request: Request<Upload>,
) -> Result<hyper::Response<hyper::body::Incoming>, Broken> {
    let connection = capture_connection(&mut request);
    let outcome = http.request(request).await;
    let link = Link::of(&connection);
    match outcome {
        Ok(response) => {
            if let Some(link) = link {
                link.answered(&connection);
            }
            Ok(response)
        }
        Err(error) => Err(Broken {
            error,
            stale: link.is_some_and(|link| link.was_stale()),
        }),
    }
}

/// The HTTP client with a pool of so many idle connections.
fn http(connector: Connector, idle_max: usize) -> Http {
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(idle_max)
        // Repeats only what never reached a connection; what did is ours to repeat.
        .retry_canceled_requests(true)
        .http1_max_buf_size(RESPONSE_HEAD_BYTES)
        // As Go writes them. Names are case-insensitive, but not to every box in between.
        .http1_title_case_headers(true)
        // Without this the whole body is copied once more for TLS.
        .http1_writev(true)
        .build(connector)
}

fn proxy_target(url: &Uri) -> Result<Target, String> {
    let proxy = Target::new(url).map_err(|error| format!("proxy_url: {error}"))?;
    if proxy.is_https() {
        return Err("proxy_url: only http:// proxies are supported".to_owned());
    }
    Ok(proxy)
}

//! From a receiver's URL to an open connection: name, address, proxy, TLS.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use hyper::Uri;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use super::EndpointOptions;
use super::failure::{Failure, FailureKind, causes, describe};
use super::headers::basic;
use super::link::{Stream, Tracked};
use super::target::{Target, is_link_local};

/// A peer that vanished without a word is noticed after a few of these, not after two hours.
const KEEPALIVE: Duration = Duration::from_secs(15);

type BoxError = Box<dyn Error + Send + Sync>;
type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Opens connections to one receiver, for the HTTP client's pool.
#[derive(Clone)]
pub(super) struct Connector {
    route: Route,
    proxied: bool,
    limit: Duration,
    words: Arc<Words>,
}

/// What messages call the things of this receiver.
struct Words {
    peer: String,
    trust: String,
}

#[derive(Clone)]
enum Route {
    Plain(Dial),
    Tls(HttpsConnector<Dial>),
}

impl Connector {
    /// # Errors
    /// When the TLS options cannot be met, or the proxy's credentials cannot stand in a header.
    pub(super) fn new(
        options: &EndpointOptions,
        receiver: &Target,
        proxy: Option<&Target>,
    ) -> Result<Self, String> {
        let tcp = Tcp::new(options);
        let dial = match proxy {
            None => Dial::Direct(tcp),
            Some(proxy) if receiver.is_https() => {
                let mut tunnel = Tunnel::new(proxy.uri.clone(), tcp);
                if let Some((name, password)) = &proxy.user {
                    tunnel = tunnel.with_auth(basic(name, password)?);
                }
                Dial::Tunnel(tunnel)
            }
            Some(proxy) => Dial::Forward(tcp, proxy.uri.clone()),
        };
        let route = if receiver.is_https() {
            let name = options.tls.name(receiver.uri.host().unwrap_or_default())?;
            let resolver = Arc::new(FixedServerNameResolver::new(name));
            Route::Tls(HttpsConnector::new(
                dial,
                options.tls.client_config()?,
                true,
                resolver,
            ))
        } else {
            Route::Plain(dial)
        };
        Ok(Self {
            route,
            proxied: proxy.is_some() && !receiver.is_https(),
            limit: options.connect_timeout,
            words: Arc::new(Words {
                peer: receiver.peer.clone(),
                trust: options.tls.trust(),
            }),
        })
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Tracked>;
    type Error = Failure;
    type Future = BoxFuture<Self::Response, Failure>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match &mut self.route {
            Route::Plain(dial) => dial.poll_ready(cx),
            Route::Tls(https) => https
                .poll_ready(cx)
                .map_err(|error| self.words.refused(error.as_ref())),
        }
    }

    fn call(&mut self, receiver: Uri) -> Self::Future {
        let opening: BoxFuture<Stream, BoxError> = match &mut self.route {
            Route::Plain(dial) => {
                let dialled = dial.call(receiver);
                Box::pin(async { Ok(MaybeHttpsStream::Http(dialled.await?)) })
            }
            Route::Tls(https) => https.call(receiver),
        };
        let Self { proxied, limit, .. } = *self;
        let words = Arc::clone(&self.words);
        Box::pin(async move {
            // Over all of it: a name server or a TLS peer that is silent is as bad as no route.
            match timeout(limit, opening).await {
                Ok(Ok(stream)) => Ok(TokioIo::new(Tracked::new(stream, proxied))),
                Ok(Err(error)) => Err(words.refused(error.as_ref())),
                Err(_) => Err(Failure::unsent(
                    FailureKind::Connect,
                    format!("no connection to {} within {limit:?}", words.peer),
                )),
            }
        })
    }
}

impl Words {
    /// An error of the way to the receiver as it is, and any other as one of TLS.
    fn refused(&self, error: &(dyn Error + 'static)) -> Failure {
        if let Some(known) = causes(error).find_map(|cause| cause.downcast_ref::<Failure>()) {
            return known.clone();
        }
        let tls = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>());
        let kind = if tls.is_some() {
            FailureKind::Tls
        } else {
            FailureKind::Connect
        };
        let hint = match tls {
            Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
                format!(" (checked against {})", self.trust)
            }
            Some(rustls::Error::InvalidMessage(_)) => " (is it plain HTTP?)".to_owned(),
            _ => String::new(),
        };
        let what = describe(error);
        Failure::unsent(kind, format!("TLS with {}: {what}{hint}", self.peer))
    }
}

/// The way to the receiver's first byte.
#[derive(Clone)]
enum Dial {
    Direct(Tcp),
    /// To a proxy that is given whole requests.
    Forward(Tcp, Uri),
    /// Through a proxy that is asked to `CONNECT`.
    Tunnel(Tunnel<Tcp>),
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = Failure;
    type Future = BoxFuture<Self::Response, Failure>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match self {
            Self::Direct(tcp) | Self::Forward(tcp, _) => tcp.poll_ready(cx),
            Self::Tunnel(tunnel) => tunnel.poll_ready(cx).map_err(|error| through_proxy(&error)),
        }
    }

    fn call(&mut self, receiver: Uri) -> Self::Future {
        match self {
            Self::Direct(tcp) => tcp.call(receiver),
            Self::Forward(tcp, proxy) => {
                let dialled = tcp.call(proxy.clone());
                Box::pin(async { dialled.await.map_err(|error| through_proxy(&error)) })
            }
            Self::Tunnel(tunnel) => {
                let dialled = tunnel.call(receiver);
                Box::pin(async { dialled.await.map_err(|error| through_proxy(&error)) })
            }
        }
    }
}

fn through_proxy(error: &(dyn Error + 'static)) -> Failure {
    match causes(error).find_map(|cause| cause.downcast_ref::<Failure>()) {
        Some(known) => Failure::unsent(known.kind, format!("proxy: {known}")),
        None => Failure::unsent(FailureKind::Connect, format!("proxy: {}", describe(error))),
    }
}

/// Plain TCP to where a URL points.
#[derive(Clone)]
struct Tcp {
    http: HttpConnector<Resolver>,
    allow_link_local: bool,
}

impl Tcp {
    fn new(options: &EndpointOptions) -> Self {
        let mut http = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(KEEPALIVE));
        http.set_keepalive_interval(Some(KEEPALIVE));
        // Shared among the addresses of a name, so a dead one leaves time for the others.
        http.set_connect_timeout(Some(options.connect_timeout));
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        http.set_tcp_user_timeout(Some(options.attempt_timeout));
        Self {
            http,
            allow_link_local: options.allow_link_local,
        }
    }
}

impl Service<Uri> for Tcp {
    type Response = TokioIo<TcpStream>;
    type Error = Failure;
    type Future = BoxFuture<Self::Response, Failure>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.http
            .poll_ready(cx)
            .map_err(|error| Failure::unsent(FailureKind::Dns, describe(&error)))
    }

    fn call(&mut self, place: Uri) -> Self::Future {
        let connecting = self.http.call(place.clone());
        let allow_link_local = self.allow_link_local;
        Box::pin(async move {
            let host = place.authority().map_or("", |authority| authority.as_str());
            let failed = |kind, why: String| Failure::unsent(kind, format!("{host}: {why}"));
            let stream = connecting.await.map_err(|error| {
                let dns = causes(&error).any(<dyn Error>::is::<Unresolved>);
                let kind = if dns {
                    FailureKind::Dns
                } else {
                    FailureKind::Connect
                };
                failed(kind, describe(&error))
            })?;
            // The address that answered, not the one that was asked for: names change.
            let address = stream
                .inner()
                .peer_addr()
                .map_err(|error| failed(FailureKind::Connect, error.to_string()))?;
            if is_link_local(address.ip()) && !allow_link_local {
                let why = format!(
                    "{} is a link-local address, which is not allowed",
                    address.ip()
                );
                return Err(failed(FailureKind::Connect, why));
            }
            Ok(stream)
        })
    }
}

/// The system's resolver, with errors that can be told from those of connecting.
#[derive(Clone)]
struct Resolver(GaiResolver);

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = Unresolved;
    type Future = BoxFuture<Self::Response, Unresolved>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unresolved>> {
        self.0.poll_ready(cx).map_err(Unresolved)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolving = self.0.call(name);
        Box::pin(async {
            let addresses: Vec<SocketAddr> = resolving.await.map_err(Unresolved)?.collect();
            if addresses.is_empty() {
                return Err(Unresolved(io::Error::other("no address")));
            }
            Ok(addresses.into_iter())
        })
    }
}

#[derive(Debug)]
struct Unresolved(io::Error);

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Unresolved {}

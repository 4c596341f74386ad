//! TLS and proxies on the way to a receiver.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::fixture::{
    NO_CONTENT, Received, Receiver, answer_all, failure, options, read_head, read_request, response,
};
use super::{Client, EndpointOptions, Failure, FailureKind};

/// An authority of its own, with its certificate in a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let folder = tempfile::tempdir().unwrap();
        // Of its own, or another authority would pass for this one with a bad signature.
        let name = folder.path().display().to_string();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        fs::write(folder.path().join("ca.pem"), pem).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            folder,
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A server with a certificate for `name` that ends in `year`.
    fn acceptor(&self, name: &str, year: i32) -> TlsAcceptor {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A receiver behind TLS that answers 204.
async fn secure(acceptor: TlsAcceptor) -> Receiver {
    Receiver::start(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer_all(stream, Bytes::from_static(NO_CONTENT)).await;
            }
        }
    })
    .await
}

fn trusting(address: SocketAddr, authority: &Authority) -> EndpointOptions {
    let mut options = options(&format!("https://{address}/write"));
    options.tls.ca_file = Some(authority.file());
    options
}

async fn refused(options: &EndpointOptions) -> Failure {
    let failure = failure(&Client::new(options).unwrap()).await;
    assert_eq!(
        (failure.kind, failure.sent),
        (FailureKind::Tls, false),
        "{failure}"
    );
    failure
}

#[tokio::test]
async fn a_receiver_is_believed_by_the_ca_file() {
    let authority = Authority::new();
    let receiver = secure(authority.acceptor("127.0.0.1", 2100)).await;
    let client = Client::new(&trusting(receiver.address, &authority)).unwrap();
    for _ in 0..3 {
        assert_eq!(response(&client).await.status, 204);
    }
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_certificate_of_an_unknown_ca_is_refused() {
    let (theirs, ours) = (Authority::new(), Authority::new());
    let receiver = secure(theirs.acceptor("127.0.0.1", 2100)).await;
    let failure = refused(&trusting(receiver.address, &ours)).await;
    assert!(failure.message.contains("UnknownIssuer"), "{failure}");
    assert!(failure.message.contains("ca.pem"), "{failure}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_unless_that_name_is_asked_for() {
    let authority = Authority::new();
    let receiver = secure(authority.acceptor("recv.example", 2100)).await;
    let mut options = trusting(receiver.address, &authority);
    let failure = refused(&options).await;
    assert!(failure.message.contains("not valid for name"), "{failure}");
    assert!(failure.message.contains("recv.example"), "{failure}");

    options.tls.server_name = Some("recv.example".to_owned());
    assert_eq!(response(&Client::new(&options).unwrap()).await.status, 204);
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let authority = Authority::new();
    let receiver = secure(authority.acceptor("127.0.0.1", 2001)).await;
    let failure = refused(&trusting(receiver.address, &authority)).await;
    assert!(failure.message.contains("expired"), "{failure}");
}

#[tokio::test]
async fn only_skipping_verification_accepts_anything() {
    let authority = Authority::new();
    let receiver = secure(authority.acceptor("recv.example", 2001)).await;
    let mut options = options(&format!("https://{}/", receiver.address));
    options.tls.insecure_skip_verify = true;
    assert_eq!(response(&Client::new(&options).unwrap()).await.status, 204);
}

#[tokio::test]
async fn plain_http_behind_an_https_url_is_named() {
    let receiver = Receiver::start(|mut stream, _| async move {
        // Some bytes of the greeting are enough to know that this is not HTTP.
        stream.read_u8().await.unwrap();
        let answer = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        tokio::io::copy(&mut stream, &mut tokio::io::sink())
            .await
            .ok();
    })
    .await;
    let authority = Authority::new();
    let failure = refused(&trusting(receiver.address, &authority)).await;
    assert!(failure.message.contains("is it plain HTTP?"), "{failure}");
}

#[tokio::test]
async fn a_silent_tls_peer_is_given_up_at_the_connect_timeout() {
    let receiver = Receiver::start(|mut stream, _| async move {
        tokio::io::copy(&mut stream, &mut tokio::io::sink())
            .await
            .ok();
    })
    .await;
    let authority = Authority::new();
    let mut options = trusting(receiver.address, &authority);
    options.connect_timeout = Duration::from_millis(100);
    let failure = failure(&Client::new(&options).unwrap()).await;
    assert_eq!(
        (failure.kind, failure.sent),
        (FailureKind::Connect, false),
        "{failure}"
    );
}

#[tokio::test]
async fn a_goodbye_of_tls_is_no_byte_of_a_response() {
    let authority = Authority::new();
    let acceptor = authority.acceptor("127.0.0.1", 2100);
    let receiver = Receiver::start(move |stream, nth| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            read_request(&mut stream).await.unwrap();
            stream.write_all(NO_CONTENT).await.unwrap();
            read_request(&mut stream).await.unwrap();
            assert_eq!(nth, 0);
            stream.shutdown().await.unwrap();
        }
    })
    .await;
    let client = Client::new(&trusting(receiver.address, &authority)).unwrap();
    assert_eq!(response(&client).await.status, 204);
    assert_eq!(response(&client).await.status, 204);
    assert_eq!(receiver.connections(), 2);
}

#[test]
fn a_ca_file_without_certificates_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let mut options = options("https://recv.example/");
    options.tls.ca_file = Some(path.clone());
    let error = |options: &EndpointOptions| Client::new(options).map(|_| ()).unwrap_err();
    assert!(error(&options).contains("ca.pem"));
    fs::write(&path, "nothing\n").unwrap();
    assert!(
        error(&options).contains("no certificate in it"),
        "{}",
        error(&options)
    );
}

/// A proxy that passes on what it is asked, and its requests' heads.
async fn proxy(status: &'static str) -> (Receiver, mpsc::UnboundedReceiver<Received>) {
    let (sender, requests) = mpsc::unbounded_channel();
    let proxy = Receiver::start(move |mut stream, _| {
        let sender = sender.clone();
        async move {
            let head = read_head(&mut stream).await.unwrap();
            let place = head.line.split(' ').nth(1).unwrap().to_owned();
            sender.send(head).unwrap();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            if status.starts_with("200") {
                let mut onward = TcpStream::connect(&place).await.unwrap();
                copy_bidirectional(&mut stream, &mut onward).await.ok();
            }
        }
    })
    .await;
    (proxy, requests)
}

#[tokio::test]
async fn an_http_receiver_behind_a_proxy_is_asked_for_by_its_whole_url() {
    let (sender, mut requests) = mpsc::unbounded_channel();
    let proxy = Receiver::start(move |mut stream, _| {
        let sender = sender.clone();
        async move {
            while let Some(request) = read_request(&mut stream).await {
                sender.send(request).unwrap();
                stream.write_all(NO_CONTENT).await.unwrap();
            }
        }
    })
    .await;
    let mut options = options("http://u:pw@recv.example:9/write?x=1");
    options.proxy_url = Some(format!("http://me:open@{}", proxy.address).parse().unwrap());
    let client = Client::new(&options).unwrap();
    for _ in 0..2 {
        assert_eq!(response(&client).await.status, 204);
        let request = requests.recv().await.unwrap();
        assert_eq!(
            request.line,
            "POST http://recv.example:9/write?x=1 HTTP/1.1"
        );
        assert_eq!(request.header("host"), Some("recv.example:9"));
        assert_eq!(
            request.header("proxy-authorization"),
            Some("Basic bWU6b3Blbg==")
        );
        assert_eq!(request.header("authorization"), Some("Basic dTpwdw=="));
    }
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn an_https_receiver_behind_a_proxy_is_reached_through_a_tunnel() {
    let authority = Authority::new();
    let receiver = secure(authority.acceptor("127.0.0.1", 2100)).await;
    let (proxy, mut requests) = proxy("200 OK").await;
    let mut options = trusting(receiver.address, &authority);
    options.proxy_url = Some(format!("http://me:open@{}", proxy.address).parse().unwrap());
    let client = Client::new(&options).unwrap();
    assert_eq!(response(&client).await.status, 204);
    assert_eq!(response(&client).await.status, 204);

    let head = requests.recv().await.unwrap();
    assert_eq!(head.line, format!("CONNECT {} HTTP/1.1", receiver.address));
    assert_eq!(
        head.header("proxy-authorization"),
        Some("Basic bWU6b3Blbg==")
    );
    assert_eq!((proxy.connections(), receiver.connections()), (1, 1));
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_and_nothing_was_sent() {
    let authority = Authority::new();
    for (status, word) in [
        ("407 No", "authorization required"),
        ("403 No", "unsuccessful"),
    ] {
        let (proxy, _requests) = proxy(status).await;
        let mut options = trusting(([127, 0, 0, 1], 9).into(), &authority);
        options.proxy_url = Some(format!("http://{}", proxy.address).parse().unwrap());
        let failure = failure(&Client::new(&options).unwrap()).await;
        assert_eq!(
            (failure.kind, failure.sent),
            (FailureKind::Connect, false),
            "{failure}"
        );
        assert!(failure.message.starts_with("proxy: "), "{failure}");
        assert!(failure.message.contains(word), "{failure}");
    }
}

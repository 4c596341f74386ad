//! Whom we believe when a receiver shows a certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::target::bare_host;

/// How to check an `https` receiver. The default believes what the system believes.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// PEM file with the certificates to believe instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The name to ask for and to check, where it is not the host of the URL.
    pub server_name: Option<String>,
    /// Accepts every certificate. Whoever stands between can then read and change everything.
    pub insecure_skip_verify: bool,
}

impl TlsOptions {
    /// The rustls configuration that these options describe.
    ///
    /// # Errors
    /// When `ca_file` cannot be read or holds no certificate, or the system has no roots.
    pub(super) fn client_config(&self) -> Result<ClientConfig, String> {
        // Passed explicitly: a process-wide default would be a race between libraries.
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = if self.insecure_skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AcceptAll { provider }))
        } else if let Some(path) = &self.ca_file {
            builder.with_root_certificates(roots(path)?)
        } else {
            builder
                .with_native_roots()
                .map_err(|error| format!("system certificates: {error}"))?
        };
        Ok(builder.with_no_client_auth())
    }

    /// The name that the receiver's certificate must carry.
    pub(super) fn name(&self, host: &str) -> Result<ServerName<'static>, String> {
        let name = bare_host(self.server_name.as_deref().unwrap_or(host));
        ServerName::try_from(name.to_owned()).map_err(|_| format!("not a server name: {name:?}"))
    }

    /// What certificates are measured against, for messages.
    pub(super) fn trust(&self) -> String {
        match &self.ca_file {
            Some(path) => format!("certificates in {}", path.display()),
            None => "system certificates".to_owned(),
        }
    }
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let failed = |error: String| format!("CA file {}: {error}", path.display());
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(failed("no certificate in it".to_owned()));
    }
    Ok(roots)
}

/// `insecure_skip_verify`: any certificate will do, but the peer must own its key.
#[derive(Debug)]
struct AcceptAll {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AcceptAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

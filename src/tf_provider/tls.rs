//! Mutual TLS with the one process that started us.

use std::sync::Arc;

use p521::ecdsa::signature::Verifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm, UnixTime,
    alg_id,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme, version,
};

/// ECDSA over P-521 with SHA-512, which the host's certificate uses and ring can't verify.
#[derive(Debug)]
struct EcdsaP521;

impl SignatureVerificationAlgorithm for EcdsaP521 {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(key).map_err(|_| InvalidSignature)?;
        let signature = p521::ecdsa::Signature::from_der(signature).map_err(|_| InvalidSignature)?;
        key.verify(message, &signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA512
    }
}

static CLIENT_ALGORITHMS: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[&EcdsaP521],
    mapping: &[(SignatureScheme::ECDSA_NISTP521_SHA512, &[&EcdsaP521])],
};

/// Accepts one certificate, compared to the byte, from a client that proves that it has the key.
///
/// The usual verifier can't be used: the host's certificate is its own issuer and marked as an authority.
#[derive(Debug)]
struct OnlyThisClient {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for OnlyThisClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if certificate.as_ref() == self.certificate.as_ref() {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A server's TLS: its configuration, and the certificate for the handshake line.
pub(super) struct Identity {
    pub(super) config: Arc<ServerConfig>,
    pub(super) certificate: CertificateDer<'static>,
}

/// Makes a certificate for this process and accepts the client whose certificate is given in PEM.
pub(super) fn identity(client_pem: &[u8]) -> Result<Identity, String> {
    let client = CertificateDer::from_pem_slice(client_pem)
        .map_err(|error| format!("failed to read the client's certificate from PLUGIN_CLIENT_CERT: {error}"))?;
    let provider = ring::default_provider();
    let verifier = OnlyThisClient { certificate: client, algorithms: algorithms(&provider) };
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])
        .map_err(|error| format!("failed to make a certificate: {error}"))?;
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|error| format!("failed to read back the key just made: {error}"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| format!("failed to set up TLS 1.3: {error}"))?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(vec![certificate.clone()], key)
        .map_err(|error| format!("failed to use the certificate just made: {error}"))?;
    // Terraform 1.13 and later refuse a server that doesn't negotiate HTTP/2.
    config.alpn_protocols = vec![b"h2".to_vec()];
    // There is one connection in a provider's life; nothing is ever resumed.
    config.send_tls13_tickets = 0;
    Ok(Identity { config: Arc::new(config), certificate })
}

/// P-521 for today's hosts; ring's own for hosts that change their key's type.
fn algorithms(provider: &CryptoProvider) -> WebPkiSupportedAlgorithms {
    static ALL: std::sync::OnceLock<WebPkiSupportedAlgorithms> = std::sync::OnceLock::new();
    *ALL.get_or_init(|| {
        let ring = provider.signature_verification_algorithms;
        WebPkiSupportedAlgorithms {
            all: Vec::leak([CLIENT_ALGORITHMS.all, ring.all].concat()),
            mapping: Vec::leak([CLIENT_ALGORITHMS.mapping, ring.mapping].concat()),
        }
    })
}

//! Requests as the provider block and the environment want them: proxies, certificate authorities, one TLS stack. AWS's SDK
//! and the HTTP checks have this in common.

mod proxy;

use std::error::Error;

use rustls::pki_types::pem::PemObject as _;

pub use self::proxy::Proxies;
use crate::home;
use crate::settings::Settings;

/// An error with everything that caused it, in one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many wrappers repeat their cause.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Makes ring the process's TLS provider; a second call changes nothing.
pub fn install_tls() {
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// With the proxies and the certificate authorities of the provider block and the environment.
pub fn on_network(mut builder: reqwest::ClientBuilder, settings: &Settings) -> Result<reqwest::ClientBuilder, String> {
    if let Some((name, path)) = ca_bundle(settings) {
        for certificate in read_bundle(&path).map_err(|reason| format!("{name} {path}: {reason}"))? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    let proxies = Proxies::of(settings);
    // The first call turns off the client's own reading of the environment.
    Ok(builder.no_proxy().proxy(reqwest::Proxy::custom(move |url| proxies.proxy_for(url))))
}

/// The file with further certificate authorities, and what names it.
pub fn ca_bundle(settings: &Settings) -> Option<(&'static str, String)> {
    let own = settings.custom_ca_bundle.as_ref().map(|path| ("custom_ca_bundle", home::expand(path)));
    let environment = || Some(("AWS_CA_BUNDLE", std::env::var("AWS_CA_BUNDLE").ok().filter(|path| !path.is_empty())?));
    own.or_else(environment)
}

/// The certificates of a PEM file.
pub fn read_bundle(path: &str) -> Result<Vec<reqwest::Certificate>, String> {
    let unreadable = |error: std::io::Error| format!("the file can't be read: {error}");
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("it is not a file".to_owned());
    }
    let pem = std::fs::read(path).map_err(unreadable)?;
    let (mut roots, mut certificates) = (rustls::RootCertStore::empty(), Vec::new());
    for (n, certificate) in rustls::pki_types::CertificateDer::pem_slice_iter(&pem).enumerate() {
        let wrong = |error: String| format!("certificate {} can't be read: {error}", n + 1);
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        certificates.push(reqwest::Certificate::from_der(&certificate).map_err(|error| wrong(chain(&error)))?);
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if certificates.is_empty() {
        return Err("there is no certificate in the file; it must hold -----BEGIN CERTIFICATE-----".to_owned());
    }
    Ok(certificates)
}

/// What is wrong with the file with certificate authorities: what names it, its path, and why.
pub fn wrong_bundle(settings: &Settings) -> Option<(&'static str, String, String)> {
    let (name, path) = ca_bundle(settings)?;
    let reason = read_bundle(&path).err()?;
    Some((name, path, reason))
}

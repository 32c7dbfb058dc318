//! TLS on both sides of a connection that is read.
//!
//! To the client the gateway is the server, by certificates of an authority that exists for this run
//! alone: its key is made here and never leaves this process, and its certificate is believed by
//! nobody but the programs of the run. To the server the gateway is an ordinary client, which
//! believes the machine's authorities and accepts no certificate that they would not.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::credential::base64;
use crate::plan::egress::Wanted;

/// Certificates that are kept; more names than this are certified each time.
const NAMES_MAX: usize = 256;
pub(super) const H2: &[u8] = b"h2";
const H1: &[u8] = b"http/1.1";

/// The run's own authority, with what the gateway believes itself.
pub(super) struct Tls {
    issuer: Issuer<'static, KeyPair>,
    authority: CertificateDer<'static>,
    /// One key for all names, which costs nothing where all certificates end with the run.
    key: KeyPair,
    provider: Arc<CryptoProvider>,
    client: Arc<ClientConfig>,
    known: RefCell<BTreeMap<String, Arc<ServerConfig>>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

fn words(error: impl Display) -> String {
    error.to_string()
}

impl Tls {
    /// Makes the authority. `trusted` are the machine's certificates, as text.
    pub(super) fn new(trusted: &[Vec<u8>]) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "rung, for one run");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let signing = KeyPair::generate().map_err(words)?;
        let authority = params.self_signed(&signing).map_err(words)?.der().clone();
        Ok(Self {
            issuer: Issuer::new(params, signing),
            authority,
            key: KeyPair::generate().map_err(words)?,
            client: Arc::new(client(&provider, trusted)?),
            provider,
            known: RefCell::default(),
        })
    }

    /// What the programs of the run have to believe.
    pub(super) fn authority(&self) -> Vec<u8> {
        pem(&self.authority).into_bytes()
    }

    /// As whom the gateway speaks to a client that asked for this.
    pub(super) fn server(&self, wanted: &Wanted) -> Result<Arc<ServerConfig>, String> {
        let name = wanted.to_string();
        if let Some(known) = self.known.borrow().get(&name) {
            return Ok(Arc::clone(known));
        }
        let mut params = CertificateParams::new(vec![name.clone()]).map_err(words)?;
        params.distinguished_name.push(DnType::CommonName, "rung, for one name");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&self.key, &self.issuer).map_err(words)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(words)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .map_err(words)?;
        config.alpn_protocols = vec![H2.to_vec(), H1.to_vec()];
        let config = Arc::new(config);
        let mut known = self.known.borrow_mut();
        if known.len() < NAMES_MAX {
            known.insert(name, Arc::clone(&config));
        }
        Ok(config)
    }

    /// As whom it speaks to a server.
    pub(super) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }
}

fn client(provider: &Arc<CryptoProvider>, trusted: &[Vec<u8>]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for text in trusted {
        // One that is odd is one that is not believed.
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(text).flatten());
    }
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(words)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![H2.to_vec(), H1.to_vec()];
    Ok(config)
}

/// Whose certificate a server has to show.
pub(super) fn server_name(wanted: &Wanted) -> Result<ServerName<'static>, String> {
    match wanted {
        Wanted::Name(name) => ServerName::try_from(name.to_string()).map_err(words),
        Wanted::Address(address) => Ok(ServerName::from(*address)),
    }
}

/// RFC 7468.
fn pem(der: &[u8]) -> String {
    const LINE: usize = 64;
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in base64(der).chunks(LINE) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HostName;

    #[test]
    fn a_certificate_as_text_is_the_same_certificate() {
        for length in [1, 2, 3, 47, 48, 49, 500] {
            let bytes: Vec<u8> = (0..length).map(|it| u8::try_from(it % 251).unwrap()).collect();
            let text = pem(&bytes);
            let read = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
            assert_eq!(read.as_ref(), bytes, "{text}");
        }
    }

    #[test]
    fn two_runs_have_two_authorities_and_a_name_one_certificate() {
        let (one, two) = (Tls::new(&[]).unwrap(), Tls::new(&[]).unwrap());
        assert_ne!(one.authority(), two.authority());
        let wanted = Wanted::Name(HostName::parse(b"a.test").unwrap());
        let first = one.server(&wanted).unwrap();
        assert!(Arc::ptr_eq(&first, &one.server(&wanted).unwrap()));
        assert!(!format!("{one:?}").contains("key"));
    }

    #[test]
    fn what_is_no_certificate_is_not_believed_and_keeps_nothing_up() {
        let own = Tls::new(&[]).unwrap().authority();
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
        Tls::new(&[broken, own, b"nothing".to_vec()]).unwrap();
    }
}

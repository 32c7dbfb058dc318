//! A server that speaks TLS, with certificates of an authority of its own, and remembers who asked
//! for what.

use std::convert::Infallible;
use std::fs;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsAcceptor;

use super::network::{Files, found, kind_of};
use crate::harness::{Place, put};

#[derive(Debug, Clone)]
pub(super) struct Secure {
    pub(super) port: u16,
    /// The certificate of its authority, as text.
    pub(super) authority: String,
    pub(super) seen: Arc<Mutex<Vec<String>>>,
    pub(super) files: Files,
}

#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(async move { drop(future.await) });
    }
}

/// Comes in two parts, wherever the test wants them to be cut.
struct Parts(Vec<Bytes>);

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = (!self.0.is_empty()).then(|| self.0.remove(0));
        std::task::Poll::Ready(next.map(|it| Ok(Frame::data(it))))
    }
}

impl Secure {
    /// For these names; the certificates are shown for whatever name a client asks.
    pub(super) fn new(names: &[&str]) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority of the test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let signing = KeyPair::generate().unwrap();
        let authority = params.self_signed(&signing).unwrap();
        let issuer = Issuer::new(params, signing);
        let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self {
            port,
            authority: text(authority.der()),
            seen: Arc::default(),
            files: Arc::default(),
        };
        // Where the machine has no IPv6 there is no test that needs it.
        let newer = TcpListener::bind(("::1", port)).ok();
        for listener in [Some(listener), newer].into_iter().flatten() {
            let (own, config) = (server.clone(), config.clone());
            std::thread::spawn(move || own.serve(listener, config));
        }
        server
    }

    fn serve(&self, listener: TcpListener, config: ServerConfig) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        listener.set_nonblocking(true).unwrap();
        LocalSet::new().block_on(&runtime, async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                let (own, acceptor) = (self.clone(), acceptor.clone());
                spawn_local(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let service = service_fn(move |request| {
                        let own = own.clone();
                        async move { Ok::<_, Infallible>(own.answer(&request)) }
                    });
                    let stream = TokioIo::new(stream);
                    if h2 {
                        drop(http2::Builder::new(Local).serve_connection(stream, service).await);
                    } else {
                        drop(http1::Builder::new().serve_connection(stream, service).await);
                    }
                });
            }
        });
    }

    /// `/echo` gives the request's headers back, in a header and in the body.
    fn answer(&self, request: &Request<Incoming>) -> Response<Parts> {
        let version = if request.version() == Version::HTTP_2 { "h2" } else { "h1" };
        let mut seen = format!("{version} {} {}\n", request.method(), request.uri().path());
        for (name, value) in request.headers() {
            seen += &[name.as_str(), ": ", value.to_str().unwrap(), "\n"].concat();
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen.clone());
        let path = request.uri().path();
        let body = match path {
            "/echo" => Some(seen.into_bytes()),
            _ => found(&self.files, path),
        };
        let status = if body.is_some() { 200 } else { 404 };
        let body = body.unwrap_or_default();
        let half = body.len() / 2;
        let parts = [&body[..half], &body[half..]];
        let parts = parts.map(Bytes::copy_from_slice).to_vec();
        let mut response = Response::builder().status(status).header("content-type", kind_of(path));
        if let Some(value) = request.headers().get("authorization") {
            response = response.header("x-echo", value);
        }
        response.body(Parts(parts)).unwrap()
    }

    /// Runs of this place believe its authority.
    pub(super) fn trusted_by(&self, place: &Place) {
        let authority = place.home.join(".config/rung/authority.pem");
        put(&authority, &self.authority);
        let config = place.home.join(".config/rung/config.toml");
        let text = fs::read_to_string(&config).unwrap();
        put(&config, &format!("{text}authorities = \"{}\"\n", authority.display()));
    }

    /// `h2 GET /path` and the headers of each request since the last time.
    pub(super) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn text(der: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let byte = |it| u32::from(three.get(it).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for place in 0..4 {
                let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
                text.push(if place <= three.len() { char::from(letter) } else { '=' });
            }
        }
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

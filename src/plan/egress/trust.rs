//! Whose certificates are believed: by the gateway, and inside a run that has something to read.
//!
//! The gateway opens TLS to what it reads, with certificates of an authority that exists for the one
//! run. The programs of the run are told about it where programs look: in the files by which systems
//! name their authorities, and in the variables that name such a file. Nothing of the host changes.

use std::path::{Path, PathBuf};

use crate::model::{HostFacts, PathKind};

/// Where systems keep the certificates of all authorities in one file: Debian, Fedora, SUSE, and what
/// libraries have compiled in.
pub const STORES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Of one such file.
pub const TRUST_BYTES_MAX: u64 = 1 << 20;
/// The same file of the run's own, for the variables.
pub(crate) const AUTHORITIES: &str = "/run/authorities.pem";
/// By which programs are told where it is: OpenSSL and what is built on it, Node, Deno, Python's
/// requests and pip, cargo, git, curl, and the tools of two clouds.
pub(crate) const VARIABLES: [&str; 11] = [
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "CURL_CA_BUNDLE",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "NIX_SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
];

/// The machine's own store, and the file that the user's settings add to it.
pub(super) fn of(host: &HostFacts) -> Vec<PathBuf> {
    let mut stores = found(host);
    let own = stores.next().map(Path::to_path_buf);
    own.into_iter().chain(host.authorities.clone()).collect()
}

/// The stores of this machine, each once.
pub(crate) fn found(host: &HostFacts) -> impl Iterator<Item = &Path> {
    let facts = STORES.iter().filter_map(|it| host.path(Path::new(it)));
    let files = facts.filter(|it| it.canonical_kind == PathKind::File);
    let mut seen: Vec<&Path> = Vec::new();
    files.filter_map(move |it| {
        let path = it.canonical.as_path();
        let new = !seen.contains(&path);
        seen.push(path);
        new.then_some(path)
    })
}

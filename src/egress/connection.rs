//! One connection of the sandbox, from the moment it is accepted.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Bytes;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::gateway::State;
use super::http::{self, Client};
use super::meter::Cut;
use super::proxy;
use super::relay::{self, End, Pair};
use super::request::Target;
use crate::model::HostName;
use crate::plan::egress::{Allowed, Pool, Refused, Wanted};

/// For each address that is tried.
const CONNECT: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Why there is no connection.
pub(super) enum Closed {
    Refused(Refused),
    Cut(Cut),
}

impl From<Refused> for Closed {
    fn from(why: Refused) -> Self {
        Self::Refused(why)
    }
}

impl From<Cut> for Closed {
    fn from(cut: Cut) -> Self {
        Self::Cut(cut)
    }
}

/// Whom the connection is for says the address at which it arrived.
pub(super) async fn serve(client: TcpStream, state: Rc<State>) {
    let Ok(at) = client.local_addr() else { return relay::reset(&client) };
    // In a namespace of both, the run's own addresses are served as well, and lead nowhere.
    if state.plan.pool.is_own(at.ip()) {
        return relay::reset(&client);
    }
    if state.plan.pool.is_gateway(at.ip()) && at.port() == Pool::PROXY_PORT {
        return proxy::serve(client, &state).await;
    }
    let wanted = state.wanted(at.ip());
    if let Some(to) = read(&wanted, at.port(), &state) {
        let client = Client { before: Bytes::new(), stream: client };
        return http::serve(client, target(wanted, at.port()), to, &state).await;
    }
    match open(&wanted, at.port(), &state).await {
        Ok((server, to)) => join(client, server, to, (&wanted, at.port()), &state).await,
        Err(closed) => {
            state.closed(&wanted, at.port(), closed);
            relay::reset(&client);
        }
    }
}

/// The destinations of a connection that is read; nothing for one that is carried unread, or that
/// will be refused.
pub(super) fn read(wanted: &Wanted, port: u16, state: &State) -> Option<Allowed> {
    let to = state.plan.decide(wanted, port).ok()?;
    (state.plan.inspects(&to) || state.plan.lends(wanted)).then_some(to)
}

/// What a connection begins as.
pub(super) fn target(wanted: Wanted, port: u16) -> Target {
    Target { wanted, port, tls: false }
}

/// Relays until the end, and records an end by force.
pub(super) async fn join(
    client: TcpStream,
    server: TcpStream,
    to: Allowed,
    (wanted, port): (&Wanted, u16),
    state: &Rc<State>,
) {
    let name = match wanted {
        Wanted::Name(name) => Some(name.clone()),
        Wanted::Address(_) => None,
    };
    let pair = Pair { client, server, to, name };
    match relay::relay(&pair, state).await {
        Ok(()) | Err(End::Lost) => {}
        Err(End::Cut(cut)) => state.closed(wanted, port, cut.into()),
        Err(End::Refused(why)) => state.closed(wanted, port, why.into()),
    }
}

/// Decides, finds out where that is, looks at the address, and connects: in this order.
pub(super) async fn open(
    wanted: &Wanted,
    port: u16,
    state: &Rc<State>,
) -> Result<(TcpStream, Allowed), Closed> {
    let to = state.plan.decide(wanted, port)?;
    state.meters.borrow_mut().connect(&state.plan, &to)?;
    let addresses = match wanted {
        Wanted::Address(address) => vec![*address],
        Wanted::Name(name) => addresses(name, state).await?,
    };
    // One bad address among good ones is somebody's try to get in.
    for address in &addresses {
        state.plan.check_address(&to, *address)?;
        if !state.is_opened(&to, *address) && is_own(*address) {
            return Err(Refused::OwnAddress { address: *address }.into());
        }
    }
    let mut why = String::new();
    for address in addresses.iter().take(ADDRESSES_MAX) {
        match timeout(CONNECT, connect((*address, port).into())).await {
            Ok(Ok(server)) => return Ok((server, to)),
            Ok(Err(error)) => why = format!("connecting to {address} failed: {error}"),
            Err(_) => why = format!("connecting to {address} took too long"),
        }
    }
    Err(Refused::Unreachable(why).into())
}

async fn addresses(name: &HostName, state: &Rc<State>) -> Result<Vec<IpAddr>, Refused> {
    state.resolver.addresses(name).await.map_err(Refused::Unreachable)
}

async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether an address is one of this machine's: a datagram to it would come from itself. Asking
/// the routing table in this way sends nothing, and is never out of date.
fn is_own(address: IpAddr) -> bool {
    let ask = || -> nix::Result<bool> {
        use nix::sys::socket::{connect, getsockname, socket};
        use std::os::fd::AsRawFd;
        const PORT_DISCARD: u16 = 9;
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        connect(
            socket.as_raw_fd(),
            &SockaddrStorage::from(SocketAddr::new(address, PORT_DISCARD)),
        )?;
        let own: SockaddrStorage = getsockname(socket.as_raw_fd())?;
        let v4 = own.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        let v6 = own.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip()));
        Ok(v4.or(v6) == Some(address))
    };
    // Without a route there is no connection either.
    ask().unwrap_or(false)
}

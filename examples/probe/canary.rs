//! Whoever is called: a server at every address, which remembers where it was called.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};

use crate::system::pause_for_ever;
use crate::{Refused, Tried, Unclear};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhere";

/// Answers at these ports, over TCP and UDP and both protocols of the internet, and appends a line to
/// the file for each contact. Says "ready".
pub(crate) fn serve(ports: &str, contacts: &str) -> Tried {
    for port in ports.split(',') {
        let port: u16 = port.parse().map_err(|_| Refused::Not(Unclear::Usage))?;
        let any = SocketAddr::from(([0_u16; 8], port));
        let listener = TcpListener::bind(any)?;
        let file = OpenOptions::new().append(true).open(contacts)?;
        std::thread::spawn(move || streams(&listener, &file));
        let socket = UdpSocket::bind(any)?;
        let file = OpenOptions::new().append(true).open(contacts)?;
        std::thread::spawn(move || datagrams(&socket, port, &file));
    }
    let mut out = std::io::stdout();
    out.write_all(b"ready\n")?;
    out.flush()?;
    pause_for_ever()
}

fn streams(listener: &TcpListener, mut file: &File) {
    for mut stream in listener.incoming().flatten() {
        if let Ok(at) = stream.local_addr() {
            drop(file.write_all(format!("tcp {at}\n").as_bytes()));
        }
        drop(stream.read(&mut [0; 4096]).and_then(|_| stream.write_all(ANSWER)));
    }
}

fn datagrams(socket: &UdpSocket, port: u16, mut file: &File) {
    let mut buffer = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        drop(file.write_all(format!("udp {port}\n").as_bytes()));
        drop(socket.send_to(buffer.get(..length).unwrap_or_default(), from));
    }
}

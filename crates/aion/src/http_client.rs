//! Short requests to a daemon on this machine, over HTTP/1.0, blocking.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;

/// More of an answer is not read: what is asked for here is short.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// One request.
pub(crate) struct Request<'a> {
    pub(crate) method: &'static str,
    pub(crate) path: &'a str,
    /// `name: value` with a line end each.
    pub(crate) headers: &'a str,
    pub(crate) body: &'a [u8],
    /// For connecting, and for each read and write.
    pub(crate) timeout: Duration,
}

/// The status code of the answer and its body.
pub(crate) fn send(to: SocketAddr, request: &Request<'_>) -> anyhow::Result<(u16, String)> {
    let to = reachable(to);
    let mut stream = TcpStream::connect_timeout(&to, request.timeout)
        .with_context(|| format!("connect to {to}"))?;
    stream.set_read_timeout(Some(request.timeout))?;
    stream.set_write_timeout(Some(request.timeout))?;
    let head = format!(
        "{} {} HTTP/1.0\r\nhost: {to}\r\ncontent-length: {}\r\n{}\r\n",
        request.method,
        request.path,
        request.body.len(),
        request.headers
    );
    stream.write_all(head.as_bytes()).with_context(|| format!("write to {to}"))?;
    stream.write_all(request.body).with_context(|| format!("write to {to}"))?;
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    read.with_context(|| format!("read from {to}"))?;
    parse(&String::from_utf8_lossy(&answer)).with_context(|| format!("{to} does not speak HTTP"))
}

/// An address to connect to for one that something listens on: not `0.0.0.0`.
pub(crate) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let answer = "HTTP/1.0 503 Service Unavailable\r\ndate: x\r\n\r\nNOT OK\nstarting\n";
        assert_eq!(parse(answer), Some((503, "NOT OK\nstarting\n".to_owned())));
        assert_eq!(parse("SSH-2.0-OpenSSH_9.2\r\n"), None);
        assert_eq!(parse("HTTP/1.1 abc\r\n\r\n"), None);
    }

    #[test]
    fn what_listens_everywhere_is_reached_here() {
        let check = |from: &str, to: &str| {
            assert_eq!(reachable(from.parse().unwrap()), to.parse().unwrap());
        };
        check("0.0.0.0:1", "127.0.0.1:1");
        check("[::]:1", "[::1]:1");
        check("10.0.0.1:1", "10.0.0.1:1");
    }
}

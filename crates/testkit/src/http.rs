//! A small blocking HTTP/1.1 client for tests: one kept-alive connection, nothing else.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Largest answer that a test expects, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header lines as sent: name in lower case, value trimmed.
    pub headers: Vec<(String, String)>,
    /// The body, chunks joined, not decompressed.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    /// The body as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

/// A client of one address; connects when needed and keeps the connection.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    timeout: Duration,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    /// A client that gives up on a read or write after `timeout`.
    pub fn new(address: SocketAddr, timeout: Duration) -> Client {
        Client { address, timeout, connection: None }
    }

    /// `GET`.
    ///
    /// # Errors
    /// When the peer cannot be reached or does not speak HTTP.
    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send("GET", path, &[], &[])
    }

    /// `POST` with headers and a body.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        self.send("POST", path, headers, body)
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        connection.get_mut().write_all(&bytes)?;
        let answer = read_answer(&mut connection)?;
        if answer.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.address, self.timeout)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }
}

/// Percent-encodes a query parameter.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn read_answer(connection: &mut BufReader<TcpStream>) -> io::Result<Answer> {
    let status_line = read_line(connection)?;
    let status = status_line.split(' ').nth(1).and_then(|it| it.parse().ok());
    let status = status.ok_or_else(|| invalid(&format!("not a status line: {status_line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(connection)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    if answer.header("transfer-encoding") == Some("chunked") {
        read_chunks(connection, &mut answer.body)?;
    } else {
        let length = answer.header("content-length").map(str::parse).transpose();
        let length = length.map_err(|_| invalid("bad content-length"))?.unwrap_or(0_usize);
        read_body(connection, &mut answer.body, length)?;
    }
    Ok(answer)
}

fn read_chunks(connection: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = read_line(connection)?;
        let length = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(|_| invalid(&format!("not a chunk size: {line:?}")))?;
        read_body(connection, body, length)?;
        read_line(connection)?;
        if length == 0 {
            return Ok(());
        }
    }
}

fn read_body(
    connection: &mut BufReader<TcpStream>,
    body: &mut Vec<u8>,
    length: usize,
) -> io::Result<()> {
    let start = body.len();
    if start.saturating_add(length) > ANSWER_BYTES_MAX {
        return Err(invalid("the answer is larger than a test expects"));
    }
    body.resize(start + length, 0);
    connection.read_exact(&mut body[start..])
}

fn read_line(connection: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer hung up"));
    }
    line.truncate(line.trim_end().len());
    Ok(line)
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

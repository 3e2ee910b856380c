//! A schema registry for tests: an HTTP server on a free port with scripted responses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A request that the server received.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The method and the path, such as `GET /config`.
    pub line: String,
    /// The header lines.
    pub headers: Vec<String>,
    pub body: String,
}

pub struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server; `answer` maps a request's method and path to a status and a body.
    pub fn start(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let (log, stop) = (requests.clone(), ended.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let mut stream = stream.unwrap();
                let request = read(&stream);
                let (status, body) = answer(&request.line);
                log.lock().unwrap().push(request);
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close");
                // A client that has what it wants, or has waited enough, may be gone.
                let _ = stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes());
            }
        });
        Server {
            address,
            requests,
            ended,
            thread: Some(thread),
        }
    }

    /// Starts a server with fixed bodies by method and path; any other request gets a 404.
    pub fn with(answers: &[(&'static str, String)]) -> Server {
        let answers = answers.to_vec();
        Server::start(move |line| {
            let answer = answers.iter().find(|(path, _)| *path == line);
            answer.map_or_else(not_found, |(_, body)| (200, body.clone()))
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests received so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The response to an unknown schema id.
pub fn not_found() -> (u16, String) {
    let body = r#"{"error_code":40403,"message":"Schema 7 not found"}"#;
    (404, body.into())
}

/// The response with a schema.
pub fn stored(schema: &str) -> String {
    serde_json::json!({ "schema": schema }).to_string()
}

fn read(stream: &TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_string();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let first = lines.remove(0);
    let length = lines.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let named = name.eq_ignore_ascii_case("content-length");
        named.then(|| value.parse::<usize>().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    Request {
        line: first.trim_end_matches(" HTTP/1.1").into(),
        headers: lines,
        body: String::from_utf8(body).unwrap(),
    }
}

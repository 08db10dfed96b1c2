//! A recording HTTP listener on loopback whose answers a test decides.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use railwatch_model::Timestamp;
use serde_json::Value;

use crate::wait::now;

/// A request that arrived, whole.
#[derive(Debug, Clone)]
pub struct Request {
    /// `POST`, `GET`, …
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
    /// When it was there.
    pub at: Timestamp,
}

impl Request {
    /// The body as JSON; `Null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// What the peer answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// A `Retry-After` in seconds.
    pub retry_after_secs: Option<u64>,
    /// The body.
    pub body: String,
    /// How long the peer takes.
    pub delay: Duration,
}

impl Answer {
    /// This status, at once.
    pub fn status(status: u16) -> Self {
        Self { status, retry_after_secs: None, body: "ok".to_owned(), delay: Duration::ZERO }
    }
}

/// A handler that gives these answers in order and then the last one for good.
pub fn answers(first: Vec<Answer>, then: Answer) -> impl FnMut(&Request) -> Answer + Send + 'static {
    let mut queue = VecDeque::from(first);
    move |_| queue.pop_front().unwrap_or_else(|| then.clone())
}

type Handler = Box<dyn FnMut(&Request) -> Answer + Send>;

struct Shared {
    requests: Mutex<Vec<Request>>,
    handler: Mutex<Handler>,
    stopped: AtomicBool,
}

/// The listener. It stops listening when dropped.
pub struct HttpPeer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for HttpPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpPeer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl HttpPeer {
    /// Listens on a free port.
    pub fn start(handler: impl FnMut(&Request) -> Answer + Send + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), handler)
    }

    /// Listens on a given address, such as that of a peer that was stopped.
    pub fn start_at(address: SocketAddr, handler: impl FnMut(&Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            handler: Mutex::new(Box::new(handler)),
            stopped: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopped.load(Ordering::Acquire) {
                    return;
                }
                let (shared, Ok(stream)) = (accepting.clone(), stream) else { continue };
                std::thread::spawn(move || drop(serve(&stream, &shared)));
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Everything that arrived so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }
}

impl Drop for HttpPeer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        // Wakes the thread that accepts, so that the port is free.
        drop(TcpStream::connect(self.address));
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers one connection until the client hangs up.
fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = read_request(&mut reader)? {
        if shared.stopped.load(Ordering::Acquire) {
            return Ok(());
        }
        let answer = lock(&shared.handler)(&request);
        lock(&shared.requests).push(request);
        std::thread::sleep(answer.delay);
        write_answer(stream, &answer)?;
    }
    Ok(())
}

fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Request { method, path, headers, body, at: now() }))
}

fn write_answer(mut stream: &TcpStream, answer: &Answer) -> io::Result<()> {
    let Answer { status, retry_after_secs, body, .. } = answer;
    let retry_after = retry_after_secs.map(|secs| format!("retry-after: {secs}\r\n")).unwrap_or_default();
    let length = body.len();
    let text = format!("HTTP/1.1 {status} Answer\r\n{retry_after}content-length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes())
}

//! The connections of the HTTP listener: how many there may be, and how long each may be silent.
//!
//! Half-open sockets, senders that stall in the middle of a request, and readers that never read cost a place for a
//! while and nothing else. Live streams write often enough to stay.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Connections at a time; further ones wait in the system's queue. Half of the files that systems usually allow.
const CONNECTIONS_MAX: usize = 512;
/// How long a connection may go without its first answer, whatever it sends: longer than any call may take.
const FIRST_ANSWER: Duration = Duration::from_secs(40);
/// How long nothing may move in either direction.
const SILENCE: Duration = Duration::from_secs(75);
/// The same, once railwatch stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// A listener that lends a limited number of places.
#[derive(Debug)]
pub(crate) struct Connections {
    listener: TcpListener,
    places: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl Connections {
    pub(crate) fn new(listener: TcpListener, stopping: CancellationToken) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)), stopping }
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = self.places.clone().acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let stopping = Box::pin(self.stopping.clone().cancelled_owned());
        (Connection::new(stream, place, stopping), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends by itself when its peer is silent for too long.
pub(crate) struct Connection {
    stream: TcpStream,
    alarm: Pin<Box<Sleep>>,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    is_stopping: bool,
    began_at: Instant,
    moved_at: Instant,
    has_answered: bool,
    /// Its place, given back when it closes.
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn new(
        stream: TcpStream,
        place: Option<OwnedSemaphorePermit>,
        stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            stream,
            alarm: Box::pin(tokio::time::sleep_until(now + FIRST_ANSWER)),
            stopping,
            is_stopping: false,
            began_at: now,
            moved_at: now,
            has_answered: false,
            _place: place,
        }
    }

    fn deadline(&self) -> Instant {
        match (self.is_stopping, self.has_answered) {
            (true, _) => self.moved_at + STOP_GRACE,
            (false, true) => self.moved_at + SILENCE,
            (false, false) => self.began_at + FIRST_ANSWER,
        }
    }

    /// What waiting comes to: it goes on, or the peer has been silent for too long.
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if !self.is_stopping && self.stopping.as_mut().poll(cx).is_ready() {
            self.is_stopping = true;
            self.moved_at = Instant::now();
            let deadline = self.deadline();
            self.alarm.as_mut().reset(deadline);
        }
        while self.alarm.as_mut().poll(cx).is_ready() {
            let deadline = self.deadline();
            if deadline <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.alarm.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    fn settle<T>(&mut self, cx: &mut Context<'_>, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if moved.is_pending() {
            return self.wait(cx);
        }
        self.moved_at = Instant::now();
        moved
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.settle(cx, moved)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.has_answered = true;
        let moved = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.settle(cx, moved)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.has_answered = true;
        let moved = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.settle(cx, moved)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn pair(stopping: &CancellationToken) -> (TcpStream, Connection, Connections) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = Connections::new(listener, stopping.clone());
        let peer = TcpStream::connect(address).await.unwrap();
        let (connection, _) = connections.accept().await;
        (peer, connection, connections)
    }

    /// How long a read of a silent peer takes to fail; time is paused and runs ahead by itself.
    async fn patience(connection: &mut Connection) -> Duration {
        let began_at = Instant::now();
        let error = connection.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        began_at.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_finishes_a_request_loses_the_place() {
        let (mut peer, mut connection, connections) = pair(&CancellationToken::new()).await;
        peer.write_all(b"half").await.unwrap();
        connection.read_exact(&mut [0; 4]).await.unwrap();
        let waited = patience(&mut connection).await;
        assert!(waited <= FIRST_ANSWER + Duration::from_secs(1), "{waited:?}");
        assert_eq!(connections.places.available_permits(), CONNECTIONS_MAX - 1);
        drop(connection);
        assert_eq!(connections.places.available_permits(), CONNECTIONS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_stays_and_what_stops_goes() {
        let stopping = CancellationToken::new();
        let (_peer, mut connection, _connections) = pair(&stopping).await;
        for _ in 0..3 {
            connection.write_all(b"tick").await.unwrap();
            let silent = tokio::time::timeout(SILENCE / 2, connection.read(&mut [0; 8])).await;
            assert!(silent.is_err(), "it is kept while something moves");
        }
        assert!(patience(&mut connection).await <= SILENCE + Duration::from_secs(1));
        connection.write_all(b"tick").await.unwrap();
        stopping.cancel();
        assert!(patience(&mut connection).await <= STOP_GRACE + Duration::from_secs(1));
    }
}

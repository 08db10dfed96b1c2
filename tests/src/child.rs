//! A peer's process. It ends when dropped.

use std::process::{Child, Command, Stdio};

/// The process.
#[derive(Debug)]
pub(crate) struct Peer(Child);

impl Peer {
    /// Starts it, with nothing to read and nobody who listens.
    pub(crate) fn start(command: &mut Command) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(quiet.spawn().unwrap())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

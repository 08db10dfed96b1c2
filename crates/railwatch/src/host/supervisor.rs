//! The supervisor: the only place that spawns tasks. Every task has a name; what does not end in time is named too.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// Spawns tasks and knows which of them are running.
#[derive(Debug, Clone, Default)]
pub(crate) struct Supervisor {
    tracker: TaskTracker,
    running: Arc<Mutex<BTreeSet<String>>>,
}

/// Takes the name off the list however the task ends.
struct Running {
    name: String,
    list: Arc<Mutex<BTreeSet<String>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = %self.name, "task panicked; this is a bug");
        }
        self.list.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&self.name);
    }
}

impl Supervisor {
    /// Runs a task to its end.
    pub(crate) fn spawn(
        &self,
        name: impl Into<String>,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let name = name.into();
        let running = Running { name: name.clone(), list: self.running.clone() };
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(name);
        self.tracker.spawn(async move {
            let _running = running;
            task.await;
        })
    }

    /// Waits until every task has ended, at most for `grace`; returns the names of those that have not.
    pub(crate) async fn wait(&self, grace: Duration) -> Vec<String> {
        self.tracker.close();
        let ended = tokio::time::timeout(grace, self.tracker.wait()).await;
        self.tracker.reopen();
        match ended {
            Ok(()) => Vec::new(),
            Err(_) => self
                .running
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .iter()
                .cloned()
                .collect(),
        }
    }
}

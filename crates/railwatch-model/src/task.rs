//! Tasks: the unit of work that cost is divided by.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{Identity, Timestamp};

/// One report that an agent finished a task. It moves no money; payments name their task by the same id.
///
/// Instrumentation samples, so that tasks are a lower bound: no reports does not mean no tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// The task's name, stable across repeated reports.
    pub id: SmolStr,
    /// Every identity of the agent that the report shows, most trusted first.
    pub agent: Vec<Identity>,
    /// The session or conversation that the task belongs to.
    pub session: Option<SmolStr>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// When railwatch received the report.
    pub observed_at: Timestamp,
    /// True if the task ended with an error.
    pub failed: bool,
}

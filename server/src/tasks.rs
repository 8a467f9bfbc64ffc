//! Long work that a client may watch: what it is, how far it got, how it ended.
//!
//! Promise: a task that was begun is findable by its id until [`KEPT`] younger ones have ended; a handle that is
//! dropped without a word counts as failed, so nothing looks busy for ever.

use parking_lot::Mutex;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;
use wattlog_model::{Clock, Timestamp};

/// Ended tasks that are remembered.
pub const KEPT: usize = 64;

/// All long work of the process, begun by the server or by the root.
#[derive(Clone)]
pub struct Tasks {
    list: Arc<Mutex<List>>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct List {
    next: u64,
    tasks: VecDeque<Task>,
}

/// One piece of long work as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Task {
    /// Number within this run of the process.
    pub id: u64,
    /// What it does: `seal`, `compact`, `scrub`.
    pub kind: &'static str,
    /// Whether it still runs, and how it ended.
    pub state: TaskState,
    /// Units of work done, of the kind the task counts in: `seal` counts values, `compact` and `scrub` bytes.
    pub done: u64,
    /// Units of work in all, if known.
    pub total: Option<u64>,
    /// What it is at, or what became of it.
    pub message: String,
    /// When it began, nanoseconds since the epoch.
    #[schema(value_type = i64)]
    pub started: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<i64>)]
    pub ended: Option<Timestamp>,
}

/// See [`Task::state`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// At work.
    Running,
    /// Ended well.
    Done,
    /// Ended with an error, told in the message.
    Failed,
}

/// The side of a task that does the work.
#[derive(Debug)]
pub struct TaskHandle {
    tasks: Tasks,
    id: u64,
    ended: bool,
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tasks").field("known", &self.list.lock().tasks.len()).finish_non_exhaustive()
    }
}

impl Tasks {
    /// No task yet; `clock` says when they begin and end.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { list: Arc::default(), clock }
    }

    /// Begins a task.
    pub fn begin(&self, kind: &'static str, message: impl Into<String>) -> TaskHandle {
        let started = self.clock.wall();
        let mut list = self.list.lock();
        list.next += 1;
        let id = list.next;
        let message = message.into();
        let state = TaskState::Running;
        list.tasks.push_back(Task { id, kind, state, done: 0, total: None, message, started, ended: None });
        let ended = list.tasks.iter().filter(|task| task.state != TaskState::Running).count();
        if ended > KEPT
            && let Some(oldest) = list.tasks.iter().position(|task| task.state != TaskState::Running)
        {
            list.tasks.remove(oldest);
        }
        TaskHandle { tasks: self.clone(), id, ended: false }
    }

    /// The task with that id, as it stands now.
    pub fn find(&self, id: u64) -> Option<Task> {
        self.list.lock().tasks.iter().find(|task| task.id == id).cloned()
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Task)) {
        if let Some(task) = self.list.lock().tasks.iter_mut().find(|task| task.id == id) {
            change(task);
        }
    }
}

impl TaskHandle {
    /// Its id, for `/api/v1/tasks/{id}`.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Tells how far the work is.
    pub fn progress(&self, done: u64, total: Option<u64>, message: &str) {
        self.tasks.change(self.id, |task| {
            (task.done, task.total) = (done, total);
            message.clone_into(&mut task.message);
        });
    }

    /// Ends the task well.
    pub fn finish(mut self, message: &str) {
        self.end(TaskState::Done, message);
    }

    /// Ends the task with an error.
    pub fn fail(mut self, message: &str) {
        self.end(TaskState::Failed, message);
    }

    fn end(&mut self, state: TaskState, message: &str) {
        self.ended = true;
        let now = self.tasks.clock.wall();
        self.tasks.change(self.id, |task| {
            (task.state, task.ended) = (state, Some(now));
            message.clone_into(&mut task.message);
        });
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        if !self.ended {
            self.end(TaskState::Failed, "the work ended without a result");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattlog_model::ManualClock;

    fn tasks() -> Tasks {
        Tasks::new(Arc::new(ManualClock::new(Timestamp(5))))
    }

    #[test]
    fn a_task_tells_its_progress_and_its_end() {
        let tasks = tasks();
        let handle = tasks.begin("seal", "waiting");
        handle.progress(3, Some(7), "series 3 of 7");
        let task = tasks.find(handle.id()).unwrap();
        assert_eq!((task.state, task.done, task.total), (TaskState::Running, 3, Some(7)));
        let id = handle.id();
        handle.finish("sealed");
        let task = tasks.find(id).unwrap();
        assert_eq!((task.state, task.ended, &*task.message), (TaskState::Done, Some(Timestamp(5)), "sealed"));
        assert_eq!(tasks.find(id + 1), None);
    }

    #[test]
    fn a_dropped_handle_is_a_failure_and_old_ends_are_forgotten() {
        let tasks = tasks();
        let running = tasks.begin("compact", "");
        let first = tasks.begin("seal", "").id();
        assert_eq!(tasks.find(first).unwrap().state, TaskState::Failed);
        for _ in 0..=KEPT {
            tasks.begin("seal", "").finish("");
        }
        assert_eq!(tasks.find(first), None);
        assert_eq!(tasks.find(running.id()).unwrap().state, TaskState::Running);
    }
}

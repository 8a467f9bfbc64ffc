//! TERM and INT (stop; a second INT leaves at once), HUP (read the configuration again).

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Stop,
    Reload,
}

/// The signals of this process, from now on.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Must be called inside the runtime.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    pub(crate) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::Stop,
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.hang_up.recv() => Request::Reload,
        }
    }

    /// Waits for the first request to stop; a reload asked for meanwhile is told by the next [`Signals::next`].
    pub(crate) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// From now on an INT ends the process at once: what was acknowledged is safe without a clean stop.
    pub(crate) fn leave_at_once_on_interrupt(mut self) {
        tokio::spawn(async move {
            self.interrupt.recv().await;
            eprintln!("wattlog: interrupted again, leaving without draining");
            std::process::exit(130);
        });
    }
}

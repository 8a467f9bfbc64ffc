//! How far it is, on standard error: a bar on a terminal, a line every few seconds elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Between two lines where there is no terminal.
const EVERY: Duration = Duration::from_secs(5);

/// Counts files and bytes.
pub(super) struct Progress {
    /// None where lines are written instead.
    bar: Option<ProgressBar>,
    what: &'static str,
    files: usize,
    done: usize,
    told: Instant,
}

impl Progress {
    pub(super) fn new(what: &'static str, files: usize, bytes: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(bytes);
            let style = ProgressStyle::with_template("{prefix} [{bar:30}] {percent}% {eta} {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar.set_prefix(what);
            bar
        });
        Self { bar, what, files, done: 0, told: Instant::now() }
    }

    /// One more file was read.
    pub(super) fn file(&mut self, name: &str, bytes: u64) {
        self.done += 1;
        match &self.bar {
            Some(bar) => {
                bar.inc(bytes);
                let short: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
                bar.set_message(short);
            }
            None if self.told.elapsed() >= EVERY => {
                self.told = Instant::now();
                eprintln!("{}: {} of {} files", self.what, self.done, self.files);
            }
            None => {}
        }
    }

    pub(super) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

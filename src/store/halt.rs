//! Numbers what a local store does to the file system, and stops it before or after any of it: the crash harness kills the
//! process there. In a release build there is nothing of it: `effect` is the work itself.

use std::io;

#[cfg(debug_assertions)]
pub use armed::{Stop, arm};

/// Does one thing that outlives the process: a kill point.
#[cfg(not(debug_assertions))]
#[inline]
pub(super) fn effect<T>(_what: &str, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    work()
}

/// Does one thing that outlives the process: a kill point.
#[cfg(debug_assertions)]
pub(super) fn effect<T>(what: &str, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let number = armed::number(what);
    armed::stop(number, false);
    let done = work();
    armed::stop(number, true);
    done
}

#[cfg(debug_assertions)]
mod armed {
    use std::fs::{File, OpenOptions};
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::{Mutex, OnceLock, PoisonError};

    /// Where the process stops.
    pub struct Stop {
        /// Which effect, counted from 1; 0 only counts.
        pub at: u64,
        /// After it, not before.
        pub after: bool,
        /// A line is added for every effect, and `stopped` when the process stands still.
        pub log: PathBuf,
    }

    static STOP: OnceLock<Stop> = OnceLock::new();
    static COUNT: Mutex<u64> = Mutex::new(0);

    /// Begins to count. Once in a process: what is said later is not heard.
    pub fn arm(stop: Stop) {
        STOP.set(stop).ok();
    }

    /// The number of an effect that is about to happen; 0 when nobody counts.
    pub(super) fn number(what: &str) -> u64 {
        let Some(stop) = STOP.get() else { return 0 };
        let mut count = COUNT.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        write(stop, &format!("{} {what}", *count));
        *count
    }

    /// Stands still for ever when this is the place.
    pub(super) fn stop(number: u64, after: bool) {
        let Some(stop) = STOP.get() else { return };
        if number == stop.at && number > 0 && after == stop.after {
            // What else is under way must not go on while the harness comes to kill.
            let _nothing_more = COUNT.lock();
            write(stop, "stopped");
            loop {
                std::thread::park();
            }
        }
    }

    fn write(stop: &Stop, line: &str) {
        let file: std::io::Result<File> = OpenOptions::new().create(true).append(true).open(&stop.log);
        if let Ok(mut file) = file {
            writeln!(file, "{line}").ok();
        }
    }
}

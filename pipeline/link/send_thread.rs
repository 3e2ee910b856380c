//! The thread that sends what an edge shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A thread that sends what is committed, and ends when all of it is sent or cannot be.
pub struct SendThread {
    thread: JoinHandle<()>,
    finishing: Arc<AtomicBool>,
}

impl SendThread {
    /// Starts it. `work` is called again and again, at last with true; it is also told how to find out meanwhile that the run is over.
    pub(crate) fn start(
        mut work: impl FnMut(bool, &dyn Fn() -> bool) + Send + 'static,
    ) -> SendThread {
        let finishing = Arc::new(AtomicBool::new(false));
        let is_finishing = finishing.clone();
        let thread = std::thread::spawn(move || {
            let is_over = || is_finishing.load(Ordering::SeqCst);
            loop {
                let is_last = is_over();
                work(is_last, &is_over);
                if is_last {
                    return;
                }
            }
        });
        SendThread { thread, finishing }
    }

    /// Sends what is left, and ends.
    pub fn finish(self) {
        self.finishing.store(true, Ordering::SeqCst);
        // A panic has ended the process already.
        let _ = self.thread.join();
    }
}

//! Send thread: sends over the link whatever is committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A thread that sends until the run is over and all is sent or cannot be.
pub struct SendThread {
    thread: JoinHandle<()>,
    finishing: Arc<AtomicBool>,
}

impl SendThread {
    /// Starts the thread. It calls `work(is_last, is_over)` again and again: `is_last` is true for
    /// the last call, and `is_over()` becomes true as soon as the run is over.
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

    /// Lets the thread send what is left, and waits until it has ended.
    pub fn finish(self) {
        self.finishing.store(true, Ordering::SeqCst);
        // A panic has ended the process already.
        let _ = self.thread.join();
    }
}

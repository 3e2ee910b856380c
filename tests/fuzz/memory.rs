//! Measures the memory that decoding an input takes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which counts for each thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes that the thread has allocated and not freed since [`start`].
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Counts bytes that are allocated, or freed if negative.
fn count(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

// SAFETY: every call goes to the system's allocator as it is. Counting neither allocates nor
// unwinds: the thread's cells are constants at first and have no destructor.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

/// Begins a measurement of this thread.
pub fn start() {
    HELD.set(0);
    PEAK.set(0);
}

/// The greatest number of bytes that this thread held since [`start`].
pub fn peak() -> usize {
    PEAK.get().max(0) as usize
}

/// Begins a measurement of the process, native libraries included; returns its bytes in memory.
pub fn start_process() -> usize {
    // 5 resets the peak; see proc(5).
    std::fs::write("/proc/self/clear_refs", "5").expect("the peak can be reset");
    status("VmRSS:")
}

/// The greatest number of bytes in memory since [`start_process`].
pub fn peak_of_process() -> usize {
    status("VmHWM:")
}

/// A size from the process's status, in bytes.
fn status(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process's status");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kib.expect("a size in KiB") << 10
}

//! The `perennial` program.

use std::process::ExitCode;

// Batches are allocated and freed at a high rate on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    perennial::commands::main()
}

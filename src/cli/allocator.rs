//! The C library's allocator, set up for documents of many megabytes.
//!
//! glibc maps large blocks by themselves and gives them back at once; but with each such block that is freed it raises the
//! size from which on it does so, up to 32 MiB. From then on the copies of a document that we and the database's driver
//! make stay in the heaps of all threads that ever had one. A size that is set stays (`mallopt(3)`).

/// Blocks of this size or more are given back as soon as they are free.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES_MIN: libc::c_int = 2 << 20;

/// Call it before there are other threads. It changes the whole process, so only the program does it, not the library.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(
    unsafe_code,
    reason = "mallopt takes two numbers and touches no memory of ours; it is called before other threads"
)]
pub fn give_large_blocks_back() {
    // SAFETY: see the reason above. An answer of 0 would mean that nothing was changed, which is no failure.
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN) };
}

/// Other allocators do so by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_large_blocks_back() {}

//! Threads, SIMD and blocking for the CPU device. Ignorant of operations and graphs.

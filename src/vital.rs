//! Tasks and threads that the process cannot do without.

/// Held by every task of a queue, and by the thread that writes the log. A panic in one is a fault of ours,
/// and what is gone would keep its samples, or those who wait for it, for ever without a word: the process
/// ends at once instead. It is started again, and senders send again what was not acknowledged.
pub struct Vital;

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let thread = std::thread::current();
            tracing::error!(
                thread = thread.name(),
                "a task that nothing goes on without has panicked: ending the process"
            );
            std::process::abort();
        }
    }
}

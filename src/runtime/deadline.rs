//! Deadlines with a name: nothing waits for ever, and what waited too long says what it waited for.

use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

/// Something took longer than it may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} did not finish within {} s", limit.as_secs_f64())]
pub struct Expired {
    /// What was waited for, for example `the answer of Docker`.
    pub what: Cow<'static, str>,
    /// How long.
    pub limit: Duration,
}

/// Waits for `future`, but no longer than `limit`. What has not finished by then is dropped, that is cancelled.
///
/// # Errors
/// The time is up.
pub async fn within<F: Future>(
    what: impl Into<Cow<'static, str>>,
    limit: Duration,
    future: F,
) -> Result<F::Output, Expired> {
    tokio::time::timeout(limit, future).await.map_err(|_elapsed| Expired { what: what.into(), limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_names_what_was_waited_for() {
        assert_eq!(within("this", Duration::from_secs(1), async { 7 }).await, Ok(7));
        let late = within("the answer", Duration::from_millis(1500), std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(late.to_string(), "the answer did not finish within 1.5 s");
    }
}

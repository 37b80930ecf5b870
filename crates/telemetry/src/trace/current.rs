//! The context of the work at hand, kept beside the future that does it.
//!
//! A thread-local that is set for the length of each poll. It holds a copy, so nothing is
//! allocated and nothing is shared between tasks: work that is spawned asks for it explicitly.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::TraceContext;

/// What belongs to a request besides its ids and is passed on with them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    /// `tracestate`, as received.
    pub(crate) state: Option<http::HeaderValue>,
    /// `baggage`, as received.
    pub(crate) baggage: Option<http::HeaderValue>,
}

/// A request's context with what it carries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    pub(crate) context: Option<TraceContext>,
    pub(crate) carried: Option<Arc<Carried>>,
    /// The context is that of another process.
    pub(crate) remote: bool,
}

thread_local! {
    static CURRENT: RefCell<Scope> = const { RefCell::new(Scope { context: None, carried: None, remote: false }) };
}

/// The context of the request that this code works for.
#[must_use]
pub fn current() -> Option<TraceContext> {
    CURRENT.with_borrow(|scope| scope.context)
}

/// The whole scope, for whatever passes it on.
pub(crate) fn scope() -> Scope {
    CURRENT.with_borrow(Clone::clone)
}

/// Lets a future run for a request.
pub trait WithContext: Future + Sized {
    /// Polls this future with the scope of the present request: for work that is spawned.
    fn with_current_context(self) -> InContext<Self> {
        InContext { inner: self, scope: scope() }
    }

    /// Polls this future for the request of `context`.
    fn with_context(self, context: TraceContext) -> InContext<Self> {
        let scope = Scope { context: Some(context), ..scope() };
        InContext { inner: self, scope }
    }
}

impl<F: Future> WithContext for F {}

pin_project! {
    /// A future with a trace context.
    #[derive(Debug)]
    pub struct InContext<F> {
        #[pin]
        inner: F,
        scope: Scope,
    }
}

impl<F> InContext<F> {
    pub(crate) fn new(inner: F, scope: Scope) -> Self {
        Self { inner, scope }
    }
}

impl<F: Future> Future for InContext<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let _outer = Entered::new(this.scope);
        this.inner.poll(cx)
    }
}

/// Puts the outer scope back, also when the poll panics.
struct Entered<'a> {
    scope: &'a mut Scope,
}

impl<'a> Entered<'a> {
    fn new(scope: &'a mut Scope) -> Self {
        CURRENT.with_borrow_mut(|current| std::mem::swap(current, scope));
        Self { scope }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        CURRENT.with_borrow_mut(|current| std::mem::swap(current, self.scope));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_context_belongs_to_its_future_alone() {
        let (a, b) = (TraceContext::random(), TraceContext::random());
        let work = |context: TraceContext| {
            async move {
                for _ in 0..10 {
                    assert_eq!(current(), Some(context));
                    tokio::task::yield_now().await;
                }
            }
            .with_context(context)
        };
        tokio::join!(work(a), work(b));
        assert_eq!(current(), None);
    }

    #[tokio::test]
    async fn spawned_work_takes_the_context_along_only_when_asked() {
        let context = TraceContext::random();
        let (with, without) = async {
            let mut tasks = tokio::task::JoinSet::new();
            tasks.spawn(async { current() }.with_current_context());
            let with = tasks.join_next().await.unwrap().unwrap();
            tasks.spawn(async { current() });
            (with, tasks.join_next().await.unwrap().unwrap())
        }
        .with_context(context)
        .await;
        assert_eq!((with, without), (Some(context), None));
    }
}

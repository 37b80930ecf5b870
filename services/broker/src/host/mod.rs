//! Copies of groups on this node: one task each, that follows until it leads.
//!
//! ```text
//! follow ──leads──▶ barrier ─▶ lead(epoch) ─▶ configure ─▶ tend, tend, …
//!    ▲                                                        │
//!    └──────────── follow(): what only it knew is forgotten ◀─┘ leads no more
//! ```
//!
//! **Invariant:** a machine hands out messages only in a term in which this node leads and has
//! applied everything that was acknowledged before it.
//! **Invariant:** what was begun in one term is not carried on in another.

mod sleep;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use consensus::Term;
use messaging::ids::Epoch;
use raft_node::{Group, Leadership};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::directory::Directory;
use crate::error::MessageError;
use crate::route::{At, Led};
use crate::state_machine::Hosted;

pub(crate) use sleep::Next;
pub(crate) use whole::{HasWhole, Whole, report_damaged};

/// Before a copy that is not fit to lead looks again whether it is.
const UNFIT: Duration = Duration::from_secs(1);
/// Between two tries to lead, while no majority confirms it.
const RETRY: Duration = Duration::from_millis(50);

/// What the leader of a group does for it.
pub(crate) trait Keep: HasWhole {
    /// Its settings in the catalog.
    type Entry: Send + Sync + 'static;

    /// What runs beside it in a term, and ends with this.
    type Attended: Default + Send;

    /// For people.
    fn title(&self) -> String;

    /// Its settings as this node knows them; none if it is deleted.
    fn entry(&self, directory: &Directory) -> Option<Arc<Self::Entry>>;

    /// Brings the group up to its settings.
    fn configure(at: &At<Self>) -> impl Future<Output = Result<(), MessageError>> + Send;

    /// Begins and ends what runs beside it, after its settings have changed.
    fn attend(at: &At<Self>, attended: &mut Self::Attended);

    /// Reports, gives up, redelivers and trims what is due.
    fn tend(at: &At<Self>) -> impl Future<Output = Result<Next, MessageError>> + Send;
}

/// Follows and leads until the copy goes, or the process stops.
pub(crate) fn spawn<H: Keep>(
    broker: &Broker,
    handle: Arc<H>,
    group: Group<H::Machine>,
    end: CancellationToken,
) {
    let broker = broker.clone();
    let tasks = broker.shared.tasks.clone();
    tasks.spawn(async move {
        let stop = broker.shared.stop.clone();
        tokio::select! {
            () = stop.cancelled() => (),
            () = end.cancelled() => (),
            () = host(&broker, &handle, &group) => (),
        }
        handle.port().lead(None);
    });
}

/// Ends with the group.
async fn host<H: Keep>(broker: &Broker, handle: &Arc<H>, group: &Group<H::Machine>) {
    let mut leadership = group.leadership();
    loop {
        let now = *leadership.borrow_and_update();
        if now.is_here {
            let at = |led| At {
                broker: broker.clone(),
                handle: handle.clone(),
                group: group.clone(),
                led: Some(led),
            };
            tokio::select! {
                () = is_over(leadership.clone(), now.term) => (),
                () = lead(at, now.term) => (),
            }
            handle.port().lead(None);
            if group.local(Hosted::follow).await.is_err() {
                return;
            }
            handle.port().wake();
        } else if leadership.changed().await.is_err() {
            return;
        }
    }
}

/// Resolves when this node does not lead in this term any more.
async fn is_over(mut leadership: watch::Receiver<Leadership>, term: Term) {
    // A group that has ended leads nothing either.
    let _ = leadership.wait_for(|now| !now.is_here || now.term != term).await;
}

/// Leads until it is cancelled, or the group has ended.
async fn lead<H: Keep>(at: impl FnOnce(Led) -> At<H>, term: Term) {
    let mut at = at(Led { term, since: Instant::now(), is_alone: false });
    while at.group.leading().await != Some(term) {
        tokio::time::sleep(RETRY).await;
    }
    let me = at.broker.node();
    let is_alone = at.group.status().await.is_ok_and(|status| {
        status.membership.members().into_iter().eq([me]) && !status.membership.is_joint()
    });
    // Whoever is alone has what there is.
    while !is_alone && !whole::is_whole(&at.group).await.unwrap_or(true) {
        let (group, title) = (at.group.id().0, at.handle.title());
        tracing::error!(group, title, "messages are missing in this copy: another has to lead");
        report_damaged(&at.broker, at.group.id(), &at.handle.port().placement());
        at.group.resign().await;
        tokio::time::sleep(UNFIT).await;
    }
    // A term is led by one life of one process, which is all an epoch must be.
    let epoch = Epoch(term.0);
    if at.group.local(move |machine| machine.lead(epoch)).await.is_err() {
        return;
    }
    let led = Led { term, since: Instant::now(), is_alone };
    at.led = Some(led);
    at.handle.port().lead(at.led);
    keep(&at).await;
}

async fn keep<H: Keep>(at: &At<H>) {
    let mut configured: Option<Arc<H::Entry>> = None;
    let mut attended = H::Attended::default();
    loop {
        let entry = at.handle.entry(&at.broker.directory());
        let is_new = match (&entry, &configured) {
            (Some(entry), Some(known)) => !Arc::ptr_eq(entry, known),
            (entry, _) => entry.is_some(),
        };
        let mut outcome = Ok(());
        if is_new {
            outcome = H::configure(at).await;
            if outcome.is_ok() {
                configured = entry;
                H::attend(at, &mut attended);
                // Consumers that wait find a subscription gone.
                at.handle.port().wake();
            }
        }
        let next = match outcome {
            Ok(()) => H::tend(at).await,
            Err(error) => Err(error),
        };
        sleep::until(at, next).await;
    }
}

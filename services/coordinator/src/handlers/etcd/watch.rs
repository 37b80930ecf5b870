//! `/v3/watch`: a stream that carries any number of watches.
//!
//! The stream pulls: it reads what each watch has missed from the newest store, one bounded batch
//! per watch and turn, and sends nothing while the caller does not read. Nothing is queued per
//! watch.
//!
//! **Invariant:** a progress message never overtakes an event: it is sent once every watch of the
//! stream has seen the store it names.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use tokio::sync::watch;
use tokio::time::Interval;

use super::super::App;
use super::super::caller::Unguarded;
use super::answer::{chunk, live};
use super::documents::Documents;
use super::error;
use super::message::codec::Int;
use super::message::{WatchCreateRequest, WatchRequest, WatchResponse};
use super::watcher::Watcher;
use super::{EtcdError, error::GrpcCode};
use crate::store::{Access, HistoryCompacted, Revision, Rights, Snapshot, Store};

/// Watches that one stream may carry.
const MAX_WATCHES: usize = 10_000;
/// How often a quiet watch with `progress_notify` hears where the store is.
const PROGRESS_PERIOD: Duration = Duration::from_secs(600);

pub(super) async fn watch(Unguarded(app): Unguarded, request: Request) -> Response {
    let mut documents = Documents::new(request.into_body(), app.max_request_bytes());
    let first = match documents.first::<WatchRequest>(&app).await {
        Ok(first) => first,
        Err(error) => return error.into_response(),
    };
    let mut watches = Watches::new(app, documents);
    let begun = match first {
        Some(first) => watches.handle(first).await,
        None => Ok(()),
    };
    if let Err(error) = begun {
        return error.into_response();
    }
    live(stream::unfold(watches, async |mut watches| {
        let message = watches.next().await?;
        Some((message, watches))
    }))
}

struct Watches {
    app: App,
    /// `None` when the request has ended, which does not end the stream.
    documents: Option<Documents>,
    watchers: BTreeMap<i64, Watcher>,
    changes: watch::Receiver<Snapshot>,
    /// Messages that are made but not sent: one turn's at most.
    output: VecDeque<Bytes>,
    /// Somebody asked for progress when the store was here.
    progress_asked: Option<Revision>,
    progress: Interval,
    /// Whose turn it was.
    turn: i64,
    next_id: i64,
    ended: bool,
    /// Whose token opened the stream: it may outlive the token, but not the rights.
    user: Option<String>,
    /// As of the last look; `None` before the first.
    rights: Option<Rights>,
}

/// Etcd tells the same to those without a token.
fn denied() -> EtcdError {
    const TEXT: &str = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    EtcdError::new(GrpcCode::PermissionDenied, TEXT)
}

impl Watches {
    fn new(app: App, documents: Documents) -> Self {
        app.coordinator().metrics().watch_streams.inc();
        let first = tokio::time::Instant::now() + PROGRESS_PERIOD;
        Self {
            user: None,
            rights: None,
            changes: app.coordinator().subscribe(),
            app,
            documents: Some(documents),
            watchers: BTreeMap::new(),
            output: VecDeque::new(),
            progress_asked: None,
            progress: tokio::time::interval_at(first, PROGRESS_PERIOD),
            turn: -1,
            next_id: 0,
            ended: false,
        }
    }

    /// The next message, `None` at the end of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(message) = self.output.pop_front() {
                return Some(message);
            }
            if self.ended {
                return None;
            }
            let store = self.changes.borrow_and_update().clone();
            self.look_at_rights(&store);
            let behind = self.take_turn(&store);
            if !behind {
                self.answer_progress(&store);
            }
            if self.output.is_empty() {
                let outcome = if behind { self.look_up().await } else { self.wait().await };
                if let Err(error) = outcome {
                    self.output.push_back(error.streamed().into());
                    self.ended = true;
                }
            }
        }
    }

    /// Lets the next watch that is behind read a batch. False if none is behind.
    fn take_turn(&mut self, store: &Store) -> bool {
        let after = self.watchers.range((Bound::Excluded(self.turn), Bound::Unbounded));
        let before = self.watchers.range(..=self.turn);
        let behind = after.chain(before).find(|(_, watcher)| !watcher.has_seen(store));
        let Some((&id, _)) = behind else { return false };
        self.turn = id;
        let Some(watcher) = self.watchers.get_mut(&id) else { return false };
        match watcher.read(&self.app, store) {
            Ok(messages) => self.output.extend(messages),
            Err(HistoryCompacted { oldest }) => {
                self.output.push_back(chunk(WatchResponse {
                    canceled: true,
                    compact_revision: Int(oldest.0.cast_signed()),
                    ..watcher.message(&self.app, store)
                }));
                self.remove(id);
            }
        }
        true
    }

    fn answer_progress(&mut self, store: &Store) {
        if self.progress_asked.take_if(|asked| *asked <= store.revision()).is_some() {
            self.output.push_back(chunk(WatchResponse {
                header: self.app.header(store.revision()),
                watch_id: Int(-1),
                ..WatchResponse::default()
            }));
        }
    }

    /// Between two turns: other tasks first, then requests that are there already.
    async fn look_up(&mut self) -> Result<(), EtcdError> {
        tokio::task::yield_now().await;
        if self.app.draining().is_cancelled() {
            return Err(error::STOPPED);
        }
        let Some(documents) = &mut self.documents else { return Ok(()) };
        match documents.next().now_or_never() {
            Some(request) => self.received(request?).await,
            None => Ok(()),
        }
    }

    /// Until there is a newer store, a request, or the end.
    async fn wait(&mut self) -> Result<(), EtcdError> {
        let documents = &mut self.documents;
        let request = async {
            match documents {
                Some(documents) => documents.next::<WatchRequest>().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.app.draining().cancelled() => Err(error::STOPPED),
            changed = self.changes.changed() => changed.map_err(|_stopped| error::STOPPED),
            request = request => { let request = request?; self.received(request).await }
            _ = self.progress.tick() => { self.notify_progress(); Ok(()) }
        }
    }

    async fn received(&mut self, request: Option<WatchRequest>) -> Result<(), EtcdError> {
        match request {
            Some(request) => self.handle(request).await,
            None => {
                self.documents = None;
                Ok(())
            }
        }
    }

    async fn handle(&mut self, request: WatchRequest) -> Result<(), EtcdError> {
        if let Some(create) = request.create_request {
            let now = self.app.coordinator().snapshot().await?;
            self.create(create, &now);
        } else if let Some(cancel) = request.cancel_request {
            self.cancel(cancel.watch_id.0);
        } else if request.progress_request.is_some() {
            self.progress_asked = Some(self.app.coordinator().snapshot().await?.revision());
        }
        Ok(())
    }

    /// Events never travel in the message that says the watch exists.
    fn create(&mut self, request: WatchCreateRequest, now: &Store) {
        let header = self.app.header(now.revision());
        let message = match self.try_create(request, now) {
            Ok(id) => {
                WatchResponse { header, watch_id: Int(id), created: true, ..Default::default() }
            }
            Err(error) => WatchResponse {
                header,
                // As etcd 3.5 leaves it out there.
                watch_id: Int(if error == denied() { 0 } else { -1 }),
                created: true,
                canceled: true,
                cancel_reason: error.message.into_owned(),
                ..Default::default()
            },
        };
        self.output.push_back(chunk(message));
    }

    fn try_create(&mut self, request: WatchCreateRequest, now: &Store) -> Result<i64, EtcdError> {
        if MAX_WATCHES <= self.watchers.len() {
            return Err(error::TOO_MANY_REQUESTS);
        }
        let id = match request.watch_id.0 {
            0 => self.free_id(),
            id if self.watchers.contains_key(&id) => {
                const DUPLICATE: &str = "mvcc: duplicate watch ID provided on the WatchStream";
                return Err(EtcdError::new(GrpcCode::InvalidArgument, DUPLICATE));
            }
            id => id,
        };
        let watcher = Watcher::new(id, request, now.revision())?;
        if self.user.is_none() {
            let user = self.app.coordinator().user(now).ok().flatten();
            self.user = user.map(str::to_owned);
        }
        self.look_at_rights(now);
        if !self.may_watch(&watcher, now) {
            return Err(denied());
        }
        self.watchers.insert(id, watcher);
        self.app.coordinator().metrics().watchers.inc();
        Ok(id)
    }

    /// Who watched before rights were taken back does not see what comes after.
    fn may_watch(&self, watcher: &Watcher, store: &Store) -> bool {
        match &self.user {
            Some(user) => store.auth.check_user(user, Access::Read, watcher.range()).is_ok(),
            None => self.app.coordinator().may_read(store, watcher.range()).is_ok(),
        }
    }

    /// Ends the watches that users, roles or permissions no longer allow.
    fn look_at_rights(&mut self, store: &Store) {
        let rights = store.auth.rights();
        // What is published may be older than what a watch was allowed by.
        if self.rights.is_some_and(|seen| rights == seen || rights.precede(seen)) {
            return;
        }
        self.rights = Some(rights);
        let denied_ids: Vec<i64> = self
            .watchers
            .iter()
            .filter(|(_, watcher)| !self.may_watch(watcher, store))
            .map(|(id, _)| *id)
            .collect();
        for id in denied_ids {
            self.output.push_back(chunk(WatchResponse {
                header: self.app.header(store.revision()),
                watch_id: Int(id),
                canceled: true,
                cancel_reason: denied().message.into_owned(),
                ..WatchResponse::default()
            }));
            self.remove(id);
        }
    }

    fn free_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn cancel(&mut self, id: i64) {
        if self.remove(id) {
            self.output.push_back(chunk(WatchResponse {
                header: self.app.header(self.changes.borrow().revision()),
                watch_id: Int(id),
                canceled: true,
                ..WatchResponse::default()
            }));
        }
    }

    fn remove(&mut self, id: i64) -> bool {
        let removed = self.watchers.remove(&id).is_some();
        if removed {
            self.app.coordinator().metrics().watchers.dec();
        }
        removed
    }

    /// Called while no watch is behind.
    fn notify_progress(&mut self) {
        let store = self.changes.borrow().clone();
        for watcher in self.watchers.values_mut() {
            let quiet = !std::mem::take(&mut watcher.active);
            if watcher.progress_notify && quiet && watcher.has_seen(&store) {
                self.output.push_back(chunk(watcher.message(&self.app, &store)));
            }
        }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        let metrics = self.app.coordinator().metrics();
        metrics.watch_streams.dec();
        self.watchers.iter().for_each(|_| metrics.watchers.dec());
    }
}

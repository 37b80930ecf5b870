//! From what is on disk to an owner that can run.

use std::path::Path;
use std::sync::Arc;

use chassis::StartError;
use chassis::clock::Clock;
use consensus::HardState;
use replication::{Entry, Epoch, Head, Index, Primary, Recovered, Replica};
use storage::{FileSystem, GroupState, RealFileSystem, Wal};

use crate::apply::{Apply, Digests};
use crate::config::{Config, Role};
use crate::driver::{Core, Parts, decode};
use crate::engine::generations::Generations;
use crate::engine::{Applied, Engine, Step};
use crate::log::{GROUP, Log};
use crate::overlay::Tail;
use crate::recent::Recent;
use crate::room::Room;

/// Entries read at once.
const READ_BYTES: usize = 4 * 1024 * 1024;

/// Opens log and engine and brings them together.
pub(crate) fn open(config: Arc<Config>, node: String, clock: Clock) -> Result<Parts, StartError> {
    let (log, generations, engine) = open_stores(&config)?;
    let applied = engine.applied();
    let state = reconcile(&log, &applied, config.replication.role)?;
    let (recovered, tail) = replay(&log, &applied, &state)?;
    let group = config.replication.group.clone();
    let others = config.replication.others(&node).len() as u32;
    let core = match config.replication.role {
        Role::Primary => Core::Primary(Primary::start(others, recovered, nonce())),
        Role::Replica => {
            let first = tail.head_at(Index(1)).map(|head| head.hash);
            let birth = applied.birth.or(first);
            let base = log.base(applied.head);
            Core::Replica(Replica::new((group, node.clone()), recovered, birth, base))
        }
    };
    let tail = begin(tail, &core);
    let engine: Arc<dyn Engine> = Arc::new(engine);
    let digests = Digests::default();
    let room = Room::new(config.base.data_dir.clone(), config.store.min_free_bytes);
    let replay = Box::new(again(log.clone()));
    let (apply, done) = Apply::start(Arc::clone(&engine), digests.clone(), room.clone(), replay)
        .map_err(|error| StartError::with_source("cannot start the engine's thread", error))?;
    let recent = Recent::default();
    Ok(Parts {
        config,
        node,
        clock,
        core,
        log,
        tail,
        recent,
        engine,
        generations,
        apply,
        done,
        digests,
        room,
    })
}

/// Reads entries that were carried out once already.
fn again(
    log: Log,
) -> impl Fn(Index, Index) -> Result<Vec<Arc<Step>>, Box<dyn std::error::Error>> + Send {
    move |after, through| {
        let entries = log.read(after.next(), READ_BYTES)?;
        let entries = entries.iter().take_while(|entry| entry.position.index <= through);
        entries.map(|entry| Ok(Arc::new(decode(entry)?))).collect()
    }
}

/// A primary has begun its epoch with an entry of its own, which changes nothing but has to be
/// passed on its way to the engine.
fn begin(mut tail: Tail, core: &Core) -> Tail {
    if let Core::Primary(primary) = core {
        let step = Step { head: primary.head(), mutations: Vec::new(), check: None };
        tail.push(step, 0, primary.durable());
    }
    tail
}

type Store = crate::engine::fjall::Store;

fn open_stores(config: &Config) -> Result<(Log, Generations, Store), StartError> {
    let dir = &config.base.data_dir;
    let (wal, recovery) = open_log(&dir.join("log"))?;
    if let Some(torn) = recovery.torn {
        tracing::info!(%torn, "the last write to the log was cut short; nobody was told of it");
    }
    for damage in recovery.damage {
        tracing::error!(%damage, "the log is damaged");
    }
    let group = &config.replication.group;
    let (generations, store) = Generations::open(dir.join("state"), group)
        .map_err(|error| StartError::with_source("cannot open the store", error))?;
    Ok((Log::new(wal, group), generations, store))
}

fn open_log(dir: &Path) -> Result<(Wal, storage::Recovery), StartError> {
    let file_system: Arc<dyn FileSystem> = Arc::new(RealFileSystem);
    Wal::open(file_system, dir, storage::Config::default()).map_err(StartError::from_error)
}

/// Makes the log reach the engine's state. It may not: when an installed snapshot's crash came
/// between engine and log, or when the log is damaged.
fn reconcile(log: &Log, applied: &Applied, role: Role) -> Result<GroupState, StartError> {
    let head = applied.head;
    let state = log.wal().group(GROUP).unwrap_or_else(empty);
    let problem = match &state.faulty {
        Some(fault) => Some(format!("the log is damaged: {fault}")),
        None if state.last < head.index() => {
            Some(format!("the log ends at {}, the store is at {}", state.last, head.index()))
        }
        None if !agrees(log, &state, head)? => {
            Some(format!("the log has another entry at {} than the store", head.index()))
        }
        None => None,
    };
    let Some(problem) = problem else { return Ok(state) };
    if role == Role::Primary {
        return Err(StartError::new(format!(
            "{problem}; this node cannot be the primary. Start another member as the primary and this one \
             as its replica, or restore the data directory from a backup"
        )));
    }
    tracing::warn!(
        problem,
        "the log begins anew after the store's state; the primary has the rest"
    );
    let epoch = consensus::Term(head.position.epoch.0);
    let reset = storage::Write::reset(GROUP, head.index().next(), epoch);
    let failed = |error| StartError::with_source("cannot reset the log", error);
    log.wal().submit(vec![reset]).map_err(failed)?;
    Ok(GroupState { first: head.index().next(), last: head.index(), faulty: None, ..state })
}

fn empty() -> GroupState {
    GroupState {
        hard_state: HardState::default(),
        first: Index(1),
        last: Index::ZERO,
        last_term: consensus::Term(0),
        compacted_term: consensus::Term(0),
        retained: Vec::new(),
        filling: false,
        faulty: None,
    }
}

/// Whether the log's entry at the engine's head is the one that the engine carried out.
fn agrees(log: &Log, state: &GroupState, head: Head) -> Result<bool, StartError> {
    if head.index() < state.first {
        // Its entry is compacted: the log must at least go on right behind it.
        return Ok(head.index().next() == state.first);
    }
    let entries = log.read(head.index(), 1).map_err(unreadable)?;
    Ok(entries.first().is_some_and(|entry| entry.head() == head))
}

/// Reads what the engine does not have yet.
fn replay(
    log: &Log,
    applied: &Applied,
    state: &GroupState,
) -> Result<(Recovered, Tail), StartError> {
    let (mut head, mut epochs) = (applied.head, applied.epochs.clone());
    let mut tail = Tail::default();
    while head.index() < state.last {
        let entries = log.read(head.index().next(), READ_BYTES).map_err(unreadable)?;
        if entries.is_empty() {
            return Err(StartError::new(format!(
                "the log has no entry {} although it goes on to {}",
                head.index().next(),
                state.last
            )));
        }
        for entry in entries.iter().take_while(|entry| entry.position.index <= state.last) {
            check(entry, &head)?;
            let step = decode(entry).map_err(|error| {
                StartError::with_source("an entry of the log cannot be read", error)
            })?;
            tail.push(step, entry.command.len(), state.last);
            epochs.push(entry.position);
            head = entry.head();
        }
    }
    let HardState { term, commit, .. } = state.hard_state;
    let commit = commit.max(applied.head.index()).min(head.index());
    Ok((Recovered { epoch: Epoch(term.0), head, commit, epochs }, tail))
}

fn check(entry: &Entry, head: &Head) -> Result<(), StartError> {
    if entry.follows(head) {
        return Ok(());
    }
    Err(StartError::with_source(
        "the log's entries do not chain up; restore the data directory from a backup, or remove it on a \
         replica",
        crate::log::LogError::Chain(entry.position.index),
    ))
}

fn unreadable(error: crate::log::LogError) -> StartError {
    StartError::with_source("the log cannot be read", error)
}

/// Names a new history.
fn nonce() -> u128 {
    let half = || u128::from(RealFileSystem.nonce());
    half() << 64 | half()
}

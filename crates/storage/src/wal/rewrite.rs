//! Moving what outlives its segment: live entries go to a cold segment, the old ones are free.
//!
//! An entry moves once: from the segment it arrived in to a cold one. A cold segment is merged
//! again only when most of it is dead, so each byte that moves again frees several.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use consensus::GroupId;

use super::cold::{ColdWriter, Contents};
use super::format::{HEADERS, file_name};
use super::log::Log;
use super::ranges::Span;
use super::read::{Collected, Fail, Plan};
use super::state::{Install, Op, OpenFile, Segment, State};
use crate::config::Config;
use crate::error::{Fault, WriteError};
use crate::file_system::FileSystem;
use crate::mutants::{self, Mutant};

/// Segments rewritten together: more give longer sequential stretches per group.
const SOURCES: usize = 4;
/// The newest sealed segments are left alone: what is short-lived dies there for free.
const YOUNG: usize = 2;
/// So many small cold segments are merged into one.
const SMALL: usize = 8;
/// Entries in memory at once.
const PIECE: usize = 256 * 1024;

/// What to move, and where.
pub(crate) struct Rewrite {
    number: u64,
    salt: u32,
    sources: Vec<u64>,
    plans: Vec<Plan>,
}

/// The result of a rewrite, not yet in effect.
pub(crate) struct Moved {
    number: u64,
    open: OpenFile,
    /// Where the footer begins.
    end: u64,
    size: u64,
    sources: Vec<u64>,
    contents: Contents,
    /// Damage met on the way: group, segment, offset.
    corrupt: Vec<(GroupId, u64, u64)>,
}

impl Rewrite {
    /// Decides whether something is worth moving.
    pub(crate) fn choose(log: &Log, number: u64) -> Option<Self> {
        let state = log.view.state();
        // What a damaged group still has stays where it is, as evidence and for repair.
        let damaged = state.groups.values().filter(|group| group.fault.is_some());
        let stuck: BTreeSet<u64> =
            damaged.flat_map(|group| group.runs.iter().map(|run| run.segment)).collect();
        let sealed = |(number, segment): &(&u64, &Segment)| {
            **number != log.active.number && segment.open.is_some() && !stuck.contains(number)
        };
        let sealed: Vec<(&u64, &Segment)> = state.segments.iter().filter(sealed).collect();
        let sources = choose_sources(&sealed, &log.config);
        if sources.is_empty() {
            return None;
        }
        let plans = plans(&state, &sources);
        let salt = (log.file_system.nonce() >> 32) as u32;
        Some(Self { number, salt, sources, plans })
    }

    /// Copies. `None` if it was cancelled.
    pub(crate) fn run(
        &self,
        file_system: &dyn FileSystem,
        dir: &Path,
        cancel: &AtomicBool,
    ) -> Result<Option<Moved>, WriteError> {
        let temporary = dir.join(format!("{:016x}.new", self.number));
        let copied = self.copy(file_system, &temporary, cancel);
        if !matches!(copied, Ok(Some(_))) {
            // Gives the space back; a leftover goes at the next start.
            let _ = file_system.remove(&temporary);
        }
        let failed = |source| WriteError { action: "rewrite", path: temporary.clone(), source };
        let Some(moved) = copied.map_err(failed)? else { return Ok(None) };
        let path = dir.join(file_name(self.number, true));
        file_system.rename(&temporary, &path).map_err(failed)?;
        file_system.sync_dir(dir).map_err(failed)?;
        Ok(Some(moved))
    }

    fn copy(
        &self,
        file_system: &dyn FileSystem,
        path: &Path,
        cancel: &AtomicBool,
    ) -> io::Result<Option<Moved>> {
        let file = file_system.create(path)?;
        let mut writer = ColdWriter::new(&*file, self.number, self.salt);
        let mut corrupt: Vec<(GroupId, u64, u64)> = Vec::new();
        for plan in &self.plans {
            if corrupt.last().is_some_and(|(group, ..)| *group == plan.group) {
                continue;
            }
            match copy_run(plan, &mut writer, cancel) {
                Ok(true) => (),
                Ok(false) => return Ok(None),
                Err(Fail::Io(error)) => return Err(error),
                Err(Fail::Corrupt(at)) => {
                    corrupt.push((plan.group, plan.segment, at));
                    writer.drop_group(plan.group);
                }
            }
        }
        let (end, size, contents) = writer.finish()?;
        let open = OpenFile { file, salt: self.salt };
        let (number, sources) = (self.number, self.sources.clone());
        Ok(Some(Moved { number, open, end, size, sources, contents, corrupt }))
    }
}

/// `Ok(false)` if it was cancelled.
fn copy_run(plan: &Plan, writer: &mut ColdWriter<'_>, cancel: &AtomicBool) -> Result<bool, Fail> {
    let mut plan = plan.clone();
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let mut piece = Collected::new(PIECE);
        let rest = plan.read(&mut piece)?;
        for entry in &piece.entries {
            writer.push(plan.group, entry).map_err(Fail::Io)?;
        }
        match rest {
            Some(rest) => plan.resume(rest),
            None => return Ok(true),
        }
    }
}

/// The segments to move, oldest first, if any.
fn choose_sources(sealed: &[(&u64, &Segment)], config: &Config) -> Vec<u64> {
    let hot: Vec<_> = sealed.iter().filter(|(_, segment)| !segment.cold).collect();
    // The one being written counts too.
    if hot.len() + 1 > config.hot_segments {
        let most = hot.len().saturating_sub(YOUNG).clamp(1, SOURCES);
        return hot[..most].iter().map(|(number, _)| **number).collect();
    }
    let percent = u64::from(config.rewrite_live_percent);
    let dead = |segment: &Segment, percent: u64| {
        segment.live_bytes * 100 <= (segment.end - segment.start) * percent
    };
    let old = &hot[..hot.len().saturating_sub(YOUNG)];
    let mut sources: Vec<u64> = old
        .iter()
        .filter(|(_, segment)| dead(segment, percent))
        .map(|(number, _)| **number)
        .collect();
    let cold = || sealed.iter().filter(|(_, segment)| segment.cold);
    sources.extend(cold().filter(|(_, s)| dead(s, percent / 2)).map(|(number, _)| **number));
    sources.truncate(SOURCES);
    if sources.is_empty() {
        let small = |segment: &Segment| segment.size < config.segment_bytes / SMALL as u64;
        let few: Vec<u64> = cold().filter(|(_, s)| small(s)).map(|(number, _)| **number).collect();
        if few.len() >= SMALL {
            return few;
        }
    }
    sources
}

/// Every live entry of the sources, by group, then by index.
fn plans(state: &State, sources: &[u64]) -> Vec<Plan> {
    let mut plans = Vec::new();
    for (group, log) in state.groups.iter().filter(|(_, log)| log.fault.is_none()) {
        for run in log.runs.iter().filter(|run| sources.contains(&run.segment)) {
            let wanted: Vec<Span> = log.live(run.span).collect();
            let segment = &state.segments[&run.segment];
            let first = wanted.first().map_or(0, |span| span.start);
            let (Some(open), Some(point)) = (segment.open.clone(), run.point_before(first)) else {
                continue;
            };
            plans.push(Plan {
                group: *group,
                segment: run.segment,
                open,
                at: u64::from(point.at),
                limit: segment.end,
                wanted,
            });
        }
    }
    plans
}

impl Log {
    /// Stages the record that puts the move into effect.
    pub(crate) fn finish_rewrite(&mut self, moved: Moved) {
        for (group, segment, offset) in moved.corrupt {
            let cold = self.view.state().segments.get(&segment).is_some_and(|s| s.cold);
            let fault = Fault { file: file_name(segment, cold), offset };
            tracing::error!(%group, %fault, "entry is damaged on disk");
            if let Some(log) = self.view.state_mut().groups.get_mut(&group) {
                log.fault.get_or_insert(fault.clone());
            }
            self.housekeeping.faults.push((group, fault.clone()));
            self.admission.mark(group, fault);
        }
        let segment = Segment {
            cold: true,
            start: HEADERS,
            end: moved.end,
            size: moved.size,
            live_bytes: 0,
            open: Some(moved.open),
        };
        self.stats.rewritten_bytes += moved.size;
        let install = Op::Install(Install {
            cold: moved.number,
            end: moved.end,
            sources: moved.sources,
            groups: moved.contents,
        });
        if mutants::is(Mutant::MoveNotLogged) {
            let mut state = self.view.state_mut();
            state.segments.insert(moved.number, segment);
            state.apply(install);
            self.housekeeping.note_change();
            return;
        }
        self.housekeeping.arriving = Some((moved.number, segment));
        self.stage_op(install);
    }
}

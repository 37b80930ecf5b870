//! After the fold: where the live entries of the older segments stand, and whether all are there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use consensus::GroupId;

use super::batch::Position;
use super::cold::{Contents, read_entries, read_footer};
use super::files::{Opened, io_error};
use super::format::{Kind, file_name};
use super::ranges::{Ranges, Span};
use super::recovery::Opening;
use super::runs::Run;
use super::scan::{Found, scan};
use super::source::FileSource;
use super::state::OpenFile;
use crate::error::{Fault, OpenError};

/// Fills in the points of runs, and finds what is missing.
pub(crate) struct Locator<'a> {
    opening: &'a mut Opening,
    /// Intact entries found, by group and start of their run.
    found: BTreeMap<(GroupId, u64), Ranges>,
    /// The first damage of each segment.
    damage: BTreeMap<u64, u64>,
}

impl<'a> Locator<'a> {
    pub(crate) fn new(opening: &'a mut Opening) -> Self {
        Self { opening, found: BTreeMap::new(), damage: BTreeMap::new() }
    }

    /// Looks at every segment that holds live entries, except `newest`, which was just folded.
    pub(crate) fn locate(mut self, newest: u64) -> Result<(), OpenError> {
        self.opening.state.recount();
        for dead in self.opening.state.dead_segments(newest) {
            self.opening.state.segments.remove(&dead);
        }
        let numbers: Vec<u64> = self.opening.state.segments.keys().copied().collect();
        for number in numbers.into_iter().filter(|number| *number != newest) {
            self.locate_segment(number)?;
        }
        self.blame(newest);
        Ok(())
    }

    fn locate_segment(&mut self, number: u64) -> Result<(), OpenError> {
        let segment = &self.opening.state.segments[&number];
        let (cold, end) = (segment.cold, segment.end);
        let name = file_name(number, cold);
        let path = self.opening.dir.join(&name);
        let opened = Opened::new(&*self.opening.file_system, &path, number)?;
        let Some(opened) = opened.filter(|opened| opened.header.cold == cold) else {
            self.opening.note(&name, 0);
            self.damage.insert(number, 0);
            return Ok(());
        };
        if let Some(at) = opened.bad_copy {
            self.opening.note(&name, at);
        }
        let size = opened.file.size().map_err(io_error("read", &path))?;
        let segment = self.opening.state.segments.get_mut(&number).expect("looked up above");
        segment.open = Some(OpenFile { file: Arc::clone(&opened.file), salt: opened.header.salt });
        segment.size = size;
        segment.start = opened.header.data_start();
        if cold {
            self.locate_cold(&opened, &path, end)
        } else {
            self.locate_hot(&opened, &path, end)
        }
    }

    fn locate_hot(&mut self, opened: &Opened, path: &Path, end: u64) -> Result<(), OpenError> {
        let header = opened.header;
        let mut source =
            FileSource::new(Arc::clone(&opened.file)).map_err(io_error("read", path))?;
        let from =
            Position { at: header.data_start(), lsn: header.first_lsn + 2, chain: header.chain };
        let mut visit = |found: Found| {
            if found.header.kind == Kind::Entry {
                self.note_entry(header.number, &found);
            }
        };
        let verdict = scan(&mut source, &header, from, Some(end), &mut visit)
            .map_err(io_error("read", path))?;
        for damage in verdict.damage {
            self.opening.note(&file_name(header.number, false), damage.at);
            self.damage.entry(header.number).or_insert(damage.at);
        }
        Ok(())
    }

    fn note_entry(&mut self, segment: u64, found: &Found) {
        let (group, index) = (GroupId(found.header.group), found.header.index);
        let Some(log) = self.opening.state.groups.get_mut(&group) else { return };
        let at = log.runs.partition_point(|run| run.span.end < index);
        let Some(run) = log.runs.get_mut(at) else { return };
        let ours = run.segment == segment
            && run.term == found.header.term
            && run.span.start <= index
            && run.begin <= found.at;
        if !ours {
            return;
        }
        let seen = self.found.entry((group, run.span.start)).or_default();
        seen.push(Span::new(index, index));
        run.add_point(index, found.at);
    }

    fn locate_cold(&mut self, opened: &Opened, path: &Path, end: u64) -> Result<(), OpenError> {
        let header = opened.header;
        let mut source =
            FileSource::new(Arc::clone(&opened.file)).map_err(io_error("read", path))?;
        let footer = read_footer(&mut source, &header).map_err(io_error("read", path))?;
        let contents = match footer {
            Some(contents) => contents,
            None => {
                let name = file_name(header.number, true);
                self.opening.note(&name, end);
                let (contents, damaged) =
                    read_entries(&mut source, &header, end).map_err(io_error("read", path))?;
                if let Some(at) = damaged {
                    self.opening.note(&name, at);
                    self.damage.insert(header.number, at);
                }
                contents
            }
        };
        self.note_contents(header.number, &contents);
        Ok(())
    }

    fn note_contents(&mut self, segment: u64, contents: &Contents) {
        for (group, held) in contents {
            let Some(log) = self.opening.state.groups.get_mut(group) else { continue };
            for run in log.runs.iter_mut().filter(|run| run.segment == segment) {
                let same = |other: &&Run| {
                    other.term == run.term && other.span.intersect(run.span).is_some()
                };
                let Some(held) = held.iter().find(same) else { continue };
                let Some(both) = held.span.intersect(run.span) else { continue };
                run.points = held.clipped(both).points;
                // The footer vouches for what it lists; each entry is checked when it is read.
                self.found.entry((*group, run.span.start)).or_default().push(both);
            }
        }
    }

    /// A group with a live entry that is nowhere intact is faulty.
    fn blame(self, newest: u64) {
        let Self { opening, found, damage } = self;
        let segments = &opening.state.segments;
        for (group, log) in &mut opening.state.groups {
            if log.fault.is_some() {
                continue;
            }
            let mut covered = 0;
            let mut missing = None;
            for run in &log.runs {
                let live: u64 = log.live_count(run.span);
                covered += live;
                let intact: u64 = match found.get(&(*group, run.span.start)) {
                    Some(found) => log.live(run.span).map(|span| found.count(span)).sum(),
                    None => 0,
                };
                if run.segment != newest && intact < live {
                    missing = missing.or(Some(run.segment));
                }
            }
            let all = log.live_count(Span::new(1, u64::MAX - 1));
            let missing = missing.or((covered < all).then_some(newest));
            log.fault = missing.map(|number| Fault {
                file: file_name(number, segments.get(&number).is_some_and(|s| s.cold)),
                offset: damage.get(&number).copied().unwrap_or(0),
            });
        }
    }
}

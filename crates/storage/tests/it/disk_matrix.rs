//! Damage of every kind at every place: what is served is what was written, and whatever
//! acknowledged entry cannot be served is reported, never silently missing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use consensus::{GroupId, Index};
use sim::Rng;
use sim::disk::SimDisk;
use storage::{Config, Log, LogView, OpenError, ReadError, Recovery};

use crate::model::Model;
use crate::world::{DIR, World, tiny};

/// A log that ended well, and after which batches which model was acknowledged.
struct Recorded {
    disk: SimDisk,
    config: Config,
    model: Model,
    /// The file written last, how far it was after each flush, and what was acknowledged then.
    steps: Vec<(PathBuf, u64, Model)>,
}

/// Records a run until `enough` of it.
fn record(seed: u64, config: Config, mut enough: impl FnMut(&World) -> bool) -> Recorded {
    let mut world = World::new(seed, config);
    world.open_intact().unwrap();
    let mut steps = Vec::new();
    while !enough(&world) {
        assert!(world.flushes < 2_000, "the run never gets there");
        world.stage().unwrap();
        assert!(world.flush());
        assert!(world.tidy());
        let newest = newest(&world.disk);
        let bytes = world.disk.contents(&newest).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        steps.push((newest, used, world.acked.clone()));
    }
    let model = world.acked.clone();
    let config = world.config.clone();
    world.kill();
    Recorded { disk: world.disk, config, model, steps }
}

/// The same with nothing to do at the end.
fn at_rest(recorded: Recorded) -> Recorded {
    let (mut log, _) = open(&recorded.disk, &recorded.config).unwrap();
    log.confirm().unwrap();
    drop(log);
    recorded.disk.kill();
    recorded
}

fn segments(disk: &SimDisk, extension: &str) -> Vec<PathBuf> {
    let files = disk.files().into_iter();
    files.filter(|path| path.extension().is_some_and(|e| e == extension)).collect()
}

fn newest(disk: &SimDisk) -> PathBuf {
    segments(disk, "wal").pop().unwrap()
}

fn open(disk: &SimDisk, config: &Config) -> Result<(Log, Recovery), OpenError> {
    Log::open(Arc::new(disk.clone()), Path::new(DIR), config.clone())
}

/// Every entry that is served is the one that was written; every acknowledged one is served, or
/// its group is reported. Returns the groups that were.
fn check_honest(log: &Log, recovery: &Recovery, model: &Model) -> BTreeSet<GroupId> {
    let view = log.view();
    let mut reported: BTreeSet<GroupId> = recovery.faulty.iter().map(|(group, _)| *group).collect();
    for (id, group) in &model.groups {
        let Some(state) = view.group(*id) else {
            // A group that only damaged bytes spoke of cannot be named; the damage is.
            assert!(!recovery.damage.is_empty() || recovery.torn.is_some(), "{id} vanished");
            continue;
        };
        let read = read_group(&view, *id);
        match read {
            Ok(entries) if state.faulty.is_none() => {
                let expected: Vec<u64> = group.entries.keys().copied().collect();
                let served: Vec<u64> = entries.iter().map(|entry| entry.index.0).collect();
                assert_eq!(served, expected, "group {id} is incomplete: {recovery:?}");
                for entry in entries {
                    let (term, payload) = &group.entries[&entry.index.0];
                    assert_eq!((entry.term.0, &entry.payload), (*term, payload), "garbage served");
                }
                assert_eq!(state.hard_state, group.hard_state, "group {id}: {recovery:?}");
            }
            Ok(_) => panic!("a faulty group is served"),
            Err(ReadError::Corrupt { .. }) => {
                reported.insert(*id);
            }
            Err(error) => panic!("{error}"),
        }
    }
    reported
}

fn read_group(view: &LogView, group: GroupId) -> Result<Vec<storage::Entry>, ReadError> {
    let mut all: Vec<storage::Entry> = Vec::new();
    loop {
        let from = all.last().map_or(Index(1), |last| last.index.next());
        let some = view.read(group, from, 2_000)?;
        if some.is_empty() {
            return Ok(all);
        }
        all.extend(some);
    }
}

/// The prefix that was acknowledged when the file was `len` bytes long is all there, and what is
/// there is a prefix: the cut falls between batches.
fn check_cut(recorded: &Recorded, path: &Path, len: u64, log: &Log, recovery: &Recovery) {
    assert!(recovery.faulty.is_empty() && recovery.damage.is_empty(), "len {len}: {recovery:?}");
    let mut expected = None;
    for (file, used, model) in &recorded.steps {
        if file.as_path() < path || (file == path && *used <= len) {
            expected = Some(model);
        }
    }
    let empty = Model::default();
    let expected = expected.unwrap_or(&empty);
    expected
        .compare(&log.view(), &mut Rng::new(len))
        .unwrap_or_else(|error| panic!("cut at {len}: {error}"));
}

#[test]
pub(crate) fn a_cut_at_any_byte_loses_only_what_was_not_yet_written() {
    let recorded = small_run();
    let path = newest(&recorded.disk);
    let bytes = recorded.disk.contents(&path).unwrap();
    let end = recorded.steps.last().unwrap().1;
    // The head is durable before the file has its name, so the cuts begin behind it.
    let head = 1024 + 2 * 512;
    for len in head..=end {
        let keep = usize::try_from(len).unwrap();
        for zeros in [false, true] {
            // The file ends there, or is zeros from there on.
            let mut cut = bytes[..keep].to_vec();
            if zeros {
                cut.resize(bytes.len(), 0);
            }
            let disk = recorded.disk.fork(len);
            disk.replace(&path, cut);
            let (log, recovery) = open(&disk, &recorded.config).unwrap();
            check_cut(&recorded, &path, len, &log, &recovery);
        }
    }
}

/// Small enough that every bit can be flipped, and several groups with all kinds of records.
fn small_run() -> Recorded {
    let config = Config { segment_bytes: 16 << 10, queue_bytes: 4 << 10, ..tiny() };
    record(4, config, |world| world.flushes == 6)
}

/// One bit of every byte, each of the eight in turn; all of them if `QUARTET_SIM_SEEDS` asks for
/// a long run.
#[test]
pub(crate) fn every_flipped_bit_of_the_newest_segment_is_noticed() {
    let recorded = small_run();
    let path = newest(&recorded.disk);
    let end = recorded.steps.last().unwrap().1;
    let every = if sim::seeds(1).end > 1 { 1 } else { 7 };
    for bit in (0..end * 8).step_by(every) {
        let disk = recorded.disk.fork(bit);
        disk.flip_bit(&path, bit);
        let told = match open(&disk, &recorded.config) {
            Ok((log, recovery)) => {
                assert_eq!(recovery.torn, None, "bit {bit}: damage was cut like a torn tail");
                let reported = check_honest(&log, &recovery, &recorded.model);
                !reported.is_empty() || !recovery.damage.is_empty()
            }
            Err(OpenError::Corrupt { .. }) => true,
            Err(error) => panic!("bit {bit}: {error}"),
        };
        // There are two headers, so one may be damaged unnoticed; behind them nothing may.
        assert!(told || bit < 1024 * 8, "bit {bit} changed nothing that anyone noticed");
    }
}

/// The newest segment is a recycled file, full of its former life.
fn recycled_run() -> Recorded {
    let config = Config { segment_bytes: 8 << 10, queue_bytes: 2 << 10, ..tiny() };
    let mut seen = 0;
    record(5, config, |world| {
        let newest = (world.flushes > 0).then(|| newest(&world.disk));
        let bytes = newest.and_then(|path| world.disk.contents(&path));
        // Byte 17 of a header says whether the rest is zeros.
        let recycled = bytes.is_some_and(|bytes| bytes[17] == 0);
        seen = if recycled { seen + 1 } else { 0 };
        seen == 4
    })
}

/// Every bit of the file, also of what was never written: whatever of it means something is missed
/// when it changes; of the rest nothing is ever served.
#[test]
pub(crate) fn at_rest_no_flipped_bit_is_taken_for_a_torn_write() {
    for (recorded, fresh) in [(small_run(), true), (recycled_run(), false)] {
        let recorded = at_rest(recorded);
        let path = newest(&recorded.disk);
        let bytes = recorded.disk.contents(&path).unwrap();
        let end = end_of_batches(&bytes);
        let every = if sim::seeds(1).end > 1 { 1 } else { 13 };
        for bit in (0..bytes.len() as u64 * 8).step_by(every) {
            let disk = recorded.disk.fork(bit);
            disk.flip_bit(&path, bit);
            let place = format!("bit {bit} of {} bytes, batches end at {end}", bytes.len());
            let (log, recovery) = match open(&disk, &recorded.config) {
                Ok(opened) => opened,
                Err(error) => panic!("{place}: {error}"),
            };
            let reported = check_honest(&log, &recovery, &recorded.model);
            let told = !reported.is_empty() || !recovery.damage.is_empty();
            let confirmation = end - 512;
            match bit / 8 {
                // The empty batch at the end costs nobody anything, torn or damaged.
                at if confirmation <= at && at < end => {
                    assert!(told || recovery.torn.is_some(), "{place}: nobody noticed");
                    assert!(reported.is_empty(), "{place}: blamed {reported:?}");
                }
                at if at < end => {
                    assert!(told, "{place}: nobody noticed");
                    assert_eq!(recovery.torn, None, "{place}: damage was cut like a torn tail");
                }
                // Zeros that are none look like the rest of a torn write, and are cut.
                _ if fresh => assert!(recovery.torn.is_some(), "{place}: nobody noticed"),
                // What the file held in a former life is not read.
                _ => assert!(!told && recovery.torn.is_none(), "{place}: {recovery:?}"),
            }
        }
    }
}

/// Behind the last trailer that has the segment's salt.
fn end_of_batches(bytes: &[u8]) -> u64 {
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let ours = |end: &usize| {
        let trailer = end - 32;
        let crc = crc32c::crc32c_append(u32_at(20), &bytes[trailer..trailer + 20]);
        bytes[trailer + 24..*end] == *b"QTCOMMIT" && u32_at(trailer + 20) == crc
    };
    let ends = (1..=bytes.len() / 512).map(|sector| sector * 512);
    ends.filter(ours).max().expect("something was written") as u64
}

/// With live entries in a sealed segment and in a cold one.
fn long_run() -> Recorded {
    record(3, tiny(), |world| {
        let sealed = segments(&world.disk, "wal").len() > 1;
        sealed && !segments(&world.disk, "cold").is_empty() && world.acked.groups.len() > 2
    })
}

/// The same over a log with sealed and cold segments: a bit of every few bytes.
#[test]
pub(crate) fn flipped_bits_in_old_segments_hit_only_the_groups_that_live_there() {
    let recorded = long_run();
    let (mut spared, mut hit) = (0, 0);
    for path in recorded.disk.files() {
        if path == newest(&recorded.disk) || path.extension().is_none_or(|e| e == "spare") {
            continue;
        }
        let bits = recorded.disk.contents(&path).unwrap().len() as u64 * 8;
        for bit in (0..bits).step_by(1_999) {
            let disk = recorded.disk.fork(bit);
            disk.flip_bit(&path, bit);
            let (log, recovery) = open(&disk, &recorded.config).unwrap();
            let reported = check_honest(&log, &recovery, &recorded.model);
            hit += reported.len();
            spared += recorded.model.groups.len() - reported.len();
        }
    }
    assert!(hit > 20, "some flips hit live entries: {hit}");
    assert!(spared > hit, "most groups are spared: {spared} to {hit}");
}

/// Behind the back of an open log, which has already seen that all was well.
#[test]
pub(crate) fn a_bit_that_flips_under_an_open_log_is_not_served() {
    let recorded = long_run();
    let mut hit = 0;
    for path in segments(&recorded.disk, "wal").into_iter().chain(segments(&recorded.disk, "cold"))
    {
        let bits = recorded.disk.contents(&path).unwrap().len() as u64 * 8;
        for bit in (0..bits).step_by(4_999) {
            let disk = recorded.disk.fork(bit);
            let (log, recovery) = open(&disk, &recorded.config).unwrap();
            disk.flip_bit(&path, bit);
            hit += check_honest(&log, &recovery, &recorded.model).len();
        }
    }
    assert!(hit > 10, "some flips hit live entries: {hit}");
}

#[test]
pub(crate) fn a_lost_segment_is_reported_by_the_groups_that_lived_there() {
    let recorded = long_run();
    let mut hit = 0;
    for path in segments(&recorded.disk, "wal").into_iter().chain(segments(&recorded.disk, "cold"))
    {
        if path == newest(&recorded.disk) {
            continue;
        }
        let disk = recorded.disk.fork(1);
        disk.lose_file(&path);
        let (log, recovery) = open(&disk, &recorded.config).unwrap();
        hit += check_honest(&log, &recovery, &recorded.model).len();
    }
    assert!(hit > 0);
}

#[test]
pub(crate) fn zeroed_sectors_in_the_middle_are_damage_and_not_a_torn_tail() {
    let recorded = small_run();
    let path = newest(&recorded.disk);
    let bytes = recorded.disk.contents(&path).unwrap();
    // All but the last batch: whatever is followed by a later batch was acknowledged.
    let last = recorded.steps[recorded.steps.len() - 2].1;
    for sector in (1024 + 2 * 512) / 512..last / 512 {
        let at = usize::try_from(sector * 512).unwrap();
        let mut bad = bytes.clone();
        bad[at..at + 512].fill(0);
        let disk = recorded.disk.fork(sector);
        disk.replace(&path, bad);
        let (log, recovery) = open(&disk, &recorded.config).unwrap();
        assert_eq!(recovery.torn, None, "sector {sector}");
        assert!(!recovery.damage.is_empty(), "sector {sector}");
        check_honest(&log, &recovery, &recorded.model);
    }
}

/// What a misdirected write leaves: intact, but not what belongs there.
#[test]
pub(crate) fn a_batch_in_the_place_of_another_is_noticed() {
    let recorded = small_run();
    let path = newest(&recorded.disk);
    let bytes = recorded.disk.contents(&path).unwrap();
    let ends: Vec<usize> =
        recorded.steps.iter().map(|(_, end, _)| usize::try_from(*end).unwrap()).collect();
    let mut swapped = 0;
    for (a, b) in (1..ends.len()).flat_map(|b| (1..b).map(move |a| (a, b))) {
        let (first, second) = (ends[a - 1]..ends[a], ends[b - 1]..ends[b]);
        if first.len() != second.len() || first.is_empty() {
            continue;
        }
        let mut bad = bytes.clone();
        bad.copy_within(second, first.start);
        let disk = recorded.disk.fork(1);
        disk.replace(&path, bad);
        let (log, recovery) = open(&disk, &recorded.config).unwrap();
        assert!(!recovery.damage.is_empty(), "batch {b} stood in for batch {a}");
        check_honest(&log, &recovery, &recorded.model);
        swapped += 1;
    }
    assert!(swapped > 0, "no two batches of one length");
}

#[test]
pub(crate) fn damage_stays_reported_until_the_group_is_reset_or_removed() {
    let recorded = small_run();
    let path = newest(&recorded.disk);
    let disk = recorded.disk.fork(1);
    // Inside the first batch.
    disk.flip_bit(&path, (1024 + 2 * 512 + 60) * 8);
    let faulty = |recovery: &Recovery| -> Vec<GroupId> {
        recovery.faulty.iter().map(|(group, _)| *group).collect()
    };
    let (log, recovery) = open(&disk, &recorded.config).unwrap();
    let groups = faulty(&recovery);
    assert!(!groups.is_empty());
    drop(log);
    disk.kill();

    let (mut log, recovery) = open(&disk, &recorded.config).unwrap();
    assert_eq!(faulty(&recovery), groups, "a restart heals nothing");
    for group in &groups {
        let next = Index(1_000);
        log.stage(vec![storage::Write::reset(*group, next, consensus::Term(9))]).unwrap();
    }
    log.flush().unwrap();
    drop(log);
    disk.kill();

    let (log, recovery) = open(&disk, &recorded.config).unwrap();
    assert_eq!(faulty(&recovery), []);
    assert_eq!(log.view().group(groups[0]).unwrap().last, Index(999));
}

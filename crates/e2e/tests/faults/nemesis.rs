//! Faults, by chance.

use std::time::Duration;

use sim::Rng;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::network::{Kind, Link, MEMBERS, all, around, between};
use crate::run::Run;

/// How long a fault lasts, in milliseconds.
const LASTS_MS: std::ops::Range<u64> = 100..2500;

/// How long a change of the members is waited for while something else may be in its way.
const IN_PASSING: Duration = Duration::from_millis(500);

/// Something that happens to members or to what is between them, and passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL.
    Kill(Vec<usize>),
    /// SIGTERM.
    Terminate(usize),
    /// SIGSTOP.
    Pause(usize),
    Cut(Vec<Link>),
    /// Every link takes up to so long.
    Slow(Duration),
    /// Somebody else's data takes all of a member's disk.
    FillDisk(usize),
    /// A member's wall clock moves by so many seconds.
    MoveClock(usize, i64),
    /// This one is asked to lead.
    Transfer(usize),
    /// Removed, and replaced by a new one without data.
    Replace(usize),
    /// The same, after SIGKILL.
    ReplaceDead(usize),
}

impl Fault {
    /// One of those that this cluster can have. Leaders are hit as often as all others together.
    pub(crate) fn draw(rng: &mut Rng, cluster: &Cluster, leader: usize) -> Self {
        let one = if rng.chance(1, 2) { leader } else { rng.index(MEMBERS) };
        let other = (one + 1 + rng.index(MEMBERS - 1)) % MEMBERS;
        match rng.index(18) {
            0 | 1 => Self::Kill(vec![one]),
            2 => Self::Kill(vec![one, other]),
            3 => Self::Kill((0..MEMBERS).collect()),
            4 => Self::Terminate(one),
            5 | 6 => Self::Pause(one),
            7 => Self::Cut(around(one)),
            8 => Self::Cut(between(one, other).to_vec()),
            9 => Self::Cut(all().into_iter().filter(|_| rng.chance(1, 2)).collect()),
            10 if cluster.network.kind() == Kind::Slowable => {
                Self::Slow(Duration::from_millis(rng.range(1..300)))
            }
            11 if cluster.has_disks() => Self::FillDisk(one),
            12 | 13 if cluster.has_clocks() => {
                let seconds = *rng.pick(&[-86_400, -30, -3, 3, 30, 86_400]).expect("there are");
                Self::MoveClock(one, seconds)
            }
            13 | 14 => Self::Transfer(other),
            15 | 16 if rng.chance(1, 2) => Self::Replace(one),
            15 | 16 => Self::ReplaceDead(one),
            _ => Self::Cut(vec![Link { from: one, to: other }]),
        }
    }

    /// Whose process it is about.
    fn members(&self) -> &[usize] {
        match self {
            Self::Kill(which) => which,
            Self::Terminate(number)
            | Self::Pause(number)
            | Self::Replace(number)
            | Self::ReplaceDead(number) => std::slice::from_ref(number),
            Self::Cut(_)
            | Self::Slow(_)
            | Self::FillDisk(_)
            | Self::MoveClock(..)
            | Self::Transfer(_) => &[],
        }
    }

    /// Whether both can be there at once.
    fn goes_with(&self, other: &Self) -> bool {
        let is_same_kind = std::mem::discriminant(self) == std::mem::discriminant(other);
        // There is one replacement at a time, and it ends what was on the disk.
        let is_about_disks = self.changes_disks() && other.changes_disks();
        !is_same_kind
            && !is_about_disks
            && self.members().iter().all(|member| !other.members().contains(member))
    }

    fn changes_disks(&self) -> bool {
        matches!(self, Self::Replace(_) | Self::ReplaceDead(_) | Self::FillDisk(_))
    }

    async fn strike(&self, cluster: &mut Cluster) {
        match self {
            Self::Kill(which) => {
                for number in which {
                    cluster.members[*number].kill().await;
                }
            }
            Self::Terminate(number) => {
                cluster.members[*number].terminate().await;
            }
            Self::Pause(number) => cluster.members[*number].signal("STOP").await,
            Self::Cut(links) => links.iter().for_each(|link| cluster.network.cut(*link)),
            Self::Slow(jitter) => {
                let slow = |link| cluster.network.slow(link, Duration::ZERO, *jitter);
                all().into_iter().for_each(slow);
            }
            Self::FillDisk(number) => cluster.disk(*number).fill(),
            Self::MoveClock(number, seconds) => cluster.move_clock(*number, *seconds),
            // Whoever is asked passes it on to the leader.
            Self::Transfer(to) => {
                cluster.transfer(*to, *to).await;
            }
            Self::Replace(number) | Self::ReplaceDead(number) => {
                cluster.replace(*number).await;
                if matches!(self, Self::ReplaceDead(_)) {
                    cluster.members[*number].kill().await;
                }
                cluster.replaced(IN_PASSING).await;
            }
        }
    }

    /// Whoever died lives again, whatever was broken works; what that leads to takes its time.
    async fn pass(&self, cluster: &mut Cluster) {
        match self {
            Self::Kill(which) => which.iter().for_each(|number| cluster.spawn(*number)),
            Self::Terminate(number) => cluster.spawn(*number),
            Self::Pause(number) => cluster.members[*number].signal("CONT").await,
            Self::Cut(_) | Self::Slow(_) => cluster.network.heal(),
            Self::FillDisk(number) => cluster.disk(*number).clear(),
            // What else fails may be in the way.
            Self::Replace(_) | Self::ReplaceDead(_) => {
                cluster.replaced(IN_PASSING).await;
            }
            // A clock stays as it was set, and leaders lead.
            Self::MoveClock(..) | Self::Transfer(_) => {}
        }
    }
}

/// So many faults, one or two at a time; between them the cluster works.
pub(crate) async fn torment(run: &mut Run, faults: usize) {
    for _ in 0..faults {
        let leader = run.cluster.leader().await;
        let [fault, other] = [(); 2].map(|()| Fault::draw(&mut run.rng, &run.cluster, leader));
        let other = (run.rng.chance(1, 3) && fault.goes_with(&other)).then_some(other);
        let lasts = Duration::from_millis(run.rng.range(LASTS_MS));
        println!("{}: {fault:?}, {other:?} for {lasts:?}; {leader} leads", run.name());
        fault.strike(&mut run.cluster).await;
        if let Some(other) = &other {
            sleep(lasts / 2).await;
            other.strike(&mut run.cluster).await;
        }
        sleep(lasts).await;
        fault.pass(&mut run.cluster).await;
        if let Some(other) = &other {
            sleep(lasts / 2).await;
            other.pass(&mut run.cluster).await;
        }
        run.cluster.settle().await;
        run.progress(15).await;
    }
}

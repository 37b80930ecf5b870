//! `quartet-coordinator restore`: a new data directory from a backup.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use sha2::{Digest as _, Sha256};

use super::USAGE;
use super::etcd_values::{self, ValueError};
use crate::backup::{self, BackupError};
use crate::member::GROUP;
use crate::store::{Restoring, Revision, Store};

/// Make a new data directory from a backup that GET /v1/snapshot gave.
///
/// The keys, users and leases are those of the backup; the cluster is a new one.
#[derive(Debug, Parser)]
#[command(name = "restore", bin_name = "quartet-coordinator restore", version = chassis::VERSION)]
struct Options {
    /// The backup.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Where the node shall keep its data. Must be empty or not there.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Add this to the revision: more than was written since the backup, such as 1000000000.
    /// Then no client takes a new revision for one it knows. Includes --mark-compacted
    #[arg(long, value_name = "N", default_value_t = 0)]
    bump_revision: u64,
    /// This node's name among the members of the new cluster
    #[arg(long, value_name = "NAME", requires = "initial_cluster")]
    name: Option<String>,
    /// Peer URLs of all members of the new cluster, such as
    /// n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380. Run this on each of them with the same
    /// backup and the same options but --name and --data-dir. Without it, a cluster of one
    #[arg(long, value_name = "LIST", requires = "name")]
    initial_cluster: Option<String>,
    /// Tells clusters that were restored from one backup apart
    #[arg(long, value_name = "TOKEN", default_value = "")]
    initial_cluster_token: String,
    /// Forget the history, so that clients that watch read everything again
    #[arg(long)]
    mark_compacted: bool,
}

#[derive(Debug, thiserror::Error)]
enum RestoreError {
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} cannot be restored", path.display())]
    Backup { path: PathBuf, source: BackupError },
    #[error("{} is not empty; name a directory that is, or remove what is in it", dir.display())]
    NotEmpty { dir: PathBuf },
    #[error("cannot look into {}", dir.display())]
    Directory { dir: PathBuf, source: std::io::Error },
    #[error("the data directory {} could not be made; remove it and try again", dir.display())]
    Seed { dir: PathBuf, source: raft_node::SeedError },
    #[error("--initial-cluster: {0}")]
    Peers(#[from] ValueError),
    #[error("--initial-cluster does not name {name}; it has to list this node too")]
    NotListed { name: String },
    #[error("nothing can run here")]
    Runtime(#[source] std::io::Error),
}

pub(super) fn run(arguments: Vec<String>) -> ExitCode {
    let options = match Options::try_parse_from(arguments.into_iter().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    match restore(&options) {
        Ok((store, from)) => {
            let name = options.name.as_ref().map(|name| format!(" --node {name}"));
            telemetry::note!(
                "restored {} keys and {} leases; the backup was made at revision {from}, the new \
                 cluster is at {}\nstart it with: quartet-coordinator{} --data-dir {}",
                store.mvcc.live_keys(),
                store.leases.len(),
                store.revision(),
                name.unwrap_or_default(),
                options.data_dir.display()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            telemetry::note!("quartet-coordinator: {}", chassis::problem::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn restore(options: &Options) -> Result<(Store, Revision), RestoreError> {
    let dir = &options.data_dir;
    check_empty(dir)?;
    let path = || options.from.clone();
    let file = std::fs::read(&options.from)
        .map_err(|source| RestoreError::Unreadable { path: path(), source })?;
    let backup =
        backup::read(&file).map_err(|source| RestoreError::Backup { path: path(), source })?;
    let checksum = Sha256::digest(&file);
    drop(file);
    let from = backup.revision();
    let founders = options.founders()?;
    let store = backup.restored(Restoring {
        cluster_id: cluster_id(options, founders.as_ref(), &checksum),
        bump_revision: options.bump_revision,
        mark_compacted: options.mark_compacted,
    });
    let failed = |source| RestoreError::Seed { dir: dir.clone(), source };
    if let Some(founders) = founders {
        raft_node::plant(dir, GROUP, founders, store.encode().into()).map_err(failed)?;
        return Ok((store, from));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RestoreError::Runtime)?;
    runtime.block_on(raft_node::seed(dir, GROUP, store.encode().into())).map_err(failed)?;
    Ok((store, from))
}

/// Name and members, as the log's host takes them.
type Founders = (String, BTreeMap<String, String>);

impl Options {
    fn founders(&self) -> Result<Option<Founders>, RestoreError> {
        let (Some(name), Some(list)) = (&self.name, &self.initial_cluster) else { return Ok(None) };
        let founders = etcd_values::peers(list)?;
        if !founders.contains_key(name) {
            return Err(RestoreError::NotListed { name: name.clone() });
        }
        Ok(Some((name.clone(), founders)))
    }
}

/// A new one; for several members the same on each of them, so it follows from what they share.
fn cluster_id(options: &Options, founders: Option<&Founders>, backup: &[u8]) -> u64 {
    let Some((_, founders)) = founders else { return uuid::Uuid::new_v4().as_u64_pair().0 };
    let mut hash = Sha256::new();
    hash.update(backup);
    hash.update(options.initial_cluster_token.as_bytes());
    hash.update([0]);
    for (name, url) in founders {
        hash.update(format!("{name}={url}\n"));
    }
    hash.update(options.bump_revision.to_le_bytes());
    hash.update([u8::from(options.mark_compacted)]);
    let digest: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_le_bytes([a, b, c, d, e, f, g, h]).max(1)
}

/// What is there may be somebody's only copy.
fn check_empty(dir: &Path) -> Result<(), RestoreError> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            Some(_) => Err(RestoreError::NotEmpty { dir: dir.to_owned() }),
            None => Ok(()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(RestoreError::Directory { dir: dir.to_owned(), source }),
    }
}

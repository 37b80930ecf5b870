//! `quartet-coordinator restore`: a new data directory from a backup.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use super::USAGE;
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
            telemetry::note!(
                "restored {} keys and {} leases; the backup was made at revision {from}, the new \
                 cluster is at {}\nstart it with: quartet-coordinator --data-dir {}",
                store.mvcc.live_keys(),
                store.leases.len(),
                store.revision(),
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
    drop(file);
    let from = backup.revision();
    let (cluster_id, _) = uuid::Uuid::new_v4().as_u64_pair();
    let store = backup.restored(Restoring {
        cluster_id,
        bump_revision: options.bump_revision,
        mark_compacted: options.mark_compacted,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RestoreError::Runtime)?;
    runtime
        .block_on(raft_node::seed(dir, GROUP, store.encode().into()))
        .map_err(|source| RestoreError::Seed { dir: dir.clone(), source })?;
    Ok((store, from))
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

//! What is tested.

use std::path::PathBuf;

/// Where a binary of this build is.
///
/// # Panics
///
/// If it was not built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    // target/debug/deps/e2e-… -> target/debug
    let own = std::env::current_exe().expect("the path of the test");
    let path = own.ancestors().nth(2).expect("target/debug").join(name);
    assert!(path.exists(), "{} is missing; scripts/test builds it", path.display());
    path
}

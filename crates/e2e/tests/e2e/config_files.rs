//! The files under `deploy/` are what the services take.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::node::binary;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(path)
}

#[test]
fn every_service_takes_its_default_file() {
    for service in ["coordinator", "broker", "replica", "gateway"] {
        let checked = Command::new(binary(&format!("quartet-{service}")))
            .args(["check-config", "--config"])
            .arg(deploy(&format!("config/{service}.toml")))
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{service}: {said}");
    }
}

#[test]
fn a_typo_is_an_error_that_names_the_key_it_meant() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("typo.toml");
    std::fs::write(&path, "data_dri = \"x\"\n").unwrap();
    for service in ["coordinator", "broker", "replica", "gateway"] {
        let checked = Command::new(binary(&format!("quartet-{service}")))
            .args(["check-config", "--config"])
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(!checked.status.success(), "{service}");
        assert!(said.contains("data_dir"), "{service}: {said}");
    }
}

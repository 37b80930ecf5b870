//! The files under `deploy/` are what the services take.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::node::binary;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(path)
}

/// The effective settings, one `key = value  # origin` a line.
fn settings(service: &str, file: Option<PathBuf>) -> Vec<(String, String)> {
    let mut command = Command::new(binary(&format!("quartet-{service}")));
    command.arg("check-config").env_clear();
    if let Some(file) = file {
        command.arg("--config").arg(file);
    }
    let checked = command.output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{service}: {said}");
    let lines = String::from_utf8(checked.stdout).unwrap();
    let setting = |line: &str| {
        let (setting, origin) = line.rsplit_once(" # ").expect("an origin");
        (setting.trim_end().to_owned(), origin.to_owned())
    };
    lines.lines().map(setting).collect()
}

#[test]
fn the_default_files_name_every_setting_with_its_default() {
    for service in ["coordinator", "broker", "replica", "gateway"] {
        let defaults = settings(service, None);
        let file = settings(service, Some(deploy(&format!("config/{service}.toml"))));
        for ((default, _), (of_file, origin)) in defaults.iter().zip(&file) {
            assert_eq!(of_file, default, "{service}");
            // An empty table cannot be written down.
            let empty = default.ends_with("{  }") || default.starts_with("# ");
            assert!(empty || origin != "default", "{service}.toml does not have: {default}");
        }
        assert_eq!(defaults.len(), file.len(), "{service}");
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

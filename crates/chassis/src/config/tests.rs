//! Precedence, typos and types, over a service's settings with everything that settings can have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Base, ConfigError, ServiceConfig, Sources, check_default_file, load, parse, show};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Config {
    #[serde(flatten)]
    base: Base,
    topic: String,
    max_deliveries: u32,
    retry: Retry,
    labels: BTreeMap<String, String>,
    signing_secret: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Retry {
    initial_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            base: Base::new("trial", 7070, 7071),
            topic: "orders".into(),
            max_deliveries: 5,
            retry: Retry { initial_ms: 10 },
            labels: BTreeMap::new(),
            signing_secret: None,
        }
    }
}

impl ServiceConfig for Config {
    const SERVICE: &'static str = "trial";

    fn base(&self) -> &Base {
        &self.base
    }

    fn validate(&self) -> Result<(), String> {
        if self.max_deliveries == 0 {
            return Err("max_deliveries = 0: allow at least one".into());
        }
        Ok(())
    }
}

fn variables(variables: &[(&str, &str)]) -> Sources {
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Sources { variables: variables.collect(), ..Sources::default() }
}

#[track_caller]
fn fails(sources: Sources, texts: &[&str]) {
    let error = load::<Config>(sources).unwrap_err();
    for text in texts {
        assert!(error.to_string().contains(text), "`{text}` in `{error}`");
    }
}

#[track_caller]
fn file_fails(toml: &str, texts: &[&str]) {
    let error = parse::<Config>(toml).unwrap_err();
    for text in texts {
        assert!(error.to_string().contains(text), "`{text}` in `{error}`");
    }
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(parse::<Config>("").unwrap(), Config::default());
}

#[test]
fn the_defaults_of_a_service_pass_its_own_check() {
    assert_eq!(load::<Config>(Sources::default()).unwrap().config, Config::default());
}

#[test]
fn a_later_layer_wins_key_by_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trial.toml");
    std::fs::write(&file, "topic = 'a'\nnode = 'n1'\n[retry]\ninitial_ms = 1\n").unwrap();
    let mut sources = variables(&[("QUARTET_NODE", "n2"), ("QUARTET_RETRY__INITIAL_MS", "2")]);
    sources.file = Some(file);
    sources.flags = vec![("node", "n3".into(), "node")];
    sources.assignments = vec!["limits.max_in_flight=7".into()];
    let loaded = load::<Config>(sources).unwrap();
    let config = &loaded.config;
    assert_eq!((config.topic.as_str(), config.base.node.as_str()), ("a", "n3"));
    assert_eq!((config.retry.initial_ms, config.base.limits.max_in_flight), (2, 7));
    assert_eq!(config.max_deliveries, 5);
    let shown = show(&loaded.effective);
    let ends = |line: &str, end: &str| {
        let line = shown.lines().find(|shown| shown.starts_with(line)).unwrap();
        assert!(line.ends_with(end), "{line}");
    };
    ends("topic = \"a\"", "trial.toml:1");
    ends("node = \"n3\"", "# --node");
    ends("retry.initial_ms = 2", "# QUARTET_RETRY__INITIAL_MS");
    ends("limits.max_in_flight = 7", "# --set");
    ends("max_deliveries = 5", "# default");
}

#[test]
fn a_password_is_not_shown_and_belongs_to_a_user() {
    let sources = variables(&[
        ("QUARTET_COORDINATOR__USER", "trial"),
        ("QUARTET_COORDINATOR__PASSWORD", "hunter2"),
    ]);
    let loaded = load::<Config>(sources).unwrap();
    assert_eq!(loaded.config.base.coordinator.password.reveal(), "hunter2");
    let shown = show(&loaded.effective);
    assert!(shown.contains("coordinator.password = \"***\""), "{shown}");
    assert!(!format!("{shown} {:?}", loaded.config).contains("hunter2"), "{shown}");
    let in_file = parse::<Config>("[coordinator]\nuser = 'a'\npassword_file = '/run/p'").unwrap();
    assert_eq!(in_file.base.coordinator.password_file, "/run/p");
    file_fails("[coordinator]\nuser = 'a'", &["coordinator.password_file"]);
    file_fails("[coordinator]\npassword = 'hunter2'", &["no coordinator.user"]);
    let both = "[coordinator]\nuser = 'a'\npassword = 'b'\npassword_file = 'c'";
    file_fails(both, &["both given"]);
    let shown = show(
        &load::<Config>(variables(&[
            ("QUARTET_COORDINATOR__USER", "a"),
            ("QUARTET_COORDINATOR__PASSWORD_FILE", "/run/p"),
        ]))
        .unwrap()
        .effective,
    );
    assert!(shown.contains("coordinator.password_file = \"/run/p\""), "{shown}");
}

#[test]
fn a_typo_names_its_place_and_the_key_it_meant() {
    file_fails("\nmax_deliverys = 5", &["toml:2", "did you mean `max_deliveries`?"]);
    file_fails("[limits]\nmax_body = 5", &["toml:2", "`limits.max_body_bytes`"]);
    file_fails("[limit]\nx = 5", &["toml:1", "did you mean `limits`?"]);
    let typo = variables(&[("QUARTET_LIMITS__MAX_BODY_BYTE", "5")]);
    fails(typo, &["did you mean `QUARTET_LIMITS__MAX_BODY_BYTES`?"]);
    // One underscore where two belong is the usual mistake.
    let one = variables(&[("QUARTET_LIMITS_MAX_BODY_BYTES", "5")]);
    fails(one, &["did you mean `QUARTET_LIMITS__MAX_BODY_BYTES`?"]);
    let set = Sources { assignments: vec!["nodes=n1".into()], ..Sources::default() };
    fails(set, &["--set", "did you mean `node`?"]);
}

#[test]
fn a_text_that_looks_like_a_number_stays_a_text() {
    let config = load::<Config>(variables(&[("QUARTET_TOPIC", "123")])).unwrap().config;
    assert_eq!(config.topic, "123");
    let config = load::<Config>(variables(&[("QUARTET_SIGNING_SECRET", "1e9")])).unwrap().config;
    assert_eq!(config.signing_secret.as_deref(), Some("1e9"));
}

#[test]
fn a_value_of_another_type_says_which_key_and_which_type() {
    file_fails("max_deliveries = 'five'", &["toml:1", "`max_deliveries`", "whole number"]);
    file_fails("limits = 5", &["`limits` is a table"]);
    fails(variables(&[("QUARTET_INSECURE", "yes")]), &["QUARTET_INSECURE", "true or false"]);
    fails(variables(&[("QUARTET_LISTEN", "here")]), &["QUARTET_LISTEN", "`listen`", "socket"]);
    file_fails("log = { format = 'xml' }", &["toml:1", "log.format", "xml"]);
    file_fails("max_deliveries = -1", &["toml:1", "max_deliveries"]);
    file_fails("node = ", &["toml:1"]);
}

#[test]
fn lists_and_free_tables_can_be_set_from_everywhere() {
    let endpoints = ("QUARTET_COORDINATOR__ENDPOINTS", "http://a:1, http://b:1");
    let labels = ("QUARTET_LABELS", r#"{"zone":"a"}"#);
    let config = load::<Config>(variables(&[endpoints, labels])).unwrap().config;
    assert_eq!(config.base.coordinator.endpoints, ["http://a:1", "http://b:1"]);
    assert_eq!(config.labels["zone"], "a");
    let config = parse::<Config>("[labels]\nany-key = 'b'\n").unwrap();
    assert_eq!(config.labels["any-key"], "b");
}

#[test]
fn an_empty_variable_and_the_variables_of_others_set_nothing() {
    let none = [
        ("QUARTET_NODE", ""),
        ("QUARTET_SIM_SEED", "7"),
        ("QUARTET_SIM_STATES", "7"),
        ("PATH", "/bin"),
    ];
    assert_eq!(load::<Config>(variables(&none)).unwrap().config, Config::default());
}

#[test]
fn listening_beyond_this_machine_must_be_asked_for() {
    file_fails("listen = '0.0.0.0:7070'", &["listen = 0.0.0.0:7070", "--insecure"]);
    let config = parse::<Config>("listen = '0.0.0.0:7070'\ninsecure = true").unwrap();
    assert!(config.base.insecure);
}

#[test]
fn what_types_cannot_say_is_checked() {
    file_fails("max_deliveries = 0", &["allow at least one"]);
    file_fails("limits.max_in_flight = 0", &["limits.max_in_flight"]);
    file_fails("node = 'a b'", &["node"]);
    file_fails("log.level = 'loud'", &["log.level"]);
    file_fails("telemetry.sample_ratio = 2.0", &["sample_ratio"]);
    file_fails("coordinator.endpoints = ['a:1']", &["http://"]);
    let missing = Sources { file: Some("/nonexistent.toml".into()), ..Sources::default() };
    assert!(matches!(load::<Config>(missing), Err(ConfigError::Unreadable { .. })));
}

#[test]
fn secrets_are_not_shown() {
    let loaded = load::<Config>(variables(&[("QUARTET_SIGNING_SECRET", "hunter2")])).unwrap();
    let shown = show(&loaded.effective);
    assert!(shown.contains("signing_secret = \"***\"") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_file_of_defaults_names_every_key_with_its_default() {
    let settings = load::<Config>(Sources::default()).unwrap().effective;
    let complete = show(&settings).replace("# signing_secret is not set", "# signing_secret = ''");
    check_default_file::<Config>(&complete).unwrap();
    let different = complete.replace("max_deliveries = 5", "max_deliveries = 6");
    assert!(check_default_file::<Config>(&different).unwrap_err().contains("the default is 5"));
    let shorter = complete.replace("max_deliveries = 5", "");
    assert!(check_default_file::<Config>(&shorter).unwrap_err().contains("max_deliveries"));
}

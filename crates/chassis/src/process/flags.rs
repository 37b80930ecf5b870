//! The command line, the same for every service.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::VERSION;
use crate::config::{ServiceConfig, Sources};

/// What the process was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Serve,
    CheckConfig,
    Healthcheck,
}

/// Flags that stand for a key: (key, flag, placeholder, help).
const KEYS: [(&str, &str, &str, &str); 4] = [
    ("listen", "listen", "ADDR", "Where users are served, such as 127.0.0.1:7070"),
    ("peer_listen", "peer-listen", "ADDR", "Where other nodes of this service connect"),
    ("data_dir", "data-dir", "DIR", "Where everything durable is kept"),
    ("node", "node", "NAME", "This node's name"),
];

/// Reads the command line. `Err` is clap's: an error, or help that was asked for.
pub(super) fn parse<C: ServiceConfig>(
    arguments: impl IntoIterator<Item = String>,
    variables: Vec<(String, String)>,
) -> Result<(Task, Sources), clap::Error> {
    let matches =
        command(C::SERVICE).after_help(after_help(C::HELP)).try_get_matches_from(arguments)?;
    let task = match matches.subcommand_name() {
        Some("check-config") => Task::CheckConfig,
        Some("healthcheck") => Task::Healthcheck,
        _ => Task::Serve,
    };
    Ok((task, sources(&matches, variables)))
}

fn command(service: &'static str) -> Command {
    let name = format!("quartet-{service}");
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("Settings as TOML; QUARTET_* variables and flags win over it")
        .global(true);
    let set = Arg::new("set")
        .long("set")
        .value_name("KEY=VALUE")
        .action(ArgAction::Append)
        .help("Any setting, such as --set limits.max_in_flight=100")
        .global(true);
    let insecure = Arg::new("insecure")
        .long("insecure")
        .action(ArgAction::SetTrue)
        .help("Allow listening beyond this machine without authentication")
        .global(true);
    let keys = KEYS.map(|(_, flag, placeholder, help)| {
        Arg::new(flag).long(flag).value_name(placeholder).help(help).global(true)
    });
    Command::new(service)
        .display_name(name.clone())
        .bin_name(name)
        .version(VERSION)
        .about(about(service))
        .args([file])
        .args(keys)
        .args([insecure, set])
        .subcommand(
            Command::new("check-config")
                .about("Check the settings and print them with where each comes from"),
        )
        .subcommand(
            Command::new("healthcheck")
                .about("Ask the running process whether it is ready: exit code 0 or 1"),
        )
}

fn after_help(of_service: &str) -> String {
    let text = "Without arguments it runs alone, on this machine only, with data in ./data.";
    if of_service.is_empty() { text.to_owned() } else { format!("{text}\n\n{of_service}") }
}

fn about(service: &str) -> &'static str {
    match service {
        "coordinator" => "Linearizable keys, watches, leases and service discovery over HTTP",
        "broker" => "Topics, subscriptions and work queues over HTTP",
        "replica" => "A replicated key-value store over HTTP",
        "gateway" => "One entry point: routing, retries, circuit breaking, calls over HTTP",
        _ => "A service over HTTP",
    }
}

fn sources(matches: &ArgMatches, variables: Vec<(String, String)>) -> Sources {
    let from_variable =
        || variables.iter().find(|(name, value)| name == "QUARTET_CONFIG" && !value.is_empty());
    let file = matches
        .get_one::<PathBuf>("config")
        .cloned()
        .or_else(|| from_variable().map(|(_, path)| path.into()));
    let mut flags: Vec<_> = KEYS
        .iter()
        .filter_map(|(key, flag, ..)| {
            let value = matches.get_one::<String>(flag)?;
            Some((*key, value.clone(), *flag))
        })
        .collect();
    if matches.get_flag("insecure") {
        flags.push(("insecure", "true".to_owned(), "insecure"));
    }
    let assignments = matches.get_many::<String>("set").into_iter().flatten().cloned().collect();
    Sources { file, variables, flags, assignments }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::config::Base;

    #[derive(Clone, Serialize, Deserialize)]
    struct TestConfig {
        #[serde(flatten)]
        base: Base,
    }

    impl Default for TestConfig {
        fn default() -> Self {
            Self { base: Base::new("broker", 1, 2) }
        }
    }

    impl ServiceConfig for TestConfig {
        const SERVICE: &'static str = "broker";

        fn base(&self) -> &Base {
            &self.base
        }
    }

    fn read(arguments: &[&str]) -> (Task, Sources) {
        let arguments = ["quartet-broker"].iter().chain(arguments).map(|text| (*text).to_owned());
        parse::<TestConfig>(arguments, Vec::new()).unwrap()
    }

    #[test]
    fn flags_stand_before_or_after_the_subcommand() {
        let (task, sources) =
            read(&["--node", "n1", "check-config", "--set", "a=1", "--set", "b=2"]);
        assert_eq!(task, Task::CheckConfig);
        assert_eq!(sources.flags, [("node", "n1".to_owned(), "node")]);
        assert_eq!(sources.assignments, ["a=1", "b=2"]);
        let (task, sources) = read(&["healthcheck", "--listen", "127.0.0.1:1", "--insecure"]);
        assert_eq!((task, sources.flags.len()), (Task::Healthcheck, 2));
        assert_eq!(read(&[]).0, Task::Serve);
    }

    #[test]
    fn the_command_line_is_sound() {
        command("broker").debug_assert();
    }

    #[test]
    fn the_file_may_come_from_a_variable_but_the_flag_wins() {
        let variables = vec![("QUARTET_CONFIG".to_owned(), "a.toml".to_owned())];
        let file = |arguments: &[&str]| {
            let arguments = arguments.iter().map(|text| (*text).to_owned());
            parse::<TestConfig>(arguments, variables.clone()).unwrap().1.file.unwrap()
        };
        assert_eq!(file(&["x"]), PathBuf::from("a.toml"));
        assert_eq!(file(&["x", "--config", "b.toml"]), PathBuf::from("b.toml"));
    }
}

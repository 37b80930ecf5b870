//! A network name space for each member, joined by a bridge in one more.
//!
//! A link is cut in one direction by a neighbour entry with an address that nobody has: the sender
//! goes on sending and hears nothing, as from a dead cable, and nothing but `ip` is needed.

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Link, MEMBERS};
use crate::member::Place;

/// Every name space of ours is called this, the pid of its maker, a number, and what it is for.
const PREFIX: &str = "quartet-faults-";
/// Of the range that is set apart for measuring networks (RFC 2544).
const NET: [u8; 2] = [198, 18];
/// The machine itself: the clients.
const HOST: u8 = 254;
const PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// Nobody has it.
const NOWHERE: &str = "02:51:00:00:00:ff";

/// Removed when dropped; what a killed run has left is removed by the next one.
pub(crate) struct Namespaces {
    prefix: String,
    /// The machine's end of its cable to the bridge.
    host: String,
    subnet: u8,
}

impl Namespaces {
    /// Or why not.
    pub(crate) fn new() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_leftovers();
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let subnet = free_subnet(pid * 7 + turn)?;
        let host = format!("qf{pid}-{turn}");
        let this = Self { prefix: format!("{PREFIX}{pid}-{turn}-"), host, subnet };
        for name in ["switch".to_owned()].into_iter().chain((0..MEMBERS).map(|n| n.to_string())) {
            run(Command::new("ip").args(["netns", "add", &format!("{}{name}", this.prefix)]))?;
        }
        let switch = this.namespace("switch");
        let host = &this.host;
        let mut lines = vec![format!("link add {host} type veth peer name host netns {switch}")];
        lines.push(format!("address add {}/24 dev {host}", this.address(HOST)));
        lines.push(format!("link set {host} up"));
        for number in 0..MEMBERS {
            let member = this.namespace(number);
            lines.push(format!(
                "link add eth0 address {} netns {member} type veth peer name p{number} netns {switch}",
                mac(number)
            ));
        }
        batch(None, &lines)?;
        let mut lines = vec!["link add bridge type bridge".to_owned(), "link set bridge up".into()];
        for port in ["host".to_owned()].into_iter().chain((0..MEMBERS).map(|n| format!("p{n}"))) {
            lines.push(format!("link set {port} master bridge up"));
        }
        batch(Some(&switch), &lines)?;
        for number in 0..MEMBERS {
            let own = this.address(host_part(number));
            let lines = ["link set lo up".to_owned(), format!("address add {own}/24 dev eth0")];
            batch(Some(&this.namespace(number)), &lines)?;
            batch(Some(&this.namespace(number)), &["link set eth0 up".to_owned()])?;
        }
        this.heal();
        Ok(this)
    }

    pub(crate) fn places(&self) -> [Place; MEMBERS] {
        std::array::from_fn(|number| {
            let address = self.address(host_part(number));
            Place {
                address,
                port: PORT,
                peer_port: PEER_PORT,
                namespace: Some(self.namespace(number)),
                peer_url: format!("http://{address}:{PEER_PORT}"),
            }
        })
    }

    pub(crate) fn cut(&self, Link { from, to }: Link) {
        self.neighbour(from, to, NOWHERE);
    }

    pub(crate) fn heal(&self) {
        for Link { from, to } in super::all() {
            self.neighbour(from, to, &mac(to));
        }
    }

    fn neighbour(&self, from: usize, to: usize, mac: &str) {
        let address = self.address(host_part(to));
        let line = format!("neighbour replace {address} lladdr {mac} dev eth0 nud permanent");
        batch(Some(&self.namespace(from)), &[line]).expect("ip knows its own name spaces");
    }

    fn namespace(&self, name: impl std::fmt::Display) -> String {
        format!("{}{name}", self.prefix)
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(NET[0], NET[1], self.subnet, host)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        remove(|name| name.starts_with(&self.prefix));
        // It goes with the bridge, but not at once.
        let _ = run(Command::new("ip").args(["link", "delete", &self.host]));
    }
}

fn host_part(member: usize) -> u8 {
    member as u8 + 1
}

fn mac(member: usize) -> String {
    format!("02:51:00:00:00:{:02x}", host_part(member))
}

/// The first from `wish` on that no interface is in.
fn free_subnet(wish: u32) -> Result<u8, String> {
    let taken = run(Command::new("ip").args(["-4", "-o", "address"]))?;
    let is_free = |subnet: &u8| !taken.contains(&format!("{}.{}.{subnet}.", NET[0], NET[1]));
    let found = (0..=255).map(|step: u32| (wish + step) as u8).find(is_free);
    found.ok_or_else(|| "every test network is taken".to_owned())
}

/// Of runs that were killed before they could.
fn remove_leftovers() {
    let lives = |pid: &str| {
        // Of one that has ended and was not waited for, there is no such file.
        let program = fs::read_link(Path::new("/proc").join(pid).join("exe"));
        let is_ours = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("faults");
        program.is_ok_and(|program| program.file_name().is_some_and(is_ours))
    };
    remove(|name| {
        let rest = name.strip_prefix(PREFIX);
        rest.and_then(|rest| rest.split('-').next()).is_some_and(|pid| !lives(pid))
    });
}

/// Ends what runs in name spaces, and removes them.
fn remove(which: impl Fn(&str) -> bool) {
    let Ok(list) = run(Command::new("ip").args(["netns", "list"])) else { return };
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    for name in names.filter(|name| which(name)) {
        let pids = run(Command::new("ip").args(["netns", "pids", name])).unwrap_or_default();
        for pid in pids.split_whitespace() {
            let _ = run(Command::new("kill").args(["-KILL", pid]));
        }
        if let Err(error) = run(Command::new("ip").args(["netns", "delete", name])) {
            println!("{name} is still there: {error}");
        }
    }
}

/// What it printed, or what it said was wrong.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{command:?}` says {:?}", said.trim()))
}

/// Several commands of `ip` in one process, in a name space or in the machine's own.
fn batch(namespace: Option<&str>, lines: &[String]) -> Result<(), String> {
    let mut ip = Command::new("ip");
    if let Some(namespace) = namespace {
        ip.args(["-netns", namespace]);
    }
    ip.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = ip.spawn().map_err(|error| error.to_string())?;
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(lines.join("\n").as_bytes()).map_err(|error| error.to_string())?;
    drop(stdin);
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip says {:?} to {lines:?}", String::from_utf8_lossy(&output.stderr).trim()))
}

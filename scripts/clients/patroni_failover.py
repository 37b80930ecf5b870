"""Two PostgreSQL under Patroni, unchanged, on three coordinators: each of the things that they are
replicated for happens once, and no row that was acknowledged is gone afterwards."""

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import psycopg

WORK, POSTGRES, QUARTET = sys.argv[1:4]
COORDINATORS = sys.argv[4].split(",")
# Far more than any of it takes: a lost leader costs its TTL and a few rounds.
PATIENCE = 120

CONFIG = """
scope: quartet-test
name: {name}
restapi: {{listen: "127.0.0.1:{api}", connect_address: "127.0.0.1:{api}"}}
etcd3: {{hosts: [{hosts}], protocol: http}}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 5
    synchronous_mode: true
    postgresql: {{use_pg_rewind: true, parameters: {{wal_level: replica, wal_log_hints: "on"}}}}
  initdb: [{{encoding: UTF8}}, {{locale: C}}, {{auth: trust}}]
  pg_hba: ["host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"]
postgresql:
  listen: "127.0.0.1:{port}"
  connect_address: "127.0.0.1:{port}"
  data_dir: {work}/{name}
  bin_dir: {postgres}
  parameters: {{unix_socket_directories: "{work}/{name}-run"}}
  authentication:
    superuser: {{username: postgres, password: none}}
    replication: {{username: replicator, password: none}}
    rewind: {{username: postgres, password: none}}
"""


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def until(what, holds):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            value = holds()
            if value:
                return value
        except (OSError, psycopg.Error):
            pass
        time.sleep(0.2)
    raise SystemExit(f"never came true: {what}")


class Database:
    """One PostgreSQL and its Patroni."""

    def __init__(self, name):
        self.name, self.port, self.api = name, free_port(), free_port()
        self.user = pwd.getpwnam("postgres")
        os.makedirs(f"{WORK}/{name}-run")
        hosts = ", ".join(f'"127.0.0.1:{port}"' for port in COORDINATORS)
        with open(self.file, "w") as file:
            file.write(CONFIG.format(name=name, api=self.api, port=self.port, hosts=hosts, work=WORK, postgres=POSTGRES))
        os.makedirs(f"{WORK}/{name}", mode=0o700)
        for path in (self.file, f"{WORK}/{name}-run", f"{WORK}/{name}"):
            os.chown(path, self.user.pw_uid, self.user.pw_gid)
        self.start()

    @property
    def file(self):
        return f"{WORK}/{self.name}.yml"

    def start(self):
        log = open(f"{WORK}/{self.name}.log", "ab")
        self.process = subprocess.Popen(
            [f"{WORK}/venv/bin/patroni", self.file], stdout=log, stderr=log, cwd="/",
            env={**os.environ, "HOME": f"{WORK}/{self.name}-run"},
            user=self.user.pw_uid, group=self.user.pw_gid, extra_groups=[], start_new_session=True)

    def role(self):
        """`primary` or `replica`, of one that runs."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.api}/patroni", timeout=2) as answer:
            state = json.load(answer)
        return state["role"] if state["state"] in ("running", "streaming") else None

    def is_synchronous(self):
        urllib.request.urlopen(f"http://127.0.0.1:{self.api}/synchronous", timeout=2).close()
        return True

    def run(self, statement):
        with psycopg.connect(host="127.0.0.1", port=self.port, user="postgres", dbname="postgres",
                             autocommit=True, connect_timeout=3) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else None

    def rows(self):
        return [row[0] for row in self.run("SELECT n FROM flights ORDER BY n")]

    def kill(self):
        """As when its machine loses power."""
        self.process.send_signal(signal.SIGKILL)
        subprocess.run(["pkill", "-KILL", "-f", f"postgres -D {WORK}/{self.name}"], check=False)
        self.process.wait()


def coordinator_leader():
    for port in COORDINATORS:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/cluster", timeout=2) as answer:
                return json.load(answer).get("leader")
        except OSError:
            continue
    return None


def kill_coordinator(name):
    with open(f"{QUARTET}/run/{name}.pid") as file:
        os.kill(int(file.read()), signal.SIGKILL)


def say(text):
    print(f"  {text}", flush=True)


def main():
    one, two = Database("pg1"), Database("pg2")

    def primary():
        found = [database for database in (one, two) if database.role() == "primary"]
        return found[0] if len(found) == 1 else None

    def roles():
        leads = until("somebody is primary", primary)
        other = two if leads is one else one
        until("the other one replicates", lambda: other.role() == "replica")
        until("it is the synchronous one", other.is_synchronous)
        return leads, other

    leads, other = roles()
    leads.run("CREATE TABLE flights (n int PRIMARY KEY)")
    leads.run("INSERT INTO flights VALUES (1)")
    until("the row is on the replica", lambda: other.rows() == [1])
    say(f"{leads.name} is primary, {other.name} replicates")

    killed = until("a coordinator leads", coordinator_leader)
    kill_coordinator(killed)
    until("another coordinator leads", lambda: coordinator_leader() not in (None, "", killed))
    until("writes go on", lambda: leads.run("INSERT INTO flights VALUES (2)") is None)
    time_of_leases = time.monotonic() + 25
    while time.monotonic() < time_of_leases:
        assert leads.role() == "primary", "a coordinator that dies must not cost PostgreSQL its primary"
        time.sleep(0.5)
    say(f"{killed} was killed: {leads.name} stayed primary beyond the life of its lease")
    subprocess.Popen(["sh", f"{QUARTET}/run/{killed}.sh"], stdout=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL, start_new_session=True)

    _, other = roles()
    began = time.monotonic()
    leads.kill()
    until("the other one is promoted", lambda: other.role() == "primary")
    until("it takes writes", lambda: other.run("INSERT INTO flights VALUES (3)") is None)
    took = time.monotonic() - began
    assert other.rows() == [1, 2, 3], other.rows()
    say(f"{leads.name} was killed: {other.name} took over after {took:.0f} s, no row is lost")

    leads.start()
    until("the old primary comes back as a replica", lambda: leads.role() == "replica")
    until("it has all rows", lambda: leads.rows() == [1, 2, 3])
    say(f"{leads.name} is back and replicates")
    for database in (one, two):
        database.process.terminate()
        database.process.wait(timeout=PATIENCE)


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        for name in ("pg1", "pg2"):
            if os.path.exists(f"{WORK}/{name}.log"):
                with open(f"{WORK}/{name}.log") as log:
                    print(f"--- {name}\n", *log.readlines()[-15:], sep="", file=sys.stderr)
        raise

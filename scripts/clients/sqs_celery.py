"""A Celery worker on the broker's queues, unchanged: sqs_celery.py PORT.

A worker is killed in the middle of a task that it has not acknowledged: the next worker does it."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

PORT = sys.argv[1]
HERE = pathlib.Path(__file__).parent
work = tempfile.TemporaryDirectory()
MARKS = pathlib.Path(work.name)
os.environ.update(
    MARKS=work.name,
    BROKER=f"sqs://key:secret@127.0.0.1:{PORT}",
    # Nobody is asked for credentials.
    AWS_EC2_METADATA_DISABLED="true",
    AWS_DEFAULT_REGION="eu-west-1",
)
sys.path.insert(0, str(HERE))

import celery
import kombu
from sqs_celery_app import add, app, long, stubborn


def worker():
    command = [sys.executable, "-m", "celery", "-A", "sqs_celery_app", "worker", "--concurrency=2",
               "--loglevel=INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    log = open(MARKS / "worker.log", "ab")
    # A group of its own, so that the children die with it.
    return subprocess.Popen(command, cwd=HERE, stdout=log, stderr=log, start_new_session=True)


def end(process, how):
    os.killpg(process.pid, how)
    process.wait(timeout=60)


def until(name, count=1):
    for _ in range(900):
        path = MARKS / name
        if path.exists() and count <= len(path.read_text().splitlines()):
            return
        time.sleep(0.1)
    print((MARKS / "worker.log").read_text()[-4000:])
    raise AssertionError(f"{name} was not there in time")


first = worker()
second = None
try:
    for n in range(10):
        add.delay("sum", n, 100)
    for n in range(10):
        until(f"sum-{n + 100}")
    print("  ten tasks: done")
    add.apply_async(("later", 1, 1), countdown=2)
    until("later-2")
    stubborn.delay("stubborn")
    until("stubborn-done")
    assert len((MARKS / "stubborn-tried").read_text().splitlines()) == 3
    print("  a task for later, and one that asks for retries: done")

    long.delay("long")
    until("long-begun")
    end(first, signal.SIGKILL)
    assert not (MARKS / "long-done").exists()
    second = worker()
    until("long-done")
    begun = (MARKS / "long-begun").read_text().splitlines()
    assert len(begun) == 2 and begun[0] != begun[1], begun
    print("  a worker killed by SIGKILL: its task was done by the next")

    add.delay("after", 1, 2)
    until("after-3")
    with app.connection_for_write() as connection:
        queue = connection.SimpleQueue("celery-purged")
        queue.put({"a": 1})
        queue.clear()
        queue.close()
finally:
    for process in [first, second]:
        if process is not None and process.poll() is None:
            end(process, signal.SIGTERM)
print(f"  Celery {celery.__version__}, kombu {kombu.__version__}")

"""The Celery application that scripts/clients/sqs_celery.py runs: a broker by URL, and tasks that leave marks in files."""

import os
import pathlib
import time

from celery import Celery

MARKS = pathlib.Path(os.environ["MARKS"])
app = Celery("marks", broker=os.environ["BROKER"])
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    task_default_queue="celery-tasks",
    broker_transport_options={
        "region": "eu-west-1",
        "is_secure": False,
        "visibility_timeout": 6,
        "wait_time_seconds": 1,
        "polling_interval": 0.1,
    },
)


def mark(name):
    """Tells that a task was here, once more."""
    with open(MARKS / name, "a") as marks:
        marks.write(f"{os.getpid()}\n")


@app.task
def add(name, a, b):
    mark(f"{name}-{a + b}")


@app.task
def long(name):
    """Takes long the first time, so that its worker can be killed in the middle."""
    mark(f"{name}-begun")
    begun = (MARKS / f"{name}-begun").read_text().splitlines()
    if len(begun) == 1:
        time.sleep(60)
    mark(f"{name}-done")


@app.task(bind=True, max_retries=5)
def stubborn(self, name):
    """Fails twice, and asks to be tried again."""
    mark(f"{name}-tried")
    if self.request.retries < 2:
        raise self.retry(countdown=1)
    mark(f"{name}-done")

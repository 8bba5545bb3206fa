"""The way to redis. Its port is what lpm says: the processes of a stack know each other's ports."""

import os
import time

import redis

JOBS = os.environ["JOBS"]
DONE = JOBS + ":done"


def connect():
    """A client, as soon as redis answers: nothing says that it starts first. Gives up after 5 s."""
    store = redis.Redis(port=int(os.environ["LPM_PORT_REDIS"]))
    for _ in range(50):
        try:
            store.ping()
            return store
        except redis.ConnectionError:
            time.sleep(0.1)
    raise SystemExit("redis does not answer")

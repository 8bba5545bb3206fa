"""Takes jobs off the list, one at a time."""

import time

from store import DONE, JOBS, connect

store = connect()
print("waiting for jobs")
while True:
    _, job = store.blpop([JOBS])
    time.sleep(0.2)
    done = store.incr(DONE)
    print(f"job {done} done ({job.decode()})")

"""Puts a job on the list every PERIOD seconds."""

import os
import time

from store import JOBS, connect

store = connect()
period = float(os.environ["PERIOD"])
while True:
    print(f"{store.rpush(JOBS, time.strftime('tick of %H:%M:%S'))} waiting")
    time.sleep(period)

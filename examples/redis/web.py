"""`GET /` says how much there is to do; `POST /` adds a job."""

import os
import signal
import sys
from wsgiref.simple_server import make_server

from store import DONE, JOBS, connect

store = connect()


def application(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST":
        store.rpush(JOBS, "from the web")
    waiting, done = store.llen(JOBS), int(store.get(DONE) or 0)
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{waiting} waiting, {done} done\n".encode()]


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
port = int(os.environ["PORT"])
with make_server("127.0.0.1", port, application) as server:
    print(f"listening on http://127.0.0.1:{port}/")
    server.serve_forever()

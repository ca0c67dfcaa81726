"""A server of official files that breaks off when it is told to, and mirrors of them."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from esp_core.datasets.official import File

FOLDER = "cifar-100-binary"
FILE = f"{FOLDER}/train.bin"
MIRROR = "give a mirror, by the key mirror of the dataset or by ESP_MIRROR"
REMEDY = f"get {FOLDER}.tar.gz again from https://www.cs.toronto.edu/~kriz/cifar.html"


class Server:
    """Serves `files` with byte ranges. `faults` are taken one a request: a status, or how many bytes to send before breaking off."""

    def __init__(self):
        self.files, self.faults, self.requests = {}, [], []
        self.ranges = True
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                owner.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler):
        asked = handler.headers.get("Range")
        self.requests.append((handler.path, asked))
        fault = self.faults.pop(0) if self.faults else None
        content = self.files.get(handler.path.lstrip("/"))
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if content is None or isinstance(fault, str) or start >= len(content):
            handler.send_error(404 if content is None else int(fault or 416))
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        handler.wfile.write(content[start:] if fault is None else content[start : start + fault])


def official(name, content):
    return File(name, len(content), hashlib.sha256(content).hexdigest())


def facts(path):
    return json.loads(path.read_text())


def inside(files):
    return {f"{FOLDER}/{name}": content for name, content in files.items()}


def packed(folder, content):
    """A mirror whose archive is `content`."""
    folder.mkdir(parents=True)
    (folder / f"{FOLDER}.tar.gz").write_bytes(content)
    return folder / f"{FOLDER}.tar.gz"


def unpacked(files, folder):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

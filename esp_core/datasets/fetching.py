"""Get one file over HTTP, with resumption, retries and progress."""

import sys
import time
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from esp_core.runtime.errors import UserError, naming
from esp_core.runtime.progress import Progress

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # seconds before the second, third … attempt
TIMEOUT = 30.0
BLOCK = 1_000_000
MIRROR = "give a mirror, by the key mirror of the dataset or by ESP_MIRROR"
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})  # server answers after which a retry may succeed
BROKEN = (URLError, HTTPException, ConnectionError, TimeoutError, SSLError)  # HTTPError is a URLError


class NotServedError(UserError):
    """The server answers but does not have the file."""


def fetch(url: str, path: Path) -> None:
    """Write what `url` serves to `path`. Until complete it is stored with the suffix .part, from which a later call resumes.

    Raises NotServedError if the server refuses the file, UserError if it cannot be reached or the disk is full.
    """
    part, problem = path.with_name(f"{path.name}.part"), None
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for pause in (0.0, *PAUSES):
            if problem:
                print(f"{url}: {problem}, next attempt in {pause:.0f} s", file=sys.stderr)
                time.sleep(pause)
            try:
                _transfer(url, part)
                part.replace(path)
                return
            except BROKEN as error:
                if isinstance(error, HTTPError) and error.code == 416:  # no bytes follow the stored part: it is of another file
                    part.unlink(missing_ok=True)
                elif isinstance(error, HTTPError) and error.code not in TRANSIENT:
                    raise NotServedError(f"{url}: the server answers {error.code} {error.reason}; {MIRROR}") from error
                problem = error
    attempts = f"{len(PAUSES) + 1} attempts; run the same command again to go on where it stopped"
    raise UserError(f"{url}: {problem}, {attempts}, or {MIRROR}") from problem


def _transfer(url: str, part: Path) -> None:
    """Append to `part` what is missing; a server without range requests sends everything again."""
    start = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "esp-core", **({"Range": f"bytes={start}-"} if start else {})}
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as response:
        start = start if response.status == 206 else 0
        length, received = int(response.headers.get("Content-Length") or 0), 0
        progress = Progress(part.stem, start // BLOCK - (-length // BLOCK), done=start // BLOCK, unit="MB")
        with part.open("ab" if start else "wb") as file:
            while block := response.read(BLOCK):
                received += file.write(block)
                progress.step()
    if received < length:
        raise ConnectionError(f"the connection broke off after {received:,} of {length:,} bytes")

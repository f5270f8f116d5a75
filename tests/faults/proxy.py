"""A proxy before an S3 server that answers some requests as a bad day would.

The `Host` header passes unchanged, so that what a client signed stays signed. Requests and answers
are held whole: this is for small objects.
"""

import http.client
import os
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.faults.injections import S3Faults

FAULTS = ("500", "503", "reset", "truncated", "delay", "slow", "etag")
_ERRORS = {
    "500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "503": (503, "SlowDown", "Please reduce your request rate."),
}
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}
STEP = re.compile(r"_run/(scored|done)/[^/]+/[^/]+\.json$")
"""Record of a split's work that was committed; a corpus rate takes two for each split."""

UPSTREAM_TIMEOUT_S = 60
SLOW_PARTS = 20
"""Pieces that a slow body comes in."""

_ETAG = re.compile(rb"(?<=<ETag>&quot;)[^<&]+(?=&quot;</ETag>)|(?<=<ETag>\")[^<\"]+(?=\"</ETag>)")
_OTHER_ETAG = b"0123456789abcdef0123456789abcdef"


class FaultProxy(ThreadingHTTPServer):
    """Passes requests on to `upstream`; strikes some while `faults` is set.

    Attributes:
        upstream: Host and port of the server.
        faults: What to strike, or None to pass everything.
        struck: Each fault that was made, as `fault method path`.
        done: Paths of the records of done work that were written through it.
    """

    daemon_threads = True
    # A burst of new connections must not be refused by the proxy itself.
    request_queue_size = 128

    def __init__(self, upstream: str) -> None:
        """Listen on a free port of this machine."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.faults: S3Faults | None = None
        self.struck: list[str] = []
        self.done: set[str] = set()
        self._lock = threading.Lock()
        self._rng = random.Random()
        self._seen = 0

    @property
    def url(self) -> str:
        """The endpoint to give to clients."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def strike_from_now(self, faults: S3Faults | None) -> None:
        """Begin to strike, or pass everything from now on."""
        with self._lock:
            self.faults, self.struck, self.done, self._seen = faults, [], set(), 0
            self._rng = random.Random(faults.seed if faults else None)

    def choose(self, method: str, path: str) -> tuple[str | None, float]:
        """The fault of a request, or None; and a number in [0, 1) for its details."""
        with self._lock:
            faults = self.faults
            if faults is None:
                return None, 0.0
            self._seen += 1
            hit = self._rng.random() < faults.rate
            fault, detail = self._rng.choice(faults.faults), self._rng.random()
            if self._seen <= faults.skip or len(self.struck) >= faults.most or not hit:
                return None, 0.0
            if method not in faults.methods or (fault == "truncated" and method != "GET"):
                return None, 0.0
            self.struck.append(f"{fault} {method} {path}")
            return fault, detail

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away, or was killed, is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    def _relay(self) -> None:
        fault, detail = self.server.choose(self.command, self.path)
        if fault == "delay":
            time.sleep(0.1 + 2 * detail)
        applied = detail < 0.5
        if fault == "reset" and self.command != "GET" and not applied:
            self._read_body(share=detail)
            self._reset()
            return
        body = self._read_body()
        if fault in _ERRORS and not applied:
            self._answer_error(fault)
            return
        answer, content = self._ask_upstream(body)
        if self.command == "PUT" and answer.status == 200 and STEP.search(self.path):
            self.server.done.add(self.path)
        if fault in _ERRORS:  # it was done, and yet the answer is an error
            self._answer_error(fault)
        elif fault == "reset" and self.command != "GET":
            self._reset()
        elif fault == "etag":
            self._answer(answer, _ETAG.sub(_OTHER_ETAG, content), etag=_OTHER_ETAG.decode())
        elif fault == "slow":
            self._answer(answer, content, pause_s=(0.2 + 3 * detail) / SLOW_PARTS)
        elif fault in ("reset", "truncated"):
            self._answer(answer, content, stop=int(len(content) * detail))
            if fault == "reset":
                self._reset()
            self.close_connection = True
        else:
            self._answer(answer, content)

    # The names are those of http.server.
    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _relay  # noqa: N815

    def _read_body(self, share: float = 1.0) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(self._read_chunks())
        return self.rfile.read(int(int(self.headers.get("Content-Length") or 0) * share))

    def _read_chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _ask_upstream(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=UPSTREAM_TIMEOUT_S)
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP | {"content-length", "expect"}:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def _answer(
        self,
        answer: http.client.HTTPResponse,
        content: bytes,
        *,
        stop: int | None = None,
        etag: str = "",
        pause_s: float = 0,
    ) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP_BY_HOP | {"content-length"}:
                is_other = etag and name.lower() == "etag"
                self.send_header(name, f'"{etag}"' if is_other else value)
        # The answer to HEAD tells the length of a body that it does not have.
        length = answer.headers.get("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if pause_s:
            part = max(1, -(-len(content) // SLOW_PARTS))
            for start in range(0, len(content), part):
                self.wfile.write(content[start : start + part])
                time.sleep(pause_s)
            return
        self.wfile.write(content[:stop])

    def _answer_error(self, fault: str) -> None:
        status, code, message = _ERRORS[fault]
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{code}</Code><Message>{message}</Message>"
            "<RequestId>0</RequestId><HostId>0</HostId></Error>"
        ).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        """Close with RST, as a peer that is gone does, not with an orderly FIN."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())


@contextmanager
def run_proxy(upstream: str) -> Iterator[FaultProxy]:
    """A proxy in threads of this process."""
    proxy = FaultProxy(upstream)
    thread = threading.Thread(target=proxy.serve_forever, name="fault-proxy", daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()

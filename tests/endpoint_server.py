"""An OpenAI-compatible endpoint that answers by a script, and notes what it was asked."""

import http.server
import json
import threading
from contextlib import contextmanager, suppress


def chat(content, reason="stop"):
    message = {"role": "assistant", "content": content}
    return json.dumps({"choices": [{"message": message, "finish_reason": reason}]})


class Answer:
    """What the server does with a request: by default, it drops every second word."""

    def __init__(self, status=200, body=None, headers=(), *, length=None, waits_for=None):
        self.status = status
        self.body = body
        self.headers = dict(headers)
        self.length = length
        self.waits_for = waits_for


GOOD = Answer()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_chat = "messages" in request
        content = request["messages"][-1]["content"] if is_chat else request["prompt"]
        with server.lock:
            server.requests.append((self.path, dict(self.headers), request))
            answer = server.script.pop(0) if server.script else server.default
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
        try:
            if answer.waits_for is not None:
                answer.waits_for()
        finally:
            with server.lock:
                server.in_flight -= 1
        body = chat(" ".join(content.split()[::2])) if answer.body is None else answer.body
        with suppress(ConnectionError):  # of a client that has gone
            self.reply(answer, body.encode())

    def reply(self, answer, body):
        self.send_response(answer.status)
        self.send_header("Content-Length", str(answer.length or len(body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def serve():
    """A server on a free port of this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    server.lock = threading.Lock()
    server.requests, server.script, server.default = [], [], GOOD
    server.in_flight = server.most_in_flight = 0
    server.released = threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()

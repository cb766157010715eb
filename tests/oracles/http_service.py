"""A local HTTP service with a model of its own and the faults of real ones."""

import base64
import contextlib
import email.parser
import email.policy
import http.server
import io
import json
import threading
import time

import numpy as np
from PIL import Image

WEIGHTS = np.array([[1.0, 0, 0], [0, 2, 0], [0, 0, 3], [1, 1, 1]], np.float32)


def probabilities(images):
    powers = np.exp(images.reshape(-1, 4) @ WEIGHTS)
    return powers / powers.sum(axis=1, keepdims=True)


def read_file(content):
    """Pixels in [0, 1] of an image file, as a server computes them."""
    pixels = np.asarray(Image.open(io.BytesIO(content)), np.float32)
    return pixels[..., None] * np.float32(1 / 255)


def read_images(headers, body):
    """Images of a request in any of the encodings."""
    kind = headers["Content-Type"]
    if kind.startswith("image/"):
        return read_file(body)[None]
    if kind.startswith("multipart/"):
        parser = email.parser.BytesParser(policy=email.policy.HTTP)
        message = parser.parsebytes(f"Content-Type: {kind}\n\n".encode() + body)
        parts = [part.get_payload(decode=True) for part in message.iter_parts()]
        return np.stack([read_file(part) for part in parts])
    (values,) = json.loads(body).values()
    if isinstance(values[0], str):
        return np.stack([read_file(base64.b64decode(value)) for value in values])
    return np.asarray(values, np.float32)


class Service(http.server.ThreadingHTTPServer):
    """Answers with `answer(images)`; `faults` happen to the first requests in order.

    Attributes:
      asked: the images that the model saw.
      times: when each request came.
      busiest: the most requests at the same time.
    """

    daemon_threads = False

    def __init__(self, *faults, answer=probabilities):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/classify?key=secret"
        self.answer, self.faults = answer, list(faults)
        self.asked, self.times, self.headers = [], [], []
        self.busy = self.busiest = 0
        self.lock = threading.Lock()

    def handle_error(self, request, client_address):
        """Clients that are killed are no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        service = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with service.lock:
            service.times.append(time.monotonic())
            service.headers.append(dict(self.headers))
            service.busy += 1
            service.busiest = max(service.busiest, service.busy)
            fault = service.faults.pop(0) if service.faults else None
        try:
            (fault or answer)(self, body)
        finally:
            with service.lock:
                service.busy -= 1

    def reply(
        self, content, *, status=200, kind="application/json", length=None, **more
    ):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length or len(content)))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)


def answer(handler, body, change=lambda answers: answers):
    images = read_images(handler.headers, body)
    with handler.server.lock:
        handler.server.asked.extend(images)
    answers = change(np.asarray(handler.server.answer(images)))
    handler.reply(json.dumps(answers.tolist()).encode())


def changed(change):
    return lambda handler, body: answer(handler, body, change)


def status(number, content=b"{}", kind="application/json", **headers):
    return lambda handler, body: handler.reply(
        content, status=number, kind=kind, **headers
    )


def slow(seconds):
    def fault(handler, body):
        time.sleep(seconds)
        answer(handler, body)

    return fault


def drip(handler, body):
    """A byte now and then, so that no single read takes long."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(100):
            handler.wfile.write(b" ")
            time.sleep(0.02)


def drop(handler, body):
    """Close the connection without an answer."""
    handler.close_connection = True


def cut(handler, body):
    """Close the connection in the middle of an answer."""
    handler.reply(b"[[0.5, 0.", length=100)
    handler.close_connection = True


HTML = b"<!doctype html>\n<title>Sign in</title>\n" + b" " * 1000


@contextlib.contextmanager
def serve(*faults, **options):
    """Run a service in a thread."""
    service = Service(*faults, **options)
    thread = threading.Thread(target=service.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield service
    finally:
        service.shutdown()
        thread.join()
        service.server_close()

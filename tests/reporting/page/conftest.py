"""A finished run that nobody trained, and a browser that opens its report."""

import contextlib
import json
import os
import shutil
import subprocess

import numpy as np
import pytest

from advgan_jax.data import Dataset, Split
from advgan_jax.evaluation import Evaluation
from advgan_jax.reporting import MetricsLog, kept_row, write_json, write_results

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--remote-debugging-pipe"),
)
# Somebody's text, which must stay text wherever the page shows it.
EVIL = "</script><script>document.title='broken'</script><img src=x> \"'&"


def _make_evaluation(count=360, kept=60, targeted=False, size=8):
    """An attack that fools the model on three images of four, more or less."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (count, size, size, 1), np.uint8)
    labels = draw.integers(0, 10, count).astype(np.int32)
    split = Split(images, labels)
    change = draw.uniform(-0.3, 0.3, images[:kept].shape).astype(np.float32)
    adversarial = np.clip(images[:kept] / np.float32(255) + change, 0, 1)
    margin = draw.normal(2, 3, count).astype(np.float32)
    wanted = ((labels + 1 + draw.integers(0, 9, count)) % 10).astype(np.int32)
    found = Evaluation(
        labels,
        wanted if targeted else None,
        np.where(draw.random(count) < 0.97, labels, (labels + 5) % 10),
        np.where(margin > 0, wanted, labels),
        np.full(count, 0.29),
        l2 := draw.uniform(1, 3, count),
        l2 / size,
        seconds=0.5,
        examples=adversarial,
        margin=margin,
    )
    return Dataset("made up", split, split, 10), found


def _make_run(folder, targeted=False, title="advgan", **row_changes):
    """Write what a run writes; return its folder."""
    config = {"method": "advgan", "dataset": "made up", "target_model": EVIL, "seed": 0}
    config |= {"training": {"num_epochs": 3, "note": EVIL}}
    fields = {"experiment": "advgan", "dataset": "made up", "target_model": EVIL}
    fields |= {"threat_model": "white-box", "epsilon": 0.3, "norm": "linf", "seed": 0}
    dataset, evaluation = _make_evaluation(targeted=targeted)
    rows = [
        kept_row(folder, dataset, evaluation, attack=name, **fields)
        for name in (title, f"{title} two {EVIL}")
    ]
    rows[0] |= row_changes
    write_json(folder / "config.json", {"advgan_jax": "0.2.0", **config})
    with MetricsLog(folder) as log:
        for step in range(1, 41):
            log.write(step, {"loss": 1 / step, "success_rate": step / 40})
    write_results(folder, rows, config)
    return folder


@pytest.fixture(scope="session")
def evil():
    return EVIL


@pytest.fixture(scope="session")
def make_evaluation():
    return _make_evaluation


@pytest.fixture(scope="session")
def make_run():
    return _make_run


@pytest.fixture
def made_run(tmp_path):
    return _make_run(tmp_path / "run")


class Page:
    """A tab of Chromium, driven by the DevTools protocol through a pipe."""

    def __init__(self, write, read):
        self._write, self._read, self._number = write, read, 0
        self._session, self.events = None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while (found := self._next()).get("id") != self._number:
            self.events.append(found)
        assert "error" not in found, found
        return found["result"]

    def _next(self):
        text = b""
        while not text.endswith(b"\0"):
            character = self._read.read(1)
            assert character, "Chromium ended"
            text += character
        return json.loads(text[:-1])

    def open(self, path):
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(e["method"] == "Page.loadEventFired" for e in self.events):
            self.events.append(self._next())

    def run(self, script):
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    @property
    def faults(self):
        """Errors on the console, exceptions, and requests that left the file."""
        found = []
        for event in self.events:
            method, what = event["method"], event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(what)
            if method == "Runtime.consoleAPICalled" and what["type"] == "error":
                found.append(what)
            if method == "Log.entryAdded" and what["entry"]["level"] == "error":
                found.append(what)
            if method == "Network.requestWillBeSent":
                url = what["request"]["url"]
                if not url.startswith(("file:", "data:")):
                    found.append(url)
        return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    profile = tmp_path_factory.mktemp("profile")
    (their_read, our_write), (our_read, their_write) = os.pipe(), os.pipe()
    # Chromium reads from descriptor 3 and writes to 4.
    place = 'exec 3<&"$0" 4>&"$1"; shift; exec "$@"'
    command = ["bash", "-c", place, str(their_read), str(their_write)]
    command += [program, *FLAGS, f"--user-data-dir={profile}"]
    with contextlib.ExitStack() as stack:
        process = subprocess.Popen(
            command,
            pass_fds=(their_read, their_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        os.close(their_read)
        os.close(their_write)
        write = stack.enter_context(os.fdopen(our_write, "wb"))
        read = stack.enter_context(os.fdopen(our_read, "rb"))
        yield Page(write, read)

"""Test HTTP services: each fault ends in right answers or one line, all counted."""

import email.utils
import signal
import socket
import subprocess
import sys
import time

import http_service as local
import numpy as np
import pytest

from advgan_jax.oracles import (
    BudgetExhausted,
    HttpOracle,
    ImageFiles,
    Ledger,
    OracleError,
    PixelLists,
    _requests,
)

pytest.importorskip("httpx")
IMAGES = np.arange(10 * 4, dtype=np.float32).reshape(10, 2, 2, 1) / 64
OFF_GRID = np.random.default_rng(0).random((6, 2, 2, 1), np.float32)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(_requests, "_FIRST_WAIT", 0.001)


def oracle(service, **options):
    usual = {"answers": "probabilities", "num_classes": 3, "retries": 2}
    return HttpOracle(getattr(service, "url", service), **usual | options)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_asks_once_about_each_image_in_order(size, concurrency):
    with local.serve() as service:
        options = {"request_size": size, "concurrency": concurrency}
        with oracle(service, headers={"X-Key": "k"}, **options) as ask:
            answers = ask(IMAGES)
        # JSON keeps float32 exactly; the answers are rounded to float32 once.
        np.testing.assert_allclose(answers, local.probabilities(IMAGES), atol=1e-7)
        order = np.argsort([image[0, 0, 0] for image in service.asked])
        np.testing.assert_array_equal(np.stack(service.asked)[order], IMAGES)
        assert (ask.queries, ask.ledger.sent, ask.wasted) == (10, 10, 0)
        assert len(service.times) == -(-10 // size)
        assert {headers["X-Key"] for headers in service.headers} == {"k"}
    np.testing.assert_array_equal(ask.ledger.made()[0], IMAGES)


def test_concurrency_rate_and_labels():
    def slowly(images):
        time.sleep(0.02)
        return local.probabilities(images).argmax(axis=1)

    with local.serve(answer=slowly) as service:
        with oracle(service, answers="labels", concurrency=4) as ask:
            answers = ask(IMAGES)
        assert 2 <= service.busiest <= 4
        np.testing.assert_array_equal(
            answers, np.eye(3)[local.probabilities(IMAGES).argmax(axis=1)]
        )
        del service.times[:]
        with oracle(service, answers="labels", concurrency=4, rate_limit=50) as ask:
            ask(IMAGES)
        # Nine intervals of 20 ms from the first to the last.
        assert service.times[-1] - service.times[0] > 0.17


FAULTS = {  # fault, images that it wastes
    "drops": (local.drop, 1),
    "cuts": (local.cut, 1),
    "drips": (local.drip, 1),
    "slow": (local.slow(0.3), 1),
    "unavailable": (local.status(503, b"<h1>Busy", "text/html"), 1),
    "gateway": (local.status(502), 1),
    "throttles": (local.status(429), 0),
    "throttles for a while": (local.status(429, Retry_After="0.05"), 0),
}


@pytest.mark.parametrize("name", FAULTS)
def test_passing_fault_is_made_good_and_counted(name):
    fault, wasted = FAULTS[name]
    with local.serve(fault, fault) as service:
        with oracle(service, timeout=0.2, concurrency=2) as ask:
            answers = ask(IMAGES)
        np.testing.assert_allclose(answers, local.probabilities(IMAGES), atol=1e-7)
        assert (ask.queries, ask.wasted) == (10, 2 * wasted)
        assert ask.ledger.sent == 10 + 2 * wasted


LASTING = {
    "drops": (3 * [local.drop], "failed 3 times, at last because it broke off"),
    "slow": (3 * [local.slow(0.3)], "gave no answer within `timeout` = 0.2 s"),
    "unavailable": (3 * [local.status(503)], "answered with status 503"),
    "forbidden": (
        [local.status(403, b'{"error": "bad key"}')],
        r"status 403 \(application/json: '{\"error\": \"bad key\"}'\); check the addr",
    ),
    "moved": ([local.status(302, Location="/else")], "status 302"),
    "html": (
        [local.status(200, local.HTML, "text/html; charset=utf-8")],
        r"`decode` cannot read .*text/html: '<!doctype html> <title>Sign in</title>'",
    ),
    "not json": ([local.status(200, b"0.5")], r"got float64\[\]"),
    "strings": ([local.status(200, b'[["a", "b", "c"]]')], r"got <U1\[1, 3\]"),
    "ragged": ([local.status(200, b"[[1, 2, 3], [4]]")], "`decode` cannot read"),
    "columns": ([local.changed(lambda a: a[:, :2])], r"shape \[1, 3\], got float64\["),
    "rows": ([local.changed(lambda a: a[:0])], r"shape \[1, 3\], got float64\[0"),
    "nan": ([local.changed(lambda a: a * np.nan)], "expected finite probabilities"),
    "sums": ([local.changed(lambda a: a * 2)], "rows that sum to one"),
    "long pause": (
        [local.status(429, Retry_After="9999")],
        "asks to wait 9999 seconds; resume the run then",
    ),
    "pause until": (
        [local.status(503, Retry_After=email.utils.formatdate(time.time() + 5000))],
        "asks to wait [45]\\d\\d\\d seconds",
    ),
}


@pytest.mark.parametrize("name", LASTING)
def test_lasting_fault_is_one_line_and_nothing_is_asked_twice(name, tmp_path):
    faults, message = LASTING[name]
    with local.serve(None, None, *faults) as service:
        ledger = Ledger(tmp_path / "q")
        with (
            oracle(service, timeout=0.2, ledger=ledger) as ask,
            pytest.raises(OracleError, match=message) as error,
        ):
            ask(IMAGES)
        assert "\n" not in str(error.value)
        assert "secret" not in str(error.value)
        assert (ask.queries, error.value.queries) == (2, 2)
        throttled = name == "long pause"
        assert ask.wasted == (0 if throttled else len(faults))
        ledger = Ledger(tmp_path / "q")
        with oracle(service, ledger=ledger, probe=0) as again:
            answers = again(IMAGES)
        np.testing.assert_allclose(answers, local.probabilities(IMAGES), atol=1e-7)
        assert again.wasted == ask.wasted
        pixels = [image.tobytes() for image in service.asked]
        # A late answer, or an unusable one, is wasted.
        assert len(pixels) - len(set(pixels)) <= again.wasted


def test_service_that_is_down():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    with (
        oracle(url) as ask,
        pytest.raises(OracleError, match=rf"{url} failed 3 times.*cannot be reached"),
    ):
        ask(IMAGES)
    assert (ask.queries, ask.ledger.sent, ask.wasted) == (0, 0, 0)


def test_everyone_waits_when_one_is_throttled():
    with local.serve(local.status(429, Retry_After="0.2")) as service:
        with oracle(service, concurrency=2, rate_limit=100) as ask:
            ask(IMAGES)
        # The first two may start before the answer; then nobody for 0.2 s.
        gaps = np.diff(service.times)
        assert gaps.max() > 0.15
        assert gaps.argmax() <= 1


def test_a_pause_holds_for_requests_that_wait_for_the_rate_limit():
    # The second request has its turn within the pause that the first one causes.
    with local.serve(local.status(429, Retry_After="0.5")) as service:
        with oracle(service, concurrency=2, rate_limit=8) as ask:
            ask(IMAGES)
        first, *others = service.times
        assert min(others) - first > 0.45


def test_noise_can_be_measured_before_the_first_query(tmp_path):
    with local.serve() as service:
        with oracle(service, ledger=Ledger(tmp_path / "ledger")) as ask:
            ask(IMAGES)
        with oracle(service, ledger=Ledger(tmp_path / "ledger"), probe=0) as ask:
            ask.rewind(len(IMAGES))
            assert ask.measure_noise(2).changed == 0


def test_answers_that_overtake_a_failed_one_are_kept(tmp_path):
    """The first request fails; those behind it are answered and not sent again."""

    def fail_late(handler, body):
        if np.ravel(local.read_images(handler.headers, body))[0] > 0:
            return local.answer(handler, body)
        time.sleep(0.1)
        return handler.reply(b"{}", status=400)

    with local.serve(*10 * [fail_late]) as service:
        options = {"concurrency": 2, "budget": 12}
        ledger = Ledger(tmp_path / "q")
        with (
            oracle(service, ledger=ledger, **options) as ask,
            pytest.raises(OracleError, match="status 400"),
        ):
            ask(IMAGES)
        service.faults.clear()
        answered = len(service.asked)
        assert answered >= 1
        assert (ask.queries, ask.wasted, ledger.sent) == (0, 1, answered + 1)
        ledger = Ledger(tmp_path / "q")
        with oracle(service, ledger=ledger, **options) as again:
            answers = again(IMAGES)
        np.testing.assert_allclose(answers, local.probabilities(IMAGES), atol=1e-7)
        assert len(service.asked) == len({i.tobytes() for i in service.asked}) == 10
        assert (again.queries, again.wasted, again.remaining) == (10, 1, 1)


def test_budget_bounds_tries_too():
    with local.serve(*20 * [local.status(500)]) as service:
        with oracle(service, retries=9, budget=5) as ask:
            for _ in range(2):
                with pytest.raises(BudgetExhausted) as error:
                    ask(IMAGES)
                answers = error.value.answers
                assert (answers.shape, answers.dtype) == ((0, 3), np.float32)
        assert len(service.times) == ask.wasted == 5


def test_decode_gets_a_response_as_httpx_makes_it():
    def decode(response):
        assert response.headers["Server"]
        return response.raise_for_status().json()

    with local.serve() as service, oracle(service, decode=decode) as ask:
        np.testing.assert_allclose(ask(IMAGES), local.probabilities(IMAGES), atol=1e-7)


def test_repeated_queries_keep_their_rows_where_the_budget_ends():
    """Two tries of the first batch fail; the third batch alone would still fit."""
    sizes = {"batch_size": 4, "request_size": 4}
    with local.serve() as service, oracle(service, **sizes) as ask:
        ask(IMAGES)
        ask.budget = len(IMAGES) + 10
        service.faults.extend(2 * [local.status(500)])
        assert ask.measure_noise(10)[:2] == (0, 0)
        assert (ask.wasted, ask.measured) == (8, 0)


def test_answers_that_change_are_noticed(tmp_path):
    with local.serve() as service:
        with oracle(service, ledger=Ledger(tmp_path / "q")) as ask:
            ask(IMAGES)
            assert ask.measure_noise(4)[:3] == (4, 0, 0)
            service.answer = lambda images: local.probabilities(images)[:, ::-1]
            assert ask.measure_noise(4)[:2] == (4, 4)
        with (
            oracle(service, ledger=Ledger(tmp_path / "q")) as again,
            pytest.raises(ValueError, match="3 got another answer and 3 another class"),
        ):
            again(IMAGES)
        with pytest.raises(ValueError, match=r"the model 'http.*/other', got those of"):
            oracle(f"{service.url[:22]}/other", ledger=Ledger(tmp_path / "q"))


@pytest.mark.parametrize("place", ["multipart", "body", "base64"])
@pytest.mark.parametrize("file_format", ["png", "jpeg"])
def test_what_the_ledger_has_is_what_the_service_saw(file_format, place):
    encode = ImageFiles(file_format, place)
    size = 1 if place == "body" else 3
    options = {"encode": encode, "request_size": size}
    with local.serve() as service, oracle(service, **options) as ask:
        answers = ask(OFF_GRID)
        recorded = ask.ledger.made()[0]
        np.testing.assert_array_equal(recorded, np.stack(service.asked))
        np.testing.assert_array_equal(recorded, ask.seen(OFF_GRID))
        assert np.abs(recorded - OFF_GRID).max() > 0
        np.testing.assert_allclose(answers, local.probabilities(recorded), atol=1e-7)
        assert ask(OFF_GRID).tolist() == answers.tolist()
        assert (ask.queries, ask.repeated, ask.changed) == (12, 6, 0)
        noise = ask.measure_noise(6)
        # JPEG files that change when they are compressed again are left out.
        assert noise.changed == 0
        assert noise.images == 6 or file_format == "jpeg"
    levels = recorded * 255
    # One rounding of k / 255 to float32 and back.
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
    if file_format == "png":
        np.testing.assert_allclose(recorded, OFF_GRID, atol=0.5 / 255 + 1e-7)


def test_own_encoding_and_decoding():
    def encode(images):
        return {"json": {"x": (images * 255).round().astype(int).tolist()}}

    def decode(response):
        return np.asarray(response.json()) @ np.eye(3)[::-1]

    with local.serve(answer=lambda x: local.probabilities(x / 255)) as service:
        with oracle(service, encode=encode, decode=decode) as ask:
            grid = np.rint(IMAGES * 255).astype(np.float32) / 255
            expected = local.probabilities(grid)[:, ::-1]
            # The service computes k / 255 itself.
            np.testing.assert_allclose(ask(grid), expected, atol=1e-6)
        fields = local.status(200, b'{"scores": [[1, 0, 0]]}')
        service.faults.append(fields)
        with oracle(service, decode="scores") as ask:
            assert ask(IMAGES[:1]).tolist() == [[1, 0, 0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "classify"}, "`url` must be an address like 'https:"),
        ({"url": "ftp://host/x"}, "`url` must be an address like 'https:"),
        ({"url": 3}, "`url` must be an address, got 3"),
        ({"encode": "pgn"}, r"Unknown encoding 'pgn'. Did you mean 'png'"),
        ({"answers": "label"}, "Unknown kind of answers"),
        ({"timeout": None}, "`timeout` must be a number of seconds, got None"),
        ({"timeout": float("inf")}, "`timeout` must be above 0 .* got inf.$"),
        ({"retries": -1}, "`retries` must be"),
        ({"retries": 1.5}, "`retries` must be an integer >= 0, got 1.5"),
        ({"rate_limit": 0}, "`rate_limit` must be above 0 requests per second"),
        ({"concurrency": 0}, "`concurrency` must be"),
        ({"request_size": 0}, "`request_size` must be"),
        ({"budget": 2.5}, "`budget` must be an integer"),
    ],
)
def test_wrong_options(options, message):
    usual = {"url": "http://host/x", "answers": "labels", "num_classes": 3}
    with pytest.raises((ValueError, TypeError), match=message):
        HttpOracle(**usual | options)


def test_wrong_images_for_files():
    with pytest.raises(ValueError, match=r"PNG file .* 1 or 2 or 3 or 4 .*\[2, 2, 5\]"):
        ImageFiles()(np.zeros((1, 2, 2, 5), np.float32))
    with pytest.raises(ValueError, match="has one, got 2; set `request_size=1`"):
        ImageFiles(place="body")(OFF_GRID[:2])
    with pytest.raises(ValueError, match="Unknown format of image files 'gif'"):
        ImageFiles("gif")
    with pytest.raises(ValueError, match="Unknown place of image files 'url'"):
        ImageFiles(place="url")
    assert PixelLists("x")(IMAGES[:1]) == {"json": {"x": IMAGES[:1].tolist()}}


CHILD = """
import sys
import numpy as np
from advgan_jax.oracles import HttpOracle, Ledger
images = np.arange(40 * 4, dtype=np.float32).reshape(40, 2, 2, 1) / 256
ledger = Ledger(sys.argv[2])
options = dict(answers="probabilities", num_classes=3, concurrency=3, probe=0)
ask = HttpOracle(sys.argv[1], ledger=ledger, batch_size=16, **options)
print("ready", flush=True)
ask(images)
print(ask.queries, flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path):
    """Ten processes are killed; each image is answered once but for those under way."""

    def slowly(images):
        time.sleep(0.02)
        return local.probabilities(images)

    rng = np.random.default_rng(0)
    with local.serve(answer=slowly) as service:
        command = [sys.executable, "-c", CHILD, service.url, tmp_path / "q"]
        kills = 0
        while True:
            child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert child.stdout.readline() == "ready\n"
            if kills < 10:
                time.sleep(rng.uniform(0, 0.08))
                child.send_signal(signal.SIGKILL)
                kills += 1
                child.wait()
                child.stdout.close()
                continue
            out = child.communicate()[0]
            break
        assert out == "40\n"
        ledger = Ledger(tmp_path / "q")
        assert len(ledger) == 40
        # Sent images are counted before they leave; at most three are under way.
        assert len(service.asked) <= ledger.sent <= len(service.asked) + 3 * kills
        assert ledger.wasted == ledger.sent - 40 <= 3 * kills
        unique = {image.tobytes() for image in service.asked}
        assert len(unique) == 40
        assert len(service.asked) - 40 <= 3 * kills

"""Send requests to an HTTP service: tries, waits, time limits, and one-line errors."""

import email.utils
import math
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from advgan_jax.checks import optional_library
from advgan_jax.oracles.answers import UnusableAnswer

_BUSY = 429
_AGAIN = (408, 425, 500, 502, 503, 504)  # statuses that may be better next time
_OF_THE_TRANSFER = ("Content-Encoding", "Transfer-Encoding", "Content-Length")
_FIRST_WAIT = 0.25  # seconds before the second try; each later one waits twice as long
_LONGEST_WAIT = 300.0  # a service that asks for more time is an error


class Stopped(Exception):
    """Another request failed, or the user interrupted the run."""


class _TryAgain(Exception):
    """A temporary failure: try again, after `seconds` if the service gave them."""

    def __init__(self, reason: str, *, sent: bool, seconds: float | None = None):
        super().__init__(reason)
        self.sent, self.seconds = sent, seconds


class Service:
    """One address, its rate limit, and its tries.

    Threads share it. All wait if the service asks one of them to.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        retries: int,
        rate_limit: float | None,
        concurrency: int,
        headers: Mapping[str, str] | None,
    ) -> None:
        httpx = optional_library("httpx", "`HttpOracle`", "'advgan_jax[http]'")
        try:
            parsed = httpx.URL(url)
        except (TypeError, httpx.InvalidURL) as error:
            raise ValueError(
                f"`url` must be an address, got {url!r}: {error}."
            ) from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError(
                f"`url` must be an address like 'https://host/path', got {url!r}."
            )
        # A query may have a key, which belongs into no message and no ledger.
        self.name = f"{parsed.scheme}://{parsed.netloc.decode()}{parsed.path}"
        self._url, self._httpx = url, httpx
        self._timeout, self._retries = timeout, retries
        self._interval = 0.0 if rate_limit is None else 1 / rate_limit
        self._lock, self._next, self._paused = threading.Lock(), 0.0, 0.0
        self.stopped = threading.Event()
        limits = httpx.Limits(max_connections=concurrency)
        secure = parsed.scheme == "https"  # certificates take long to load
        self._client = httpx.Client(
            timeout=timeout, headers=headers, limits=limits, verify=secure
        )
        self._close = weakref.finalize(self, self._client.close)

    def close(self) -> None:
        """Close all connections."""
        self._close()

    def post(
        self,
        arguments: Mapping[str, Any],
        count: int,
        send: Callable[[int], None],
        decode: Callable[[Any], Any],
    ) -> Any:
        """Send `count` images and return their decoded answers.

        `send` counts each try. `UnusableAnswer` if no try succeeds.
        """
        for number in range(self._retries + 1):
            self._wait_for_turn()  # raises `Stopped` after another failure
            send(count)
            try:
                return self._try(arguments, decode)
            except _TryAgain as failure:
                if not failure.sent:
                    send(-count)
                last, seconds = failure, failure.seconds
            if seconds is None:
                seconds = _FIRST_WAIT * 2**number
            elif seconds > _LONGEST_WAIT:
                raise UnusableAnswer(
                    f"{self.name} {last} and asks to wait {seconds:.0f} seconds; "
                    "resume the run then."
                )
            if number < self._retries:
                self._pause(seconds, everyone=last.seconds is not None)
        raise UnusableAnswer(
            f"{self.name} failed {self._retries + 1} times, at last because it {last}."
        )

    def _try(self, arguments: Mapping[str, Any], decode: Callable[[Any], Any]) -> Any:
        """Send one request and decode its answer."""
        httpx, end = self._httpx, time.monotonic() + self._timeout
        try:
            with self._client.stream("POST", self._url, **arguments) as response:
                body = bytearray()
                for part in response.iter_bytes():
                    body += part
                    # The client's own limit is for each part.
                    if time.monotonic() > end:
                        raise httpx.ReadTimeout("slow")
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _TryAgain(
                f"cannot be reached ({error or 'time limit'})", sent=False
            ) from error
        except httpx.TimeoutException as error:
            reason = f"gave no answer within `timeout` = {self._timeout:g} s"
            raise _TryAgain(reason, sent=True) from error
        except httpx.RequestError as error:
            raise _TryAgain(f"broke off the answer ({error})", sent=True) from error
        headers = response.headers.copy()
        for name in _OF_THE_TRANSFER:
            headers.pop(name, None)
        answer = httpx.Response(
            response.status_code,
            headers=headers,
            content=bytes(body),
            request=response.request,
        )
        status = answer.status_code
        if status == _BUSY or status in _AGAIN:
            seconds = _retry_after(response.headers.get("Retry-After"))
            reason = f"answered with status {status}{_excerpt(answer)}"
            raise _TryAgain(reason, sent=status != _BUSY, seconds=seconds)
        if not answer.is_success:
            raise UnusableAnswer(
                f"{self.name} answered with status {status}{_excerpt(answer)}; check "
                "the address, the headers and `encode`."
            )
        try:
            return decode(answer)
        except Exception as error:
            raise UnusableAnswer(
                f"`decode` cannot read the answer of {self.name}{_excerpt(answer)}: "
                f"{error!r}."
            ) from error

    def _wait_for_turn(self) -> None:
        """Wait until the rate limit, and the service, allow a request."""
        start = -math.inf
        # While a thread sleeps, another one may learn of a pause.
        while start < self._paused:
            with self._lock:
                start = max(time.monotonic(), self._next, self._paused)
                self._next = start + self._interval
            self._sleep(start - time.monotonic())

    def _pause(self, seconds: float, *, everyone: bool) -> None:
        if everyone:
            with self._lock:
                self._paused = max(self._paused, time.monotonic() + seconds)
        else:
            self._sleep(seconds)

    def _sleep(self, seconds: float) -> None:
        if self.stopped.wait(max(0.0, seconds)):
            raise Stopped


def decode_json(field: str | None, kind: str) -> Callable[[Any], np.ndarray]:
    """Return the function that reads answers from JSON, or from one of its fields."""

    def _decode(response: Any) -> np.ndarray:
        values = response.json()
        array = np.asarray(values if field is None else values[field])
        # JSON does not distinguish 1.0 and 1.
        whole = np.issubdtype(array.dtype, np.integer) and kind != "labels"
        return array.astype(np.float64) if whole else array

    return _decode


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a `Retry-After` header, a number or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(
            0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        )
    except ValueError:
        return None


def _excerpt(response: Any) -> str:
    """Return the kind and the first words of an answer, on one line."""
    kind = response.headers.get("Content-Type", "").partition(";")[0] or "no type"
    words = " ".join(response.text[:400].split())
    return f" ({kind}: {words[:80]!r})"

"""Query a black box that is an HTTP service."""

import concurrent.futures
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from advgan_jax.checks import check_integer, unknown_name
from advgan_jax.oracles._calls import check_timeout
from advgan_jax.oracles._requests import Service, Stopped, decode_json
from advgan_jax.oracles.answers import check_kind
from advgan_jax.oracles.encodings import FORMATS, ImageFiles, PixelLists
from advgan_jax.oracles.ledger import digest
from advgan_jax.oracles.oracle import Oracle

Encode = Callable[[np.ndarray], Mapping[str, Any]]


class HttpOracle(Oracle):
    """Query an HTTP service; see `Oracle` for counts, ledgers and noise.

    Each try counts as sent, since a service that fails may have answered. A refused
    connection and status 429 (too many requests) do not count. Answers are recorded as
    they arrive, so that a killed process loses only those under way.

    A failed request is tried again after a time limit, a lost connection, or one of the
    statuses 408, 425, 429, 500, 502, 503 and 504. `Retry-After` is obeyed up to five
    minutes, by all requests. Any other status or an unreadable answer ends the call
    with `OracleError`.
    """

    def __init__(
        self,
        url: str,
        *,
        answers: str,
        num_classes: int,
        encode: str | Encode = "json",
        decode: str | Callable[[Any], Any] | None = None,
        request_size: int = 1,
        batch_size: int = 64,
        timeout: float = 30.0,
        retries: int = 5,
        rate_limit: float | None = None,
        concurrency: int = 1,
        headers: Mapping[str, str] | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        """Wrap a service.

        Args:
          url: the address, which gets POST requests.
          answers: their kind, see `Oracle`.
          num_classes: K.
          encode: `json` for `PixelLists()`; `png` or `jpeg` for `ImageFiles`; or a
            function from images `[B, H, W, C]` to arguments of
            `httpx.Client.request`. If it has a method `seen`, the ledger records, and
            a caller learns about, `encode.seen(images)`; if it has `levels`, attacks
            round images to so many.
          decode: a function from `httpx.Response` to answers; a name for a field of a
            JSON object; None for JSON alone.
          request_size: the most images in one request.
          batch_size: the most images between two calls of `after_batch`.
          timeout: the most seconds for a try.
          retries: tries of a request after the first. Each status 429 takes one, so
            with `concurrency` also give the `rate_limit` of the service.
          rate_limit: the most requests in a second; None for no limit.
          concurrency: number of requests at the same time.
          headers: of all requests, for example an access key.
          name: of the model; by default the address without its query.
          **options: `budget`, `cache`, `ledger` and `probe`, see `Oracle`.

        Raises:
          ImportError: if the package httpx is missing.
          ValueError: if an argument is out of range; see also `Oracle`.
          TypeError: if an argument has another type.
        """
        check_kind(answers)
        check_integer("request_size", request_size, 1)
        check_integer("retries", retries, 0)
        check_integer("concurrency", concurrency, 1)
        check_timeout(timeout, optional=False)
        if rate_limit is not None and not (
            isinstance(rate_limit, int | float) and 0 < rate_limit < math.inf
        ):
            raise ValueError(
                f"`rate_limit` must be above 0 requests per second, got {rate_limit}."
            )
        self._encode = _encoding(encode)
        self._decode: Callable[[Any], Any] = (
            decode if callable(decode) else decode_json(decode, answers)
        )
        self._request_size, self._concurrency = request_size, concurrency
        self._originals: dict[bytes, Any] = {}
        self._service = Service(
            url,
            timeout=timeout,
            retries=retries,
            rate_limit=rate_limit,
            concurrency=concurrency,
            headers=headers,
        )
        super().__init__(
            self._encode,
            answers=answers,
            num_classes=num_classes,
            batch_size=batch_size,
            timeout=timeout,
            name=self._service.name if name is None else name,
            **options,
        )

    def close(self) -> None:
        """Close the connections; the oracle cannot be called again."""
        self._service.close()

    def __enter__(self) -> "HttpOracle":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def levels(self) -> int | None:
        """Number of grey levels of the images that the service sees, if known."""
        return getattr(self._encode, "levels", None)

    def seen(self, images: np.ndarray) -> np.ndarray:
        """Return float32 images as the service sees them."""
        look = getattr(self._encode, "seen", None)
        return images if look is None else look(images)

    def _prepare(self, images: np.ndarray) -> np.ndarray:
        seen = self.seen(images)
        # What is sent again must be seen as before: keep what a JPEG file came from.
        lossy = ~self._repeatable(seen)
        pairs = zip(seen[lossy], images[lossy], strict=True)
        self._originals = {digest(image): original for image, original in pairs}
        return seen

    def _repeatable(self, images: np.ndarray) -> np.ndarray:
        pixels = tuple(range(1, images.ndim))
        return (self.seen(images) == images).all(axis=pixels)

    def _exchange(
        self,
        images: np.ndarray,
        send: Callable[[int], None],
        receive: Callable[[np.ndarray, Any], None],
    ) -> None:
        """Send requests from several threads, and receive answers as they arrive."""
        images = np.stack([self._originals.get(digest(i), i) for i in images])
        lock, stopped = threading.Lock(), self._service.stopped
        stopped.clear()

        def _count(number: int) -> None:
            with lock:
                send(number)

        def _request(rows: np.ndarray) -> None:
            try:
                raw = self._service.post(
                    self._encode(images[rows]), len(rows), _count, self._decode
                )
                with lock:
                    receive(rows, raw)
            except BaseException:
                stopped.set()
                raise

        size = self._request_size
        every = np.split(np.arange(len(images)), range(size, len(images), size))
        with concurrent.futures.ThreadPoolExecutor(self._concurrency) as pool:
            futures = [pool.submit(_request, rows) for rows in every]
            try:
                concurrent.futures.wait(futures)
            finally:
                # Answers under way are recorded even after Ctrl-C.
                stopped.set()
        for error in (future.exception() for future in futures):
            if error is not None and not isinstance(error, Stopped):
                raise error


def _encoding(encode: str | Encode) -> Encode:
    """Return the encoding of a name, or the given function."""
    if callable(encode):
        return encode
    if encode == "json":
        return PixelLists()
    if encode not in FORMATS:
        raise unknown_name("encoding", encode, ("json", *FORMATS))
    return ImageFiles(encode)

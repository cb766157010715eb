"""Which images steps see: all in turn; over an epoch, half of them are clean."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from advgan_jax.oracles import Ledger
from advgan_jax.types import Array, Batch


def on_device(ledger: Ledger, size: int) -> Batch:
    """All queries that were made, with their answers in the place of labels.

    Args:
      ledger: has made at least one.
      size: how many there will be in the end; filled up, so that nothing is compiled
        again.

    Returns:
      Images `[size, H, W, C]` and answers `[size, K]`.
    """
    arrays = ledger.made()
    missing = size - len(arrays[0])
    return Batch(
        *(
            jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
            for array in arrays
        )
    )


def in_turn(
    first: int, count: int, others: tuple[int, int] = (0, 0)
) -> Callable[[Array], Array]:
    """Lets steps see images in turn, each as often as the next.

    The loop shuffles the places of an epoch that is as long as the schedule says.
    Here places become rows: of the first `count`, and at every second place of those
    from `others[0]` to `others[1] - 1`. So an epoch sees as many of these as of those,
    a batch about as many.

    Args:
      first: the place, in all epochs, of the epoch's first.
      count: of the images to go through.
      others: the images at every second place; none if there are none.

    Returns:
      Makes rows of places, see `loop.fit`.
    """
    start, end = others

    def rows_of(places):
        # On the host: the places of all epochs need not fit in 32 bits.
        places = first + np.asarray(places, np.int64)
        if start == end:
            rows = places % count
        else:
            half = places // 2
            rows = np.where(places % 2, start + half % (end - start), half % count)
        return jnp.asarray(rows, jnp.int32)

    return rows_of

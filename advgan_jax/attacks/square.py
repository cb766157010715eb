"""Square Attack: random search with squares, in L-infinity, L2 and L1.

Deviations: a square that would change nothing gets other colours, as in the authors'
code, by one draw among these instead of repeated draws; the colours of the 17th and
later channels stay as drawn. Squares reach the last row and column, as in the paper;
those of the code do not. In L2 and L1 windows shrink to images smaller than three
pixels, and the first bumps cover all of an image. The L1 form projects onto the ball
and the box at once, as in AutoAttack (Croce & Hein, 2021); its bumps are those of L2.
With `loss=None` the loss is the margin, or the cross-entropy when targeted, as in the
paper. The clean image is not queried; the first proposal counts.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax.attacks._api import images_of
from advgan_jax.attacks._norms import get_norm
from advgan_jax.attacks._queries import (
    Answered,
    QueryMethod,
    State,
    keep_best,
    project,
)
from advgan_jax.attacks._query_loop import query_attack
from advgan_jax.checks import check_image_axes
from advgan_jax.types import Array, Bounds, Scalar

# The share of pixels halves after these steps of a search of 10,000.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_LENGTH = 10_000
# Bumps along one side of the first proposal in L2 and L1.
_NUM_BUMPS = 5
_LEAST_WINDOW = 3
_MOST_REDRAWN = 16  # channels
_TINY = 1e-10


class _Window(NamedTuple):
    """A square of `side` pixels whose first pixel is `(row, column)`."""

    row: Array
    column: Array
    side: Array

    def local(self, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Return rows `[H, 1, 1]` and columns `[1, W, 1]` counted from the window."""
        height, width = shape[:2]
        rows = jnp.arange(height)[:, None, None] - self.row
        return rows, jnp.arange(width)[None, :, None] - self.column

    def mask(self, shape: tuple[int, ...]) -> Array:
        """Return which pixels are inside, bool `[H, W, 1]`."""
        rows, columns = self.local(shape)
        return _within(rows, 0, self.side) & _within(columns, 0, self.side)


def _within(place: Array, first: Array | int, after: Array) -> Array:
    return (place >= first) & (place < after)


def _place(
    draws: Array, shape: tuple[int, ...], side: Array, unreached: int
) -> _Window:
    """Return a window from two numbers of [0, 1), off the last `unreached` pixels."""
    places = draws * (jnp.asarray(shape[:2]) - side + 1 - unreached)
    row, column = places.astype(jnp.int32)
    return _Window(row, column, side)


def _signs(draws: Array) -> Array:
    """Return signs from numbers of [0, 1)."""
    return jnp.where(draws < 0.5, -1, 1).astype(draws.dtype)


def _side(state: State, share: Scalar, length: int, least: int) -> Array:
    """Return the side of the next window, from the schedule of a search's length."""
    height, width = state.image.shape[:2]
    # Scaled on the host, where the products do not overflow.
    first = [-(-(step + 1) * length // _LENGTH) for step in _HALVINGS]
    halvings = jnp.sum(state.queries - 1 >= jnp.asarray(first))
    pixels = share * 0.5**halvings * height * width
    side = jnp.maximum(jnp.round(jnp.sqrt(pixels)).astype(jnp.int32), least)
    if least > 1:
        side += 1 - side % 2
    return jnp.minimum(side, min(height, width))


def _stripes(image: Array, key: Array, epsilon: Scalar) -> Array:
    """Return the first proposal in L-infinity: vertical stripes."""
    return image + epsilon * _signs(
        jax.random.uniform(key, (1, *image.shape[1:]), image.dtype)
    )


def _recolour(
    state: State, epsilon: Scalar, side: Array, as_in_autoattack: bool
) -> Array:
    """Return the best image with one square of another colour."""
    shape, channels = state.image.shape, state.image.shape[-1]
    draws = jax.random.uniform(state.step_key, (3 + channels,), state.image.dtype)
    inside = _place(draws[:2], shape, side, int(as_in_autoattack)).mask(shape)
    signs = _signs(draws[3:])

    def _painted(signs: Array) -> Array:
        painted = project((state.image + epsilon * signs)[None], state.image, epsilon)
        return jnp.where(inside, painted[0], state.best)

    if as_in_autoattack:
        return _painted(signs)
    same = jnp.all(_painted(signs) == state.best)
    redrawn = min(channels, _MOST_REDRAWN)
    code = 1 + (draws[2] * (2**redrawn - 1)).astype(jnp.int32)
    flip = jnp.pad((code >> jnp.arange(redrawn)) & 1, (0, channels - redrawn)) == 1
    return _painted(jnp.where(same & flip, -signs, signs))


def _bump(window: _Window, upright: Array, shape: tuple[int, ...]) -> Array:
    """Return two opposite pyramids that fill a window, `[H, W, 1]`, of L2 norm one."""
    sums = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, max(shape) + 2) ** 2.0)])
    table = jnp.asarray(sums, jnp.float32)
    rows, columns = window.local(shape)
    along, across = (
        jnp.where(upright, a, b) for a, b in ((rows, columns), (columns, rows))
    )
    half = window.side // 2

    def _pyramid(first: Array, length: Array) -> Array:
        place = along - first
        inside = _within(place, 0, length) & _within(across, 0, window.side)
        middle, other = length // 2, window.side // 2
        distance = jnp.maximum(jnp.abs(place - middle), jnp.abs(across - other))
        last = jnp.maximum(middle, other) + 1
        height = table[last] - table[jnp.clip(distance, 0, last)]
        height = jnp.where(inside, height, 0)
        return height / jnp.maximum(jnp.sqrt(jnp.sum(height**2)), _TINY)

    both = _pyramid(0 * half, half) - _pyramid(half, window.side - half)
    return both / jnp.maximum(jnp.sqrt(jnp.sum(both**2)), _TINY)


def _size(change: Array, norm: str, axes: tuple[int, ...] = (0, 1, 2)) -> Array:
    """Return the norm of a change over some axes, which remain."""
    power = 2 if norm == "l2" else 1
    total = jnp.sum(jnp.abs(change) ** power, axis=axes, keepdims=True)
    return total ** (1 / power)


def _bumps(
    image: Array, key: Array, epsilon: Scalar, norm: str, as_in_autoattack: bool
) -> Array:
    """Return the first proposal in L2 and L1: a grid of bumps."""
    height, width, channels = image.shape
    side = max(min(height, width) // _NUM_BUMPS, 1)
    down, right = height // side, width // side
    draws = jax.random.uniform(key, (down, right, 1 + channels), image.dtype)
    none, tile = jnp.asarray(0), (side, side)
    bump = _bump(_Window(none, none, none + side), none == 0, tile)[..., 0]
    is_upright = draws[:, :, None, None, :1] < 0.5
    bumps = jnp.where(is_upright, bump[..., None], bump.T[..., None])
    bumps *= _signs(draws[:, :, None, None, 1:])
    bumps = bumps.swapaxes(1, 2).reshape(down * side, right * side, channels)
    used = (_NUM_BUMPS * side,) * 2 if as_in_autoattack else bumps.shape[:2]
    above, left = max(height - used[0], 0) // 2, max(width - used[1], 0) // 2
    change = jnp.pad(bumps, ((above, height), (left, width), (0, 0)))[:height, :width]
    return image + epsilon * change / jnp.maximum(_size(change, norm), _TINY)


def _move_mass(
    state: State, epsilon: Scalar, side: Array, norm: str, unreached: int
) -> Array:
    """Return the best image with the change in one window moved to another one."""
    shape, channels = state.image.shape, state.image.shape[-1]
    draws = jax.random.uniform(state.step_key, (5 + channels,), state.image.dtype)
    window = _place(draws[:2], shape, side, unreached)
    inside = window.mask(shape)
    source = _place(draws[2:4], shape, side, unreached).mask(shape)
    change = state.best - state.image
    power, each = (2 if norm == "l2" else 1), (0, 1)
    spare = jnp.maximum(epsilon**power - _size(change, norm) ** power, 0) / channels
    freed = _size(jnp.where(inside | source, change, 0), norm, each) ** power
    bump = _bump(window, draws[4] < 0.5, shape)
    old = jnp.where(inside, change, 0)
    new = bump * _signs(draws[5:])
    new += old / (_TINY + _size(old, norm, each))
    new *= (spare + freed) ** (1 / power) / (_TINY + _size(new, norm, each))
    change = jnp.where(inside, new, jnp.where(source, 0, change))
    if norm == "l2":
        change *= epsilon / (_TINY + _size(change, norm))
    return state.image + change


@query_attack(static=("norm", "loss", "as_in_autoattack"), random=True)
def square_search(
    *,
    key: Array | None = None,
    epsilon: Scalar,
    num_queries: int = 5_000,
    norm: str = "linf",
    loss: str | None = None,
    initial_share: Scalar = 0.8,
    as_in_autoattack: bool = False,
    targeted: bool = False,
    bounds: Bounds = (0.0, 1.0),
) -> QueryMethod:
    r"""Square Attack, which queries scores and needs no gradient.

    Each step changes one square of the best image so far, and keeps the change if the
    loss falls. In L-infinity the square gets one colour of the corners,
    `x \pm \epsilon` for each channel. In L2 and L1 it gets a bump, and the size of the
    change of a second square.

    .. math:: x_{k+1} = \arg\min_{z \in \{x_k,\ \Pi(x_k + \delta_k)\}} \ell(Z(z), y)

    Args:
      num_queries: the most queries for each image; it scales the schedule of sides,
        unless `as_in_autoattack`.
      norm: `linf`, `l2` or `l1`.
      loss: a name of `losses.ADVERSARIAL_LOSSES`; None for that of the paper: the
        margin, or the cross-entropy when targeted.
      initial_share: of the pixels of the first squares; the paper takes 0.05 to 0.8.
      as_in_autoattack: whether squares and schedule are those of AutoAttack's code:
        squares do not reach the last row and column, one that changes nothing costs a
        query, and sides shrink as in a search of 10,000 queries. The first bumps do
        not reach the first rows of some sizes. Published robust accuracies depend on
        it.

    Returns:
      The images, their success and the number of queries for each.

    Raises:
      ValueError: for images that are not `[B, H, W, C]`, or an unknown norm or loss.

    References:
      Andriushchenko et al., 2020 (https://arxiv.org/abs/1912.00049), Alg. 1 to 3;
      Croce & Hein, 2021 (https://arxiv.org/abs/2103.01208), for L1.
    """
    del key, bounds
    get_norm(norm)
    name = ("cross_entropy" if targeted else "margin") if loss is None else loss
    is_box = norm == "linf"

    def _start(image: Array, key: Array, start: Array | None) -> Array:
        check_image_axes(image[None])
        if start is not None:
            return start
        if is_box:
            return _stripes(image, key, epsilon)
        return _bumps(image, key, epsilon, norm, as_in_autoattack)

    def _propose(state: State) -> Array:
        length = _LENGTH if as_in_autoattack else num_queries
        side = _side(state, initial_share, length, 1 if is_box else _LEAST_WINDOW)
        if is_box:
            x = _recolour(state, epsilon, side, as_in_autoattack)
        else:
            x = _move_mass(state, epsilon, side, norm, int(as_in_autoattack))
        x = jnp.where(state.queries == 0, state.own, x)
        return project(x[None], state.image, epsilon, norm)

    def _update(state: State, answered: Answered) -> State:
        return keep_best(state, answered)

    return QueryMethod(
        _start,
        _propose,
        _update,
        1,
        num_queries,
        targeted,
        name,
        epsilon,
        norm,
        True,
        True,
    )


square = images_of(
    square_search, "The best images found, within the ball and `bounds`."
)

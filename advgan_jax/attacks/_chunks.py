"""Signs of pixels that are flipped in halves, quarters and so on of an image."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from advgan_jax.types import Array


class Signs(NamedTuple):
    """The best signs, and the chunk of pixels to flip next.

    Attributes:
      up: whether a pixel increases, bool `[n]`.
      level: there are `2**level` chunks.
      chunk: the number of the next one.
    """

    up: Array
    level: Array
    chunk: Array

    @property
    def num_levels(self) -> int:
        """Number of levels; a chunk of the last one is a pixel."""
        return math.ceil(math.log2(max(self.up.shape[0], 2))) + 1

    @property
    def _length(self) -> Array:
        """Number of pixels in a chunk."""
        return (self.up.shape[0] + (1 << self.level) - 1) >> self.level

    def flipped(self, is_flipped: Array, *, middle_first: bool = False) -> Array:
        """Return the signs, with the chunk flipped if `is_flipped`, bool `[n]`.

        With `middle_first` chunk 0 of a level is the middle one, and the outermost ones
        are the last.
        """
        chunk = self._from_middle() if middle_first else self.chunk
        place = jnp.arange(self.up.shape[0]) // self._length == chunk
        return self.up ^ (place & is_flipped)

    def _from_middle(self) -> Array:
        """Return the place of the chunk; places alternate around the middle."""
        count = (self.up.shape[0] + self._length - 1) // self._length
        steps = (self.chunk + 1) // 2
        right = (self.chunk + count) % 2 == 1
        return (count - 1) // 2 + jnp.where(right, steps, -steps)

    def next(self) -> "Signs":
        """Return the signs at the next chunk; after the finest level, the first one."""
        num_pixels, num_levels = self.up.shape[0], self.num_levels
        chunk = self.chunk + 1
        ended = chunk * self._length >= num_pixels
        level = jnp.where(ended, (self.level + 1) % num_levels, self.level)
        return self._replace(level=level, chunk=jnp.where(ended, 0, chunk))


def all_up(image: Array, level: int = 0) -> Signs:
    """Return signs that increase all pixels, by default at the coarsest level."""
    first, none = jnp.asarray(level, jnp.int32), jnp.asarray(0, jnp.int32)
    return Signs(jnp.ones(image.size, bool), first, none)


def towards(start: Array, image: Array) -> Array:
    """Return the signs of a step from an image to `start`, bool `[n]`.

    A pixel that does not move is at an edge of the box, which the step leaves.
    """
    return ((start > image) | ((start == image) & (image > 0.5))).ravel()

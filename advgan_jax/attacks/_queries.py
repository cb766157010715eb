"""The core of attacks by queries: a method for one image, and its state.

A method is three pure functions of one image: `init` starts its state, `ask` proposes
images, and `tell` takes the answers. `_query_loop` runs it on a JAX model, and
`blackbox.attack_oracle` against an oracle, by the same functions. So both propose the
same images and count the same queries, up to the rounding of sums in Bandits and
HopSkipJump. Methods work on pixels in [0, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from advgan_jax import projections
from advgan_jax.attacks._descent import make_loss_fn, succeeded
from advgan_jax.types import Array, Scalar


class State(NamedTuple):
    """The state of the attack on one image.

    Attributes:
      image: the clean image.
      label: its class, or the wanted one.
      key: of the image; a step folds the number of queries into it.
      best: the image to return.
      loss: of `best`; infinite before the first answer.
      success: whether `best` is a result that counts as success.
      done: whether the attack on this image has ended.
      queries: number of answered queries, int32.
      own: the method's own state.
    """

    image: Array
    label: Array
    key: Array
    best: Array
    loss: Array
    success: Array
    done: Array
    queries: Array
    own: Any

    @property
    def step_key(self) -> Array:
        """The key for the random numbers of the next proposal."""
        return jax.random.fold_in(self.key, self.queries)


class Answered(NamedTuple):
    """Proposals `[q, ...]` as the model saw them, with loss and success, `[q]`."""

    images: Array
    losses: Array
    success: Array


@dataclass(frozen=True)
class QueryMethod:
    """A method of attack by queries, for one image.

    Attributes:
      start: `(image, key, start) -> own`, the method's first own state; `start` is an
        image or None.
      propose: `state -> images [q, ...]`, in [0, 1].
      update: `(state, answered) -> state`, where `answered` has one answer for each
        proposal. It may end the attack by `done`.
      num_proposals: q, the same for all steps.
      num_queries: the most queries for an image.
      targeted: whether labels are wanted classes.
      loss: a name in `losses`; None for methods that use classes only.
      epsilon: radius of the ball of successes; None without one.
      norm: of that ball, or of what is minimised.
      random: whether the method draws random numbers.
      takes_start: whether its first proposal may be given.
    """

    start: Callable[[Array, Array, Array | None], Any]
    propose: Callable[[State], Array]
    update: Callable[[State, Answered], State]
    num_proposals: int
    num_queries: int
    targeted: bool
    loss: str | None
    epsilon: Scalar | None
    norm: str
    random: bool = True
    takes_start: bool = False

    def __post_init__(self) -> None:
        """Raise `ValueError` if the queries do not suffice for one step."""
        if self.num_queries < self.num_proposals:
            raise ValueError(
                f"`num_queries` must be at least {self.num_proposals}, the queries of "
                f"one step of this attack, got {self.num_queries}."
            )

    def init(
        self, image: Array, label: Array, key: Array, start: Array | None = None
    ) -> State:
        """Return the state before the first query.

        Args:
          image: clean, `[H, W, C]` or of any rank, in [0, 1].
          label: class id; the wanted one if the method is targeted.
          key: typed key of this image.
          start: the first proposal, if the method takes one.

        Raises:
          ValueError: for a start of a method that takes none.
        """
        if start is not None and not self.takes_start:
            raise ValueError(
                "`simba` takes no starting image; all other attacks by queries do."
            )
        infinite, never = jnp.asarray(jnp.inf, image.dtype), jnp.asarray(False)
        own, zero = self.start(image, key, start), jnp.asarray(0, jnp.int32)
        return State(image, label, key, image, infinite, never, never, zero, own)

    def ask(self, state: State) -> Array:
        """Return the images to query next, `[q, ...]`."""
        return self.propose(state)

    def tell(self, state: State, images: Array, logits: Array) -> State:
        """Return the state after an answer; a finished one does not change.

        Args:
          state: the one that `ask` got.
          images: the proposals `[q, ...]` as the model saw them.
          logits: of these images, `[q, K]`, or logarithms of probabilities.
        """
        labels = jnp.broadcast_to(state.label, images.shape[:1])
        success = succeeded(logits, labels, targeted=self.targeted)
        values = jnp.where(success, 0.0, 1.0).astype(images.dtype)
        if self.loss is not None:
            loss_fn = make_loss_fn(self.loss, targeted=self.targeted)
            values = loss_fn(logits.astype(images.dtype), labels)
            # An answer that is not a number is the worst of all.
            values = jnp.where(jnp.isnan(values), jnp.inf, values)
        new = self.update(state, Answered(images, values, success))
        queries = state.queries + self.num_proposals
        spent = queries + self.num_proposals > self.num_queries
        new = new._replace(queries=queries, done=new.done | spent)
        return jax.tree.map(lambda a, b: jnp.where(state.done, a, b), state, new)


def keep_best(state: State, answered: Answered, rows: slice = slice(None)) -> State:
    """Keep the first proposal that succeeds, else the one of least loss so far.

    `rows` are the proposals that may be returned. A success ends the attack.
    """
    images, values, success = (array[rows] for array in answered)
    row = jnp.where(jnp.any(success), jnp.argmax(success), jnp.argmin(values))
    better = success[row] | (values[row] < state.loss)
    return state._replace(
        best=jnp.where(better, images[row], state.best),
        loss=jnp.where(better, values[row], state.loss),
        success=state.success | success[row],
        done=state.done | success[row],
    )


def project(images: Array, image: Array, epsilon: Scalar, norm: str = "linf") -> Array:
    """Project images `[q, ...]` onto the ball around one image, and the box [0, 1]."""
    return projections.PROJECTIONS[norm](images, image[None], epsilon, (0.0, 1.0))

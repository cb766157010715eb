"""Running an attack so that its time can be told: compiled ahead, waited for."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
from jax.tree_util import Partial

from advgan_jax import parallel
from advgan_jax.evaluation.inputs import Task
from advgan_jax.logits import as_pytree
from advgan_jax.types import Array, Attack, Bounds, LogitsFn


class TimedAttack:
    """An attack on one model, compiled for the shapes of its first batch.

    All devices, of all processes, share each batch: the compiler cuts the work, so that
    what is drawn for an image is the same on any number of them.

    Compilation is not counted as the attack's time, copying to the device neither.
    """

    def __init__(
        self, attack: Attack, logits_fn: LogitsFn, *, targeted: bool, bounds: Bounds
    ):
        """Binds an attack to a model.

        Args:
          attack: a bound attack. If it is a pytree (`jax.tree_util.Partial`) the
            arrays in it are passed as arguments, else they become constants.
          logits_fn: the attacked model.
          targeted: whether the labels are wanted classes.
          bounds: the least and the greatest pixel value.

        Raises:
          TypeError: if the attack cannot be called.
        """
        if not callable(attack):
            raise TypeError(
                "`attack` must be a function (logits_fn, images, labels, *, key, "
                f"targeted, bounds) -> images, got {type(attack).__name__}; "
                "`attacks.make_attack(name)` makes one."
            )
        self.seconds = 0.0
        self._attack = attack
        self._logits_fn = logits_fn
        self._settings = {"targeted": targeted, "bounds": bounds}
        self._compiled = None

    def __call__(
        self,
        images: Array,
        labels: Array,
        key: Array | None,
        epsilon: float | None = None,
    ) -> Any:
        """Runs the attack and adds its time to `seconds`.

        Args:
          images: float32 `[B, H, W, C]`.
          labels: int32 `[B]`.
          key: typed key or None.
          epsilon: overrides the attack's own, if given; another value compiles nothing.

        Returns:
          Whatever the attack returns, computed; images in the memory of this host.
        """
        size = {} if epsilon is None else {"epsilon": epsilon}
        settings = parallel.replicate(jax.device_put((key, size)))
        arguments = (*parallel.spread((images, labels)), *settings)
        run = self._compile(arguments)
        jax.block_until_ready(arguments)
        start = time.perf_counter()
        adversarial = jax.block_until_ready(run(*arguments))
        self.seconds += time.perf_counter() - start
        return _without_padding(adversarial, arguments[0].shape, len(images))

    def _compile(self, arguments: tuple) -> Callable:
        if self._compiled is None:

            def call(attack, logits_fn, images, labels, key, size):
                return attack(
                    logits_fn, images, labels, key=key, **self._settings, **size
                )

            model = as_pytree(self._logits_fn)
            weights = parallel.replicate((_as_argument(self._attack), model))
            compiled = jax.jit(call).lower(*weights, *arguments).compile()
            self._compiled = functools.partial(compiled, *weights)
        return self._compiled


def time_attack(task: Task, attack: Attack) -> TimedAttack:
    """Binds an attack to the model of a task.

    Args:
      task: the model and the images.
      attack: a bound attack, see `TimedAttack`.

    Returns:
      The attack, not yet compiled.

    Raises:
      TypeError: if the attack cannot be called.
    """
    targeted = task.target_labels is not None
    return TimedAttack(attack, task.logits_fn, targeted=targeted, bounds=task.bounds)


def _without_padding(returned: Any, shape: tuple[int, ...], count: int) -> Any:
    """Images without the rows that no device may lack; anything else as it is."""
    if getattr(returned, "shape", None) != shape:
        return returned
    return parallel.fetch(returned, count)


def _as_argument(attack: Attack) -> Attack:
    if not jax.tree_util.all_leaves([attack]):
        return attack
    # A function of its own has a hash, which a data class may lack.
    return Partial(lambda *args, **kwargs: attack(*args, **kwargs))

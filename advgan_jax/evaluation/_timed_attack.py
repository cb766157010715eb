"""An attack that is compiled before its time is taken."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from advgan_jax import parallel
from advgan_jax.evaluation._task import Task
from advgan_jax.logits import as_pytree
from advgan_jax.types import Array, Attack


class TimedAttack:
    """An attack on the model of a task, compiled for the shapes of its first batch.

    All devices of all processes share each batch. The compiler divides the work, so
    the random numbers of an image do not depend on the number of devices.

    `seconds` adds up the time of all calls, without compiling and copying to devices.
    """

    def __init__(self, attack: Attack, task: Task):
        """Bind an attack to the model of a task; raise `TypeError` if not callable."""
        if not callable(attack):
            raise TypeError(
                "`attack` must be a function (logits_fn, images, labels, *, key, "
                f"targeted, bounds) -> images, got {type(attack).__name__}; "
                "`attacks.make_attack(name)` makes one."
            )
        self.seconds = 0.0
        self._attack = attack
        self._logits_fn = task.logits_fn
        targeted = task.target_labels is not None
        self._settings = {"targeted": targeted, "bounds": task.bounds}
        self._compiled: Callable | None = None

    def __call__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        key: Array | None,
        epsilon: float | None = None,
    ) -> Any:
        """Run the attack on one batch and add its time to `seconds`.

        `epsilon` replaces the attack's own; another value compiles nothing. Images are
        returned in the memory of this host, anything else as the attack returned it.
        """
        size = {} if epsilon is None else {"epsilon": epsilon}
        settings = parallel.replicate(jax.device_put((key, size)))
        arguments = (*parallel.spread((images, labels)), *settings)
        run = self._compile(arguments)
        jax.block_until_ready(arguments)
        start = time.perf_counter()
        adversarial = jax.block_until_ready(run(*arguments))
        self.seconds += time.perf_counter() - start
        if getattr(adversarial, "shape", None) != arguments[0].shape:
            return adversarial
        return parallel.fetch(adversarial, len(images))

    def _compile(self, arguments: tuple) -> Callable:
        """Return the compiled attack, its weights bound."""
        if self._compiled is None:

            def call(attack: Any, *inputs: Any) -> Any:
                """Run the attack; `size` contains its epsilon or nothing."""
                *data, key, size = inputs
                return attack(*data, key=key, **self._settings, **size)

            model = as_pytree(self._logits_fn)
            weights = parallel.replicate((_as_argument(self._attack), model))
            compiled = jax.jit(call).lower(*weights, *arguments).compile()
            self._compiled = functools.partial(compiled, *weights)
        return self._compiled


def _as_argument(attack: Attack) -> Attack:
    """Return the attack as a pytree that `jit` takes as an argument."""
    if not jax.tree_util.all_leaves([attack]):
        return attack
    # A function of its own has a hash, which a data class may lack.
    return Partial(lambda *args, **kwargs: attack(*args, **kwargs))

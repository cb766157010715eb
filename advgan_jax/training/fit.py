"""The host loop: epochs, progress, logs, checkpoints, interruption.

The loop decides when steps run, never what they compute. It dispatches the calls of an
epoch without waiting, and then fetches their metrics.
"""

import contextlib
import dataclasses
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax import parallel, tracing
from advgan_jax.data import Split
from advgan_jax.progress import progress
from advgan_jax.training import batches
from advgan_jax.types import Array, Batch

State = TypeVar("State", bound=Any)
Run = Callable[..., tuple[Any, Mapping[str, Array]]]


class DivergenceError(FloatingPointError):
    """A metric or a weight became NaN or infinite."""


_CURE = (
    "the checkpoint before it is kept. Start again in another workdir, with a lower "
    "learning rate or another seed."
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The length of a training on `num_examples` images.

    An epoch drops its incomplete last batch. One call of the compiled function makes
    `steps_per_call` steps.
    """

    num_examples: int
    batch_size: int
    num_epochs: int
    steps_per_call: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= self.num_examples:
            raise ValueError(
                f"`batch_size` must be from 1 to the {self.num_examples} training "
                f"images, got {self.batch_size}."
            )
        if self.num_epochs < 0 or self.steps_per_call < 1:
            raise ValueError(
                "`num_epochs` must be at least 0 and `steps_per_call` at least 1, got "
                f"{self.num_epochs} and {self.steps_per_call}."
            )

    @property
    def steps_per_epoch(self) -> int:
        """Return the complete batches in the split."""
        return self.num_examples // self.batch_size

    @property
    def num_steps(self) -> int:
        """Return the steps in the whole run."""
        return self.num_epochs * self.steps_per_epoch


class Hooks(NamedTuple):
    """Optional callbacks of the loop.

    At the end of an epoch, `log` gets the means of the metrics over at most
    `steps_per_log` steps. `save` gets the state every `epochs_per_save` epochs. `stop`
    is called between calls; True saves the state and ends the loop. `description`
    labels the progress, see `progress.progress`; `progress=False` hides it.
    """

    log: Callable[[int, Mapping[str, float]], None] = lambda step, metrics: None
    steps_per_log: int = 50
    save: Callable[[int, Any], None] = lambda step, state: None
    epochs_per_save: int = 1
    stop: Callable[[], bool] = lambda: False
    description: str = "training"
    progress: bool = True


def on_device(split: Split) -> Batch:
    """Copy a split to the devices, pixels as stored; each process reads its share."""
    if parallel.num_processes() > 1:
        return parallel.read_replicated(split.rows, len(split))
    return Batch(jnp.asarray(split.images), jnp.asarray(split.labels))


def fit(
    state: State,
    run: Run,
    data: Batch | batches.Stream,
    plan: Plan,
    *,
    order_key: Array,
    frozen: tuple[Any, ...] = (),
    rows_fn: batches.RowsFn = lambda places: places,
    hooks: Hooks = Hooks(),  # noqa: B008 (immutable)
) -> tuple[State, bool]:
    """Train from the state's own step to the end of the plan.

    The order of the examples depends on `order_key` and the step alone. So a stopped
    run resumes as if it had not been stopped.

    Args:
      state: fresh or restored; donated, if `run` donates.
      run: compiled steps, from `parallel.compile_steps`.
      data: all training images, from `on_device`; or a stream that reads them.
      plan: the length of the training.
      order_key: typed key of the shuffles.
      frozen: further arguments of the step, such as the target model: functions of JAX
        (or tuples of them), traced once.
      rows_fn: maps an epoch's shuffled places `[S, B]` to rows of the data.
      hooks: callbacks.

    Returns:
      The state, on one device of this process, and whether the plan was finished (else
      it was stopped and saved).

    Raises:
      DivergenceError: if a metric or a weight is not finite; names it and the step.
        The state of that epoch is not saved.
    """
    step = int(state.step)
    run = tracing.bind(run, frozen)
    if isinstance(data, batches.Stream):
        run = batches.limit_in_flight(run, data.depth)
    calls = batches.iterate_calls(data, plan, order_key, step, rows_fn)
    sizes: Any = {"initial": step, "per_step": plan.batch_size}
    shown = progress(plan.num_steps, hooks.description, shown=hooks.progress, **sizes)
    with contextlib.closing(calls), shown as update:
        while step < plan.num_steps:
            epoch, made = divmod(step, plan.steps_per_epoch)
            left = plan.steps_per_epoch - made
            state, metrics = _run_epoch(state, run, calls, left, hooks, update)
            _check_finite(metrics, step)
            step = _log(metrics, step, hooks)
            if hooks.stop():
                _save(step, state, hooks)
                break
            done = epoch + 1
            if done % hooks.epochs_per_save == 0 or done == plan.num_epochs:
                _save(step, state, hooks)
    return parallel.local(state), step >= plan.num_steps


def _run_epoch(
    state: State,
    run: Run,
    calls: Iterator[tuple[Batch, parallel.BatchRows]],
    left: int,
    hooks: Hooks,
    update: Callable[[int], Any],
) -> tuple[State, dict[str, np.ndarray]]:
    """Make the `left` remaining steps of an epoch, until a signal comes."""
    collected = []
    while left and not hooks.stop():
        data, rows = next(calls)
        state, metrics = run(state, data, rows)
        collected.append(metrics)
        left -= rows.count
        update(rows.count)
    collected = jax.device_get(collected)
    names = collected[0] if collected else ()
    return state, {k: np.concatenate([m[k] for m in collected]) for k in names}


def _log(metrics: Mapping[str, np.ndarray], step: int, hooks: Hooks) -> int:
    """Log the steps made since `step`, and return the new step."""
    made = len(next(iter(metrics.values()))) if metrics else 0
    for start in range(0, made, hooks.steps_per_log):
        end = min(start + hooks.steps_per_log, made)
        means = {k: float(v[start:end].mean()) for k, v in metrics.items()}
        hooks.log(step + end, means)
    return step + made


def _check_finite(metrics: Mapping[str, np.ndarray], first_step: int) -> None:
    """Raise if a metric is not finite."""
    for name, values in metrics.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise DivergenceError(
                f"`{name}` became {values[bad[0]]} at step {first_step + bad[0] + 1}; "
                f"{_CURE}"
            )


def _save(step: int, state: Any, hooks: Hooks) -> None:
    """Save a state if its weights, which are newer than the metrics, are finite."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        real = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
        if real and not jnp.isfinite(leaf).all():
            raise DivergenceError(
                f"`state{jax.tree_util.keystr(path)}` is not finite after step {step}; "
                f"{_CURE}"
            )
    hooks.save(step, state)


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C or SIGTERM has requested a stop.

    All processes get the same answer (`parallel.agreed_stop`). A second Ctrl-C
    interrupts at once. Outside the main thread, signals are not handled.
    """
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return
    if parallel.num_processes() > 1:
        with parallel.agreed_stop() as stop:
            yield stop
        return

    def _handle(number: int, frame: Any) -> None:
        del frame
        if requested.is_set() and number == signal.SIGINT:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)
        requested.set()

    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, _handle) for number in signals}
    try:
        yield requested.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

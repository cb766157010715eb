"""The alternation of queries, distillation and the generator's training."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from advgan_jax import parallel
from advgan_jax.checks import as_images, check_image_axes, check_labels
from advgan_jax.data import to_float
from advgan_jax.oracles import BudgetExhausted, Oracle
from advgan_jax.progress import progress
from advgan_jax.training import advgan, batches, distillation
from advgan_jax.training import fit as host_loop
from advgan_jax.training.blackbox.attacker import (
    Attacker,
    distilled_logits_fn,
    logits_of,
    perturb_images,
    perturb_most_uncertain,
)
from advgan_jax.training.blackbox.schedule import Schedule, in_turn
from advgan_jax.training.states import BlackBoxState
from advgan_jax.types import Array, Batch, LogitsFn

_log = logging.getLogger(__name__)
Record = Callable[[BlackBoxState, int], None]


class _Stop(Exception):
    """A signal came during the queries."""


def fit(
    state: BlackBoxState,
    oracle: Oracle,
    images: np.ndarray,
    labels: np.ndarray | None,
    attacker: Attacker,
    schedule: Schedule,
    *,
    mode: str = "auto",
    hooks: host_loop.Hooks = host_loop.Hooks(),  # noqa: B008 (immutable)
    record: Record = lambda state, number: None,
) -> tuple[BlackBoxState, bool]:
    """Query the oracle, distil it and train the generator, from the given state on.

    To resume, pass the last saved state and an oracle with the same ledger. The
    recorded answers are reused.

    Args:
      state: fresh, or restored; donated.
      oracle: the black box. When its budget is exhausted, a warning is logged and the
        training continues with the answers so far.
      images: the attacker's, `[N, H, W, C]`, uint8 or float32 in [0, 1]; the black box
        should not have been trained on them.
      labels: their classes, int `[N]`; None takes f's predictions.
      attacker: the networks and their loss.
      schedule: the length of each training, and the numbers of queries.
      mode: see `parallel.compile_steps`.
      hooks: as in `fit.fit`; steps are `BlackBoxState.step`. `epochs_per_save` and
        `description` have no effect: each epoch is saved and has its own title.
      record: called with (state, round) after each round of the generator's training,
        and again if a run resumes there.

    Returns:
      The state, and whether the schedule was finished (else it was stopped and saved).

    Raises:
      OracleError: if the black box fails; a run resumes from the last saved state.
      BudgetExhausted: if no query was answered within the budget.
      TypeError: for images or labels of a wrong dtype.
      ValueError: if images or labels are too few or invalid, if f and the oracle have
        different classes, or if a fresh state comes with a queried oracle.
      DivergenceError: if a metric or a weight is not finite.
    """
    alternation = _Alternation(
        state, oracle, images, labels, attacker, schedule, mode, hooks, record
    )
    try:
        finished = alternation.run()
    except _Stop:
        finished = False
    if oracle.changed:
        _log.warning(
            "Of %d images queried again, %d got a new answer: the black box is noisy.",
            oracle.repeated,
            oracle.changed,
        )
    return alternation.state, finished


@dataclasses.dataclass(eq=False)
class _Alternation:
    """One call of `fit`; the fields are its arguments."""

    state: BlackBoxState
    oracle: Oracle
    images: np.ndarray
    labels: np.ndarray | None
    attacker: Attacker
    schedule: Schedule
    mode: str
    hooks: host_loop.Hooks
    record: Record

    def __post_init__(self) -> None:
        """Check the data, compile the steps and load the recorded answers."""
        self._check_data()
        # Keys of the orders; the steps draw with the keys in the state.
        keys = jax.random.split(jax.random.fold_in(self.state.advgan.key, 1), 3)
        self._order = np.asarray(jax.random.permutation(keys[0], len(self.images)))
        self._key_generator, self._key_distilled = keys[1:]
        self._on_device = jnp.asarray(self.images)
        ours = self.attacker
        step = advgan.make_train_step(ours.networks, ours.objective)
        self._generator_step = parallel.compile_steps(step, mode=self.mode)
        own = self.schedule.augmentation
        step = distillation.make_train_step(ours.model, ours.optimizer, **own)
        self._distilled_step = parallel.compile_steps(step, mode=self.mode)
        self._warned = False
        self.oracle.rewind(int(self.state.queries.max()))
        self._answered: Any = self._load() if self.oracle.queries else None

    def _check_data(self) -> None:
        """Reject data that do not fit together."""
        oracle, images = self.oracle, cast(Any, self.images)
        labels: Any = None if self.labels is None else np.asarray(self.labels)
        if oracle.queries and not int(self.state.queries.max()):
            raise ValueError(
                "A fresh state needs an oracle without queries, got one with "
                f"{oracle.queries} queries; make another one with its own ledger. If "
                "they are this training's, which failed before it was saved, call "
                "`oracle.rewind(0)` first."
            )
        check_image_axes(images)
        self.schedule.check_images(len(images), images.shape[1:])
        as_images(images)
        if labels is not None:
            check_labels(labels, len(images), oracle.num_classes)
        batch = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
        init = self.attacker.model.init_with_output
        logits, _ = jax.eval_shape(init, jax.random.key(0), batch)
        if logits.shape != (1, oracle.num_classes):
            raise ValueError(
                f"The attacker's model must have the {oracle.num_classes} classes of "
                f"the oracle, got logits of shape {list(logits.shape)} for one image."
            )

    def run(self) -> bool:
        """Run the phases that are not done; return whether all are done."""
        for number, epochs in self.schedule.phases():
            if epochs is None:
                if not self._train_generator(number):
                    return False
            elif not self._distil(number, epochs):
                return False
        return True

    def _distil(self, number: int, epochs: int) -> bool:
        """Query for a round, and train f until it has made `epochs` in all."""
        schedule = self.schedule
        per_epoch = schedule.distilled_steps
        while (done := int(self.state.distilled.step) // per_epoch) < epochs:
            if not int(self.state.queries[number]):
                self._query(number)
            title = f"distilled model, part {done + 1}/{schedule.distilled_epochs}"
            state, finished = host_loop.fit(
                self.state.distilled,
                self._distilled_step,
                self._answered,
                _one_epoch(per_epoch, schedule.distilled_batch_size, done),
                order_key=self._key_distilled,
                rows_fn=self._distilled_rows(done),
                hooks=self._hooks_of("distilled", title),
            )
            self.state = self.state.replace(distilled=state)
            if not finished:
                return False
        return True

    def _train_generator(self, number: int) -> bool:
        """Train G and D to the end of a round, against the current f."""
        schedule, finished = self.schedule, True
        per_epoch, size = schedule.generator_steps, schedule.generator_batch_size
        epochs = int(self.state.advgan.step) // per_epoch
        if epochs > number or (epochs == number and self._is_past(number)):
            return True
        frozen = distilled_logits_fn(self.attacker, self.state)
        while finished and epochs < number:
            title = f"generator, round {epochs + 1}/{schedule.num_rounds}"
            state, finished = host_loop.fit(
                self.state.advgan,
                self._generator_step,
                Batch(self._on_device, self._labels_for(frozen)),
                _one_epoch(per_epoch, size, epochs),
                order_key=self._key_generator,
                rows_fn=in_turn(epochs * per_epoch * size, len(self.images)),
                frozen=(frozen,),
                hooks=self._hooks_of("advgan", title),
            )
            self.state = self.state.replace(advgan=state)
            epochs += finished
        if finished:
            self.record(self.state, number)
        return finished

    def _is_past(self, number: int) -> bool:
        """Return whether f has trained after a round, so that its end is recorded."""
        schedule = self.schedule
        if not schedule.dynamic or number == schedule.num_rounds:
            return False
        begun = schedule.distilled_steps * (schedule.initial_epochs + number - 1)
        return int(self.state.distilled.step) > begun

    def _labels_for(self, distilled_fn: LogitsFn) -> Array:
        """Return the attacker's labels, or else f's predictions."""
        if self.labels is not None:
            return jnp.asarray(self.labels)
        return jnp.argmax(logits_of(distilled_fn, self.images), axis=-1)

    def _hooks_of(self, part: str, title: str) -> host_loop.Hooks:
        """Make hooks that report one network's training as the whole state's."""
        hooks, whole = self.hooks, self.state
        other = whole.step - int(getattr(whole, part).step)
        return hooks._replace(
            log=lambda step, metrics: hooks.log(other + step, metrics),
            save=lambda step, state: hooks.save(
                other + step, whole.replace(**{part: state})
            ),
            description=title,
        )

    def _query(self, number: int) -> None:
        """Query this round's images and load all answers."""
        if self.oracle.remaining == 0:
            self._warn_once(f"The budget of {self.oracle.budget} queries is spent.")
        else:
            self._query_images(self._images_of(number), f"queries, round {number}")
            self._answered = self._load()
        made = self.state.queries.at[number].set(self.oracle.queries)
        self.state = self.state.replace(queries=made)

    def _images_of(self, number: int) -> np.ndarray:
        """Return the images of a round: clean in the first, then perturbed."""
        counts, choice = self.schedule.query_counts, self.schedule.choice
        if number and choice != "random":
            shown = (self.attacker, self.state, self.images, counts[number])
            return perturb_most_uncertain(*shown, choice)
        start = sum(counts[:number])
        rows = self._order[np.arange(start, start + counts[number]) % len(self._order)]
        images = to_float(self.images[rows])
        return perturb_images(self.attacker, self.state, images) if number else images

    def _query_images(self, images: np.ndarray, title: str) -> None:
        """Query images, with a progress bar, until a signal or the budget ends it."""
        with progress(len(images), title) as update:

            def _after_batch(number: int) -> None:
                update(number)
                if self.hooks.stop():
                    raise _Stop

            try:
                self.oracle(images, after_batch=_after_batch)
            except BudgetExhausted as error:
                if not self.oracle.queries:
                    raise
                self._warn_once(str(error))

    def _warn_once(self, message: str) -> None:
        """Warn that the training continues with the answers so far."""
        if not self._warned:
            _log.warning("%s Training continues without further answers.", message)
        self._warned = True

    def _load(self) -> Batch:
        """Return all queried images, with the answers in the place of labels."""
        arrays = self.oracle.ledger.made()
        # Padded to the final size, so that nothing is compiled again.
        rows = (0, sum(self.schedule.query_counts) - len(arrays[0]))
        return Batch(*(jnp.pad(a, [rows] + [(0, 0)] * (a.ndim - 1)) for a in arrays))

    def _distilled_rows(self, epoch: int) -> batches.RowsFn:
        """Choose the rows of f's batches, which mix clean and perturbed images."""
        marks = np.setdiff1d(np.asarray(self.state.queries), 0)
        clean, end = int(marks[0]), int(marks[-1])
        start = clean if self.schedule.replay or len(marks) < 2 else int(marks[-2])
        steps = epoch * self.schedule.distilled_steps
        return in_turn(steps * self.schedule.distilled_batch_size, clean, (start, end))


def _one_epoch(steps: int, batch_size: int, epoch: int) -> host_loop.Plan:
    """Plan one more epoch of `steps`; `in_turn` chooses its images."""
    per_call = parallel.default_steps_per_call()
    return host_loop.Plan(steps * batch_size, batch_size, epoch + 1, per_call)

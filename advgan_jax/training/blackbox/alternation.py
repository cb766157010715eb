"""The alternation: who asks, who learns, in which order, from wherever a state is."""

import logging
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from advgan_jax import parallel
from advgan_jax.checks import check_images, check_labels
from advgan_jax.data import to_float
from advgan_jax.oracles import BudgetExhausted, Oracle
from advgan_jax.training import advgan, distillation, loop
from advgan_jax.training.blackbox.attacker import (
    Attacker,
    distilled_logits_fn,
    in_batches,
    perturb_images,
)
from advgan_jax.training.blackbox.sampling import in_turn, on_device
from advgan_jax.training.blackbox.schedule import Schedule
from advgan_jax.training.states import BlackBoxState
from advgan_jax.types import Array, Batch, LogitsFn

_log = logging.getLogger(__name__)


class Hooks(NamedTuple):
    """What the alternation reports to; each may be left out.

    Attributes:
      training: see `loop.Hooks`; steps are those of `BlackBoxState.step`. Each epoch
        of each network is saved and has a title of its own, so `epochs_per_save` and
        `description` say nothing here.
      record: called with (state, round) when a generator of a round is trained; again
        if a run resumes just there.
    """

    training: loop.Hooks = loop.Hooks()
    record: Callable[[BlackBoxState, int], None] = lambda state, number: None


class _Stop(Exception):
    """A signal came while the black box was being asked."""


def fit(
    state: BlackBoxState,
    oracle: Oracle,
    images: np.ndarray,
    labels: np.ndarray | None,
    attacker: Attacker,
    schedule: Schedule,
    *,
    mode: str = "auto",
    hooks: Hooks = Hooks(),  # noqa: B008 (immutable)
) -> tuple[BlackBoxState, bool]:
    """Asks, distils and trains the generator, from where the state is.

    Resuming takes the state that was saved last and an oracle with the same ledger:
    what has been asked since then is not asked again.

    Args:
      state: fresh, or restored; donated.
      oracle: the black box. If its budget ends, a warning says so and the training
        goes on with the answers there are.
      images: the attacker's, `[N, H, W, C]`, uint8 or float32 in [0, 1]; none of them
        should be of those that b was trained on.
      labels: their classes, int `[N]`; None takes f's own opinion.
      attacker: what is trained.
      schedule: how long, and from how many answers.
      mode: see `parallel.compile_steps`.
      hooks: logs, checkpoints, progress, interruption.

    Returns:
      The state, and whether the schedule was finished (else it was stopped and saved).

    Raises:
      OracleError: if the black box fails; the last saved state and the ledger go on
        from there.
      TypeError: for images or labels of a wrong dtype.
      ValueError: if there are too few images, they or the labels are wrong, f has
        other classes than the oracle, or a fresh state comes with an oracle that was
        asked before.
      DivergenceError: if a metric or a weight is not finite.
    """
    _check_data(state, oracle, images, labels, attacker, schedule)
    alternation = _Alternation(
        state, oracle, images, labels, attacker, schedule, mode, hooks
    )
    try:
        finished = alternation.run()
    except _Stop:
        finished = False
    if oracle.changed:
        _log.warning(
            "Of %d images that were asked about again %d got another answer: the black "
            "box is noisy.",
            oracle.repeated,
            oracle.changed,
        )
    return alternation.state, finished


def _check_data(state, oracle, images, labels, attacker, schedule) -> None:
    if oracle.queries and not int(state.queries.max()):
        raise ValueError(
            "A fresh state needs an oracle that was asked nothing, got one with "
            f"{oracle.queries} queries; make another one with a ledger of its own. If "
            "they are of this very training, which failed before it was saved, call "
            "`oracle.rewind(0)` first."
        )
    schedule.check_images(len(images))
    check_images(to_float(np.asarray(images)))
    if labels is not None:
        check_labels(np.asarray(labels), len(images), oracle.num_classes)
    batch = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
    logits, _ = jax.eval_shape(
        attacker.model.init_with_output, jax.random.key(0), batch
    )
    if logits.shape != (1, oracle.num_classes):
        raise ValueError(
            f"The attacker's model must have the {oracle.num_classes} classes of the "
            f"oracle, got logits of shape {list(logits.shape)} for one image."
        )


class _Alternation:
    """One call of `fit`."""

    def __init__(self, state, oracle, images, labels, attacker, schedule, mode, hooks):
        self.state = state
        self._oracle = oracle
        self._images = images
        self._labels = labels
        self._attacker = attacker
        self._schedule = schedule
        self._hooks = hooks
        # Keys of the orders; those in the state are for what steps draw.
        keys = jax.random.split(jax.random.fold_in(state.advgan.key, 1), 3)
        key_images, self._key_generator, self._key_distilled = keys
        self._order = np.asarray(jax.random.permutation(key_images, len(images)))
        self._on_device = jnp.asarray(images)
        networks, objective = attacker.networks, attacker.objective
        self._generator_step = parallel.compile_steps(
            advgan.make_train_step(networks, objective), mode=mode
        )
        self._distilled_step = parallel.compile_steps(
            distillation.make_train_step(attacker.model, attacker.optimizer), mode=mode
        )
        self._predict = jax.jit(lambda logits_fn, x: jnp.argmax(logits_fn(x), -1))
        self._spent = False
        oracle.rewind(int(state.queries.max()))
        self._pool = self._load() if oracle.queries else None

    def run(self) -> bool:
        """Goes through the phases, passing over those that are done."""
        for number, epochs in self._schedule.phases():
            if epochs is None:
                if not self._train_generator(number):
                    return False
            elif not self._distil(number, epochs):
                return False
        return True

    def _distil(self, asking: int, epochs: int) -> bool:
        """Asks, and trains f until it has made `epochs` in all."""
        schedule = self._schedule
        per_epoch = schedule.distilled_steps
        while (done := int(self.state.distilled.step) // per_epoch) < epochs:
            if not int(self.state.queries[asking]):
                self._ask(asking)
            title = f"distilled model, part {done + 1}/{schedule.distilled_epochs}"
            state, finished = loop.fit(
                self.state.distilled,
                self._distilled_step,
                self._pool,
                self._plan(per_epoch, schedule.distilled_batch_size, done),
                order_key=self._key_distilled,
                rows_of=self._sampling(done),
                hooks=self._hooks_of("distilled", title),
            )
            self.state = self.state.replace(distilled=state)
            if not finished:
                return False
        return True

    def _train_generator(self, number: int) -> bool:
        """Trains G and D until the end of a round, against f as it is."""
        schedule, finished = self._schedule, True
        per_epoch, size = schedule.generator_steps, schedule.generator_batch_size
        epochs = int(self.state.advgan.step) // per_epoch
        if epochs > number or (epochs == number and self._is_past(number)):
            return True
        frozen = distilled_logits_fn(self._attacker, self.state)
        while finished and epochs < number:
            title = f"generator, round {epochs + 1}/{schedule.num_rounds}"
            state, finished = loop.fit(
                self.state.advgan,
                self._generator_step,
                Batch(self._on_device, self._labels_for(frozen)),
                self._plan(per_epoch, size, epochs),
                order_key=self._key_generator,
                rows_of=in_turn(epochs * per_epoch * size, len(self._images)),
                frozen=(frozen,),
                hooks=self._hooks_of("advgan", title),
            )
            self.state = self.state.replace(advgan=state)
            epochs += finished
        if finished:
            self._hooks.record(self.state, number)
        return finished

    def _is_past(self, number: int) -> bool:
        """Whether f has gone on after a round, so that its end was reported."""
        schedule = self._schedule
        if not schedule.dynamic or number == schedule.num_rounds:
            return False
        begun = schedule.distilled_steps * (schedule.initial_epochs + number - 1)
        return int(self.state.distilled.step) > begun

    def _labels_for(self, distilled_fn: LogitsFn) -> Array:
        if self._labels is not None:
            return jnp.asarray(self._labels)
        fn = partial(self._predict, distilled_fn)
        return jnp.asarray(in_batches(fn, self._images))

    def _plan(self, steps: int, batch_size: int, epoch: int) -> loop.Plan:
        """One more epoch, of so many steps; `in_turn` says on which images."""
        return loop.Plan(
            steps * batch_size,
            batch_size,
            epoch + 1,
            parallel.default_steps_per_call(),
        )

    def _hooks_of(self, part: str, title: str) -> loop.Hooks:
        """The hooks of one network's training, as seen from the whole state."""
        hooks, whole = self._hooks.training, self.state
        other = whole.step - int(getattr(whole, part).step)
        return hooks._replace(
            log=lambda step, metrics: hooks.log(other + step, metrics),
            save=lambda step, state: hooks.save(
                other + step, whole.replace(**{part: state})
            ),
            description=title,
        )

    def _ask(self, asking: int) -> None:
        """Asks about this round's images and makes the answers f's data."""
        if self._oracle.remaining == 0:
            self._tell_spent(f"The budget of {self._oracle.budget} queries is spent.")
        else:
            self._ask_about(self._images_of(asking), f"asking, round {asking}")
            self._pool = self._load()
        made = self.state.queries.at[asking].set(self._oracle.queries)
        self.state = self.state.replace(queries=made)

    def _images_of(self, asking: int) -> np.ndarray:
        start, count = sum(self._schedule.asked[:asking]), self._schedule.asked[asking]
        rows = self._order[np.arange(start, start + count) % len(self._order)]
        images = to_float(self._images[rows])
        return perturb_images(self._attacker, self.state, images) if asking else images

    def _ask_about(self, images: np.ndarray, title: str) -> None:
        with tqdm(total=len(images), desc=title, disable=None) as bar:

            def after_batch(number):
                bar.update(number)
                if self._hooks.training.stop():
                    raise _Stop

            try:
                self._oracle(images, after_batch=after_batch)
            except BudgetExhausted as error:
                self._tell_spent(str(error))

    def _tell_spent(self, what: str) -> None:
        """Warns once that the training goes on with the answers there are."""
        if not self._spent:
            _log.warning("%s The training goes on without further answers.", what)
        self._spent = True

    def _load(self) -> Batch:
        return on_device(self._oracle.ledger, sum(self._schedule.asked))

    def _sampling(self, epoch: int) -> Callable:
        """Rows of f's batches, which mix clean and perturbed images."""
        marks = np.unique(np.asarray(self.state.queries))
        marks = marks[marks > 0]
        clean, end = int(marks[0]), int(marks[-1])
        start = clean if self._schedule.replay or len(marks) < 2 else int(marks[-2])
        schedule = self._schedule
        first = epoch * schedule.distilled_steps * schedule.distilled_batch_size
        return in_turn(first, clean, (start, end))

r"""Full-batch training to convergence by L-BFGS, as Szegedy et al. train.

The loss is the mean cross-entropy of all training images plus weight decay of each
layer's weights (not its biases), divided by its number of units k:

.. math:: L = \frac1N \sum_i H(y_i, f(x_i)) + K \sum_l \frac{\lambda_l}{k_l}
    \sum w_l^2

The paper prints the second sum without the number of classes K. Only with K do its
numbers agree (docs/experiments/szegedy.md).

The sparse autoencoder, whose first layer the paper freezes, minimises the squared error
of the images and a penalty on units that are active too often.

The solver is `optax.lbfgs`. Its zoom line search keeps the curvature positive, which
backtracking does not. Its state is a pytree, so a run can be interrupted. The line
search of `jax.scipy.optimize` ends long before the minimum, and its solver exposes no
state. `benchmarks/full_batch.py` compares the three on the 8x8 digits.

References:
  Szegedy et al., 2013 (https://arxiv.org/abs/1312.6199), Sec. 4.2;
  Ng, Sparse autoencoder, lecture notes of CS294A, 2011.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import lax

from advgan_jax.checks import check_at_least
from advgan_jax.progress import progress
from advgan_jax.training.fit import DivergenceError, Hooks
from advgan_jax.training.states import ModelState, apply, first_step
from advgan_jax.types import Array, Batch, Metrics, Params

# `(params, batch) -> (loss, metrics)`, differentiable
LossFn = Callable[[Params, Batch], tuple[Array, Metrics]]
Step = Callable[["FullBatchState", Batch], tuple["FullBatchState", Metrics]]
_make_solver = partial(optax.lbfgs, memory_size=20)


class FullBatchState(struct.PyTreeNode):
    """The iterations made so far, the weights and the solver's curvature pairs."""

    step: Array
    model: ModelState


def init_state(params: Params) -> FullBatchState:
    """Return the state before the first iteration."""
    opt_state = _make_solver().init(params)
    # Some of its numbers have weak types. A step makes them strong, so that its second
    # call would compile it again.
    strong = jax.tree.map(lambda a: lax.convert_element_type(a, a.dtype), opt_state)
    return FullBatchState(first_step(), ModelState(params, strong))


def make_train_step(loss_fn: LossFn) -> Step:
    """Make one iteration of L-BFGS, with its line search, on one device.

    The metrics are those of `loss_fn`, its `loss` and the largest entry of its
    `gradient`, all before the iteration.
    """
    solver = _make_solver()
    value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)

    def train_step(
        state: FullBatchState, batch: Batch
    ) -> tuple[FullBatchState, Metrics]:
        """Make one iteration."""
        params, opt_state = state.model.params, state.model.opt_state
        (loss, metrics), gradient = value_and_grad(params, batch)
        updates, opt_state = solver.update(
            gradient,
            opt_state,
            params,
            value=loss,
            grad=gradient,
            value_fn=lambda params: loss_fn(params, batch)[0],
        )
        updated = ModelState(optax.apply_updates(params, updates), opt_state)
        largest = [jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(gradient)]
        metrics = {**metrics, "loss": loss, "gradient": jnp.max(jnp.stack(largest))}
        return FullBatchState(state.step + 1, updated), metrics

    return train_step


def until_converged(
    train_step: Step,
    num_steps: int,
    *,
    gradient_tolerance: float,
    value_tolerance: float,
) -> Step:
    """Make a function of several iterations that reports convergence.

    The metrics are those of the last iteration, and `converged`: no entry of the
    gradient is above `gradient_tolerance`, or all these iterations together reduced the
    loss by at most the share `value_tolerance`. Raises `ValueError` if a number is out
    of range.
    """
    check_at_least("num_steps", num_steps, 1)
    check_at_least("gradient_tolerance", gradient_tolerance, 0)
    check_at_least("value_tolerance", value_tolerance, 0)

    def run(state: FullBatchState, batch: Batch) -> tuple[FullBatchState, Metrics]:
        """Make the iterations."""
        state, metrics = jax.lax.scan(
            lambda state, _: train_step(state, batch), state, length=num_steps
        )
        losses = metrics["loss"]
        metrics = jax.tree.map(lambda values: values[-1], metrics)
        # One iteration has no earlier loss to compare with.
        stalled = losses[0] - losses[-1] <= value_tolerance * jnp.abs(losses[-1])
        flat = metrics["gradient"] <= gradient_tolerance
        return state, {**metrics, "converged": flat | (stalled & (num_steps > 1))}

    return run


def fit(
    state: FullBatchState,
    loss_fn: LossFn,
    batch: Batch,
    hooks: Hooks,
    *,
    max_iterations: int,
    iterations_per_call: int,
    calls_per_checkpoint: int,
    **tolerances: float,
) -> tuple[FullBatchState, bool]:
    """Train until convergence, or until `hooks.stop` or `max_iterations` ends it.

    `hooks.save` gets the state after each `calls_per_checkpoint` calls, and a state
    that has not finished. The tolerances are those of `until_converged`. Returns the
    state, and whether it has finished. Raises `DivergenceError` if the loss is not
    finite.
    """
    step_fn = make_train_step(loss_fn)
    run = jax.jit(until_converged(step_fn, iterations_per_call, **tolerances))
    step, calls, title = int(state.step), 0, hooks.description
    finished, most = step >= max_iterations, max_iterations
    with progress(most, title, "it", initial=step) as update:
        while not finished and not hooks.stop():
            state, metrics = run(state, batch)
            metrics = jax.device_get(metrics)
            if not np.isfinite(metrics["loss"]):
                raise DivergenceError(
                    f"`loss` became {metrics['loss']} within {most} iterations of "
                    f"{title}; the checkpoint before it is kept. Start again with "
                    "another seed or more weight decay."
                )
            update(int(state.step) - step)
            step, calls = int(state.step), calls + 1
            finished = bool(metrics.pop("converged")) or step >= most
            hooks.log(step, metrics)
            if not finished and calls % calls_per_checkpoint == 0:
                hooks.save(step, state)
    if not finished:
        hooks.save(step, state)
    return state, finished


def weight_decay(params: Params, strengths: Sequence[float]) -> Array:
    r"""Compute the penalty :math:`K \sum_l \lambda_l \sum w^2 / k_l` of the weights.

    `strengths` are `lambda` of the layers `Dense_0`, `Dense_1`, ...; `ValueError` is
    raised if there is not one number for each.
    """
    if len(strengths) != len(params):
        raise ValueError(
            f"`weight_decay` must be one number for each of the {len(params)} layers, "
            f"got {tuple(strengths)}."
        )
    kernels = [params[f"Dense_{layer}"]["kernel"] for layer in range(len(params))]
    return kernels[-1].shape[1] * sum(
        strength * jnp.sum(kernel**2) / kernel.shape[1]
        for strength, kernel in zip(strengths, kernels, strict=True)
    )


def classification(model: nn.Module, strengths: Sequence[float]) -> LossFn:
    """Make the cross-entropy of a fully connected model, with `weight_decay`.

    The only metric is the `accuracy`.
    """

    def _loss_fn(params: Params, batch: Batch) -> tuple[Array, Metrics]:
        logits = apply(model, params, batch.images)
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels
        losses = cross_entropy(logits, batch.labels)
        accuracy = jnp.mean(jnp.argmax(logits, axis=-1) == batch.labels)
        loss = jnp.mean(losses) + weight_decay(params, strengths)
        return loss, {"accuracy": accuracy}

    return _loss_fn


class Autoencoder(nn.Module):
    """One hidden layer of `units` and an output layer of pixels, both of sigmoids."""

    units: int = 400

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, Array]:
        """Map images `[B, H, W, C]` to reconstructions `[B, HWC]` and hidden units."""
        pixels = images.reshape(images.shape[0], -1)
        hidden = nn.sigmoid(nn.Dense(self.units)(pixels))
        return nn.sigmoid(nn.Dense(pixels.shape[1])(hidden)), hidden


def sparse_reconstruction(
    model: Autoencoder, *, sparsity: float, sparsity_weight: float, weight_decay: float
) -> LossFn:
    r"""Make the loss of an autoencoder: squared error, sparsity and weight decay.

    .. math:: \frac1N \sum_i \tfrac12 \lVert \hat x_i - x_i \rVert^2
        + \beta \sum_j \mathrm{KL}(\rho \,\Vert\, \hat\rho_j)
        + \tfrac{\lambda}2 \sum w^2

    where :math:`\hat\rho_j` is the mean activation of unit j. The arguments are
    :math:`\rho \in (0, 1)`, :math:`\beta` and :math:`\lambda`; `ValueError` is raised
    if one is out of range. The only metric is the first term, `error`.
    """
    if not 0 < sparsity < 1:
        raise ValueError(f"`sparsity` must be in (0, 1), got {sparsity}.")
    check_at_least("sparsity_weight", sparsity_weight, 0)
    check_at_least("weight_decay", weight_decay, 0)

    def _loss_fn(params: Params, batch: Batch) -> tuple[Array, Metrics]:
        pixels, hidden = apply(model, params, batch.images)
        images = batch.images.reshape(pixels.shape)
        error = jnp.mean(jnp.sum((pixels - images) ** 2, axis=1)) / 2
        # A unit that is never active has an infinite penalty, without a gradient.
        active = jnp.clip(jnp.mean(hidden, axis=0), 1e-6, 1 - 1e-6)
        divergence = sparsity * jnp.log(sparsity / active) + (1 - sparsity) * jnp.log(
            (1 - sparsity) / (1 - active)
        )
        squares = sum(jnp.sum(layer["kernel"] ** 2) for layer in params.values())
        penalty = sparsity_weight * jnp.sum(divergence)
        return error + penalty + weight_decay * squares / 2, {"error": error}

    return _loss_fn


def with_first_layer(encoder: Params, top: Params) -> dict[str, Any]:
    """Combine the weights of an `Autoencoder` and of a linear classifier of its units.

    Returns the weights of `FullyConnected(hidden=(units,))`.
    """
    return {"Dense_0": encoder["Dense_0"], "Dense_1": top["Dense_0"]}

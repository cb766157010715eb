"""Train from the last checkpoint up to a given step, and save the parameters.

The images come from the devices or from a stream. A process reads only its own part.
"""

import connect
import jax
import numpy as np
import optax

from advgan_jax import data, models, parallel
from advgan_jax.checkpointing import Checkpoints
from advgan_jax.training import batches, classifier, fit


class Watched(data.Split):
    """A split that counts the rows that are read."""

    num_read = 0

    def rows(self, indices):
        Watched.num_read += len(indices)
        return super().rows(indices)


folder, last, result, source, mode = connect.connect()
digits = data.load_dataset("digits").train.take(160)
train = Watched(digits.images, digits.labels)
model, sgd = models.FullyConnected(10, hidden=(16,)), optax.sgd(0.05)
state = classifier.init_state(model, sgd, jax.random.key(0), (8, 8, 1))
run = parallel.compile_steps(classifier.make_train_step(model, sgd), mode=mode)
plan = fit.Plan(len(train), batch_size=32, num_epochs=int(last) // 5)
with Checkpoints(folder) as checkpoints:
    if checkpoints.steps():
        state = checkpoints.restore(state)
    hooks = fit.Hooks(save=lambda step, state: checkpoints.save(step, state, {}))
    first = int(state.step)
    key = jax.random.key(1)
    stream = batches.Stream(train, mode) if source == "stream" else None
    images = stream or fit.on_device(train)
    state, _ = fit.fit(state, run, images, plan, order_key=key, hooks=hooks)
processes = parallel.num_processes()
if source == "stream":
    assert train.num_read == (int(state.step) - first) * 32 // processes
elif processes > 1:
    assert train.num_read == len(train) // processes
leaves = {str(i): x for i, x in enumerate(jax.tree.leaves(state.model))}
if parallel.is_first():
    np.savez(result, first=first, step=state.step, **leaves)

"""Steps up to a given one, from the last checkpoint there is; then their parameters."""

import connect
import jax
import numpy as np
import optax

from advgan_jax import data, models, parallel
from advgan_jax.checkpointing import Checkpoints
from advgan_jax.training import classifier, loop

folder, last, result = connect.connect()
train = data.load_dataset("digits").train.take(160)
model, sgd = models.FullyConnected(10, hidden=(16,)), optax.sgd(0.05)
state = classifier.init_state(model, sgd, jax.random.key(0), (8, 8, 1))
run = parallel.compile_steps(classifier.make_train_step(model, sgd))
plan = loop.Plan(len(train), batch_size=32, num_epochs=int(last) // 5)
with Checkpoints(folder) as checkpoints:
    if checkpoints.steps():
        state = checkpoints.restore(state)
    hooks = loop.Hooks(save=lambda step, state: checkpoints.save(step, state, {}))
    first = int(state.step)
    key = jax.random.key(1)
    state, _ = loop.fit(
        state, run, loop.on_device(train), plan, order_key=key, hooks=hooks
    )
leaves = {str(i): x for i, x in enumerate(jax.tree.leaves(state.net))}
if parallel.is_first():
    np.savez(result, first=first, step=state.step, **leaves)

"""Training: states, pure steps, and the host loop.

Every method has `init_state`, which returns the state at step 0, and `make_train_step`
(or similar), which returns a pure step for one shard of a batch:

    train_step(state, batch, *frozen, axis_name=None) -> (state, metrics)

Metrics are means over the batch. Frozen models are arguments, never part of a state.
`parallel.compile_steps` compiles a step, and `fit.fit` runs it. Shared arguments:

  * `model`: a Flax module, `images, train -> logits`; may have dropout and batch
    normalisation;
  * `networks`: generator, discriminator and their optimisers, see `gan.Networks`;
  * `optimizer`: any optax optimiser, the same for the state and its step;
  * `objective`: the loss of AdvGAN or AI-GAN, with its weights and bounds;
  * `key`: typed PRNG key of the run;
  * `image_shape`: (H, W, C);
  * `axis_name`: axis of the devices, over which a step averages losses and gradients.
"""

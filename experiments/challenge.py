r"""Measure the accuracy of a trained classifier on a file of adversarial images.

    python experiments/challenge.py --config=configs/defence.py:mnist \
        --config.target_model_dir=runs/target_models --file=attack.npy

The classifier is trained if the folder has none of this configuration. `reproduce.py`
keeps its classifiers in `target_models/` in its workdir, unless `target_model_dir` is
set. These flags specify the classifier of `--table=challenge --scale=full`:

    --config.target_training.defences.iterative.training.num_epochs=84
    --config.target_training.defences.iterative.training.batch_size=50
    --config.target_training.defences.iterative.training.learning_rate=1e-4
    --config.target_training.defences.iterative.attack.num_steps=40
    --config.target_training.defences.iterative.attack.step_size=0.01

The file must contain all test images in their order, as float32 in [0, 1]. No pixel may
differ from the clean image by more than `--config.epsilon` (0.3). If an image breaks a
rule, the error names the first such image.
"""

import sys

from advgan_jax.cli import main

if __name__ == "__main__":
    main.run("challenge", sys.argv[1:])

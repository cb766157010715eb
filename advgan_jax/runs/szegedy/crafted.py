"""Adversarial images of the studies: made once for each net, and kept."""

import jax
import numpy as np

from advgan_jax import parallel
from advgan_jax.data import Split, to_float
from advgan_jax.evaluation import Evaluation, evaluate
from advgan_jax.runs import from_config, kept
from advgan_jax.runs.methods import attacks
from advgan_jax.runs.run import Run
from advgan_jax.runs.szegedy import nets
from advgan_jax.runs.szegedy.nets import Net


def images_of(run: Run, where: str) -> Split:
    """The images that are made adversarial: the first of the split, as floats.

    Args:
      run: reads `evaluation.num_images`.
      where: `train` or `test`.

    Returns:
      The images, or all of the split where there are not as many.
    """
    split, wanted = getattr(run.dataset, where), run.config.evaluation.num_images
    split = split if wanted is None else split.take(min(wanted, len(split)))
    return Split(to_float(split.images), split.labels)


def adversarial(run: Run, net: Net, where: str) -> Evaluation:
    """The configured attack on a net, unless its images are kept from before.

    Args:
      run: the run that needs them.
      net: what is attacked.
      where: `train` or `test`.

    Returns:
      What was measured; `examples` are the adversarial images, all of them.
    """
    config, split = run.config, images_of(run, where)
    values = from_config.plain(config)
    decides = {
        "net": nets.describe(run, net.name),
        "attack": values["attacks"][config.attack],
        "random_targets": config.random_targets,
        "evaluation": values["evaluation"],
    }
    name = f"{net.name}-{config.attack}-{where}-{from_config.fingerprint(decides)}.npz"
    path = run.workdir / "evaluations" / name
    if parallel.agreed(path.exists()):
        return kept.load(path)[None]
    found = evaluate(
        net.logits_fn,
        from_config.bound_attack(config, config.attack),
        split.images,
        split.labels,
        target_labels=attacks.target_labels(config, split, run.dataset.num_classes),
        batch_size=config.evaluation.batch_size,
        key=jax.random.key(config.seed + 2),
        keep=len(split),
        progress=True,
    )
    kept.save(path, {None: found})
    return found


def mean_distortion(evaluation: Evaluation) -> float:
    """Mean RMS over the images that were right before and are wrong after; or NaN.

    An image that is wrong already needs no distortion, and one on which the attack gave
    up has none; neither makes a net look weaker.
    """
    before = evaluation.clean_predictions == evaluation.labels
    after = evaluation.adversarial_predictions != evaluation.labels
    chosen = evaluation.rms[before & after]
    return float(np.mean(chosen)) if chosen.size else float("nan")

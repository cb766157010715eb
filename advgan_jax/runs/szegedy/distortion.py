"""Table 1: how little distortion it takes to make a net wrong on every image."""

from typing import Any

from advgan_jax.evaluation import Evaluation
from advgan_jax.reporting import comparison_grid
from advgan_jax.runs.run import Run, attack_row
from advgan_jax.runs.szegedy import crafted, output, paper
from advgan_jax.runs.szegedy.nets import Net, trained_net

_SHOWN = 10


def study(run: Run) -> list[dict[str, Any]]:
    """Attacks each of `config.models` on training images, as the paper does.

    Args:
      run: the run.

    Returns:
      A row of `results.json` for each net.
    """
    found = {}
    for name in run.config.models:
        net = trained_net(run, name)
        found[name] = (net, crafted.adversarial(run, net, "train"))
    records = [record(run, net, evaluation) for net, evaluation in found.values()]
    images = crafted.images_of(run, "train")
    lines = {
        net.title: (e.examples[:_SHOWN], e.adversarial_predictions[:_SHOWN])
        for net, e in found.values()
    }
    # Above the clean images stands what they are: the nets may differ about them.
    labels = images.labels[:_SHOWN]
    figure = comparison_grid(images.images[:_SHOWN], labels, labels, lines)
    output.write(run, "distortion", records, figure)
    return [
        attack_row(
            run._replace(config=_named(run, name)),
            evaluation,
            attack=run.config.attack,
            threat_model="white-box",
            epsilon=None,
            norm=None,
        )
        for name, (_, evaluation) in found.items()
    ]


def record(run: Run, net: Net, evaluation: Evaluation) -> dict[str, Any]:
    """The line of Table 1 of one net.

    Args:
      run: the run.
      net: what was attacked.
      evaluation: from `crafted.adversarial`.

    Returns:
      Errors on the training and the test set, accuracy under attack, and the mean RMS
      distortion of the images that were right before.
    """
    train, test, least = paper.DISTORTION.get(net.title, (None,) * 3)
    return {
        "model": net.title,
        **output.beside(run, "train error", 1 - _accuracy(run, net, "train"), train),
        **output.beside(run, "test error", 1 - _accuracy(run, net, "test"), test),
        "images": evaluation.num_images,
        "accuracy under attack": evaluation.robust_accuracy,
        **output.beside(
            run, "av. distortion", crafted.mean_distortion(evaluation), least
        ),
        "av. distortion, all images": float(evaluation.rms.mean()),
    }


def _accuracy(run: Run, net: Net, where: str) -> float:
    return output.clean(run, net, where).clean_accuracy


def _named(run: Run, name: str):
    config = run.config.copy_and_resolve_references()
    config.target_model = name
    return config

"""What names the things that the tables make: all that decides them, and nothing else.

So whatever is configured may change in one folder, and what it does not touch is found.
"""

from typing import Any

from ml_collections import ConfigDict

from advgan_jax.runs import from_config
from advgan_jax.runs.reproduce.rows import Cell, Net
from advgan_jax.runs.workdir import without

# Attacks that are trained, and by which section of the configuration.
GENERATORS = {
    "advgan": "advgan",
    "aigan": "aigan",
    "dynamic": "blackbox",
    "fitted": "fitted",
    "static": "blackbox",
}
# Where things lie and what shares the work, which decides no number but by rounding;
# and how fast a black box is asked.
_ELSEWHERE = ("table", "data_dir", "target_model_dir", "parallel", "max_resident_bytes")
_PACE = ("queries.batch_size",)


def section_of(net: Net) -> str:
    """The section of the tables' configuration that says how a net is trained."""
    return "blackbox" if net.is_black_box else "advgan"


def run_identity(config: ConfigDict) -> dict[str, Any]:
    """All of a generator's run that decides what it becomes.

    How often it is saved and how many steps a call takes are told as well, as its
    checkpoints tell them.

    Args:
      config: see `Workshop.config_of`; tells of the first net alone.

    Returns:
      JSON values.
    """
    others = ()
    if config.method == "generators":  # keeps AdvGANs, each class in its own folder
        others = ("aigan", "target_classes")
    names = (*_ELSEWHERE, *_PACE, *others, "evaluation")
    return without(from_config.plain(config), names)


def images_identity(
    told: dict[str, Any], attack: str, *, whole: bool
) -> dict[str, Any]:
    """All of a configuration that decides adversarial images, but for the nets.

    Args:
      told: `from_config.plain` of the tables' configuration.
      attack: see `Workshop.attack`.
      whole: whether of all test images.

    Returns:
      JSON values.
    """
    own = told[GENERATORS[attack]] if attack in GENERATORS else told["attacks"][attack]
    # The nets' descriptions say how they are trained.
    own = without(own, (*_ELSEWHERE, *_PACE, "evaluation", "target_training"))
    return _shared(told, whole) | {"attack": own}


def cell_identity(told: dict[str, Any], cell: Cell) -> dict[str, Any]:
    """All of a configuration that decides a number, but for the nets.

    Args:
      told: `from_config.plain` of the tables' configuration.
      cell: the number.

    Returns:
      JSON values.
    """
    if cell.metric.startswith("success_"):
        parts = {name: told[name] for name in ("generators", "aigan")}
        names = (*_ELSEWHERE, "target_training", "aigan.evaluation")
        return _shared(told, True) | without(parts, names)
    if cell.attack is None:
        return _shared(told, True)
    is_timed = cell.metric == "seconds"
    own = images_identity(told, cell.attack, whole=is_timed or cell.checked)
    return own | {"num_timed": told["num_timed"]} if is_timed else own


def _shared(told: dict[str, Any], whole: bool) -> dict[str, Any]:
    """What decides all images: of how many, in which batches, by which draws."""
    evaluation = {"batch_size": told["evaluation"]["batch_size"]}
    if not whole:
        evaluation["num_images"] = told["evaluation"]["num_images"]
    shared = {name: told[name] for name in ("dataset", "epsilon", "seed")}
    return shared | {"evaluation": evaluation}

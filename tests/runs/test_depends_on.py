"""Every setting decides a result, or is known to decide none: none is forgotten."""

import pytest
from flax.traverse_util import flatten_dict

from advgan_jax.runs.from_config import gans, target_models
from advgan_jax.runs.papers.szegedy_models import DEPENDS_ON

SHARED = ("dataset", "seed", "target_model", "target_training.defences", "generator")
SHARED += ("target_weights",)
SHARED += tuple(f"target_training.{n}" for n in ("defence", *target_models._TRAINING))
STUDIES = {f"{part}.{name}" for part, names in DEPENDS_ON.items() for name in names}
STUDIES |= {"attacks", "random_targets", "target_class"}
# They select what is made, or say how it is computed, saved or shown.
PLACES = {"method", "data_dir", "target_model_dir", "parallel", "max_resident_bytes"}
SAVING = {"epochs_per_checkpoint", "steps_per_call", "calls_per_checkpoint", "title"}
SHOWN = {"batch_size", "grid_images", "levels", "num_images", "monitor_images"}
CHOICES = {"study", "models", "half_models", "spectral_models", "units.models"}
CHOICES |= {"attack", "noise", "amplified_to", "layerwise.variants", "distillation"}
CHOICES |= {"layerwise.num_seeds"}
CHOICES |= {"queries.batch_size", "queries.budget"}
OTHERS = {f"evaluation.{n}" for n in SHOWN} | PLACES | CHOICES


@pytest.mark.parametrize("name", ["advgan", "advgan_blackbox", "aigan", "szegedy"])
def test_every_setting_decides_or_is_known_not_to(get_config, name):
    known = {*SHARED, *gans.DEPENDS_ON.get(name, STUDIES), *OTHERS}
    for path in flatten_dict(get_config(name).to_dict(), sep="."):
        own = path.split(".")
        if own[0] == "networks":  # each network has the same settings
            del own[1]
        starts = {".".join(own[: n + 1]) for n in range(len(own))}
        assert own[-1] in SAVING or starts & known, path

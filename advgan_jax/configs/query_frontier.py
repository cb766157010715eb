r"""Compare attacks by the queries that each success costs.

    python experiments/attack.py --config=configs/query_frontier.py            # digits
    python experiments/attack.py --config=configs/query_frontier.py:mnist \
        --config.target_model=C

The black box and the black-box AdvGAN are those of `configs/advgan_blackbox.py`. Each
attack in `names` has its hyper-parameters in `attacks`. `advgan` queries the black box
in its training alone; `hybrid` continues where it fails by the search `hybrid_search`.
`signhunter_strips` begins with sixteenths of the image, those in the middle first, and
needs fewer queries on MNIST, not on digits. Searches that draw random numbers run with
`num_seeds` keys. The figure `query_frontier` has the queries for each success against
the number of images attacked, the table `query_frontier` the success at the fixed
`budgets`.

On MNIST's C, SignHunter needs 25.2 queries for an image as `signhunter_strips`, Square
Attack 72, RayS 126. After 872 images the hybrid is cheaper than `signhunter_strips`.

Digits take two and a half minutes on one core. SignHunter needs 4.3 queries for an
image, Square Attack 12, RayS 24 (by classes only). After 153 images a hybrid of AdvGAN
and SignHunter is cheaper than SignHunter alone, at the same success of 100 %.
"""

from ml_collections import ConfigDict

from advgan_jax.configs import advgan_blackbox
from advgan_jax.configs.attacks import QUERY_ATTACKS


def get_config(variant: str = "digits") -> ConfigDict:
    """Return the configuration of one data set's comparison."""
    config = advgan_blackbox.get_config(variant)
    config.method = "query_frontier"
    config.names = ("signhunter", "signhunter_strips", "square", "simba", "bandits")
    config.names += ("nes", "spsa", "rays", "hop_skip_jump", "advgan", "hybrid")
    # Square Attack plans its squares for its most queries, and needs few.
    most = {name: {"num_queries": 10_000} for name in QUERY_ATTACKS if name != "square"}
    sections = {n: {**own, **most.get(n, {})} for n, own in QUERY_ATTACKS.items()}
    config.attacks = ConfigDict({**sections, "advgan": {}})
    config.attacks.hop_skip_jump.norm = "linf"
    strips = {"kind": "signhunter", "first_level": 4, "middle_first": True}
    config.attacks.signhunter_strips = {**sections["signhunter"], **strips}
    config.hybrid_search = "signhunter_strips" if variant == "mnist" else "signhunter"
    config.attacks.hybrid = {"restart_after": 10}  # or 100 with `square`
    config.num_seeds = 3
    config.budgets = (10, 30, 100, 300, 1_000, 10_000)
    # Costs are drawn up to so many images; beyond the attacked ones they are computed.
    config.most_images = 10_000
    config.evaluation.num_images = 300 if variant == "digits" else 1_000
    return config

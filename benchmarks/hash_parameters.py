"""Print a hash of the arrays in the newest checkpoint of each run below some folders.

    python benchmarks/hash_parameters.py runs/advgan-digits-small

A change that must keep every bit is checked by the hashes before and after it. Run both
on the same machine with as many cores: sums are rounded in another order on more cores.
The hash does not depend on the names of arrays, only on their contents.
"""

import hashlib
import pathlib
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp


def hash_checkpoint(folder):
    """Return the newest step of a folder, its number of arrays and their hash."""
    step = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
    path = (folder / str(step) / "state").absolute()
    arrays = jax.tree.leaves(ocp.StandardCheckpointer().restore(path))
    arrays = [
        jax.random.key_data(array)
        if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key)
        else array
        for array in arrays
    ]
    digests = [hashlib.sha256(np.asarray(array).tobytes()) for array in arrays]
    lines = "\n".join(sorted(digest.hexdigest() for digest in digests))
    return step, len(digests), hashlib.sha256(lines.encode()).hexdigest()


if __name__ == "__main__":
    for root in map(pathlib.Path, sys.argv[1:]):
        for found in sorted(root.rglob("checkpoints")):
            if any(path.name.isdigit() for path in found.iterdir()):
                print(found, *hash_checkpoint(found))

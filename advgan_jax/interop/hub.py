"""Trained generators on the Hugging Face Hub, each with a model card."""

import json
import pathlib
import tempfile

from advgan_jax import __version__
from advgan_jax.checks import optional_library
from advgan_jax.generators import TrainedGenerator

_CARD = """\
---
library_name: advgan_jax
tags: [adversarial-attack, jax]
---

# {title}

A generator of adversarial perturbations ({kind}), trained by advgan_jax {version}.
It perturbs an image in one forward pass, without a model and without gradients.

| | |
|---|---|
| images | {shape}, float32 within {bounds} |
| epsilon (L-infinity) | {epsilon:g} |
| classes | {num_classes} |
| aim | {aim} |
| success in training | {success} |
| trained on | {name} |
| seed | {seed} |

```python
from advgan_jax import TrainedGenerator
from huggingface_hub import snapshot_download

generator = TrainedGenerator.load(snapshot_download({repo}))
adversarial = generator.perturb(images{labels})
```

It measures the robustness of models that you may attack.
"""


def push_to_hub(
    generator: TrainedGenerator,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
) -> str:
    """Upload a generator and a model card to a repository, which is made if missing.

    Args:
      generator: the generator.
      repo_id: `USER/NAME` or `ORGANISATION/NAME`.
      private: whether a new repository is private.
      token: an access token; by default that of `hf auth login`.

    Returns:
      The address of the commit.

    Raises:
      ImportError: if huggingface_hub is not installed.
    """
    huggingface_hub = optional_library("huggingface_hub", "`push_to_hub`")
    api = huggingface_hub.HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        saved = pathlib.Path(folder, "generator")
        generator.save(saved)
        card = model_card(generator, repo_id)
        (saved / "README.md").write_text(card, encoding="utf8")
        api.create_repo(repo_id, private=private, exist_ok=True)
        message = f"A generator of advgan_jax {__version__}"
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=saved, commit_message=message
        )
    return str(commit.commit_url)


def model_card(generator: TrainedGenerator, repo_id: str) -> str:
    """Describe a generator in Markdown, as the README of its repository."""
    record, wanted = generator.trained_on, generator.target_class
    aim = "any other class" if wanted is None else f"class {wanted}"
    if generator.conditional:
        aim = "the class that it is given"
    return _CARD.format(
        title=repo_id.split("/")[-1],
        kind="AI-GAN" if generator.conditional else "AdvGAN",
        version=__version__,
        shape=" x ".join(map(str, generator.image_shape)),
        bounds=f"[{generator.bounds[0]:g}, {generator.bounds[1]:g}]",
        epsilon=generator.epsilon,
        num_classes=generator.num_classes,
        aim=aim,
        success="unknown" if record.success is None else f"{record.success:.1%}",
        name=record.name,
        seed="unknown" if record.seed is None else record.seed,
        repo=json.dumps(repo_id),
        labels=", wanted_classes" if generator.conditional else "",
    )

"""Uploads to the Hub, into a local folder in its place."""

import inspect
import shutil
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import interop, models
from advgan_jax.generators import TrainedGenerator, TrainedOn


@pytest.fixture
def generator():
    module = models.Generator(0.3, (2, 2, 2), 0)
    params = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]
    record = TrainedOn("a model", 0.987, 3)
    return TrainedGenerator(module, params, 0.3, (8, 8, 1), 10, trained_on=record)


def test_the_repository_holds_the_generator_and_its_card(
    generator, tmp_path, monkeypatch
):
    calls = []

    class LocalApi:
        def __init__(self, token):
            calls.append(token)

        def create_repo(self, repo_id, *, private, exist_ok):
            calls.append((repo_id, private, exist_ok))

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, tmp_path / repo_id)
            return SimpleNamespace(commit_url=f"local/{repo_id}")

    hub = SimpleNamespace(HfApi=LocalApi)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    url = interop.push_to_hub(generator, "me/digits", private=True, token="t")
    assert url == "local/me/digits"
    assert calls == ["t", ("me/digits", True, True)]
    loaded = TrainedGenerator.load(tmp_path / "me" / "digits")
    images = np.full((2, 8, 8, 1), 0.5, np.float32)
    np.testing.assert_array_equal(loaded.perturb(images), generator.perturb(images))
    card = (tmp_path / "me" / "digits" / "README.md").read_text()
    for row in ("epsilon (L-infinity) | 0.3", "98.7%", "8 x 8 x 1", '"me/digits"'):
        assert row in card


def test_the_real_api_takes_these_arguments():
    hub = pytest.importorskip("huggingface_hub")
    create = inspect.signature(hub.HfApi.create_repo).parameters
    upload = inspect.signature(hub.HfApi.upload_folder).parameters
    assert {"repo_id", "private", "exist_ok"} <= set(create)
    assert {"repo_id", "folder_path", "commit_message"} <= set(upload)


def test_without_the_package_the_error_says_how_to_get_it(generator, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="pip install huggingface_hub"):
        interop.push_to_hub(generator, "me/digits")

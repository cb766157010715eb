"""Every damaged file gives the right values, or one clear line: never wrong ones."""

import logging
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tensorflow_datasets as tfds

import advgan_jax
from advgan_jax import generators, models, runs
from advgan_jax.checkpointing import Checkpoints
from advgan_jax.data import load_dataset, to_float
from advgan_jax.data._originals import encode_png
from advgan_jax.evaluation import evaluate_adversarial, load_submission
from advgan_jax.oracles import Ledger
from advgan_jax.reporting import formats, store
from advgan_jax.training import advgan
from advgan_jax.training.states import ClassifierState, ModelState, first_step

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), np.uint8)
LABELS = np.arange(12) % 4


def equal(one, other):
    """Whether two pytrees have the same arrays, bit for bit."""
    one, other = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(one) == len(other) and all(
        a.dtype == b.dtype and np.array_equal(_plain(a), _plain(b))
        for a, b in zip(one, other, strict=True)
    )


def _plain(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def contents(dataset):
    splits = (dataset.train, dataset.test)
    return [(s.images.copy(), s.labels.copy()) for s in splits], dataset.num_classes


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(save, tmp_path, judge, damages):
    arrays = dict(zip(("train_images", "train_labels"), (IMAGES, LABELS), strict=True))
    arrays |= {"test_images": IMAGES[:4], "test_labels": LABELS[:4]}
    path = tmp_path / "mine.npz"
    save(path, **arrays, num_classes=9)

    def load():
        return contents(load_dataset(f"npz:{path}"))

    (splits, num_classes) = load()
    for damaged, case in damages([path], 250):

        def use():
            found, classes = load()
            return equal(found, splits) and classes == num_classes

        judge(case, use, damaged)


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_header_and_length_of_npy(version, tmp_path, judge, damages):
    """Its pixels have no checksum; a wrong one is a wrong submission."""
    path = tmp_path / "attack.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, to_float(IMAGES), version)
    whole = load_submission(path)
    for damaged, case in damages([path], 100, where=lambda size: range(128)):

        def use():
            found = load_submission(path)
            if found.dtype != whole.dtype:  # which `check_submission` rejects
                return True
            return equal(found, whole)

        judge(case, use, damaged)


def test_ledger(tmp_path, judge, damages):
    """Its records are those that were written, except for an incomplete last one."""
    path, images = tmp_path / "queries.ledger", to_float(IMAGES)
    answers = np.eye(4, dtype=np.float32)[LABELS]
    ledger = Ledger(path)
    for start in range(0, 12, 3):
        ledger.append(images[start : start + 3], answers[start : start + 3])
    for damaged, case in damages([path], 150):

        def use():
            found = Ledger(path)
            if len(found) % 3:
                return False
            given = found.replay(images[: len(found)]) if len(found) else answers[:0]
            return equal(given, answers[: len(found)])

        judge(case, use, damaged)


class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A set with code of the same name; its files alone must be read without."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, **kwargs):
        super().__init__(file_format="array_record", **kwargs)

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(8, 8, 1)),
            "label": tfds.features.ClassLabel(num_classes=4),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {"train": self._generate_examples(), "test": self._generate_examples()}

    def _generate_examples(self):
        for i, image in enumerate(IMAGES):
            # As a file: TensorFlow Datasets encodes arrays with TensorFlow.
            yield i, {"image": encode_png(image[..., 0]), "label": LABELS[i]}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A prepared set of TensorFlow Datasets, its values and its meaningful bytes."""
    folder = tmp_path_factory.mktemp("data")
    Tiny(data_dir=folder).download_and_prepare()
    return folder, contents(load_dataset("tiny", data_dir=folder))


def _use_tiny(folder, whole, caplog):
    def use():
        found, classes = contents(load_dataset("tiny", data_dir=folder))
        if (equal(found, whole[0]), classes) == (True, whole[1]):
            return True
        said = "features.json" in caplog.text
        return "right, with a warning" if said else False

    return use


def test_records_of_tfds(tiny, judge, damages, caplog):
    folder, whole = tiny
    files = list(folder.rglob("*array_record*"))
    assert len(files) == 2
    # Their 64 KiB blocks are mostly zeros, which are never read.
    data = files[0].read_bytes()
    used = [i for i, byte in enumerate(data) if byte]
    for _, case in damages(files, 120, where=lambda size: used):
        judge(case, _use_tiny(folder, whole, caplog), str(folder))


def test_metadata_of_tfds(tiny, judge, damages, caplog):
    folder, whole = tiny
    for _, case in damages(folder.rglob("*.json"), 200):
        judge(case, _use_tiny(folder, whole, caplog), str(folder))


def _digits_of(path):
    """The places of digits in a file of text."""
    return [i for i, c in enumerate(path.read_text()) if c.isdigit()]


def test_every_number_in_metadata_of_tfds(tiny, judge, caplog):
    folder, whole = tiny
    for path in folder.rglob("*.json"):
        text = path.read_text()
        for place in _digits_of(path):
            for digit in set("0123456789") - {text[place]}:
                path.write_text(text[:place] + digit + text[place + 1 :])
                case = f"{path}, {digit} at {place}"
                judge(case, _use_tiny(folder, whole, caplog), str(folder))
        path.write_text(text)


def make_state(step):
    params = {"kernel": jax.random.normal(jax.random.key(step), (8, 4))}
    model = ModelState(params, optax.adam(1e-3).init(params))
    return ClassifierState(first_step() + step, jax.random.key(step), model, {})


@pytest.fixture
def checkpoints(tmp_path):
    """Two checkpoints, of steps 1 and 2."""
    with Checkpoints(tmp_path / "checkpoints") as saved:
        for step in (1, 2):
            saved.save(step, make_state(step), {"seed": step, "epsilon": 0.3})
    return tmp_path / "checkpoints"


def _files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


# Orbax forgets a coroutine where reading fails.
quiet = pytest.mark.filterwarnings("ignore:coroutine", "ignore:Exception ignored")


@quiet
@pytest.mark.slow
def test_checkpoints(checkpoints, judge, damages, caplog):
    like = jax.eval_shape(lambda: make_state(0))
    for _, case in damages(_files(checkpoints / "2"), 150):

        def use():
            with Checkpoints(checkpoints) as saved:
                state = saved.restore(like)
                described = saved.describe()
            lines = [r for r in caplog.records if "Checkpoint 2 in" in r.getMessage()]
            step = int(state.step)
            right = equal(state, make_state(step))
            seeds = described in ({"seed": s, "epsilon": 0.3} for s in (step, 2))
            if step == 2 and not lines:
                return right and seeds
            good = right and seeds and len(lines) == 1 and "\n" not in lines[0].msg
            return "right, with a warning" if good else False

        with caplog.at_level(logging.WARNING):
            judge(case, use, str(checkpoints))


@quiet
@pytest.mark.slow
def test_generators(tmp_path, judge, damages):
    """The only checkpoint of a run is damaged: no generator is better than a wrong."""
    module = models.Generator(epsilon=0.3, widths=(4, 4, 4), num_residual=1)
    described = {
        "kind": "advgan",
        "generator": generators.describe_module(module),
        "epsilon": 0.3,
        "target_class": None,
        "num_classes": 8,
        "image_shape": (8, 8, 1),
    }
    adam = optax.adam(1e-3)
    networks = advgan.Networks(module, models.Discriminator((4,)), adam, adam)
    state = advgan.init_state(networks, jax.random.key(0), (8, 8, 1))
    with Checkpoints(tmp_path / "checkpoints") as saved:
        saved.save(1, state, described)

    def perturb():
        attack = advgan_jax.load_generator(tmp_path)
        return attack(lambda x: x[:, 0, :, 0], to_float(IMAGES), LABELS)

    whole = perturb()
    for _, case in damages(_files(tmp_path), 40, seed=1):
        judge(case, lambda: equal(perturb(), whole), str(tmp_path))


def make_evaluation(digits, digits_logits_fn):
    test = digits.test.take(4)
    shown = (test.images, to_float(test.images), test.labels)
    return {None: evaluate_adversarial(digits_logits_fn, *shown, batch_size=4)}


@pytest.mark.parametrize("kind", ["rows", "crafted", "weights", "evaluations"])
def test_stored_results(kind, tmp_path, judge, damages, digits, digits_logits_fn):
    made, kept = {
        "rows": (lambda: {"a": [0.25, 17], "b": "text"}, formats.JSON),
        "crafted": (lambda: to_float(IMAGES), formats.ARRAY),
        "weights": (lambda: {"a": {"b": jnp.arange(9.0)}}, formats.PARAMS),
        "evaluations": (
            lambda: make_evaluation(digits, digits_logits_fn),
            formats.EVALUATIONS,
        ),
    }[kind]
    results = store.Store(tmp_path)
    whole = results.get(kind, {}, made, kept)

    def same(found):
        if kind == "rows":
            return found == whole
        if kind == "evaluations":
            found, right = vars(found[None]), vars(whole[None])
            return all(np.array_equal(found[n], right[n]) for n in right)
        return equal(found, whole)

    for damaged, case in damages(_files(tmp_path), 60):
        judge(case, lambda: same(results.find(kind, {}, kept)), damaged)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", b""),
        ("config.json", b"[]"),
        ("config.json", b'{"method": "adv'),
        ("config.json", b'{"model_type": "bert"}'),
        ("config.json", b"\xff\xfe"),
        ("metrics.jsonl", b'{"step": 1, "loss": 0.5}\n\xff\n'),
        ("metrics.jsonl", b"[1]\n"),
        ("metrics.jsonl", b'{"step": "1"}\n'),
    ],
)
def test_files_of_a_run(finished, fresh, get_config, judge, name, text):
    workdir = fresh(finished[0])
    (workdir / name).write_bytes(text)

    def use():
        return runs.train(get_config(), workdir, resume=True) and False

    judge(f"{name} is {text!r}", use, str(workdir / name))


@pytest.mark.parametrize("text", [b"", b"[]", b'{"22": "x"}', b'{"2', b"\xff"])
def test_a_damaged_duration_blocks_no_run(finished, fresh, get_config, caplog, text):
    """It informs only, so a warning is enough."""
    workdir, rows = fresh(finished[0]), finished[1]
    (workdir / "training_time.json").write_bytes(text)
    (row,) = runs.train(get_config(**{"training.num_epochs": 2}), workdir, resume=True)
    for timed in ("seconds", "images_per_second"):
        row[timed] = rows[0][timed]
    assert row == rows[0]


@pytest.mark.slow
def test_commands_end_with_one_line(fork_commands, tmp_path):
    """A command reports a damaged file like every other error: status 2, one line."""
    arrays = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS}
    np.savez(tmp_path / "mine.npz", **arrays)
    data = bytearray((tmp_path / "mine.npz").read_bytes())
    data[200] ^= 1
    (tmp_path / "mine.npz").write_bytes(data)
    (tmp_path / "attack.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("[]")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "results.json").write_text("{}")
    train = ["train.py", "--config=configs/advgan.py"]
    file = f"--file={tmp_path / 'attack.npy'}"
    challenge = ["challenge.py", "--config=configs/defence.py"]
    cases = [
        ([*train, f"--config.dataset=npz:{tmp_path / 'mine.npz'}"], "mine.npz"),
        ([*train, f"--workdir={tmp_path / 'run'}", "--resume"], "run/config.json"),
        ([*train, f"--workdir={tmp_path / 'theirs'}", "--overwrite"], "theirs"),
        ([*challenge, file, f"--config.target_model_dir={tmp_path}"], "attack.npy"),
    ]
    endings = fork_commands([command for command, _ in cases], tmp_path)
    for (status, errors), (_, name) in zip(endings, cases, strict=True):
        assert status == 2, errors
        (line,) = errors.splitlines()
        assert line.startswith("error: ")
        assert str(tmp_path / name) in line
    assert (tmp_path / "theirs" / "results.json").exists()


FULL = """
import resource, sys
import jax.numpy as jnp
from advgan_jax.checkpointing import Checkpoints
from advgan_jax.cli import faults

faults.quiet_libraries()
with Checkpoints(sys.argv[1]) as saved:
    saved.save(1, {"a": jnp.zeros(9)}, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
noise = jnp.sin(jnp.arange(1e6) ** 2)
with faults.one_line_errors(""), Checkpoints(sys.argv[1]) as saved:
    saved.save(2, {"a": noise}, {})
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs limits on the size of files")
def test_a_full_disk_is_one_line_and_keeps_the_checkpoint(tmp_path):
    """A limit on the size of files stands for the disk's end."""
    result = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: A checkpoint cannot be written to {tmp_path} (")
    with Checkpoints(tmp_path) as saved:
        assert saved.steps() == [1]
        assert equal(saved.restore(), {"a": jnp.zeros(9)})

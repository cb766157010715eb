"""The zoo: each entry loads, is whole, and reaches the figures of its card."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from advgan_jax import zoo
from advgan_jax.cli import arguments, export
from advgan_jax.evaluation import (
    evaluate,
    evaluate_adversarial,
    evaluate_per_class,
    pool,
)
from advgan_jax.generators import TrainedGenerator, files, load_generator
from advgan_jax.interop import imported

ENTRIES = zoo.list()
ALLOWED = 8e6  # bytes, because every installation downloads them
# Unoptimised programs change the logits of digits by up to 2e-5; other processors round
# otherwise too. This is fifty times that.
ROUNDING = 1e-3
QUICK = ("target/digits", "advgan/digits")
SLOW = [pytest.mark.slow, pytest.mark.optimised]


def test_entries_are_small_and_in_pairs(repository):
    assert {"advgan/digits", "target/digits"} <= set(ENTRIES)
    paths = [p for p in (repository / "advgan_jax/zoo").rglob("*.*") if p.is_file()]
    kept = [p for p in paths if p.suffix in (".json", ".safetensors")]
    assert len(kept) == 2 * len(ENTRIES)
    assert sum(p.stat().st_size for p in kept) <= ALLOWED


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_has_a_whole_card_and_loads(name):
    card = zoo.card(name)
    assert card["command"].startswith("advgan-jax ")
    assert card["trained_on"]
    assert card["licence"] == "Apache-2.0"
    assert card["versions"]["jax"]
    for figure in card["figures"]:
        assert figure["low"] < figure["value"] < figure["high"] or figure["value"] == 1
        assert figure["of"] > 100
    found = zoo.load(name)
    if name.startswith("target/"):
        assert card["target"] is None
    else:
        assert isinstance(found, TrainedGenerator)
        assert card["target"] in ENTRIES
        kinds = {"advgan": False, "aigan": True}
        assert found.conditional == kinds[name.split("/")[0]]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else SLOW) for n in ENTRIES]
)
def test_the_figures_of_the_cards_are_right(name, request):
    card = zoo.card(name)
    test = request.getfixturevalue(card["dataset"]).test
    sampled = len(test) > 1000  # all images of MNIST would take minutes
    test = test.take(min(1000, len(test)))
    shown, model = (test.images, test.labels), zoo.load(card["target"] or name)
    clean = evaluate_adversarial(model, test.images, *shown)
    counted, reached = np.ones(len(test), bool), ~clean.succeeded
    unsure = np.abs(clean.margin) < ROUNDING
    if card["target"]:
        attack = zoo.load(name)
        if attack.conditional:
            classes = evaluate_per_class(model, attack, *shown, range(10))
            found = pool(list(classes.values()))
        else:
            found = evaluate(model, attack, *shown)
        counted, reached = found.counted(), found.succeeded
        again = np.resize(unsure, len(counted))  # once for each wanted class
        unsure = again | (np.abs(found.margin) < ROUNDING)
    (figure,) = card["figures"]
    if card["target"]:  # all images that the target model classifies correctly
        correct = zoo.card(card["target"])["figures"][0]
        classes = 9 if zoo.load(name).conditional else 1  # each image's wrong ones
        assert figure["of"] == round(correct["value"] * correct["of"]) * classes
    if sampled:  # four standard errors of a share of the first images
        value = figure["value"]
        tolerance = 4 * np.sqrt(value * (1 - value) / len(test))
    else:
        # Rounding decides about these images alone; each changes both counts by one.
        tolerance = unsure.sum() / figure["of"] + 1e-12
        assert abs(counted.sum() - figure["of"]) <= unsure.sum()
    assert reached[counted].mean() == pytest.approx(figure["value"], abs=tolerance)


def test_loading_imports_nothing_large(repository):
    code = (
        "import sys\n"
        "from advgan_jax import zoo\n"
        "zoo.card('advgan/digits')\n"
        "assert 'jax' not in sys.modules\n"
        "zoo.load('advgan/digits'), zoo.load('target/digits')\n"
        "large = {'orbax', 'tensorflow_datasets', 'matplotlib'} & set(sys.modules)\n"
        "assert not large, large\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=repository)


@pytest.mark.parametrize("open_entry", [zoo.load, zoo.card])
def test_an_unknown_name_is_one_clear_error(open_entry):
    with pytest.raises(ValueError, match=r"Did you mean 'advgan/digits'\? Known: "):
        open_entry("advgan/digit")
    # A path must not lead out of the zoo.
    with pytest.raises(ValueError, match="Unknown entry of the zoo"):
        open_entry("../zoo/advgan/digits")


def test_a_damaged_entry_is_rejected(tmp_path, monkeypatch):
    shutil.copytree(zoo._ROOT, tmp_path / "zoo")
    monkeypatch.setattr(zoo, "_ROOT", tmp_path / "zoo")
    for name, kind in (("target/digits", "model"), ("advgan/digits", "generator")):
        path = tmp_path / "zoo" / name / f"{kind}.json"
        record = json.loads(path.read_text())
        record["card"]["figures"][0]["value"] = 1.0
        path.write_text(json.dumps(record))
        with pytest.raises(ValueError, match=f"is damaged .* save the {kind} again"):
            zoo.load(name)


def test_kernels_are_rounded_to_eight_bits_and_nothing_else(tmp_path):
    draw = np.random.default_rng(0).normal
    kernel, bias = draw(size=(3, 3, 5, 7)), draw(size=7)
    kernel[..., 2] = 0  # a dead channel has no scale of its own
    params = {"Conv_0": {"kernel": kernel.astype(np.float32), "bias": bias}}
    files.save(tmp_path / "saved", {"a": 1}, params, "model", packed=True)
    record, found = files.load(tmp_path / "saved", "model")
    assert record == {"a": 1}
    np.testing.assert_array_equal(found["Conv_0"]["bias"], np.float32(bias))
    step = np.abs(kernel).max(axis=(0, 1, 2)) / 127
    error = np.abs(np.asarray(found["Conv_0"]["kernel"]) - kernel)
    assert np.all(error <= 0.5 * step + 1e-6)
    assert np.all(error.max(axis=(0, 1, 2))[step > 0] > 0.3 * step[step > 0])
    size = (tmp_path / "saved" / "model.safetensors").stat().st_size
    assert size < kernel.size + 8 * bias.size + 400  # a byte for a number, and a header


def test_commands_take_entries(tmp_path, capsys):
    export.run(["zoo:advgan/digits", "--format=folder", f"--out={tmp_path / 'copy'}"])
    copy, entry = load_generator(tmp_path / "copy"), zoo.load("advgan/digits")
    jax.tree.map(np.testing.assert_array_equal, copy.params, entry.params)
    found = arguments.with_folder(["zoo:advgan/digits", "--levels=256"])
    assert found == [
        "--config=evaluate:digits",
        "--config.target_model=zoo:target/digits",
        f"--config.generator_dir={zoo.find('zoo:advgan/digits')}",
        "--config.evaluation.levels=256",
    ]
    given = arguments.with_folder(["zoo:advgan/digits", "--config=evaluate:mnist"])
    assert given[0] == "--config=evaluate:mnist"
    with pytest.raises(SystemExit):
        arguments.with_folder(["zoo:advgan/digit"])
    assert "Did you mean 'advgan/digits'?" in capsys.readouterr().err


def test_a_target_model_is_no_generator(capsys):
    with pytest.raises(SystemExit):
        arguments.with_folder(["zoo:target/digits"])
    assert "target/digits is a target model" in capsys.readouterr().err


def test_a_folder_may_have_the_name_of_an_entry(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "advgan" / "digits").mkdir(parents=True)
    (tmp_path / "advgan" / "digits" / "config.json").write_text("{}")
    found = arguments.with_folder(["advgan/digits"])
    flags = ["--config=evaluate:advgan/digits", "--config.generator_dir=advgan/digits"]
    assert [flag.split("/configs/")[-1] for flag in found] == flags


def test_a_target_model_of_the_zoo_is_attacked_by_name(digits):
    name = "zoo:target/digits"
    assert imported.is_imported(name)
    model = imported.load(name, None, 10)
    imported.check_model(model, name, digits.test.images[:4] / np.float32(255), 10)
    imported.check_gradients(model, name, (8, 8, 1), "pgd")
    assert imported.identify(name) == {"weights": zoo.card("target/digits")["digest"]}
    with pytest.raises(ValueError, match="A model of the zoo contains its weights"):
        imported.identify(name, "weights.npz")


def test_the_page_has_the_figures_of_all_cards(repository):
    rows = []
    for name in ENTRIES:
        card = zoo.card(name)
        measured = f"{card['dataset']}, `{card['target']}`" if card["target"] else ""
        (figure,) = card["figures"]
        value, low, high = (f"{100 * figure[k]:.1f}" for k in ("value", "low", "high"))
        number = f"{figure['figure']} {value} % [{low}, {high}] of {figure['of']:,}"
        rows.append(f"| `{name}` | {measured or card['dataset']} | {number} |")
    page = (repository / "docs" / "zoo.md").read_text(encoding="utf8")
    assert [line for line in page.splitlines() if line.startswith("| `")] == rows

"""Tables of results as JSON files, and the page that is rendered from them."""

import dataclasses
import json
import re

import numpy as np
import pytest

from advgan_jax.reporting import published

TABLE = published.PublishedTable(
    title="AdvGAN, MNIST",
    command="python experiments/train.py --config=configs/advgan.py:mnist",
    seed=0,
    machine="one core",
    versions={"jax": "0.10.2", "flax": None},
    date="2026-11-25",
    source=None,
    note="Model A.",
    rows=(
        {
            "model": "a|b",
            "success": 0.9945,
            "success (low)": 0.9928,
            "success (high)": 1.0,
            "success (paper)": 0.979,
            "mean L2": 5.0,
        },
        {"model": "c", "success": 0.99996, "queries": 20000, "mean L2": 1 / 3},
    ),
    percent=("success",),
)


def test_a_table_survives_its_file(tmp_path):
    path = tmp_path / "deep" / "advgan.json"
    published.write_table(path, TABLE)
    assert published.render_markdown(published.read_table(path)) == (
        published.render_markdown(TABLE)
    )


def test_arrays_and_nan_are_written_as_json(tmp_path):
    rows = [{"x": np.float32(0.5), "y": float("nan"), "z": np.int64(3)}]
    path = tmp_path / "x.json"
    published.write_table(path, dataclasses.replace(TABLE, rows=rows, percent=()))
    assert published.read_table(path).rows == [{"x": 0.5, "y": None, "z": 3}]


def test_markdown_shows_intervals_and_the_papers_numbers():
    assert published.render_markdown(TABLE).splitlines() == [
        "## AdvGAN, MNIST",
        "| model | success | mean L2 | queries |",
        "| --- | --- | --- | --- |",
        r"| a\|b | 99.45 % [99.28, 100.00] (97.9) | 5.0 | - |",
        "| c | 99.996 % | 0.3333 | 20,000 |",
        "",
        "`python experiments/train.py --config=configs/advgan.py:mnist`<br>"
        "Seed 0; one core; jax 0.10.2; 2026-11-25. Model A.",
    ]


def test_what_was_not_recorded_is_said_to_be_so():
    table = dataclasses.replace(TABLE, machine=None, date=None, seed=None, versions={})
    assert "Machine not recorded; date not recorded." in (
        published.render_markdown(table)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": None}, "`title` must be str, got None"),
        ({"seed": "0"}, "`seed` must be int, got '0'"),
        ({"rows": []}, "`rows` must be a list of at least one row"),
        ({"rows": ["a"]}, "each row must be an object"),
        ({"rows": [{"a": [1]}]}, r"cell `a` must be a number, text or null, got \[1\]"),
        ({"rows": [{"a (paper)": 1}]}, r"`a \(paper\)` has no column `a`"),
        ({"percent": ["b"]}, "`percent` names no column `b`"),
        ({"extra": 1}, "`extra` is unknown.*Known fields"),
    ],
)
def test_a_wrong_file_is_rejected_by_name(tmp_path, change, message):
    path = tmp_path / "wrong.json"
    fields = {**dataclasses.asdict(TABLE), **change}
    path.write_text(json.dumps(fields), encoding="utf8")
    with pytest.raises(ValueError, match=rf"wrong\.json: .*{message}"):
        published.read_table(path)


def test_a_missing_field_is_named(tmp_path):
    path = tmp_path / "wrong.json"
    path.write_text('{"title": "x"}', encoding="utf8")
    with pytest.raises(ValueError, match=r"`command` is missing.*`rows` is missing"):
        published.read_table(path)


def test_a_file_that_is_not_json_is_rejected(tmp_path):
    path = tmp_path / "wrong.json"
    path.write_text("{", encoding="utf8")
    with pytest.raises(
        ValueError, match=r"wrong\.json must be a JSON object, but cannot"
    ):
        published.read_table(path)


def test_a_page_needs_a_table(tmp_path):
    with pytest.raises(ValueError, match="at least one table"):
        published.render_page(tmp_path)


def test_results_page_is_what_its_command_renders(repository):
    page = (repository / "RESULTS.md").read_text(encoding="utf8")
    assert page == published.render_page(repository / "results"), (
        "run `python experiments/render_results.py`"
    )
    assert len(page.splitlines()) <= 250


def test_commands_of_results_name_real_files(repository):
    tables = map(published.read_table, (repository / "results").glob("*.json"))
    named = {
        name
        for table in tables
        for name in re.findall(r"(?:configs|experiments)/\w+\.py", table.command)
    }
    assert len(named) >= 6
    assert [name for name in sorted(named) if not (repository / name).exists()] == []

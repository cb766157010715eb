"""The comparison of attacks by queries: rows, table, figure, resumption."""

import csv
import json

import numpy as np
import pytest

from advgan_jax import runs
from advgan_jax.evaluation import count_generator, count_queries
from advgan_jax.runs.methods import query_frontier
from advgan_jax.runs.workdir import WRITTEN

SHORT = {
    "generator.num_residual": 0,
    "distilled.model": "fc10",
    "training.batch_size": 32,
    "training.num_rounds": 2,
    "training.steps_per_round": 6,
    "distilled.steps_per_round": 5,
    "distilled.initial_rounds": 2,
    "queries.clean": 60,
    "queries.perturbed_per_round": 20,
    "queries.batch_size": 16,
    "evaluation.monitor_images": 50,
    "evaluation.num_images": 40,
    "names": ("signhunter", "signhunter_strips", "square", "advgan", "hybrid"),
    "hybrid_search": "signhunter_strips",
    "attacks.signhunter.num_queries": 60,
    "attacks.signhunter_strips.num_queries": 60,
    "attacks.square.num_queries": 60,
    "num_seeds": 2,
    "budgets": (10, 60),
    "most_images": 100,
}


@pytest.mark.slow
def test_rows_table_and_figure(get_config, tmp_path, monkeypatch):
    config = get_config("query_frontier", **SHORT)
    rows = runs.train(config, tmp_path)
    names = [row["attack"] for row in rows]
    wanted = ["signhunter", "signhunter_strips", *["square"] * 2, "advgan", "hybrid"]
    assert names == wanted
    assert {row["wasted"] for row in rows} == {0}
    assert [row["seed"] for row in rows] == [0, 0, 0, 1, 0, 0]
    assert rows[0]["queries_mean"] != rows[1]["queries_mean"]
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == rows
    by_name = {row["attack"]: row for row in rows}
    advgan, hybrid = by_name["advgan"], by_name["hybrid"]
    assert (advgan["queries"], advgan["queries_mean"]) == (80, 0)
    assert advgan["threat_model"] == "black-box-dynamic"
    assert hybrid["attack_success_rate"] >= advgan["attack_success_rate"]
    right = round(hybrid["clean_accuracy"] * 40)
    assert hybrid["queries"] == pytest.approx(80 + right * hybrid["queries_mean"])
    assert by_name["square"]["threat_model"] == "black-box"
    assert 1 <= by_name["square"]["queries_median"] <= 60
    assert {path.name for path in tmp_path.iterdir()} <= {*WRITTEN, "target_models"}
    with (tmp_path / "tables" / "query_frontier.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["attack"] for line in lines] == list(SHORT["names"])
    image = (tmp_path / "figures" / "query_frontier.png").read_bytes()
    assert image.startswith(b"\x89PNG")
    # The report shows adversarial images of each attack.
    assert len(list((tmp_path / "samples").iterdir())) == len(rows)
    assert '"predictions":[' in (tmp_path / "report.html").read_text()

    counted = []

    def counting(*args, **kwargs):
        counted.append(args[1].name)
        return count_queries(*args, **kwargs)

    def generating(*args, **kwargs):
        counted.append(kwargs["restart_after"])
        return count_generator(*args, **kwargs)

    monkeypatch.setattr(query_frontier, "count_queries", counting)
    monkeypatch.setattr(query_frontier, "count_generator", generating)
    changed = {"attacks.square.num_queries": 50, "attacks.hybrid.restart_after": 3}
    config = get_config("query_frontier", **SHORT | changed)
    again = runs.train(config, tmp_path, resume=True)
    assert counted == ["square", "square", 3]
    assert again[:2] == rows[:2]
    assert np.isfinite([row["queries"] for row in again]).all()


def test_wrong_settings(get_config, digits):
    def check(**changes):
        query_frontier.check(get_config("query_frontier", **SHORT | changes), digits)

    with pytest.raises(ValueError, match=r"attack by queries 'pgd'.*Known: advgan"):
        check(names=("pgd",))
    with pytest.raises(ValueError, match="`target_class` must be omitted"):
        check(target_class=3)
    for name in ("square", "hybrid"):
        with pytest.raises(ValueError, match=f"`answers` must be .* '{name}'"):
            check(answers="labels", names=("rays", "advgan", name))
    check(answers="labels", names=("rays", "advgan"))

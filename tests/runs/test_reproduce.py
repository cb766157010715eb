"""The papers' tables: rows as data, resumed row by row, beside what was printed."""

import csv
import datetime
import json

import jax
import pytest
from ml_collections import ConfigDict

from advgan_jax import parallel, runs
from advgan_jax.evaluation import ROW_KEYS
from advgan_jax.reporting.formats import JSON
from advgan_jax.reporting.published import read_table
from advgan_jax.reporting.store import fingerprint
from advgan_jax.runs import measure
from advgan_jax.runs.artifacts import GeneratorArtifacts
from advgan_jax.runs.papers.reproduce import TABLES


@pytest.fixture
def measured(monkeypatch):
    """Numbers without training; records which entries are measured."""
    asked = []

    def fake(artifacts, entry):
        asked.append(entry)
        if len(asked) in stops:
            raise KeyboardInterrupt
        return len(asked) / 100, []

    stops = set()
    monkeypatch.setattr(measure, "measure_entry", fake)
    return asked, stops


@pytest.fixture
def places(tables, digits, tmp_path):
    """What decides each row of a table, as the store sees it."""

    def places(name, **changes):
        run = runs.Run(tables(**changes), tmp_path, digits)
        artifacts = GeneratorArtifacts(run)
        return [
            fingerprint(
                {
                    column: [
                        entry._asdict(),
                        artifacts.depends_on(entry),
                        [artifacts.describe(model) for model in entry.models],
                    ]
                    for column, entry in row.entries.items()
                }
            )
            for row in rows_of(run.config, name)
        ]

    return places


def rows_of(config, name):
    (table,) = TABLES[name](config)
    return table.rows


def entries_of(rows):
    return [entry for row in rows for entry in row.entries.values()]


def table(workdir, name):
    with (workdir / "tables" / f"{name}.csv").open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


def test_killed_run_never_repeats_a_finished_row(tables, measured, tmp_path):
    asked, stops = measured
    config = tables(table="3")
    whole = entries_of(rows_of(config, "3"))
    stops.add(len(whole) // 3 + 2)  # in the second of three rows
    with pytest.raises(KeyboardInterrupt):
        runs.train(config, tmp_path)
    assert len(table(tmp_path, "table-3")) == 1
    stops.clear()
    runs.train(config, tmp_path, resume=True)
    # Only the entries of the interrupted row are measured again.
    assert asked == [*whole[: len(whole) // 3 + 2], *whole[len(whole) // 3 :]]
    numbers = [row["FGSM"] for row in table(tmp_path, "table-3")]
    assert numbers[0] == "0.03"
    assert len(numbers) == 3


def test_one_folder_serves_all_tables_but_no_other_numbers(tables, measured, tmp_path):
    asked, _ = measured
    runs.train(tables(table="2"), tmp_path)
    once = len(asked)
    runs.train(tables(table="2"), tmp_path, resume=True)
    assert len(asked) == once
    runs.train(tables(table="challenge"), tmp_path, resume=True)
    assert {path.stem for path in (tmp_path / "tables").glob("*.md")} == {
        "table-2",
        "table-challenge",
    }
    # Another number of images is another measurement of the same run.
    runs.train(
        tables(table="2", **{"evaluation.num_images": 50}), tmp_path, resume=True
    )
    assert len(asked) > once + len(rows_of(tables(), "challenge"))


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("1", "speed_model", "small"),
        ("2", "models", ("small", "fc100_100_10")),
        ("3", "models", ("small",)),
        ("4", "blackbox_model", "small"),
        ("4", "transfer_model", "small"),
        ("challenge", "challenge_model", "small"),
        ("challenge", "num_surrogates", 1),  # in no row's title
        ("aigan", "aigan_models", ("small", "fc100_100_10")),
    ],
)
def test_other_models_add_rows_and_measure_no_other_again(
    tables, places, name, setting, value
):
    before, after = places(name), places(name, **{setting: value})
    known = [row.entries for row in rows_of(tables(), name)]
    rows = rows_of(tables(**{setting: value}), name)
    new = [row.entries not in known for row in rows]
    assert any(new)
    assert [place not in before for place in after] == new


@pytest.mark.parametrize(
    ("name", "setting", "value", "again"),
    [
        ("2", "advgan.loss.gan_weight", 0.5, True),
        ("2", "blackbox.distilled.steps_per_round", 11, True),
        ("2", "blackbox.queries.batch_size", 7, False),  # how fast is asked
        ("2", "aigan.stage_two.num_epochs", 7, False),
        ("2", "attacks.opt.num_steps", 7, False),
        ("3", "attacks.opt.num_steps", 7, True),
        ("3", "num_timed", 7, False),
        ("1", "num_timed", 7, True),
        ("1", "evaluation.num_images", 7, False),
        ("challenge", "evaluation.num_images", 7, False),  # takes all of them
        ("challenge", "evaluation.batch_size", 7, True),  # each batch has its own draws
        ("aigan", "generators.evaluation.num_images", 7, True),
        ("aigan", "aigan.stage_two.num_epochs", 7, True),
        ("2", "trainings", ConfigDict({"small": {"num_epochs": 3}}), False),
        ("2", "trainings", ConfigDict({"fc100_100_10": {"num_epochs": 3}}), True),
        ("2", "seed", 1, True),
    ],
)
def test_a_setting_measures_again_what_it_decides_and_no_more(
    places, name, setting, value, again
):
    before, after = places(name), places(name, **{setting: value})
    assert (set(after) != set(before)) == again


@pytest.mark.parametrize(
    ("setting", "again"),
    [
        ("adv.attack.epsilon", [True, False, False]),  # of one row of table 3
        ("trades.divergence_weight", [False] * 3),  # of no model of these tables
    ],
)
def test_another_defence_is_measured_again(places, setting, again):
    change = {f"advgan.target_training.defences.{setting}": 0.125}
    assert places("2", **change) == places("2")
    changed = zip(places("3"), places("3", **change), strict=True)
    assert [before != after for before, after in changed] == again


def test_processes_agree_on_what_is_there(tables, measured, tmp_path, monkeypatch):
    """One that sees a file late must not go on alone."""
    asked, _ = measured
    runs.train(tables(table="2"), tmp_path)
    once = list(asked)
    monkeypatch.setattr(parallel, "agreed", lambda found: False)
    runs.train(tables(table="2"), tmp_path)
    assert asked == once * 2


def test_rows_say_how_their_models_were_trained(tables, measured, tmp_path):
    own = {"iterative": {"training": {"num_epochs": 7}}}
    own = ConfigDict({"fc100_100_10": {"learning_rate": 0.02, "defences": own}})
    runs.train(tables(table="3", trainings=own), tmp_path)
    (path,) = (tmp_path / "rows").glob("*Iter*.json")
    row = JSON.load(path)
    assert set(row["models"]) == {"fc100_100_10", "fc100_100_10-iterative"}
    made = row["made"]
    assert made["versions"]["jax"]
    assert made["device"].startswith(jax.default_backend())
    assert datetime.date.fromisoformat(made["date"])
    # Settings that differ from those of the whole table decide the row.
    before = sorted((tmp_path / "rows").glob("*.json"))
    own = {"iterative": {"training": {"num_epochs": 8}}}
    own = ConfigDict({"fc100_100_10": {"learning_rate": 0.02, "defences": own}})
    runs.train(tables(table="3", trainings=own), tmp_path, resume=True)
    assert len(list((tmp_path / "rows").glob("*.json"))) == len(before) + 1


def test_paper_stands_beside_ours_where_the_data_are_its_own(
    tables, measured, tmp_path, mnist, monkeypatch
):
    monkeypatch.setattr(runs, "load_dataset", lambda *_, **__: mnist)
    config = tables(dataset="mnist", table="challenge", challenge_model="madry")
    runs.train(config, tmp_path)
    first = table(tmp_path, "table-challenge")[0]
    assert first["accuracy (paper)"] == "0.988"
    text = (tmp_path / "tables" / "table-challenge.md").read_text(encoding="utf8")
    assert "0.01 (0.988)" in text


def test_tables_are_published(tables, measured, tmp_path):
    runs.train(tables(table="2"), tmp_path)
    published = read_table(tmp_path / "tables" / "table-2.json")
    (row,) = published.rows
    assert row["accuracy"] == 0.01
    assert (published.title, published.seed) == ("Table 2", 0)
    assert published.percent == list(row)[1:]  # all columns but the model's name
    assert published.versions["jax"]
    assert published.date == datetime.date.today().isoformat()
    assert published.command.startswith("python ")


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        (
            "evaluation.batch_size",
            0,
            "`evaluation.batch_size` must be an integer >= 1",
        ),
        (
            "attacks.pgd.num_restarts",
            0,
            "`attacks.pgd.num_restarts` must be an integer >= 1",
        ),
        (
            "attacks.opt.learning_rate",
            0.0,
            r"`attacks\.opt\.learning_rate` must be a finite number in \(0",
        ),
        ("models", (), "`models` must be one or more different values"),
        ("aigan_models", (), "`aigan_models` must be one or more different values"),
    ],
)
def test_what_would_fail_after_hours_is_refused(
    tables, tmp_path, setting, value, message
):
    with pytest.raises(ValueError, match=message):
        runs.train(tables(table="3", **{setting: value}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unknown_table_is_refused(tables, tmp_path):
    with pytest.raises(ValueError, match=r"Unknown table '5'.*challenge"):
        runs.train(tables(table="5"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_results_are_those_of_all_tables_of_the_folder(tables, monkeypatch, tmp_path):
    """As often as they stand behind a number, each once."""

    def fake(artifacts, entry):
        images = len(artifacts.images("test").labels)
        row = dict.fromkeys(ROW_KEYS) | {"attack": entry.attack, "num_images": images}
        return 0.5, [row]

    def attacks(rows):
        return sorted(str(row["attack"]) for row in rows)

    monkeypatch.setattr(measure, "measure_entry", fake)
    assert attacks(runs.train(tables(table="aigan"), tmp_path)) == [
        "advgan",
        "aigan",
    ]
    both = runs.train(tables(table="2"), tmp_path, resume=True)
    assert attacks(both) == ["None", "advgan", "aigan", "dynamic", "static"]
    text = (tmp_path / "results.json").read_text(encoding="utf8")
    assert json.loads(text)["rows"] == both
    # Of another number of images there is one table so far; `aigan` has its own number.
    runs.train(tables(table="4"), tmp_path, resume=True)
    other = tables(table="2", **{"evaluation.num_images": 50})
    found = runs.train(other, tmp_path, resume=True)
    kept = {(row["attack"], row["num_images"]) for row in found}
    measured = {(name, 50) for name in (None, "advgan", "dynamic", "static")}
    assert kept == measured | {("advgan", 100), ("aigan", 100)}


def test_rows_on_disk_are_whole(tables, measured, tmp_path):
    runs.train(tables(table="aigan"), tmp_path)
    (path,) = (tmp_path / "rows").glob("*.json")
    row = JSON.load(path)
    assert list(row["values"].values()) == [0.01, 0.02, 0.03]

"""Reports: what they contain, that text stays text, and what cannot be reported."""

import dataclasses
import html.parser
import json
import logging
import re
import sys

import numpy as np
import pytest

from advgan_jax.checkpointing import Checkpoints
from advgan_jax.cli import report
from advgan_jax.reporting import SHOWN, kept_row
from advgan_jax.reporting.page import finish_run, write_report
from advgan_jax.reporting.page.contents import read_contents, warnings
from advgan_jax.reporting.page.markup import Html, tag
from advgan_jax.reporting.page.pictures import COLUMNS, make_sheets
from advgan_jax.reporting.samples import read_sample

LIMIT = 1_500_000  # bytes of a page


class Elements(html.parser.HTMLParser):
    """Counts elements, and collects text, as a browser reads them."""

    def __init__(self, page):
        super().__init__()
        self.count, self.text, self.urls = {}, [], []
        self.feed(page)

    def handle_starttag(self, name, attributes):
        self.count[name] = self.count.get(name, 0) + 1
        self.urls += [v for k, v in attributes if k in ("src", "href", "srcset")]

    def handle_data(self, data):
        self.text.append(data)


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_a_page_is_whole_small_and_alone(made_run, make_evaluation):
    counted = int(make_evaluation()[1].counted().sum())
    path = write_report([made_run])
    assert path == made_run / "report.html"
    page = path.read_text()
    assert len(page.encode()) < LIMIT
    elements = Elements(page)
    # All that could load something is part of the page.
    assert all(url.startswith("data:") for url in elements.urls)
    assert "http" not in page.replace("http-equiv", "").replace(
        "http://www.w3.org/2000/svg", ""
    )
    text = " ".join(elements.text)
    assert f"of {counted} correct" in text
    assert "Success was not measured after rounding to 8 bits" in text
    assert "training.num_epochs" in text
    data = data_of(page)
    assert [chart["title"] for chart in data["charts"][0]] == ["loss", "success rate"]
    (loss, _) = data["charts"][0]
    assert loss["series"][0]["points"][3] == [4, 0.25]
    first = data["samples"][0]
    assert len(first["images"]["labels"]) == 60
    assert sum(first["by_class"][1]) == counted
    assert np.sum(first["confusion"]) == counted


def test_text_is_never_markup(made_run, evil):
    line = json.dumps({"step": 1, evil: 0.5})
    (made_run / "metrics.jsonl").write_text(f"{line}\n")
    page = write_report([made_run]).read_text()
    elements = Elements(page)
    assert elements.count["script"] == 2  # the data and the program
    assert "img" not in elements.count
    assert evil in " ".join(elements.text)
    assert (
        tag("p", '<b>"', title='"><i>')
        == '<p title="&quot;&gt;&lt;i&gt;">&lt;b&gt;&quot;</p>'
    )
    assert tag("p", Html("<b>")) == "<p><b></p>"


def test_pictures_are_the_images(made_run, make_evaluation):
    dataset, evaluation = make_evaluation()
    sample = read_sample(made_run, read_contents(made_run).rows[0])
    np.testing.assert_array_equal(sample["clean"], dataset.test.images[:60])
    change = sample["scale"] * (sample["perturbation"].astype(float) - 128) / 127
    found = sample["clean"] / 255 + change
    np.testing.assert_allclose(found, evaluation.examples, atol=0.3 / 127)
    np.testing.assert_allclose(
        sample["adversarial"] / 255, evaluation.examples, atol=0.002
    )
    np.testing.assert_array_equal(sample["margin"], evaluation.margin[:60])
    counted, success = evaluation.counted(), evaluation.succeeded
    for number in range(10):
        mine = counted & (evaluation.labels == number)
        expected = [(mine & success).sum(), mine.sum()]
        np.testing.assert_array_equal(sample["by_class"][:, number], expected)


def test_targeted_attacks_have_pairs(make_run, tmp_path):
    folder = make_run(tmp_path / "run", targeted=True)
    page = write_report([folder]).read_text()
    (first, _) = data_of(page)["samples"]
    assert f"of {sum(first['by_class'][1])} correct, not target" in page
    assert np.sum(first["pairs"][1]) == sum(first["by_class"][1])
    assert np.trace(first["pairs"][1]) == 0


def test_large_images_and_many_rows_stay_within_the_limit(make_evaluation, tmp_path):
    dataset, evaluation = make_evaluation(count=SHOWN, size=100)
    fields = {"experiment": "a", "dataset": "b", "target_model": "c"}
    fields |= {"threat_model": "white-box", "epsilon": 0.3, "norm": "linf", "seed": 0}
    row = kept_row(tmp_path, dataset, evaluation, attack="pgd", **fields)
    sample = read_sample(tmp_path, row)
    assert sample["clean"].shape == (SHOWN, 64, 64, 1)
    many = [
        {**sample, "adversarial": np.roll(sample["adversarial"], i)} for i in range(9)
    ]
    shown, sheets = make_sheets(many)
    assert sum(map(len, sheets.values())) <= 900_000
    assert len(sheets) == 11  # the clean images and the perturbations are shared
    assert {len(one["labels"]) for one in shown} == {len(shown[0]["labels"])}
    assert 1 <= len(shown[0]["labels"]) < SHOWN
    assert shown[0]["grid"][0] == COLUMNS


def test_warnings_name_what_a_reader_must_know(make_run, tmp_path):
    changes = {"gradient_zero": 0.2, "unchanged": 0.1, "rounded_success_rate": 0.2}
    found = warnings(read_contents(make_run(tmp_path / "run", **changes)))
    assert len(found) == 3
    assert "zero on 20.0%" in found[0]
    assert "unchanged" in found[1]
    assert "to 20.0%" in found[2]


def test_runs_are_compared(make_run, tmp_path):
    folders = [make_run(tmp_path / part / "run", title=part) for part in ("a", "b")]
    path = write_report(folders)
    assert path == folders[0] / "comparison.html"
    page = path.read_text()
    assert len(page.encode()) < LIMIT
    text = " ".join(Elements(page).text)
    assert "Comparison of 2 runs" in text
    assert "run (2)" in text  # two folders of one name
    data = data_of(page)
    assert [len(chart["series"]) for chart in data["charts"][0]] == [2, 2]
    assert len(data["samples"]) == 4
    own = tmp_path / "elsewhere" / "page.html"
    assert write_report(folders, own) == own
    assert own.exists()


def _leave_a_target_model(run):
    (run / "config.json").unlink()
    with Checkpoints(run / "checkpoints") as checkpoints:
        checkpoints.save(1, {"weights": np.ones(1)}, {"kind": "classifier"})


def _cut(path):
    path.write_text(path.read_text()[:-9])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "results.json").unlink(), "has not finished: .* --resume"),
        (lambda run: (run / "config.json").unlink(), "is not the workdir of a run"),
        (_leave_a_target_model, "is not the workdir of a run.* of a generator"),
        (lambda run: _cut(run / "results.json"), "results of a run, but cannot be"),
        (lambda run: (run / "results.json").write_text("{}"), "but lacks config"),
        (lambda run: (run / "metrics.jsonl").write_text("1\n"), "line 1 is '1"),
    ],
)
def test_a_stopped_or_damaged_run_is_one_clear_line(made_run, spoil, message, capsys):
    spoil(made_run)
    with pytest.raises(SystemExit) as ended:
        report.run([str(made_run)])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert not (made_run / "report.html").exists()


def test_a_wrong_folder_is_an_error_before_the_large_imports(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "advgan_jax.reporting.page", None)
    (tmp_path / "file").touch()
    for name in ("missing", "file"):
        with pytest.raises(SystemExit) as ended:
            report.run([str(tmp_path), str(tmp_path / name)])
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search(rf"{name} cannot be read \(.+\).*`workdir=`", line), line


def test_a_report_never_makes_a_finished_run_fail(made_run, caplog):
    rows, config = read_contents(made_run).rows, {"method": "advgan"}
    (made_run / "metrics.jsonl").write_text("1\n")
    with caplog.at_level(logging.WARNING):
        finish_run(made_run, rows, config)
    assert "The run is complete, but report.html is not written" in caplog.text
    assert json.loads((made_run / "results.json").read_text())["config"] == config
    # A damaged sample costs its images only.
    (made_run / "metrics.jsonl").unlink()
    for path in (made_run / "samples").iterdir():
        path.write_bytes(b"no archive")
    finish_run(made_run, rows, config)
    assert data_of((made_run / "report.html").read_text())["samples"] == []


def test_evaluations_without_pictures_have_counts(make_evaluation, tmp_path):
    dataset, evaluation = make_evaluation(kept=0)
    evaluation = dataclasses.replace(evaluation, examples=None, margin=None)
    fields = {"experiment": "a", "dataset": "b", "target_model": "c", "seed": 0}
    fields |= {"threat_model": "white-box", "epsilon": 0.3, "norm": "linf"}
    row = kept_row(tmp_path, dataset, evaluation, attack="pgd", **fields)
    assert set(read_sample(tmp_path, row)) == {"by_class", "confusion"}

"""Reports in Chromium: they load from a file, sort, page and stay within the screen."""

import pytest

from advgan_jax.reporting.page import write_report

pytestmark = pytest.mark.slow

NUMBERS = "[...document.querySelectorAll('#gallery .item')].map(e => e.textContent)"


@pytest.fixture(scope="module")
def report(make_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    runs = [make_run(folder / name, title=name) for name in ("first", "second")]
    return [write_report(runs[:1]), write_report(runs)]


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(("width", "phone"), [(1280, False), (375, True)])
def test_it_loads_without_errors_and_fits(browser, report, number, width, phone):
    sizes = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": phone}
    browser.call("Emulation.setDeviceMetricsOverride", **sizes)
    browser.open(report[number])
    assert browser.run("document.querySelectorAll('.chart svg').length") == 2
    assert browser.run("document.querySelectorAll('.item .tile').length") == 36
    assert browser.run("document.title").startswith(("Report", "Comparison"))
    wide = browser.run("document.documentElement.scrollWidth")
    assert wide <= width
    assert browser.faults == []


def values(browser, column):
    cells = f"r => Number(r.cells[{column}].dataset.value)"
    table = "document.querySelector('table.sortable')"
    return browser.run(f"[...{table}.tBodies[0].rows].map({cells})")


def test_tables_sort(browser, report):
    browser.open(report[1])
    heads = browser.run(
        "[...document.querySelector('table.sortable').querySelectorAll('th')]"
        ".map(h => h.textContent)"
    )
    column = heads.index("attack")
    texts = f"r => r.cells[{column}].textContent"
    table = "document.querySelector('table.sortable')"
    names = f"[...{table}.tBodies[0].rows].map({texts})"
    click = f"{table}.querySelectorAll('th button')[{column}].click()"
    before = browser.run(names)
    browser.run(click)
    assert browser.run(names) == sorted(before)
    browser.run(click)
    assert browser.run(names) == sorted(before, reverse=True)
    assert browser.faults == []


def test_images_page_sort_and_filter(browser, report):
    browser.open(report[0])
    assert (
        browser.run("document.getElementById('count').textContent") == "1\u201312 of 60"
    )
    first = browser.run(NUMBERS)
    browser.run("document.getElementById('next').click()")
    assert (
        browser.run("document.getElementById('count').textContent")
        == "13\u201324 of 60"
    )
    assert not set(first) & set(browser.run(NUMBERS))
    choose = (
        "(id, value) => { const e = document.getElementById(id); e.value = value;"
        "e.dispatchEvent(new Event('change')); }"
    )
    for order, sign in (("margin -1", -1), ("margin 1", 1), ("l2 -1", -1)):
        browser.run(f"({choose})('order', '{order}')")
        word = "margin" if "margin" in order else "L2"
        shown = browser.run(
            f"{NUMBERS}.map(t => Number(t.match(/{word} ([-\\d.]+)/)[1]))"
        )
        assert shown == sorted(shown, key=lambda v: sign * v)
    browser.run(f"({choose})('only', 'held')")
    assert browser.run("document.querySelectorAll('.item.fooled').length") == 0
    assert browser.run("document.querySelectorAll('.item.held').length") > 0
    assert browser.faults == []


def read_out(browser, place):
    """What a curve shows under the pointer at a place in its picture, 320 wide."""
    return browser.run(
        "(() => { const s = document.querySelector('.chart svg');"
        "const b = s.getBoundingClientRect();"
        "s.dispatchEvent(new PointerEvent('pointermove', "
        f"{{clientX: b.left + b.width * {place} / 320}}));"
        "return document.querySelector('.chart output').textContent; })()"
    )


def test_curves_show_values_under_the_pointer(browser, report):
    browser.open(report[0])
    assert read_out(browser, 316) == "0.025 at 40"
    assert read_out(browser, 46 + 264 * 38 / 39) == "0.02564 at 39"
    assert browser.faults == []

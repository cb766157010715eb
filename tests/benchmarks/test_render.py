"""The tables of docs/performance.md, which are rendered from committed results."""


def test_the_page_shows_the_committed_results(benchmarks):
    import render

    page = render.PAGE.read_text(encoding="utf8")
    assert render.render(page) == page, "run `python benchmarks/render.py`"
    for name in render.TABLES:
        assert f"<!-- table: {name} -->" in page

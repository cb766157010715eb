"""The built documentation: links lead somewhere, nothing is remote, pages fit.

`sphinx-build -W docs docs/_build` builds it; without that these tests are skipped.
"""

import gzip
import html
import html.parser
import json
import pathlib
import re
import shutil
import subprocess
import urllib.parse

import pytest

SITE = pathlib.Path(__file__).parents[1] / "docs" / "_build"
MAIN = (
    "index",
    "getting-started",
    "attacks",
    "success",
    "gallery",
    "results",
    "tutorials/advgan",
    "tutorials/black-box",
    "api/attacks",
    "source/advgan_jax/attacks/gradient.py",
)
WIDTHS = (390, 1280)
HEAVIEST = 500_000  # bytes of a page with styles, scripts and fonts, as sent (gzip)

pytestmark = pytest.mark.skipif(
    not (SITE / "index.html").exists(), reason="the documentation is not built"
)


class Page(html.parser.HTMLParser):
    """Links, resources and anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.path, self.links, self.loaded, self.anchors = path, [], [], set()
        self.feed(path.read_text(encoding="utf8"))

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.anchors |= {known[k] for k in ("id", "name") if known.get(k)}
        if tag == "a" and known.get("href"):
            self.links.append(known["href"])
        elif tag == "link" and known.get("rel") not in ("canonical", "author"):
            self.loaded.append(known["href"])
        elif known.get("src"):
            self.loaded.append(known["src"])

    def file_of(self, link):
        """The file that a relative link names, and its fragment."""
        parts = urllib.parse.urlsplit(link)
        path = urllib.parse.unquote(parts.path)
        return (self.path.parent / path if path else self.path).resolve(), parts[4]


@pytest.fixture(scope="module")
def pages():
    found = SITE.rglob("*.html")  # those of the theme are templates
    return {p.resolve(): Page(p) for p in found if SITE / "_static" not in p.parents}


def is_remote(link):
    return bool(re.match(r"[a-z]+:|//", link)) and not link.startswith("data:")


def test_no_page_loads_anything_remote(pages):
    remote = {
        (page.path.name, link)
        for page in pages.values()
        for link in page.loaded
        if is_remote(link)
    }
    styles = list(SITE.rglob("*.css"))
    assert styles
    for path in styles:
        text = path.read_text(encoding="utf8")
        for link in re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", text):
            if is_remote(link):
                remote.add((path.name, link))
    assert not remote


def test_links_lead_to_pages_and_places(pages):
    assert len(pages) > 100
    broken = set()
    for page in pages.values():
        for link in (*page.links, *page.loaded):
            if is_remote(link) or link.startswith("data:") or link == "#":
                continue
            path, fragment = page.file_of(link)
            known = pages[path].anchors if path in pages else {fragment}
            if not path.exists() or (fragment and fragment not in known):
                broken.add((page.path.relative_to(SITE).as_posix(), link))
    assert not broken, "\n".join(map(str, sorted(broken)))


def weight(page):
    """Bytes of a page with its styles, scripts and fonts, compressed as servers do."""
    paths = {page.path}
    for link in page.loaded:
        path = page.file_of(link)[0]
        if path.suffix in (".css", ".js"):
            paths.add(path)
    for style in [path for path in paths if path.suffix == ".css"]:
        text = style.read_text(encoding="utf8")
        # Browsers load a font that is used: all icons are of this one.
        for font in re.findall(r"url\([\"']?([^\"')]+fa-solid[^\"')]+\.woff2)", text):
            paths.add((style.parent / font).resolve())
    return sum(
        path.stat().st_size
        if path.suffix == ".woff2"
        else len(gzip.compress(path.read_bytes()))
        for path in paths
    )


@pytest.mark.parametrize("name", MAIN)
def test_pages_are_light(pages, name):
    assert weight(pages[(SITE / f"{name}.html").resolve()]) <= HEAVIEST


def test_search_knows_every_page_of_the_reference():
    index = (SITE / "searchindex.js").read_text(encoding="utf8")
    for name in ("make_attack", "train_advgan", "autoattack", "Oracle"):
        assert name in index


def test_pages_fit_the_width_of_a_screen(tmp_path):
    """No page scrolls sideways: wide tables and code scroll by themselves."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("needs the browser chromium")
    frames = [[f"{SITE.as_uri()}/{name}.html", w] for name in MAIN for w in WIDTHS]
    page = tmp_path / "frames.html"
    page.write_text(
        f"""<script>
        const frames = {json.dumps(frames)}, found = [];
        function load(i) {{
          if (i == frames.length) {{ document.title = JSON.stringify(found); return; }}
          const [url, width] = frames[i], frame = document.createElement("iframe");
          frame.width = width; frame.height = 800; frame.src = url;
          frame.onload = () => {{
            const root = frame.contentDocument.documentElement;
            found.push([url, width, root.scrollWidth]);
            frame.remove(); load(i + 1);
          }};
          document.body.append(frame);
        }}
        window.onload = () => load(0);
        </script><body></body>""",
        encoding="utf8",
    )
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update"]
    command += ["--disable-sync", "--allow-file-access-from-files"]
    command += [
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=60000",
    ]
    result = subprocess.run(
        [*command, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    title = re.search(r"<title>(.*?)</title>", result.stdout)
    assert title, result.stderr
    found = json.loads(html.unescape(title[1]))
    assert len(found) == len(frames)
    assert [row for row in found if row[2] > row[1]] == []

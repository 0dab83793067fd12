"""The documentation as a site: it builds strictly, every formula is typeset, and a browser finds its way through it."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import backprop as bp
import pytest
from backprop.losses import LOSSES
from backprop.optimizers import OPTIMIZERS
from backprop.reference.activations import ACTIVATIONS
from browsing import headless, needs_browser, served

ROOT = Path(__file__).parents[1]
FORMULAS = [(name, kind.formula) for table in (ACTIVATIONS, LOSSES) for name, kind in table.items()]

needs_mkdocs = pytest.mark.skipif(
    find_spec("mkdocs") is None or find_spec("mkdocstrings_handlers") is None, reason="needs the extra docs"
)


@pytest.fixture(scope="module")
def tools():
    """The modules of tools/site."""
    sys.path.insert(0, str(ROOT / "tools" / "site"))
    try:
        yield {name: importlib.import_module(name) for name in ("mathml", "reference")}
    finally:
        sys.path.pop(0)


@pytest.mark.parametrize(("name", "formula"), FORMULAS, ids=[name for name, _ in FORMULAS])
def test_formulas_are_typeset(tools, name, formula):
    tree = ElementTree.fromstring(tools["mathml"].formula(formula).replace("&nbsp;", " "))
    shown = "".join(tree.itertext())
    for number in re.findall(r"\d+\.\d+", formula):
        assert number in shown


def test_a_formula_is_read_as_python_reads_it(tools):
    shown = tools["mathml"].formula("a / (b * c)**2 - -d")
    assert "".join(ElementTree.fromstring(shown).itertext()) == "a(b⋅c)2−(−d)"
    with pytest.raises(SyntaxError):
        tools["mathml"].formula("then as Adam")


def test_steps_of_optimizers_are_typeset(tools):
    for optimizer in OPTIMIZERS.values():
        steps = re.search(r"::\n\n((?:    .*\n|\n)+)", inspect.getdoc(optimizer))[1].split("\n")
        assert "<math" in tools["mathml"].block(line for line in steps if line.strip())


def test_every_public_name_is_in_the_reference(tools):
    pages = tools["reference"].pages()
    entries = "\n".join(pages.values())
    for name in bp.__all__:
        value = getattr(bp, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert entries.count(f"\n::: {value.__module__}.{value.__qualname__}\n") == 1, name
        elif inspect.ismodule(value):
            assert f"reference/{value.__name__}.md" in pages


def test_every_public_module_has_its_page(tools):
    """A module beside the public ones that lists its names in `__all__` is public."""
    public = {
        f"backprop.{path.stem}"
        for path in Path(bp.__file__).parent.glob("[a-z]*.py")
        if "\n__all__" in path.read_text()
    }
    assert public - {"backprop.__init__", "backprop.mlp", "backprop.network", "backprop.fleet"} <= set(
        tools["reference"].MODULES
    )


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").glob("**/*.md"):
        assert f" {page.relative_to(ROOT / 'docs')}\n" in nav, page


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    package = Path(bp.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(package), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@needs_mkdocs
def test_it_loads_nothing_from_elsewhere(site):
    for page in site.glob("**/*.html"):
        text = page.read_text()
        loaded = re.findall(r"<(?:script|img|iframe)[^>]* src=\"?([^\" >]+)", text)
        loaded += re.findall(r"<link[^>]*rel=\"?(?:stylesheet|icon|preload|preconnect)[^>]*", text)
        assert not [target for target in loaded if "//" in target], page


@pytest.fixture(scope="module")
def address(site):
    """Where the site is served."""
    with served(site) as where:
        yield where


@pytest.fixture
def browser(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with headless(tmp_path) as driver:
        yield driver


def wrong(browser, address):
    """What the page logged, and what it loaded from another server."""
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    return browser.get_log("browser") + [name for name in loaded if not name.startswith((address, "blob:", "data:"))]


def click(browser, kind, target):
    """Click the link of this kind that leads there; what is out of sight is scrolled to first."""
    found = [link for link in browser.find_elements("css selector", kind) if link.get_attribute("href") == target]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", found[0])
    found[0].click()


@needs_mkdocs
@needs_browser
def test_a_click_on_every_entry_of_the_navigation(browser, address):
    browser.get(address + "index.html")
    tabs = [tab.get_attribute("href") for tab in browser.find_elements("css selector", ".md-tabs__link")]
    assert len(tabs) >= 7
    seen = set()
    for tab in tabs:
        click(browser, ".md-tabs__link", tab)
        entries = browser.find_elements("css selector", ".md-sidebar--primary a.md-nav__link")
        targets = {entry.get_attribute("href").partition("#")[0] for entry in entries if entry.is_displayed()}
        for target in [tab, *sorted(targets - {tab})]:
            if target != tab:
                click(browser, ".md-sidebar--primary a.md-nav__link", target)
            assert browser.current_url.partition("#")[0] == target
            assert browser.find_element("tag name", "h1").text
            assert wrong(browser, address) == [], target
            seen.add(target)
    assert len(seen) >= 30


@needs_mkdocs
@needs_browser
def test_search_finds_a_class(browser, address):
    browser.get(address + "index.html")
    browser.find_element("css selector", "[data-md-component=search-query]").send_keys("Huber")
    results = browser.find_elements("css selector", ".md-search-result__link")
    assert any("backprop.losses.html" in result.get_attribute("href") for result in results)


@needs_mkdocs
@needs_browser
def test_light_dark_and_a_phone(browser, address):
    browser.get(address + "index.html")

    def background():
        return browser.execute_script("return getComputedStyle(document.body).backgroundColor")

    light = background()
    browser.find_element("css selector", "label[title=Dark]").click()
    assert background() != light
    phone = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    for page in ("index", "lessons/xor", "performance", "reference/backprop.optimizers", "reference/backprop.layers"):
        browser.get(f"{address}{page}.html")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390, page

"""report.html is one file that says in words what was learned, and asks the network for nothing."""

import json
import math
import re
import shutil
import time

import numpy as np
import pytest
from report_rows import HISTORY, complete_run, row

from ssl_mi import report
from ssl_mi.evaluation.samples import _drawn_pairs
from ssl_mi.report.charts import charts_of, figure, map_figure
from ssl_mi.report.page import write_page
from ssl_mi.report.sheets import sheet
from ssl_mi.report.summary import ending, learned, sure, wary
from ssl_mi.report.tables import p_text

NAN = math.nan


def samples(n=40, side=8, classes=("cat", "</script><b>dog", "owl"), seed=0):
    """What a run keeps of its samples."""
    rng = np.random.default_rng(seed)
    return {
        "index": np.arange(n) + 100,
        "h": rng.standard_normal((n, 5)).astype(np.float32),
        "pca": rng.standard_normal((n, 2)).astype(np.float32),
        "tsne": rng.standard_normal((n, 2)).astype(np.float32),
        "neighbours": (np.arange(n)[:, None] + np.arange(1, 7)) % n,
        "labels": np.arange(n) % len(classes),
        "class_names": np.array(classes),
        "files": np.array([f"folder/<b>{i}.jpg" for i in range(n)]),
        "thumbnails": rng.integers(0, 255, (n, side, side, 3), dtype=np.uint8),
        "confusion": np.array([[8, 2, 0], [1, 9, 0], [0, 5, 5]]),
        "spectrum_h": np.array([4.0, 2.0, 1.0]),
        "spectrum_z": np.array([3.0, 1.0]),
        "pointwise": rng.standard_normal(n),
        "paired": np.arange(8),
        "views": rng.integers(0, 255, (8, 2, side, side, 3), dtype=np.uint8),
    }


def document(rows=None, **facts):
    kept = {"title": "run <1>", "ended": "complete", "seconds": 12.0, "history": HISTORY, "config": "a: 1 < 2\n"}
    return {**kept, "rows": complete_run() if rows is None else rows, **facts}


def page(tmp_path, arrays=None, **facts):
    path = write_page(tmp_path / "report.html", document(**facts), samples() if arrays is None else arrays)
    return path.read_text(encoding="utf-8")


def test_the_page_is_one_small_file_without_any_address_outside_of_it(tmp_path):
    text = page(tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 10e6
    without_library = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert re.findall(r"""(?:src|href)=["']?(?!data:|#)([^"'> ]+)""", without_library) == []
    assert "default-src 'none'" in text
    assert "@import" not in text


def test_names_of_classes_and_runs_stand_as_they_are(tmp_path):
    text = page(tmp_path)
    assert "run &lt;1&gt;" in text
    assert "a: 1 &lt; 2" in text
    assert "<b>dog" not in text
    data = json.loads(re.search(r'id="page-data">(.*?)</script>', text, re.DOTALL)[1])
    assert data["classes"][1] == "</script><b>dog"


def test_every_section_is_there_with_its_samples_and_absent_without(tmp_path):
    keys = re.findall(r'<section id="([\w-]+)"', page(tmp_path))
    assert keys == [
        *("summary", "information", "bound", "probes", "loss", "spectrum", "map", "neighbours", "pairs", "confusion"),
        *("table", "run", "configuration"),
    ]
    keys = re.findall(r'<section id="([\w-]+)"', page(tmp_path, arrays={}))
    assert not {"spectrum", "map", "neighbours", "pairs", "confusion"} & set(keys)


def test_without_plotly_the_page_has_the_numbers_as_tables(tmp_path, monkeypatch):
    monkeypatch.setattr("ssl_mi.report.page._plotly", lambda: "")
    text = page(tmp_path)
    assert len(text) < 1e6
    assert "pip install plotly" in text
    table = re.search(r'<section id="information".*?</section>', text, re.DOTALL)[0]
    assert "<td>1.000</td>" not in table  # numbers of 4 digits
    assert re.search(r"<td>10</td><td>1</td><td>0.900 .. 1.100</td>", table)


def test_every_figure_is_one_that_plotly_accepts():
    graph = pytest.importorskip("plotly.graph_objects")
    arrays = samples()
    figures = [figure(chart) for chart in charts_of(document(), arrays)]
    for found in [*figures, map_figure(arrays, "tsne")]:
        graph.Figure(found)  # raises on a property that there is not
    assert len(figures) == 5


def test_a_sheet_holds_each_picture_in_its_place():
    import io

    from PIL import Image

    pictures = np.random.default_rng(0).integers(0, 255, (7, 4, 4, 3), dtype=np.uint8)
    found = sheet(pictures)
    image = np.asarray(Image.open(io.BytesIO(found.image)))
    for i, picture in enumerate(pictures):
        top, left = i // found.columns * 4, i % found.columns * 4
        np.testing.assert_array_equal(image[top : top + 4, left : left + 4], picture)


# The sentences


def test_the_sentences_say_what_was_learned_with_intervals_and_baselines():
    since = {"since_first": 0.98, "since_first_low": 0.93, "since_first_high": 1.02}
    rows = [
        row(4, "test", "trained", "mi_ksg_cca4_nats", 1.49, "I by KSG on cca4", low=1.4, high=1.6, n=9, **since),
        row(4, "test", "trained", "linear_probe_accuracy", 0.86, "linear-probe accuracy", "probes", low=0.8, high=0.9),
        row(4, "test", "random", "linear_probe_accuracy", 0.55, "linear-probe accuracy", "probes", low=0.5, high=0.6),
    ]
    rows[0]["headline"] = "ksg_nats"
    said = " ".join(learned(rows))
    assert "shares 1.49 nats between views (1.40 to 1.60), 0.98 more than untrained (+0.93 to +1.02)" in said
    assert "linear probe on h has 86% (80% to 90%); untrained 55%" in said
    assert wary(document(rows)) == []


def test_a_probe_no_better_than_the_untrained_encoder_is_something_to_be_wary_of():
    rows = [
        row(4, "test", "trained", "knn_accuracy", 0.5, "kNN accuracy", "probes", low=0.4, high=0.6),
        row(4, "test", "random", "knn_accuracy", 0.48, "kNN accuracy", "probes", low=0.38, high=0.58),
    ]
    assert any("not clearly above that of the untrained encoder" in text for text in wary(document(rows)))


# How a run ended


@pytest.mark.parametrize(
    "facts",
    [
        {"history": [{"epoch": 1, "train/loss": None}]},
        {"history": [{"epoch": 1, "train/loss": 2.0}, {"epoch": 2, "train/loss": 3e7}]},
        {"history": [{"epoch": e, "train/loss": loss} for e, loss in enumerate((4.0, 5.0, 6.0, 900.0))]},
        {"scale": {"h": 1.0, "z": 3e9}},
        {"rows": [row(1, "val", "trained", "mi_bound_mine_nats", 4e4)]},
        {"cautions": [{"code": "absurd-loss", "message": "the loss is 1e5, where 2 is usual"}]},
        {"ended": "diverged: NotFinite: the loss is NaN"},
    ],
)
def test_a_run_beyond_sense_is_called_diverged(facts):
    assert ending(document(**facts)).state == "diverged"
    assert wary(document(**facts))[0].startswith("THE RUN DIVERGED")


@pytest.mark.parametrize("losses", [(6.2, 5.1, 4.6), (-0.01, -2.5, -4.0), (8000.0, 900.0, 300.0), (0.4, 0.9, 1.9)])
def test_a_run_of_ordinary_losses_is_complete(losses):
    history = [{"epoch": e, "train/loss": loss} for e, loss in enumerate(losses, 1)]
    assert ending(document(history=history)) == ("complete", "")


def test_a_stopped_run_is_stopped():
    assert ending(document(ended="stopped: interrupted")) == ("stopped", "interrupted")


# Again


def test_a_page_is_written_again_from_the_files_of_the_run(tmp_path):
    report.write(tmp_path, "a run", {"ended": "complete", "seconds": 1.0}, HISTORY, complete_run(), "seed: 1\n")
    np.savez(tmp_path / "samples.npz", **samples())
    before = (tmp_path / "report.html").read_text()
    assert 'id="map"' not in before
    report.rebuild(tmp_path)
    after = (tmp_path / "report.html").read_text()
    assert 'id="map"' in after
    assert re.search(r'<section id="table".*?</section>', before, re.DOTALL)[0] in after


def test_samples_that_cannot_be_read_cost_their_sections_only(tmp_path):
    report.write(tmp_path, "a run", {"ended": "complete", "seconds": 1.0}, HISTORY, complete_run(), "seed: 1\n")
    (tmp_path / "samples.npz").write_bytes(b"PK\x03\x04 broken")
    assert 'id="table"' in report.rebuild(tmp_path).page.read_text()


# In a browser


@pytest.fixture
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium and chromedriver here")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


def eventually(check, seconds=30):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_in_a_browser_hover_filter_and_keyboard_work_and_nothing_is_asked_of_the_network(tmp_path, browser):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    page(tmp_path)
    browser.set_window_size(1100, 900)
    browser.get((tmp_path / "report.html").as_uri())
    eventually(lambda: browser.execute_script("return document.querySelectorAll('.js-plotly-plot').length") == 6)
    run = browser.execute_script
    # By keyboard: the first arrow shows a sample, with its picture.
    place = browser.find_element(By.ID, "map-plot")
    run("arguments[0].scrollIntoView(); arguments[0].focus()", place)
    ActionChains(browser).send_keys(Keys.ARROW_RIGHT).perform()
    tip = browser.find_element(By.ID, "tip")
    eventually(tip.is_displayed)
    assert re.match(r"sample 1\d\d, ", tip.text.strip())
    assert re.search(r"folder/<b>\d+\.jpg", tip.text)
    assert "data:image" in run("return getComputedStyle(document.querySelector('#tip .thumb')).backgroundImage")
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    eventually(lambda: len(browser.find_elements(By.CSS_SELECTOR, "#near .thumb")) == 7)
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    eventually(lambda: not tip.is_displayed())
    # By mouse: over a point.
    point = browser.find_elements(By.CSS_SELECTOR, "#map-plot .scatterlayer .point")[0]
    ActionChains(browser).move_to_element(point).perform()
    eventually(tip.is_displayed)
    # A class that is unticked leaves the map.
    points = lambda: len(browser.find_elements(By.CSS_SELECTOR, "#map-plot .scatterlayer .point"))  # noqa: E731
    assert points() == 40
    browser.find_elements(By.CSS_SELECTOR, "input[data-class]")[0].click()
    eventually(lambda: points() == 40 - 14)
    run("const s = document.getElementById('map-kind'); s.value = 'pca'; s.dispatchEvent(new Event('change'))")
    eventually(lambda: points() == 40 - 14)
    # A narrow window has nothing beside it.
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    eventually(lambda: run("return document.documentElement.scrollWidth") <= 360)
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}


def test_of_several_lower_bounds_the_one_chosen_on_validation_is_given_on_test():
    def bound(split, metric, value, quantity):
        return row(8, split, "trained", metric, value, quantity, kind="lower bound")

    rows = [
        bound("val", "mi_bound_infonce_nats", 4.9, "I(Z_X; Z_Y), InfoNCE's own bound"),
        bound("val", "mi_ksg_cca4_nats", 3.4, "I(Z_X; Z_Y) by KSG on cca4"),
        bound("test", "mi_bound_infonce_nats", 3.0, "I(Z_X; Z_Y), InfoNCE's own bound"),
        # The largest on the test split, by luck: it was not chosen.
        bound("test", "mi_ksg_cca4_nats", 3.5, "I(Z_X; Z_Y) by KSG on cca4"),
    ]
    said = " ".join(learned(rows))
    assert "Of 2 lower bounds of I(Z_X; Z_Y), InfoNCE's own bound was the largest on the validation split (4.90" in said
    assert "on the test split it is 3.00 nats" in said
    assert "lower bounds" not in " ".join(learned(rows[1:]))


def test_a_p_value_at_its_floor_names_the_permutations():
    rows = [row(1, "test", "trained", "mi_z_nats", 1.0, p_value=0.05, permutations=19)]
    assert p_text(rows[0]) == "<= 0.05, the least that 19 permutations can show"
    assert p_text(row(1, "test", "trained", "mi_z_nats", 1.0, p_value=0.1, permutations=19)) == "0.100"
    told = " ".join(sure({"rows": rows}))
    assert "1 of 1 estimates differ from re-paired views at p <= 0.05, the least that 19 permutations can show" in told


def test_a_pair_of_a_picture_and_a_sentence_shows_both(tmp_path):
    arrays = samples()
    both = [[arrays["thumbnails"][:20], [f"text {i} <b>" for i in range(20)]]]
    both += [[arrays["thumbnails"][20:], [f"text {i} <b>" for i in range(20, 40)]]]
    paired = np.array([3, 25, 7, 39])
    drawn = _drawn_pairs(both, paired)
    assert np.array_equal(drawn["views"][:, 0], arrays["thumbnails"][paired])
    assert drawn["view_texts"].tolist() == [f"text {i} <b>" for i in paired]
    text = page(tmp_path, {**arrays, "paired": paired, **drawn})
    assert all(f"text {i} &lt;b&gt;<br>" in text for i in paired)
    assert _drawn_pairs([[["a"], ["b"]]], np.array([0])) == {}  # no picture to show

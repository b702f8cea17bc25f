"""report.html: its figures are those of evaluation.json, and it opens without a network, for every reader."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from markupsafe import Markup

from core.errors import UserError
from core.json_files import read_json, write_json
from models.evaluation.metrics.base import columns_of
from models.evaluation.paired import Basis, paired_difference, verdict
from models.evaluation.results import judged_models, read_results, write_results
from models.protocols.base import PROTOCOLS
from report.calculations.differences import ROUNDS
from report.compared import Beside, Compared, Judged, JudgedModel, beside, published_for
from report.files import RunFiles
from report.page import Drawn, page
from report.style import capitalised, figure
from report.svg import inline_svg
from tests.names import COMPARED, DEFAULT_PROTOCOLS
from tests.report.html_page import Element, Page
from tests.report.made_run import METRICS, MODELS, ORIGIN, made_run

HOSTILE = "<script>alert('1')</script> & \"quotes\""
LOADING = {"src", "srcset", "data", "poster", "action", "formaction", "background"}
CONTRAST = 4.5  # WCAG 2, level AA


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> RunFiles:
    return RunFiles(made_run(tmp_path_factory.mktemp("runs")))


def picture(name: str, section: str, title: str = "A picture", text: str = "What it shows.") -> Drawn:
    made, (axes,) = figure()
    axes.plot([0, 1], [0, 1])
    axes.set_title(title)
    svg = Markup(inline_svg(made, name, title, text))
    return Drawn(name=name, section=section, title=title, text=text, svg=svg, is_wide=False)


def page_of(files: RunFiles, pictures: list[Drawn] | None = None, lacking=(), others: Beside | None = None) -> str:
    shown = pictures if pictures is not None else [picture("one", "data"), picture("two", "comparison")]
    return page(files, shown, lacking, others or Beside(), "Marquee 0")


@pytest.fixture(scope="module")
def content(files) -> str:
    return page_of(files, lacking=[("A cloud", "there are no titles.")])


@pytest.fixture(scope="module")
def whole(content) -> Element:
    return Page(content).root


def table_under(whole: Element, heading: str) -> Element:
    return next(one for one in whole.all("table") if one.attributes["aria-labelledby"] == heading)


# -- figures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", DEFAULT_PROTOCOLS)
def test_every_figure_and_interval_is_that_of_the_evaluation(files, whole, protocol):
    table = table_under(whole, f"table-{protocol}")
    columns = columns_of(PROTOCOLS[protocol].task)
    headings = [one.text for one in table.all("thead")[0].all("th")]
    assert headings == ["Model", *(capitalised(title.replace("\n", ", ")) for title, _ in columns), "Training"]
    found = {}
    for row in table.all("tbody")[0].all("tr"):
        for (_, metric), cell in zip(columns, row.all("td")):
            value = cell.all("data")
            interval = [one.text for one in cell.all("span")]
            found[row.attributes["data-model"], metric] = (value, interval, cell.text)
    judged = {one["model"]: one for one in read_json(files.run.evaluation) if one["protocol"] == protocol}
    assert {model for model, _ in found} == set(MODELS) == set(judged)
    for (model, metric), (value, interval, text) in found.items():
        expected = judged[model]["metrics"].get(metric)
        if expected is None:
            assert text == "\u2013"
            continue
        low, high = judged[model]["ci95"][metric]
        assert [float(one.attributes["value"]) for one in value] == [expected]
        assert [one.text for one in value] == [f"{expected:.3f}"]
        assert interval == [f"{low:.3f} to {high:.3f}"]


def test_the_best_of_a_column_is_marked_whichever_direction_is_better(whole):
    table = table_under(whole, "table-random-split")
    best = [
        (row.attributes["data-model"], place)
        for row in table.all("tr")
        for place, cell in enumerate(row.all("td"))
        if cell.attributes.get("class") == "best"
    ]
    assert best == [("dlrm", 0), ("mf", 1)]  # AUC, log loss


def test_why_a_figure_is_missing_stands_below(files, tmp_path):
    run = made_run(tmp_path)
    first, *others = read_results(run)
    metrics, intervals = ({**kind, "hr@10": None} for kind in (first.metrics, first.ci95))
    lacking = replace(first, metrics=metrics, ci95=intervals, undefined={"hr@10": "no user has <10> movies"})
    write_results(run, [lacking, *others], ORIGIN, judged_models(run))
    whole = Page(page_of(RunFiles(run))).root
    assert "HR@10, sampled: none, as no user has <10> movies." in [one.text for one in whole.all("p")]


# -- the verdict -------------------------------------------------------------------------------------------------------


def card(whole: Element, protocol: str) -> Element:
    return next(one for one in whole.all("article") if one.attributes["data-verdict"] == protocol)


def test_the_verdict_is_computed_from_what_was_kept_and_says_that_it_is_of_one_seed(files, whole):
    ranks = [files.kept("leave-one-out", name, "full")["rank"].to_numpy(np.float64) for name in COMPARED]
    gains = [np.where(rank < 10, 1 / np.log2(rank + 2), 0) for rank in ranks]
    text = card(whole, "leave-one-out").text.replace("\u00a0", " ")
    difference = paired_difference(*gains, seed=42, rounds=ROUNDS)
    basis = Basis(is_only_split=True)
    assert verdict("DLRM", "NCF", "NDCG@10 among all movies", difference, basis=basis) in text
    assert "From one training seed each (42)" in text
    assert files.run.command("compare") in text
    for protocol in DEFAULT_PROTOCOLS:
        found = [float(one.attributes["value"]) for one in card(whole, protocol).all("data")]
        assert found == [files.result(protocol, name).metrics[PROTOCOLS[protocol].deciding] for name in COMPARED]


def judged(protocol: str, verdict: str, seeds: tuple[int, ...] = (1, 2, 3)) -> Judged:
    models = {
        name: JudgedModel(
            metrics=dict.fromkeys(METRICS[protocol], 0.5 + place / 7),
            ci95=dict.fromkeys(METRICS[protocol], (0.4, 0.8)),
            per_seed={metric: [0.5 + place / 7 + seed / 50 for seed in seeds] for metric in METRICS[protocol]},
            train_seconds=3.0,
        )
        for place, name in enumerate(COMPARED)
    }
    return Judged(seeds=list(seeds), models=models, verdict=verdict)


def test_several_seeds_decide_where_compare_has_them(files):
    found = Compared(
        device="CPU, 2 cores",
        protocols={"leave-one-out": judged("leave-one-out", "NCF is better than DLRM.")},
        dropped=["random-split is dropped, as the data have changed since"],
    )
    published = {name: judged(name, "As published.", (7, 8)) for name in DEFAULT_PROTOCOLS}
    whole = Page(page_of(files, others=Beside(compared=found, published=published))).root
    text = card(whole, "leave-one-out").text
    assert "NCF is better than DLRM. From 3 training seeds, 1 to 3:" in text
    assert "As published." not in text
    assert [float(one.attributes["value"]) for one in card(whole, "leave-one-out").all("data")] == [0.5, 0.5 + 1 / 7]
    table = table_under(whole, "seeds-leave-one-out")
    assert [one.text for one in table.all("tr")[1].all("td")[0].all("span")] == ["0.400 to 0.800", "seeds ±0.020"]
    other = card(whole, "random-split").text
    assert "From one training seed each" in other
    assert other.endswith("from other networks: As published.")
    assert any("the data have changed since" in one.text for one in whole.all("p"))


def test_a_file_that_is_not_of_compare_is_refused_in_one_line(tmp_path):
    run = made_run(tmp_path)
    write_json(run.root / "comparison.json", [1])
    with pytest.raises(UserError, match="is not what compare writes"):
        beside(run, None)


def test_what_is_published_is_of_the_same_data_only(tmp_path):
    run = made_run(tmp_path, dataset="ml-100k")
    assert published_for(run) == {}


def test_the_papers_benchmark_is_shown_from_a_file(files, tmp_path):
    rows = [{"model": "ncf", "seed": seed, "hr@10": 0.7 + seed / 100, "ndcg@10": 0.4} for seed in (1, 2, 3)]
    write_json(tmp_path / "paper.json", rows)
    others = beside(files.run, tmp_path / "paper.json")
    table = table_under(Page(page_of(files, others=others)).root, "paper")
    row = next(one for one in table.all("tr") if one.all("th")[0].text == "NCF")
    assert [one.text for one in row.all("data")] == ["0.7200", "0.4000"]
    published = [[cell.text for cell in one.all("td")[1:]] for one in table.all("tr") if "Published" in one.text]
    assert published == [["0.730", "0.447"], ["0.705", "0.426"], ["0.7294", "0.4523"]]  # as they were printed
    assert row.all("span")[0].text == "0.6952 to 0.7448"  # Student's t with 2 degrees of freedom


# -- for every reader --------------------------------------------------------------------------------------------------


def test_it_loads_nothing(content, whole):
    for element in whole.all():
        for name, value in element.attributes.items():
            assert name not in LOADING, f"<{element.tag} {name}>"
            if name == "href":
                assert value.startswith(("#", "data:")), value
            assert not name.startswith("on"), f"<{element.tag} {name}>"
    assert not whole.all("script")
    assert not re.search(r"@import|url\((?!#)", content)
    policy = next(one for one in whole.all("meta") if one.attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy.attributes["content"].startswith("default-src 'none'")


def test_its_parts_are_named_and_every_link_leads_somewhere(whole):
    assert content_of(whole, "html").attributes["lang"] == "en"
    for tag in ("header", "nav", "main", "footer", "h1", "title"):
        assert len([one for one in whole.all(tag) if tag != "title" or "id" not in one.attributes]) == 1, tag
    ids = [one.attributes["id"] for one in whole.all() if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    for element in whole.all():
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(element.attributes.get(name, "").split()) <= set(ids)
        if element.attributes.get("href", "").startswith("#"):
            assert element.attributes["href"][1:] in ids
    levels = [int(one.tag[1]) for one in whole.all() if re.fullmatch("h[1-6]", one.tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    for scrolled in (one for one in whole.all("div") if one.attributes.get("class") == "scroll"):
        assert (scrolled.attributes["tabindex"], scrolled.attributes["role"]) == ("0", "group")
    assert all(one.attributes.get("scope") for one in whole.all("th"))


def content_of(whole: Element, tag: str) -> Element:
    return whole.all(tag)[0]


def test_pictures_stand_in_their_sections_with_caption(whole):
    for name, section in (("one", "data"), ("two", "comparison")):
        part = next(one for one in whole.all("section") if one.attributes["aria-labelledby"] == section)
        (shown,) = part.all("figure")
        assert shown.all("svg")[0].attributes["id"] == f"picture-{name}"
        assert shown.all("figcaption")[0].text == "What it shows."
    assert not [one for one in whole.all("section") if one.attributes["aria-labelledby"] == "learning"]
    assert "A cloud: there are no titles." in [one.text for one in whole.all("li")]


def test_pictures_of_a_protocol_stand_under_its_name_and_very_high_ones_beside_each_other(files):
    drawn = [
        replace(picture(name, "comparison"), protocol=protocol, is_tall=name.startswith("high"))
        for protocol in DEFAULT_PROTOCOLS
        for name in (f"high-{protocol}", f"low-{protocol}", f"higher-{protocol}")
    ]
    part = next(
        one
        for one in Page(page_of(files, drawn)).root.all("section")
        if one.attributes["aria-labelledby"] == "comparison"
    )
    assert [one.text for one in part.all("h3")] == [PROTOCOLS[name].title for name in DEFAULT_PROTOCOLS]
    blocks = [one for one in part.all("div") if one.attributes.get("class") == "pictures"]
    shown = [[svg.attributes["id"].removeprefix("picture-") for svg in block.all("svg")] for block in blocks]
    assert shown == [
        names
        for protocol in DEFAULT_PROTOCOLS
        for names in ([f"low-{protocol}"], [f"high-{protocol}", f"higher-{protocol}"])
    ]


def test_a_section_with_a_picture_for_each_protocol_has_no_headings_of_them(files):
    drawn = [replace(picture(name, "learning"), protocol=name) for name in DEFAULT_PROTOCOLS]
    part = next(
        one
        for one in Page(page_of(files, drawn)).root.all("section")
        if one.attributes["aria-labelledby"] == "learning"
    )
    assert [one.text for one in part.all("h3")] == ["A picture", "A picture"]
    assert not part.all("h4")


def test_every_figure_is_named_where_a_row_is_a_block(whole):
    table = table_under(whole, "table-leave-one-out")
    headings = [one.text for one in table.all("thead")[0].all("th")][1:]
    for row in table.all("tbody")[0].all("tr"):
        assert [cell.attributes["data-heading"] for cell in row.all("td")] == headings


def test_words_of_the_data_are_words(files):
    content = page_of(files, [picture("one", "data", HOSTILE, HOSTILE)], lacking=[(HOSTILE, HOSTILE)])
    whole = Page(content).root
    assert not whole.all("script")
    (shown,) = whole.all("figure")
    assert shown.all("h3")[0].text == shown.all("figcaption")[0].text == HOSTILE
    assert f"{HOSTILE}: {HOSTILE}" in [one.text for one in whole.all("li")]


def test_what_it_was_made_of_stands_at_the_top(whole):
    top = whole.all("header")[0].text
    assert "DLRM and NCF on ml-latest-small" in top
    assert "1,200 ratings of 30 movies by 40 users, from 1998-07-09 to 2001-10-20" in top
    for words in ("Marquee 0", "Random seed 42", "CPU, 2 cores", "torch 2.0, numpy 1.23.5", "GroupLens"):
        assert words in top


def test_settings_are_those_of_the_networks(whole):
    table = table_under(whole, "settings-random-split")
    rows = {row.all("th")[0].text: [cell.text for cell in row.all("td")] for row in table.all("tr")[1:]}
    assert rows["network.top"] == ["32, 16"] * 3
    assert rows["learning_rate"] == ["0.003043"] * 3
    assert rows["best epoch"] == ["2 of 3"] * 3
    assert list(rows)[-7:] == [
        *(
            "best epoch",
            "validation AUC",
            "trained on",
            "weights",
            "seconds of training",
            "samples per second",
            "device",
        )
    ]


def test_its_colours_can_be_read_in_light_and_in_dark(content):
    light, dark = re.findall(r":root \{([^}]*)\}", content)[:2]
    for block in (light, dark):
        colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6})", block))
        for ground in ("page", "card"):
            for ink in ("ink", "soft", "link"):
                assert contrast(colors[ink], colors[ground]) >= CONTRAST, (ink, ground, block)


def contrast(one: str, other: str) -> float:
    """Of WCAG 2: (lighter + 0.05) / (darker + 0.05) of the relative luminances."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    shares = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

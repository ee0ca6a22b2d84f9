"""What the page says of a run, and that any reader can read it."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from bridge.report.page import page
from tests.report.outline import Element, assert_inert, outline
from tests.report.sample import ASKED, LEARNED, SCORES, two_hop_run


@pytest.fixture(scope="module")
def sample() -> Element:
    return assert_inert(page(two_hop_run()))


def section(root: Element, anchor: str) -> Element:
    return next(e for e in root.all("section") if e.attributes.get("id") == anchor)


def anchors(root: Element) -> list[str]:
    named = [e.attributes.get("id") for e in root.one("main").all("section")]
    return [name for name in named if name and name != "result"]


def pairs(element: Element) -> dict[str, str]:
    terms = [each.text for each in element.all("dt")]
    return dict(zip(terms, [each.text for each in element.all("dd")], strict=True))


# What it says


def test_the_head_tells_the_program_the_optimizer_and_what_came_of_it(sample: Element) -> None:
    head = sample.one("header")
    assert head.one("h1").text == "two_hop"
    assert head.one("p", "lead").text == "MIPROv2 raised the score from 0.167 to 0.778."
    assert head.one("span", "status").text == "✓ completed"


def test_the_result_tells_scores_and_totals(sample: Element) -> None:
    result = section(sample, "result")
    assert [each.text for each in result.all("span", "big")] == ["0.167", "0.778"]
    assert result.one("p", "gain").text == "+0.611"
    assert pairs(result.one("dl")) == {
        "Trials": "10",
        "LM calls": "1,284",
        "Tokens": "683,373",
        "Cost": "$0.25",
        "Time": "41.6 s",
    }


def test_an_unknown_price_is_told_as_such() -> None:
    run = two_hop_run()
    run["result"]["stats"]["cost"] = None
    assert pairs(section(outline(page(run)), "result"))["Cost"] == "no known price"


def test_the_numbers_of_the_chart_are_those_of_the_scored_trials(sample: Element) -> None:
    table = section(sample, "trials").one("table")
    rows = [[cell.text for cell in row.children] for row in table.one("tbody").all("tr")]
    assert rows == [
        [str(trial), f"{score:.3f}", f"{max(SCORES[:trial]):.3f}"]
        for trial, score in enumerate(SCORES, 1)
    ]


def test_the_chart_has_a_dot_for_each_trial_at_the_height_of_its_score(sample: Element) -> None:
    chart = section(sample, "trials").one("svg", "wide")
    heights = [float(dot.attributes["cy"] or "") for dot in chart.all("circle", "dot")]
    assert len(heights) == len(SCORES)
    by_score = [height for _, height in sorted(zip(SCORES, heights, strict=True))]
    assert by_score == sorted(heights, reverse=True)


def test_without_a_history_the_results_own_trials_are_drawn() -> None:
    run = two_hop_run()
    del run["history"]
    run["result"]["trials"] = [
        {"trial": at, "score": score, "examples": 18} for at, score in enumerate(SCORES, 1)
    ]
    root = assert_inert(page(run))
    assert len(section(root, "trials").one("svg").all("circle", "dot")) == len(SCORES)


def test_trials_on_fewer_examples_look_different_and_set_no_best() -> None:
    trials = [(0.2, 18), (0.9, 5), (0.4, 18)]
    run = {
        "run_id": "r",
        "result": {"trials": [{"score": score, "examples": size} for score, size in trials]},
    }
    trials_section = section(outline(page(run)), "trials")
    dots = trials_section.one("svg").all("circle", "dot")
    assert ["partial" in dot.classes for dot in dots] == [False, True, False]
    bests = [row.all("td")[1].text for row in trials_section.one("tbody").all("tr")]
    assert bests == ["0.200", "0.200", "0.400"]


def test_scores_of_other_examples_are_not_drawn_beside_the_baseline() -> None:
    run = two_hop_run()
    run["result"]["trials"] = [{"trial": at, "score": 0.5, "examples": 33} for at in range(1, 11)]
    trials = section(assert_inert(page(run)), "trials")
    assert not trials.all(kind="baseline")
    assert "33 examples and the result on 18" in trials.text


def test_the_usage_of_each_lm_is_in_the_table(sample: Element) -> None:
    body = section(sample, "cost").one("table").one("tbody")
    assert [row.text for row in body.all("tr")] == [
        "openai/gpt-5-mini 1,203 311 612,480 48,911 $0.25",
        "embedded/lexical 81 0 20,112 1,870 no known price",
    ]


def test_the_winning_instructions_stand_beside_the_original_ones(sample: Element) -> None:
    article = section(sample, "modules").all("article")[1]
    assert article.one("h3").text == "generate_answer"
    original, winning = article.all("div", "side")
    assert [original.one("h5").text, winning.one("h5").text] == ["Original", "Winning"]
    assert raw(original.one("div", "prompt")) == ASKED
    assert raw(winning.one("div", "prompt")) == LEARNED
    assert [each.text for each in original.all("del")] == ["from the context"]
    assert original.all("ins") == winning.all("del") == []
    assert winning.all("ins")


def raw(element: Element) -> str:
    return "".join(each if isinstance(each, str) else raw(each) for each in element.children)


def test_unchanged_instructions_stand_once(sample: Element) -> None:
    article = section(sample, "modules").all("article")[0]
    assert len(article.all("div", "prompt")) == 1
    assert "unchanged" in article.text


def test_a_module_that_learns_nothing_is_left_out(sample: Element) -> None:
    names = [each.text for each in section(sample, "modules").all("h3")]
    assert names == ["generate_query", "generate_answer"]


def test_demonstrations_are_cards_without_dspys_own_keys(sample: Element) -> None:
    cards = section(sample, "modules").one("ol", "demos").all("li")
    assert [len(card.all("dt")) for card in cards] == [5, 5, 2]
    assert "bootstrapped" in cards[0].text
    assert "bootstrapped" not in cards[2].text
    assert "augmented" not in section(sample, "modules").text


def test_many_demonstrations_fold_out_and_count_on() -> None:
    run = two_hop_run()
    demos = [{"question": f"question {number}", "answer": "yes"} for number in range(20)]
    run["result"]["module_demos"]["generate_answer"] = demos
    modules = run["result"]["optimized_program"]["modules"]
    modules["generate_answer"] = {**modules["generate_answer"], "demos": demos}
    found = section(assert_inert(page(run)), "modules")
    open_, folded = found.all("ol", "demos")[-2:]
    assert (len(open_.all("li")), len(folded.all("li"))) == (6, 14)
    assert folded.attributes["start"] == "7"
    assert "14 more demonstrations" in found.text


def test_inner_predictors_are_shown_by_themselves() -> None:
    run = two_hop_run()
    run["result"]["module_instructions"] = run["result"]["module_demos"] = run["result"]["original"]
    run["result"]["original"] = {}
    modules = run["result"]["optimized_program"]["modules"]
    modules.clear()
    modules["m"] = {"predictors": {"chain.predict": {"instructions": "a", "demos": [{"x": 1}]}}}
    del run["result"]["module_instructions"], run["result"]["module_demos"]
    root = assert_inert(page(run))
    assert [each.text for each in section(root, "modules").all("h3")] == ["m · chain.predict"]


def test_demonstrations_are_marked_as_new_kept_and_dropped() -> None:
    run = two_hop_run()
    kept = run["result"]["optimized_program"]["modules"]["generate_answer"]["demos"][2]
    run["result"]["original"]["generate_answer"]["demos"] = [kept, {"question": "gone"}]
    modules = section(outline(page(run)), "modules")
    heads = [each.text for each in modules.all("p", "card-head")]
    assert [head.endswith("new") for head in heads] == [True, True, False]
    assert heads[2].endswith("as before")
    assert "1 earlier demonstration dropped." in modules.text


def test_examples_that_changed_come_first(sample: Element) -> None:
    first, second = section(sample, "examples").all("table")
    kinds = [row.one("span", "tag").text for row in first.one("tbody").all("tr")]
    assert kinds == ["▲ Fixed"] * 12 + ["▼ Broken"]
    kinds = [row.one("span", "tag").text for row in second.one("tbody").all("tr")]
    assert kinds == ["= Still wrong"] * 3 + ["= Still right"] * 2


def test_a_row_tells_question_label_and_both_answers(sample: Element) -> None:
    row = section(sample, "examples").one("tbody").one("tr")
    cells = {cell.attributes["data-label"]: cell for cell in row.all("td")}
    assert cells["Example"].one("div").text.startswith("In which city was the painter of")
    assert cells["Expected"].text == "Paris"
    assert "score 0" in cells["Before"].text
    assert "born in Paris in 1840" in cells["Before"].text
    assert cells["After"].one("div", "prose").text == "Paris"


def test_a_failed_row_tells_its_error(sample: Element) -> None:
    errors = [each.text for each in section(sample, "examples").all("div", "error")]
    assert errors == ["adapter_parse: the LM's text has no field 'confidence'"]


def test_rows_are_paired_by_their_index_and_not_by_their_place() -> None:
    run = two_hop_run()
    run["result"]["rows"]["after"].reverse()
    assert section(outline(page(run)), "examples").text == (
        section(outline(page(two_hop_run())), "examples").text
    )


def test_rows_may_have_both_sides_in_one() -> None:
    run = two_hop_run()
    sides = run["result"]["rows"]
    run["result"]["rows"] = [
        {"index": old["index"], "example": old["example"], "before": old, "after": new}
        for old, new in zip(sides["before"], sides["after"], strict=True)
    ]
    assert page(run) == page(two_hop_run())


def test_rows_that_were_not_run_again_are_shown_without_changes() -> None:
    rows = [{"index": 0, "example": {"q": "?"}, "before": {"score": 1.0}, "after": None}]
    root = outline(page({"run_id": "r", "result": {"rows": rows}}))
    heads = [each.text for each in section(root, "examples").one("thead").all("th")]
    assert heads == ["Number", "Example", "Before"]


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (0.0, 1.0, "fixed"),
        (0.5, 1.5, "fixed"),
        (1.0, 0.99, "broken"),
        (0.2, 0.4, "better"),
        (0.4, 0.2, "worse"),
        (2.0, 3.0, "better"),
        (0.4, 0.4, "still-wrong"),
        (1.0, 1.0, "still-right"),
        (None, 1.0, "fixed"),
        (None, 0.0, "still-wrong"),
    ],
)
def test_a_change_is_told_by_crossing_one(before: Any, after: Any, kind: str) -> None:
    row = {"index": 0, "example": {"q": "?"}, "prediction": {"a": "!"}, "error": None}
    rows = {"before": [{**row, "score": before}], "after": [{**row, "score": after}]}
    root = outline(page({"run_id": "r", "result": {"rows": rows}}))
    assert kind in section(root, "examples").one("tbody").one("span", "tag").classes


def test_rows_of_one_side_are_shown_without_changes() -> None:
    run = two_hop_run()
    run["result"]["rows"]["before"] = None
    examples = section(assert_inert(page(run)), "examples")
    assert [each.text for each in examples.one("thead").all("th")] == [
        "Number",
        "Example",
        "Expected",
        "After",
    ]
    assert "14 right after" in examples.text


def test_warnings_come_before_everything_but_the_result(sample: Element) -> None:
    kinds = [each.classes for each in sample.one("main").all("section")]
    assert "warn" in kinds[1]
    assert "minibatch is off" in sample.one("section", "warn").text


def test_the_facts_of_the_run_are_listed(sample: Element) -> None:
    facts = pairs(section(sample, "run"))
    assert facts["Run"] == "3f9c1a7be24d6058"
    assert facts["Version"] == "b1946ac92492"
    assert facts["Started"] == "22 November 2026, 10:00:00 UTC"
    assert facts["Score on the training examples"] == "0.875"
    assert facts["Score on the validation examples"] == "0.778"


# Runs that ended otherwise


def test_a_failed_run_tells_its_error_and_no_score_after() -> None:
    run = two_hop_run()
    run |= {"status": "failed", "result": None, "score": 0.389}
    run["error"] = {"code": "metric_error", "message": "it raised", "details": {"index": 4}}
    root = assert_inert(page(run))
    assert "metric_error" in root.one("section", "bad").text
    assert pairs(root.one("section", "bad")) == {"index": "4"}
    assert section(root, "result").one("span", "label").text == "Best so far"
    assert anchors(root) == ["trials", "cost", "run"]


def test_a_failed_run_tells_what_it_has_spent() -> None:
    used = {"calls": 7, "input_tokens": 700, "output_tokens": 70, "cost": None}
    run = {"run_id": "r", "status": "failed", "usage": {"openai/gpt": used}}
    table = section(assert_inert(page(run)), "cost").one("table")
    assert "openai/gpt" in table.text
    assert "700" in table.text


@pytest.mark.parametrize(
    ("reason", "said"), [("budget", "budget"), ("deadline", "time"), ("run_stop", "asked to stop")]
)
def test_a_run_that_ended_early_says_why(reason: str, said: str) -> None:
    run = two_hop_run()
    run["status"] = run["result"]["status"] = "stopped"
    run["result"]["ended_by"] = reason
    assert said in outline(page(run)).one("p", "lead").text


def test_a_running_run_tells_the_best_so_far() -> None:
    run = two_hop_run()
    run |= {"status": "running", "result": None, "ended_at": None}
    assert outline(page(run)).one("p", "lead").text == (
        "MIPROv2 is still running; the best score so far is 0.778."
    )


@pytest.mark.parametrize(("score", "verb"), [(0.1, "lowered"), (0.167, "left")])
def test_a_run_that_did_not_help_says_so(score: float, verb: str) -> None:
    run = two_hop_run()
    run["score"] = run["result"]["score"] = score
    assert verb in outline(page(run)).one("p", "lead").text


def test_the_least_run_is_a_page() -> None:
    root = assert_inert(page({"run_id": "r"}))
    assert root.one("h1").text == "r"
    assert anchors(root) == ["run"]


@pytest.mark.parametrize("part", sorted(two_hop_run()["result"]))
def test_any_part_of_the_result_may_be_missing(part: str) -> None:
    run = two_hop_run()
    del run["result"][part]
    assert_inert(page(run))


def test_the_same_run_gives_the_same_page() -> None:
    assert page(two_hop_run()) == page(two_hop_run())


# Who reads it


def test_the_page_has_a_language_a_title_and_a_policy_that_lets_nothing_in(sample: Element) -> None:
    assert sample.one("html").attributes["lang"] == "en"
    assert sample.one("title").text == "two_hop · optimizer run"
    policy = sample.one("head").all("meta")[1].attributes["content"] or ""
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_headings_go_down_by_one_level_at_a_time(sample: Element) -> None:
    levels = [int(each.tag[1]) for each in sample.all() if re.fullmatch(r"h[1-6]", each.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_every_head_of_a_table_has_a_scope_and_every_table_a_caption(sample: Element) -> None:
    assert all(each.attributes.get("scope") in {"col", "row"} for each in sample.all("th"))
    assert all(each.all("caption") for each in sample.all("table"))
    for table in sample.all("table"):
        widths = {len(row.all("th") + row.all("td")) for row in table.all("tr")}
        assert len(widths) == 1


def test_every_chart_has_a_title_and_a_description_of_its_own(sample: Element) -> None:
    charts = sample.all("svg")
    assert len(charts) == 4
    ids = [each.attributes.get("id") for chart in charts for each in chart.all()]
    named = [each for each in ids if each is not None]
    assert len(named) == len(set(named)) == 8
    for chart in charts:
        assert chart.attributes["role"] == "img"
        assert [each.tag for each in chart.children[:2]] == ["title", "desc"]
        labels = (chart.attributes["aria-labelledby"] or "").split()
        assert labels == [each.attributes["id"] for each in chart.children[:2]]


def test_ids_are_unique_and_links_lead_to_them(sample: Element) -> None:
    ids = [each.attributes["id"] for each in sample.all() if "id" in each.attributes]
    assert len(ids) == len(set(ids))
    assert {(each.attributes["href"] or "")[1:] for each in sample.all("a")} <= set(ids)


def test_signs_are_hidden_from_screen_readers_that_have_the_words(sample: Element) -> None:
    for each in sample.all("span", "tag") + sample.all("p", "mark"):
        if sign := each.all("span"):
            assert sign[0].attributes["aria-hidden"] == "true"
        assert re.search(r"[a-z]", each.text)


def test_the_style_has_both_palettes_and_a_sheet_for_paper(sample: Element) -> None:
    style = sample.one("style").text
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style
    light, dark = (set(re.findall(r"(--[a-z-]+):", part)) for part in style.split("@media", 2)[:2])
    assert light == dark
    assert set(re.findall(r"var\((--[a-z-]+)\)", style)) <= light


def test_text_has_enough_contrast_in_both_palettes(sample: Element) -> None:
    style = sample.one("style").text
    for part in style.split("@media", 2)[:2]:
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", part))
        on = [("ink", "paper"), ("ink", "card"), ("soft", "paper"), ("soft", "card")]
        on += [("soft", "sunk"), ("accent", "paper"), ("accent", "card"), ("accent", "sunk")]
        on += [(name, f"{name}-bg") for name in ("good", "bad", "warn", "level")]
        on += [("bad", "paper"), ("good", "paper"), ("ink", "warn-bg"), ("ink", "bad-bg")]
        for text, ground in on:
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


def contrast(one: str, other: str) -> float:
    """As WCAG defines it."""
    lights = sorted((luminance(one), luminance(other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    lights = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * lights[0] + 0.7152 * lights[1] + 0.0722 * lights[2]

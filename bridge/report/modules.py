"""What each module learned: its instructions beside the original ones, and its demonstrations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bridge.report.figures import plural
from bridge.report.markup import Html, el, join
from bridge.report.prose import fields, value_block
from bridge.report.reading import listing, mapping, named, shown
from bridge.report.wording import compare

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Learner", "module_section", "read_learners"]

MOST_LEARNERS = 200
"""Predictors in one page."""

MOST_CARDS = 60
"""Demonstrations of one predictor."""

MOST_OPEN = 6
"""Demonstrations shown at once; the others fold out."""

BOOKKEEPING = frozenset({"augmented", "dspy_uuid", "dspy_split"})
"""Keys that DSPy adds to a demonstration; no field of the signature."""


@dataclass(frozen=True, slots=True)
class Learner:
    """One predictor before and after. None is unknown before, and nothing new after."""

    name: str
    inner: str | None
    old_instructions: str | None
    new_instructions: str | None
    old_demos: list[Any] | None
    new_demos: list[Any] | None

    @property
    def learned(self) -> bool:
        """Whether there is anything to show."""
        texts = (self.old_instructions, self.new_instructions)
        return any(texts) or bool(self.old_demos) or bool(self.new_demos)


def read_learners(result: Mapping[str, Any]) -> list[Learner]:
    """The predictors of a run's result, in the order of its modules, those with anything to show.

    Modules are those of `optimized_program`; of `module_instructions` and `module_demos` where
    that lacks them; and the original ones.
    """
    modules = mapping(mapping(result.get("optimized_program")).get("modules"))
    instructions = mapping(result.get("module_instructions"))
    demos = mapping(result.get("module_demos"))
    original = mapping(result.get("original"))
    found: list[Learner] = []
    for name in dict.fromkeys([*modules, *instructions, *demos, *original]):
        flat = {"instructions": instructions.get(name), "demos": demos.get(name)}
        new = {**flat, **{k: v for k, v in mapping(modules.get(name)).items() if v is not None}}
        found += _learners(name, mapping(original.get(name)), new)
    return [learner for learner in found if learner.learned][:MOST_LEARNERS]


def module_section(learners: Sequence[Learner]) -> Html | None:
    """All modules; None when none learned anything."""
    if not learners:
        return None
    return join([_module(learner) for learner in learners])


def _learners(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Learner]:
    olds, news = mapping(old.get("predictors")), mapping(new.get("predictors"))
    yield _learner(name, None, old, new)
    for inner in dict.fromkeys([*news, *olds]):
        yield _learner(name, inner, mapping(olds.get(inner)), mapping(news.get(inner)))


def _learner(
    name: str, inner: str | None, old: Mapping[str, Any], new: Mapping[str, Any]
) -> Learner:
    before, after = old.get("demos"), new.get("demos")
    return Learner(
        name,
        inner,
        named(old.get("instructions")),
        named(new.get("instructions")),
        before if isinstance(before, list) else None,
        after if isinstance(after, list) else None,
    )


def _module(learner: Learner) -> Html:
    name: list[Html | str | None] = [el("span", learner.name[:200], dir="auto")]
    if learner.inner is not None:
        name += [el("span", " · ", class_="soft"), el("span", learner.inner[:200], dir="auto")]
    return el(
        "article",
        el("h3", *name, class_="code"),
        el("p", _summary(learner), class_="soft"),
        _instructions(learner.old_instructions, learner.new_instructions),
        _demonstrations(learner),
        class_="card",
    )


def _summary(learner: Learner) -> str:
    old, new = learner.old_instructions, learner.new_instructions
    said = []
    if new is not None and old is not None:
        said.append("Instructions unchanged" if new == old else "New instructions")
    elif old is not None:
        said.append("Instructions unchanged")
    if learner.new_demos is not None:
        now = plural(len(learner.new_demos), "demonstration") if learner.new_demos else "none"
        was = learner.old_demos
        if was is not None and learner.new_demos == was:
            said.append(f"demonstrations unchanged ({len(was)})" if was else "no demonstrations")
        elif was is None:
            said.append(now if learner.new_demos else "no demonstrations")
        else:
            said.append(f"{now}, {len(was) or 'none'} before")
    text = "; ".join(said)
    return text[:1].upper() + text[1:]


# Instructions


def _instructions(old: str | None, new: str | None) -> Html | None:
    if old is None or new is None or old == new:
        text = new or old
        if text is None:
            return None
        return join([el("h4", "Instructions"), el("div", text, class_="prompt", dir="auto")])
    pieces = compare(old, new)
    sides = ([(old, False)], [(new, False)]) if pieces is None else pieces
    return join(
        [
            el("h4", "Instructions"),
            el(
                "div",
                _side("Original", "del", sides[0]),
                _side("Winning", "ins", sides[1]),
                class_="sides",
            ),
            el("p", "Too long to compare word by word.", class_="note") if not pieces else None,
        ]
    )


def _side(title: str, mark: str, pieces: Sequence[tuple[str, bool]]) -> Html:
    text = [el(mark, piece) if changed else piece for piece, changed in pieces]
    return el(
        "div",
        el("h5", title),
        el("div", *text, class_="prompt", dir="auto"),
        class_="side",
    )


# Demonstrations


def _demonstrations(learner: Learner) -> Html | None:
    demos = learner.new_demos
    if not demos:
        return _dropped(learner)
    known = {shown(demo) for demo in listing(learner.old_demos)}
    cards = [_card(at, demo, known) for at, demo in enumerate(demos[:MOST_CARDS], 1)]
    left = len(demos) - len(cards)
    # A few more are no reason to fold them.
    at_once = len(cards) if len(cards) <= 2 * MOST_OPEN else MOST_OPEN
    folded = cards[at_once:]
    return join(
        [
            el("h4", "Demonstrations"),
            el("ol", *cards[:at_once], class_="demos"),
            _more(folded) if folded else None,
            el("p", f"{left} more are not in this page.", class_="note") if left else None,
            _dropped(learner),
        ]
    )


def _more(cards: Sequence[Html]) -> Html:
    return el(
        "details",
        el("summary", f"{len(cards)} more demonstrations"),
        el("ol", *cards, class_="demos", start=MOST_OPEN + 1),
    )


def _card(at: int, demo: Any, known: set[str]) -> Html:
    given = mapping(demo)
    tags = []
    if given.get("augmented") is True:
        tags.append("bootstrapped")
    if known:
        tags.append("as before" if shown(demo) in known else "new")
    content = {key: value for key, value in given.items() if key not in BOOKKEEPING}
    return el(
        "li",
        el(
            "p",
            el("span", f"Demonstration {at}", class_="label"),
            *(el("span", tag, class_="tag") for tag in tags),
            class_="card-head",
        ),
        fields(content) if content else value_block(demo),
    )


def _dropped(learner: Learner) -> Html | None:
    if learner.new_demos is None:
        return None
    kept = {shown(demo) for demo in learner.new_demos}
    gone = sum(shown(demo) not in kept for demo in listing(learner.old_demos))
    if not gone:
        return None
    return el("p", f"{plural(gone, 'earlier demonstration')} dropped.", class_="note")

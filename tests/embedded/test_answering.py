"""The embedded LM against prompts as DSPy writes them."""

from __future__ import annotations

import enum
import time
from typing import Any, Literal, Optional

import dspy
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.embedded.answering import MODELS, answer
from tests.embedded.embedded_engine import ADAPTERS, BEGUN, CAPITAL, DESIGNER, TOWER, Embedded, run


@pytest.fixture(params=ADAPTERS, ids=lambda a: type(a).__name__)
def adapter(request):
    return request.param


def qa_demos() -> list[dspy.Example]:
    return [
        dspy.Example(
            context="The Colosseum is in Rome, Italy.\nRome is the capital of Italy.",
            question="What is the capital of the country where the Colosseum is?",
            answer="Rome",
        ),
        dspy.Example(
            context="The telephone was patented by Alexander Graham Bell in 1876.",
            question="Who patented the telephone?",
            answer="Alexander Graham Bell",
        ),
    ]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Person(pydantic.BaseModel):
    name: str
    born: int
    tags: list[str] = []


class Family(pydantic.BaseModel):
    head: Person
    income: float | None = None


class Everything(dspy.Signature):
    """Fill every type."""

    context: list[str] = dspy.InputField()
    question: str = dspy.InputField()
    n: int = dspy.OutputField(desc="how many", ge=1)
    share: float = dspy.OutputField()
    ok: bool = dspy.OutputField()
    colour: Colour = dspy.OutputField()
    choice: Literal["a b", "it's", 3] = dspy.OutputField()
    numbers: list[int] = dspy.OutputField()
    texts: list[str] = dspy.OutputField()
    free: dict[str, Any] = dspy.OutputField()
    maybe: Optional[str] = dspy.OutputField()  # noqa: UP045
    maybe_choice: Literal["x", "y"] | None = dspy.OutputField()
    person: Person = dspy.OutputField()
    people: list[Person] = dspy.OutputField()
    answer: str = dspy.OutputField(desc="one\nline")


@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_type_is_answered_in_that_type(model):
    for adapter in ADAPTERS[:2]:
        prediction = run(
            dspy.ChainOfThought(Everything),
            adapter,
            model,
            context=[TOWER, BEGUN],
            question="Is the tower blue & < 3?",
        )
        assert isinstance(prediction.n, int)
        assert isinstance(prediction.share, float)
        assert isinstance(prediction.ok, bool)
        assert isinstance(prediction.colour, Colour)
        assert isinstance(prediction.person, Person)
        assert prediction.choice in {"a b", "it's", 3}
        assert prediction.maybe_choice in {"x", "y", None}


def test_nested_objects_are_answered_with_the_right_keys():
    signature = dspy.Signature("text -> family: Family", custom_types={"Family": Family})
    prediction = run(dspy.Predict(signature), text="Ada Lovelace was born in London in 1815.")
    assert prediction.family.head.name == "Ada Lovelace"
    assert prediction.family.head.born == 1815


def test_xml_lists_and_text_with_markup_are_read_back():
    signature = "context: list[str], question -> cities: list[str], note: str"
    prediction = run(
        dspy.Predict(signature),
        ADAPTERS[2],
        context=["Rome & Milan < Paris in fame."],
        question="Which cities have fame?",
    )
    assert "Milan" in prediction.cities
    assert prediction.note == "Rome & Milan < Paris in fame."


def test_without_demonstrations_a_question_gets_the_whole_sentence(adapter):
    program = dspy.Predict("context, question -> answer")
    context = f"{TOWER}\n{DESIGNER}\n{CAPITAL}"
    prediction = run(program, adapter, context=context, question="Who designed the tower?")
    assert prediction.answer == DESIGNER


def test_demonstrations_teach_short_answers(adapter):
    program = dspy.Predict("context, question -> answer")
    program.demos = qa_demos()
    context = f"{TOWER}\n{DESIGNER}\n{CAPITAL}"
    prediction = run(program, adapter, context=context, question="Who designed the tower?")
    assert prediction.answer == "Gustave Eiffel"


def test_a_demonstration_without_its_context_still_teaches_the_shape(adapter):
    program = dspy.ChainOfThought("context, question -> answer")
    program.predict.demos = [d.without("context") for d in qa_demos()]
    prediction = run(program, adapter, context=DESIGNER, question="Who designed the tower?")
    assert prediction.answer == "Gustave Eiffel"


def test_long_demonstrations_teach_whole_sentences():
    program = dspy.Predict("context, question -> answer")
    program.demos = [
        d.copy(answer=f"The answer to this is plainly {d.answer}.") for d in qa_demos()
    ]
    prediction = run(program, context=DESIGNER, question="Who designed the tower?")
    assert prediction.answer == DESIGNER


def test_the_second_hop_is_followed_through_a_shared_name(adapter):
    program = dspy.Predict("context, question -> answer")
    program.demos = qa_demos()
    context = [BEGUN, TOWER, "Rome is the capital of Italy.", CAPITAL]
    question = "What is the capital of the country where the Eiffel Tower is located?"
    assert run(program, adapter, context=context, question=question).answer == "Paris"


def test_a_question_for_a_year_gets_the_year():
    program = dspy.Predict("context, question -> answer")
    question = "In which year did the construction of the Eiffel Tower begin?"
    assert run(program, context=f"{TOWER}\n{BEGUN}", question=question).answer == "1887"


def test_an_instruction_for_short_answers_is_obeyed():
    signature = dspy.Signature("context, question -> answer", "Answer with a short phrase.")
    prediction = run(dspy.Predict(signature), context=DESIGNER, question="Who designed the tower?")
    assert prediction.answer == "Gustave Eiffel"


def test_the_same_inputs_as_a_demonstration_get_its_answer(adapter):
    program = dspy.Predict("context, question -> answer")
    program.demos = [qa_demos()[0].copy(answer="The Eternal City"), qa_demos()[1]]
    inputs = {k: program.demos[0][k] for k in ("context", "question")}
    assert run(program, adapter, **inputs).answer == "The Eternal City"


def test_labels_come_from_the_most_similar_demonstration(adapter):
    program = dspy.Predict("review -> mood")
    program.demos = [
        dspy.Example(review="A wonderful film, I loved it", mood="happy"),
        dspy.Example(review="A boring film, I slept", mood="bored"),
    ]
    assert run(program, adapter, review="I loved this wonderful book").mood == "happy"
    assert run(program, adapter, review="So boring that I slept at once").mood == "bored"


def test_a_choice_follows_similar_demonstrations():
    program = dspy.Predict("review -> mood: Literal['happy', 'bored']")
    program.demos = [
        dspy.Example(review="A wonderful film, I loved it", mood="happy"),
        dspy.Example(review="A boring film, I slept", mood="bored"),
    ]
    assert run(program, review="Boring, I slept").mood == "bored"


def test_a_query_is_the_content_words_of_the_question():
    prediction = run(dspy.Predict("question -> query"), question="Where is the Eiffel Tower?")
    assert prediction.query == "Eiffel Tower"


def test_a_query_after_a_first_hop_holds_the_names_found():
    prediction = run(
        dspy.Predict("context, question -> query"),
        context=TOWER,
        question="Which river flows through the city where the Eiffel Tower stands?",
    )
    assert {"Paris", "river"} <= set(prediction.query.split())


def test_demonstrated_queries_drop_what_the_context_holds():
    program = dspy.Predict("context, question -> query")
    program.demos = [
        dspy.Example(
            context="The Colosseum is in Rome, Italy.",
            question="What is the capital of the country where the Colosseum is?",
            query="Italy capital",
        )
    ]
    question = "Which river flows through the city where the Eiffel Tower stands?"
    query = run(program, context=TOWER, question=question).query.split()
    assert "Paris" in query
    assert "Eiffel" not in query


def test_confidence_is_the_covered_part_of_the_question():
    signature = "context, question -> answer, confidence: float"
    sure = run(dspy.Predict(signature), context=DESIGNER, question="Who designed the tower?")
    unsure = run(dspy.Predict(signature), context=CAPITAL, question="Who designed the tower?")
    assert 0.0 <= unsure.confidence < sure.confidence <= 1.0


def test_citations_name_the_passages_used():
    signature = "passages: list[str], question -> answer, citations: list[int]"
    prediction = run(
        dspy.Predict(signature), passages=[CAPITAL, DESIGNER], question="Who designed the tower?"
    )
    assert 2 in prediction.citations


def test_a_react_loop_calls_the_tool_once_and_finishes():
    asked = []

    def search(query: str) -> str:
        """Search passages."""
        asked.append(query)
        return DESIGNER

    prediction = run(dspy.ReAct("question -> answer", tools=[search]), question="Who designed it?")
    assert asked == ["Who designed it?"]
    assert "Gustave Eiffel" in prediction.answer


def test_the_two_step_adapter_is_served():
    lm = dspy.LM("embedded/lexical", engine=Embedded(), cache=False)
    with dspy.context(lm=lm, adapter=dspy.TwoStepAdapter(lm), disable_history=True):
        prediction = dspy.Predict("context, question -> answer")(
            context=DESIGNER, question="Who designed the tower?"
        )
    assert "Gustave Eiffel" in prediction.answer


def test_free_text_is_answered_with_the_sentence_that_bears_on_it():
    text = f"{BEGUN} {DESIGNER} {CAPITAL}\nWho designed the tower?"
    assert answer([{"role": "user", "content": text}], model="lexical") == DESIGNER


@pytest.mark.parametrize("question", ["Who are you?", "Hello, what are you?"])
def test_asked_who_it_is_it_says_so(question):
    said = answer([{"role": "user", "content": question}], model="lexical")
    assert "not a neural network" in said


def test_text_parts_are_read_like_text():
    parts = [{"type": "text", "text": f"{DESIGNER} Who designed the tower?"}]
    assert answer([{"role": "user", "content": parts}], model="lexical") == DESIGNER


def test_equal_prompts_get_equal_answers():
    prediction = run(
        dspy.Predict("context, question -> answer"), context=TOWER, question="Where is it?"
    )
    assert answer(prediction.messages, model="lexical") == answer(
        prediction.messages, model="lexical"
    )


def test_an_unknown_model_is_a_key_error():
    with pytest.raises(KeyError):
        answer([], model="oracle")


WIRE_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(WIRE_TEXT, WIRE_TEXT, st.sampled_from(sorted(MODELS)), st.sampled_from([0, 1]))
@settings(max_examples=60, deadline=None)
def test_any_inputs_are_answered_so_that_dspy_can_read_it(context, question, model, which):
    signature = "context, question -> reasoning, query, answer, n: int, ok: bool, xs: list[str]"
    prediction = run(
        dspy.Predict(signature), ADAPTERS[which], model, context=context, question=question
    )
    assert isinstance(prediction.n, int)


@given(WIRE_TEXT)
@settings(max_examples=40, deadline=None)
def test_any_input_is_answered_in_well_formed_xml(text):
    prediction = run(dspy.Predict("text -> answer, xs: list[str]"), ADAPTERS[2], text=text)
    assert isinstance(prediction.xs, list)


def busy_prompt() -> list[dict[str, Any]]:
    program = dspy.ChainOfThought("context, question -> answer")
    passages = [TOWER, CAPITAL, DESIGNER, BEGUN] + [
        f"City{i} is the capital of Land{i}. It has {i} rivers." for i in range(6)
    ]
    program.predict.demos = [
        dspy.Example(
            context="\n".join(passages),
            question=f"Which city rules Land{i}?",
            reasoning="r",
            answer=f"City{i}",
        )
        for i in range(4)
    ]
    return run(program, context="\n".join(passages), question="Who designed the tower?").messages


@pytest.mark.load
@pytest.mark.parametrize(("model", "seconds"), [("lexical", 2e-3), ("echo", 60e-6)])
def test_an_ordinary_prompt_is_answered_in_time(model, seconds):
    messages = busy_prompt()
    answer(messages, model=model)
    times = []
    for _ in range(50):
        start = time.perf_counter()
        answer(messages, model=model)
        times.append(time.perf_counter() - start)
    assert min(times) < seconds


@pytest.mark.load
def test_a_text_without_a_full_stop_is_read_in_time_in_line_with_its_length():
    program = dspy.Predict("context, question -> answer")
    times = []
    for words in (600, 6_000):
        context = "The Rhine flows through Basel in " * (words // 6)
        messages = run(program, context=context, question="What flows through Basel?").messages
        start = time.perf_counter()
        answer(messages, model="lexical")
        times.append(time.perf_counter() - start)
    # Ten times the text; squared, it would be a hundred times the time.
    assert times[1] < 40 * times[0]

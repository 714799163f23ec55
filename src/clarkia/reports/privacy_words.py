"""The privacy figures as questions a person asks and answers in plain words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clarkia.reports.metric import Metric
from clarkia.reports.summary import beyond_floor


@dataclass(frozen=True)
class Answer:
    """A question, its answer, and whether the answer is a warning."""

    question: str
    text: str
    trace: bool


def _copies(m: Metric) -> str:
    return (
        f"{m.value:.2%} of the synthetic rows equal a real row in every column. Among fresh real rows {m.floor:.2%} "
        "would, by chance."
    )


def _unique(m: Metric) -> str:
    return (
        f"{m.value:.2%} of the synthetic rows repeat a row that only one real record has; {m.floor:.2%} would by "
        "chance. Such a record may be recognised."
    )


def _nearer(m: Metric) -> str:
    return (
        f"{m.value:.1%} of the synthetic rows lie nearer to a training row than to an unseen real row. A generator "
        "that memorised nothing gives 50%."
    )


def _outliers(m: Metric) -> str:
    return (
        f"Around the loneliest real rows the distance index is {m.value:.3f}: 0.5 means synthetic rows come no nearer "
        "than unseen people do, 0 means each of them was copied."
    )


def _attack(m: Metric) -> str:
    return (
        f"An attacker's ranking of who was in the training table is right in {m.value:.1%} of pairs; guessing gives "
        "50%."
    )


def _found(m: Metric) -> str:
    return (
        f"Accusing one innocent row in a hundred, the attacker finds {m.value:.1%} of the training rows; guessing "
        "finds 1%."
    )


def _strict(m: Metric) -> str:
    return f"{m.value:.1%} of the synthetic rows lie strictly closer to a training row than to an unseen real row."


ANSWERS: dict[str, tuple[str, Callable[[Metric], str]]] = {
    "Exact copies": ("Are real rows copied?", _copies),
    "Copies of unique rows": ("Are one-of-a-kind rows copied?", _unique),
    "Nearer to training than to holdout": ("Do rows hug the training table?", _nearer),
    "Distance to outliers": ("Are unusual people exposed?", _outliers),
    "Membership attack AUC": ("Can an attacker tell who was in the training table?", _attack),
    "Members found at 1% false alarms": ("Can some people be found for sure?", _found),
    "Closest-record share": ("Are rows closer to the training table?", _strict),
}


def privacy_answers(metrics: Sequence[Metric]) -> tuple[Answer, ...]:
    """Put every privacy figure that has a value into a question and an answer."""
    answers = []
    for m in metrics:
        if m.group != "privacy" or m.value is None or m.floor is None:
            continue
        if m.name in ANSWERS:
            question, text = ANSWERS[m.name]
            answers.append(Answer(question, text(m), beyond_floor(m)))
        else:
            column = m.name.removeprefix("Attribute inference gain, ")
            answers.append(Answer(f"Can '{column}' be inferred?", m.note, beyond_floor(m)))
    return tuple(answers)

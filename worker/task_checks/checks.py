"""The checks of a task, in the order of the report; each raises CheckFailed with what its author should change."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.errors import InvalidParameters, JobError
from worker.leasing.leases import Job, Lease
from worker.task_checks import comparison, inputs, parameter_sets
from worker.task_checks.inputs import BadInput
from worker.task_checks.report import CheckFailed
from worker.task_checks.trial import Answer, Trial

Numbered = tuple[int, Mapping[str, Any]]
Check = Callable[["Checks"], str]

UNKNOWN_PARAMETER = "no-such-parameter"
STATE_ADVICE = "the adapter or its model keeps something between calls; compute each answer from its own input alone"
PADDING_ADVICE = (
    "mask what is padded by attention_mask, pool only a row's own tokens, or set can_pad = False for the adapter"
)
COMPANY_ADVICE = "an answer may depend on its own row only; use no statistics over the rows of a pass"


@dataclass(slots=True)
class Checks:
    """The state that the checks of one task share.

    tolerance: how far numbers of the same input may lie apart.
    deterministic: whether the pipeline asks for equal bits.
    fault: why the engine keeps rows of the task apart, None = it does not. Here they share passes all the same.
    alone: the answer of each variant, computed without others.
    changes: the methods that changed an argument, each with its name.
    """

    trial: Trial
    tolerance: float
    deterministic: bool
    fault: str | None = None
    variants: list[Numbered] = field(default_factory=list)
    alone: dict[int, Answer] = field(default_factory=dict)
    changes: Mapping[str, str] = field(default_factory=dict)

    def answer_alone(self) -> dict[int, Answer]:
        """Answer each variant by itself."""
        answers: dict[int, Answer] = {}
        for variant in self.variants:
            answers |= self.trial.answer([variant])
        return answers

    def compare(self, answers: Mapping[int, Answer], how: str, advice: str, *, bits: bool = False) -> None:
        """Raise CheckFailed where an answer is not the one that its input gets alone."""
        for number, answer in answers.items():
            expected = self.alone[number]
            is_equal = answer.code == expected.code and (
                answer.document == expected.document
                if bits
                else comparison.is_same(answer.output, expected.output, self.tolerance)
            )
            if not is_equal:
                if self.tolerance > comparison.TOLERANCES["float32"]:
                    advice = f"{advice} (if two scores are too close for this dtype, check it in float32)"
                raise CheckFailed(f"input {number} of {len(self.alone)} gets another answer {how}; {advice}")

    def compare_together(self, order: Iterable[Numbered], how: str, advice: str, budget: int | None = None) -> None:
        """Answer these variants in one call and compare; failures that no row has alone count as well."""
        known = len(self.trial.incidents)
        answers = self.trial.answer(list(order), budget_tokens=budget)
        own_codes = {answer.code for answer in self.alone.values()}
        incidents = [each for each in self.trial.incidents[known:] if each.code not in own_codes - {None}]
        if incidents and all(answers[number].problem is None or self.alone[number].problem for number in answers):
            raise CheckFailed(
                f"{incidents[0].problem}, with {incidents[0].items} of them at once, but with none alone; mend it, "
                "because each is computed by itself after such a failure"
            )
        self.compare(answers, how, advice)


def check_example(checks: Checks) -> str:
    """The spec's example gets an answer that looks like the example's output."""
    trial = checks.trial
    try:
        variants = inputs.make_variants(trial.spec, trial.parameters)
    except JobError as error:
        raise CheckFailed(
            f"example_input is refused ({error.code}: {error}); give an input that the task takes"
        ) from None
    checks.variants = list(enumerate(variants, 1))
    [answer] = trial.answer(checks.variants[:1]).values()
    if answer.problem is not None:
        raise CheckFailed(f"example_input gets no answer: {answer.problem}")
    problem = comparison.shape_problem(answer.output, trial.spec.example_output)
    if problem and not trial.parameters:
        raise CheckFailed(f"{problem}; make example_output what the task gives for example_input")
    return "example_input gets an output that looks like example_output"


def check_outputs(checks: Checks) -> str:
    """Every variant is answered, or fails with a code."""
    checks.alone = checks.answer_alone()
    problems = [answer for answer in checks.alone.values() if answer.problem is not None]
    for answer in problems:
        if answer.is_fault:
            raise CheckFailed(
                f"{answer.problem}; raise JobError for an input that can't be answered, else mend the adapter"
            )
    if len(problems) == len(checks.alone):
        raise CheckFailed(f"all {len(problems)} variants of the example fail, such as with {problems[0].problem}")
    refused = f", {len(problems)} of them by a JobError" if problems else ""
    return (
        f"{len(checks.alone)} variants of the example are answered{refused}; the outputs are JSON, their numbers finite"
    )


def check_other_rows(checks: Checks) -> str:
    """Other rows in the same micro-batch change no answer."""
    advice = f"{PADDING_ADVICE}; {COMPANY_ADVICE}"
    checks.compare_together(checks.variants, "with other rows than alone", advice)
    if checks.fault is not None:
        raise CheckFailed(f"{checks.fault}, so that workers keep its rows apart, which is slow; {advice}")
    return f"{len(checks.variants)} inputs get the same answers together as alone"


def check_order(checks: Checks) -> str:
    """The order of the rows changes no answer, and each answer stays with its input."""
    middle = len(checks.variants) // 2
    for order in (checks.variants[::-1], checks.variants[middle:] + checks.variants[:middle]):
        checks.compare_together(order, "in another order", "return the outputs in the order of the rows")
    return "inputs get the same answers in any order"


def check_micro_batches(checks: Checks) -> str:
    """The size of the micro-batches changes no answer."""
    for budget in (1, 64, 200):
        checks.compare_together(checks.variants, "in other micro-batches", PADDING_ADVICE, budget)
    return "inputs get the same answers in micro-batches of any size"


def check_retry(checks: Checks) -> str:
    """A job that runs again, after others, gets the same answer."""
    checks.compare(checks.answer_alone(), "when it runs again", STATE_ADVICE)
    return "inputs that run again get the same answers"


def check_duplicates(checks: Checks) -> str:
    """Equal inputs in one micro-batch get equal answers."""
    number, stored = checks.variants[0]
    lease = Lease(1, "check", 0, 1, 1, 1, parameters=checks.trial.parameters)
    copies = [Job(lease, number + place * len(checks.variants), dict(stored)) for place in range(3)]
    for answer in checks.trial.answer_jobs(copies).values():
        checks.compare({number: answer}, "beside a copy of itself", COMPANY_ADVICE)
    return "equal inputs get equal answers"


def check_determinism(checks: Checks) -> str:
    """The same call gives the same bits; with `deterministic`, any call does."""
    answers = checks.trial.answer(checks.variants)
    again = checks.trial.answer(checks.variants)
    for number, answer in answers.items():
        if answer.document != again[number].document:
            raise CheckFailed(
                f"input {number} of {len(answers)} gets other numbers when the same call is made again; draw no random "
                "numbers, or make is_random true for the parameters that do"
            )
    if not checks.deterministic:
        return f"the same call gives equal bits; others agree within {checks.tolerance:g} (deterministic is not set)"
    advice = "compute each row on its own bits: avoid sums over the width of the pass"
    checks.compare(answers, "in its bits, as deterministic asks for,", advice, bits=True)
    return "any call gives equal bits, as deterministic asks for"


def check_parameters(checks: Checks) -> str:
    """Unknown parameters are refused, and inputs with different parameters don't mix."""
    trial = checks.trial
    try:
        trial.spec.check_parameters({UNKNOWN_PARAMETER: 1})
    except InvalidParameters:
        pass
    else:
        raise CheckFailed('an unknown parameter is taken; derive the class from Parameters and keep extra = "forbid"')
    sets = parameter_sets.make(trial.spec, trial.parameters)
    if not sets:
        return "unknown parameters are refused; none can be varied"
    _check_mixed(checks, [trial.parameters, *sets])
    return f"unknown parameters are refused; jobs with {len(sets) + 1} sets of parameters don't mix"


def _check_mixed(checks: Checks, sets: Sequence[Mapping[str, Any]]) -> None:
    """Compare the answers of jobs with different parameters in one call with those that each gets alone."""
    jobs, alone = [], {}
    for place, (parameters, (number, stored)) in enumerate((own, each) for each in checks.variants[:4] for own in sets):
        lease = Lease(place, f"check-{place}", 0, 1, 1, 1, parameters=dict(parameters))
        job = Job(lease, place, dict(stored))
        alone[place] = checks.trial.answer_jobs([job])[place]
        if alone[place].is_fault and not checks.alone[number].is_fault:
            changed = ", ".join(sorted(name for name in parameters if parameters[name] != sets[0].get(name)))
            raise CheckFailed(f"with another value of {changed}, {alone[place].problem}")
        jobs.append(job)
    together = checks.trial.answer_jobs(jobs)
    for place, answer in together.items():
        if not comparison.is_same(answer.output, alone[place].output, checks.tolerance):
            raise CheckFailed("jobs with different parameters in one call change each other; read parameters per call")


def check_bad_inputs(checks: Checks) -> str:
    """Inputs that no model can answer are refused by the spec with a code, and odd ones leave others alone."""
    trial, refused = checks.trial, 0
    odd = [
        ("a blank, symbolic or very long text", stored)
        for stored in inputs.make_odd_inputs(trial.spec, trial.parameters)
    ]
    for bad in inputs.make_bad_inputs(trial.spec, checks.variants[0][1]):
        stored = _normalise_bad(checks, bad)
        if stored is None:
            refused += 1
        elif bad.may_be_taken:
            odd.append((bad.name, stored))
        else:
            raise CheckFailed(f"{bad.name} is taken; declare texts as Text, and give each field its type")
    first = len(checks.variants) + 1
    answers = trial.answer([*checks.variants, *((first + place, stored) for place, (_, stored) in enumerate(odd))])
    for place, (name, _) in enumerate(odd):
        answer = answers.pop(first + place)
        if answer.is_fault:
            raise CheckFailed(f"{name}: {answer.problem}; raise JobError instead, or have the spec refuse it")
    checks.compare(answers, "beside a bad input", COMPANY_ADVICE)
    return f"{refused} bad inputs are refused with a code; {len(odd)} odd ones leave the others' answers alone"


def _normalise_bad(checks: Checks, bad: BadInput) -> dict[str, Any] | None:
    """Return the stored form of a bad input; None if it is refused, as it should be."""
    try:
        return checks.trial.spec.normalise(bad.raw, checks.trial.parameters)
    except JobError:
        return None
    except Exception as error:
        raise CheckFailed(f"{bad.name}: the spec raises {type(error).__name__}, not JobError or ValueError") from None


def check_arguments(checks: Checks) -> str:
    """No method has changed an argument in the checks before."""
    if checks.changes:
        changes = " and ".join(f"{method} changes {argument}" for method, argument in checks.changes.items())
        raise CheckFailed(f"{changes}; change a copy, since workers give each call its own")
    return "no method changes its input or its parameters"


CHECKS: dict[str, Check] = {
    "example": check_example,
    "outputs": check_outputs,
    "other rows": check_other_rows,
    "order": check_order,
    "micro-batches": check_micro_batches,
    "retry": check_retry,
    "duplicates": check_duplicates,
    "determinism": check_determinism,
    "parameters": check_parameters,
    "bad inputs": check_bad_inputs,
    "arguments": check_arguments,
}
# Without these there is nothing to compare.
REQUIRED = frozenset(("example", "outputs"))

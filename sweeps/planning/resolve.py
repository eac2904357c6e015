"""From words to parameters, axes and seeds: every wrong word is answered here, several at once."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search_spaces.study import ARM, TUNING, Arm, Preset, Study
from sweeps.planning import weight_files
from sweeps.planning.cells import Space, sampled_names
from sweeps.planning.request import Setting
from sweeps.planning.seeds import parse_seeds
from trainables.errors import UsageError, did_you_mean
from trainables.recipes import Recipe
from trainables.spec import TrainingSpec, task_of
from trainables.spec.parameter import Parameter, field_of

MOST_CELLS = 1_000_000


@dataclass(frozen=True)
class Resolved:
    """A study with every word answered; what its data and weight files are is not known yet."""

    study: Study
    preset_name: str
    preset: Preset
    parameters: Mapping[str, Any]
    axes: Mapping[str, tuple[Any, ...]]
    pinned: Mapping[str, Any]  # Sampled parameters that the user fixed.
    seeds: Sequence[int]
    trials: int
    sources: Mapping[str, str] = field(default_factory=dict)  # Parameter -> where its value comes from.
    arms: Mapping[str, Arm] = field(default_factory=dict)  # With canonical names of parameters.
    share: bool = True  # Whether equal stages are trained once; else every trial has a chain of its own.

    @property
    def cell_count(self) -> int:
        """How many cells the study has."""
        if self.study.sampled:
            return self.trials
        return len(list(self.study.points(self.axes))) if self.arms else math.prod(len(v) for v in self.axes.values())

    @property
    def task(self) -> str:
        """What the networks are for."""
        return str(self.parameters.get("task", self.study.task))

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of what a sampled study optimises: the score, and for a Pareto search what is to be small."""
        return self.preset.objectives or ("score",)

    @property
    def space(self) -> Space | None:
        """What draws a cell of a sampled study."""
        return self.preset.space or self.study.space


def resolve(
    study: Study,
    *,
    preset: str = "demo",
    settings: Sequence[str] = (),
    seeds: str | int | None = None,
    trials: int | None = None,
    elsewhere: bool = False,
    share: bool = True,
    fitted: Preset | None = None,
) -> Resolved:
    """Answer every word of the command line; several mistakes are told at once.

    Args:
        study: What is asked.
        preset: One of the study's, by name.
        settings: `name=value`, as `--set` takes them.
        seeds: As `--seeds` takes them.
        trials: Cells of a study that draws them.
        elsewhere: Whether another data set is tested.
        share: Whether equal stages are trained once.
        fitted: The preset of that name, where it is made from the data.

    Raises:
        UsageError: With one line per mistake.
    """
    chosen = fitted if fitted is not None else study.presets.get(preset)
    if chosen is None:
        presets = study.preset_names
        raise UsageError(
            f"{study.name} has no preset '{preset}'.{did_you_mean(preset, presets)} It has {', '.join(presets)}."
        )
    words = _Words(study, preset, chosen, elsewhere)
    for text in settings:
        words.hear(text)
    words.settle()
    try:
        numbers = parse_seeds(seeds, chosen.seeds)
    except UsageError as error:
        words.mistakes.append(str(error))
        numbers = []
    count = words.number_of_trials(trials)
    words.check_size()
    if words.mistakes:
        raise UsageError("\n".join(re.sub(r"\d{60,}", _digits, mistake) for mistake in words.mistakes))
    return Resolved(
        study,
        preset,
        chosen,
        words.parameters,
        words.axes,
        words.pinned,
        numbers,
        count,
        words.sources,
        words.arms,
        share=share,
    )


class _Words:
    """A study's parameters, axes and arms under a preset, while the words of `--set` are laid over them."""

    def __init__(self, study: Study, preset_name: str, preset: Preset, elsewhere: bool) -> None:
        recipe = study.recipe
        self.study, self.recipe, self.preset, self.elsewhere = study, recipe, preset, elsewhere
        self.mistakes: list[str] = []
        self.parameters = {recipe.canonical(k): recipe.coerce(k, v) for k, v in preset.parameters.items()}
        if study.task != TrainingSpec.task:
            self.parameters.setdefault("task", study.task)
        self.sources = dict.fromkeys(self.parameters, f"preset {preset_name}")
        if elsewhere:
            # Nothing of the training data is tested, so all its classes are trained on.
            self.parameters["held_out"] = 0.0
            self.sources["held_out"] = "--test-data"
        self._of_study = (ARM, TUNING) if study.arms else ()
        self.axes = {self._full(name): tuple(values) for name, values in (preset.axes or study.axes).items()}
        self.arms = {name: _canonical_arm(arm, preset.arms.get(name, {}), recipe) for name, arm in study.arms.items()}
        self.drawn = sampled_names(preset.space or study.space)
        self.pinned: dict[str, Any] = {}
        self.said: dict[str, tuple[Any, ...]] = {}  # Parameter -> its values on the command line.

    def _full(self, name: str) -> str:
        return name if name in self._of_study else self.recipe.canonical(name)

    def hear(self, text: str) -> None:
        """Take in one word of `--set`."""
        setting = Setting.parse(text)
        if not setting.whole:
            self.mistakes.append(f"--set takes name=value, got '{text}'.")
        elif setting.name in ("seed", "seeds"):
            self.mistakes.append("Seeds are set with --seeds, for example --seeds 5.")
        elif setting.name == "data":
            self.mistakes.append("The data set is chosen with --data, for example --data cifar100.")
        else:
            try:
                self._hear_values(setting, text)
            except UsageError as error:
                self.mistakes.append(self._of_this_study(str(error)))

    def _hear_values(self, setting: Setting, text: str) -> None:
        name = setting.name
        full = self._full(name)
        if "" in setting.values:
            raise UsageError(f"{name} needs a value, got '{text}'.")
        if full in self._of_study:
            values = [_arm_value(self.study, name, part) for part in setting.values]
        else:
            values = [self.recipe.coerce(name, part) for part in setting.values]
        self.said[full] = tuple(dict.fromkeys(values))

    def _of_this_study(self, sentence: str) -> str:
        recipe = f"recipe {self.recipe.name}"
        if recipe not in sentence:
            return sentence
        name = self.study.name
        return sentence.replace(recipe, name) + f" `python -m sweeps params {name}` lists them all."

    def settle(self) -> None:
        """Lay the words over what the study and its preset say."""
        study, said = self.study, self.said
        for full in [name for name in said if study.arms and field_of(name) in ("route", "method")]:
            self.mistakes.append(
                f"{full} is what the arms of {study.name} decide. Choose among them with --set arm=NAME,...: "
                f"{', '.join(study.arms)}."
            )
            del said[full]
        if len(said.get("task", ())) > 1:
            self.mistakes.append("task takes one value: scores of different tasks cannot be compared.")
        for full, values in said.items():
            self._outrank(full)
            self._lay(full, values)
        self.mistakes += weight_files.settle_words(study, self.parameters, self.sources, self.axes, said)
        task = str(self.parameters.get("task", TrainingSpec.task))
        if self.elsewhere and task_of(task).known_classes:
            self.mistakes.append(f"--test-data is for tasks that compare images; {study.name} is about {task}.")
        if self.elsewhere and "held_out" in said:
            self.mistakes.append("held_out means nothing with --test-data: all of that data set is tested.")

    def _outrank(self, full: str) -> None:
        """A word for all stages outranks what the preset says for one of them, unless the study varies it: then what is
        pinned for one stage is meant."""
        parameter = Parameter.parse(full, self.recipe.roles)
        if not parameter.role and full not in self.axes:
            for role in self.recipe.roles:
                of_stage = parameter.of_stage(role).name
                if of_stage not in self.said:
                    self.parameters.pop(of_stage, None)

    def _lay(self, full: str, values: tuple[Any, ...]) -> None:
        if full in self._of_study:
            self.axes[full] = values
            self.sources[full] = "--set"
        elif full in self.drawn:
            if len(values) > 1:
                self.mistakes.append(
                    f"{full} is drawn by this study ({self.drawn[full]}); --set can only fix it to one value."
                )
            self.pinned[full] = values[0]
        elif full in self.axes:
            self.axes[full] = values
        elif len(values) > 1:
            if self.study.sampled:
                self.mistakes.append(
                    f"{self.study.name} draws its cells; {full} can take one value, got {len(values)}."
                )
            self.parameters.pop(full, None)
            self.axes[full] = values
        else:
            self.parameters[full] = values[0]
            self.sources[full] = "--set"

    def number_of_trials(self, trials: int | None) -> int:
        """How many cells are drawn: what `--trials` says, else the preset."""
        if trials is None:
            return self.preset.trials
        if not self.study.sampled:
            self.mistakes.append(
                f"--trials is for studies that draw their cells; {self.study.name} has a fixed grid of "
                f"{math.prod(len(v) for v in self.axes.values())}."
            )
        elif not 1 <= trials <= MOST_CELLS:
            self.mistakes.append(f"--trials must be a whole number from 1 to {MOST_CELLS}, got {trials}.")
        return trials

    def check_size(self) -> None:
        """Refuse tunings of different lengths and grids that are too large."""
        cells = math.prod(len(v) for v in self.axes.values())
        tuned = [arm for name, arm in self.arms.items() if arm.tuning and name in self.axes.get(ARM, ())]
        if TUNING in self.axes and len({len(arm.tuning) for arm in tuned}) > 1:
            self.mistakes.append(f"Every arm of {self.study.name} must have equally many tuning trials.")
        if cells > MOST_CELLS:
            self.mistakes.append(f"A grid may have at most {MOST_CELLS:,} cells, got {cells:,}. Leave out values.")


def _digits(match: re.Match[str]) -> str:
    return f"{match[0][:20]}... ({len(match[0])} digits)"


def _canonical_arm(arm: Arm, more: Mapping[str, Any], recipe: Recipe) -> Arm:
    def full(parameters: Mapping[str, Any]) -> dict[str, Any]:
        return {recipe.canonical(k): recipe.coerce(k, v) for k, v in parameters.items()}

    return dataclasses.replace(
        arm,
        parameters=full(arm.parameters) | full(more),
        tuning=tuple(full(trial) for trial in arm.tuning),
        ignores=tuple(recipe.canonical(name) for name in arm.ignores),
    )


def _arm_value(study: Study, name: str, value: str) -> Any:
    """A value of the axis `arm` or `tuning`.

    Raises:
        UsageError: If the study has no such arm, or not so many tuning trials.
    """
    if name == ARM:
        if value not in study.arms:
            raise UsageError(
                f"{study.name} has no arm '{value}'.{did_you_mean(value, study.arms)} It has {', '.join(study.arms)}."
            )
        return value
    most = max((len(arm.tuning) for arm in study.arms.values()), default=0)
    number = int(value) if value.isdigit() else -1
    if not 0 <= number < most:
        raise UsageError(f"tuning must be from 0 to {most - 1} for {study.name}, got {value}.")
    return number

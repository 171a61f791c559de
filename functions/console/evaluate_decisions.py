"""Goes through a log decision by decision: each is judged by what candidates knew before it, alone or as a slate."""

from __future__ import annotations

from collections.abc import Sequence

from functions.console.candidate import Candidate
from functions.console.decided_items import DecidedItems
from functions.console.evaluation_log import EvaluationLog, Survey, usable
from functions.console.evaluation_report import Report, judge
from functions.console.evaluation_task import Task
from functions.console.failure import ConsoleFailure
from functions.console.progress import counting
from functions.console.progressive import Progress


def evaluate_decisions(reader: DecidedItems, given: Sequence[Candidate], sizes: tuple[int, int], task: Task) -> Report:
    """Judge `given` by the decisions of the log; `sizes`: how many are judged, and learned from. Raises `ConsoleFailure`."""
    survey = Survey()
    with counting("decisions surveyed", sizes[0]) as advance:
        for items in reader.decisions(task.began, task.until, advance):
            if usable(items, reader.left_out, slates=False) and (items[0].settled or not task.settled):
                survey.look_at(items)
    reader.left_out.clear()
    if not survey.decisions:
        message = "there is no decision to judge in this span"
        raise ConsoleFailure(message, field="from")
    judged = EvaluationLog(survey, len(given))
    progress = Progress(
        given, reader.spec, task.block(sizes[1]), trained_from=task.began, train_every_s=task.train_every_s
    )
    with counting("decisions judged", sizes[1]) as advance:
        for items in reader.decisions(task.learned, task.until, advance):
            decided_at = items[0].stored.decided_at
            progress.go_on(decided_at)
            if decided_at >= task.began and usable(items, reader.left_out, slates=survey.has_slates):
                if task.settled and not items[0].settled:
                    reader.left_out["reward window not over"] += 1
                else:
                    judged.add(items, progress.judge(items))
            progress.remember(items)
    return judge(reader, judged, survey, given, progress.blocks)

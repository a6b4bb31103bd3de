"""The Fine-tune tab: it starts runs, shows their verdict, and adopts or discards the new model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_info
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_skinseg.errors import BadInput
from napari_skinseg.events import Event
from napari_skinseg.finetuning.evidence import Evidence
from napari_skinseg.finetuning.options import FineTuneOptions, FineTuneOutcome
from napari_skinseg.finetuning.runs import discard, list_fine_tuned, revert
from napari_skinseg.finetuning.verdict import Verdict
from napari_skinseg.models import store
from napari_skinseg.models.store import StoredModel
from napari_skinseg.plugin.background import Job, LatestJob, Outcome, RemainingTime
from napari_skinseg.plugin.close_guard import CloseGuard
from napari_skinseg.plugin.session import Session, preferred_model, report_failure
from napari_skinseg.project.project import SUBFOLDER

from .form import FineTuneForm
from .verdict_card import CHOSEN, OTHER
from .worker import Pause, SourceState, Unfinished, adopt_and_discard, find_project, read_source, run


class FineTunePanel(FineTuneForm):
    """Runs work in the workers of `Session.training`; the default model changes only when the user presses a button."""

    title = "Fine-tune"

    def __init__(self, session: Session) -> None:
        super().__init__(session.training)
        self._session, self._background = session, session.training
        self._run: Job | None = None
        self._pause = Pause()
        self._remaining, self._discard_run = RemainingTime(1), False
        self._last_event: Event | None = None
        self._outcome: FineTuneOutcome | None = None  # of a complete run whose candidate waits for a decision
        self._evidence: Evidence | None = None
        self._unfinished: Unfinished | None = None
        self._reviewed: Path | None = None
        self._notify_if_empty = False
        self._source_reader = LatestJob(self._background, "reading the corrections", self._on_source_read)
        # Closing the dock stops the run, because nothing would show it any more.
        self._close_guard = CloseGuard(self, on_dock_closed=self._stop)
        self._progress_timer = QTimer(self, singleShot=True, interval=200)  # each change repaints the progress bar
        self._connect()
        self.refresh_models()

    # Actions of the user

    def use_folder(self, folder: Path) -> None:
        """Choose this project, or this folder of photos with masks, as source."""
        self._add_source(find_project(folder), folder.name)
        self._read_source(notify_if_empty=True)

    def match_border(self) -> None:
        """Fit the border of the base to all corrections so far, without training."""
        self._start(drop=self._folder_to_drop(), border_only=True)

    def start(self) -> None:
        """Match the border and fine-tune on all corrections so far; discard an unfinished or undecided run."""
        self._start(drop=self._folder_to_drop())

    def resume(self) -> None:
        """Continue an unfinished run."""
        unfinished = self._unfinished
        if unfinished is not None:
            self.base.setCurrentIndex(max(0, self.base.findData(unfinished.base)))
            self.options.show_value(unfinished.options)
            self._start(drop=None)

    def _start(self, drop: Path | None, *, border_only: bool = False) -> None:
        source, base = self.source.currentData(), self.base.currentData()
        if self._run is not None:
            return
        try:
            if source is None:
                raise BadInput("There is nothing to learn from; open a folder in Review, or choose one with “…”.")
            if base is None:
                raise BadInput("There is no model to start from; add one: napari-skinseg models add FILE.")
            options = replace(self.options.value(), border_only=border_only)
            if self._evidence is not None:
                self._evidence.check_enough(options)
            if any(model.name == options.name for model in store.list_models()):
                raise BadInput(f"There is a model named {options.name} already; choose another name for the new one.")
        except BadInput as error:
            self.say(report_failure(error, "Fine-tuning"), is_problem=True)
            return
        self._remaining = RemainingTime(options.passes * (options.folds + 1))
        self._discard_run, self._last_event = False, None
        self._pause = pause = Pause()
        self._forget_outcome()
        self.say("")
        self.ask("")
        self.curve.clear_points()
        self.show_running(True)
        segmenters, activity = self._session.segmenters, self._session.activity
        self._run = self._background.start(
            "fine-tuning",
            lambda report, cancel: run(
                source, base, options, drop, segmenters, report, cancel, pause, activity.is_recent
            ),
            self._on_end,
            self._on_report,
        )

    def pause(self) -> None:
        """Let the run wait, or go on."""
        self._pause.set(not self._pause.is_set)
        self._remaining = RemainingTime(self._remaining.parts)  # the time of the pause does not count
        self.show_paused(self._pause.is_set)
        self._show_progress_of_run()

    def cancel(self) -> None:
        """Stop and discard the run; no model is changed."""
        self._discard_run = True
        self._stop()

    def use_border(self) -> None:
        """Make the base with the border of the person the default model; ask first if it is not better."""
        if self._outcome is not None and self._outcome.border is not None:
            self._adopt(self._outcome, self._outcome.border.model, self._outcome.border.verdict)

    def adopt(self) -> None:
        """Make the candidate the default model; ask first if it is not better."""
        outcome = self._outcome
        if outcome is not None and outcome.verdict is not None and outcome.candidate is not None:
            self._adopt(outcome, outcome.candidate, outcome.verdict)

    def _adopt(self, outcome: FineTuneOutcome, model: Path, verdict: Verdict) -> None:
        if not verdict.better:
            buttons = QMessageBox.StandardButton
            answer = QMessageBox.question(
                self,
                "Adopt anyway?",
                f"{verdict.sentence}\n\nUse it anyway? Revert makes the base the default again at any time.",
                buttons.Yes | buttons.No,
                buttons.No,
            )
            if answer != buttons.Yes:
                return

        def adopted(model: StoredModel) -> None:
            self._forget_outcome()
            self._announce_model(model.name, f"{model.name} is now the model in all tabs.")

        self._change("Adopting the new model", lambda: adopt_and_discard(outcome, model), adopted)

    def keep_base(self) -> None:
        """Discard the new models."""
        if self._outcome is None:
            return
        self._discard(self._outcome.folder)
        self._forget_outcome()
        self.say("The base is kept; what was new was deleted.")

    # Qt

    def showEvent(self, event: QShowEvent) -> None:
        """Read the source again, because there may be new corrections."""
        super().showEvent(event)
        self._close_guard.watch()
        if not event.spontaneous() and self._run is None:
            self._add_reviewed_project()
            self.refresh_models()
            if self.source.currentData() is not None:
                self._read_source(notify_if_empty=False)

    # Models and sources

    def refresh_models(self, *_: str) -> None:
        """List the models to start from, and the fine-tuned models."""
        models = store.list_models()
        tuned = {model.name: model for model in list_fine_tuned(models)}
        usable = [model.name for model in models if model.problem is None]
        in_use = store.default_name()
        chosen = self.base.currentData() or _original_base(in_use, tuned, usable)
        self.base.blockSignals(True)
        self.base.clear()
        for name in usable:
            self.base.addItem(f"{name} (already fine-tuned)" if name in tuned else name, name)
        self.base.setCurrentIndex(usable.index(chosen) if chosen in usable else 0 if usable else -1)
        self.base.blockSignals(False)
        self._on_base()
        self.history.show_models(list(tuned.values()), in_use)
        spec = tuned[in_use].spec if in_use in tuned else None
        has_border = spec is not None and not spec.guarded and spec.border is not None
        self.off_button.setVisible(has_border)
        self.off_button.setText("Turn off my border")
        self.off_button.setToolTip(f"{in_use} is in use. Go back to the base, whose border is not changed.")

    def _add_reviewed_project(self) -> None:
        """Add the project that is open in Review to the sources; choose it if it was opened since the last call."""
        project = self._session.project
        if project is not None and project != self._reviewed:
            name = project.parent.name if project.name == SUBFOLDER else project.name
            self._add_source(project, f"{name} (in Review)")
        self._reviewed = project

    def _add_source(self, path: Path, label: str) -> None:
        paths = [self.source.itemData(index) for index in range(self.source.count())]
        if path not in paths:
            self.source.addItem(label, path)
            self.source.setItemData(self.source.count() - 1, str(path), Qt.ItemDataRole.ToolTipRole)
            paths.append(path)
        self.source.setCurrentIndex(paths.index(path))

    def _read_source(self, *, notify_if_empty: bool) -> None:
        self._notify_if_empty, self._evidence, self._unfinished = notify_if_empty, None, None
        source = self.source.currentData()
        self.evidence.setText("Reading your corrections…")
        self.ask("")
        self._source_reader.request(lambda report, cancel: read_source(source, cancel))

    def _on_source_read(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            # Do not show a notification when the panel was only opened and there is no correction yet.
            if isinstance(outcome.error, BadInput) and not self._notify_if_empty:
                self.evidence.setText(str(outcome.error))
            else:
                self.evidence.setText(report_failure(outcome.error, "Reading your corrections"))
        elif outcome.state == "done" and self._run is None:
            state: SourceState = outcome.result
            self._evidence, self._unfinished = state.evidence, state.unfinished
            self._show_evidence()
            self._show_undecided(state.undecided)
            if state.unfinished is not None and self._outcome is None:
                self.ask(f"Continue the run of {state.unfinished.started}? It was not finished.")

    def _show_undecided(self, outcome: FineTuneOutcome | None) -> None:
        """Show the verdict of the last run on this source, which may be older than this session."""
        shown = self._outcome
        if (None if shown is None else shown.folder) == (None if outcome is None else outcome.folder):
            return
        self._outcome = outcome
        self._show_verdicts(outcome)
        self.say(
            "" if outcome is None else "This run waits for your decision: use one of the results, or keep the base."
        )

    def _show_verdicts(self, outcome: FineTuneOutcome | None) -> None:
        """Show the verdict of each step of a run; a border that changes nothing needs no decision."""
        border = None if outcome is None else outcome.border
        trained = None if outcome is None or (border and outcome.candidate == border.model) else outcome.verdict
        for card, verdict in ((self.border, None if border is None else border.verdict), (self.verdict, trained)):
            if verdict is None:
                card.clear()
            else:
                card.show_verdict(verdict)
        advised = None if outcome is None else outcome.recommended
        self.keep_button.setVisible(outcome is not None)
        self.keep_button.setStyleSheet(OTHER if advised else CHOSEN)
        if border is not None and trained is not None and trained.better:  # it contains the border
            self.border.adopt_button.setStyleSheet(OTHER)

    def _show_evidence(self, *_: int) -> None:
        if self._evidence is None:
            return
        try:
            options = self.options.value()
        except BadInput:
            options = FineTuneOptions()  # Start will report the wrong option
        missing = self._evidence.missing(options)
        self.evidence.setText(" ".join(part for part in (f"{self._evidence.describe(options)}.", missing) if part))
        self.evidence.setToolTip("\n".join(why for _, why in self._evidence.left_out[:20]))

    # A run

    def _on_report(self, event: Event) -> None:
        self.curve.add(event)
        if event.stage == "message":
            self.say(event.message)
            show_info(event.message)
        elif event.stage != "validated":
            self._last_event = event
            if not self._progress_timer.isActive():
                self._progress_timer.start()

    def _show_progress_of_run(self) -> None:
        event = self._last_event
        if event is None or self._run is None:
            return
        if self._pause.is_set:
            text = "%p % · paused"
        elif event.stage == "train":
            left = self._remaining.describe(event.done, event.total)
            text = " · ".join(part for part in ("%p %", left) if part)
        else:
            text = _STAGES.get(event.stage, "%p %")
        self.show_progress(event.done, event.total, text)

    def _stop(self) -> None:
        """Stop the run; the same source can continue it later."""
        if self._run is not None:
            self._run.cancel()
            self.show_cancelling()

    def _on_end(self, outcome: Outcome) -> None:
        self._run = None
        self.show_running(False)
        result: FineTuneOutcome | None = outcome.result
        if outcome.error is not None:
            self.say(report_failure(outcome.error, "Fine-tuning"), is_problem=True)
        elif result is None or result.cancelled or result.verdict is None or result.candidate is None:
            self.say("Cancelled; no model was changed.")
            if result is not None and self._discard_run:
                self._discard(result.folder)
        else:
            self._outcome = result
            self._show_verdicts(result)
            QTimer.singleShot(0, self.show_verdict_in_view)
            steps = [] if result.border is None else [result.border.verdict]
            sentences = [one.sentence for one in (*steps, result.verdict) if one.measured]
            show_info(" ".join(dict.fromkeys(sentences)))

    def _discard(self, folder: Path) -> None:
        self._background.start("deleting a run", lambda report, cancel: discard(folder), lambda outcome: None)

    def _folder_to_drop(self) -> Path | None:
        run = self._outcome or self._unfinished
        return None if run is None else run.folder

    def _forget_outcome(self) -> None:
        self._outcome = self._unfinished = None
        self._show_verdicts(None)

    # Models

    def _change(self, what: str, work: Callable[[], StoredModel], then: Callable[[StoredModel], None]) -> None:
        """Change the models of this computer in a worker, and call `then` with the result."""
        self.setEnabled(False)

        def on_end(outcome: Outcome) -> None:
            self.setEnabled(True)
            if outcome.error is not None:
                self.say(report_failure(outcome.error, what), is_problem=True)
            elif outcome.state == "done":
                then(outcome.result)

        self._background.start(what.lower(), lambda report, cancel: work(), on_end)

    def _revert(self, name: str) -> None:
        self._change(
            f"Going back from {name}",
            lambda: revert(name),
            lambda base: self._announce_model(
                base.name, f"{base.name} is again the model in all tabs; {name} is kept."
            ),
        )

    def _use(self, name: str) -> None:
        def work() -> StoredModel:
            store.set_default(name)
            return store.find(name)

        sentence = f"{name} is now the model in all tabs."
        self._change(f"Choosing {name}", work, lambda model: self._announce_model(name, sentence))

    def _announce_model(self, name: str, sentence: str) -> None:
        self._session.models_changed.emit(name)
        if preferred_model() not in ("", name):
            sentence += f" But napari's preferences choose {preferred_model()} for the next session; clear it there."
        self.say(sentence)

    # Connections

    def _connect(self) -> None:
        self._progress_timer.timeout.connect(self._show_progress_of_run)
        self.border_button.clicked.connect(self.match_border)
        self.start_button.clicked.connect(self.start)
        self.pause_button.clicked.connect(self.pause)
        self.resume_button.clicked.connect(self.resume)
        self.restart_button.clicked.connect(self.start)
        self.cancel_button.clicked.connect(self.cancel)
        self.folder_button.clicked.connect(self._choose_folder)
        self.source.activated.connect(lambda index: self._read_source(notify_if_empty=True))
        self.base.currentIndexChanged.connect(self._on_base)
        self.options.editors["folds"].changed.connect(self._show_evidence)
        self.verdict.adopt_button.clicked.connect(self.adopt)
        self.border.adopt_button.clicked.connect(self.use_border)
        self.keep_button.clicked.connect(self.keep_base)
        self.off_button.clicked.connect(lambda: self._revert(store.default_name()))
        self.history.revert_requested.connect(self._revert)
        self.history.use_requested.connect(self._use)
        self._session.models_changed.connect(self.refresh_models)

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "A project, or a folder of photos with masks")
        if folder:
            self.use_folder(Path(folder))

    def _on_base(self, *_: Any) -> None:
        self.options.suggest_name(self.base.currentData() or "model")


_STAGES = {
    "read": "Reading the photos…",
    "judge": "Segmenting with the base…",
    "border": "Preparing the training…",
    "phantoms": "Segmenting generated photos…",
    "resumed": "Continuing…",
}


def _original_base(name: str, tuned: dict[str, StoredModel], usable: list[str]) -> str:
    """The model that `name` was originally fine-tuned from: a new run starts there, with all corrections so far."""
    while name in tuned:
        spec = tuned[name].spec
        base = "" if spec is None else spec.provenance.get("base", "")
        if base not in usable or base == name:
            break
        name = base
    return name

"""The Fine-tune tab: a model learns to draw as the person does, and is judged before it is trusted."""

from collections.abc import Callable
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
from napari_skinseg.finetuning.runs import discard, history, revert
from napari_skinseg.models import store
from napari_skinseg.models.store import StoredModel
from napari_skinseg.plugin.background import Job, LatestJob, Outcome
from napari_skinseg.plugin.close_guard import Door
from napari_skinseg.plugin.session import Session, preferred_model, report_failure
from napari_skinseg.project.project import SUBFOLDER

from .form import FineTuneForm
from .worker import Clock, Outlook, Unfinished, adopt_and_tidy, look, project_in, run


class FineTunePanel(FineTuneForm):
    """Starts runs in workers of its own, shows what they say, and changes the model only when told to."""

    title = "Fine-tune"

    def __init__(self, session: Session) -> None:
        super().__init__(session.training)
        self._session, self._background = session, session.training
        self._run: Job | None = None
        self._clock, self._is_unwanted = Clock(FineTuneOptions()), False
        self._step: Event | None = None
        self._outcome: FineTuneOutcome | None = None  # judged, and not decided yet
        self._found: Evidence | None = None
        self._unfinished: Unfinished | None = None
        self._reviewed: Path | None = None
        self._aloud = False
        self._looker = LatestJob(self._background, "looking at the corrections", self._on_look)
        # A dock that closes would leave a run behind that nobody sees any more.
        self._door = Door(self, lambda: "", lambda: None, self._stop)
        self._pause = QTimer(self, singleShot=True, interval=200)  # a progress bar repaints at once, each time
        self._connect()
        self.refresh_models()

    # What a person does

    def use_folder(self, folder: Path) -> None:
        """Learn from this project, or folder of photos with masks."""
        self._add_source(project_in(folder), folder.name)
        self._look(aloud=True)

    def start(self) -> None:
        """Fine-tune with all corrections so far; an unfinished run, or a candidate nobody wanted, is dropped."""
        self._start(drop=self._to_drop())

    def go_on(self) -> None:
        """Take up an unfinished run."""
        unfinished = self._unfinished
        if unfinished is not None:
            self.base.setCurrentIndex(max(0, self.base.findData(unfinished.base)))
            self.options.show_value(unfinished.options)
            self._start(drop=None)

    def _start(self, drop: Path | None) -> None:
        source, base = self.source.currentData(), self.base.currentData()
        if self._run is not None:
            return
        try:
            if source is None:
                raise BadInput("There is nothing to learn from; open a folder in Review, or choose one with “…”.")
            if base is None:
                raise BadInput("There is no model to start from; add one: napari-skinseg models add FILE.")
            options = self.options.value()
            if any(model.name == options.name for model in store.list_models()):
                raise BadInput(f"There is a model named {options.name} already; choose another name for the new one.")
        except BadInput as error:
            self.say(report_failure(error, "Fine-tuning"), is_problem=True)
            return
        self._clock, self._is_unwanted, self._step = Clock(options), False, None
        self._decided()
        self.say("")
        self.ask("")
        self.curve.clear_points()
        self.show_running(True)
        self._run = self._background.start(
            "fine-tuning",
            lambda report, cancel: run(source, base, options, drop, self._session.segmenters, report, cancel),
            self._on_end,
            self._on_report,
        )

    def cancel(self) -> None:
        """Stop the run and drop it; no model changes."""
        self._is_unwanted = True
        self._stop()

    def adopt(self) -> None:
        """Use the candidate from now on; one that is not better only after a second yes."""
        outcome = self._outcome
        if outcome is None or outcome.verdict is None:
            return
        verdict = outcome.verdict
        if not verdict.better:
            buttons = QMessageBox.StandardButton
            answer = QMessageBox.question(
                self,
                "Adopt anyway?",
                f"{verdict.sentence}\n\nUse the new model all the same? Revert brings the base back at any time.",
                buttons.Yes | buttons.No,
                buttons.No,
            )
            if answer != buttons.Yes:
                return

        def adopted(model: StoredModel) -> None:
            self._decided()
            self._now_in_use(model.name, f"{model.name} is the model now, in all tabs.")

        self._change("Adopting the new model", lambda: adopt_and_tidy(outcome), adopted)

    def keep_base(self) -> None:
        """Drop the candidate."""
        if self._outcome is None:
            return
        self._discard(self._outcome.folder)
        self._decided()
        self.say("The base is kept; the new model was dropped.")

    # Qt

    def showEvent(self, event: QShowEvent) -> None:
        """See what there is to learn from by now."""
        super().showEvent(event)
        self._door.watch()
        if not event.spontaneous() and self._run is None:
            self._take_reviewed()
            self.refresh_models()
            if self.source.currentData() is not None:
                self._look(aloud=False)

    # What there is

    def refresh_models(self, *_: str) -> None:
        """List the models to start from, and those made here."""
        tuned = {model.name: model for model in history()}
        usable = [model.name for model in store.list_models() if model.problem is None]
        in_use = store.default_name()
        chosen = self.base.currentData() or _root(in_use, tuned, usable)
        self.base.blockSignals(True)
        self.base.clear()
        for name in usable:
            self.base.addItem(f"{name} (go on from a fine-tuned one)" if name in tuned else name, name)
        self.base.setCurrentIndex(usable.index(chosen) if chosen in usable else 0 if usable else -1)
        self.base.blockSignals(False)
        self._on_base()
        self.history.show_models(list(tuned.values()), in_use)

    def _take_reviewed(self) -> None:
        """Offer the project that is open in Review; a newly opened one is chosen."""
        project = self._session.project
        if project is not None and project != self._reviewed:
            name = project.parent.name if project.name == SUBFOLDER else project.name
            self._add_source(project, f"{name} (in Review)")
        self._reviewed = project

    def _add_source(self, path: Path, words: str) -> None:
        paths = [self.source.itemData(index) for index in range(self.source.count())]
        if path not in paths:
            self.source.addItem(words, path)
            self.source.setItemData(self.source.count() - 1, str(path), Qt.ItemDataRole.ToolTipRole)
            paths.append(path)
        self.source.setCurrentIndex(paths.index(path))

    def _look(self, *, aloud: bool) -> None:
        self._aloud, self._found, self._unfinished = aloud, None, None
        source = self.source.currentData()
        self.evidence.setText("Looking at your corrections…")
        self.ask("")
        self._looker.request(lambda report, cancel: look(source, cancel))

    def _on_look(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            # Who only looks in need not be told loudly that there is nothing yet.
            is_quiet = isinstance(outcome.error, BadInput) and not self._aloud
            self.evidence.setText(
                str(outcome.error) if is_quiet else report_failure(outcome.error, "Looking at your corrections")
            )
        elif outcome.state == "done" and self._run is None:
            found: Outlook = outcome.result
            self._found, self._unfinished = found.evidence, found.unfinished
            self._show_found()
            self._offer_again(found.undecided)
            if found.unfinished is not None and self._outcome is None:
                self.ask(f"Go on with the run of {found.unfinished.began}? It was not finished.")

    def _offer_again(self, left: FineTuneOutcome | None) -> None:
        """Show the verdict on the last run of what is chosen now, perhaps from before napari was closed."""
        shown = self._outcome
        if (None if shown is None else shown.folder) == (None if left is None else left.folder):
            return
        self._outcome = left
        if left is None or left.verdict is None:
            self.verdict.clear()
            self.say("")
        else:
            self.verdict.show_verdict(left.verdict)
            self.say("This run is waiting for your decision: adopt the new model, or keep the base.")

    def _show_found(self, *_: int) -> None:
        if self._found is None:
            return
        try:
            options = self.options.value()
        except BadInput:
            options = FineTuneOptions()  # Start will say what is wrong with them
        self.evidence.setText(self._found.describe(options))
        self.evidence.setToolTip("\n".join(why for _, why in self._found.left_out[:20]))

    # A run

    def _on_report(self, event: Event) -> None:
        self.curve.add(event)
        if event.stage == "message":
            self.say(event.message)
            show_info(event.message)
        elif event.stage != "validated":
            self._step = event
            if not self._pause.isActive():
                self._pause.start()

    def _show_step(self) -> None:
        event = self._step
        if event is None or self._run is None:
            return
        if event.stage == "train":
            left = self._clock.in_words(event.done, event.total)
            text = " · ".join(part for part in ("%p %", left) if part)
        else:
            text = _STAGES.get(event.stage, "%p %")
        self.show_progress(event.done, event.total, text)

    def _stop(self) -> None:
        """Stop the run; it can be gone on with."""
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
            self.say("Cancelled; the model you have stays as it is.")
            if result is not None and self._is_unwanted:
                self._discard(result.folder)
        else:
            self._outcome = result
            self.verdict.show_verdict(result.verdict)
            QTimer.singleShot(0, self.show_verdict_in_view)
            show_info(f"Fine-tuning is done. {result.verdict.sentence}")

    def _discard(self, folder: Path) -> None:
        self._background.start("tidying up", lambda report, cancel: discard(folder), lambda outcome: None)

    def _to_drop(self) -> Path | None:
        left = self._outcome or self._unfinished
        return None if left is None else left.folder

    def _decided(self) -> None:
        self._outcome = self._unfinished = None
        self.verdict.clear()

    # Models

    def _change(self, what: str, work: Callable[[], StoredModel], then: Callable[[StoredModel], None]) -> None:
        """Have something done to this computer's models."""
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
            lambda base: self._now_in_use(base.name, f"{base.name} is the model again, in all tabs; {name} is kept."),
        )

    def _use(self, name: str) -> None:
        def work() -> StoredModel:
            store.set_default(name)
            return store.find(name)

        self._change(f"Choosing {name}", work, lambda model: self._now_in_use(name, f"{name} is the model now."))

    def _now_in_use(self, name: str, words: str) -> None:
        self._session.models_changed.emit(name)
        if preferred_model() not in ("", name):
            words += f" napari's preferences name {preferred_model()} to begin with the next time; clear that there."
        self.say(words)

    # Wiring

    def _connect(self) -> None:
        self._pause.timeout.connect(self._show_step)
        self.start_button.clicked.connect(self.start)
        self.go_on_button.clicked.connect(self.go_on)
        self.anew_button.clicked.connect(self.start)
        self.cancel_button.clicked.connect(self.cancel)
        self.folder_button.clicked.connect(self._choose_folder)
        self.source.activated.connect(lambda index: self._look(aloud=True))
        self.base.currentIndexChanged.connect(self._on_base)
        self.options.editors["folds"].changed.connect(self._show_found)
        self.verdict.adopt_button.clicked.connect(self.adopt)
        self.verdict.keep_button.clicked.connect(self.keep_base)
        self.history.wants_revert.connect(self._revert)
        self.history.wants_use.connect(self._use)
        self._session.models_changed.connect(self.refresh_models)

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "A project, or a folder of photos with masks")
        if folder:
            self.use_folder(Path(folder))

    def _on_base(self, *_: Any) -> None:
        self.options.suggest_name(self.base.currentData() or "model")


_STAGES = {
    "read": "Reading the photos…",
    "judge": "Judging both models…",
    "phantoms": "Checking that nothing was forgotten…",
    "resumed": "Going on…",
}


def _root(name: str, tuned: dict[str, StoredModel], usable: list[str]) -> str:
    """The model that `name` was once fine-tuned from: a new run starts there, with all corrections so far."""
    while name in tuned:
        spec = tuned[name].spec
        base = "" if spec is None else spec.provenance.get("base", "")
        if base not in usable or base == name:
            break
        name = base
    return name

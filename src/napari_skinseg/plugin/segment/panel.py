"""The Segment tab: outlines the lesion in photos that are open in the viewer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray
from qtpy.QtCore import QEventLoop, Qt, QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_skinseg.errors import BadInput
from napari_skinseg.events import CancelToken, Event
from napari_skinseg.measurement.measure import measure_labels
from napari_skinseg.models import store
from napari_skinseg.pixels.cleaning import label_pieces
from napari_skinseg.plugin.background import Job, LatestJob, Outcome, RemainingTime, Report
from napari_skinseg.plugin.correct.brush import explain_blocked_strokes
from napari_skinseg.plugin.correct.refine_tool import RefineTool
from napari_skinseg.plugin.correct.scale_tool import ScaleTool
from napari_skinseg.plugin.keys import KeyBindings, preferred_keys
from napari_skinseg.plugin.layers import (
    KEY,
    LayerPhoto,
    covering_photos,
    find_photo_layer,
    free_mask_path,
    is_photo,
    photo_from_layer,
    photos_in_layer,
    show_alone,
)
from napari_skinseg.plugin.manifest.writers import write_mask_and_record
from napari_skinseg.plugin.mask_layers import (
    MaskEdit,
    find_mask,
    is_edited,
    is_photo_open,
    is_unsaved,
    layer_checksum,
    mark_saved,
    show_as_outline,
    show_mask,
    show_probability,
    written_provenance,
)
from napari_skinseg.plugin.session import Session, preferred_device, preferred_model, report_failure
from napari_skinseg.segmentation.border import Border
from napari_skinseg.segmentation.confidence import MaskDecision, describe_confidence

from .folder import segment_folder
from .form import SegmentForm
from .mask_monitor import MaskMonitor
from .unsaved_masks import UnsavedMasksGuard
from .worker import Failure, Result, ResultStore, change_options, prepare_first_mask, segment_photos

_MASK_FILES, _LABEL_FILES = "Mask, black and white (*.png)", "Labels 1, 2, 3… (*.png)"
_KEEP_LABELS = "to keep them apart, save again and choose the file type Labels."


class SegmentPanel(SegmentForm):
    """Starts workers and shows their masks; asks before it replaces a mask that the user changed."""

    title = "Segment"

    def __init__(self, session: Session) -> None:
        viewer = session.viewer
        refine = RefineTool(session, self._refine_target, lambda: self.options.value())
        super().__init__(
            lambda chooser: [layer for layer in viewer.layers if is_photo(layer)], refine, ScaleTool(session)
        )
        self._session, self._viewer = session, viewer
        self._results = ResultStore()
        self._run: Job | None = None
        self._options_changed_during_run = False
        self._problems: list[str] = []
        # Masks that the user allowed to replace: checksums by the key of the photo.
        self._replaceable: dict[str, int] = {}
        self._last_edit: MaskEdit | None = None
        self._last_photo = ""  # the key of the chosen photo
        self._last_style: dict[str, Any] = {}  # how the mask was made that is shown
        self._remaining = RemainingTime(1)
        self._load_problem = ""  # the message that the model could not be loaded
        self._options_job = LatestJob(session.background, "applying the options", self._on_options_applied)
        self._monitor = MaskMonitor(session, self, self._show_card)
        self._close_guard = UnsavedMasksGuard(
            self, lambda: [mask.name for _, mask in self._unsaved_masks()], self._save_all
        )
        self._pause = QTimer(self, singleShot=True, interval=40)
        keys = {action: key for action, key in preferred_keys().items() if action in ("refine", "box", "edit_outline")}
        self._keys = KeyBindings(
            keys, {"refine": refine.toggle, "box": refine.toggle_box, "edit_outline": refine.outline.toggle}
        )
        self._connect()
        self.refresh_models()

    # Actions

    def segment_selected(self) -> None:
        """Segment the chosen photo."""
        try:
            photo = self._selected()
        except BadInput as error:
            self._fail(error, "Segmenting")
        else:
            self._show_alone(photo)
            self._start([photo], [])

    def segment_all(self) -> None:
        """Segment every open photo; a message names the layers that are no photos."""
        photos, problems = [], []
        for layer in self.photo.choices:
            try:
                photos.append(photo_from_layer(layer, self._viewer.dims.point))
            except BadInput as error:
                problems.append(report_failure(error, layer.name))
        if photos:
            self._start(photos, problems)
        elif problems:
            self.say(" ".join(problems), is_problem=True)
        else:
            self.segment_selected()

    def segment_folder(self) -> None:
        """Let the user choose a folder, and segment its photos in the background."""
        folder = QFileDialog.getExistingDirectory(self, "Segment folder")
        if not folder or self._run is not None:
            return
        self._remaining = RemainingTime(10)
        self._begin()
        options, model, device = self.options.value(), self.model.currentText(), preferred_device()
        self._run = self._session.background.start(
            f"segmenting {Path(folder).name}",
            lambda report, cancel: segment_folder(
                Path(folder), options, self._session.segmenters, model, device, report, cancel
            ),
            self._on_folder_end,
            self._on_folder_report,
        )

    def cancel(self) -> None:
        """Stop the run; finished masks stay."""
        if self._run is not None:
            self._run.cancel()
            self.show_cancelling()

    def save_mask(self) -> None:
        """Let the user choose a file, and save the mask of the chosen photo there."""
        photo = self._selected_or_none()
        mask = None if photo is None else find_mask(self._viewer.layers, photo)
        if photo is None or mask is None:
            self.say("There is no mask to save; choose a photo and press Segment first.", is_problem=True)
            return
        has_several = int(np.max(mask.data[photo.plane])) > 1
        kinds = f"{_MASK_FILES};;{_LABEL_FILES}" if has_several else _MASK_FILES
        path, kind = QFileDialog.getSaveFileName(self, "Save mask", str(free_mask_path(photo)), kinds)
        if path:
            self._save(photo, mask, Path(path), keep_labels=kind == _LABEL_FILES)

    def apply_options(self) -> None:
        """Apply the threshold and the clean-up to the mask of the chosen photo, without the network.

        A changed threshold also shows an outline that was withheld, because the user asks for an outline.
        """
        self.ask("")
        if self._run is not None:
            self._options_changed_during_run = True
            return
        result = self._results.get(self._selected_or_none())
        if result is None or not is_photo_open(self._viewer.layers, result.photo):
            return
        mask = find_mask(self._viewer.layers, result.photo)
        if mask is None:
            self.say(f"The mask of {result.photo.name} was removed; press Segment to make it again.", is_problem=True)
        elif self._may_replace(mask, result.photo):
            options = self.options.value()
            is_wanted = options.always_outline or not result.withheld or options.threshold != result.options.threshold
            self._apply(result, always_outline=is_wanted)
        else:
            self._offer_to_replace(mask)

    def show_uncertain_outline(self) -> None:
        """Show the outline of the chosen photo that was withheld, without the network."""
        result = self._results.get(self._selected_or_none())
        if result is not None and self._run is None and self._confirm_replacing([result.photo]):
            self.ask("")
            self._apply(result, always_outline=True)

    def replace_changes(self) -> None:
        """Show the model's mask in place of the mask that the user changed."""
        photo = self._selected_or_none()
        mask = None if photo is None else find_mask(self._viewer.layers, photo)
        if photo is not None and mask is not None:
            self._replaceable[photo.key] = layer_checksum(mask, photo)
        self.apply_options()

    def refresh_models(self) -> None:
        """List the models of this computer and keep the choice; models that cannot be used are disabled."""
        chosen = self.model.currentText() or preferred_model() or store.default_name()
        self.model.blockSignals(True)
        self.model.clear()
        for stored in store.list_models():
            self.model.addItem(stored.name, stored.spec)
            tooltip = stored.problem or (stored.spec.description if stored.spec else "")
            self.model.setItemData(self.model.count() - 1, tooltip, Qt.ItemDataRole.ToolTipRole)
            self.model.model().item(self.model.count() - 1).setEnabled(stored.problem is None)
        usable = [index for index in range(self.model.count()) if self.model.itemData(index) is not None]
        found = self.model.findText(chosen)
        self.model.setCurrentIndex(found if found in usable else usable[0] if usable else -1)
        self.model.blockSignals(False)
        if found not in usable and usable:
            self.say(f"The model {chosen} cannot be used here; {self.model.currentText()} is used.", is_problem=True)
        self._use_model()

    def use_model(self, name: str) -> None:
        """Choose this model, which may be new."""
        self.refresh_models()
        self.model.setCurrentText(name)

    def showEvent(self, event: QShowEvent) -> None:
        """Load the model in a worker, so that the first Segment does not wait for torch, and bind the keys."""
        super().showEvent(event)
        QTimer.singleShot(0, self._load_model)
        QTimer.singleShot(0, self._on_shown)
        self._keys.bind(self._viewer)
        self._close_guard.watch()

    def hideEvent(self, event: QHideEvent) -> None:
        """Release the keys."""
        super().hideEvent(event)
        if not event.spontaneous():
            self._keys.release()

    # Saving

    def _save(
        self,
        photo: LayerPhoto,
        mask: Labels,
        path: Path,
        then: Callable[[Outcome], None] = lambda outcome: None,
        *,
        keep_labels: bool = False,
    ) -> None:
        """Measure and save the mask of `photo` in a worker, and call `then`."""
        labels, checksum = np.array(mask.data[photo.plane]), layer_checksum(mask, photo)
        known, mm_per_px = dict(mask.metadata[KEY]), photo.mm_per_px
        measured = self._monitor.measurements(mask, photo)

        def work(report: Report, cancel: CancelToken) -> str:
            values = measured or measure_labels(photo.read(), labels, mm_per_px)
            return write_mask_and_record(path, labels, known, values, keep_labels=keep_labels)

        def on_end(outcome: Outcome) -> None:
            if outcome.error is not None:
                self._fail(outcome.error, f"Saving {mask.name}")
            elif outcome.state == "done":
                mark_saved(mask, photo, checksum)
                merged = "" if keep_labels or labels.max() <= 1 else f" All lesions are white; {_KEEP_LABELS}"
                self.say(f"{mask.name} is saved as {outcome.result}.{merged}")
            then(outcome)

        self._session.background.start(f"saving {mask.name}", work, on_end)

    def _unsaved_masks(self) -> list[tuple[LayerPhoto, Labels]]:
        """Return the photos, planes of stacks too, whose masks the user changed since they were saved."""
        unsaved: list[tuple[LayerPhoto, Labels]] = []
        if self._session.is_closed:
            return unsaved
        for layer in self.photo.choices:
            try:
                masks = ((photo, find_mask(self._viewer.layers, photo)) for photo in photos_in_layer(layer))
                unsaved += [(photo, mask) for photo, mask in masks if mask is not None and is_unsaved(mask, photo)]
            except BadInput:
                continue
        return unsaved

    def _save_all(self) -> str:
        """Save all unsaved masks; wait for the workers, while the window stays alive; return an error message."""
        for photo, mask in self._unsaved_masks():
            waiting = QEventLoop()
            errors: list[str] = []

            def on_end(outcome: Outcome, waiting: QEventLoop = waiting, errors: list[str] = errors) -> None:
                if outcome.error is not None:
                    errors.append(report_failure(outcome.error, "Saving"))
                waiting.quit()

            has_several = bool(np.max(mask.data[photo.plane]) > 1)
            self._save(photo, mask, free_mask_path(photo), on_end, keep_labels=has_several)
            waiting.exec()
            if errors:
                return errors[0]
        return ""

    # A run

    def _start(self, photos: Sequence[LayerPhoto], problems: Sequence[str]) -> None:
        if self._run is not None or not self._confirm_replacing(photos):
            return
        self._begin(problems)
        options, model, device = self.options.value(), self.model.currentText(), preferred_device()
        self._run = self._session.background.start(
            f"segmenting {photos[0].name}" if len(photos) == 1 else f"segmenting {len(photos)} photos",
            lambda report, cancel: segment_photos(
                photos, options, self._session.segmenters, model, device, report, cancel
            ),
            self._on_end,
            self._on_report,
        )

    def _begin(self, problems: Sequence[str] = ()) -> None:
        self._problems, self._options_changed_during_run = list(problems), False
        self.say("")
        self.ask("")
        self.show_running(True)

    def _on_folder_report(self, event: Event) -> None:
        left = self._remaining.describe(event.done, event.total) if event.total else ""
        self.show_progress(event.done, event.total, " · ".join(text for text in ("%v of %m", left) if text))
        self.say(event.message)

    def _on_folder_end(self, outcome: Outcome) -> None:
        self._run = None
        self.show_running(False)
        if outcome.error is not None:
            self._fail(outcome.error, "Segmenting the folder")
        else:
            self.say(outcome.result or "Cancelled; finished masks stay.")

    def _on_report(self, item: Any) -> None:
        if isinstance(item, Event):
            self.show_progress(item.done, item.total)
            self.say(item.message)
        elif isinstance(item, Result):
            self._show(item)
        elif isinstance(item, Failure):
            self._problems.append(report_failure(item.error, f"Segmenting {item.photo.name}"))

    def _on_end(self, outcome: Outcome) -> None:
        self._run = None
        self.show_running(False)
        if outcome.state == "cancelled":
            self._problems.append("Cancelled; finished masks stay.")
        if outcome.error is not None:
            self._problems.append(report_failure(outcome.error, "Segmenting"))
        self.say("\n".join(self._problems), is_problem=True)
        if outcome.state == "done":
            self._show_device(outcome.result)
        if self._options_changed_during_run:
            self.apply_options()

    def _confirm_replacing(self, photos: Sequence[LayerPhoto]) -> bool:
        """Ask before masks that the user changed are replaced, and remember exactly these masks."""
        self._replaceable = {}
        masks = [(photo, find_mask(self._viewer.layers, photo)) for photo in photos]
        edited = [(photo, mask) for photo, mask in masks if mask is not None and is_edited(mask, photo)]
        if not edited:
            return True
        names = ", ".join(mask.name for _, mask in edited)
        answer = QMessageBox.question(
            self,
            "Replace your changes?",
            f"You changed {names} by hand. Replace your changes with the model's mask?\n\n"
            "Ctrl+Z on the layer restores your changes.",
        )
        if answer != QMessageBox.StandardButton.Yes:
            return False
        self._replaceable = {photo.key: layer_checksum(mask, photo) for photo, mask in edited}
        return True

    # Masks

    def _show(self, result: Result, replaces_last: bool = False) -> None:
        """Show a mask, unless its photo was removed, or the user changed the photo's mask during the run.

        Args:
            result: the mask.
            replaces_last: undo the last change of the options first, so that dragging a slider is one undoable step.
        """
        photo, layers = result.photo, self._viewer.layers
        if not is_photo_open(layers, photo):
            self._problems.append(f"{photo.name} was removed or replaced during the run; its mask was not added.")
            return
        self._results.put(result)
        mask = find_mask(layers, photo)
        if mask is not None and not self._may_replace(mask, photo):
            self._problems.append(f"You changed {mask.name} by hand during the run, so your mask stays.")
            self._offer_to_replace(mask)
            return
        previous = self._last_edit if replaces_last else None
        lesions = label_pieces(result.mask) if result.options.clean_up.keep == "all" else result.mask
        active = layers.selection.active
        with layers.selection.events.active.blocker(self._on_active):  # napari activates new layers
            shown, edit = show_mask(layers, photo, lesions, result.provenance, previous)
            if self.keep_probability.isChecked():
                show_probability(layers, photo, result.probability)
            # The user can paint on the new mask of the chosen photo at once; the others do not change the choice.
            layers.selection.active = shown if mask is None and photo.layer is self.photo.value else active
        self._last_edit = edit if replaces_last else None
        if self._is_refined(photo):
            self.refine.restart()
        # Also because napari sends no event if only the provenance changed.
        self._monitor.refresh(shown, at_once=not replaces_last)
        if photo.key == self._last_photo:
            self._last_style = _style(result.provenance)  # the user may still move the sliders
        self._show_card()

    def _apply(self, result: Result, *, always_outline: bool) -> None:
        options = replace(self.options.value(), always_outline=always_outline)
        self._options_job.request(lambda report, cancel: change_options(result, options))

    def _on_options_applied(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._fail(outcome.error, "Applying the options")
        elif outcome.state == "done":
            self._show(outcome.result, replaces_last=True)

    def _may_replace(self, mask: Labels, photo: LayerPhoto) -> bool:
        return not is_edited(mask, photo) or self._replaceable.get(photo.key) == layer_checksum(mask, photo)

    def _offer_to_replace(self, mask: Labels) -> None:
        self.ask(f"You changed {mask.name} by hand, so your mask stays.")

    # The chosen photo

    def _refine_target(self) -> tuple[LayerPhoto, Labels]:
        """Return the chosen photo and its mask; an empty mask if there is none."""
        photo = self._selected()
        mask = find_mask(self._viewer.layers, photo)
        if mask is None:
            blank = np.zeros(photo.shape, dtype=bool)
            mask, _ = show_mask(self._viewer.layers, photo, blank, {"photo": photo.name})
        self._show_alone(photo)
        return photo, mask

    def _show_alone(self, photo: LayerPhoto) -> None:
        """Show the photo and its mask, and hide the photos in the same place, unless napari shows a grid."""
        if self._viewer.canvas.grid.enabled:
            return
        hidden = show_alone(self._viewer.layers, photo.layer)
        if hidden:
            names = ", ".join(other.name for other in hidden)
            self.say(f"{photo.name} is shown. Hidden until chosen, because in the same place: {names}.")
        if not all(np.allclose(photo.layer.extent.world[:, -2:], other.extent.world[:, -2:]) for other in hidden):
            # Later: while a layer is inserted, the viewer does not know its extent.
            QTimer.singleShot(0, lambda: self._fit_view(photo.layer))

    def _is_refined(self, photo: LayerPhoto | None) -> bool:
        return photo is not None and self.refine.photo is not None and self.refine.photo.key == photo.key

    def _selected(self) -> LayerPhoto:
        return photo_from_layer(self.photo.value, self._viewer.dims.point)

    def _selected_or_none(self) -> LayerPhoto | None:
        try:
            return self._selected()
        except BadInput:
            return None

    def _show_card(self) -> None:
        """Show what is known about the present mask of the chosen photo."""
        if self._session.is_closed:
            return
        photo = self._selected_or_none()
        mask = None if photo is None else find_mask(self._viewer.layers, photo)
        if photo is None or mask is None:
            self.card.clear()
            return
        provenance = written_provenance(mask, photo)
        if provenance:
            self._follow_undo(provenance)
        if provenance is None:
            self.card.show_result("Changed by hand: the model's expected overlap does not apply.", "edited")
        elif provenance.get("confidence") is None:
            self.card.show_result("", "edited")
        else:
            self._show_confidence(photo, provenance, np.asarray(mask.data[photo.plane]) != 0)
        measurements = self._monitor.measurements(mask, photo)
        if measurements is not None:
            self.card.show_figures(next(iter(measurements.values())))
            if len(measurements) > 1:
                self.card.add_note(f"{len(measurements)} lesions: these are the sizes of label {min(measurements)}.")
        covering = covering_photos(self._viewer.layers, photo.layer)
        if covering:
            self.card.add_note(f"{covering[-1].name} covers this photo; choose the photo again to bring it to view.")
        elif not photo.layer.visible or not mask.visible:
            self.card.add_note("The photo or its mask is hidden; the eye in the layer list shows it.")

    def _follow_undo(self, provenance: Mapping[str, Any]) -> None:
        """Let sliders and switches show how the mask was made that Ctrl+Z brought back."""
        if _style(provenance) != self._last_style:
            self._last_style = _style(provenance)
            self.options.show_style(**self._last_style)

    def _show_confidence(self, photo: LayerPhoto, provenance: dict[str, Any], lesion: NDArray[np.bool_]) -> None:
        result, threshold = self._results.get(photo), provenance["threshold"]
        spec = self.model.itemData(self.model.findText(provenance["model"]))
        confidence = provenance["confidence"]
        found = MaskDecision(lesion, confidence, provenance["withheld"], provenance.get("presence", confidence))
        words, level = describe_confidence(found, 0.0 if spec is None else spec.doubt)
        if result is not None and not lesion.any() and not found.withheld:
            highest = float(result.probability.max())
            words += f" The highest probability is {highest:.2f}, the threshold {threshold:.2f}."
        if provenance.get("guarded"):
            words += " This is the mask of the base: the fine-tuned model disagreed and was less certain."
        tooltip = (
            "Expected overlap (Jaccard index) with an expert's outline; "
            f"{provenance['model']}, threshold {threshold:.2f}."
        )
        self.card.show_result(words, level, tooltip, withheld=found.withheld and result is not None)

    def _use_model(self) -> None:
        spec = self.model.currentData()
        self.refine.use_model("" if spec is None else self.model.currentText())
        for button in (self.segment_button, self.all_button, self.folder_button):
            button.setEnabled(spec is not None and self._run is None)
        if spec is None:
            self.device.setText("There is no model on this computer; add one: napari-skinseg models add FILE.")
            return
        self.options.set_model_border(Border.of_model(spec))
        if self.isVisible():
            self._load_model()

    def _load_model(self) -> None:
        model, device = self.model.currentText(), preferred_device()
        if not model:
            return

        def on_end(outcome: Outcome) -> None:
            if outcome.error is not None:
                self._load_problem = report_failure(outcome.error, f"Loading {model}")
                self.say(self._load_problem, is_problem=True)
                self.device.setText("The model could not be loaded.")

        def on_loaded(device_line: str) -> None:
            if model == self.model.currentText():
                self._show_device(device_line)
                if self.message.text() == self._load_problem:
                    self.say("")

        def work(report: Report, cancel: CancelToken) -> None:
            report(self._session.segmenters.get(model, device).device_line)
            prepare_first_mask()

        self.device.setText("Loading the model…")
        self._session.background.start(f"loading {model}", work, on_end, on_loaded)

    def _show_device(self, reason: str) -> None:
        """Show where the model runs; the tooltip shows `reason`, which has the technical details."""
        if reason.startswith("CPU"):
            engine = "ONNX Runtime" if "ONNX Runtime" in reason else "PyTorch"
            faster = "A graphics card would be faster: the documentation page GPU says how."
            self.device.setText(f"Runs on the processor ({engine}). {faster}")
        else:
            self.device.setText(f"Runs on the graphics card: {reason}.")
        self.device.setToolTip(f"{reason}.")

    def _fail(self, error: Exception, what: str) -> None:
        self.say(report_failure(error, what), is_problem=True)

    # Wiring

    def _connect(self) -> None:
        self.segment_button.clicked.connect(self.segment_selected)
        self.all_button.clicked.connect(self.segment_all)
        self.folder_button.clicked.connect(self.segment_folder)
        self.save_button.clicked.connect(self.save_mask)
        self.cancel_button.clicked.connect(self.cancel)
        self.replace_button.clicked.connect(self.replace_changes)
        self.card.uncertain_button.clicked.connect(self.show_uncertain_outline)
        self.model.currentIndexChanged.connect(self._use_model)
        self.scale.scale_set.connect(self._on_photo)  # measures again; a function would never be freed
        self.scale.scale_cleared.connect(self._on_photo)
        # Dragging the slider sends a signal for each pixel; a short pause keeps the GUI thread free.
        self.options.changed.connect(self._pause.start)
        self._pause.timeout.connect(self.apply_options)
        self.photo.changed.connect(self._on_photo)
        self.photo.native.activated.connect(self._on_chosen)
        for layer in self._viewer.layers:
            layer.events.visible.connect(self._show_card)
        events = self._viewer.layers.events
        for change in (events.inserted, events.removed, events.reordered, events.renamed):
            change.connect(self._on_layers)
        events.inserted.connect(self._on_inserted)
        events.removed.connect(self._on_removed)
        self._viewer.layers.selection.events.active.connect(self._on_active)
        self._viewer.dims.events.point.connect(self._on_photo)
        self._session.models_changed.connect(self.use_model)
        self._on_active()
        self._on_photo()

    def _on_layers(self) -> None:
        self.photo.reset_choices()

    def _on_inserted(self, event: Any) -> None:
        if self._session.is_closed:  # a closed widget is connected until it is freed
            return
        layer = event.value
        show_as_outline(layer)
        layer.events.visible.connect(self._show_card)
        if isinstance(layer, Labels) and "image_id" in layer.metadata.get(KEY, {}):
            explain_blocked_strokes(layer, self.say)

    def _fit_view(self, layer: Image) -> None:
        viewer = self._viewer
        if layer in viewer.layers:
            # In a viewer with more dimensions, napari does not know the extent of this layer alone.
            viewer.reset_view(layers=[layer] if layer.ndim == viewer.dims.ndim else None)

    def _on_removed(self, event: Any) -> None:
        self._results.remove_layer(event.value)

    def _on_active(self) -> None:
        """Choose the photo that the user selected in the layer list, or the photo of the selected mask."""
        photo = find_photo_layer(self._viewer.layers, self._viewer.layers.selection.active)
        if photo is not None and photo in self.photo.choices:
            self.photo.value = photo

    def _on_shown(self) -> None:
        """Bring the chosen photo to view: it may have been opened while another tab was shown."""
        if self._is_current_tab:  # the user may have gone on to another tab
            self._on_chosen()

    @property
    def _is_current_tab(self) -> bool:
        """Whether the widget is open and shows this tab; a closed widget must not change layers."""
        return not self._session.is_closed and self.isVisibleTo(self.window())

    def _on_chosen(self) -> None:
        """Bring the photo to view that the user chose in the list."""
        photo = self._selected_or_none()
        if photo is not None:
            self._show_alone(photo)
            self._show_card()

    def _on_photo(self) -> None:
        self.ask("")
        photo = self._selected_or_none()
        image = None if photo is None else photo.layer
        if image is not self.scale.image:
            self.scale.set_layer(image)
        mask = None if photo is None else find_mask(self._viewer.layers, photo)
        if photo is not None and photo.key != self._last_photo:
            is_other_layer = not self._last_photo.startswith(str(photo.layer.unique_id))
            if is_other_layer and self._is_current_tab:
                self._show_alone(photo)
            # The slider shows how this photo's mask was made; a threshold chosen for another photo does not carry over.
            self._last_photo = photo.key
            provenance = {} if mask is None else written_provenance(mask, photo) or mask.metadata[KEY]
            self._last_style = _style(provenance)
            self.options.show_style(**{**self._last_style, "clean_up": None})  # the switches apply to all photos
        if mask is not None:
            self._monitor.refresh(mask)
        self._show_card()
        if not self._is_refined(photo):
            self.refine.switch(False)


def _style(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `MaskOptions.show_style` for a mask; masks of earlier releases have no border."""
    border = provenance.get("border") or {}
    return {
        "threshold": provenance.get("threshold"),
        "offset": border.get("offset"),
        "clean_up": provenance.get("clean_up"),
    }

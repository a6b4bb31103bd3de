"""The Segment tab: a photo in, an outline out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QMessageBox

from napari_skinseg.errors import BadInput
from napari_skinseg.events import Event
from napari_skinseg.models import store
from napari_skinseg.plugin.background import Job, LatestJob, Outcome
from napari_skinseg.plugin.correct.refine_tool import RefineTool
from napari_skinseg.plugin.keys import Bindings, chosen
from napari_skinseg.plugin.layers import LayerPhoto, find_photo_layer, is_photo, photo_from_layer
from napari_skinseg.plugin.mask_layers import (
    MaskEdit,
    find_mask,
    is_edited,
    is_photo_open,
    layer_checksum,
    show_as_outline,
    show_mask,
    show_measurements,
    show_probability,
)
from napari_skinseg.plugin.session import Session, preferred_device, preferred_model, report_failure

from .form import SegmentForm
from .measurements import MaskFigures
from .worker import Failure, Kept, Measured, Result, measured, outline_again, segment_photos


class SegmentPanel(SegmentForm):
    """Starts workers, shows what they return, and never overwrites a person's work unasked."""

    title = "Segment"

    def __init__(self, session: Session) -> None:
        viewer = session.viewer
        refine = RefineTool(session, self._to_refine, lambda: self.options.value())
        super().__init__(lambda chooser: [layer for layer in viewer.layers if is_photo(layer)], refine)
        self._session, self._viewer = session, viewer
        self._kept = Kept()
        self._run: Job | None = None
        self._moved_during_run = False
        self._problems: list[str] = []
        # What a person agreed to lose: the state of the mask of each photo, by its key.
        self._agreed: dict[str, int] = {}
        self._last_move: MaskEdit | None = None
        self._mover = LatestJob(session.background, "moving the mask", self._on_moved)
        self._measurer = LatestJob(session.background, "measuring", self._on_measured)
        self._figures = MaskFigures(session, self)
        self._pause = QTimer(self, singleShot=True, interval=40)
        self._keys = Bindings({"refine": chosen()["refine"]}, {"refine": refine.toggle})
        self._connect()
        self.refresh_models()

    # What a person does

    def segment_selected(self) -> None:
        """Segment the photo in the chooser."""
        try:
            image = self._selected()
        except BadInput as error:
            self._fail(error, "Segmenting")
        else:
            self._start([image], [])

    def segment_all(self) -> None:
        """Segment every photo that is open; what is no photo is named and left."""
        images, problems = [], []
        for layer in self.photo.choices:
            try:
                images.append(photo_from_layer(layer, self._viewer.dims.point))
            except BadInput as error:
                problems.append(report_failure(error, layer.name))
        if images:
            self._start(images, problems)
        elif problems:
            self.say(" ".join(problems), is_problem=True)
        else:
            self.segment_selected()

    def cancel(self) -> None:
        """Stop the run; the masks that are done stay."""
        if self._run is not None:
            self._run.cancel()
            self.show_cancelling()

    def move_mask(self) -> None:
        """Let the mask of the chosen photo follow the threshold and the clean-up, without the network.

        An outline that was withheld is drawn once the threshold moves: whoever moves it wants an outline.
        """
        self.ask("")
        if self._run is not None:
            self._moved_during_run = True
            return
        kept = self._kept.get(self._selected_or_none())
        if kept is None or not is_photo_open(self._viewer.layers, kept.image):
            return
        mask = find_mask(self._viewer.layers, kept.image)
        if mask is None:
            self.say(f"The mask of {kept.image.name} was removed; press Segment to make it again.", is_problem=True)
        elif self._may_replace(mask, kept.image):
            options = self.options.value()
            is_wanted = options.always_outline or not kept.withheld or options.threshold != kept.options.threshold
            self._outline_again(kept, always_outline=is_wanted)
        else:
            self._offer_to_replace(mask)

    def outline_anyway(self) -> None:
        """Draw the outline of the chosen photo that was withheld, without the network."""
        kept = self._kept.get(self._selected_or_none())
        if kept is not None and self._run is None and self._agrees_to_replace([kept.image]):
            self.ask("")
            self._outline_again(kept, always_outline=True)

    def replace_changes(self) -> None:
        """Show the model's mask in place of what the person drew, as they agreed to."""
        image = self._selected_or_none()
        mask = None if image is None else find_mask(self._viewer.layers, image)
        if image is not None and mask is not None:
            self._agreed[image.key] = layer_checksum(mask, image)
        self.move_mask()

    def refresh_models(self) -> None:
        """List the models of this computer, keeping the choice; a broken one is shown with its reason."""
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
            self.say(f"The model {chosen} cannot be used here; {self.model.currentText()} is taken.", is_problem=True)
        self._use_model()

    def use_model(self, name: str) -> None:
        """Segment with this model from now on, which may be a new one."""
        self.refresh_models()
        self.model.setCurrentText(name)

    def showEvent(self, event: QShowEvent) -> None:
        """Load the model behind the open panel, so that the first Segment does not wait for torch."""
        super().showEvent(event)
        QTimer.singleShot(0, self._warm_up)
        self._keys.bind(self._viewer)

    def hideEvent(self, event: QHideEvent) -> None:
        """Give the key back, and the mouse."""
        super().hideEvent(event)
        if not event.spontaneous():
            self.refine.switch(False)
            self._keys.release()

    # A run

    def _start(self, images: Sequence[LayerPhoto], problems: Sequence[str]) -> None:
        if self._run is not None or not self._agrees_to_replace(images):
            return
        self._problems, self._moved_during_run = list(problems), False
        self.ask("")
        self.show_running(True)
        options, model, device = self.options.value(), self.model.currentText(), preferred_device()
        self._run = self._session.background.start(
            f"segmenting {images[0].name}" if len(images) == 1 else f"segmenting {len(images)} photos",
            lambda report, cancel: segment_photos(
                images, options, self._session.segmenters, model, device, report, cancel
            ),
            self._on_end,
            self._on_report,
        )

    def _on_report(self, item: Any) -> None:
        if isinstance(item, Event):
            self.show_progress(item.done, item.total)
            self.say(item.message)
        elif isinstance(item, Result):
            self._show(item)
        elif isinstance(item, Measured):
            self._show_measured(item)
        elif isinstance(item, Failure):
            self._problems.append(report_failure(item.error, f"Segmenting {item.image.name}"))

    def _on_end(self, outcome: Outcome) -> None:
        self._run = None
        self.show_running(False)
        if outcome.state == "cancelled":
            self._problems.append("Cancelled; the masks that were done stay.")
        if outcome.error is not None:
            self._problems.append(report_failure(outcome.error, "Segmenting"))
        self.say("\n".join(self._problems), is_problem=True)
        if outcome.state == "done":
            self.device.setText(outcome.result)
        if self._moved_during_run:
            self.move_mask()

    def _agrees_to_replace(self, images: Sequence[LayerPhoto]) -> bool:
        """Ask before masks that a person changed are replaced; remember exactly what was agreed to."""
        self._agreed = {}
        masks = [(image, find_mask(self._viewer.layers, image)) for image in images]
        edited = [(image, mask) for image, mask in masks if mask is not None and is_edited(mask, image)]
        if not edited:
            return True
        names = ", ".join(mask.name for _, mask in edited)
        answer = QMessageBox.question(
            self,
            "Replace your changes?",
            f"You changed {names} by hand. Replace this by what the model draws?\n\n"
            "Ctrl+Z on the layer brings your own back.",
        )
        if answer != QMessageBox.StandardButton.Yes:
            return False
        self._agreed = {image.key: layer_checksum(mask, image) for image, mask in edited}
        return True

    # Masks

    def _show(self, result: Result, is_move: bool = False) -> None:
        """Show a result, unless its photo has gone, or its mask was changed by hand meanwhile."""
        image, layers = result.image, self._viewer.layers
        if not is_photo_open(layers, image):
            self._problems.append(f"{image.name} was removed or replaced meanwhile; its result was dropped.")
            return
        self._kept.put(result)
        mask = find_mask(layers, image)
        if mask is not None and not self._may_replace(mask, image):
            self._problems.append(f"{mask.name} was changed by hand meanwhile and was kept.")
            self._offer_to_replace(mask)
            return
        shown, edit = show_mask(layers, image, result.mask, result.provenance, self._last_move if is_move else None)
        self._last_move = edit if is_move else None
        if self._is_refined(image):
            self.refine.restart()
        if self.keep_probability.isChecked():
            show_probability(layers, image, result.probability)
        if mask is None and image.layer is self.photo.value:
            layers.selection.active = shown  # ready for the brush
        self._show_kept()

    def _outline_again(self, kept: Result, *, always_outline: bool) -> None:
        threshold, clean_up = self.options.threshold_value(), self.options.clean_up_value()
        self._mover.request(lambda report, cancel: outline_again(kept, threshold, clean_up, always_outline))

    def _on_moved(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._fail(outcome.error, "Moving the mask")
        elif outcome.state == "done":
            self._show(outcome.result, is_move=True)
            self._measurer.request(lambda report, cancel: measured(outcome.result))

    def _on_measured(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._fail(outcome.error, "Measuring")
        elif outcome.state == "done":
            self._show_measured(outcome.result)

    def _show_measured(self, found: Measured) -> None:
        """Show the figures with the mask they belong to, if that is still the one shown."""
        image = found.result.image
        mask = find_mask(self._viewer.layers, image)
        if mask is not None and self._kept.get(image) is found.result and not is_edited(mask, image):
            self._kept.put_measured(found)
            show_measurements(mask, found.values)
            self._show_kept()

    def _may_replace(self, mask: Labels, image: LayerPhoto) -> bool:
        return not is_edited(mask, image) or self._agreed.get(image.key) == layer_checksum(mask, image)

    def _offer_to_replace(self, mask: Labels) -> None:
        self.ask(f"You changed {mask.name} by hand, so it stays as it is. What is said below is of the model's mask.")

    # What is chosen

    def _to_refine(self) -> tuple[LayerPhoto, Labels]:
        """The chosen photo and its mask; a blank one if there is none."""
        image = self._selected()
        mask = find_mask(self._viewer.layers, image)
        if mask is None:
            blank = np.zeros(image.shape, dtype=bool)
            mask, _ = show_mask(self._viewer.layers, image, blank, {"photo": image.name})
        return image, mask

    def _on_refined(self) -> None:
        """Say no more of the model's own mask, unless it is that one again."""
        image = self._selected_or_none()
        mask = None if image is None else find_mask(self._viewer.layers, image)
        if image is not None and mask is not None and is_edited(mask, image):
            self.card.clear()
        else:
            self._show_kept()

    def _is_refined(self, image: LayerPhoto | None) -> bool:
        return image is not None and self.refine.photo is not None and self.refine.photo.key == image.key

    def _selected(self) -> LayerPhoto:
        return photo_from_layer(self.photo.value, self._viewer.dims.point)

    def _selected_or_none(self) -> LayerPhoto | None:
        try:
            return self._selected()
        except BadInput:
            return None

    def _show_kept(self) -> None:
        """Say what is known about the chosen photo."""
        kept = self._kept.get(self._selected_or_none())
        if kept is None:
            self.card.clear()
            return
        model = f"{kept.provenance['model']}, threshold {kept.options.threshold:.2f}"
        tooltip = f"Expected overlap (Jaccard) with an expert's outline; {model}."
        self.card.show_verdict(kept.words, kept.verdict, tooltip, withheld=kept.withheld)
        figures = self._kept.get_measured(kept)
        if figures is not None:
            self.card.show_figures(figures.values)

    def _use_model(self) -> None:
        spec = self.model.currentData()
        self.refine.use_model("" if spec is None else self.model.currentText())
        self.segment_button.setEnabled(spec is not None and self._run is None)
        self.all_button.setEnabled(spec is not None and self._run is None)
        if spec is None:
            self.device.setText("There is no model on this computer; add one: napari-skinseg models add FILE.")
            return
        self.options.set_model_threshold(spec.threshold)
        if self.isVisible():
            self._warm_up()

    def _warm_up(self) -> None:
        model, device = self.model.currentText(), preferred_device()
        if not model:
            return

        def on_end(outcome: Outcome) -> None:
            if outcome.error is not None:
                self._fail(outcome.error, f"Loading {model}")
            elif model == self.model.currentText():
                self.device.setText(outcome.result)

        self.device.setText("Getting the model ready…")
        self._session.background.start(
            f"loading {model}", lambda report, cancel: self._session.segmenters.get(model, device).device_line, on_end
        )

    def _fail(self, error: Exception, what: str) -> None:
        self.say(report_failure(error, what), is_problem=True)

    # Wiring

    def _connect(self) -> None:
        self.segment_button.clicked.connect(self.segment_selected)
        self.all_button.clicked.connect(self.segment_all)
        self.cancel_button.clicked.connect(self.cancel)
        self.refine.changed.connect(self._on_refined)
        self.replace_button.clicked.connect(self.replace_changes)
        self.card.anyway.clicked.connect(self.outline_anyway)
        self.model.currentIndexChanged.connect(self._use_model)
        # Dragging fires with every pixel; a short pause keeps the GUI thread free.
        self.options.changed.connect(self._pause.start)
        self._pause.timeout.connect(self.move_mask)
        self.photo.changed.connect(self._on_photo)
        events = self._viewer.layers.events
        for change in (events.inserted, events.removed, events.reordered, events.renamed):
            change.connect(self._on_layers)
        events.inserted.connect(self._on_inserted)
        events.removed.connect(self._on_removed)
        self._viewer.layers.selection.events.active.connect(self._on_active)
        self._viewer.dims.events.point.connect(self._on_photo)
        self._session.models_changed.connect(self.use_model)
        self._on_active()

    def _on_layers(self) -> None:
        self.photo.reset_choices()

    def _on_inserted(self, event: Any) -> None:
        show_as_outline(event.value)

    def _on_removed(self, event: Any) -> None:
        self._kept.drop_layer(event.value)

    def _on_active(self) -> None:
        """Follow the layer list: a photo, or the mask of one, that is clicked there is the one to work on."""
        photo = find_photo_layer(self._viewer.layers, self._viewer.layers.selection.active)
        if photo is not None and photo in self.photo.choices:
            self.photo.value = photo

    def _on_photo(self) -> None:
        self.ask("")
        self._show_kept()
        if not self._is_refined(self._selected_or_none()):
            self.refine.switch(False)

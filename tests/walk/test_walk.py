"""The tour of README.md in a real napari window, in a process of its own, and where each known fault has its test."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("walk.py")
PICTURES = {
    *("segment", "refine-clicks", "refine", "brush", "save"),
    *("review-opened", "review-refine", "review", "fine-tune", "fine_tune"),
}


TOURS = [("dark", 1, []), ("light", 2, ["--keys-only"])]
"""Theme, scale and options. The test command makes the first; with SKINSEG_WALK=all in the environment, all."""


@pytest.mark.parametrize(("theme", "scale", "options"), TOURS[: None if os.environ.get("SKINSEG_WALK") == "all" else 1])
def test_the_tour_works_without_a_problem(tmp_path, theme, scale, options):
    command = [sys.executable, str(PROGRAM), str(tmp_path / "walk"), "--theme", theme, *options]
    if shutil.which("xvfb-run"):  # a screen of its own: windows of other tests would take the keyboard
        command = ["xvfb-run", "-a", "-s", f"-screen 0 {1400 * scale}x{800 * scale}x24", *command]
    environment = {**os.environ, "QT_SCALE_FACTOR": str(scale), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    screenshots = tmp_path / "walk" / "screenshots"
    assert {path.stem for path in screenshots.iterdir()} == PICTURES


CASES = {
    1: "manifest/test_writers: test_save_as_png_uses_the_writer_of_the_plugin, test_a_missing_suffix_is_added, "
    "test_a_failed_save_leaves_the_old_file_and_no_other",
    2: "segment/test_unsaved_masks: test_cancel_keeps_the_window_save_writes_the_mask",
    3: "review/test_panel: test_layers_are_removed_after_the_event_that_opens_another_folder",
    4: "review/test_panel: test_only_the_current_photo_is_visible_in_the_review",
    5: "segment/test_mask_monitor: test_undo_of_the_slider_restores_card_figures_and_record, "
    "test_a_stroke_removes_the_expected_overlap_and_the_record_has_measurements",
    6: "segment/test_panel: test_only_the_chosen_photo_is_shown",
    7: "review/test_panel: test_a_stroke_ends_when_its_photo_is_left",
    8: "review/test_panel: test_every_unreadable_file_is_listed_with_its_reason",
    9: "review/test_panel: test_after_predict_all_the_least_certain_photo_is_offered",
    10: "correct/test_refine_tool: test_the_brush_works_right_after_refine_is_left",
    11: "test_commands: test_every_action_without_a_photo_is_a_palette_command_that_says_so",
    12: "review/test_panel: test_a_finished_project_shows_the_last_photo_and_a_summary",
    13: "review/test_panel: test_no_button_moves_when_tools_and_messages_appear",
    14: "finetune/test_panel: test_the_remaining_time_is_shown_after_the_first_pass",
    15: "segment/test_panel: test_the_message_of_a_failed_model_goes_when_the_model_loads, "
    "test_the_view_fits_a_second_photo_of_another_size, test_a_threshold_does_not_carry_over_to_the_next_photo",
    16: "test_first_layer: test_units_and_tables_are_loaded_once_and_by_a_worker",
}
"""The sixteen faults that a person found in the window (issue 12), and their tests in tests/plugin."""


def test_every_known_fault_of_the_window_has_a_test():
    for number, text in CASES.items():
        file, names = text.split(": ")
        tests = (PROGRAM.parents[1] / "plugin" / f"{file}.py").read_text(encoding="utf-8")
        assert [name for name in names.split(", ") if f"def {name}(" not in tests] == [], number

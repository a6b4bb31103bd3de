"""Kill folder runs at random instants (SIGKILL), and check what they leave and how the next run continues.

    python benchmarks/kills.py --kills 200

After each kill: every mask in the folder has a record with its checksum, so no later step takes it for a person's mask.
After each resumed run: masks, table and records equal those of an uninterrupted run byte for byte, every record has its
mask, and no temporary file, journal or lock is left. Photos and network are small (see scale.py), so that many kills
take minutes and most of them hit the writing of files.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cyclopts import App
from PIL import Image

from napari_skinseg.batch.folder import BatchOptions, segment_files
from napari_skinseg.datasets.records import JOURNAL, find_model_masks, read_journal
from napari_skinseg.phantoms.phantom import phantom
from napari_skinseg.segmentation.segmenter import Segmenter

MASKS = "*_segmentation.png"

app = App(help="Kill folder runs at random instants, and check what they leave.")


@app.default
def main(*, kills: int = 200, photos: int = 24, seed: int = 0) -> None:
    """Print what was counted; exit with 1 if a check failed."""
    chance = random.Random(seed)
    problems: list[str] = []
    killed, with_masks, unfinished = 0, 0, 0
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        _make_photos(work / "photos", photos)
        # In another process, because a process with torch should not fork.
        subprocess.run([sys.executable, Path(__file__).with_name("scale.py"), "model", work / "tiny"], check=True)
        start = time.monotonic()
        _wait(_start(work, "whole"))
        duration = time.monotonic() - start
        expected = _content(work / "whole")
        print(f"an uninterrupted run of {photos} photos takes {duration:.1f} s", flush=True)
        while killed < kills:
            out = work / "out"
            shutil.rmtree(out, ignore_errors=True)
            for attempt in range(min(kills - killed, chance.choice((1, 1, 2, 3)))):  # a resumed run is killed, too
                process = _start(work, "out")
                time.sleep(chance.uniform(0, duration))
                os.kill(process, signal.SIGKILL)
                if not os.WIFSIGNALED(_wait(process)):  # the run had ended: this is no kill
                    duration *= 1 if attempt else 0.95  # other programs had slowed the first run
                    break
                killed += 1
                masks = set(out.rglob(MASKS)) - set(out.rglob(".*"))
                with_masks += bool(masks)
                unfinished += sum(not (out / line["mask"]).exists() for line in read_journal(out / JOURNAL))
                problems += [f"kill {killed}: no record of {mask}" for mask in masks - set(find_model_masks(out))]
            if status := _wait(_start(work, "out")):
                problems.append(f"kill {killed}: the next run ended with status {status}")
            found = _content(out)
            names = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
            problems += [f"kill {killed}: {name} differs from that of an uninterrupted run" for name in names]
    print(
        f"{killed} kills of running processes, {with_masks} with masks in the folder; "
        f"{unfinished} records whose mask was not yet written, all made by the next run; {len(problems)} problems"
    )
    print("\n".join(problems[:20]))
    sys.exit(bool(problems))


def _make_photos(folder: Path, count: int) -> None:
    for number in range(count):
        path = folder / ("north", "south")[number % 2] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(phantom(number, (96, 128)).image).save(path)


def _start(work: Path, out: str) -> int:
    """Run in a child process, which has the imports already; return its number."""
    process = os.fork()
    if process == 0:
        status = 1
        with contextlib.suppress(BaseException):
            options = BatchOptions(measure=True, overlay=True, batch_size=4)
            outcome = segment_files([work / "photos"], work / out, Segmenter(str(work / "tiny"), "cpu"), options)
            status = int(bool(outcome.failed))
        os._exit(status)
    return process


def _wait(process: int) -> int:
    return os.waitpid(process, 0)[1]


def _content(folder: Path) -> dict[str, bytes]:
    """The bytes of each file, with hidden ones."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


if __name__ == "__main__":
    app()
